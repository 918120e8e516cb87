//! A part of a larger value that most have empty: it takes a word until it is used.
//!
//! Owns: when memory is taken and given back. Does not know: what the part is for.

use std::ops::{Deref, DerefMut};

/// What an unused part reads as.
pub trait Unused: Default + 'static {
    /// The value of a part that was never written.
    fn unused() -> &'static Self;

    /// Whether the part may be forgotten.
    fn is_unused(&self) -> bool;
}

/// A part that takes memory from the first write on, until [`Lazy::tidy`] finds it unused. Writing to it, through `&mut`,
/// takes the memory; ask [`Lazy::used`] first where there may be nothing to write.
#[derive(Clone, Debug)]
pub struct Lazy<T>(Option<Box<T>>);

impl<T: Unused> Lazy<T> {
    /// The part, if it was written to.
    pub fn used(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Takes the part out.
    pub fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |part| *part)
    }

    /// Gives the memory back if the part is unused.
    pub fn tidy(&mut self) {
        self.0.take_if(|part| part.is_unused());
    }
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Unused> From<T> for Lazy<T> {
    fn from(part: T) -> Self {
        Self((!part.is_unused()).then(|| Box::new(part)))
    }
}

impl<T: Unused> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(part) => part,
            None => T::unused(),
        }
    }
}

impl<T: Unused> DerefMut for Lazy<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Part {
        bytes: Vec<u8>,
    }

    impl Unused for Part {
        fn unused() -> &'static Self {
            static UNUSED: Part = Part { bytes: Vec::new() };
            &UNUSED
        }

        fn is_unused(&self) -> bool {
            self.bytes.is_empty()
        }
    }

    #[test]
    fn a_part_takes_memory_only_between_its_first_write_and_the_next_tidying_up() {
        let mut part = Lazy::<Part>::default();
        assert!(part.bytes.is_empty() && part.used().is_none());
        part.bytes.push(1);
        part.tidy();
        assert_eq!(part.used().map(|part| part.bytes.len()), Some(1));
        part.bytes.clear();
        part.tidy();
        assert!(part.used().is_none());
        assert!(Lazy::from(Part::default()).used().is_none());
        assert_eq!(size_of::<Lazy<Part>>(), size_of::<usize>());
    }
}
