//! A journal's directory from any bytes: recovery, replay, reads, and going on with it.
//!
//! The bytes are pieces, each with a command before it: files as they are, records whose checksums hold whatever they
//! say, index files and lists of dropped segments that do. So what lies behind the checksums is reached at once.

use std::sync::Arc;

use outlive_actors::journal::files::Files as _;
use outlive_actors::journal::memory::MemoryFiles;
use outlive_actors::journal::recovery::{self, Known};
use outlive_actors::journal::segments::JournalOptions;
use outlive_actors::journal::{JournalReader, JournalWriter as _, ReadRequest};
use outlive_actors::model::entry::Entry;
use outlive_actors::model::ids::{BootTime, Offset, Timestamp};
use outlive_actors::model::topic::Filter;
use outlive_actors::store::memory::MemoryStore;
use outlive_actors::store::replica::Replica;

const SALT: u32 = 7;
const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes_max: 600,
    reserve_bytes: 0,
    salt: SALT,
};

pub(crate) fn run(data: &[u8]) {
    let files = MemoryFiles::new();
    for (name, bytes) in directory(data) {
        files.plant(&name, &bytes);
    }
    let before = contents(&files);
    let known = known(data);
    let opened = recovery::reopen(Arc::new(files.clone()), OPTIONS, known);
    let opened = opened.or_else(|_| {
        assert_eq!(before, contents(&files), "a refused journal was changed");
        let accepting = Known {
            accepts_loss: true,
            ..known
        };
        recovery::reopen(Arc::new(files.clone()), OPTIONS, accepting)
    });
    let Ok((mut writer, reader)) = opened else {
        assert_eq!(before, contents(&files), "a refused journal was changed");
        return;
    };
    let mut entries = Vec::new();
    // Damage behind an index that says otherwise is only found here.
    let replayed = reader.replay(Offset(0), &mut |at, entry| entries.push((at, entry)));
    assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let store = Arc::new(MemoryStore::new());
    let mut replica = Replica::open(store).expect("the store is empty");
    for (at, entry) in &entries {
        replica.apply(*at, entry).expect("memory does not fail");
    }
    read_pages(&*reader);
    let offsets: Vec<Offset> = entries.iter().map(|(at, _)| *at).collect();
    drop(reader.read_at(&offsets));
    // It goes on, and what is written now is there after the next start.
    let stamp = Entry::Liveness {
        at: Timestamp(1_700_000_000_000),
        boot: Some(BootTime { boot: 1, millis: 2 }),
    };
    let at = writer
        .append(std::slice::from_ref(&stamp))
        .expect("memory does not fail");
    writer.sync().expect("memory does not fail");
    assert!(
        offsets.last().is_none_or(|last| *last < at),
        "an offset was used twice"
    );
    while writer.maintain() {}
    // What goes now is no loss at the next start, whatever went before.
    let floor = offsets.get(offsets.len() / 2).copied().unwrap_or(at);
    if data.len().is_multiple_of(2) {
        writer.pin(&offsets[..offsets.len().min(1)]);
        writer.trim(floor).expect("memory does not fail");
    }
    let (_, reader) = recovery::open(Arc::new(files.kill()), OPTIONS, 2)
        .expect("what was opened once can be opened again");
    let mut again = Vec::new();
    let second = reader.replay(Offset(0), &mut |at, entry| again.push((at, entry)));
    if replayed.is_ok() && second.is_ok() {
        entries.push((at, stamp));
        // Trimming takes whole segments, all of them below the floor.
        entries.retain(|entry| entry.0 >= floor || again.contains(entry));
        assert_eq!(again, entries);
    }
}

/// Asks for all kinds of filters: what is given is what was asked for, and not more.
fn read_pages(reader: &dyn JournalReader) {
    for text in ["#", "a/+", "a/b", "+", "a/#"] {
        let filters = [(Filter::new(text).expect("a filter"), Offset(0))];
        let page = reader.read(&ReadRequest {
            filters: &filters,
            from: Offset(0),
            records_max: 16,
            bytes_max: 4096,
        });
        if let Ok(page) = page {
            assert!(page.records.len() <= 16 && page.next <= page.end);
            assert!(
                page.records
                    .iter()
                    .all(|found| filters[0].0.matches(found.message.topic()))
            );
        }
    }
}

fn contents(files: &MemoryFiles) -> Vec<(String, Option<Vec<u8>>)> {
    let names = files.list().expect("memory does not fail");
    names
        .into_iter()
        .map(|name| (name.clone(), files.bytes(&name)))
        .collect()
}

/// Files by name.
fn directory(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut rest = data;
    let mut id = 0_u64;
    let mut relative = 0_u32;
    while let Some((&[command, length], more)) = rest.split_first_chunk::<2>() {
        let (piece, more) = more.split_at(more.len().min(usize::from(length)));
        rest = more;
        match command % 8 {
            // A segment whose header holds; the piece may say where its predecessor ends and what its first offset is.
            0 => {
                id += 1;
                relative = 0;
                files.push((format!("{id:012}.seg"), header(id, piece)));
            }
            // A record whose checksum holds.
            1..=4 => {
                let flags = command & 0xc0;
                let kind = command % 8;
                append(&mut files, &record(kind | flags, relative, piece));
                relative += u32::from(kind != 1);
            }
            // Bytes as they are, behind what is there.
            5 => append(&mut files, piece),
            // An index whose checksums hold.
            6 => {
                let covers = files.last().map_or(0, |(_, bytes)| bytes.len());
                let at = files.len().saturating_sub(1);
                files.insert(
                    at,
                    (format!("{id:012}.idx"), index(id, covers, relative, piece)),
                );
            }
            // A file of some name.
            _ => {
                let kind = ["gone", "idx", "seg", "dropped"][usize::from(command >> 6)];
                let at = files.len().saturating_sub(1);
                let bytes = match kind {
                    "dropped" if !length.is_multiple_of(3) => dropped(piece),
                    _ => piece.to_vec(),
                };
                files.insert(at, (format!("{:012}.{kind}", length % 4), bytes));
            }
        }
    }
    files
}

fn append(files: &mut [(String, Vec<u8>)], bytes: &[u8]) {
    if let Some((_, file)) = files.last_mut() {
        file.extend_from_slice(bytes);
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..at + N).and_then(|some| some.try_into().ok());
    found.unwrap_or([0; N])
}

/// What the store says: nothing but for the last bytes, if there are many.
fn known(data: &[u8]) -> Known {
    let mut known = Known::epoch(1);
    if let Some(&[.., covers, holds]) = data.get(64..) {
        known.covers = Offset(u64::from(covers) << 17);
        known.holds = Offset(u64::from(holds) << 14);
    }
    known
}

/// A list of dropped segments whose checksums hold: each three bytes name a range.
fn dropped(piece: &[u8]) -> Vec<u8> {
    let sealed = |mut bytes: Vec<u8>| {
        bytes.resize(28, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    };
    let mut bytes = sealed(b"OUTLIVED\x01\x00\x00\x00".to_vec());
    for range in piece.chunks(3) {
        let at = |n: usize| u64::from(range.get(n).copied().unwrap_or(0));
        let record = [at(0) % 8, at(1) % 8, at(2) << 18].map(u64::to_le_bytes);
        bytes.extend(sealed(record.concat()));
    }
    bytes
}

/// The format is that of `docs/adr/0002`, written down once more.
fn header(id: u64, piece: &[u8]) -> Vec<u8> {
    let mut bytes = b"OUTLIVEJ\x01\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&SALT.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    let first: [u8; 8] = number(piece, 0);
    bytes.extend_from_slice(&if piece.len() < 8 {
        (id << 20).to_le_bytes()
    } else {
        first
    });
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&number::<4>(piece, 8));
    bytes.extend_from_slice(&number::<8>(piece, 12));
    bytes.resize(60, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn record(kind_and_flags: u8, relative: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len())
        .expect("a piece is short")
        .to_le_bytes();
    let relative = relative.to_le_bytes();
    let mut crc = crc32c::crc32c_append(SALT, &length);
    crc = crc32c::crc32c_append(crc, &relative);
    crc = crc32c::crc32c_append(crc, &[kind_and_flags]);
    crc = crc32c::crc32c_append(crc, body);
    let mut bytes = length.to_vec();
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&relative);
    bytes.push(kind_and_flags);
    bytes.extend_from_slice(body);
    bytes
}

/// The first byte of the piece says how much of it is meta.
fn index(id: u64, covers: usize, records: u32, piece: &[u8]) -> Vec<u8> {
    let (meta, body) = piece.split_at(piece.len().min(usize::from(*piece.first().unwrap_or(&0))));
    let mut bytes = b"OUTLIVEX\x02\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&u32::try_from(covers).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&(id << 20).to_le_bytes());
    bytes.extend_from_slice(&records.to_le_bytes());
    bytes.extend_from_slice(&records.to_le_bytes());
    bytes.extend_from_slice(&(64 + body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(meta).to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(meta);
    bytes
}
