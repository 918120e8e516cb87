//! What groups and their members' sessions say to each other, and how it travels; as `actor/local/groups.rs`.

use outlive_actors::actor::protocol::{Asker, ForGroup, ForMember, GroupBatch, MemberNews};
use outlive_actors::model::effect::WhichGroup;
use outlive_actors::model::group::talk::{FromMember, Lease, Leased, Place, Said};
use outlive_actors::model::ids::SessionNumber;
use outlive_actors::model::routes::Slot;
use outlive_actors::model::topic::Filter;

use super::routes::Travels;
use super::{CLIENTS_MAX, State, home_of, shard, shard_of};
use crate::world::World;

impl World {
    /// What a turn has for other shards leaves, behind what it submitted to the journal: publications first.
    pub(crate) fn send_talk(&mut self) {
        for (way, routed) in std::mem::take(&mut self.groups.routed) {
            let way = self.groups.ways.entry(way).or_default();
            way.push_back(Travels::Routed(routed));
        }
        for (way, batch) in std::mem::take(&mut self.groups.outboxes) {
            let way = self.groups.ways.entry(way).or_default();
            way.push_back(Travels::Talk(batch));
        }
    }

    /// Whether anything is on its way.
    pub(crate) fn is_talk_on_the_way(&self) -> bool {
        !self.groups.ways.is_empty()
    }

    /// A batch arrives, unless it goes a slow way.
    pub(crate) fn some_talk_arrives(&mut self) {
        let slow = self.groups.slow.filter(|_| self.rng.permille(900));
        self.talk_arrives(slow);
    }

    /// All that is on its way arrives.
    pub(crate) fn all_talk_arrives(&mut self) {
        while self.is_talk_on_the_way() {
            self.talk_arrives(None);
        }
    }

    fn talk_arrives(&mut self, slow: Option<(usize, usize)>) {
        let ways: Vec<_> = self.groups.ways.keys().copied().collect();
        if ways.is_empty() {
            return;
        }
        let way = *self.rng.pick(&ways);
        if slow == Some(way) {
            return;
        }
        let Some(waiting) = self.groups.ways.get_mut(&way) else {
            return;
        };
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.groups.ways.remove(&way);
        }
        match first {
            Some(Travels::Routed(batch)) => {
                self.note(|| format!("shard {} to {}: {batch:?}", way.0, way.1));
                for routed in batch {
                    self.offer_to_groups(way.1, routed);
                }
            }
            Some(Travels::Talk(batch)) => self.arrived(way, batch),
            None => {}
        }
    }

    fn arrived(&mut self, (from, to): (usize, usize), batch: GroupBatch) {
        for for_group in batch.for_groups {
            self.note(|| format!("shard {from} to {to}: {for_group:?}"));
            match for_group {
                ForGroup::Said { to, from } => self.hear(&to, from),
                ForGroup::Lost(from) => self.hear_lost(to, &from),
                ForGroup::Changed { filter, asker } => {
                    self.look_at_group(&filter);
                    if let Some(asker) = asker
                        && !self.await_group(&filter, asker)
                    {
                        self.answer_all(&filter, vec![asker]);
                    }
                }
                ForGroup::Mark(group) => {
                    let outbox = self.outbox(to, usize::from(group.home.0));
                    outbox.for_groups.push(ForGroup::Marked(group.number));
                }
                ForGroup::Marked(number) => self.is_marked(number),
            }
        }
        for news in batch.for_members {
            self.note(|| format!("shard {from} to {to}: {news:?}"));
            self.member_hears(news);
        }
        self.flush_shard();
    }

    pub(super) fn outbox(&mut self, from: usize, to: usize) -> &mut GroupBatch {
        self.groups.outboxes.entry((from, to)).or_default()
    }

    /// The directory says something new of a group. Gives the number of the question that `asker` waits for.
    pub(super) fn group_changed(
        &mut self,
        from: usize,
        filter: &Filter,
        asker: Option<(SessionNumber, Place)>,
    ) -> Option<u64> {
        let home = home_of(filter);
        let asker = asker.map(|(member, place)| {
            self.groups.questions += 1;
            Asker {
                member,
                place,
                question: self.groups.questions,
            }
        });
        let question = asker.map(|asker| asker.question);
        if home == from {
            self.look_at_group(filter);
            return question.filter(|_| asker.is_some_and(|it| self.await_group(filter, it)));
        }
        let filter = filter.clone();
        let changed = ForGroup::Changed { filter, asker };
        self.outbox(from, home).for_groups.push(changed);
        question
    }

    /// A member says something to a group.
    pub(super) fn say(&mut self, from: usize, to: WhichGroup, said: FromMember) {
        let home = match &to {
            WhichGroup::Filter(filter) => home_of(filter),
            WhichGroup::Group(group) => usize::from(group.home.0),
        };
        if home == from {
            self.hear(&to, said);
        } else {
            let said = ForGroup::Said { to, from: said };
            self.outbox(from, home).for_groups.push(said);
        }
    }

    /// A session's actor died: all groups hear of it.
    pub(super) fn say_lost(&mut self, client: usize, member: SessionNumber, slot: Slot) {
        let here = shard_of(client);
        let from = FromMember {
            member,
            place: Place {
                shard: shard(here),
                slot,
            },
            said: Said::Lost,
        };
        for to in (0..super::SHARDS).filter(|to| *to != here) {
            let lost = ForGroup::Lost(from.clone());
            self.outbox(here, to).for_groups.push(lost);
        }
        self.hear_lost(here, &from);
    }

    /// A group that lives on shard `from` has something for a member.
    pub(super) fn tell_member(
        &mut self,
        from: usize,
        member: SessionNumber,
        place: Place,
        what: MemberNews,
    ) {
        let news = ForMember {
            slot: place.slot,
            member,
            what,
        };
        let to = usize::from(place.shard.0);
        if to == from {
            self.member_hears(news);
        } else {
            self.outbox(from, to).for_members.push(news);
        }
    }

    /// Puts something into a member's slot, if it is still there.
    fn member_hears(&mut self, news: ForMember) {
        let ForMember { slot, member, what } = news;
        let client = (slot.0 % CLIENTS_MAX) as usize;
        let there = &mut self.slots[client];
        let is_there = there.place == Some(slot) && there.number == Some(member);
        match what {
            MemberNews::Leased(leased) if is_there => match there.leased.back_mut() {
                Some(last) if (last.group, last.fence) == (leased.group, leased.fence) => {
                    last.what.extend(leased.what);
                }
                Some(_) | None => there.leased.push_back(leased),
            },
            MemberNews::Joined(question) if is_there => {
                there.joined.insert(question);
            }
            MemberNews::Leased(leased) => self.return_leases(client, slot, member, leased),
            MemberNews::Joined(_) => {}
        }
    }

    /// Leases found nobody any more.
    pub(super) fn return_leases(
        &mut self,
        client: usize,
        slot: Slot,
        member: SessionNumber,
        leased: Leased,
    ) {
        let here = shard_of(client);
        let place = Place {
            shard: shard(here),
            slot,
        };
        for lease in leased.what {
            let Lease::Record { at, message } = lease else {
                continue;
            };
            let said = Said::Returned {
                fence: leased.fence,
                at,
                message,
                full: false,
            };
            let returned = FromMember {
                member,
                place,
                said,
            };
            self.say(here, WhichGroup::Group(leased.group), returned);
        }
    }

    /// A member said something to a group that lives here.
    fn hear(&mut self, to: &WhichGroup, from: FromMember) {
        let groups = &mut self.groups;
        let number = match to {
            WhichGroup::Filter(filter) => groups.numbers.get(filter).copied(),
            WhichGroup::Group(group) => Some(group.number),
        };
        let Some((number, resident)) =
            number.and_then(|number| Some((number, groups.residents.get_mut(&number)?)))
        else {
            return; // it is over
        };
        let active = resident.state == State::Active;
        let waits = resident.attendance.hear(from, active) && !active;
        if resident.state == State::Quarantined {
            resident.attendance.take_said();
        } else if waits {
            groups.due.insert(number);
        }
        if resident.attendance.online().len() == 0 {
            let gone = std::mem::take(&mut resident.askers); // nobody waits any more
            let filter = resident.filter.clone();
            self.answer_all(&filter, gone);
        }
    }

    fn hear_lost(&mut self, here: usize, from: &FromMember) {
        let residents = self.groups.residents.values();
        let filters = residents.map(|resident| resident.filter.clone());
        let filters: Vec<_> = filters.filter(|filter| home_of(filter) == here).collect();
        for filter in filters {
            self.hear(&WhichGroup::Filter(filter), from.clone());
        }
    }
}
