//! Which packet identifier is next: the first one that nothing in the window holds, counting up for records in the order of
//! the log, and down for all others.
//!
//! Not every identifier is looked for in the window, which may be long: each direction knows of some in a row that are free,
//! and looks again when those are used up. What is freed meanwhile only makes more of them.
//!
//! Invariant: what one direction knows to be free, the other does not take without telling it.

use crate::model::ids::PacketId;

/// How many identifiers there are.
const CYCLE: u16 = u16::MAX;

/// The next identifiers in both directions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identifiers {
    up: Run,
    down: Run,
}

/// Identifiers in a row, in one direction.
#[derive(Clone, Copy, Debug)]
struct Run {
    next: PacketId,
    /// So many from `next` on are free.
    free: u16,
}

/// A direction: what follows an identifier, and how many steps it is from one to another.
#[derive(Clone, Copy)]
struct Way {
    step: fn(PacketId) -> PacketId,
    steps: fn(PacketId, PacketId) -> u16,
}

const UP: Way = Way {
    step: PacketId::following,
    steps: distance,
};

const DOWN: Way = Way {
    step: PacketId::preceding,
    steps: |from, to| distance(to, from),
};

impl Identifiers {
    /// Where to go on counting up, and counting down.
    pub(super) fn new(up: PacketId, down: PacketId) -> Self {
        Self {
            up: Run { next: up, free: 0 },
            down: Run {
                next: down,
                free: 0,
            },
        }
    }

    /// The next one counting up, unless it is held.
    pub(super) fn up(&self) -> PacketId {
        self.up.next
    }

    /// Goes on counting up behind `packet_id`.
    pub(super) fn count_past(&mut self, packet_id: PacketId) {
        self.up = Run {
            next: packet_id.following(),
            free: 0,
        };
    }

    /// Takes the next free one, counting up. `held` gives those that are not free, fewer than there are.
    pub(super) fn take_up(&mut self, held: impl Iterator<Item = PacketId>) -> PacketId {
        self.up.take(UP, &mut self.down, held)
    }

    /// Takes the next free one, counting down.
    pub(super) fn take_down(&mut self, held: impl Iterator<Item = PacketId>) -> PacketId {
        self.down.take(DOWN, &mut self.up, held)
    }
}

impl Run {
    fn take(
        &mut self,
        way: Way,
        other: &mut Self,
        held: impl Iterator<Item = PacketId>,
    ) -> PacketId {
        if self.free == 0 {
            let (taken, to_held) = look(held.map(|held| (way.steps)(self.next, held)));
            for _ in 0..taken {
                self.next = (way.step)(self.next);
            }
            let to_other = (way.steps)(self.next, other.next);
            if to_other < other.free {
                other.free = 0;
            }
            self.free = share(to_other - other.free, to_held);
        }
        let taken = self.next;
        self.next = (way.step)(taken);
        self.free -= 1;
        taken
    }
}

/// Steps up from one to the other, past the last one if need be.
fn distance(from: PacketId, to: PacketId) -> u16 {
    match to.get().checked_sub(from.get()) {
        Some(steps) => steps,
        None => CYCLE - (from.get() - to.get()),
    }
}

/// Of the distances to those that are held: how many are in a row from here on, and how far it is from there to the next.
fn look(distances: impl Iterator<Item = u16>) -> (u16, Option<u16>) {
    let mut distances: Vec<_> = distances.collect();
    distances.sort_unstable();
    let in_a_row = (0..).zip(&distances).take_while(|(at, to)| at == *to);
    let taken = in_a_row.count();
    let next = distances.get(taken).copied();
    let taken = u16::try_from(taken).expect("identifiers are distinct");
    (taken, next.map(|next| next - taken))
}

/// How many a direction may call its own: those before the first that is held, and half of what lies unclaimed on the way
/// to the other direction, so that this one finds some, too. One at least, the next.
fn share(unclaimed: u16, to_held: Option<u16>) -> u16 {
    let half = (unclaimed / 2).max(1);
    to_held.map_or(half, |to_held| half.min(to_held))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Looks for each identifier in the window.
    struct Plain {
        up: PacketId,
        down: PacketId,
    }

    impl Plain {
        fn take_up(&mut self, held: &BTreeSet<PacketId>) -> PacketId {
            while held.contains(&self.up) {
                self.up = self.up.following();
            }
            let taken = self.up;
            self.up = taken.following();
            taken
        }

        fn take_down(&mut self, held: &BTreeSet<PacketId>) -> PacketId {
            while held.contains(&self.down) {
                self.down = self.down.preceding();
            }
            let taken = self.down;
            self.down = taken.preceding();
            taken
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Both directions meet and pass each other again and again.
        #[test]
        fn each_is_the_one_that_looking_for_every_one_finds(
            start in 1_u16..,
            steps in prop::collection::vec((0..8_u8, any::<prop::sample::Index>(), 1..9_000_u16), 1..150),
        ) {
            let start = PacketId::new(start).unwrap();
            let mut identifiers = Identifiers::new(start, PacketId::LAST);
            let mut plain = Plain { up: start, down: PacketId::LAST };
            let mut held = BTreeSet::new();
            for (kind, which, count) in steps {
                match kind {
                    0 if !held.is_empty() => {
                        let past = *which.get(&held.iter().copied().collect::<Vec<_>>());
                        identifiers.count_past(past);
                        plain.up = past.following();
                    }
                    // Those that were held for a moment only.
                    1 => for _ in 0..count {
                        let taken = identifiers.take_up(held.iter().copied());
                        prop_assert_eq!(taken, plain.take_up(&held));
                    }
                    2 => for _ in 0..count {
                        let taken = identifiers.take_down(held.iter().copied());
                        prop_assert_eq!(taken, plain.take_down(&held));
                    }
                    3 | 4 => {
                        let taken = identifiers.take_up(held.iter().copied());
                        prop_assert_eq!(taken, plain.take_up(&held));
                        held.insert(taken);
                    }
                    5 | 6 => {
                        let taken = identifiers.take_down(held.iter().copied());
                        prop_assert_eq!(taken, plain.take_down(&held));
                        held.insert(taken);
                    }
                    _ if !held.is_empty() => {
                        let freed = *which.get(&held.iter().copied().collect::<Vec<_>>());
                        held.remove(&freed);
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn the_last_free_one_is_found_from_both_sides() {
        let last = PacketId::new(700).unwrap();
        let held = || {
            (1..=CYCLE)
                .filter_map(PacketId::new)
                .filter(|id| *id != last)
        };
        let identifiers = || Identifiers::new(PacketId::FIRST, PacketId::LAST);
        assert_eq!(identifiers().take_up(held()), last);
        assert_eq!(identifiers().take_down(held()), last);
    }

    #[test]
    fn a_long_window_is_looked_through_seldom() {
        let mut identifiers = Identifiers::new(PacketId::FIRST, PacketId::LAST);
        let looks = std::cell::Cell::new(0);
        let held = || {
            std::iter::from_fn(|| {
                looks.set(looks.get() + 1);
                None
            })
        };
        for _ in 0..1_000 {
            identifiers.take_up(held());
            identifiers.take_down(held());
        }
        assert!(looks.get() < 10, "{looks:?}");
    }
}
