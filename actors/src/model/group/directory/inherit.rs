//! What a restart leaves of groups and members.

use super::super::names::Membership;
use super::{Directory, name_of};
use crate::model::ids::{GroupNumber, Offset, SessionNumber};
use crate::model::tenant;
use crate::model::topic::Filter;

impl Directory {
    /// A group that survived a restart, durable.
    pub fn inherit_group(&mut self, filter: &Filter, number: GroupNumber, from: Offset) {
        let named = self.names.enter(name_of(filter));
        let known = Membership {
            durable_from: Some(from),
            ..Membership::new(number)
        };
        named.filters.insert(filter.clone(), known);
    }

    /// A member that survived a restart: no limit keeps it out.
    pub fn inherit_member(
        &mut self,
        filter: &Filter,
        session: SessionNumber,
        queues: bool,
        from: Offset,
    ) {
        let named = self.names.enter(name_of(filter));
        let last = &mut self.last;
        let known = named.filters.entry(filter.clone()).or_insert_with(|| {
            *last += 1;
            Membership::new(GroupNumber(*last))
        });
        if known.members.insert(session, queues).is_none() {
            self.joined.insert((session, filter.clone()));
        }
        if queues {
            let from = known.durable_from.map_or(from, |known| known.min(from));
            known.durable_from = Some(from);
        }
    }

    /// Forgets what survived a restart without a member, unless it is declared; gives what it was.
    pub fn disinherit(&mut self) -> Vec<GroupNumber> {
        let declared = &self.declared;
        let mut gone = Vec::new();
        self.names.change_each(|name, named| {
            if !declared.contains_key(tenant::split(name).1) {
                named.filters.retain(|_, known| {
                    let stays = !known.members.is_empty();
                    gone.extend((!stays).then_some(known.number));
                    stays
                });
            }
        });
        gone
    }
}
