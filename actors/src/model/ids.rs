//! The names and numbers by which everything else refers to sessions, records and moments.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::tenant;

/// The client identifier of an MQTT session, 1 to 65,535 bytes of UTF-8 ([MQTT-3.1.3-5]), and its tenant if it has one.
///
/// Cheap to clone. Untrusted text: never a metric label, never a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The text by which the broker tells clients apart, those of all tenants.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant's name.
    pub fn tenant(&self) -> Option<&str> {
        tenant::split(&self.0).0
    }

    /// The text as the client sent it.
    pub fn own(&self) -> &str {
        tenant::split(&self.0).1
    }
}

impl From<&str> for ClientId {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl fmt::Display for ClientId {
    /// For people: `tenant:own`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant() {
            Some(tenant) => write!(f, "{tenant}:{}", self.own()),
            None => f.write_str(&self.0),
        }
    }
}

/// The authenticated identity that owns a session; the empty name is the anonymous principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The principal of a client that gave no credentials.
    pub fn anonymous() -> Self {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
        Self(Arc::clone(&NAME))
    }

    /// The name that the authenticator vouched for.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Principal {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

/// The listener on which a session began, as the configuration names it; empty if nobody said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener(Arc<str>);

impl Listener {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Listener {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

/// A session's number: unique for ever in one data directory, never reused after a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionNumber(pub u64);

/// A group's number: unique for ever in one data directory, so that what is left of a group that is gone does not touch
/// its successor of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupNumber(pub u64);

/// Grows on every attach of a session; what carries an old fence is ignored and counted.
///
/// The boot epoch is the upper half, so that a resume need not wait for a disk: after a restart every new fence
/// is larger than any that was handed out before.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Fence(pub u64);

impl Fence {
    /// The fence of the next attach in boot epoch `epoch`.
    pub fn next(self, epoch: u32) -> Self {
        let floor = u64::from(epoch) << 32;
        Self(self.0.max(floor) + 1)
    }
}

/// A record's place in the journal, fixed for ever. Offsets grow, with gaps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

impl Offset {
    /// Offsets of boot epoch `n` begin at `n << EPOCH_SHIFT`.
    pub const EPOCH_SHIFT: u32 = 40;

    /// Whether a boot epoch begins here.
    pub fn is_first_of_epoch(self) -> bool {
        self.0.trailing_zeros() >= Self::EPOCH_SHIFT
    }

    /// The smallest offset above this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// An MQTT packet identifier, 1 to 65,535 ([MQTT-2.2.1-3]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The smallest identifier.
    pub const FIRST: Self = Self(NonZeroU16::MIN);
    /// The largest identifier.
    pub const LAST: Self = Self(NonZeroU16::MAX);

    /// The identifier after this one; 1 follows 65,535.
    #[must_use]
    pub fn following(self) -> Self {
        self.0.checked_add(1).map_or(Self::FIRST, Self)
    }

    /// The identifier before this one; 65,535 precedes 1.
    #[must_use]
    pub fn preceding(self) -> Self {
        Self::new(self.get() - 1).unwrap_or(Self::LAST)
    }

    /// One of all, spread over them by `seed`: neighbours are far apart.
    pub fn any_of(seed: u64) -> Self {
        let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let number = u16::try_from(spread).unwrap_or(u16::MAX);
        Self::new(number).unwrap_or(Self::LAST)
    }

    /// `None` for zero, which is no packet identifier.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number on the wire.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// Wall-clock time in milliseconds since the Unix epoch; must mean the same after a restart.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment plus `seconds`, saturating.
    pub fn plus_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(u64::from(seconds) * 1000))
    }

    /// This moment plus `millis`, saturating.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment of one boot of the machine, which no setting of a clock changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTime {
    /// Which boot: a number that the system drew when it began.
    pub boot: u128,
    /// Milliseconds since it began, time in suspension included.
    pub millis: u64,
}

/// The broker's time and the machine's, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The broker's time.
    pub at: Timestamp,
    /// The machine's.
    pub boot: BootTime,
}

/// The moment at which a decision is taken: what the clock and the journal say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The broker's time (see `clock`).
    pub time: Timestamp,
    /// The offset that the next record appended to the journal cannot fall below: a reader that starts here
    /// sees only what is published from now on.
    pub log_end: Offset,
    /// The shard's live end: every committed record below it that concerns the shard was handed to its sessions.
    pub live_end: Offset,
}

/// A shard's index, 0 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

/// The most shards that one broker runs; a [`ShardSet`] is one machine word.
pub const SHARDS_MAX: u8 = 64;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Adds `shard`.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard.0;
    }

    /// Removes `shard`.
    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    /// The set in which `shard` is or is not.
    #[must_use]
    pub fn with(mut self, shard: ShardId, present: bool) -> Self {
        match present {
            true => self.insert(shard),
            false => self.remove(shard),
        }
        self
    }

    /// Whether `shard` is in the set.
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    /// Whether no shard is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The shards in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..SHARDS_MAX)
            .map(ShardId)
            .filter(move |shard| self.contains(*shard))
    }
}
