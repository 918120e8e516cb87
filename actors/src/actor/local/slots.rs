//! The slots of session and group actors: what waits for each, and the wake that tells it.

use std::sync::Arc;

use actix::Recipient;

use super::super::protocol::{SessionAddress, ToGroup, ToSession};
use super::Local;
use crate::model::effect::Live;
use crate::model::group::talk::Leased;
use crate::model::ids::SessionNumber;
use crate::model::lazy::{Lazy, Unused};
use crate::model::message::{Message, QoS};
use crate::model::packet::SubscriptionOptions;
use crate::model::record::Record;
use crate::model::routes::Slot;
use crate::model::topic::Filter;
use crate::observe::Gauge;

/// Whose a slot is.
#[derive(Debug)]
pub enum Occupant {
    /// A session's actor.
    Session(SessionAddress),
    /// A group's actor.
    Group(Recipient<ToGroup>),
}

impl Occupant {
    fn gauge(&self) -> Gauge {
        match self {
            Self::Session(_) => Gauge::SessionActors,
            Self::Group(_) => Gauge::GroupActors,
        }
    }
}

/// What waits for one actor.
#[derive(Debug)]
pub struct SlotState {
    /// The actor.
    occupant: Occupant,
    /// The session's number, for no-local.
    pub number: SessionNumber,
    /// Whether it has a connection.
    pub attached: bool,
    /// Attaches under way to it.
    pub attaching: u32,
    /// Its subscriptions, for the gauge.
    subscriptions: u32,
    /// Its replays of retained messages, for the gauge.
    replays: u32,
    /// What it reads while attached.
    pub(super) filters: Vec<Filter>,
    pub(super) waiting: Lazy<Waiting>,
    pub(super) last_ticket: u64,
    pub(super) woken: bool,
    /// The last publication that was put into `live` or will come from the journal, to find overlaps.
    pub(super) pass: u64,
    pub(super) pass_is_logged: bool,
}

/// What waits in a slot.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Publications from the routing pass.
    pub(super) live: Vec<Live>,
    /// Committed records.
    pub(super) records: Vec<Record>,
    /// What both count for among all that is in slots.
    pub(super) bytes: usize,
    /// What groups lease to the session.
    pub(super) leased: Vec<Leased>,
    /// Answers to its questions whether groups are routed to.
    pub(super) joined: Vec<u64>,
    /// Tickets that the journal refused.
    pub(super) failed: Vec<u64>,
}

impl Unused for Waiting {
    fn unused() -> &'static Self {
        static UNUSED: Waiting = Waiting {
            live: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            leased: Vec::new(),
            joined: Vec::new(),
            failed: Vec::new(),
        };
        &UNUSED
    }

    fn is_unused(&self) -> bool {
        self.is_taken() && self.failed.is_empty()
    }
}

impl Waiting {
    /// Whether the actor has nothing left to take.
    fn is_taken(&self) -> bool {
        self.live.is_empty()
            && self.records.is_empty()
            && self.leased.is_empty()
            && self.joined.is_empty()
    }
}

/// What an actor finds in its slot.
#[derive(Debug, Default)]
pub struct Woken {
    /// Publications from the routing pass.
    pub live: Vec<Live>,
    /// Committed records.
    pub records: Vec<Record>,
    /// What groups lease to the session.
    pub leased: Vec<Leased>,
    /// Answers to its questions whether groups are routed to.
    pub joined: Vec<u64>,
}

impl Local {
    /// Gives an actor a slot.
    pub fn occupy(&mut self, occupant: Occupant) -> Slot {
        self.cells.shift(occupant.gauge(), 1);
        let state = SlotState {
            occupant,
            number: SessionNumber(0),
            attached: false,
            attaching: 0,
            subscriptions: 0,
            replays: 0,
            filters: Vec::new(),
            waiting: Lazy::default(),
            last_ticket: 0,
            woken: false,
            pass: 0,
            pass_is_logged: false,
        };
        match self.vacant.pop() {
            Some(slot) => {
                self.slots[slot.0 as usize] = Some(state);
                slot
            }
            None => {
                let slot = Slot(
                    u32::try_from(self.slots.len()).expect("fewer than 2^32 actors fit in memory"),
                );
                if self.slots.len() == self.slots.capacity() {
                    // By an eighth, not by double: a slot is large, and most of the rest would stay empty.
                    self.slots.reserve_exact(64.max(self.slots.len() / 8));
                }
                self.slots.push(Some(state));
                slot
            }
        }
    }

    /// Says how many subscriptions the session of a slot has.
    pub fn count_subscriptions(&mut self, slot: Slot, subscriptions: usize) {
        let Some(state) = self.slot(slot) else { return };
        let subscriptions = u32::try_from(subscriptions).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut state.subscriptions, subscriptions);
        let more = i64::from(subscriptions) - i64::from(before);
        self.cells.shift(Gauge::Subscriptions, more);
    }

    /// Says how many replays of retained messages the session of a slot has under way.
    pub fn count_replays(&mut self, slot: Slot, replays: usize) {
        let Some(state) = self.slot(slot) else { return };
        let replays = u32::try_from(replays).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut state.replays, replays);
        let more = i64::from(replays) - i64::from(before);
        if more != 0 {
            self.cells.shift(Gauge::Replays, more);
        }
    }

    /// Frees a slot. Its readers must be gone.
    pub fn vacate(&mut self, slot: Slot) -> Option<SlotState> {
        self.count_subscriptions(slot, 0);
        self.count_replays(slot, 0);
        let mut state = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.vacant.push(slot);
        self.cells.shift(state.occupant.gauge(), -1);
        let late = state.waiting.take();
        self.taken(late.bytes);
        for leased in late.leased {
            self.return_leases(slot, state.number, leased);
        }
        Some(state)
    }

    /// A slot's state.
    pub fn slot(&mut self, slot: Slot) -> Option<&mut SlotState> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Slots that are in use.
    pub fn occupied(&self) -> impl Iterator<Item = &SlotState> {
        self.slots.iter().flatten()
    }

    /// Takes what waits for a session.
    pub fn take(&mut self, slot: Slot) -> Woken {
        let Some(state) = self.slot(slot) else {
            return Woken::default();
        };
        state.woken = false;
        let Some(waiting) = state.waiting.used() else {
            return Woken::default();
        };
        let woken = Woken {
            live: std::mem::take(&mut waiting.live),
            records: std::mem::take(&mut waiting.records),
            leased: std::mem::take(&mut waiting.leased),
            joined: std::mem::take(&mut waiting.joined),
        };
        let bytes = std::mem::take(&mut waiting.bytes);
        state.waiting.tidy();
        if bytes > 0 {
            self.taken(bytes);
        }
        woken
    }

    /// Whether everything that the session of this slot recorded is answered and nothing waits for it.
    pub fn is_quiet(&mut self, slot: Slot) -> bool {
        let answered = self.answered;
        let open = !self.entries.is_empty();
        self.slot(slot).is_some_and(|state| {
            !open
                && state.last_ticket <= answered
                && state.attaching == 0
                && state.waiting.is_taken()
        })
    }

    /// Whether nobody is attached and everything recorded is answered.
    pub fn is_drained(&self) -> bool {
        let attached = self
            .occupied()
            .any(|state| state.attached || state.attaching > 0);
        !attached && self.entries.is_empty() && self.waiting.is_empty()
    }
}

impl SlotState {
    /// The session's address, if it is a session.
    pub fn session(&self) -> Option<&SessionAddress> {
        match &self.occupant {
            Occupant::Session(session) => Some(session),
            Occupant::Group(_) => None,
        }
    }

    /// Tells something to a session's actor.
    pub fn tell(&self, told: ToSession) {
        if let Some(session) = self.session() {
            session.tell(told);
        }
    }

    /// Tells something to a group's actor.
    pub fn tell_group(&self, told: ToGroup) {
        if let Occupant::Group(group) = &self.occupant {
            group.do_send(told);
        }
    }

    pub(super) fn wake(&mut self) {
        if !std::mem::replace(&mut self.woken, true) {
            match &self.occupant {
                Occupant::Session(session) => session.tell(ToSession::Wake),
                Occupant::Group(group) => group.do_send(ToGroup::Wake),
            }
        }
    }

    /// One delivery per publication, at the highest QoS, with all identifiers; none if the journal will bring it. Gives by how
    /// many bytes more the slot holds then.
    pub(super) fn offer(
        &mut self,
        message: &Arc<Message>,
        options: &SubscriptionOptions,
        durable: bool,
        pass: u64,
    ) -> isize {
        let qos = message.qos.min(options.qos);
        let seen = self.pass == pass;
        if durable && qos > QoS::AtMostOnce {
            let mut less = 0;
            if seen
                && !self.pass_is_logged
                && let Some(live) = self.waiting.live.pop()
            {
                less = self.forget(&live);
            }
            self.pass = pass;
            self.pass_is_logged = true;
            return less;
        }
        if seen {
            if !self.pass_is_logged
                && let Some(live) = self.waiting.live.last_mut()
            {
                live.qos = live.qos.max(qos);
                live.retain |= options.retain_as_published && message.retain;
                let before = live_bytes(live);
                live.subscription_ids.extend(options.id);
                let more = live_bytes(live) - before;
                return self.hold(more);
            }
            return 0;
        }
        self.pass = pass;
        self.pass_is_logged = false;
        let live = Live {
            message: Arc::clone(message),
            qos,
            retain: options.retain_as_published && message.retain,
            subscription_ids: options.id.into_iter().collect(),
        };
        let bytes = live_bytes(&live);
        self.waiting.live.push(live);
        self.wake();
        self.hold(bytes)
    }

    /// A record comes once, however many filters match. Gives how many bytes more the slot holds then.
    pub(super) fn offer_record(&mut self, record: &Record, pass: u64) -> isize {
        if self.pass == pass {
            return 0;
        }
        self.pass = pass;
        self.waiting.records.push(record.clone());
        self.wake();
        self.hold(size_of::<Record>() + record.message.size_bytes())
    }

    fn hold(&mut self, bytes: usize) -> isize {
        self.waiting.bytes += bytes;
        isize::try_from(bytes).unwrap_or(isize::MAX)
    }

    fn forget(&mut self, live: &Live) -> isize {
        let bytes = live_bytes(live);
        self.waiting.bytes -= bytes;
        -isize::try_from(bytes).unwrap_or(isize::MAX)
    }
}

/// What a delivery counts for: the bytes that it becomes, and the place that it takes until then.
pub(super) fn live_bytes(live: &Live) -> usize {
    let ids = size_of_val(&*live.subscription_ids);
    size_of::<Live>() + live.message.size_bytes() + ids
}
