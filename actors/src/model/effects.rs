//! What a decision brings about: effects to perform in order, and what is counted besides, which has no order.

use smallvec::SmallVec;

use super::counter::Counter;

/// Effects of type `E`, in order, and counts.
///
/// Counts are apart because most decisions count something, and an effect, whatever it says, is moved several times until
/// it is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects<E> {
    list: Vec<E>,
    counts: SmallVec<[(Counter, u32); 4]>,
}

impl<E> Effects<E> {
    /// None.
    pub fn new() -> Self {
        Self {
            list: Vec::new(),
            counts: SmallVec::new(),
        }
    }

    /// Adds an effect behind the others.
    pub fn push(&mut self, effect: E) {
        self.list.push(effect);
    }

    /// Counts something once.
    pub fn count(&mut self, counter: Counter) {
        let known = self.counts.iter_mut().find(|(known, _)| *known == counter);
        match known {
            Some((_, times)) => *times += 1,
            None => self.counts.push((counter, 1)),
        }
    }

    /// How often something is counted.
    pub fn counted(&self, counter: Counter) -> u32 {
        let known = self.counts.iter().find(|(known, _)| *known == counter);
        known.map_or(0, |(_, times)| *times)
    }

    /// Whether there is neither an effect nor a count.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.counts.is_empty()
    }

    /// The effects, in order.
    pub fn as_slice(&self) -> &[E] {
        &self.list
    }

    /// Takes the effects out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = E> {
        self.list.drain(..)
    }

    /// Takes the counts out: what, and how often.
    pub fn drain_counts(&mut self) -> impl Iterator<Item = (Counter, u32)> {
        self.counts.drain(..)
    }
}

impl<E> Default for Effects<E> {
    fn default() -> Self {
        Self::new()
    }
}
