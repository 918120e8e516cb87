//! What an exchange proves, and what it lets nobody in with.

use super::*;

/// The example of RFC 7677, section 3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const ANSWER: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const VERIFIED: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn verifier() -> Verifier {
    Verifier::new(b"pencil", &BASE64.decode(SALT).unwrap(), ITERATIONS)
}

fn exchange(file: &str) -> ScramExchange {
    ScramExchange {
        users: Arc::new(Users::parse(file).unwrap()),
        nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
        begun: None,
    }
}

fn said(step: Result<Step, Refusal>) -> Result<String, Refusal> {
    step.map(|step| match step {
        Step::Continue(data) | Step::Done { data, .. } => String::from_utf8(data).unwrap(),
    })
}

#[test]
fn the_example_of_the_standard_is_understood() {
    let mut exchange = exchange(&format!("user:{}", verifier()));
    assert_eq!(said(exchange.step(FIRST.as_bytes())).unwrap(), ANSWER);
    let done = exchange.step(LAST.as_bytes()).unwrap();
    assert!(matches!(&done, Step::Done { principal, .. } if *principal == Principal::from("user")));
    assert_eq!(said(Ok(done)).unwrap(), VERIFIED);
}

#[test]
fn whoever_does_not_prove_it_is_refused_and_learns_nothing_about_names() {
    let file = format!("other:{}", verifier());
    let mut stranger = exchange(&file);
    let first = said(stranger.step(FIRST.as_bytes())).unwrap();
    assert_eq!(
        said(stranger.step(LAST.as_bytes())),
        Err(Refusal::Credentials)
    );
    // The same salt again, or the name would be known not to exist.
    let again = ScramExchange {
        users: Arc::clone(&stranger.users),
        nonce: stranger.nonce.clone(),
        begun: None,
    }
    .step(FIRST.as_bytes());
    assert_eq!(said(again).unwrap(), first);
    let wrong = LAST.replace("p=dHzb", "p=dHzc");
    for last in [&*wrong, "", "p=", ",p="] {
        let mut exchange = exchange(&format!("user:{}", verifier()));
        exchange.step(FIRST.as_bytes()).unwrap();
        let refused = said(exchange.step(last.as_bytes()));
        assert_eq!(refused, Err(Refusal::Credentials), "{last}");
    }
}

#[test]
fn a_first_message_that_is_none_is_refused() {
    let long = format!("n,,n=user,r={}", "x".repeat(MESSAGE_BYTES_MAX));
    for first in [
        "",
        "n,,",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=,r=x",
        "n,,r=x,n=user",
        "p=tls-unique,,n=user,r=x",
        "n,a=admin,n=user,r=x",
        "n,,m=ext,n=user,r=x",
        "n,,n=us=er,r=x",
        "n,,n=user,r=\u{7}",
        &long,
    ] {
        let refused = said(exchange("").step(first.as_bytes()));
        assert_eq!(refused, Err(Refusal::Credentials), "{first}");
    }
}

#[test]
fn names_may_hold_what_scram_escapes() {
    assert_eq!(unescaped("a=2Cb=3Dc").unwrap(), "a,b=c");
    assert_eq!(unescaped("a=2cb"), None);
    assert_eq!(unescaped("a="), None);
}

#[test]
fn a_file_holds_users_comments_and_nothing_else() {
    let good = format!("# users\n\nuser:{0}\na:b:{0}\n", verifier());
    let users = Users::parse(&good).unwrap();
    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let form =
        |iterations, salt, key| format!("user:SCRAM-SHA-256${iterations}:{salt}${key}:{key}");
    assert!(Users::parse(&form("4096", "AAAA", KEY)).is_ok());
    assert_eq!(users.verifiers.len(), 2);
    assert_eq!(users.verifiers["a:b"], verifier());
    for (bad, problem) in [
        ("user:secret".to_owned(), "line 1 "),
        (format!(":{}", verifier()), "line 1 "),
        (format!("#\nuser:{}x", verifier()), "line 2 "),
        (form("0", "AAAA", KEY), "line 1 "),
        (form("-1", "AAAA", KEY), "line 1 "),
        (form("4294967296", "AAAA", KEY), "line 1 "),
        (form("4096", "", KEY), "line 1 "),
        (form("4096", "AAAA", "AAAA"), "line 1 "),
        (format!("u:{0}\nu:{0}", verifier()), "line 2 names"),
    ] {
        let error = Users::parse(&bad).unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }
}

/// The last message of somebody who knows the password, whatever it says.
fn proven(first: &str, unproven: &str) -> String {
    let mut salted = Key::default();
    let salt = BASE64.decode(SALT).unwrap();
    pbkdf2::pbkdf2_hmac::<Sha256>(b"pencil", &salt, ITERATIONS, &mut salted);
    let client_key = mac(&salted, b"Client Key");
    let bare = first.splitn(3, ',').last().unwrap();
    let signed = format!("{bare},{ANSWER},{unproven}");
    let signature = mac(&verifier().stored_key, signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{unproven},p={}", BASE64.encode(proof))
}

/// What is said to somebody who knows the password and ends with `unproven`.
fn answer(first: &str, unproven: &str) -> Result<String, Refusal> {
    let mut exchange = exchange(&format!("user:{}", verifier()));
    exchange.step(first.as_bytes()).unwrap();
    said(exchange.step(proven(first, unproven).as_bytes()))
}

#[test]
fn a_right_proof_of_other_words_proves_nothing() {
    let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    assert!(answer(FIRST, &format!("c=biws,{nonce}")).is_ok());
    for unproven in [
        // What was said about channel binding was changed on the way.
        format!("c=eSws,{nonce}"),
        format!("c=,{nonce}"),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
        "c=biws,r=%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
        format!("c=biws,{nonce}x"),
        format!("{nonce},c=biws"),
        "c=biws".to_owned(),
        nonce.to_owned(),
    ] {
        let refused = answer(FIRST, &unproven);
        assert_eq!(refused, Err(Refusal::Credentials), "{unproven}");
    }
    // A client that could bind and sees that the broker cannot has to stay with it.
    let could = FIRST.replace("n,,", "y,,");
    assert!(answer(&could, &format!("c=eSws,{nonce}")).is_ok());
    let refused = answer(&could, &format!("c=biws,{nonce}"));
    assert_eq!(refused, Err(Refusal::Credentials));
}

#[test]
fn an_exchange_takes_one_proof_and_only_once() {
    let begin = || {
        let mut exchange = exchange(&format!("user:{}", verifier()));
        exchange.step(FIRST.as_bytes()).unwrap();
        exchange
    };
    let refused = |exchange: &mut ScramExchange| {
        let refused = said(exchange.step(LAST.as_bytes()));
        assert_eq!(refused, Err(Refusal::Credentials));
    };
    let mut done = begin();
    done.step(LAST.as_bytes()).unwrap();
    refused(&mut done);
    let mut failed = begin();
    failed.step(b"c=biws,r=x,p=").unwrap_err();
    refused(&mut failed);
    let mut other = begin();
    other.nonce.push('x');
    other.begun = None;
    other.step(FIRST.as_bytes()).unwrap();
    refused(&mut other);
}

#[test]
fn a_name_that_is_not_there_is_refused_whatever_it_proves() {
    let mut exchange = exchange(&format!("user:{}", verifier()));
    exchange.step(FIRST.as_bytes()).unwrap();
    exchange.begun.as_mut().unwrap().known = false;
    let refused = said(exchange.step(LAST.as_bytes()));
    assert_eq!(refused, Err(Refusal::Credentials));
}

/// Salt and iterations are all that a guess at names is shown.
#[test]
fn a_stranger_looks_like_a_new_user_and_no_salt_can_be_foretold() {
    let shown = || {
        let first = said(exchange("").step(FIRST.as_bytes())).unwrap();
        let mut attributes = first.split(',').skip(1);
        let salt = attributes.next().unwrap().strip_prefix("s=").unwrap();
        (salt.to_owned(), attributes.next().unwrap().to_owned())
    };
    let (salt, iterations) = shown();
    // As `outlive scram` makes them.
    assert_eq!(BASE64.decode(&salt).unwrap().len(), 16);
    assert_eq!(iterations, format!("i={ITERATIONS}"));
    assert_ne!(shown().0, salt, "after another start");
}

#[test]
fn a_user_is_known_by_the_name_that_was_escaped() {
    let first = FIRST.replace("n=user", "n=a=2Cb=3Dc");
    let mut exchange = exchange(&format!("a,b=c:{}", verifier()));
    exchange.step(first.as_bytes()).unwrap();
    let unproven = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let done = exchange.step(proven(&first, unproven).as_bytes()).unwrap();
    let expected = Principal::from("a,b=c");
    assert!(matches!(done, Step::Done { principal, .. } if principal == expected));
}

#[test]
fn every_exchange_has_a_nonce_of_its_own_and_there_is_one_method() {
    let scram = || Scram::new(Users::parse("").unwrap(), false);
    let answer = || {
        let mut exchange = scram().exchange(METHOD).unwrap();
        said(exchange.step(FIRST.as_bytes())).unwrap()
    };
    let nonce = |answer: String| answer.split(',').next().unwrap().to_owned();
    let (one, other) = (nonce(answer()), nonce(answer()));
    let of_the_client = "r=rOprNGfwEbeRWgbNEkqO";
    for nonce in [&one, &other] {
        assert!(nonce.starts_with(of_the_client));
        assert_eq!(nonce.len(), of_the_client.len() + 24, "18 bytes in base64");
    }
    assert_ne!(one, other);
    for method in ["", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS"] {
        assert!(scram().exchange(method).is_none(), "{method}");
    }
}

#[test]
fn whoever_shows_nothing_gets_in_from_this_machine_or_if_all_may() {
    let client_id = "c".into();
    actix_rt::System::new().block_on(async {
        for (peer, allow_anonymous, expected) in [
            ("127.0.0.1:1", false, Ok(Principal::anonymous())),
            ("[::1]:1", false, Ok(Principal::anonymous())),
            ("192.0.2.1:1", false, Err(Refusal::NotAuthorized)),
            ("192.0.2.1:1", true, Ok(Principal::anonymous())),
        ] {
            let scram = Scram::new(Users::parse("").unwrap(), allow_anonymous);
            let answer = scram.authenticate(Credentials {
                client_id: &client_id,
                user_name: Some("user"),
                password: Some(b"pencil"),
                peer: peer.parse().unwrap(),
            });
            assert_eq!(answer.await, expected, "{peer}");
        }
    });
}
