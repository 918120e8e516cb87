//! A map from small numbers to values.
//!
//! Of 64 numbers in a row those that have a value lie together, and a bit set says which they are. So a look-up takes one
//! step through memory that is not at hand, a value costs no more than its size, and a number without one next to nothing:
//! each of many shards keeps the few filters that are its own.

const PAGE: u32 = u64::BITS;

/// A map from numbers, which should be small, to values.
#[derive(Debug)]
pub(super) struct Sparse<T> {
    pages: Vec<Page<T>>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    present: u64,
    /// Those of the numbers that are present, in order.
    values: Vec<T>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        let values = Vec::new();
        Self { present: 0, values }
    }
}

impl<T> Page<T> {
    /// Whether the number with this bit has a value, and where that is or belongs.
    fn position(&self, bit: u64) -> (bool, usize) {
        let before = self.present & (bit - 1);
        (self.present & bit != 0, before.count_ones() as usize)
    }
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        let pages = Vec::new();
        Self { pages, len: 0 }
    }
}

impl<T: Default> Sparse<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let values = self.pages.iter().map(|page| page.values.capacity());
        self.pages.capacity() * size_of::<Page<T>>() + values.sum::<usize>() * size_of::<T>()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (page, bit) = place(number);
        let page = self.pages.get(page)?;
        let (present, at) = page.position(bit);
        if present { page.values.get(at) } else { None }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (page, bit) = place(number);
        let page = self.pages.get_mut(page)?;
        let (present, at) = page.position(bit);
        if present {
            page.values.get_mut(at)
        } else {
            None
        }
    }

    /// The value of `number`, which is `T::default()` if it had none.
    pub(super) fn get_or_default(&mut self, number: u32) -> &mut T {
        let (page, bit) = place(number);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, Page::default);
        }
        let page = &mut self.pages[page];
        let (present, at) = page.position(bit);
        if !present {
            if page.values.len() == page.values.capacity() {
                // By a quarter: pages are many, and what they do not use adds up.
                page.values.reserve_exact(1 + page.values.len() / 4);
            }
            page.values.insert(at, T::default());
            page.present |= bit;
            self.len += 1;
        }
        &mut page.values[at]
    }

    pub(super) fn remove(&mut self, number: u32) {
        let (page, bit) = place(number);
        let Some(page) = self.pages.get_mut(page) else {
            return;
        };
        let (present, at) = page.position(bit);
        if !present {
            return;
        }
        page.values.remove(at);
        page.present &= !bit;
        if page.values.len() <= page.values.capacity() / 2 {
            page.values.shrink_to_fit();
        }
        self.len -= 1;
        while self.pages.last().is_some_and(|last| last.present == 0) {
            self.pages.pop();
        }
        if self.pages.len() <= self.pages.capacity() / 4 {
            self.pages.shrink_to(self.pages.len() * 2);
        }
    }
}

/// The page of a number, and its bit there.
fn place(number: u32) -> (usize, u64) {
    ((number / PAGE) as usize, 1 << (number % PAGE))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..300_u32), 1..600)) {
            let mut sparse = Sparse::default();
            let mut map = BTreeMap::new();
            for (value, (put, number)) in steps.into_iter().enumerate() {
                if put {
                    *sparse.get_or_default(number) = value;
                    map.insert(number, value);
                } else {
                    sparse.remove(number);
                    map.remove(&number);
                }
                prop_assert_eq!(sparse.get_mut(number), map.get_mut(&number));
                prop_assert_eq!(sparse.len(), map.len());
            }
            for number in 0..300 {
                prop_assert_eq!(sparse.get(number), map.get(&number));
                sparse.remove(number);
            }
            prop_assert_eq!((sparse.len(), sparse.heap_bytes()), (0, 0));
        }
    }

    #[test]
    fn values_cost_their_size_and_numbers_without_one_next_to_nothing() {
        let mut sparse = Sparse::<[u64; 2]>::default();
        for number in (0..64_000).step_by(64) {
            sparse.get_or_default(number);
        }
        assert!(sparse.heap_bytes() <= 1_000 * (16 + 2 * size_of::<Page<[u64; 2]>>()));
        for number in 0..64_000 {
            sparse.get_or_default(number);
        }
        assert!(sparse.heap_bytes() < 64_000 * 16 * 6 / 5);
    }
}
