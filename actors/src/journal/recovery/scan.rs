//! Reading a segment record by record, to check it and to build its index.

use super::SCAN_BYTES;
use crate::journal::ReadError;
use crate::journal::codec::{
    self, BATCH_END, Kind, MessageBody, Parsed, RECORD_HEADER_BYTES, SYNCED_BEFORE,
};
use crate::journal::index::TopicIndex;
use crate::journal::segment::{HEADER_BYTES, Header, Source, Window, io_error, topic_text};
use crate::journal::sorted;
use crate::model::ids::Offset;
use crate::model::message::QoS;

/// So many bytes are checksummed at most in the search for a confirmed batch behind a broken record.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// Reads a segment from its first record on and builds its index.
pub(in crate::journal) struct Scan {
    pub(in crate::journal) index: TopicIndex,
    /// Behind the last whole batch.
    pub(super) good: u32,
}

impl Scan {
    pub(in crate::journal) fn new(header: &Header) -> Self {
        Self {
            index: TopicIndex::new(header.first),
            good: HEADER_BYTES,
        }
    }

    /// Gives where and what the first bytes are that are no whole batch; `None` if the limit was reached.
    pub(in crate::journal) fn run(
        &mut self,
        source: Source<'_>,
        limit: u32,
    ) -> Result<Option<(u32, &'static str)>, ReadError> {
        let mut window = Window::new(source.file, source.path, source.header.salt, limit);
        let mut at = HEADER_BYTES;
        while at < limit {
            let record = match window.record(at, SCAN_BYTES)? {
                Parsed::Record(record) => record,
                Parsed::Invalid(what) => return Ok(Some((at, what))),
                Parsed::Incomplete => return Ok(Some((at, "record cut off"))),
            };
            let expected = self.index.end().0 - source.header.first.0;
            if u64::from(record.relative) != expected {
                return Ok(Some((at, "record out of order")));
            }
            let after = at + record.size();
            match record.kind {
                Kind::Topic => match topic_text(&record) {
                    Some(topic) => {
                        self.index.define(topic, at);
                    }
                    None => return Err(source.damaged(at, "topic is not UTF-8")),
                },
                Kind::Message => {
                    let Some(body) = MessageBody::decode(record.body) else {
                        return Err(source.damaged(at, "message of an unknown format"));
                    };
                    let Some(topic) = self.index.defined(body.topic_at) else {
                        return Err(source.damaged(at, "message whose topic is not defined"));
                    };
                    self.index
                        .push(at, (body.qos > QoS::AtMostOnce).then_some(topic));
                }
                Kind::Session | Kind::Group | Kind::Liveness | Kind::HighWater => {
                    self.index.push(at, None)
                }
            }
            at = after;
            if record.flags & BATCH_END != 0 {
                self.good = at;
            }
        }
        Ok((self.good < limit).then_some((self.good, "batch without an end")))
    }
}

/// Whether behind the broken record at `at` lies a batch that was written when all before it had been synced.
pub(super) fn has_confirmed_batch(
    source: Source<'_>,
    at: u32,
    limit: u32,
    expected: Offset,
) -> Result<bool, ReadError> {
    let mut tail = vec![0; (limit - at) as usize];
    source
        .file
        .read_exact_at(&mut tail, u64::from(at))
        .map_err(|error| io_error(source.path, error))?;
    let relative_min = expected.0 - source.header.first.0;
    let relative_max = relative_min + (tail.len() / RECORD_HEADER_BYTES) as u64;
    let mut checked = 0;
    for start in 1..tail.len().saturating_sub(RECORD_HEADER_BYTES) {
        let candidate = &tail[start..];
        if candidate[12] & SYNCED_BEFORE == 0 {
            continue;
        }
        let relative = u64::from(sorted::u32_at(candidate, 8).unwrap_or(0));
        let length = sorted::u32_at(candidate, 0).unwrap_or(u32::MAX) as usize;
        let fits = length <= candidate.len() - RECORD_HEADER_BYTES;
        if !fits || relative < relative_min || relative > relative_max {
            continue;
        }
        checked += length;
        if checked > SEARCH_BYTES_MAX {
            return Ok(false);
        }
        if let Parsed::Record(record) = codec::parse(candidate, source.header.salt)
            && record.flags & SYNCED_BEFORE != 0
        {
            return Ok(true);
        }
    }
    Ok(false)
}
