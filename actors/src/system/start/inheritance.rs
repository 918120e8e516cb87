//! What a shard takes over: who survived, and whose time passed while the broker was down.

use crate::actor::local::Local;
use crate::actor::recovery::{ExpiredSession, GroupSummary, SessionSummary};
use crate::model::counter::Counter;
use crate::model::entry::{Entry, GroupChange};
use crate::model::ids::GroupNumber;

/// What survived, for one shard.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    pub(super) sessions: Vec<SessionSummary>,
    pub(super) groups: Vec<GroupSummary>,
    /// Groups whose last member did not survive.
    pub(super) over: Vec<GroupNumber>,
    pub(super) expired: Vec<ExpiredSession>,
}

/// Gives those whose time passed their will and their end.
pub(super) fn bequeath(local: &mut Local, expired: Vec<ExpiredSession>) {
    for expired in expired {
        let record = expired.record();
        if let Some(will) = expired.will {
            let will = will.due(local.now().time, expired.number);
            local.publish(&will, None);
            local.count(Counter::WillPublished);
        }
        local.append(record);
        local.count(Counter::SessionExpired);
    }
}

/// Takes over what survived: sessions get their unit of the quota, their routes and their deadline, but no actor.
pub(super) fn inherit(local: &mut Local, inheritance: Inheritance) {
    for summary in inheritance.sessions {
        local.inherit(summary);
    }
    for number in inheritance.over {
        local.append(Entry::group(number, GroupChange::Ended));
    }
    for group in inheritance.groups {
        local.inherit_group(group);
    }
    local.flush_unanswered();
}
