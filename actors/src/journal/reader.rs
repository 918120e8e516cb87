//! The reading side of the segments: catch-up, single records, replay.
//!
//! Owns: how records are fetched. Does not know: writing, sessions.
//!
//! Invariants:
//! - nothing at or behind the committed end of the moment is given out;
//! - no lock is held while the disk is read;
//! - the work of one page is bounded, whatever the filters.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use super::codec::{self, Kind, MessageBody, Parsed, RawRecord};
use super::mend::with_mended;
use super::recovery::SCAN_BYTES;
use super::segment::{HEADER_BYTES, Segment, Window, topic_text};
use super::segments::Segments;
use super::select::Selection;
use super::{JournalObservation, JournalReader, Page, ReadError, ReadRequest, Record};
use crate::model::entry::Entry;
use crate::model::ids::Offset;
use crate::model::message::QoS;
use crate::model::topic::Filter;

/// One page of a scan looks at no more records than this; the reader comes again from there.
const SCAN_RECORDS_MAX: usize = 1 << 16;
/// Records as near as this to the one before are read in one go.
const NEAR_BYTES: u32 = 1 << 16;
/// Read for a record that stands alone.
const SINGLE_BYTES: usize = 512;
/// Read for a topic definition.
const TOPIC_BYTES: usize = 128;

/// Reads the segments of one journal.
#[derive(Debug)]
pub struct SegmentReader {
    shared: Arc<Segments>,
}

impl SegmentReader {
    pub(super) fn new(shared: Arc<Segments>) -> Self {
        Self { shared }
    }
}

impl JournalReader for SegmentReader {
    fn read(&self, request: &ReadRequest<'_>) -> Result<Page, ReadError> {
        let end = self.shared.end();
        let list = self.shared.list();
        let mut pass = Pass {
            request,
            end,
            page: Page {
                records: Vec::new(),
                next: end.max(request.from),
                end,
                holes: 0,
            },
            bytes: 0,
            looked_at: 0,
        };
        let nothing = request.filters.is_empty() || request.records_max == 0;
        let first = holding(&list, request.from);
        let mut holes = Holes {
            before: first.checked_sub(1).map_or(0, |at| list[at].header.id),
            read_to: wanted_from(request),
            dropped_end: self.shared.dropped_end(),
        };
        let mut has_room = !nothing;
        for segment in &list[first..] {
            if nothing || segment.header.first >= end {
                break;
            }
            pass.page.holes += u32::from(holes.is_in_front_of(segment));
            has_room = pass.mended(&self.shared, segment)?;
            if !has_room {
                break;
            }
        }
        // Behind the last record others may have gone.
        pass.page.holes += u32::from(has_room && holes.read_to < holes.dropped_end);
        let page = pass.page;
        Segments::count(&self.shared.records_read, pass.looked_at);
        Segments::count(&self.shared.records_matched, page.records.len());
        Ok(page)
    }

    fn read_at(&self, offsets: &[Offset]) -> Result<Vec<Option<Record>>, ReadError> {
        let list = self.shared.list();
        let mut records = Vec::with_capacity(offsets.len());
        for offset in offsets.iter().copied() {
            let record = match list.get(holding(&list, offset)) {
                Some(segment) => with_mended(&self.shared, segment, || single(segment, offset))?,
                None => None,
            };
            records.push(record);
        }
        Ok(records)
    }

    fn replay(&self, from: Offset, each: &mut dyn FnMut(Offset, Entry)) -> Result<(), ReadError> {
        let end = self.shared.end();
        let list = self.shared.list();
        for segment in list.iter().skip(holding(&list, from)) {
            let first = from.max(segment.header.first);
            let at = match first > segment.header.first {
                true => with_mended(&self.shared, segment, || segment.position(first))?,
                false => Some(HEADER_BYTES),
            };
            if let Some(at) = at {
                replay_segment(segment, at, end, each)?;
            }
        }
        Ok(())
    }

    fn end(&self) -> Offset {
        self.shared.end()
    }

    fn parts(&self) -> Vec<Range<Offset>> {
        let list = self.shared.list();
        list.iter()
            .map(|segment| segment.header.first..segment.extent().end)
            .collect()
    }

    fn start(&self) -> Offset {
        self.shared.start()
    }

    fn holds(&self) -> Offset {
        self.shared.holds()
    }

    fn entries_since(&self, from: Offset) -> u64 {
        self.shared.entries_since(from)
    }

    fn observe(&self) -> JournalObservation {
        self.shared.observe()
    }
}

/// The first segment that ends behind `offset`.
fn holding(list: &[Arc<Segment>], offset: Offset) -> usize {
    list.partition_point(|segment| segment.extent().end <= offset)
}

/// From where on the reader wants records.
fn wanted_from(request: &ReadRequest<'_>) -> Offset {
    let from = request.filters.iter().map(|(_, from)| *from).min();
    from.unwrap_or_default().max(request.from)
}

/// Where records went that the reader has not read. What lies below its place may have gone because nobody needed it.
struct Holes {
    /// The segment in front, 0 if there is none.
    before: u64,
    read_to: Offset,
    dropped_end: Offset,
}

impl Holes {
    /// Whether there is one between the last segment and this one, which is read next.
    fn is_in_front_of(&mut self, segment: &Segment) -> bool {
        let is_hole = self.before + 1 != segment.header.id
            && self.read_to < segment.header.first
            && self.read_to < self.dropped_end;
        self.before = segment.header.id;
        self.read_to = self.read_to.max(segment.extent().end);
        is_hole
    }
}

/// One page in the making.
struct Pass<'a> {
    request: &'a ReadRequest<'a>,
    end: Offset,
    page: Page,
    bytes: usize,
    looked_at: usize,
}

impl Pass<'_> {
    /// As [`Self::segment`], again if the index proves to be damaged and was built again.
    fn mended(&mut self, shared: &Segments, segment: &Segment) -> Result<bool, ReadError> {
        let (records, bytes, looked_at) = (self.page.records.len(), self.bytes, self.looked_at);
        with_mended(shared, segment, || {
            self.page.records.truncate(records);
            (self.bytes, self.looked_at) = (bytes, looked_at);
            self.segment(segment)
        })
    }

    /// Reads what one segment has; whether the page has room for more.
    fn segment(&mut self, segment: &Segment) -> Result<bool, ReadError> {
        let from = self.request.from.max(segment.header.first);
        let wanted = self.request.records_max - self.page.records.len();
        let (selection, extent) = segment.select(self.request.filters, from, wanted)?;
        let mut topics = Topics::new(segment, extent.bytes);
        let mut window = Window::of(segment, extent.bytes);
        let filters = self.request.filters;
        let mut wanted = Wanted::default();
        match selection {
            Selection::Positions(positions) => {
                for (n, at) in positions.iter().copied().enumerate() {
                    let near = positions
                        .get(n + 1)
                        .is_some_and(|next| next - at < NEAR_BYTES);
                    let ahead = if near {
                        NEAR_BYTES as usize
                    } else {
                        SINGLE_BYTES
                    };
                    let record = expect_record(&mut window, segment, at, ahead)?;
                    let offset = offset_of(segment, &record);
                    if offset >= self.end {
                        break;
                    }
                    let body = message_body(segment, at, &record)?;
                    self.looked_at += 1;
                    let topic = topics.get(body.topic_at)?;
                    if !wanted.holds(filters, body.topic_at, topic, offset) {
                        return Err(segment.damaged(at, "record is not what the topic index says"));
                    }
                    if !self.take(offset, body, topic) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Selection::Scan(start) => self.scan(segment, start, extent.bytes, topics, window),
        }
    }

    fn scan(
        &mut self,
        segment: &Segment,
        start: u32,
        limit: u32,
        mut topics: Topics<'_>,
        mut window: Window<'_>,
    ) -> Result<bool, ReadError> {
        let mut wanted = Wanted::default();
        let mut at = start;
        while at < limit {
            let record = expect_record(&mut window, segment, at, SCAN_BYTES)?;
            let offset = offset_of(segment, &record);
            if offset >= self.end {
                break;
            }
            let place = at;
            at += record.size();
            if record.kind != Kind::Message {
                continue;
            }
            if self.looked_at >= SCAN_RECORDS_MAX {
                self.page.next = offset;
                return Ok(false);
            }
            self.looked_at += 1;
            let body = message_body(segment, place, &record)?;
            let topic = topics.get(body.topic_at)?;
            if body.qos > QoS::AtMostOnce
                && wanted.holds(self.request.filters, body.topic_at, topic, offset)
                && !self.take(offset, body, topic)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a record on the page; whether there is room for more.
    fn take(&mut self, offset: Offset, body: MessageBody<'_>, topic: &str) -> bool {
        self.bytes += body.payload.len();
        self.page.records.push(Record {
            offset,
            message: body.to_message(topic),
        });
        let full = self.page.records.len() >= self.request.records_max
            || self.bytes >= self.request.bytes_max;
        if full {
            self.page.next = offset.next();
        }
        !full
    }
}

/// The smallest offset from which each topic is wanted, by where it is defined: filters are matched once per topic.
#[derive(Default)]
struct Wanted(HashMap<u32, Option<Offset>>);

impl Wanted {
    fn holds(
        &mut self,
        filters: &[(Filter, Offset)],
        topic_at: u32,
        topic: &str,
        offset: Offset,
    ) -> bool {
        let from = self.0.entry(topic_at).or_insert_with(|| {
            let matching = filters.iter().filter(|(filter, _)| filter.matches(topic));
            matching.map(|(_, from)| *from).min()
        });
        from.is_some_and(|from| from <= offset)
    }
}

fn single(segment: &Segment, offset: Offset) -> Result<Option<Record>, ReadError> {
    let Some(at) = segment.position(offset)? else {
        return Ok(None);
    };
    let limit = segment.extent().bytes;
    let mut window = Window::of(segment, limit);
    let record = expect_record(&mut window, segment, at, SINGLE_BYTES)?;
    if offset_of(segment, &record) != offset {
        return Err(segment.damaged(at, "record is not what the offset index says"));
    }
    if record.kind != Kind::Message {
        return Ok(None);
    }
    let body = message_body(segment, at, &record)?;
    let mut topics = Topics::new(segment, limit);
    Ok(Some(Record {
        offset,
        message: body.to_message(topics.get(body.topic_at)?),
    }))
}

fn replay_segment(
    segment: &Segment,
    mut at: u32,
    end: Offset,
    each: &mut dyn FnMut(Offset, Entry),
) -> Result<(), ReadError> {
    let limit = segment.extent().bytes;
    let mut topics = Topics::new(segment, limit);
    let mut window = Window::of(segment, limit);
    while at < limit {
        let record = expect_record(&mut window, segment, at, SCAN_BYTES)?;
        let offset = offset_of(segment, &record);
        if offset >= end {
            break;
        }
        let place = at;
        at += record.size();
        let entry = match record.kind {
            Kind::Topic => {
                topics.learn(place, &record);
                continue;
            }
            Kind::Message => {
                let body = message_body(segment, place, &record)?;
                Entry::Message {
                    received: body.received,
                    message: body.to_message(topics.get(body.topic_at)?),
                }
            }
            Kind::Session | Kind::Group | Kind::Liveness | Kind::HighWater => {
                codec::decode_state(&record)
                    .ok_or_else(|| segment.damaged(place, "state change of an unknown format"))?
            }
        };
        each(offset, entry);
    }
    Ok(())
}

fn expect_record<'w>(
    window: &'w mut Window<'_>,
    segment: &Segment,
    at: u32,
    ahead: usize,
) -> Result<RawRecord<'w>, ReadError> {
    match window.record(at, ahead)? {
        Parsed::Record(record) => Ok(record),
        Parsed::Invalid(what) => Err(segment.damaged(at, what)),
        Parsed::Incomplete => Err(segment.damaged(at, "record cut off")),
    }
}

fn offset_of(segment: &Segment, record: &RawRecord<'_>) -> Offset {
    Offset(segment.header.first.0 + u64::from(record.relative))
}

fn message_body<'a>(
    segment: &Segment,
    at: u32,
    record: &RawRecord<'a>,
) -> Result<MessageBody<'a>, ReadError> {
    let body = match record.kind {
        Kind::Message => MessageBody::decode(record.body),
        Kind::Topic | Kind::Session | Kind::Group | Kind::Liveness | Kind::HighWater => None,
    };
    body.ok_or_else(|| segment.damaged(at, "no message of a known format"))
}

/// The topics of one segment that a read has met.
struct Topics<'a> {
    segment: &'a Segment,
    window: Window<'a>,
    known: HashMap<u32, Box<str>>,
}

impl<'a> Topics<'a> {
    fn new(segment: &'a Segment, limit: u32) -> Self {
        Self {
            segment,
            window: Window::of(segment, limit),
            known: HashMap::new(),
        }
    }

    /// Remembers a definition that was read anyway.
    fn learn(&mut self, at: u32, record: &RawRecord<'_>) {
        if let Some(topic) = topic_text(record) {
            self.known.insert(at, Box::from(topic));
        }
    }

    fn get(&mut self, at: u32) -> Result<&str, ReadError> {
        use hashbrown::hash_map::Entry as Slot;
        match self.known.entry(at) {
            Slot::Occupied(known) => Ok(known.into_mut()),
            Slot::Vacant(slot) => {
                let record = expect_record(&mut self.window, self.segment, at, TOPIC_BYTES)?;
                let topic = topic_text(&record)
                    .ok_or_else(|| self.segment.damaged(at, "no topic is defined here"))?;
                Ok(slot.insert(Box::from(topic)))
            }
        }
    }
}
