//! What a group decides: who gets what, what comes back, what is recorded. A group, members and a journal turned by hand.

mod deaths;
mod departures;
mod left;
mod memory;
mod rebuild;
mod script;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::snapshot::GroupSnapshot;
use super::talk::{FromMember, Lease, Online, Place, Said};
use super::*;
use crate::model::effect::Live;
use crate::model::entry::GroupChange;
use crate::model::ids::{Fence, GroupNumber, SessionNumber, ShardId, Timestamp};
use crate::model::message::MessageParts;
use crate::model::record::Page;
use crate::model::routes::Slot;

use script::Script;

/// Where the journal of every script starts.
const START: u64 = 100;

const PLACE: Place = Place {
    shard: ShardId(0),
    slot: Slot(0),
};

fn filter() -> Filter {
    Filter::new("$share/g/t/#").unwrap()
}

fn message(topic: &str, publisher: u64, qos: QoS) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic,
        payload: b"x",
        properties: b"",
        qos,
        retain: false,
        published_at: Timestamp(0),
        expires_at: None,
        publisher: SessionNumber(publisher),
    }))
}

/// A message that does not come by way of the journal.
fn live(qos: QoS) -> GroupInput {
    GroupInput::Live(Live {
        message: message("t/a", 1, qos),
        qos,
        retain: false,
        subscription_ids: Default::default(),
    })
}

fn online(member: u64, max: u16, qos: QoS, holds: Vec<Offset>) -> Online {
    Online {
        fence: Fence(member),
        max,
        qos,
        durable: false,
        by: Some(GroupNumber(1)),
        holds,
        taken: 0,
    }
}
