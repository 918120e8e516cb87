//! The members of a group that are online, and whose turn it is.
//!
//! Owns: places in the members' windows, as far as this group fills them, and the strategy. Does not know: records,
//! leases, sessions that are offline.

use crate::model::ids::{Fence, SessionNumber};
use crate::model::message::{Message, QoS};

use super::talk::{Online, Place};

/// How a group chooses the member that gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any, with the same chance.
    Random,
    /// Who has the fewest leases unsettled.
    LeastInflight,
    /// The same one, as long as it can.
    Sticky,
    /// The same one for the same publisher.
    HashPublisher,
    /// The same one for the same topic.
    HashTopic,
}

impl Strategy {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("round-robin", Self::RoundRobin),
        ("random", Self::Random),
        ("least-inflight", Self::LeastInflight),
        ("sticky", Self::Sticky),
        ("hash-publisher", Self::HashPublisher),
        ("hash-topic", Self::HashTopic),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(_, strategy)| *strategy == self);
        known.map_or("", |(name, _)| name)
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, strategy)| *strategy)
    }
}

/// A member that is online.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) number: SessionNumber,
    pub(super) fence: Fence,
    pub(super) place: Place,
    pub(super) qos: QoS,
    durable: bool,
    max: u16,
    /// Places in its window that this group's records take.
    out: u16,
    /// The most places that it may take: less than `max` while others fill the window.
    room: u16,
}

impl Member {
    fn is_ready(&self) -> bool {
        self.out < self.room
    }

    /// Whether it may have a message that is in memory only. A durable session keeps the identifier of what it began with
    /// QoS 2 until the client released it, also across a restart: it needs a record for that.
    fn may_have(&self, in_memory: bool) -> bool {
        !(in_memory && self.durable)
    }
}

/// Those who are online.
#[derive(Clone, Debug)]
pub(super) struct Members {
    strategy: Strategy,
    /// By number.
    online: Vec<Member>,
    /// How many of them have room.
    ready: usize,
    /// Whose turn it is.
    turn: usize,
    favourite: Option<SessionNumber>,
    random: u64,
}

impl Members {
    /// Nobody yet.
    pub(super) fn new(strategy: Strategy, seed: u64) -> Self {
        Self {
            strategy,
            online: Vec::new(),
            ready: 0,
            turn: 0,
            favourite: None,
            random: seed | 1,
        }
    }

    pub(super) fn set_strategy(&mut self, strategy: Strategy) {
        self.strategy = strategy;
    }

    pub(super) fn len(&self) -> usize {
        self.online.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.online.is_empty()
    }

    /// Whether somebody has room.
    pub(super) fn has_room(&self) -> bool {
        self.ready > 0
    }

    /// Whether somebody has room for a message that is in memory only.
    pub(super) fn has_room_in_memory(&self) -> bool {
        let mut online = self.online.iter();
        online.any(|member| member.is_ready() && member.may_have(true))
    }

    /// Whether somebody may have a message that is in memory only, with room or not.
    pub(super) fn take_memory(&self) -> bool {
        self.online.iter().any(|member| member.may_have(true))
    }

    /// Somebody came, or came again.
    pub(super) fn join(&mut self, number: SessionNumber, place: Place, online: &Online) {
        let member = Member {
            number,
            fence: online.fence,
            place,
            qos: online.qos,
            durable: online.durable,
            max: online.max,
            out: u16::try_from(online.holds.len())
                .unwrap_or(u16::MAX)
                .saturating_add(online.taken),
            room: online.max,
        };
        match self.position(number) {
            Ok(at) => self.online[at] = member,
            Err(at) => self.online.insert(at, member),
        }
        self.count();
    }

    /// Somebody left.
    pub(super) fn leave(&mut self, number: SessionNumber) {
        if let Ok(at) = self.position(number) {
            self.online.remove(at);
            if at < self.turn {
                self.turn -= 1;
            }
            self.count();
        }
    }

    /// The one with this number, if this is still its fence.
    pub(super) fn get(&self, number: SessionNumber, fence: Fence) -> Option<&Member> {
        let at = self.position(number).ok()?;
        self.online.get(at).filter(|member| member.fence == fence)
    }

    /// A place in a member's window is free again.
    pub(super) fn freed(&mut self, number: SessionNumber, fence: Fence) {
        self.change(number, fence, |member| {
            // One that was full of others' records is tried again, one place at a time: nobody says that they are gone.
            let tries = member.room < member.max && member.room <= member.out;
            member.room += u16::from(tries);
            member.out = member.out.saturating_sub(1);
        });
    }

    /// A member's window is full, though not of this group's records.
    pub(super) fn full(&mut self, number: SessionNumber, fence: Fence) {
        self.change(number, fence, |member| member.room = member.out);
    }

    /// There is room for so many more.
    pub(super) fn room(&mut self, number: SessionNumber, fence: Fence, room: u16) {
        self.change(number, fence, |member| {
            member.room = member.out.saturating_add(room).min(member.max);
        });
    }

    /// Chooses who gets `message`, which may be in memory only, and takes a place in its window.
    pub(super) fn choose(&mut self, message: &Message, in_memory: bool) -> Option<Member> {
        if self.ready == 0 {
            return None;
        }
        let start = self.start(message);
        let fits = |member: &Member| member.is_ready() && member.may_have(in_memory);
        let at = self.first_from(start, fits)?;
        let at = match self.strategy {
            Strategy::LeastInflight => self.least_from(at, fits),
            Strategy::RoundRobin
            | Strategy::Random
            | Strategy::Sticky
            | Strategy::HashPublisher
            | Strategy::HashTopic => at,
        };
        self.chosen(at);
        let member = &mut self.online[at];
        member.out += 1;
        if !member.is_ready() {
            self.ready -= 1;
        }
        Some(*member)
    }

    /// Chooses who gets a message that takes no place.
    pub(super) fn choose_for_once(&mut self, message: &Message) -> Option<Member> {
        let start = self.start(message);
        let ready = self.first_from(start, Member::is_ready);
        let at = ready.or_else(|| self.first_from(start, |_| true))?;
        self.chosen(at);
        Some(self.online[at])
    }

    /// Where to begin to look.
    fn start(&mut self, message: &Message) -> usize {
        let count = self.online.len().max(1);
        match self.strategy {
            Strategy::RoundRobin | Strategy::LeastInflight => self.turn % count,
            Strategy::Random => remainder(self.draw(), count),
            Strategy::Sticky => self
                .favourite
                .and_then(|number| self.position(number).ok())
                .unwrap_or(self.turn % count),
            Strategy::HashPublisher => remainder(hash(&message.publisher.0.to_le_bytes()), count),
            Strategy::HashTopic => remainder(hash(message.topic_bytes()), count),
        }
    }

    fn chosen(&mut self, at: usize) {
        self.turn = at + 1;
        if self.strategy == Strategy::Sticky {
            self.favourite = Some(self.online[at].number);
        }
    }

    fn first_from(&self, start: usize, fits: impl Fn(&Member) -> bool) -> Option<usize> {
        let count = self.online.len();
        (0..count)
            .map(|step| (start + step) % count)
            .find(|at| fits(&self.online[*at]))
    }

    fn least_from(&self, start: usize, fits: impl Fn(&Member) -> bool) -> usize {
        let count = self.online.len();
        let order = (0..count).map(|step| (start + step) % count);
        let ready = order.filter(|at| fits(&self.online[*at]));
        ready.min_by_key(|at| self.online[*at].out).unwrap_or(start)
    }

    fn change(&mut self, number: SessionNumber, fence: Fence, change: impl FnOnce(&mut Member)) {
        let Ok(at) = self.position(number) else {
            return;
        };
        let member = &mut self.online[at];
        if member.fence != fence {
            return;
        }
        let before = member.is_ready();
        change(member);
        match (before, member.is_ready()) {
            (false, true) => self.ready += 1,
            (true, false) => self.ready -= 1,
            (true, true) | (false, false) => {}
        }
    }

    fn count(&mut self) {
        self.ready = self
            .online
            .iter()
            .filter(|member| member.is_ready())
            .count();
    }

    fn position(&self, number: SessionNumber) -> Result<usize, usize> {
        self.online
            .binary_search_by_key(&number, |member| member.number)
    }

    /// Xorshift, from the seed.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// FNV-1a with a finish that spreads the low bits: the same in every build, since a group keeps its mapping across restarts.
fn hash(bytes: &[u8]) -> u64 {
    let mixed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

fn remainder(value: u64, count: usize) -> usize {
    usize::try_from(value % count as u64).unwrap_or(0)
}
