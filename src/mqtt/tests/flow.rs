//! Packets in both directions on an open connection.

use outlive_actors::actor::protocol::INBOUND_PACKETS_MAX;
use outlive_actors::model::ids::PacketId;
use outlive_actors::model::packet::Routed;

use super::*;

const QOS_0: &[u8] = b"\x30\x04\x00\x01ax";

#[test]
fn one_read_becomes_one_batch() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut client, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        client.write_all(&QOS_0.repeat(100)).await.unwrap();
        assert_eq!(world.batch().await.unwrap().len(), 100);
        assert_eq!(world.count(WireCounter::PacketsIn), 101);
    });
}

#[test]
fn frames_may_come_in_any_pieces() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut client, _request) = world.open(CONNECT_V5, CONNACK_V5).await;
        let stream = [
            &b"\x32\x0b\x00\x01a\x00\x07\x02\x01\x01pay"[..],
            b"\x82\x07\x00\x01\x00\x00\x01a\x01",
            b"\xc0\x00",
            b"\xa2\x06\x00\x02\x00\x00\x01a",
        ]
        .concat();
        for piece in stream.chunks(1) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let packets = world.inbound(3).await;
        assert!(
            matches!(&packets[0], Inbound::Publish { message, .. } if message.payload() == b"pay")
        );
        assert!(matches!(packets[1], Inbound::Subscribe { .. }));
        assert!(matches!(packets[2], Inbound::Unsubscribe { .. }));
        expect(&mut client, b"\xd0\x00").await;
    });
}

#[test]
fn a_packet_larger_than_a_read_arrives_whole() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig::default(),
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V311).await;
        expect(&mut client, CONNACK_V3).await;
        world.request().await;
        let payload: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let mut frame = vec![0x30];
        properties::put_variable_int(&mut frame, 3 + payload.len());
        frame.extend_from_slice(b"\x00\x01a");
        frame.extend_from_slice(&payload);
        client.write_all(&frame).await.unwrap();
        let packets = world.inbound(1).await;
        assert!(published(&packets[0]).payload() == payload);
    });
}

#[test]
fn a_client_without_credit_is_not_read_until_it_has_some() {
    run(async {
        let mut world = World::new(Options {
            credit: false,
            ..Options::default()
        });
        let (mut client, request) = world.open(CONNECT_V311, CONNACK_V3).await;
        let max = INBOUND_PACKETS_MAX as usize;
        client.write_all(&QOS_0.repeat(max + 10)).await.unwrap();
        world.inbound(max).await;
        // The PING waits behind the packets that have no credit.
        client.write_all(b"\xc0\x00").await.unwrap();
        request.connection.do_send(ToConnection::Packets {
            packets: Vec::new(),
            processed: Credit {
                packets: 4,
                bytes: 0,
            },
        });
        world.inbound(4).await;
        assert_eq!(
            world.count(WireCounter::PacketsIn),
            INBOUND_PACKETS_MAX as u64 + 5
        );
        request.connection.do_send(ToConnection::Packets {
            packets: Vec::new(),
            processed: Credit {
                packets: INBOUND_PACKETS_MAX,
                bytes: 0,
            },
        });
        world.inbound(6).await;
        expect(&mut client, b"\xd0\x00").await;
    });
}

#[test]
fn what_the_session_says_is_written_in_order() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut client, request) = world.open(CONNECT_V311, CONNACK_V3).await;
        let packet_id = PacketId::new(9).unwrap();
        request.connection.do_send(packets([
            Outbound::PubAck {
                packet_id,
                result: Ok(Routed::Matched),
            },
            Outbound::Publish(delivery(QoS::AtMostOnce, 0, b"x")),
            Outbound::Publish(delivery(QoS::ExactlyOnce, 5, b"y")),
            Outbound::SubAck {
                packet_id,
                results: vec![Ok(QoS::AtLeastOnce)],
            },
        ]));
        expect(
            &mut client,
            b"\x40\x02\x00\x09\x30\x04\x00\x01tx\x34\x06\x00\x01t\x00\x05y\x90\x03\x00\x09\x01",
        )
        .await;
        assert_eq!(world.count(WireCounter::PublishesOut), 2);
    });
}

#[test]
fn a_delivery_above_the_clients_packet_limit_is_dropped_and_settled() {
    // 5.0: [MQTT-3.1.2-25]
    run(async {
        let mut world = World::new(Options::default());
        // Maximum packet size 20.
        let connect = b"\x10\x13\x00\x04MQTT\x05\x02\x00\x00\x05\x27\x00\x00\x00\x14\x00\x01c";
        let (mut client, request) = world.open(connect, CONNACK_V5).await;
        let large = [0; 20];
        request.connection.do_send(packets([
            Outbound::Publish(delivery(QoS::AtMostOnce, 0, &large)),
            Outbound::Publish(delivery(QoS::AtLeastOnce, 1, &large)),
            Outbound::Publish(delivery(QoS::ExactlyOnce, 2, &large)),
            Outbound::Publish(delivery(QoS::AtLeastOnce, 3, b"x")),
        ]));
        let settled = world.inbound(2).await;
        assert!(
            matches!(settled[0], Inbound::PubAck { packet_id, failed: true } if packet_id.get() == 1)
        );
        assert!(
            matches!(settled[1], Inbound::PubRec { packet_id, failed: true } if packet_id.get() == 2)
        );
        expect(&mut client, b"\x32\x07\x00\x01t\x00\x03\x00x").await;
        assert_eq!(world.count(WireCounter::DroppedOversized), 3);
    });
}

#[test]
fn a_filter_that_is_refused_at_the_door_reaches_the_session_marked() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig {
                topic_levels_max: 4,
                packet_bytes_max: 4096,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let (mut client, _request) = world.open(CONNECT_V311, CONNACK_V3).await;
        client
            .write_all(b"\x82\x1b\x00\x01\x00\x12$share/g/a/b/c/d/e\x01\x00\x01b\x01")
            .await
            .unwrap();
        let packets = world.inbound(1).await;
        assert_eq!(refusals(&packets[0]), [Some(Refusal::TopicFilter), None]);
    });
}

/// Deliveries of 4 KiB until the socket buffers are full, whatever their size.
const FLOOD: usize = 4096;

pub(super) fn flood(qos: QoS, count: u16) -> ToConnection {
    packets((1..=count).map(|number| Outbound::Publish(delivery(qos, number, &[7; FLOOD]))))
}

#[test]
fn a_client_that_does_not_read_loses_qos_0_only() {
    run(async {
        let mut world = World::new(Options::default());
        let (mut client, request) = world.open(CONNECT_V311, CONNACK_V3).await;
        // More than the socket buffers and the write buffer take, then one that must come through.
        request.connection.do_send(flood(QoS::AtMostOnce, 8000));
        request
            .connection
            .do_send(packets([Outbound::Publish(delivery(
                QoS::AtLeastOnce,
                1,
                b"last",
            ))]));
        let ends = b"\x32\x09\x00\x01t\x00\x01last";
        let (mut all, mut piece) = (Vec::new(), vec![0; 65_536]);
        while !all.ends_with(ends) {
            let count = client.read(&mut piece).await.unwrap();
            assert_ne!(count, 0);
            all.extend_from_slice(&piece[..count]);
        }
        let frame = 1 + 2 + 3 + FLOOD;
        assert_eq!((all.len() - ends.len()) % frame, 0);
        let came = (all.len() - ends.len()) / frame;
        let dropped = usize::try_from(world.count(WireCounter::DroppedSlowReader)).unwrap();
        assert!(dropped > 0);
        assert_eq!(came + dropped, 8000);
        // It reads again, so it is served again.
        client.write_all(b"\xc0\x00").await.unwrap();
        expect(&mut client, b"\xd0\x00").await;
    });
}

#[test]
fn a_client_that_does_not_read_is_closed_at_the_maximum() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig {
                write_buffer_high_bytes: 64 * 1024,
                write_buffer_max_bytes: 1024 * 1024,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V311).await;
        expect(&mut client, CONNACK_V3).await;
        let request = world.request().await;
        request.connection.do_send(flood(QoS::AtLeastOnce, 8000));
        assert!(world.batch().await.is_none());
        assert_eq!(world.counters.observe().ended(Refusal::NotReading), 1);
        rest(&mut client).await;
    });
}

#[test]
fn a_client_that_takes_nothing_for_the_write_timeout_is_closed() {
    run(async {
        let mut world = World::new(Options {
            config: WireConfig {
                write_timeout_millis: 1,
                write_buffer_max_bytes: usize::MAX,
                ..WireConfig::default()
            },
            ..Options::default()
        });
        let mut client = world.client(CONNECT_V311).await;
        expect(&mut client, CONNACK_V3).await;
        let request = world.request().await;
        request.connection.do_send(flood(QoS::AtLeastOnce, 8000));
        assert!(world.batch().await.is_none());
        assert_eq!(world.counters.observe().ended(Refusal::NotReading), 1);
    });
}
