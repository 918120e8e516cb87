//! How connections end.

use super::*;

#[test]
fn a_disconnect_reaches_the_session_before_the_close() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut client, _request) = world.open(CONNECT_V5, CONNACK_V5).await;
        client
            .write_all(b"\x30\x04\x00\x01a\x00\xe0\x01\x04\x30\x04\x00\x01b\x00")
            .await
            .unwrap();
        let packets = world.batch().await.unwrap();
        assert_eq!(packets.len(), 2);
        assert!(matches!(
            packets[1],
            Inbound::Disconnect {
                with_will: true,
                expiry_seconds: None
            }
        ));
        assert!(world.batch().await.is_none());
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(world.count(WireCounter::ClosedByClient), 1);
        assert_eq!(world.counters.observe().open(), 0);
    });
}

#[test]
fn a_client_that_goes_without_a_word_is_reported_once() {
    run(async {
        let mut world = World::new(Options::default());
        let (client, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        drop(client);
        assert!(world.batch().await.is_none());
        assert_eq!(world.count(WireCounter::ClosedAbruptly), 1);
    });
}

#[test]
fn good_packets_before_a_bad_one_reach_the_session() {
    for (connect, connack, bytes, said, refusal) in [
        (
            CONNECT_V311,
            CONNACK_V3,
            &b"\x30\x03\x00\x01a\xc0\x01\x00"[..],
            &b""[..],
            Refusal::Malformed,
        ),
        (
            CONNECT_V5,
            CONNACK_V5,
            b"\x30\x04\x00\x01a\x00\xc0\x01\x00",
            &goodbye(0x81, Refusal::Malformed),
            Refusal::Malformed,
        ),
        (
            CONNECT_V5,
            CONNACK_V5,
            b"\x30\x04\x00\x01a\x00\x10\x00",
            &goodbye(0x82, Refusal::Protocol),
            Refusal::Protocol,
        ),
        (
            CONNECT_V5,
            CONNACK_V5,
            b"\x30\x04\x00\x01a\x00\x30\x81\x20",
            &goodbye(0x95, Refusal::PacketTooLarge),
            Refusal::PacketTooLarge,
        ),
        (
            CONNECT_V5,
            CONNACK_V5,
            b"\x30\x04\x00\x01a\x00\x30\x06\x00\x03a/#\x00",
            &goodbye(0x90, Refusal::TopicName),
            Refusal::TopicName,
        ),
        (
            CONNECT_V5,
            CONNACK_V5,
            b"\x30\x04\x00\x01a\x00\x30\x07\x00\x01a\x03\x23\x00\x11",
            &goodbye(0x94, Refusal::TopicAlias),
            Refusal::TopicAlias,
        ),
        (
            CONNECT_V5,
            CONNACK_V5,
            b"\x30\x04\x00\x01a\x00\xf0\x00",
            &goodbye(0x82, Refusal::Protocol),
            Refusal::Protocol,
        ),
    ] {
        run(async {
            let mut world = World::new(Options::default());
            let (mut client, _request) = world.open(connect, connack).await;
            client.write_all(bytes).await.unwrap();
            assert_eq!(world.batch().await.unwrap().len(), 1);
            assert!(world.batch().await.is_none());
            assert_eq!(rest(&mut client).await, said, "{bytes:02x?}");
            assert_eq!(world.counters.observe().ended(refusal), 1);
        });
    }
}

#[test]
fn a_close_of_the_session_is_told_to_5_0_clients_behind_what_came_before() {
    for (connect, connack, expected) in [
        (CONNECT_V311, CONNACK_V3, &b"\x30\x04\x00\x01tx"[..]),
        (
            CONNECT_V5,
            CONNACK_V5,
            &[
                &b"\x30\x05\x00\x01t\x00x"[..],
                &goodbye(0x8E, Refusal::TakenOver),
            ]
            .concat(),
        ),
    ] {
        run(async {
            let mut world = World::new(Options::default());
            let (mut client, request) = world.open(connect, connack).await;
            request.connection.do_send(packets([
                Outbound::Publish(delivery(QoS::AtMostOnce, 0, b"x")),
                Outbound::Close(Refusal::TakenOver),
                Outbound::Publish(delivery(QoS::AtMostOnce, 0, b"never")),
            ]));
            assert_eq!(rest(&mut client).await, expected);
            assert!(world.batch().await.is_none());
            assert_eq!(world.counters.observe().ended(Refusal::TakenOver), 1);
        });
    }
}

#[test]
fn more_than_the_receive_maximum_ends_a_5_0_connection() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig {
                receive_max: std::num::NonZeroU16::new(2).unwrap(),
                packet_bytes_max: 4096,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V5).await;
        let request = world.request().await;
        let mut connack = [0; 16];
        client.read_exact(&mut connack).await.unwrap();
        let publish = b"\x32\x06\x00\x01a\x00\x05\x00";
        client.write_all(&publish.repeat(2)).await.unwrap();
        world.inbound(2).await;
        request.connection.do_send(packets([Outbound::PubAck {
            packet_id: outlive_actors::model::ids::PacketId::new(5).unwrap(),
            result: Ok(outlive_actors::model::packet::Routed::Matched),
        }]));
        expect(&mut client, b"\x40\x02\x00\x05").await;
        client.write_all(publish).await.unwrap();
        world.inbound(1).await;
        client.write_all(publish).await.unwrap();
        assert_eq!(rest(&mut client).await, goodbye(0x93, Refusal::ReceiveMax));
    });
}

/// A client that leaves with deliveries unread: its system resets the connection, and the next write to it fails.
#[test]
fn a_goodbye_counts_though_its_author_did_not_wait_for_what_was_on_its_way() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig {
                write_buffer_max_bytes: usize::MAX,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V311).await;
        expect(&mut client, CONNACK_V3).await;
        let request = world.request().await;
        request
            .connection
            .do_send(flow::flood(QoS::AtLeastOnce, 8000));
        expect(&mut client, b"\x32").await;
        let last_words = b"\x30\x03\x00\x01a\xe0\x00";
        assert_eq!(client.try_write(last_words).unwrap(), last_words.len());
        drop(client);
        let packets = world.inbound(2).await;
        assert!(matches!(packets[0], Inbound::Publish { .. }));
        assert!(matches!(packets[1], Inbound::Disconnect { .. }));
        assert!(world.batch().await.is_none());
        assert_eq!(world.count(WireCounter::ClosedByClient), 1);
    });
}

#[test]
fn what_a_client_sent_before_it_was_cut_off_for_not_reading_is_read() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig {
                write_buffer_max_bytes: 40 << 20,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V311).await;
        expect(&mut client, CONNACK_V3).await;
        let request = world.request().await;
        let flood = flow::flood(QoS::AtLeastOnce, 8000);
        request.connection.do_send(flood.clone());
        // Now it is not read any more: too much waits.
        expect(&mut client, b"\x32").await;
        client.write_all(b"\x30\x03\x00\x01a").await.unwrap();
        request.connection.do_send(flood);
        let packets = world.inbound(1).await;
        assert!(matches!(packets[0], Inbound::Publish { .. }));
        assert!(world.batch().await.is_none());
        assert_eq!(world.counters.observe().ended(Refusal::NotReading), 1);
    });
}

#[test]
fn a_client_that_is_silent_for_too_long_is_closed() {
    run(async {
        let mut world = World::new(Options::default());
        let connect = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x01\x00\x00\x01c";
        let (mut client, _request) = world.open(connect, CONNACK_V5).await;
        assert_eq!(rest(&mut client).await, goodbye(0x8D, Refusal::KeepAlive));
        assert!(world.batch().await.is_none());
        assert_eq!(world.counters.observe().ended(Refusal::KeepAlive), 1);
    });
}

#[test]
fn a_session_that_never_answers_costs_the_client_its_connection_only() {
    run(async {
        let mut world = World::new(Options {
            answer: Answer::Nothing,
            config: WireConfig {
                connect_timeout_millis: 50,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V5).await;
        let request = world.request().await;
        assert_eq!(rest(&mut client).await, refused_v5(0x89, Refusal::Busy));
        drop(client);
        // Attached too late: the session hears at once that nobody is there.
        request.connection.do_send(ToConnection::Attached {
            number: outlive_actors::model::ids::SessionNumber(7),
            fence: FENCE,
            session: world.shard.clone().recipient().into(),
        });
        assert!(world.batch().await.is_none());
    });
}

#[test]
fn a_connection_ends_with_the_last_holder_of_its_address() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut client, request) = world.open(CONNECT_V5, CONNACK_V5).await;
        // A CONNECT of another client makes the fake shard forget the first.
        let (_other, _other_request) = world.open(CONNECT_V5, CONNACK_V5).await;
        drop(request);
        assert_eq!(rest(&mut client).await, goodbye(0x80, Refusal::Internal));
        assert!(world.batch().await.is_none());
        assert_eq!(world.counters.observe().ended(Refusal::Internal), 1);
    });
}
