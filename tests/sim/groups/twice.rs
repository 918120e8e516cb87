//! What a group has twice, which ADR 8 allows in one case: when it goes from memory to the journal.

use outlive_actors::model::group::talk::is_in_memory;
use outlive_actors::model::message::Message;
use outlive_actors::model::topic::Filter;

use super::account::Key;
use crate::oracle::attempt_of;
use crate::seen::Seen;
use crate::world::World;

impl World {
    /// A group has each attempt once: from memory or as the record that it is. A kept member gets what is published after its
    /// SUBACK from the journal only. One thing is allowed, for those who share with it (ADR 8): what was routed before the
    /// group's home began to route to it by the journal may come from memory, and again as a record behind the journal's
    /// end as noted when the group became durable ([`Account::start`]).
    pub(super) fn watch_twice(&mut self, (number, at): Key, message: &Message) {
        let attempt = attempt_of(message);
        let post = self.oracle.post_of_attempt(attempt);
        if self.oracle.posts[post].will {
            return; // a crash may publish it again
        }
        let filter = &self.groups.account.filters[&number];
        if is_in_memory(at) {
            let sent_at = self.oracle.posts[post].sent_at;
            let promised = self.kept_member_since(filter);
            assert!(
                promised.is_none_or(|granted_at| sent_at < granted_at),
                "{filter}: attempt {attempt} comes from memory, though a kept member was there"
            );
        }
        let account = &mut self.groups.account;
        let known = account.leased_as.entry((number, attempt)).or_default();
        if !known.insert(at) || known.len() == 1 {
            return;
        }
        let in_memory = known.iter().filter(|at| is_in_memory(**at)).count();
        assert_eq!(
            (known.len(), in_memory),
            (2, 1),
            "{number:?} has attempt {attempt} as {known:?}"
        );
        let switched = account.switched.get(&number).copied();
        let routed = self.oracle.routed_at(attempt);
        assert!(
            routed.is_some() && routed < switched,
            "{number:?} has attempt {attempt} twice: it was routed at {routed:?}, by the journal since {switched:?}"
        );
        self.saw(Seen::LeasedTwice);
    }

    /// Since when a kept session knows that it is a member of a group that queues; the first, if there are more.
    fn kept_member_since(&self, filter: &Filter) -> Option<u64> {
        let clients = self.clients.iter().zip(&self.slots);
        let kept = clients.filter(|(client, slot)| {
            let joined = self.groups.directory.filters_of(client.number);
            slot.recorded == Some(client.number) && joined.contains(filter)
        });
        let since = kept.flat_map(|(client, _)| client.holding.shares_held());
        let since = since.filter(|(known, _)| *known == filter);
        since.map(|(_, granted_at)| granted_at).min()
    }
}
