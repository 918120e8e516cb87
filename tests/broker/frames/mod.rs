//! Thousands of frames, good and hostile, and what the broker does with each: the answer, and that only the offender
//! feels it.
//!
//! A table per concern makes the cases; most go through all values of a byte. The clauses are those of MQTT 5.0 unless
//! they say 3.1.1; where MQTT 3.x closes without a word, 5.0 has a reason code.

#![expect(clippy::too_many_lines, reason = "tables are long")]

mod connect;
mod fields;
mod header;
mod properties;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::client::Client;
use crate::harness::{Broker, PATIENCE};
use crate::wire::{Connect, Version, packet};

/// What the broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It goes on: a ping is answered.
    Taken,
    /// 5.0: DISCONNECT with this code; 3.x: nothing. Then it closes.
    Ends(u8),
    /// It closes without a word.
    Closes,
    /// CONNACK with this code; it closes if it is not 0.
    Connack(u8),
}

const MALFORMED: Answer = Answer::Ends(0x81);
const PROTOCOL: Answer = Answer::Ends(0x82);

/// When the bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// They are the first.
    First,
    /// A CONNECT was accepted.
    Open,
}

/// One row.
#[derive(Debug)]
struct Case {
    what: String,
    /// Where it is written.
    clause: &'static str,
    version: Version,
    when: When,
    bytes: Vec<u8>,
    answer: Answer,
}

/// The rows of one table.
#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    /// Bytes on an open connection.
    fn open(
        &mut self,
        version: Version,
        what: impl Into<String>,
        clause: &'static str,
        bytes: Vec<u8>,
        answer: Answer,
    ) {
        self.0.push(Case {
            what: what.into(),
            clause,
            version,
            when: When::Open,
            bytes,
            answer,
        });
    }

    /// The first bytes of a connection.
    fn first(
        &mut self,
        version: Version,
        what: impl Into<String>,
        clause: &'static str,
        bytes: Vec<u8>,
        answer: Answer,
    ) {
        self.0.push(Case {
            what: what.into(),
            clause,
            version,
            when: When::First,
            bytes,
            answer,
        });
    }
}

/// Goes through the rows, and shows every one that is answered otherwise.
fn run(table: Table, rows_min: usize) {
    assert!(table.0.len() >= rows_min, "{} rows", table.0.len());
    let broker = Broker::start_with(&["mqtt.packet_bytes_max=4096", "mqtt.topic_alias_max=16"]);
    let mut reader = Client::transient(&broker, Version::V5, "neighbour");
    reader.subscribe("neighbour/#", 1);
    let mut writer = Client::transient(&broker, Version::V311, "neighbour of the neighbour");
    let mut wrong = Vec::new();
    for case in &table.0 {
        let found = play(&broker, case);
        if found != Ok(case.answer) {
            wrong.push(format!(
                "{:?} {} [{}] {:02x?}: {found:02x?}, expected {:02x?}",
                case.version, case.what, case.clause, case.bytes, case.answer
            ));
        }
        writer.send_publish("neighbour/a", "x", 0, false);
        assert_eq!(reader.message().text(), "x", "the neighbour felt {case:?}");
    }
    let total = table.0.len();
    assert!(
        wrong.is_empty(),
        "{} of {total} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // One that is still there may end in peace.
    reader.disconnect();
    writer.disconnect();
}

/// What the broker did, or bytes that fit no answer.
fn play(broker: &Broker, case: &Case) -> Result<Answer, Vec<u8>> {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let v5 = case.version == Version::V5;
    let connack_bytes = if case.when == When::Open {
        stream
            .write_all(&Connect::new(case.version, "offender").encode())
            .unwrap();
        let connack = read_packet(&mut stream)?;
        assert_eq!(connack[0], 0x20, "{case:?}");
        connack.len()
    } else {
        0
    };
    assert!(connack_bytes > 0 || case.when == When::First);
    // It may close before it has read all.
    drop(stream.write_all(&case.bytes));
    match case.answer {
        Answer::Taken => drop(stream.write_all(&packet(0xC0, &[]))),
        Answer::Ends(_) | Answer::Closes | Answer::Connack(_) => {}
    }
    loop {
        let answer = match read_packet(&mut stream) {
            Ok(answer) => answer,
            Err(rest) if rest.is_empty() => {
                let silent_end = !v5 && matches!(case.answer, Answer::Ends(_));
                return Ok(if silent_end {
                    case.answer
                } else {
                    Answer::Closes
                });
            }
            Err(rest) => return Err(rest),
        };
        match (answer[0], &*answer) {
            (0xD0, _) => return Ok(Answer::Taken),
            (0x20, [_, _, _, code, ..]) if case.when == When::First => {
                let code = *code;
                if code != 0 {
                    expect_end(&mut stream)?;
                }
                drop(stream.shutdown(Shutdown::Both));
                return Ok(Answer::Connack(code));
            }
            // Words may follow.
            (0xE0, [_, _, code, ..]) => {
                let code = *code;
                expect_end(&mut stream)?;
                return Ok(Answer::Ends(code));
            }
            // Acknowledgements of what was taken.
            (0x40 | 0x50 | 0x62 | 0x70 | 0x90 | 0xB0, _) => {}
            _ => return Err(answer),
        }
    }
}

/// Nothing but the end follows.
fn expect_end(stream: &mut TcpStream) -> Result<(), Vec<u8>> {
    match read_packet(stream) {
        Err(rest) if rest.is_empty() => Ok(()),
        Ok(more) | Err(more) => Err(more),
    }
}

/// The bytes of the next packet; `Err` with what was there at the end of the stream.
fn read_packet(stream: &mut TcpStream) -> Result<Vec<u8>, Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let whole = match *bytes {
            [_, length @ 0..=0x7F, ..] => Some(2 + usize::from(length)),
            [_, low, high @ 0..=0x7F, ..] => {
                Some(3 + usize::from(low & 0x7F) + (usize::from(high) << 7))
            }
            _ => None,
        };
        if whole == Some(bytes.len()) {
            return Ok(bytes);
        }
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err(bytes),
            Ok(_) => bytes.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(bytes),
            // Whoever stopped this process lets it go on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the broker neither answers nor closes: {error}"),
        }
    }
}

/// A body of pieces.
fn body(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// The empty property block of 5.0, nothing in older versions.
fn no_properties(version: Version) -> &'static [u8] {
    match version {
        Version::V5 => &[0],
        Version::V31 | Version::V311 => &[],
    }
}

#[test]
fn every_fixed_header_is_taken_or_refused_as_written() {
    run(header::table(), 1500);
}

#[test]
fn fields_text_topics_and_reason_codes_are_taken_or_refused_as_written() {
    run(fields::table(), 1500);
}

#[test]
fn properties_are_taken_or_refused_as_written() {
    run(properties::table(), 500);
}

#[test]
fn every_connect_is_answered_as_written() {
    run(connect::table(), 900);
}
