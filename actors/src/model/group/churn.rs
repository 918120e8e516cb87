//! How often groups change: the subscribes and unsubscribes of each name within a second, also while a group comes and goes
//! with its only member.

use std::collections::{BTreeMap, VecDeque};

use crate::model::ids::Timestamp;

/// Milliseconds over which changes are counted together.
pub(super) const WINDOW_MILLIS: u64 = 1000;

/// Changes by name. A window begins with a subscribe.
#[derive(Debug, Default)]
pub(super) struct Churn {
    changes: BTreeMap<Box<str>, u32>,
    /// When the window of each of these names began.
    windows: VecDeque<(Timestamp, Box<str>)>,
}

impl Churn {
    /// Changes of `name` in its window.
    pub(super) fn of(&mut self, name: &str, now: Timestamp) -> u32 {
        while let Some((since, _)) = self.windows.front()
            && (now.millis_since(*since) >= WINDOW_MILLIS || now < *since)
            && let Some((_, over)) = self.windows.pop_front()
        {
            self.changes.remove(&over);
        }
        self.changes.get(name).copied().unwrap_or_default()
    }

    /// A session subscribed.
    pub(super) fn joined(&mut self, name: &str, now: Timestamp) {
        if let Some(changes) = self.changes.get_mut(name) {
            *changes = changes.saturating_add(1);
        } else {
            self.changes.insert(name.into(), 1);
            self.windows.push_back((now, name.into()));
        }
    }

    /// A session unsubscribed.
    pub(super) fn left(&mut self, name: &str) {
        if let Some(changes) = self.changes.get_mut(name) {
            *changes = changes.saturating_add(1);
        }
    }
}
