//! From accept to CONNACK.

use outlive_actors::model::ids::{ClientId, Principal};
use outlive_actors::model::packet::ProtocolVersion;

use super::*;
use crate::auth::{Authentication, Credentials};

#[test]
fn each_version_gets_its_connack() {
    run(async {
        let mut world = World::new(Options::default());
        let v31 = b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c";
        for (connect, connack, version) in [
            (&v31[..], CONNACK_V3, ProtocolVersion::V31),
            (CONNECT_V311, CONNACK_V3, ProtocolVersion::V311),
            (CONNECT_V5, CONNACK_V5, ProtocolVersion::V5),
        ] {
            let (client, request) = world.open(connect, connack).await;
            assert_eq!(request.connect.version, version);
            assert_eq!(request.connect.client_id.as_str(), "c");
            drop(client);
            assert!(world.batch().await.is_none());
        }
        assert_eq!(world.count(WireCounter::Opened), 3);
    });
}

#[test]
fn a_connect_that_comes_byte_by_byte_is_taken() {
    run(async {
        let world = World::new(Options::default());
        let mut client = world.client(b"").await;
        for byte in CONNECT_V311 {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        expect(&mut client, CONNACK_V3).await;
    });
}

#[test]
fn a_refusal_of_the_session_becomes_the_code_of_the_version() {
    // 5.0: [MQTT-3.14.0-1]
    for (connect, answer) in [
        (CONNECT_V311, &b"\x20\x02\x00\x03"[..]),
        (CONNECT_V5, &refused_v5(0x97, Refusal::SessionQuota)),
    ] {
        run(async {
            let world = World::new(Options {
                answer: Answer::Refuse(Refusal::SessionQuota),
                ..Options::default()
            });
            let mut client = world.client(connect).await;
            assert_eq!(rest(&mut client).await, answer);
            let seen = world.counters.observe();
            assert_eq!(seen.refused(Refusal::SessionQuota), 1);
            assert_eq!(seen.open(), 0);
        });
    }
}

#[test]
fn a_connect_that_no_session_need_see_is_answered_at_the_door() {
    // 5.0: [MQTT-4.12.0-1]
    for (connect, answer, refusal) in [
        (
            &b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x00\x00\x00"[..],
            &b"\x20\x02\x00\x01"[..],
            Refusal::Version,
        ),
        (
            b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00",
            &refused_v5(0x84, Refusal::Version),
            Refusal::Version,
        ),
        (
            b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
            b"\x20\x02\x00\x02",
            Refusal::ClientId,
        ),
        (
            b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00",
            b"\x20\x02\x00\x02",
            Refusal::ClientId,
        ),
        (
            b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01m\x00\x01c",
            &refused_v5(0x8c, Refusal::AuthMethod),
            Refusal::AuthMethod,
        ),
        (
            b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01cx",
            &refused_v5(0x81, Refusal::Malformed),
            Refusal::Malformed,
        ),
        (
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x01cx",
            b"",
            Refusal::Malformed,
        ),
        (
            b"\x10\x0c\x00\x04SMTP\x04\x02\x00\x00\x00\x00",
            b"",
            Refusal::Version,
        ),
        (b"\x30\x03\x00\x01a", b"", Refusal::Malformed),
        (b"GET / HTTP/1.1\r\n\r\n", b"", Refusal::Malformed),
        (b"\x10\xff\xff\xff\x7f", b"", Refusal::PacketTooLarge),
    ] {
        run(async {
            let world = World::new(Options::default());
            let mut client = world.client(connect).await;
            assert_eq!(rest(&mut client).await, answer, "{connect:02x?}");
            let seen = world.counters.observe();
            assert_eq!(seen.refused(refusal), 1, "{connect:02x?}");
        });
    }
}

#[test]
fn an_empty_id_is_filled_and_5_0_clients_are_told() {
    run(async {
        let mut world = World::new(Options::default());
        let mut client = world
            .client(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00")
            .await;
        let assigned = world.request().await.connect.client_id;
        assert!(assigned.as_str().starts_with("outlive-"));
        client.write_all(b"\xe0\x00").await.unwrap();
        let connack = rest(&mut client).await;
        let id = assigned.as_str().as_bytes();
        assert!(
            connack.windows(id.len()).any(|window| window == id),
            "{connack:02x?}"
        );
    });
    run(async {
        let mut world = World::new(Options::default());
        let connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
        let (_client, request) = world.open(connect, CONNACK_V3).await;
        assert!(request.connect.client_id.as_str().starts_with("outlive-"));
    });
}

#[test]
fn what_is_pipelined_behind_the_connect_waits_for_the_connack() {
    run(async {
        let mut world = World::new(Options {
            answer: Answer::Nothing,
            ..Options::default()
        });
        let mut client = world
            .client(
                &[
                    CONNECT_V311,
                    b"\x30\x03\x00\x01a\xc0\x00\x30\x03\x00\x01b\x30\x03",
                ]
                .concat(),
            )
            .await;
        let request = world.request().await;
        request.connection.do_send(ToConnection::Attached {
            number: outlive_actors::model::ids::SessionNumber(7),
            fence: FENCE,
            session: world.shard.clone().recipient().into(),
        });
        request.connection.do_send(packets([Outbound::ConnAck {
            session_present: true,
            expiry_seconds: 0,
        }]));
        expect(&mut client, b"\x20\x02\x01\x00\xd0\x00").await;
        client.write_all(b"\x00\x01c").await.unwrap();
        let topics: Vec<_> = world
            .inbound(3)
            .await
            .iter()
            .map(|packet| published(packet).topic().to_owned())
            .collect();
        assert_eq!(topics, ["a", "b", "c"]);
    });
}

#[test]
fn a_capped_keep_alive_and_a_changed_expiry_are_told() {
    run(async {
        let mut world = World::new(Options {
            answer: Answer::Nothing,
            config: WireConfig {
                keep_alive_seconds_max: 30,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V5).await;
        let request = world.request().await;
        request.connection.do_send(ToConnection::Attached {
            number: outlive_actors::model::ids::SessionNumber(7),
            fence: FENCE,
            session: world.shard.clone().recipient().into(),
        });
        request.connection.do_send(packets([Outbound::ConnAck {
            session_present: false,
            expiry_seconds: 9,
        }]));
        let mut connack = [0; 5 + 19];
        client.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack[5..10], [0x11, 0, 0, 0, 9]);
        assert_eq!(connack[21..24], [0x13, 0, 30]);
    });
}

#[test]
fn a_client_that_sends_no_connect_is_closed_by_the_timeout() {
    run(async {
        let world = World::new(Options {
            config: WireConfig {
                connect_timeout_millis: 1,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(b"\x10").await;
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(world.count(WireCounter::ConnectTimeouts), 1);
    });
}

#[test]
fn connections_above_the_limit_of_unauthenticated_ones_are_closed_at_once() {
    run(async {
        let world = World::new(Options {
            config: WireConfig {
                unauthenticated_max: 1,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut first = world.client(b"").await;
        let mut second = world.client(b"").await;
        assert_eq!(rest(&mut second).await, b"");
        assert_eq!(world.count(WireCounter::AcceptRefused), 1);
        first.write_all(CONNECT_V311).await.unwrap();
        expect(&mut first, CONNACK_V3).await;
        // The first one has authenticated: there is room again.
        let mut third = world.client(CONNECT_V311).await;
        expect(&mut third, CONNACK_V3).await;
    });
}

#[test]
fn connections_above_the_limit_are_told_that_the_server_is_busy() {
    run(async {
        let world = World::new(Options {
            config: WireConfig {
                connections_max: 1,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut first = world.client(CONNECT_V311).await;
        expect(&mut first, CONNACK_V3).await;
        let mut second = world.client(CONNECT_V311).await;
        assert_eq!(rest(&mut second).await, b"\x20\x02\x00\x03");
        let mut third = world.client(CONNECT_V5).await;
        assert_eq!(rest(&mut third).await[3], 0x89);
        assert_eq!(world.counters.observe().refused(Refusal::Busy), 2);
        first.write_all(b"\xe0\x00").await.unwrap();
        assert_eq!(rest(&mut first).await, b"");
        // The first one has left: there is room again.
        let mut fourth = world.client(CONNECT_V311).await;
        expect(&mut fourth, CONNACK_V3).await;
    });
}

#[derive(Debug)]
struct Password;

impl Authenticator for Password {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Authentication<'a> {
        Box::pin(async move {
            match (credentials.user_name, credentials.password) {
                (Some(name), Some(b"right")) => Ok(Principal::from(name)),
                _ => Err(Refusal::Credentials),
            }
        })
    }
}

#[test]
fn the_authenticator_decides_who_a_client_is() {
    // 5.0: [MQTT-3.1.4-2]
    for (word, expected) in [("right", None), ("wrong", Some(&b"\x20\x02\x00\x04"[..]))] {
        run(async {
            let mut world = World::new(Options {
                authenticator: Arc::new(Password),
                ..Options::default()
            });
            let connect = [
                b"\x10\x17\x00\x04MQTT\x04\xc2\x00\x00\x00\x01c\x00\x01u\x00\x05",
                word.as_bytes(),
            ]
            .concat();
            let mut client = world.client(&connect).await;
            match expected {
                Some(answer) => assert_eq!(rest(&mut client).await, answer),
                None => assert_eq!(
                    world.request().await.connect.principal,
                    Principal::from("u")
                ),
            }
        });
    }
}

#[derive(Debug)]
struct NothingGoes;

impl Authorizer for NothingGoes {
    fn may_publish(&self, _: &ClientId, _: &Principal, _: &str) -> bool {
        false
    }

    fn may_subscribe(&self, _: &ClientId, _: &Principal, _: &str) -> bool {
        false
    }
}

#[test]
fn a_will_that_may_not_be_published_is_refused_at_connect() {
    // 5.0: [MQTT-3.1.4-2]
    run(async {
        let world = World::new(Options {
            authorizer: Arc::new(NothingGoes),
            ..Options::default()
        });
        let mut client = world
            .client(b"\x10\x12\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x01w\x00\x00")
            .await;
        assert_eq!(rest(&mut client).await, b"\x20\x02\x00\x05");
    });
}

#[test]
fn a_refused_publish_is_answered_and_never_reaches_the_session() {
    // 3.1.1: [MQTT-3.3.5-2].
    run(async {
        let mut world = World::new(Options {
            authorizer: Arc::new(NothingGoes),
            ..Options::default()
        });
        let (mut client, _request) = world.open(CONNECT_V5, CONNACK_V5).await;
        client.write_all(b"\x30\x04\x00\x01a\x00\x32\x06\x00\x01a\x00\x05\x00\x34\x06\x00\x01a\x00\x06\x00\xc0\x00").await.unwrap();
        expect(
            &mut client,
            b"\x40\x15\x00\x05\x87\x11\x1f\x00\x0enot authorized\
              \x50\x15\x00\x06\x87\x11\x1f\x00\x0enot authorized\xd0\x00",
        )
        .await;
        client
            .write_all(b"\x82\x07\x00\x01\x00\x00\x01a\x00")
            .await
            .unwrap();
        let packets = world.inbound(1).await;
        assert_eq!(refusals(&packets[0]), [Some(Refusal::NotAuthorized)]);
        assert_eq!(world.count(WireCounter::PublishesRefused), 3);
        assert_eq!(world.count(WireCounter::FiltersRefused), 1);
    });
    run(async {
        let mut world = World::new(Options {
            authorizer: Arc::new(NothingGoes),
            ..Options::default()
        });
        let (mut client, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        client
            .write_all(b"\x32\x05\x00\x01a\x00\x05\xc0\x00")
            .await
            .unwrap();
        expect(&mut client, b"\x40\x02\x00\x05\xd0\x00").await;
    });
}

#[test]
fn a_connection_moves_to_the_thread_of_its_home_shard() {
    run(async {
        let (sender, mut events) = unbounded_channel();
        let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
        let shards = arbiters
            .iter()
            .map(|arbiter| {
                let events = sender.clone();
                let shard = FakeShard::start_in_arbiter(&arbiter.handle(), move |_| FakeShard {
                    answer: Answer::Accept,
                    credit: true,
                    connection: None,
                    events,
                });
                ShardHandle {
                    arbiter: arbiter.handle(),
                    connects: shard.recipient(),
                }
            })
            .collect();
        let server = serve(
            vec![bind((Ipv4Addr::LOCALHOST, 0).into(), 4096).unwrap()],
            Setup {
                intake: Arc::new(Intake::new(u64::MAX)),
                shards,
                home: Arc::new(|client_id| client_id.as_str().len()),
                config: Arc::new(WireConfig::default()),
                authenticator: Arc::new(Anonymous),
                authorizer: Arc::new(Anonymous),
                tenancy: Tenancy::Off,
                tenants_connects_per_second_max: PerTenant::default(),
                counters: Arc::new(WireCounters::new()),
                clock: Arc::new(ManualClock::default()),
            },
        )
        .unwrap();
        // Whichever shard accepts, one of the two ids lives on the other.
        for connect in [
            CONNECT_V311,
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02cc",
        ] {
            for _ in 0..4 {
                let mut client = TcpStream::connect(server.addresses()[0]).await.unwrap();
                client
                    .write_all(&[connect, b"\x30\x03\x00\x01a"].concat())
                    .await
                    .unwrap();
                expect(&mut client, CONNACK_V3).await;
                let mut seen = Vec::new();
                for _ in 0..2 {
                    seen.push(events.recv().await.unwrap());
                }
                assert!(matches!(seen[0], Event::Connect(_)), "{seen:?}");
                assert!(
                    matches!(seen[1], Event::From(FromConnection::Packets { .. })),
                    "{seen:?}"
                );
                client.write_all(b"\xe0\x00").await.unwrap();
                assert_eq!(rest(&mut client).await, b"");
                for _ in 0..2 {
                    events.recv().await.unwrap();
                }
            }
        }
    });
}

#[test]
fn a_stopped_server_accepts_no_more() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut open, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        let mut half = world.client(b"\x10").await;
        world.server.stop_accepting();
        // The half-open one is closed, the open one lives on.
        assert_eq!(rest(&mut half).await, b"");
        open.write_all(b"\xc0\x00").await.unwrap();
        expect(&mut open, b"\xd0\x00").await;
        assert!(
            TcpStream::connect(world.server.addresses()[0])
                .await
                .is_err()
        );
    });
}
