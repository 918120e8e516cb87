//! What fuzzing calls: functions from any bytes to nothing. They must not panic, not hang, and not grow.
//!
//! The fuzzer (`fuzz/`) finds bytes; `main.rs` beside this file runs what it found as ordinary tests.

#[path = "conversation.rs"]
pub(crate) mod conversation;
#[path = "frames.rs"]
mod frames;
#[path = "group.rs"]
mod group;
#[path = "journal.rs"]
mod journal;
#[path = "scram.rs"]
mod scram;
#[path = "snapshot.rs"]
mod snapshot;
/// The tests' own reader of what the broker sends: a fault of the encoder cannot hide in its own mirror image.
#[path = "../broker/wire.rs"]
mod wire;

/// A function from any bytes.
pub(crate) type Target = fn(&[u8]);

/// Every target and its name.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("connect", frames::connect),
    ("conversation", conversation::run),
    ("frames", frames::run),
    ("group", group::run),
    ("journal", journal::run),
    ("scram", scram::run),
    ("snapshot", snapshot::run),
];

/// Asserts that `bytes` are whole packets of a server that speaks `version`.
fn assert_packets(version: outlive_actors::model::packet::ProtocolVersion, bytes: &[u8]) -> usize {
    use outlive_actors::model::packet::ProtocolVersion;
    let version = match version {
        ProtocolVersion::V31 => wire::Version::V31,
        ProtocolVersion::V311 => wire::Version::V311,
        ProtocolVersion::V5 => wire::Version::V5,
    };
    let mut bytes = bytes.iter().copied().collect();
    let mut packets = 0;
    while let Some(packet) = wire::take(version, &mut bytes) {
        if let wire::Packet::Publish(message) = packet {
            assert!(
                !message.topic.contains('\0'),
                "a tenant was sent: {message:?}"
            );
        }
        packets += 1;
    }
    assert!(bytes.is_empty(), "half a packet was sent: {bytes:02x?}");
    packets
}
