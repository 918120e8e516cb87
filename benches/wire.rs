//! What it costs to write a delivery into a connection's outbox, for what 5.0 adds to 3.1.1.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use outlive::mqtt::testing::{Peer, open};
use outlive_actors::model::ids::{PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{Delivery, Outbound};

/// Deliveries per sample: far below the outbox's high mark.
const DELIVERIES: u16 = 100;
const NOW: Timestamp = Timestamp(1_000_000);

fn main() {
    divan::main();
}

/// What a delivery carries, and what its client stated.
#[derive(Clone, Copy)]
enum Variant {
    V311,
    V5,
    Properties,
    Identifiers,
    Aliased,
    All,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
            Self::Properties => "5.0, properties and expiry",
            Self::Identifiers => "5.0, two identifiers",
            Self::Aliased => "5.0, alias",
            Self::All => "5.0, all of it",
        })
    }
}

impl Variant {
    fn peer(self) -> Box<Peer> {
        let connect: &[u8] = match self {
            Self::V311 => b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c",
            Self::V5 | Self::Properties | Self::Identifiers => {
                b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c"
            }
            // Topic alias maximum 8.
            Self::Aliased | Self::All => {
                b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x03\x22\x00\x08\x00\x01c"
            }
        };
        let opened = open(connect, NOW).expect("a good CONNECT");
        opened.expect("a whole CONNECT").1
    }

    fn delivery(self) -> Delivery {
        let rich = matches!(self, Self::Properties | Self::All);
        let ids: &[u32] = match self {
            Self::Identifiers | Self::All => &[1, 300],
            Self::V311 | Self::V5 | Self::Properties | Self::Aliased => &[],
        };
        Delivery {
            message: Arc::new(Message::new(MessageParts {
                topic: "site/17/device/4711/state",
                payload: &[0; 64],
                properties: if rich {
                    b"\x03\x00\x09text/json\x26\x00\x03key\x00\x05value"
                } else {
                    b""
                },
                qos: QoS::AtLeastOnce,
                retain: false,
                published_at: NOW,
                expires_at: rich.then(|| NOW.plus_seconds(60)),
                publisher: SessionNumber(1),
            })),
            packet_id: Some(PacketId::FIRST),
            qos: QoS::AtLeastOnce,
            dup: false,
            retain: false,
            subscription_ids: ids.iter().copied().collect(),
            paced: false,
        }
    }
}

const VARIANTS: [Variant; 6] = [
    Variant::V311,
    Variant::V5,
    Variant::Properties,
    Variant::Identifiers,
    Variant::Aliased,
    Variant::All,
];

#[divan::bench(args = VARIANTS)]
fn write_deliveries(bencher: Bencher<'_, '_>, variant: Variant) {
    let delivery = variant.delivery();
    let mut peer = variant.peer();
    let mut out = Vec::with_capacity(64 * 1024);
    bencher
        .counter(ItemsCount::new(DELIVERIES))
        .bench_local(|| {
            for _ in 0..DELIVERIES {
                let packet = Outbound::Publish(delivery.clone());
                black_box(peer.push(packet)).expect("it is written");
            }
            out.clear();
            peer.drain(usize::MAX, &mut out).expect("it is drained");
            black_box(&out);
        });
}
