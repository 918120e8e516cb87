//! The exchange of SCRAM-SHA-256 and its file of users from any bytes: nobody gets in who cannot compute a proof.

use std::sync::LazyLock;

use outlive::auth::{Authenticator as _, Scram, Step, Users};

/// Stands for the nonce that the broker just made.
const NONCE: char = '\u{1}';

static SCRAM: LazyLock<Scram> = LazyLock::new(|| {
    let keys = "c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let users = format!("user:SCRAM-SHA-256$4096:{keys}\na,b=c:SCRAM-SHA-256$4096:{keys}\n");
    Scram::new(Users::parse(&users).expect("a file of users"), false)
});

/// Messages end with 0xFF.
pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        // Whatever it is, it is read or refused.
        drop(Users::parse(text));
    }
    let mut exchange = SCRAM.exchange("SCRAM-SHA-256").expect("the method");
    let mut nonce = String::new();
    for message in data.split(|byte| *byte == 0xff) {
        let message: Vec<u8> = match std::str::from_utf8(message) {
            Ok(text) => text.replace(NONCE, &nonce).into_bytes(),
            Err(_) => message.to_vec(),
        };
        match exchange.step(&message) {
            Ok(Step::Continue(answer)) => {
                let answer = String::from_utf8(answer).expect("the broker writes text");
                let first = answer.split(',').next().unwrap_or_default();
                nonce = first.strip_prefix("r=").expect("its nonce").to_owned();
                assert!(!answer.contains(NONCE) && nonce.len() >= 24);
            }
            Ok(Step::Done { principal, .. }) => panic!("{principal:?} got in with {message:02x?}"),
            Err(_) => return,
        }
    }
}
