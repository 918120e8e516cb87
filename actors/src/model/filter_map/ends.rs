//! The values of the filters that end at one node of the trie.
//!
//! A filter ends at the node of its last level, or, if its last level is a wildcard, at the one above: so the many
//! filters that end in a wildcard take no node for it.

/// How a filter ends at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the node's own level.
    Here,
    /// With `+` below the node.
    Plus,
    /// With `#` below the node.
    Hash,
}

/// At most one value for each way to end; mostly one in all, which lies in place.
#[derive(Debug, Default)]
pub(super) enum Ends<T> {
    #[default]
    None,
    One(End, T),
    Many(Box<[Option<T>; 3]>),
}

impl<T> Ends<T> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(..) => 0,
            Self::Many(many) => size_of_val(&**many),
        }
    }

    pub(super) fn get(&self, end: End) -> Option<&T> {
        match self {
            Self::None => None,
            Self::One(at, value) => (*at == end).then_some(value),
            Self::Many(many) => many[end as usize].as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, end: End) -> Option<&mut T> {
        match self {
            Self::None => None,
            Self::One(at, value) => (*at == end).then_some(value),
            Self::Many(many) => many[end as usize].as_mut(),
        }
    }

    /// Sets the value of an end that has none.
    pub(super) fn put(&mut self, end: End, value: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(end, value),
            Self::One(at, known) => {
                let mut many = [None, None, None];
                many[at as usize] = Some(known);
                many[end as usize] = Some(value);
                Self::Many(Box::new(many))
            }
            Self::Many(mut many) => {
                many[end as usize] = Some(value);
                Self::Many(many)
            }
        };
    }

    pub(super) fn take(&mut self, end: End) -> Option<T> {
        let (taken, left) = match std::mem::take(self) {
            Self::None => (None, Self::None),
            Self::One(at, value) if at == end => (Some(value), Self::None),
            Self::One(at, value) => (None, Self::One(at, value)),
            Self::Many(mut many) => (many[end as usize].take(), Self::of(many)),
        };
        *self = left;
        taken
    }

    /// In place again if only one is left.
    fn of(mut many: Box<[Option<T>; 3]>) -> Self {
        if many.iter().flatten().count() > 1 {
            return Self::Many(many);
        }
        let mut left = Self::None;
        for end in [End::Here, End::Plus, End::Hash] {
            if let Some(value) = many[end as usize].take() {
                left = Self::One(end, value);
            }
        }
        left
    }
}

/// The levels of a filter down to the node at which it ends, which is the root if there are none, and how it ends there.
pub(super) fn split(filter: &str) -> (Option<&str>, End) {
    match filter.rsplit_once('/') {
        Some((path, "+")) => (Some(path), End::Plus),
        Some((path, "#")) => (Some(path), End::Hash),
        None if filter == "+" => (None, End::Plus),
        None if filter == "#" => (None, End::Hash),
        Some(_) | None => (Some(filter), End::Here),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_keeps_its_value_while_others_come_and_go() {
        let all = [End::Here, End::Plus, End::Hash];
        for first in all {
            for second in all.into_iter().filter(|end| *end != first) {
                let mut ends = Ends::default();
                assert_eq!(ends.take(first), None);
                ends.put(first, 1);
                assert_eq!(ends.take(second), None);
                ends.put(second, 2);
                *ends.get_mut(second).unwrap() += 1;
                assert_eq!((ends.get(first), ends.get(second)), (Some(&1), Some(&3)));
                assert!(ends.heap_bytes() > 0);
                assert_eq!(ends.take(first), Some(1));
                assert_eq!((ends.get(first), ends.get(second)), (None, Some(&3)));
                assert_eq!(ends.heap_bytes(), 0);
                assert_eq!(ends.take(second), Some(3));
                assert!(ends.is_empty());
            }
        }
    }

    #[test]
    fn a_filter_ends_above_its_last_wildcard() {
        for (filter, path, end) in [
            ("a/b", Some("a/b"), End::Here),
            ("a/+", Some("a"), End::Plus),
            ("a/+/#", Some("a/+"), End::Hash),
            ("+/b", Some("+/b"), End::Here),
            ("/+", Some(""), End::Plus),
            ("+", None, End::Plus),
            ("#", None, End::Hash),
        ] {
            assert_eq!(split(filter), (path, end), "{filter}");
        }
    }
}
