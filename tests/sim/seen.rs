//! What the seeds must bring about, all together: a step that never happens finds nothing.

use std::collections::BTreeMap;

use crate::world::World;

/// Something that must happen in some runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// A client got a message by a subscription of its own.
    Received,
    /// It got one again.
    Redelivered,
    /// A newcomer found no unit.
    NewcomerRefused,
    /// A group leased a record, and leased one that somebody had before.
    Leased,
    LeasedAgain,
    /// A client got what a group leased.
    LeaseReceived,
    /// A client refused a delivery, by PUBACK or PUBREC.
    Refused,
    /// It refused a lease, of QoS 1 or 2.
    LeaseRefused,
    BegunLeaseRefused,
    /// It acknowledged one with the wrong packet.
    Confused,
    /// Two actors died before anybody was buried, or one and the process.
    GroupAndMemberDied,
    TwoMembersDied,
    GroupDiedBeforeCrash,
    MemberDiedBeforeCrash,
    /// A join was refused: a group, a filter, a member, or a change too many.
    GroupRefused,
    FilterRefused,
    MemberRefused,
    ChangeRefused,
    /// A record waits for a declared group that has no members; one of those is not declared any more.
    RecordWaitsForMembers,
    GroupTakenBack,
    /// Actors died too often; an operator ended such a session, or another one.
    SessionQuarantined,
    GroupQuarantined,
    QuarantineLifted,
    Discarded,
    /// A takeover had to wait, and waited in vain, since another one came.
    TakeoverDelayed,
    TakeoverRefused,
    /// A session ended to make room for a newcomer.
    Evicted,
    /// A SUBSCRIBE waited until its group was routed to.
    SubscribeWaited,
    /// A group that was routed to became durable; something came to it from memory meanwhile; its actor or the process died
    /// before it was.
    Switched,
    RoutedDuringSwitch,
    DiedDuringSwitch,
    CrashedDuringSwitch,
    /// A group had an attempt twice, as ADR 8 allows.
    LeasedTwice,
    /// A quarantined session expired.
    QuarantineExpired,
}

impl Seen {
    pub(crate) const ALL: [Self; 34] = [
        Self::Received,
        Self::Redelivered,
        Self::NewcomerRefused,
        Self::Leased,
        Self::LeasedAgain,
        Self::LeaseReceived,
        Self::Refused,
        Self::LeaseRefused,
        Self::BegunLeaseRefused,
        Self::Confused,
        Self::GroupAndMemberDied,
        Self::TwoMembersDied,
        Self::GroupDiedBeforeCrash,
        Self::MemberDiedBeforeCrash,
        Self::GroupRefused,
        Self::FilterRefused,
        Self::MemberRefused,
        Self::ChangeRefused,
        Self::RecordWaitsForMembers,
        Self::GroupTakenBack,
        Self::SessionQuarantined,
        Self::GroupQuarantined,
        Self::QuarantineLifted,
        Self::Discarded,
        Self::TakeoverDelayed,
        Self::TakeoverRefused,
        Self::Evicted,
        Self::SubscribeWaited,
        Self::Switched,
        Self::RoutedDuringSwitch,
        Self::DiedDuringSwitch,
        Self::CrashedDuringSwitch,
        Self::LeasedTwice,
        Self::QuarantineExpired,
    ];
}

/// How often each happened.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<Seen, u64>);

impl Tally {
    pub(crate) fn saw(&mut self, what: Seen) {
        debug_assert!(Seen::ALL.contains(&what), "{what:?} is not asked for");
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, run: &Self) {
        for (what, times) in &run.0 {
            *self.0.entry(*what).or_default() += times;
        }
    }

    pub(crate) fn of(&self, what: Seen) -> u64 {
        self.0.get(&what).copied().unwrap_or_default()
    }
}

impl World {
    pub(crate) fn saw(&mut self, what: Seen) {
        self.oracle.tally.saw(what);
    }
}
