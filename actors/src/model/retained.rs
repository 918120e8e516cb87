//! Which topics have a retained message, and where in the journal it lies.
//!
//! Owns: topic -> offset, in the byte order of topics, when one expires, what all of it takes and what each tenant's does,
//! and whether there is room for more. Does not know: the messages themselves; an offset named here pins its record in the
//! journal.
//!
//! Invariant: what leaves the table otherwise than by the journal is [gone](Retained::take_gone) until whoever writes the
//! table down took note of it.

mod page;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use self::page::RetainedPage;
use super::ids::{Offset, Timestamp};
use super::limits::{PerTenant, TenantLimits};
use super::message::Message;
use super::refusal::Refusal;
use super::tally::{Amount, Reached, Tally};

/// A retained message: where it lies, and what must be known of it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedAt {
    /// Its record.
    pub offset: Offset,
    /// Bytes of topic, properties and payload.
    pub bytes: u32,
    /// When it expires; `None` never.
    pub expires_at: Option<Timestamp>,
}

impl RetainedAt {
    /// What a record sets its topic to: `None` clears it.
    pub fn of(offset: Offset, message: &Message) -> Option<Self> {
        (!message.payload().is_empty()).then(|| Self {
            offset,
            bytes: size(message),
            expires_at: message.expires_at,
        })
    }
}

fn size(message: &Message) -> u32 {
    u32::try_from(message.size_bytes()).unwrap_or(u32::MAX)
}

/// Expired messages that make room for one that comes, at a time.
const EXPIRED_AT_ONCE: usize = 1_000;

/// A topic, and where its message lay that is retained no longer.
pub type Gone = (Box<str>, Offset);

/// The retained messages of all topics.
#[derive(Default)]
pub struct Retained {
    topics: BTreeMap<Box<str>, RetainedAt>,
    /// Those that expire, by when; the others cost nothing here.
    expiries: BTreeMap<(Timestamp, Offset), Box<str>>,
    /// What left otherwise than by the journal, oldest first.
    gone: VecDeque<Gone>,
    tally: Tally,
    expired: u64,
    lost: u64,
    limit: Amount,
    tenants: Arc<PerTenant<TenantLimits>>,
}

impl Retained {
    /// No retained messages, and no limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on there may be so many and so large ones in all; the configuration's section `retained`. What is retained
    /// stays.
    pub fn limit(&mut self, limit: Amount) {
        self.limit = limit;
    }

    /// From now on tenants may have so much. What is retained stays.
    pub fn limit_tenants(&mut self, tenants: Arc<PerTenant<TenantLimits>>) {
        self.tenants = tenants;
    }

    /// How many topics have a retained message.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic has a retained message.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many there are, and the bytes of their topics, properties and payloads, in all and of each tenant. The name of a
    /// tenant is part of its topics.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many messages expired while they were retained.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// How many were lost because their records were.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Where the retained message of `topic` lies.
    pub fn get(&self, topic: &str) -> Option<Offset> {
        self.topics.get(topic).map(|at| at.offset)
    }

    /// Sets the retained message of `topic`.
    pub fn set(&mut self, topic: &str, at: RetainedAt) {
        // A topic that is known keeps its key.
        let before = match self.topics.get_mut(topic) {
            Some(known) => Some(std::mem::replace(known, at)),
            None => self.topics.insert(Box::from(topic), at),
        };
        self.count(topic, before, Some(at));
    }

    /// Drops the retained message of `topic`.
    pub fn clear(&mut self, topic: &str) {
        let before = self.topics.remove(topic);
        self.count(topic, before, None);
    }

    fn count(&mut self, topic: &str, before: Option<RetainedAt>, after: Option<RetainedAt>) {
        let bytes = |at: Option<RetainedAt>| at.map(|at| at.bytes.into());
        self.tally.replace(topic, bytes(before), bytes(after));
        let expiry = |at: RetainedAt| Some((at.expires_at?, at.offset));
        if let Some(known) = before.and_then(expiry) {
            self.expiries.remove(&known);
        }
        if let Some(new) = after.and_then(expiry) {
            self.expiries.insert(new, Box::from(topic));
        }
    }

    /// Drops messages that expired by `now`, `max` at most, the oldest first; gives how many.
    pub fn expire(&mut self, now: Timestamp, max: usize) -> usize {
        for expired in 0..max {
            let Some(first) = self.expiries.first_entry() else {
                return expired;
            };
            let (at, offset) = *first.key();
            if at > now {
                return expired;
            }
            let topic = first.remove();
            self.clear(&topic);
            self.expired += 1;
            self.gone.push_back((topic, offset));
        }
        max
    }

    /// Which messages lie in none of these `parts` of the journal, which ascend. Looks at all topics.
    pub fn outside(&self, parts: &[Range<Offset>]) -> Vec<Gone> {
        let is_there = |offset: Offset| {
            let behind = parts.partition_point(|part| part.start <= offset);
            behind > 0 && offset < parts[behind - 1].end
        };
        let lost = self.iter().filter(|(_, offset)| !is_there(*offset));
        lost.map(|(topic, offset)| (topic.into(), offset)).collect()
    }

    /// Drops messages whose records are gone, if they are still the retained ones.
    pub fn lose(&mut self, lost: Vec<Gone>) {
        for (topic, offset) in lost {
            if self.get(&topic) == Some(offset) {
                self.clear(&topic);
                self.lost += 1;
                self.gone.push_back((topic, offset));
            }
        }
    }

    /// What left the table otherwise than by the journal since this was last asked, `max` at most, the oldest first.
    pub fn take_gone(&mut self, max: usize) -> Vec<Gone> {
        let count = self.gone.len().min(max);
        self.gone.drain(..count).collect()
    }

    /// Whether the message may be retained. What is under way to the journal does not count yet. At a limit a message
    /// may take the place of another one, in bytes if it is not larger.
    ///
    /// # Errors
    /// Which limit is reached: that of the tenant ([`Refusal::TenantRetainedQuota`]), or that of all.
    pub fn room_for(&self, message: &Message) -> Result<(), Refusal> {
        let topic = message.topic();
        let before = self.topics.get(topic).map(|at| at.bytes.into());
        let after = size(message).into();
        let of_tenant = |tenant: &str| self.tenants.of(tenant).retained;
        let room = (self.tally).room(topic, before, after, self.limit, of_tenant);
        room.map_err(|reached| match reached {
            Reached::Tenant => Refusal::TenantRetainedQuota,
            Reached::Total => Refusal::RetainedQuota,
        })
    }

    /// As [`Retained::room_for`], where what expired by `now` takes no room.
    ///
    /// # Errors
    /// As there.
    pub fn make_room_for(&mut self, message: &Message, now: Timestamp) -> Result<(), Refusal> {
        loop {
            let room = self.room_for(message);
            if room.is_ok() || self.expire(now, EXPIRED_AT_ONCE) == 0 {
                return room;
            }
        }
    }

    /// All topics in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Offset)> {
        self.topics.iter().map(|(topic, at)| (&**topic, at.offset))
    }
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained")
            .field("topics", &self.len())
            .field("bytes", &self.tally.all().bytes)
            .finish_non_exhaustive()
    }
}
