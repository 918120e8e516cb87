//! One behaviour per test: a [`Script`] drives one session through its inputs and reads its decisions as data.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for the effects it is about"
)]

mod acks;
mod inbound;
mod leases;
mod lifetime;
mod outbound;
mod pace;
mod past;
mod progress;
mod queue;
mod redelivery;
mod retained;
mod script;
mod subscribe;
mod will;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Input, Live};
use crate::model::effects::Effects;
use crate::model::entry::Change;
use crate::model::ids::{
    ClientId, Fence, Listener, Now, Offset, PacketId, Principal, SessionNumber, Timestamp,
};
use crate::model::limits::SessionLimits;
use crate::model::message::{Message, MessageParts, QoS, Will};
use crate::model::packet::{
    Connect, Delivery, Inbound, Outbound, ProtocolVersion, SubscriptionOptions,
};
use crate::model::record::{Page, Record, RetainedRecords};
use crate::model::retained::{Retained, RetainedAt};
use crate::model::snapshot::SessionSnapshot;
use crate::model::topic::Filter;

use QoS::{AtLeastOnce as QOS1, AtMostOnce as QOS0, ExactlyOnce as QOS2};
use script::Script;

/// When every script starts.
const START: Timestamp = Timestamp(1_000_000);
/// Where the journal of every script starts.
const JOURNAL_START: u64 = 100;

fn record((offset, message): (&Offset, &Arc<Message>)) -> Record {
    Record {
        offset: *offset,
        message: Arc::clone(message),
    }
}

/// One packet as one line: what a test says about it.
fn line(packet: &Outbound) -> String {
    match packet {
        Outbound::ConnAck {
            session_present,
            expiry_seconds,
        } => {
            let state = if *session_present { "resumed" } else { "new" };
            format!("connack {state} {expiry_seconds}")
        }
        Outbound::Publish(delivery) => publish_line(delivery),
        Outbound::PubAck { packet_id, result } => format!("puback {} {result:?}", packet_id.get()),
        Outbound::PubRec { packet_id, result } => format!("pubrec {} {result:?}", packet_id.get()),
        Outbound::PubRel { packet_id, known } => format!("pubrel {} {known}", packet_id.get()),
        Outbound::PubComp { packet_id, known } => format!("pubcomp {} {known}", packet_id.get()),
        Outbound::SubAck { results, .. } => {
            let levels = results.iter().map(|result| match result {
                Ok(qos) => qos.level().to_string(),
                Err(refusal) => format!("{refusal:?}"),
            });
            format!("suback {}", levels.collect::<Vec<_>>().join(" "))
        }
        Outbound::UnsubAck { existed, .. } => format!("unsuback {existed:?}"),
        Outbound::AwaitRoom => "await room".to_owned(),
        Outbound::Close(refusal) => format!("close {refusal:?}"),
    }
}

fn publish_line(delivery: &Delivery) -> String {
    let mut line = format!(
        "publish {} q{}",
        text(&delivery.message),
        delivery.qos.level()
    );
    if let Some(packet_id) = delivery.packet_id {
        line += &format!(" #{}", packet_id.get());
    }
    if delivery.dup {
        line += " dup";
    }
    if delivery.retain {
        line += " retain";
    }
    if !delivery.subscription_ids.is_empty() {
        line += &format!(" {:?}", delivery.subscription_ids.as_slice());
    }
    line
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

/// A QoS 1 publication of somebody else to topic `t`.
fn parts(payload: &str) -> MessageParts<'_> {
    MessageParts {
        topic: "t",
        payload: payload.as_bytes(),
        properties: b"",
        qos: QOS1,
        retain: false,
        published_at: START,
        expires_at: None,
        publisher: SessionNumber(1000),
    }
}

fn parts_of(payload: &str, qos: QoS) -> MessageParts<'_> {
    MessageParts {
        qos,
        ..parts(payload)
    }
}

fn parts_to<'a>(topic: &'a str, payload: &'a str) -> MessageParts<'a> {
    MessageParts {
        topic,
        ..parts(payload)
    }
}

fn will(payload: &str, delay_seconds: u32) -> Option<Box<Will>> {
    Some(Box::new(Will {
        message: Arc::new(Message::new(parts_to("will", payload))),
        delay_seconds,
        expiry_seconds: None,
    }))
}

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(parts: MessageParts<'_>, packet_id: u16) -> Inbound {
    Inbound::Publish {
        message: Arc::new(Message::new(parts)),
        packet_id: PacketId::new(packet_id),
        dup: false,
    }
}

fn puback(packet_id: u16) -> Inbound {
    Inbound::PubAck {
        packet_id: id(packet_id),
        failed: false,
    }
}

fn pubrec(packet_id: u16) -> Inbound {
    Inbound::PubRec {
        packet_id: id(packet_id),
        failed: false,
    }
}

fn pubrel(packet_id: u16) -> Inbound {
    Inbound::PubRel {
        packet_id: id(packet_id),
    }
}

fn pubcomp(packet_id: u16) -> Inbound {
    Inbound::PubComp {
        packet_id: id(packet_id),
    }
}
