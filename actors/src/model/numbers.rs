//! Numbers for things that come and go: small ones first, each given to one thing at a time.

/// Which numbers are free.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The lowest that was never taken.
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    /// A number that nothing has.
    ///
    /// # Panics
    /// If 2^32 are taken, for which no memory suffices.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let number = self.next;
            let next = number.checked_add(1);
            self.next = next.expect("fewer than 2^32 things fit in memory");
            number
        })
    }

    /// Nothing has this number any more.
    pub(super) fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_free_is_taken_before_a_new_one() {
        let mut numbers = Numbers::default();
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [0, 1, 2]);
        numbers.give_back(1);
        assert_eq!([numbers.take(), numbers.take()], [1, 3]);
    }
}
