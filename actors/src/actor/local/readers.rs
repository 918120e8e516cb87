//! Who reads what: subscriptions of attached sessions, and durable ones attached or not.

use super::Local;
use super::slots::live_bytes;
use crate::model::counter::Counter;
use crate::model::packet::SubscriptionOptions;
use crate::model::routes::{FilterNumber, RouteEdge, ShardRoutes, Slot};
use crate::model::topic::Filter;

impl Local {
    /// An attached session reads a filter; `replaces` the options with which it did before.
    pub fn listen(
        &mut self,
        slot: Slot,
        filter: &Filter,
        options: &SubscriptionOptions,
        durable: bool,
        replaces: bool,
    ) {
        self.change_route(filter, |routes, number| {
            routes.subscribe(slot, number, options, durable)
        });
        if !replaces && let Some(state) = self.slot(slot) {
            if state.filters.is_empty() {
                state.filters.reserve_exact(1);
            }
            state.filters.push(filter.clone());
        }
    }

    /// A session does not read a filter any more.
    pub fn mute(&mut self, slot: Slot, filter: &Filter) {
        self.change_route(filter, |routes, number| routes.unsubscribe(slot, number));
        if let Some(state) = self.slot(slot)
            && let Some(at) = state.filters.iter().position(|known| known == filter)
        {
            state.filters.swap_remove(at);
        }
    }

    /// A session reads nothing any more: it is detached, or its actor died.
    pub fn mute_all(&mut self, slot: Slot) {
        let Some(state) = self.slot(slot) else { return };
        let filters = std::mem::take(&mut state.filters);
        // What is still on its way to these subscriptions must not reach those of a successor in this slot.
        let late = state.waiting.used();
        let late = late.map_or_else(Vec::new, |waiting| {
            let late = std::mem::take(&mut waiting.live);
            waiting.bytes -= late.iter().map(live_bytes).sum::<usize>();
            late
        });
        state.waiting.tidy();
        self.taken(late.iter().map(live_bytes).sum());
        for _ in late {
            self.count(Counter::DroppedOffline);
        }
        for filter in filters {
            self.change_route(&filter, |routes, number| routes.unsubscribe(slot, number));
        }
    }

    /// A durable subscription exists, attached or not.
    pub fn hold(&mut self, filter: &Filter) {
        self.change_route(filter, ShardRoutes::hold);
    }

    /// A durable subscription is gone.
    pub fn release(&mut self, filter: &Filter) {
        self.change_route(filter, ShardRoutes::release);
    }

    /// As [`Self::hold`] or [`Self::release`], for the actor in `slot`, which has not recorded it yet.
    pub fn change_hold(&mut self, slot: Slot, filter: Filter, held: bool) {
        match held {
            true => self.hold(&filter),
            false => self.release(&filter),
        }
        self.unrecorded.push((slot, filter, held));
    }

    /// What the actor in `slot` changed is in the journal's queue: its session's snapshot will say the same.
    pub fn holds_recorded(&mut self, slot: Slot) {
        self.unrecorded.retain(|(whose, ..)| *whose != slot);
    }

    /// The actor in `slot` died: what it changed and did not record is undone.
    pub fn undo_holds(&mut self, slot: Slot) {
        let (undone, kept) = std::mem::take(&mut self.unrecorded)
            .into_iter()
            .partition(|(whose, ..)| *whose == slot);
        self.unrecorded = kept;
        let undone: Vec<_> = undone;
        for (_, filter, held) in undone.into_iter().rev() {
            match held {
                true => self.release(&filter),
                false => self.hold(&filter),
            }
        }
    }

    fn change_route(
        &mut self,
        filter: &Filter,
        change: impl FnOnce(&mut ShardRoutes, FilterNumber) -> Option<RouteEdge>,
    ) {
        let routes = &mut self.routes;
        let change = |number| change(routes, number);
        self.shared.routes.change(filter, self.shard, change);
    }
}
