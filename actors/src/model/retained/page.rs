//! Which topics with a retained message match a filter, page by page.
//!
//! A filter is answered by a walk through the sorted topics that leaps over what cannot match: from each topic it
//! computes the smallest later text that could, and seeks there (`walk`). A literal prefix is thus a range, and `+`
//! costs one leap per name at its level, not per topic below it.

use std::collections::btree_map::Range;
use std::ops::Bound;

use super::walk::{Verdict, Walk};
use super::{Retained, RetainedAt};
use crate::model::ids::Offset;
use crate::model::topic::Filter;

/// So many steps forward are cheaper than a search from the root of the tree.
const STEPS_BEFORE_SEEK: usize = 4;

type Entry<'a> = (&'a Box<str>, &'a RetainedAt);

/// A part of the answer to a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedPage {
    /// Matching topics in order, and where their messages lie.
    pub found: Vec<(Box<str>, Offset)>,
    /// Where the next page goes on (its `after`); `None` if this is the last one.
    pub resume: Option<Box<str>>,
}

impl Retained {
    /// The first `max` topics after `after` that match `filter`, in order, however many topics must be looked at.
    pub fn matching(
        &self,
        filter: &Filter,
        after: Option<&str>,
        max: usize,
    ) -> Vec<(Box<str>, Offset)> {
        self.page(filter, after, max, usize::MAX).found
    }

    /// The next topics after `after` that match `filter`, in order: at most `found_max`, and no more than
    /// `visited_max` topics are looked at (both at least 1), so that a filter that matches little, such as `+/+/x`,
    /// cannot hold up the caller. Topics set or cleared between two pages are seen or not seen, the others exactly once.
    pub fn page(
        &self,
        filter: &Filter,
        after: Option<&str>,
        found_max: usize,
        visited_max: usize,
    ) -> RetainedPage {
        let mut walk = Walk::new(filter.as_str());
        let mut range = match after {
            Some(after) if after >= walk.target() => self.from(Bound::Excluded(after)),
            _ => self.from(Bound::Included(walk.target())),
        };
        let mut found = Vec::new();
        let mut visited = 0;
        let mut next = range.next();
        while let Some((topic, at)) = next {
            visited += 1;
            let upcoming = match walk.judge(topic) {
                Verdict::Match => {
                    found.push((topic.clone(), at.offset));
                    range.next()
                }
                Verdict::Step => range.next(),
                Verdict::Leap => self.leap(&mut range, walk.target()),
                Verdict::End => None,
            };
            if upcoming.is_some() && (found.len() >= found_max || visited >= visited_max) {
                return RetainedPage {
                    found,
                    resume: Some(topic.clone()),
                };
            }
            next = upcoming;
        }
        RetainedPage {
            found,
            resume: None,
        }
    }

    fn from(&self, start: Bound<&str>) -> Range<'_, Box<str>, RetainedAt> {
        self.topics.range::<str, _>((start, Bound::Unbounded))
    }

    /// The first topic at or after `target`, which lies ahead of `range`.
    fn leap<'a>(
        &'a self,
        range: &mut Range<'a, Box<str>, RetainedAt>,
        target: &str,
    ) -> Option<Entry<'a>> {
        for _ in 0..STEPS_BEFORE_SEEK {
            match range.next() {
                Some((topic, _)) if **topic < *target => {}
                reached => return reached,
            }
        }
        *range = self.from(Bound::Included(target));
        range.next()
    }
}
