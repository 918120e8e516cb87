//! Which records of one segment a request wants: by topic lookup where that is narrow, by a scan where it is not.
//!
//! Owns: the plan per filter and the choice between the two. Does not know: how an index is laid out ([`TopicSource`]),
//! files of records.
//!
//! Invariant: an exact filter is always a lookup, so a session with its own topic never reads what belongs to others.

use smallvec::SmallVec;

use super::ReadError;
use super::sorted::SortedIndex;
use crate::model::ids::Offset;
use crate::model::topic::Filter;

/// A filter that matches more topics than this in one segment is served by a scan.
const TOPICS_MAX: usize = 1024;
/// With fewer bytes than this left in the segment, a filter with a leading wildcard scans them instead of looking at
/// every topic.
const SHORT_SCAN_BYTES: u32 = 256 * 1024;

/// An index that can be asked for topics.
pub(super) trait TopicSource {
    /// The position from which all records at or behind `from` are found; `None` if there is none.
    fn start(&self, from: Offset) -> Result<Option<u32>, ReadError>;

    /// Hands the topic of exactly this name to `out`, if it is there.
    fn exact(&self, topic: &str, out: &mut Selector<'_>) -> Result<(), ReadError>;

    /// Hands all topics that begin with `prefix` to `out`, until it has enough.
    fn range(&self, prefix: &str, out: &mut Selector<'_>) -> Result<(), ReadError>;
}

/// The positions of one topic's records.
#[derive(Clone, Copy, Debug)]
pub(super) enum Postings<'a> {
    /// In memory.
    Memory(&'a [u32]),
    /// In an index file, `count` from the `at`th on.
    Sorted {
        index: &'a SortedIndex,
        at: u32,
        count: u32,
    },
}

/// What to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// The records at these positions, ascending. If there are as many as were asked for, more may follow.
    Positions(Vec<u32>),
    /// Every record from this position on has to be looked at.
    Scan(u32),
}

/// Gathers positions, filter by filter.
#[derive(Debug)]
pub(super) struct Selector<'a> {
    filter: &'a Filter,
    start: u32,
    /// Only what is committed lies below.
    limit_position: u32,
    count_max: usize,
    topics: usize,
    positions: Vec<u32>,
}

impl Selector<'_> {
    /// Takes the first positions of a topic if the current filter matches it.
    pub(super) fn topic(&mut self, topic: &str, postings: Postings<'_>) -> Result<(), ReadError> {
        if !self.filter.matches(topic) {
            return Ok(());
        }
        self.topics += 1;
        match postings {
            Postings::Memory(positions) => {
                let from = positions.partition_point(|at| *at < self.start);
                let limit = self.limit_position;
                let wanted = positions[from..].iter().take_while(|at| **at < limit);
                self.positions.extend(wanted.take(self.count_max));
                Ok(())
            }
            Postings::Sorted { index, at, count } => {
                let wanted = self.start..self.limit_position;
                index.postings(at, count, wanted, self.count_max, &mut self.positions)
            }
        }
    }

    /// Whether so many topics matched that a scan is the better way.
    pub(super) fn is_too_broad(&self) -> bool {
        self.topics > TOPICS_MAX
    }
}

enum Plan<'a> {
    Exact(&'a str),
    /// All topics below `prefix` (which ends in `/`), and perhaps the one without that.
    Prefix(&'a str),
    /// A leading `+`.
    AnyTopic,
    Everything,
}

fn plan(filter: &Filter) -> Plan<'_> {
    let text = filter.as_str();
    match text.find(['+', '#']) {
        None => Plan::Exact(text),
        Some(0) if text == "#" => Plan::Everything,
        Some(0) => Plan::AnyTopic,
        Some(at) => Plan::Prefix(&text[..at]),
    }
}

/// Selects at most `count_max` records of a segment whose committed part ends at `limit_position`.
pub(super) fn select(
    source: &impl TopicSource,
    filters: &[(Filter, Offset)],
    from: Offset,
    count_max: usize,
    limit_position: u32,
) -> Result<Selection, ReadError> {
    let nothing = || Ok(Selection::Positions(Vec::new()));
    let Some(base) = source.start(from)?.filter(|at| *at < limit_position) else {
        return nothing();
    };
    let mut starts: SmallVec<[(&Filter, u32); 8]> = SmallVec::new();
    for (filter, counts_from) in filters {
        let start = match *counts_from > from {
            true => source.start(*counts_from)?,
            false => Some(base),
        };
        starts.extend(start.map(|start| (filter, start)));
    }
    let Some((any, first)) = starts.iter().copied().min_by_key(|(_, start)| *start) else {
        return nothing();
    };
    let mut out = Selector {
        filter: any,
        start: first,
        limit_position,
        count_max,
        topics: 0,
        positions: Vec::new(),
    };
    for (filter, start) in starts {
        (out.filter, out.start, out.topics) = (filter, start, 0);
        match plan(filter) {
            Plan::Exact(topic) => source.exact(topic, &mut out)?,
            Plan::Prefix(prefix) => {
                // `a/#` matches `a` as well ([MQTT-4.7.1-2]).
                if let Some(parent) = prefix.strip_suffix('/') {
                    source.exact(parent, &mut out)?;
                }
                source.range(prefix, &mut out)?;
            }
            Plan::AnyTopic if limit_position - start > SHORT_SCAN_BYTES => {
                source.range("", &mut out)?;
            }
            Plan::AnyTopic | Plan::Everything => return Ok(Selection::Scan(first)),
        }
        if out.is_too_broad() {
            return Ok(Selection::Scan(first));
        }
    }
    let mut positions = out.positions;
    positions.sort_unstable();
    positions.dedup();
    positions.truncate(count_max);
    Ok(Selection::Positions(positions))
}

#[cfg(test)]
mod tests {
    use super::super::index::TopicIndex;
    use super::super::memory::MemoryFiles;
    use super::super::sorted::{self, Covers};
    use super::*;

    /// An index that was sealed after its reader had looked how far the segment was committed.
    struct Sealed(SortedIndex);

    impl TopicSource for Sealed {
        fn start(&self, _: Offset) -> Result<Option<u32>, ReadError> {
            Ok(Some(64))
        }

        fn exact(&self, topic: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
            self.0.exact(topic, out)
        }

        fn range(&self, prefix: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
            self.0.range(prefix, out)
        }
    }

    #[test]
    fn an_index_that_was_sealed_meanwhile_gives_nothing_behind_the_end_that_was_seen() {
        let mut index = TopicIndex::new(Offset(0));
        let topics = [index.define("a/b", 64), index.define("a/c", 80)];
        let positions: Vec<u32> = (1..200).map(|n| 100 * n).collect();
        for (n, at) in positions.iter().enumerate() {
            index.push(*at, Some(topics[n % 2]));
        }
        let files = MemoryFiles::new();
        let covers = Covers {
            segment: 1,
            first: Offset(0),
            bytes: 30_000,
        };
        sorted::write(&files, "index", covers, &index).unwrap();
        let sealed = Sealed(SortedIndex::open(&files, "index", covers).unwrap());
        for end in [101, 5_000, 19_900] {
            for filters in [&["a/b", "a/c"][..], &["a/#"], &["a/+"]] {
                let filters: Vec<_> = filters
                    .iter()
                    .map(|text| (Filter::new(text).unwrap(), Offset(0)))
                    .collect();
                let found = select(&sealed, &filters, Offset(0), 1000, end).unwrap();
                let below = positions.iter().copied().filter(|at| *at < end).collect();
                assert_eq!(
                    found,
                    Selection::Positions(below),
                    "{filters:?} below {end}"
                );
            }
        }
    }
}
