//! When a group is routed to, from memory or from the journal, and who waits until it is; how publications reach groups. As
//! `actor/local/group_routes.rs`.
//!
//! A publication goes from its publisher's shard to the home of the groups that are routed to, by the same way as talk, in
//! order with it. Sessions get theirs at once, into a queue that they look at when they like.

use std::sync::Arc;

use outlive_actors::actor::protocol::{Asker, ForGroup, GroupBatch, MemberNews};
use outlive_actors::model::effect::Live;
use outlive_actors::model::entry::{Entry, GroupChange};
use outlive_actors::model::group::talk::GroupRef;
use outlive_actors::model::ids::{GroupNumber, Offset};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::SubscriptionIds;
use outlive_actors::model::topic::Filter;

use super::actor::{GroupActor, Told};
use super::{Resident, SHARDS, State, home_of, shard, shard_of};
use crate::oracle::attempt_of;
use crate::seen::Seen;
use crate::world::World;

/// A group on its way from memory to the journal.
#[derive(Debug)]
pub(super) struct Switch {
    next: Offset,
    awaited: usize,
}

/// The home of a group routes its filter to its actor, dead or alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    /// The journal brings QoS 1 and 2.
    pub(super) durable: bool,
    /// One for each time that it began.
    spell: u64,
}

/// A publication on its way to the home of groups.
#[derive(Debug)]
pub(super) struct Routed {
    message: Arc<Message>,
    /// The groups to whom nothing else brings it, as far as its shard knew, and their spell of being routed to.
    owed: Vec<(GroupNumber, u64)>,
}

/// What goes from one shard to another.
#[derive(Debug)]
pub(super) enum Travels {
    Routed(Vec<Routed>),
    Talk(GroupBatch),
}

impl Resident {
    /// Whether it reads the journal. Its filter may be held before that.
    pub(super) fn reads_journal(&self) -> bool {
        self.durable && self.switch.is_none()
    }
}

impl World {
    // --- publications

    /// A session on `client`'s shard publishes: groups at home there get it now, the others later.
    pub(crate) fn route_to_groups(&mut self, client: usize, message: &Arc<Message>) {
        let from = shard_of(client);
        for home in 0..SHARDS {
            if !self.is_online(home, message) {
                continue;
            }
            let routed = Routed {
                message: Arc::clone(message),
                owed: self.owed(home, message),
            };
            if home == from {
                self.offer_to_groups(home, routed);
            } else {
                let outbox = self.groups.routed.entry((from, home)).or_default();
                outbox.push(routed);
            }
        }
    }

    /// Whether a shard has readers who are there.
    fn is_online(&self, home: usize, message: &Message) -> bool {
        let slots = self.slots.iter().enumerate();
        let mut here = slots.filter(|(client, _)| shard_of(*client) == home);
        let reads = |filter: &Filter| filter.matches(message.topic());
        let session = here.any(|(_, slot)| slot.readers.iter().any(|known| reads(&known.0)));
        session || self.groups.readers(home, message).next().is_some()
    }

    /// The groups that get a publication from memory or not at all.
    fn owed(&self, home: usize, message: &Message) -> Vec<(GroupNumber, u64)> {
        let groups = &self.groups;
        let in_memory = |number: &GroupNumber| {
            let resident = groups.residents.get(number);
            resident.is_some_and(|resident| !resident.durable)
        };
        groups
            .readers(home, message)
            .filter(|number| message.qos > QoS::AtMostOnce && in_memory(number))
            .map(|number| (number, groups.listening[&number].spell))
            .collect()
    }

    /// A publication is where groups live: who is routed to by now gets it.
    pub(super) fn offer_to_groups(&mut self, home: usize, routed: Routed) {
        let Routed { message, owed } = routed;
        let queues = message.qos > QoS::AtMostOnce;
        for (number, spell) in owed {
            let known = self.groups.listening.get(&number);
            let lost = known.is_some_and(|known| known.spell == spell && known.durable)
                && self.groups.residents.contains_key(&number);
            assert!(
                !lost,
                "{number:?} reads the journal, where attempt {} is not: it was on its way",
                attempt_of(&message)
            );
        }
        let readers: Vec<_> = self.groups.readers(home, &message).collect();
        for number in readers {
            if self.groups.listening[&number].durable && queues {
                continue;
            }
            let resident = self.groups.residents.get(&number);
            if queues && resident.is_some_and(|resident| resident.switch.is_some()) {
                self.saw(Seen::RoutedDuringSwitch);
            }
            if let Some(actor) = self.groups.actors.get_mut(&number) {
                actor.live.push_back(Live {
                    message: Arc::clone(&message),
                    qos: message.qos,
                    retain: message.retain,
                    subscription_ids: SubscriptionIds::new(),
                });
            }
        }
    }

    // --- routes

    /// Routes publications to a group, or to it no more.
    pub(super) fn listen_group(&mut self, actor: &mut GroupActor, on: bool) {
        let number = actor.group.number();
        if !self.groups.residents.contains_key(&number) {
            actor.live.clear(); // it is over
            self.groups.listening.remove(&number);
        } else if on {
            self.groups.listen(number);
            self.answer_askers(number);
        } else {
            self.groups.listening.remove(&number);
        }
    }

    /// A member waits until its group is routed to; gives whether it has to.
    pub(super) fn await_group(&mut self, filter: &Filter, asker: Asker) -> bool {
        let known = self.groups.numbers.get(filter).copied();
        let Some(number) = known.filter(|number| !self.groups.is_in_force(*number)) else {
            return false;
        };
        self.saw(Seen::SubscribeWaited);
        if let Some(resident) = self.groups.residents.get_mut(&number) {
            resident.askers.push(asker);
        }
        true
    }

    /// Answers those who wait for a group, if it is routed to by now.
    pub(super) fn answer_askers(&mut self, number: GroupNumber) {
        if self.groups.is_in_force(number)
            && let Some(resident) = self.groups.residents.get_mut(&number)
        {
            let askers = std::mem::take(&mut resident.askers);
            let filter = resident.filter.clone();
            self.answer_all(&filter, askers);
        }
    }

    pub(super) fn answer_all(&mut self, filter: &Filter, askers: Vec<Asker>) {
        for asker in askers {
            let joined = MemberNews::Joined(asker.question);
            self.tell_member(home_of(filter), asker.member, asker.place, joined);
        }
    }

    // --- from memory to the journal

    /// A group reads the journal from now on.
    pub(super) fn make_durable(&mut self, number: GroupNumber, from: Offset) {
        let next = from.max(self.journal.end);
        let Some(resident) = self.groups.residents.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut resident.durable, true) {
            return;
        }
        let filter = resident.filter.clone();
        let active = resident.state == State::Active;
        self.groups.account.created(number, next);
        let home = home_of(&filter);
        let created = GroupChange::Created { filter, next };
        self.entries.push(Entry::group(number, created));
        let awaited = if active && self.groups.listening.contains_key(&number) {
            self.mark_shards(number, home)
        } else {
            0 // nobody was promised anything yet
        };
        if let Some(resident) = self.groups.residents.get_mut(&number) {
            resident.switch = Some(Switch { next, awaited });
        }
        self.switch_if_due(number);
    }

    /// Asks all other shards for an answer behind what they routed to this one; gives how many.
    fn mark_shards(&mut self, number: GroupNumber, home: usize) -> usize {
        let group = GroupRef {
            number,
            home: shard(home),
        };
        let others = (0..SHARDS).filter(|other| *other != home);
        others
            .map(|other| {
                let outbox = self.outbox(home, other);
                outbox.for_groups.push(ForGroup::Mark(group));
            })
            .count()
    }

    /// Nothing comes from one more shard that was routed by the routes of before.
    pub(super) fn is_marked(&mut self, number: GroupNumber) {
        let resident = self.groups.residents.get_mut(&number);
        if let Some(switch) = resident.and_then(|resident| resident.switch.as_mut()) {
            switch.awaited = switch.awaited.saturating_sub(1);
        }
        self.switch_if_due(number);
    }

    fn switch_if_due(&mut self, number: GroupNumber) {
        let Some(resident) = self.groups.residents.get_mut(&number) else {
            return;
        };
        let Some(switch) = resident.switch.take_if(|switch| switch.awaited == 0) else {
            return;
        };
        let next = switch.next;
        let at = self.oracle.tick();
        self.groups.account.switched(number, at);
        match &mut resident.state {
            State::Fresh(from) => *from = Some(next),
            State::Active => {
                if self.groups.listening.contains_key(&number) {
                    self.saw(Seen::Switched);
                    self.groups.listen(number);
                }
                if let Some(actor) = self.groups.actors.get_mut(&number) {
                    actor.tell(Told::Durable(next));
                }
            }
            State::Passive | State::Quarantined => {}
        }
        self.answer_askers(number);
    }
}

impl super::Groups {
    /// Groups at home on a shard that are routed to and match.
    fn readers<'a>(
        &'a self,
        home: usize,
        message: &'a Message,
    ) -> impl Iterator<Item = GroupNumber> + 'a {
        let listening = self.listening.keys().copied();
        listening.filter(move |number| {
            let actor = self.actors.get(number);
            actor.is_some_and(|actor| home_of(actor.group.filter()) == home && actor.reads(message))
        })
    }

    /// Routes publications to a group, by the journal if it reads that.
    fn listen(&mut self, number: GroupNumber) {
        let resident = self.residents.get(&number);
        let durable = resident.is_some_and(Resident::reads_journal);
        let spells = &mut self.spells;
        let known = self.listening.entry(number).or_insert_with(|| {
            *spells += 1;
            Listening {
                durable,
                spell: *spells,
            }
        });
        known.durable = durable;
    }

    /// Whether all that is published reaches a group, or waits for it. One that is quarantined nobody waits for.
    fn is_in_force(&self, number: GroupNumber) -> bool {
        let Some(resident) = self.residents.get(&number) else {
            return true;
        };
        if resident.durable {
            return resident.reads_journal();
        }
        match resident.state {
            State::Active => self.listening.contains_key(&number),
            State::Fresh(_) | State::Passive => false,
            State::Quarantined => true,
        }
    }

    /// Whether some group is on its way from memory to the journal.
    pub(super) fn is_any_switching(&self) -> bool {
        let mut residents = self.residents.values();
        residents.any(|resident| resident.switch.is_some())
    }
}
