//! The index of the segment that is being written: topic -> positions, and offset -> position, in memory.
//!
//! Owns: those maps, uncommitted records included (whoever asks says how far it may look). Does not know: files, bytes
//! of records. The index of a sealed segment is [`super::sorted`].
//!
//! Invariants:
//! - positions ascend, in every list;
//! - QoS 0 records have an offset but are in no topic's list: no durable reader wants them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::ReadError;
use super::select::{Postings, Selector};
use crate::model::ids::Offset;

/// Index of one segment in memory.
#[derive(Debug)]
pub(super) struct TopicIndex {
    first: Offset,
    /// Position of the record at `first + n`.
    offsets: Vec<u32>,
    numbers: HashMap<Arc<str>, u32>,
    sorted: BTreeMap<Arc<str>, u32>,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    defined_at: u32,
    positions: SmallVec<[u32; 2]>,
}

/// A topic's number in one index.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicNumber(u32);

impl TopicIndex {
    pub(super) fn new(first: Offset) -> Self {
        Self {
            first,
            offsets: Vec::new(),
            numbers: HashMap::new(),
            sorted: BTreeMap::new(),
            topics: Vec::new(),
        }
    }

    /// The topic's number, if it is defined in the segment.
    pub(super) fn topic(&self, topic: &str) -> Option<TopicNumber> {
        self.numbers.get(topic).copied().map(TopicNumber)
    }

    /// The topic that is defined at this position.
    pub(super) fn defined(&self, position: u32) -> Option<TopicNumber> {
        let number = self
            .topics
            .binary_search_by_key(&position, |topic| topic.defined_at)
            .ok()?;
        u32::try_from(number).ok().map(TopicNumber)
    }

    /// Where the topic is defined.
    pub(super) fn defined_at(&self, topic: TopicNumber) -> u32 {
        self.topics[topic.0 as usize].defined_at
    }

    /// Notes a topic's definition.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a segment has less than 4 GiB and a definition at least 14 bytes"
    )]
    pub(super) fn define(&mut self, topic: &str, defined_at: u32) -> TopicNumber {
        let number = self.topics.len() as u32;
        let topic: Arc<str> = Arc::from(topic);
        self.numbers.insert(topic.clone(), number);
        self.sorted.insert(topic, number);
        self.topics.push(Topic {
            defined_at,
            positions: SmallVec::new(),
        });
        TopicNumber(number)
    }

    /// Notes the record at the next offset; `topic` if durable readers may want it.
    pub(super) fn push(&mut self, position: u32, topic: Option<TopicNumber>) {
        self.offsets.push(position);
        if let Some(topic) = topic {
            self.topics[topic.0 as usize].positions.push(position);
        }
    }

    /// Forgets everything at or behind `position`.
    pub(super) fn cut(&mut self, position: u32) {
        let kept = self.offsets.partition_point(|at| *at < position);
        self.offsets.truncate(kept);
        let topics = self
            .topics
            .partition_point(|topic| topic.defined_at < position);
        if topics < self.topics.len() {
            self.topics.truncate(topics);
            self.numbers.retain(|_, number| (*number as usize) < topics);
            self.sorted.retain(|_, number| (*number as usize) < topics);
        }
        for topic in &mut self.topics {
            let kept = topic.positions.partition_point(|at| *at < position);
            topic.positions.truncate(kept);
        }
    }

    /// The offset behind the last record.
    pub(super) fn end(&self) -> Offset {
        Offset(self.first.0 + self.offsets.len() as u64)
    }

    /// Positions by offset, from the segment's first on.
    pub(super) fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Topics that have positions, ascending, with these.
    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, &[u32])> {
        self.sorted
            .iter()
            .map(|(topic, number)| (&**topic, &*self.topics[*number as usize].positions))
            .filter(|(_, positions)| !positions.is_empty())
    }

    /// Hands at most `topics_max` topics that begin with `prefix`, behind the topic `after`, to `out`; gives the last one
    /// if there may be more.
    pub(super) fn range_part(
        &self,
        prefix: &str,
        after: Option<&str>,
        topics_max: usize,
        out: &mut Selector<'_>,
    ) -> Result<Option<Arc<str>>, ReadError> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let topics = self.sorted.range::<str, _>((from, Bound::Unbounded));
        for (passed, (topic, number)) in topics.enumerate() {
            if !topic.starts_with(prefix) || out.is_too_broad() {
                return Ok(None);
            }
            let positions = &self.topics[*number as usize].positions;
            out.topic(topic, Postings::Memory(positions))?;
            if passed + 1 >= topics_max {
                return Ok(Some(topic.clone()));
            }
        }
        Ok(None)
    }

    /// The position of the record at `offset`.
    pub(super) fn position(&self, offset: Offset) -> Option<u32> {
        let relative = usize::try_from(offset.0.checked_sub(self.first.0)?).ok()?;
        self.offsets.get(relative).copied()
    }

    /// Hands the topic of exactly this name to `out`, if it is there.
    pub(super) fn exact(&self, topic: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
        match self.topic(topic) {
            Some(TopicNumber(number)) => {
                let positions = &self.topics[number as usize].positions;
                out.topic(topic, Postings::Memory(positions))
            }
            None => Ok(()),
        }
    }
}
