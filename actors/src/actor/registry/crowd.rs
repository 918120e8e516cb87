//! Newcomers for whom room must be made, in the order in which they came.
//!
//! One at a time, so that each finds the victim that the one before left. Tenants share no victims: those of one wait for
//! each other, and not for those of another.

use std::collections::{BTreeMap, VecDeque};

use crate::model::ids::Principal;

/// Newcomers that may wait for room; more are refused at once.
const WAITING_MAX: usize = 10_000;

/// Those of one tenant, so that it leaves places to others.
const WAITING_OF_TENANT_MAX: usize = 1_000;

/// A tenant, or all who have none.
pub(super) type Kind = Option<Principal>;

/// All who wait.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    /// Behind the one whose turn it is; no entry if there is none.
    queues: BTreeMap<Kind, VecDeque<T>>,
    waiting: usize,
}

impl<T> Crowd<T> {
    pub(super) fn new() -> Self {
        Self {
            queues: BTreeMap::new(),
            waiting: 0,
        }
    }

    /// Gives the newcomer back if it is its turn.
    ///
    /// # Errors
    /// The newcomer, if too many wait.
    pub(super) fn enter(&mut self, kind: &Kind, newcomer: T) -> Result<Option<T>, T> {
        let Some(queue) = self.queues.get_mut(kind) else {
            self.queues.insert(kind.clone(), VecDeque::new());
            return Ok(Some(newcomer));
        };
        let is_full = kind.is_some() && queue.len() >= WAITING_OF_TENANT_MAX;
        if is_full || self.waiting >= WAITING_MAX {
            return Err(newcomer);
        }
        queue.push_back(newcomer);
        self.waiting += 1;
        Ok(None)
    }

    /// The turn of the last one is over; gives the next one of its kind.
    pub(super) fn next(&mut self, kind: &Kind) -> Option<T> {
        let next = self.queues.get_mut(kind).and_then(VecDeque::pop_front);
        match next {
            Some(_) => self.waiting -= 1,
            None => drop(self.queues.remove(kind)),
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tenant: &str) -> Kind {
        (!tenant.is_empty()).then(|| tenant.into())
    }

    #[test]
    fn newcomers_of_a_tenant_wait_for_each_other_and_for_nobody_else() {
        let mut crowd = Crowd::new();
        for (tenant, newcomer, turn) in [
            ("a", 1, Some(1)),
            ("a", 2, None),
            ("b", 3, Some(3)),
            ("", 4, Some(4)),
            ("a", 5, None),
            ("", 6, None),
        ] {
            assert_eq!(crowd.enter(&of(tenant), newcomer), Ok(turn), "{newcomer}");
        }
        assert_eq!(crowd.next(&of("b")), None);
        assert_eq!(
            [(); 3].map(|()| crowd.next(&of("a"))),
            [Some(2), Some(5), None]
        );
        assert_eq!(crowd.enter(&of("a"), 7), Ok(Some(7)), "nobody is there");
        assert_eq!(crowd.next(&of("")), Some(6));
    }

    #[test]
    fn a_tenant_leaves_places_to_others_and_all_together_are_limited() {
        let mut crowd = Crowd::new();
        let mut fill = |tenant: &str| {
            let kind = of(tenant);
            let mut taken = 0;
            while crowd.enter(&kind, ()).is_ok() {
                taken += 1;
            }
            taken
        };
        // One more has its turn.
        assert_eq!(fill("a"), WAITING_OF_TENANT_MAX + 1);
        assert_eq!(fill("b"), WAITING_OF_TENANT_MAX + 1);
        assert_eq!(fill(""), WAITING_MAX - 2 * WAITING_OF_TENANT_MAX + 1);
        assert_eq!(fill("c"), 1);
        assert_eq!(crowd.next(&of("a")), Some(()));
        assert_eq!(crowd.enter(&of("c"), ()), Ok(None));
    }
}
