//! Users of SCRAM-SHA-256, from the file to the session.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{self, Connect, Packet, Version, property};

const METHOD: &str = "SCRAM-SHA-256";

/// The line of a user, as the program prints it.
pub(crate) fn line(name: &str, password: &str) -> Vec<u8> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outlive"))
        .args(["scram", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{password}").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn start() -> (Broker, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&line("alice", "secret of alice")).unwrap();
    file.write_all(&line("bob", "secret of bob")).unwrap();
    let setting = format!("auth.scram_file={}", file.path().display());
    (Broker::start_with(&[&setting]), file)
}

/// The client's side of an exchange.
pub(crate) struct User {
    name: &'static str,
    password: &'static str,
    /// What the broker must say at last.
    expected: String,
}

impl User {
    pub(crate) fn new(name: &'static str, password: &'static str) -> Self {
        Self {
            name,
            password,
            expected: String::new(),
        }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n={},r=fyko+d2lbbFgONRv9qkxdawL", self.name)
    }

    /// The answer to the broker's first message.
    fn last(&mut self, said: &str) -> String {
        let parts: Vec<&str> = said.split(',').collect();
        let [nonce, salt, iterations] = parts[..] else {
            panic!("{said}");
        };
        assert!(nonce.len() > self.bare().len() - 7, "it adds to the nonce");
        let salt = BASE64.decode(&salt[2..]).unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(
            self.password.as_bytes(),
            &salt,
            iterations[2..].parse().unwrap(),
            &mut salted,
        );
        let unproven = format!("c=biws,{nonce}");
        let signed = format!("{},{said},{unproven}", self.bare());
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let verification = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
        self.expected = format!("v={}", BASE64.encode(verification));
        format!("{unproven},p={}", BASE64.encode(proof))
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The next packet must be AUTH with this code; its data.
fn auth(client: &mut Client, expected: u8) -> String {
    let Packet::Auth { code, properties } = client.receive() else {
        panic!("no AUTH");
    };
    assert_eq!(code, expected);
    assert_eq!(
        properties.text(property::AUTHENTICATION_METHOD),
        Some(METHOD)
    );
    let data = properties.text(property::AUTHENTICATION_DATA);
    data.unwrap().to_owned()
}

/// Goes through the exchange of a CONNECT; what comes next is its CONNACK.
pub(crate) fn begin(broker: &Broker, client_id: &str, user: &mut User) -> Client {
    let connect = Connect::kept(Version::V5, client_id)
        .raw_properties(&wire::authentication(METHOD, user.first().as_bytes()));
    let mut client = Client::raw(broker, Version::V5, &connect.encode());
    let said = auth(&mut client, 0x18);
    let last = user.last(&said);
    client.send(&wire::auth(0x18, METHOD, last.as_bytes()));
    client
}

pub(crate) fn connack(client: &mut Client) -> (u8, wire::Properties) {
    match client.receive() {
        Packet::Connack {
            code, properties, ..
        } => (code, properties),
        other => panic!("no CONNACK: {other:?}"),
    }
}

#[test]
fn a_user_proves_who_it_is_and_learns_that_the_broker_knows_it() {
    // 5.0: [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-4.12.1-1]
    let (broker, _file) = start();
    let mut alice = User::new("alice", "secret of alice");
    let mut client = begin(&broker, "phone", &mut alice);
    let (code, properties) = connack(&mut client);
    assert_eq!(code, 0);
    assert_eq!(
        properties.text(property::AUTHENTICATION_METHOD),
        Some(METHOD)
    );
    let verified = properties.text(property::AUTHENTICATION_DATA);
    assert_eq!(verified, Some(&*alice.expected));
    client.subscribe("t", 1);
    // Again, on the open connection, which goes on meanwhile.
    client.send(&wire::auth(0x19, METHOD, alice.first().as_bytes()));
    let said = auth(&mut client, 0x18);
    client.publish("t", "meanwhile", 1);
    client.expect("meanwhile");
    let last = alice.last(&said);
    client.send(&wire::auth(0x18, METHOD, last.as_bytes()));
    assert_eq!(auth(&mut client, 0x00), alice.expected);
    client.assert_nothing_waits();
}

#[test]
fn a_wrong_password_a_stranger_and_another_user_are_refused() {
    // 5.0: [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-4.12.1-2]
    let (broker, _file) = start();
    for (name, password) in [("alice", "secret of bob"), ("mallory", "secret of alice")] {
        let mut client = begin(&broker, "phone", &mut User::new(name, password));
        assert_eq!(connack(&mut client).0, 0x86, "{name}");
        client.assert_closed_silently();
    }
    let mut alice = User::new("alice", "secret of alice");
    let mut first = begin(&broker, "phone", &mut alice);
    assert_eq!(connack(&mut first).0, 0);
    // The session is hers.
    let mut bob = User::new("bob", "secret of bob");
    let mut other = begin(&broker, "phone", &mut bob);
    assert_eq!(connack(&mut other).0, 0x87);
    other.assert_closed_silently();
    first.assert_nothing_waits();
    // Nor does she become him.
    first.send(&wire::auth(0x19, METHOD, bob.first().as_bytes()));
    let said = auth(&mut first, 0x18);
    let last = bob.last(&said);
    first.send(&wire::auth(0x18, METHOD, last.as_bytes()));
    assert_eq!(first.closed(), Some(0x87));
    let connect =
        Connect::new(Version::V5, "c").raw_properties(&wire::authentication("PLAIN", b""));
    assert_eq!(Client::try_connect(&broker, &connect).connack.code, 0x8C);
}

#[test]
fn without_users_every_method_is_refused() {
    // 5.0: [MQTT-4.12.0-1]
    let broker = Broker::start();
    let connect =
        Connect::new(Version::V5, "c").raw_properties(&wire::authentication(METHOD, b"n,,"));
    let mut refused = Client::try_connect(&broker, &connect);
    assert_eq!(refused.connack.code, 0x8C);
    refused.assert_closed_silently();
}
