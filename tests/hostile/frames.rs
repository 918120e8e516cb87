//! Bytes through guard and codec, and what came out of them back to bytes.

use outlive::mqtt::testing::{self, Peer, Taken};
use outlive_actors::model::ids::{PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{
    Delivery, Inbound, Outbound, ProtocolVersion, SubscriptionIds,
};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::topic::{Filter, is_topic_name};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// CONNECT of each version.
const CONNECTS: [&[u8]; 3] = [
    b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c",
    b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c",
    b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c",
];

/// The first byte chooses the version, the rest is what the client sends behind its CONNECT.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, mut bytes)) = data.split_first() else {
        return;
    };
    let connect = CONNECTS[usize::from(choice) % CONNECTS.len()];
    let Ok(Some((_, mut peer, used))) = testing::open(connect, NOW) else {
        panic!("a good CONNECT was refused");
    };
    assert_eq!(used, connect.len());
    peer.publish_as(SessionNumber(1));
    loop {
        let before = peer
            .take(&bytes[..bytes.len() / 2], NOW)
            .map(|taken| taken.is_some());
        match peer.take(bytes, NOW) {
            Ok(Some((taken, used))) => {
                assert!((2..=bytes.len()).contains(&used), "a frame of {used} bytes");
                assert!(before.is_ok(), "half of it was refused");
                check(&mut peer, taken);
                bytes = &bytes[used..];
            }
            Ok(None) => break,
            Err(refusal) => {
                assert_ne!(refusal, Refusal::Internal);
                assert!(!matches!(before, Err(other) if other != refusal));
                peer.end(refusal);
                break;
            }
        }
    }
    let mut out = Vec::new();
    peer.drain(7, &mut out).expect("nothing of it is too much");
    super::assert_packets(peer.version(), &out);
    assert_eq!(peer.held(), 0);
}

/// What the model may rely on.
fn check(peer: &mut Peer, taken: Taken) {
    let Taken::Session(packet) = taken else {
        return;
    };
    match packet {
        Inbound::Publish {
            message,
            packet_id,
            dup,
        } => {
            assert!(is_topic_name(message.topic()));
            assert_eq!(packet_id.is_some(), message.qos > QoS::AtMostOnce);
            assert!(!dup || packet_id.is_some());
            assert_eq!(message.publisher, SessionNumber(1));
            let delivery = Delivery {
                packet_id,
                qos: message.qos,
                dup,
                retain: message.retain,
                subscription_ids: SubscriptionIds::from_slice(&[1, 268_435_455]),
                paced: false,
                message,
            };
            // It goes out to a client of the same version as it came.
            peer.push(Outbound::Publish(delivery))
                .expect("there is room");
        }
        Inbound::Subscribe { packet_id, filters } => {
            assert!(!filters.is_empty());
            for (filter, options, _) in &filters {
                assert_eq!(Filter::new(filter.as_str()).as_ref(), Some(filter));
                assert!(options.id.is_none_or(|id| (1..=268_435_455).contains(&id)));
                assert!(!(filter.is_shared() && options.no_local));
            }
            let results = filters.iter().map(|(_, options, refused)| match refused {
                // 3.1 has no word for it.
                Some(refusal) if peer.version() != ProtocolVersion::V31 => Err(*refusal),
                _ => Ok(options.qos),
            });
            let results = results.collect();
            peer.push(Outbound::SubAck { packet_id, results })
                .expect("there is room");
        }
        Inbound::Unsubscribe { packet_id, filters } => {
            assert!(!filters.is_empty());
            let existed = vec![false; filters.len()];
            peer.push(Outbound::UnsubAck { packet_id, existed })
                .expect("there is room");
        }
        Inbound::PubRel { packet_id } => answer(peer, packet_id),
        _ => {}
    }
}

fn answer(peer: &mut Peer, packet_id: PacketId) {
    for known in [true, false] {
        peer.push(Outbound::PubComp { packet_id, known })
            .expect("there is room");
    }
}

/// The bytes are the first that a client sends.
pub(crate) fn connect(data: &[u8]) {
    match testing::open(data, NOW) {
        Ok(None) => {}
        Ok(Some((connect, mut peer, used))) => {
            assert!((2..=data.len()).contains(&used));
            assert!(!connect.client_id.as_str().is_empty());
            assert_ne!(connect.receive_max, 0);
            assert_eq!(connect.version, peer.version());
            if let Some(will) = &connect.will {
                assert!(is_topic_name(will.message.topic()));
            }
            // Cut short it is not whole; with more behind it, it is the same.
            assert!(matches!(testing::open(&data[..used - 1], NOW), Ok(None)));
            let packet = Outbound::ConnAck {
                session_present: !connect.clean_start,
                expiry_seconds: connect.expiry_seconds,
            };
            match peer.push(packet) {
                Ok(_) => {}
                // It takes no packet as large as its CONNACK.
                Err(refusal) => return assert_eq!(refusal, Refusal::PacketTooLarge),
            }
            let mut out = Vec::new();
            peer.drain(usize::MAX, &mut out).expect("there is room");
            assert_eq!(super::assert_packets(peer.version(), &out), 1);
        }
        Err(refused) => {
            assert_ne!(refused.refusal, Refusal::Internal);
            let version = match &*refused.answer {
                [] => return,
                [0x20, 2, ..] => ProtocolVersion::V311,
                _ => ProtocolVersion::V5,
            };
            assert_eq!(super::assert_packets(version, &refused.answer), 1);
        }
    }
}
