//! The hands of a simulated group: turns, reads, deaths; as `actor/group.rs`.

use std::collections::VecDeque;

use outlive_actors::actor::protocol::MemberNews;
use outlive_actors::model::cursor::ReadId;
use outlive_actors::model::effect::Live;
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::{Entry, GroupChange};
use outlive_actors::model::group::talk::{GroupRef, Lease, Leased};
use outlive_actors::model::group::{Group, GroupEffect, GroupInput, Strategy};
use outlive_actors::model::ids::{GroupNumber, Now, Offset};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::record::Record;

use super::{home_of, marked, shard};
use crate::world::World;

/// What a group's actor is told by its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Durable(Offset),
    Strategy(Strategy),
    End,
}

/// A read of a group.
#[derive(Debug)]
enum GroupRead {
    Page {
        read: ReadId,
        from: Offset,
        records_max: u32,
    },
    Reread(Vec<Offset>),
    Recall,
    /// It happened; the answer is on its way.
    Answer(GroupInput),
}

/// A group and what its actor holds.
#[derive(Debug)]
pub(crate) struct GroupActor {
    pub(super) group: Group,
    pub(super) live: VecDeque<Live>,
    records: VecDeque<Record>,
    told: VecDeque<Told>,
    /// The snapshot is asked for once this ticket is answered.
    recall: Option<u64>,
    reads: Vec<GroupRead>,
    effects: Effects<GroupEffect>,
    /// So many effects from now on it dies.
    dies_after: Option<u64>,
    dead: bool,
}

impl GroupActor {
    pub(super) fn new(group: Group, effects: Effects<GroupEffect>) -> Self {
        Self {
            group,
            live: VecDeque::new(),
            records: VecDeque::new(),
            told: VecDeque::new(),
            recall: None,
            reads: Vec::new(),
            effects,
            dies_after: None,
            dead: false,
        }
    }

    /// The dead hear nothing.
    pub(super) fn tell(&mut self, told: Told) {
        if !self.dead {
            self.told.push_back(told);
        }
    }

    pub(super) fn die_after(&mut self, effects: u64) {
        self.dies_after = Some(effects);
    }

    /// It is gone, with what it held; its shard does not know yet.
    pub(super) fn die(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether nothing waits for it and it waits for nothing.
    pub(super) fn is_idle(&self) -> bool {
        let nothing_waits = self.live.is_empty() && self.records.is_empty();
        let asks_nothing = self.recall.is_none() && self.reads.is_empty();
        let done = self.effects.is_empty() && self.told.is_empty() && !self.dead;
        nothing_waits && asks_nothing && done
    }

    pub(super) fn reads(&self, message: &Message) -> bool {
        self.group.plain_filter().matches(message.topic())
    }
}

impl World {
    /// A committed record on its way to the groups that read it.
    pub(crate) fn commit_to_groups(&mut self, record: &Record) {
        if record.message.qos == QoS::AtMostOnce {
            return;
        }
        self.watch_waiting(&record.message);
        let groups = &mut self.groups;
        for (number, actor) in &mut groups.actors {
            let known = groups.listening.get(number);
            if known.is_some_and(|known| known.durable) && actor.reads(&record.message) {
                actor.records.push_back(record.clone());
            }
        }
    }

    fn some_group(&mut self, fits: impl Fn(&GroupActor) -> bool) -> Option<GroupNumber> {
        let actors = self.groups.actors.iter();
        let fitting = actors.filter(|(_, actor)| !actor.dead && fits(actor));
        let fitting: Vec<_> = fitting.map(|(number, _)| *number).collect();
        (!fitting.is_empty()).then(|| *self.rng.pick(&fitting))
    }

    /// Some group has a turn.
    pub(crate) fn some_group_turns(&mut self) {
        if let Some(number) = self.some_group(|_| true) {
            self.group_turn(number, None);
        }
    }

    /// All groups have a turn, and what they read is answered.
    pub(crate) fn all_groups_turn(&mut self) {
        let numbers: Vec<_> = self.groups.actors.keys().copied().collect();
        for number in numbers {
            if let Some(actor) = self.groups.actors.get_mut(&number) {
                actor.dies_after = None;
            }
            self.group_turn(number, None);
            self.group_reads(number, false);
        }
    }

    /// Time passes for a group; perhaps nothing is due.
    pub(crate) fn tick_groups(&mut self) {
        let numbers: Vec<_> = self.groups.actors.keys().copied().collect();
        for number in numbers {
            let deadline = self.groups.actors[&number].group.deadline();
            if deadline.is_some_and(|at| at <= self.time) {
                self.group_turn(number, Some(GroupInput::Tick));
            }
        }
    }

    pub(crate) fn some_group_ticks(&mut self) {
        if let Some(number) = self.some_group(|_| true) {
            self.group_turn(number, Some(GroupInput::Tick));
        }
    }

    /// Some group dies soon.
    pub(crate) fn some_group_dies(&mut self) {
        let after = self.rng.between(0, 8);
        let number = self.some_group(|_| true);
        if let Some(actor) = number.and_then(|number| self.groups.actors.get_mut(&number)) {
            actor.die_after(after);
        }
    }

    /// A turn: what was committed comes first, then what is live, then what was said, as far as it arrived.
    pub(super) fn group_turn(&mut self, number: GroupNumber, input: Option<GroupInput>) {
        let Some(mut actor) = self.groups.actors.remove(&number) else {
            return;
        };
        if actor.dead {
            self.groups.actors.insert(number, actor);
            return;
        }
        let told = match actor.told.pop_front() {
            Some(Told::Durable(next)) => Some(GroupInput::Durable { next }),
            Some(Told::Strategy(strategy)) => Some(GroupInput::Strategy(strategy)),
            Some(Told::End) => Some(GroupInput::End),
            None => None,
        };
        let answered = actor.recall.filter(|ticket| !self.journal.is_open(*ticket));
        if answered.is_some() {
            actor.recall = None;
            actor.reads.push(GroupRead::Recall);
        }
        let records = self.arrived_records(&mut actor, answered.is_some());
        let late = actor.records.front().map(|record| record.offset);
        let now = Now {
            time: self.time,
            log_end: self.journal.end,
            live_end: late.map_or(self.live_end, |at| at.min(self.live_end)),
        };
        let resident = self.groups.residents.get_mut(&number);
        let said = resident.map_or_else(Vec::new, |it| it.attendance.take_said());
        let live = std::mem::take(&mut actor.live);
        let inputs = records.into_iter().map(GroupInput::Logged);
        let inputs = inputs.chain(live.into_iter().map(GroupInput::Live));
        let inputs = inputs.chain(said.into_iter().map(GroupInput::Said));
        let mut effects = std::mem::take(&mut actor.effects);
        for input in inputs.chain(told).chain(input) {
            self.note(|| format!("  {number:?} <- {input:?}"));
            actor.group.take_in(now, input, &mut effects);
        }
        actor.group.pump(now, &mut effects);
        let is_over = self.perform_for_group(&mut actor, effects);
        self.flush_shard();
        if is_over {
            self.groups.listening.remove(&number);
        } else {
            self.groups.actors.insert(number, actor);
        }
    }

    /// Some of what was committed may still be on its way.
    fn arrived_records(&mut self, actor: &mut GroupActor, all: bool) -> Vec<Record> {
        let waiting = actor.records.len();
        let late = !all && waiting > 0 && self.rng.permille(200);
        let count = if late {
            self.rng.index(waiting)
        } else {
            waiting
        };
        actor.records.drain(..count).collect()
    }

    /// Gives whether the group is over.
    fn perform_for_group(
        &mut self,
        actor: &mut GroupActor,
        mut effects: Effects<GroupEffect>,
    ) -> bool {
        let number = actor.group.number();
        for effect in effects.drain() {
            if let Some(left) = &mut actor.dies_after {
                if *left == 0 {
                    self.note(|| format!("  {number:?} dies before {effect:?}"));
                    actor.die();
                    return false;
                }
                *left -= 1;
            }
            self.note(|| format!("  {number:?} -> {effect:?}"));
            match effect {
                GroupEffect::Lease {
                    member,
                    fence,
                    place,
                    lease,
                } => {
                    let filter = actor.group.filter().clone();
                    let home = home_of(&filter);
                    let lease = self.mark_lease(number, lease);
                    self.watch_lease(number, (member, fence), &lease);
                    let leased = Leased {
                        group: GroupRef {
                            number,
                            home: shard(home),
                        },
                        filter,
                        fence,
                        what: [lease].into(),
                    };
                    self.tell_member(home, member, place, MemberNews::Leased(leased));
                }
                GroupEffect::Listen(on) => self.listen_group(actor, on),
                GroupEffect::Record(change) => self.record_for_group(actor, change),
                GroupEffect::Read {
                    read,
                    from,
                    records_max,
                } => actor.reads.push(GroupRead::Page {
                    read,
                    from,
                    records_max,
                }),
                GroupEffect::Reread(asked) => actor.reads.push(GroupRead::Reread(asked)),
                GroupEffect::Recall => {
                    assert!(actor.recall.is_none(), "it asked already");
                    self.asks = true;
                    actor.recall = Some(self.journal.next_ticket());
                }
                GroupEffect::End => return true,
            }
        }
        false
    }

    fn mark_lease(&mut self, number: GroupNumber, lease: Lease) -> Lease {
        match lease {
            Lease::Once(message) => {
                let at = self.groups.account.next_once();
                Lease::Once(marked(&message, (number, at)))
            }
            Lease::Record { at, message } => Lease::Record {
                at,
                message: marked(&message, (number, at)),
            },
            Lease::Recount => Lease::Recount,
        }
    }

    fn record_for_group(&mut self, actor: &GroupActor, change: GroupChange) {
        if let GroupChange::Progress { next, unsettled } = &change {
            self.watch_progress(&actor.group, *next, unsettled);
        }
        self.entries
            .push(Entry::group(actor.group.number(), change));
    }

    /// A read of some group happens, or its answer arrives.
    pub(crate) fn some_group_reads(&mut self) {
        if let Some(number) = self.some_group(|actor| !actor.reads.is_empty()) {
            self.group_reads(number, true);
        }
    }

    fn group_reads(&mut self, number: GroupNumber, faults: bool) {
        let Some(actor) = self.groups.actors.get_mut(&number) else {
            return;
        };
        if actor.dead || actor.reads.is_empty() {
            return;
        }
        let at = self.rng.index(actor.reads.len());
        let read = actor.reads.remove(at);
        let fails = faults && self.rng.permille(50);
        let at_once = !faults || matches!(read, GroupRead::Answer(_)) || self.rng.permille(500);
        let input = match read {
            GroupRead::Answer(input) => input,
            GroupRead::Recall if fails => GroupInput::Recalled(None),
            GroupRead::Page { .. } | GroupRead::Reread(_) if fails => GroupInput::ReadFailed,
            GroupRead::Page {
                read,
                from,
                records_max,
            } => {
                let filters = [(actor.group.plain_filter().clone(), from)];
                let page = self.journal.read(&filters, from, records_max);
                GroupInput::Page { read, page }
            }
            GroupRead::Reread(asked) => {
                let records = self.journal.read_at(&asked);
                GroupInput::Reread { asked, records }
            }
            GroupRead::Recall => {
                let snapshot = self.journal.groups.get(&number);
                GroupInput::Recalled(snapshot.cloned().map(Box::new))
            }
        };
        if at_once {
            self.group_turn(number, Some(input));
        } else if let Some(actor) = self.groups.actors.get_mut(&number) {
            actor.reads.push(GroupRead::Answer(input));
        }
    }
}
