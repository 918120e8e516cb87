//! Enhanced authentication: before CONNACK, and on an open connection.

use std::sync::atomic::{AtomicBool, Ordering};

use outlive_actors::model::ids::Principal;

use super::*;
use crate::auth::{Authentication, Credentials, Exchange, Step};

/// Method "m": "hello" is answered by "who?", and that by a name. Who is not brief is asked at length.
#[derive(Debug, Default)]
struct Polite {
    /// It is not offered any more.
    withdrawn: AtomicBool,
}

#[derive(Debug)]
struct Greeting {
    greeted: bool,
}

impl Authenticator for Polite {
    fn authenticate<'a>(&'a self, _: Credentials<'a>) -> Authentication<'a> {
        Box::pin(std::future::ready(Err(Refusal::NotAuthorized)))
    }

    fn exchange(&self, method: &str) -> Option<Box<dyn Exchange>> {
        let offered = method == "m" && !self.withdrawn.load(Ordering::Relaxed);
        offered.then(|| Box::new(Greeting { greeted: false }) as Box<dyn Exchange>)
    }
}

impl Exchange for Greeting {
    fn step(&mut self, data: &[u8]) -> Result<Step, Refusal> {
        match (std::mem::replace(&mut self.greeted, true), data) {
            (false, b"hello") => Ok(Step::Continue(b"who?".to_vec())),
            (false, b"hello, hello") => Ok(Step::Continue(vec![b'?'; 100])),
            (true, b"" | b"hello") => Err(Refusal::Credentials),
            (true, name) => Ok(Step::Done {
                principal: Principal::from(std::str::from_utf8(name).unwrap()),
                data: b"hi".to_vec(),
            }),
            (false, _) => Err(Refusal::Credentials),
        }
    }
}

/// CONNECT of 5.0 with method "m" and "hello".
const CONNECT: &[u8] =
    b"\x10\x1a\x00\x04MQTT\x05\x02\x00\x00\x0c\x15\x00\x01m\x16\x00\x05hello\x00\x01c";
/// AUTH: continue with "who?".
const WHO: &[u8] = b"\xf0\x0d\x18\x0b\x15\x00\x01m\x16\x00\x04who?";
/// AUTH: continue with "me".
const ME: &[u8] = b"\xf0\x0b\x18\x09\x15\x00\x01m\x16\x00\x02me";
/// AUTH: re-authenticate with "hello".
const HELLO_AGAIN: &[u8] = b"\xf0\x0e\x19\x0c\x15\x00\x01m\x16\x00\x05hello";
/// AUTH: success with "hi".
const HI: &[u8] = b"\xf0\x0b\x00\x09\x15\x00\x01m\x16\x00\x02hi";

/// CONNECT as [`CONNECT`], of a client that takes packets of so many bytes.
fn connect_taking(bytes_max: u8) -> Vec<u8> {
    let mut connect = CONNECT.to_vec();
    connect[1] += 5;
    connect[12] += 5;
    connect.splice(13..13, [0x27, 0, 0, 0, bytes_max]);
    connect
}

fn polite() -> World {
    World::new(Options {
        authenticator: Arc::new(Polite::default()),
        ..Options::default()
    })
}

/// As [`CONNACK_V5`], with the method and "hi".
fn connack() -> Vec<u8> {
    let mut connack = CONNACK_V5.to_vec();
    connack[1] += 9;
    connack[4] += 9;
    connack.extend_from_slice(b"\x15\x00\x01m\x16\x00\x02hi");
    connack
}

/// A client that an exchange let in as "me".
async fn proven(world: &mut World) -> TcpStream {
    proven_by(world, CONNECT).await
}

/// The same, of a client with this CONNECT.
async fn proven_by(world: &mut World, connect: &[u8]) -> TcpStream {
    let mut client = world.client(connect).await;
    expect(&mut client, WHO).await;
    client.write_all(ME).await.unwrap();
    expect(&mut client, &connack()).await;
    let request = world.request().await;
    assert_eq!(request.connect.principal, Principal::from("me"));
    client
}

#[test]
fn an_exchange_lets_a_client_in_and_connack_has_its_last_word() {
    // 5.0: [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-3.2.0-1]
    run(async {
        let mut world = polite();
        let mut client = proven(&mut world).await;
        client.write_all(b"\xc0\x00").await.unwrap();
        expect(&mut client, b"\xd0\x00").await;
    });
    // In pieces, and with a packet behind.
    run(async {
        let mut world = polite();
        let mut client = world.client(&CONNECT[..10]).await;
        client.write_all(&CONNECT[10..]).await.unwrap();
        expect(&mut client, WHO).await;
        client.write_all(&ME[..5]).await.unwrap();
        client.write_all(&ME[5..]).await.unwrap();
        client.write_all(b"\xc0\x00").await.unwrap();
        expect(&mut client, &connack()).await;
        expect(&mut client, b"\xd0\x00").await;
        world.request().await;
    });
}

#[test]
fn whoever_does_not_keep_to_the_exchange_is_refused() {
    // 5.0: [MQTT-3.1.2-30] [MQTT-4.12.0-3] [MQTT-4.12.0-4] [MQTT-4.12.0-5] [MQTT-4.13.2-1]
    for (answer, code, refusal) in [
        (
            &b"\xf0\x06\x18\x04\x15\x00\x01m"[..],
            0x86,
            Refusal::Credentials,
        ),
        (
            b"\xf0\x0b\x18\x09\x15\x00\x01x\x16\x00\x02me",
            0x82,
            Refusal::Protocol,
        ),
        (
            b"\xf0\x0b\x19\x09\x15\x00\x01m\x16\x00\x02me",
            0x82,
            Refusal::Protocol,
        ),
        (
            b"\xf0\x0b\x00\x09\x15\x00\x01m\x16\x00\x02me",
            0x82,
            Refusal::Protocol,
        ),
        (b"\xf0\x07\x18\x05\x16\x00\x02me", 0x82, Refusal::Protocol),
        (
            b"\xf0\x0b\x17\x09\x15\x00\x01m\x16\x00\x02me",
            0x81,
            Refusal::Malformed,
        ),
        (b"\xf8\x00", 0x81, Refusal::Malformed),
        (b"\x30\x04\x00\x01a\x00", 0x82, Refusal::Protocol),
        (b"\xc0\x00", 0x82, Refusal::Protocol),
        (CONNECT, 0x82, Refusal::Protocol),
    ] {
        run(async {
            let world = polite();
            let mut client = world.client(CONNECT).await;
            expect(&mut client, WHO).await;
            client.write_all(answer).await.unwrap();
            assert_eq!(
                rest(&mut client).await,
                refused_v5(code, refusal),
                "{answer:02x?}"
            );
            assert_eq!(world.counters.observe().refused(refusal), 1);
        });
    }
}

/// Who proves nothing uses up what all have: passwords are guessed no faster than the rate.
#[test]
fn only_what_is_above_the_rate_of_its_tenant_is_given_back_to_all() {
    run(async {
        let mut world = World::new(Options {
            authenticator: Arc::new(Polite::default()),
            tenancy: Tenancy::Principal {
                separator: "".into(),
            },
            tenants_connects_per_second_max: PerTenant {
                each: 1,
                ..PerTenant::default()
            },
            config: WireConfig {
                connects_per_second_max: 3,
                ..Options::default().config
            },
            ..Options::default()
        });
        proven(&mut world).await;
        let guess = b"\xf0\x06\x18\x04\x15\x00\x01m";
        for (answer, refused) in [
            (ME, refused_v5(0x9F, Refusal::TenantConnectRate)),
            (ME, refused_v5(0x9F, Refusal::TenantConnectRate)),
            (ME, refused_v5(0x9F, Refusal::TenantConnectRate)),
            (guess, refused_v5(0x86, Refusal::Credentials)),
            (guess, refused_v5(0x86, Refusal::Credentials)),
        ] {
            let mut client = world.client(CONNECT).await;
            expect(&mut client, WHO).await;
            client.write_all(answer).await.unwrap();
            assert_eq!(rest(&mut client).await, refused);
        }
        let mut client = world.client(CONNECT).await;
        let refused = refused_v5(0x9F, Refusal::ConnectRate);
        assert_eq!(rest(&mut client).await, refused);
    });
}

#[test]
fn a_method_that_is_not_offered_is_refused_and_nobody_gets_in_without() {
    // 5.0: [MQTT-4.12.0-1]
    for (connect, code, refusal) in [
        (
            &b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01x\x00\x01c"[..],
            0x8C,
            Refusal::AuthMethod,
        ),
        (
            b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01m\x00\x01c",
            0x86,
            Refusal::Credentials,
        ),
        (CONNECT_V5, 0x87, Refusal::NotAuthorized),
    ] {
        run(async {
            let world = polite();
            let mut client = world.client(connect).await;
            assert_eq!(rest(&mut client).await, refused_v5(code, refusal));
        });
    }
}

#[test]
fn a_client_may_leave_in_the_middle_of_an_exchange() {
    // With a DISCONNECT, or without a word.
    for last in [&b"\xe0\x00"[..], b""] {
        run(async {
            let world = polite();
            let mut client = world.client(CONNECT).await;
            expect(&mut client, WHO).await;
            client.write_all(last).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(rest(&mut client).await, b"");
            assert_eq!(world.count(WireCounter::ConnectMissing), 1);
        });
    }
}

#[test]
fn what_is_said_in_an_exchange_is_counted() {
    run(async {
        let mut world = polite();
        proven(&mut world).await;
        let bytes = |said: &[&[u8]]| said.concat().len() as u64;
        for (counter, count) in [
            (WireCounter::PacketsIn, 2),
            (WireCounter::PacketsOut, 2),
            (WireCounter::BytesIn, bytes(&[CONNECT, ME])),
            (WireCounter::BytesOut, bytes(&[WHO, &connack()])),
        ] {
            assert_eq!(world.count(counter), count, "{counter:?}");
        }
    });
}

#[test]
fn a_client_is_asked_nothing_that_is_larger_than_it_takes() {
    // 5.0: [MQTT-3.1.2-24]
    let too_large = Refusal::PacketTooLarge;
    run(async {
        let world = polite();
        let takes = u8::try_from(WHO.len()).unwrap();
        let mut client = world.client(&connect_taking(takes - 1)).await;
        // Why it is refused would be too much, too.
        assert_eq!(rest(&mut client).await, b"\x20\x03\x00\x95\x00");
        assert_eq!(world.counters.observe().refused(too_large), 1);
        let mut client = world.client(&connect_taking(takes)).await;
        expect(&mut client, WHO).await;
    });
    // On the open connection.
    run(async {
        let mut world = polite();
        let mut client = proven_by(&mut world, &connect_taking(100)).await;
        let hello_hello = b"\xf0\x15\x19\x13\x15\x00\x01m\x16\x00\x0chello, hello";
        client.write_all(hello_hello).await.unwrap();
        assert_eq!(rest(&mut client).await, goodbye(0x95, too_large));
        assert!(world.batch().await.is_none());
    });
}

#[test]
fn what_a_client_says_before_connack_is_as_small_as_a_connect() {
    run(async {
        let connect_bytes_max = u32::try_from(CONNECT.len()).unwrap();
        let config = WireConfig {
            connect_bytes_max,
            ..WireConfig::default()
        };
        let world = World::new(Options {
            authenticator: Arc::new(Polite::default()),
            config,
            ..Options::default()
        });
        let mut client = world.client(CONNECT).await;
        expect(&mut client, WHO).await;
        // Its header is enough.
        client.write_all(b"\xf0\x1b").await.unwrap();
        let too_large = Refusal::PacketTooLarge;
        assert_eq!(rest(&mut client).await, refused_v5(0x95, too_large));
    });
}

#[test]
fn a_client_whose_method_is_not_offered_any_more_cannot_prove_it_again() {
    run(async {
        let authenticator = Arc::new(Polite::default());
        let mut world = World::new(Options {
            authenticator: authenticator.clone(),
            ..Options::default()
        });
        let mut client = proven(&mut world).await;
        authenticator.withdrawn.store(true, Ordering::Relaxed);
        client.write_all(HELLO_AGAIN).await.unwrap();
        assert_eq!(rest(&mut client).await, goodbye(0x8C, Refusal::AuthMethod));
        assert!(world.batch().await.is_none());
    });
}

#[test]
fn an_exchange_that_is_not_finished_ends_with_the_connect_timeout() {
    run(async {
        let world = World::new(Options {
            authenticator: Arc::new(Polite::default()),
            config: WireConfig {
                connect_timeout_millis: 50,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT).await;
        expect(&mut client, WHO).await;
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(world.count(WireCounter::ConnectTimeouts), 1);
    });
}

#[test]
fn a_client_proves_again_who_it_is_while_its_packets_go_on() {
    // 5.0: [MQTT-4.12.1-1] [MQTT-3.15.2-1]
    run(async {
        let mut world = polite();
        let mut client = proven(&mut world).await;
        for _ in 0..2 {
            client.write_all(HELLO_AGAIN).await.unwrap();
            expect(&mut client, WHO).await;
            client.write_all(b"\x30\x04\x00\x01a\x00").await.unwrap();
            assert_eq!(published(&world.inbound(1).await[0]).topic(), "a");
            client.write_all(ME).await.unwrap();
            expect(&mut client, HI).await;
        }
    });
}

#[test]
fn whoever_fails_to_prove_it_again_is_disconnected() {
    // 5.0: [MQTT-4.12.1-1] [MQTT-4.12.1-2]
    let other_method = b"\xf0\x0e\x19\x0c\x15\x00\x01x\x16\x00\x05hello";
    let somebody_else = b"\xf0\x0c\x18\x0a\x15\x00\x01m\x16\x00\x03you";
    let nobody = b"\xf0\x06\x18\x04\x15\x00\x01m";
    for (packets, code, refusal) in [
        (&[&other_method[..]][..], 0x82, Refusal::Protocol),
        (&[ME], 0x82, Refusal::Protocol),
        (&[HELLO_AGAIN, HELLO_AGAIN], 0x82, Refusal::Protocol),
        (&[HELLO_AGAIN, somebody_else], 0x87, Refusal::NotAuthorized),
        (&[HELLO_AGAIN, nobody], 0x87, Refusal::Credentials),
    ] {
        run(async {
            let mut world = polite();
            let mut client = proven(&mut world).await;
            client.write_all(&packets.concat()).await.unwrap();
            let mut said = rest(&mut client).await;
            if packets.len() > 1 {
                assert_eq!(said.drain(..WHO.len()).collect::<Vec<_>>(), WHO);
            }
            assert_eq!(said, goodbye(code, refusal), "{packets:02x?}");
            assert!(world.batch().await.is_none());
        });
    }
}
