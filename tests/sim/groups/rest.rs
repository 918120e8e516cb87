//! What must hold of groups once everybody is back and nothing is under way.

use std::collections::BTreeSet;

use outlive_actors::model::group::directory::name_of;
use outlive_actors::model::ids::{GroupNumber, SessionNumber};
use outlive_actors::model::message::QoS;
use outlive_actors::model::topic::Filter;

use super::account::counts;
use super::plain;
use crate::world::{Residence, World};

impl World {
    /// Whether no group and no word of one is under way.
    pub(crate) fn groups_are_idle(&self) -> bool {
        let mut residents = self.groups.residents.values();
        let heard = residents.all(|resident| resident.attendance.is_heard());
        let mut actors = self.groups.actors.values();
        let idle = actors.all(|actor| actor.is_idle());
        heard && idle && self.groups.due.is_empty() && !self.is_talk_on_the_way()
    }

    pub(super) fn lives(&self, member: SessionNumber) -> bool {
        let clients = 0..self.clients.len();
        let mut actors = clients.filter_map(|client| self.actor(client));
        actors.any(|actor| actor.session.is_begun() && actor.session.number() == member)
    }

    /// Sessions, the directory and the groups' homes say the same; nothing is stranded, nothing lost.
    pub(crate) fn groups_rest(&self) {
        let mut members = 0;
        for client in 0..self.clients.len() {
            let Residence::Active(actor) = &self.residences[client] else {
                panic!("client {client} is not back");
            };
            let session = &actor.session;
            let shared = session.subscriptions().shared();
            let shared: BTreeSet<_> = shared.map(|known| known.filter.clone()).collect();
            members += shared.len();
            let known = self.groups.directory.filters_of(session.number());
            let known: BTreeSet<_> = known.into_iter().collect();
            assert_eq!(known, shared, "client {client}: directory");
            self.nothing_owed_is_missing(client);
        }
        let listed: Vec<_> = self.groups.directory.iter().collect();
        assert_eq!(
            self.groups.directory.members(),
            members,
            "members: {listed:?}"
        );
        let numbers: BTreeSet<GroupNumber> = self.groups.residents.keys().copied().collect();
        let standings = self.groups.directory.iter();
        let known: BTreeSet<_> = standings.map(|(_, standing)| standing.number).collect();
        assert_eq!(numbers, known, "groups at home and in the directory");
        for number in self.journal.groups.keys() {
            assert!(
                numbers.contains(number),
                "{number:?} is over and has progress"
            );
        }
        for (filter, standing) in self.groups.directory.iter() {
            let resident = &self.groups.residents[&standing.number];
            assert_eq!(resident.durable, standing.durable_from.is_some());
            assert!(resident.switch.is_none(), "{filter} does not switch");
            assert!(resident.askers.is_empty(), "{filter}: somebody waits");
            assert_eq!(resident.strategy, standing.strategy, "{filter}");
            if standing.members > 0 {
                self.group_rests(filter, standing.number, standing.members);
            } else {
                self.group_waits(filter, standing.number);
            }
        }
    }

    /// All its members are online and have room.
    fn group_rests(&self, filter: &Filter, number: GroupNumber, members: usize) {
        let actor = self.groups.actors.get(&number);
        let actor = actor.unwrap_or_else(|| panic!("{filter} has no actor"));
        let group = &actor.group;
        assert_eq!(group.members_online(), members, "{filter}: members online");
        assert_eq!(group.leased(), 0, "{filter}: leases are out for good");
        assert_eq!(group.waiting(), 0, "{filter}: something waits");
        assert_eq!(group.unsettled(), [], "{filter}: unsettled");
        if !group.is_durable() {
            return;
        }
        assert!(group.cursor().is_live(), "{filter} is behind");
        assert!(group.cursor().is_drained(), "{filter}: records wait");
        let start = self.groups.account.start(number).unwrap();
        for (at, message) in self.journal.messages(start, self.journal.end) {
            let settled = message.is_expired(self.time)
                || self
                    .groups
                    .account
                    .is_settled((number, at), |member| self.lives(member));
            assert!(
                settled || !counts(&plain(filter), message),
                "{filter}: nobody got {at:?}{}",
                self.label(Some(message))
            );
        }
    }

    /// What was acknowledged to its publisher while a kept session was a member came to some member.
    fn nothing_owed_is_missing(&self, client: usize) {
        let kept = self
            .actor(client)
            .is_some_and(|actor| actor.session.is_kept());
        let holding = &self.clients[client].holding;
        for (filter, granted_at) in holding.shares_held().filter(|_| kept) {
            let reads = plain(filter);
            for (post, posted) in self.oracle.posts.iter().enumerate() {
                let owed = posted.acked_at.is_some()
                    && !posted.will
                    && posted.qos > QoS::AtMostOnce
                    && posted.expires_at.is_none_or(|at| at > self.time)
                    && posted.sent_at > granted_at
                    && reads.matches(&posted.topic);
                assert!(
                    !owed
                        || self.groups.account.is_post_settled(
                            filter,
                            |attempt| self.oracle.post_of_attempt(attempt),
                            post,
                            |member| self.lives(member),
                        ),
                    "post {post} on {} came to no member of {filter}",
                    posted.topic
                );
            }
        }
    }

    /// Progress was recorded since all came to rest: the journal holds nothing for groups any more.
    pub(crate) fn groups_pin_nothing(&self) {
        for (filter, standing) in self.groups.directory.iter() {
            let (Some(_), true) = (standing.durable_from, standing.members > 0) else {
                continue;
            };
            let Some(snapshot) = self.journal.groups.get(&standing.number) else {
                panic!("{filter} has no snapshot");
            };
            assert!(snapshot.unsettled.is_empty(), "{filter}: {snapshot:?}");
            let reads = plain(filter);
            let waiting = self.journal.messages(snapshot.next, self.journal.end);
            let waiting: Vec<_> = waiting
                .filter(|(_, message)| counts(&reads, message))
                .map(|(at, _)| at)
                .collect();
            assert_eq!(waiting, [], "{filter}: the floor stays at {snapshot:?}");
            let old = |at: &&_| **at < snapshot.next;
            assert_eq!(snapshot.taken.iter().find(old), None, "{filter}");
        }
    }

    /// All sessions are over: so are all groups but declared ones.
    pub(crate) fn groups_are_gone(&self) {
        let declared = self.groups.directory.declared();
        let declared = |filter: &Filter| declared.contains_key(name_of(filter));
        for (filter, _) in self.groups.directory.iter() {
            assert!(declared(filter), "{filter} outlived its members");
        }
        for group in self.journal.groups.values() {
            assert!(declared(&group.filter), "snapshot of {}", group.filter);
        }
        for resident in self.groups.residents.values() {
            assert!(declared(&resident.filter), "{resident:?}");
            assert!(resident.attendance.online().len() == 0, "{resident:?}");
        }
        let groups = self.groups.directory.iter();
        let names: BTreeSet<_> = groups.map(|(filter, _)| name_of(filter)).collect();
        let counted = self.groups.directory.tally().all().count;
        assert_eq!(counted, names.len() as u64, "names that are counted");
        let known = self.groups.directory.iter().count();
        assert!(self.groups.actors.len() <= known, "actors of no group");
    }
}
