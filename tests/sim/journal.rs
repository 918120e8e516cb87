//! The journal's double: what was submitted, what is committed, and what a crash leaves of it.
//!
//! Invariant: only committed entries are read, folded or survive; submissions are committed in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use outlive_actors::model::entry::{Change, Entry, GroupChange};
use outlive_actors::model::group::snapshot::GroupSnapshot;
use outlive_actors::model::ids::{ClientId, GroupNumber, Offset, SessionNumber, Stamp, Timestamp};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::record::{Page, Record, RetainedRecords};
use outlive_actors::model::snapshot::SessionSnapshot;
use outlive_actors::model::topic::Filter;

use crate::groups::Key;
use crate::rng::Rng;
use crate::world::LookUp;

/// Entries that one turn of a session left for the journal.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) ticket: u64,
    /// The client whose session submitted.
    pub(crate) owner: usize,
    pub(crate) entries: Vec<Entry>,
}

impl Submission {
    /// Whether it holds publications only: then the journal may refuse it.
    pub(crate) fn is_refusable(&self) -> bool {
        let mut entries = self.entries.iter();
        !self.entries.is_empty() && entries.all(|entry| matches!(entry, Entry::Message { .. }))
    }
}

type Snapshots = BTreeMap<SessionNumber, SessionSnapshot>;
type GroupSnapshots = BTreeMap<GroupNumber, GroupSnapshot>;

/// The journal and the fold of its committed entries.
pub(crate) struct Journal {
    committed: BTreeMap<Offset, Entry>,
    pub(crate) pending: VecDeque<Submission>,
    next_ticket: u64,
    pub(crate) end: Offset,
    pub(crate) folded: Snapshots,
    pub(crate) groups: GroupSnapshots,
    /// Records of groups whose delivery with QoS 2 is durably begun since this was looked at, and by whom, if it is known.
    pub(crate) begun: Vec<(Key, Option<SessionNumber>)>,
    retained: BTreeMap<String, Offset>,
    pub(crate) alive_at: Timestamp,
    /// The last stamp.
    pub(crate) stamp: Option<Stamp>,
    checkpoint: (Offset, Snapshots, GroupSnapshots),
}

/// How far apart the offsets of two starts are at least.
const EPOCH_GAP: u64 = 1000;

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            committed: BTreeMap::new(),
            pending: VecDeque::new(),
            next_ticket: 1,
            end: Offset(1),
            folded: BTreeMap::new(),
            groups: BTreeMap::new(),
            begun: Vec::new(),
            retained: BTreeMap::new(),
            alive_at: Timestamp(0),
            stamp: None,
            checkpoint: (Offset(0), BTreeMap::new(), BTreeMap::new()),
        }
    }

    /// The ticket that the next submission gets.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    pub(crate) fn submit(&mut self, owner: usize, entries: Vec<Entry>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.pending.push_back(Submission {
            ticket,
            owner,
            entries,
        });
    }

    pub(crate) fn is_open(&self, ticket: u64) -> bool {
        ticket >= self.next_ticket || self.pending.iter().any(|open| open.ticket == ticket)
    }

    pub(crate) fn owes(&self, owner: usize) -> bool {
        self.pending.iter().any(|open| open.owner == owner)
    }

    /// Commits the first `count` submissions together; gives the messages among them.
    pub(crate) fn commit(&mut self, count: usize, rng: &mut Rng) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..count {
            let Some(submission) = self.pending.pop_front() else {
                break;
            };
            for entry in submission.entries {
                records.extend(self.append(entry));
            }
        }
        self.end = Offset(self.end.0 + rng.between(0, 2));
        records
    }

    /// Makes one entry durable at the end.
    pub(crate) fn append(&mut self, entry: Entry) -> Option<Record> {
        let at = self.end;
        self.end = at.next();
        fold(&mut self.folded, at, &entry);
        fold_group(&mut self.groups, at, &entry);
        self.begun.extend(begins(&entry));
        let record = match &entry {
            Entry::Message { message, .. } => {
                if message.retain {
                    let topic = message.topic().to_owned();
                    if message.payload().is_empty() {
                        self.retained.remove(&topic);
                    } else {
                        self.retained.insert(topic, at);
                    }
                }
                Some(Record {
                    offset: at,
                    message: Arc::clone(message),
                })
            }
            Entry::Liveness { at, boot } => {
                self.alive_at = *at;
                self.stamp = boot.map(|boot| Stamp { at: *at, boot });
                None
            }
            Entry::Session { .. } | Entry::Group { .. } | Entry::HighWater(_) => None,
        };
        self.committed.insert(at, entry);
        record
    }

    pub(crate) fn checkpoint(&mut self) {
        self.checkpoint = (self.end, self.folded.clone(), self.groups.clone());
    }

    /// The process dies: of what was not committed some first entries may have reached the disk all the same. The
    /// checkpoint and the replay of the tail, begun too early, must give the fold.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> Vec<Record> {
        let mut torn: Vec<Entry> = self
            .pending
            .drain(..)
            .flat_map(|submission| submission.entries)
            .collect();
        let kept = if torn.is_empty() || rng.permille(500) {
            0
        } else {
            rng.index(torn.len() + 1)
        };
        torn.truncate(kept);
        let records = torn
            .into_iter()
            .filter_map(|entry| self.append(entry))
            .collect();
        let (covers, snapshots, groups) = &self.checkpoint;
        let mut replayed = snapshots.clone();
        let mut replayed_groups = groups.clone();
        let from = Offset(covers.0.saturating_sub(rng.between(0, 30)));
        for (at, entry) in self.committed.range(from..) {
            fold(&mut replayed, *at, entry);
            fold_group(&mut replayed_groups, *at, entry);
        }
        assert_eq!(
            replayed, self.folded,
            "checkpoint at {covers:?} and the tail from {from:?} are not the fold"
        );
        assert_eq!(
            replayed_groups, self.groups,
            "checkpoint of groups at {covers:?} and the tail from {from:?} are not the fold"
        );
        self.end = Offset(self.end.0 + EPOCH_GAP);
        records
    }

    pub(crate) fn snapshot_of(&self, client_id: &ClientId) -> Option<&SessionSnapshot> {
        let mut found = self
            .folded
            .values()
            .filter(|snapshot| snapshot.client_id == *client_id);
        let first = found.next();
        assert!(found.next().is_none(), "{client_id} has two sessions");
        first
    }

    /// Messages at or after `from` that one of the filters counts.
    pub(crate) fn read(&self, filters: &[(Filter, Offset)], from: Offset, max: u32) -> Page {
        let mut records = Vec::new();
        for (at, entry) in self.committed.range(from..) {
            let Entry::Message { message, .. } = entry else {
                continue;
            };
            let wanted = message.qos > QoS::AtMostOnce
                && filters
                    .iter()
                    .any(|(filter, from)| at >= from && filter.matches(message.topic()));
            if wanted {
                records.push(Record {
                    offset: *at,
                    message: Arc::clone(message),
                });
                if records.len() == max as usize {
                    let next = at.next();
                    return Page {
                        records,
                        next,
                        end: self.end,
                        holes: 0,
                    };
                }
            }
        }
        Page {
            records,
            next: self.end,
            end: self.end,
            holes: 0,
        }
    }

    pub(crate) fn read_at(&self, offsets: &[Offset]) -> Vec<Option<Record>> {
        let record = |offset: &Offset| match self.committed.get(offset) {
            Some(Entry::Message { message, .. }) => Some(Record {
                offset: *offset,
                message: Arc::clone(message),
            }),
            Some(
                Entry::Session { .. }
                | Entry::Group { .. }
                | Entry::Liveness { .. }
                | Entry::HighWater(_),
            )
            | None => None,
        };
        offsets.iter().map(record).collect()
    }

    /// A page of retained messages.
    pub(crate) fn retained(&self, look_up: &LookUp) -> RetainedRecords {
        let after = |topic: &str| look_up.after.as_deref().is_none_or(|after| topic > after);
        let mut found = self
            .retained
            .iter()
            .filter(|(topic, _)| after(topic) && look_up.filter.matches(topic));
        let page: Vec<_> = found.by_ref().take(look_up.records_max).collect();
        let more = found.next().is_some();
        let last = page.last().map(|(topic, _)| topic.as_str().into());
        let offsets: Vec<_> = page.iter().map(|(_, offset)| **offset).collect();
        RetainedRecords {
            asked_at: look_up.asked_at,
            records: self.read_at(&offsets),
            resume: last.filter(|_| more),
        }
    }

    /// What is retained at last.
    pub(crate) fn retained_messages(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.retained
            .values()
            .filter_map(|at| match self.committed.get(at) {
                Some(Entry::Message { message, .. }) => Some(message),
                Some(
                    Entry::Session { .. }
                    | Entry::Group { .. }
                    | Entry::Liveness { .. }
                    | Entry::HighWater(_),
                )
                | None => None,
            })
    }

    /// Committed messages in a range of offsets.
    pub(crate) fn messages(
        &self,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = (Offset, &Arc<Message>)> {
        self.committed
            .range(from..to.max(from))
            .filter_map(|(at, entry)| match entry {
                Entry::Message { message, .. } => Some((*at, message)),
                Entry::Session { .. }
                | Entry::Group { .. }
                | Entry::Liveness { .. }
                | Entry::HighWater(_) => None,
            })
    }
}

/// The fold of one entry, as the checkpointer and recovery do it.
fn fold(snapshots: &mut Snapshots, at: Offset, entry: &Entry) {
    match entry {
        Entry::Message { message, received } => {
            if let Some(packet_id) = received
                && let Some(snapshot) = snapshots.get_mut(&message.publisher)
            {
                snapshot.apply_received(at, *packet_id);
            }
        }
        Entry::Session { session, change } => match &**change {
            Change::Created(created) => {
                let new = || SessionSnapshot::created(*session, created, at);
                snapshots.entry(*session).or_insert_with(new);
            }
            Change::Ended => {
                snapshots.remove(session);
            }
            Change::Attached(_)
            | Change::Detached { .. }
            | Change::Subscribed { .. }
            | Change::Unsubscribed { .. }
            | Change::Dropped { .. }
            | Change::Received { .. }
            | Change::Released { .. }
            | Change::Sent(_)
            | Change::Replayed { .. }
            | Change::PubRec { .. }
            | Change::Settled { .. }
            | Change::Progress { .. }
            | Change::WillSettled
            | Change::Recovered { .. } => {
                if let Some(snapshot) = snapshots.get_mut(session) {
                    let before = snapshot.next;
                    snapshot.apply(at, change);
                    assert!(
                        snapshot.next >= before,
                        "the cursor of {session:?} fell from {before:?} to {:?}",
                        snapshot.next
                    );
                }
            }
        },
        Entry::Group { .. } | Entry::Liveness { .. } | Entry::HighWater(_) => {}
    }
}

/// The same for groups.
fn fold_group(snapshots: &mut GroupSnapshots, at: Offset, entry: &Entry) {
    if let Some(((group, offset), Some(_))) = begins(entry)
        && let Some(snapshot) = snapshots.get_mut(&group)
    {
        snapshot.apply_sent(at, offset);
    }
    let Entry::Group { group, change } = entry else {
        return;
    };
    match &**change {
        GroupChange::Created { filter, next } => {
            let created = || GroupSnapshot::created(*group, filter.clone(), *next, at);
            snapshots.entry(*group).or_insert_with(created);
        }
        GroupChange::Ended => {
            snapshots.remove(group);
        }
        GroupChange::Progress { .. } | GroupChange::Taken { .. } => {
            if let Some(snapshot) = snapshots.get_mut(group) {
                let before = snapshot.next;
                snapshot.apply(at, change);
                assert!(
                    snapshot.next >= before,
                    "the cursor of {group:?} fell from {before:?} to {:?}",
                    snapshot.next
                );
            }
        }
    }
}

/// The record of a group that an entry takes for good, and by whom, if it says so.
fn begins(entry: &Entry) -> Option<(Key, Option<SessionNumber>)> {
    match entry {
        Entry::Session { session, change } => match &**change {
            Change::Sent(sent) => Some(((sent.lease?, sent.offset), Some(*session))),
            _ => None,
        },
        Entry::Group { group, change } => match **change {
            GroupChange::Taken { offset } => Some(((*group, offset), None)),
            _ => None,
        },
        Entry::Message { .. } | Entry::Liveness { .. } | Entry::HighWater(_) => None,
    }
}
