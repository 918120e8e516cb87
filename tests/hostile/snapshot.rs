//! Snapshots and marks from any bytes.

use std::sync::Arc;

use outlive_actors::model::ids::{SessionNumber, Timestamp};
use outlive_actors::model::limits::SessionLimits;
use outlive_actors::model::session::Session;
use outlive_actors::store::codec;

/// As they are, and behind a header that says that they are right.
pub(crate) fn run(data: &[u8]) {
    let number = SessionNumber(7);
    // Bytes that happen to have a right checksum are as good as any.
    assert!(codec::decode_session(number, data).is_ok() <= (data.len() > 5));
    assert!(codec::decode_marks(data).is_ok() <= (data.len() > 5));
    for version in [1, codec::SESSION_VERSION] {
        let sealed = seal(version, &number.0.to_le_bytes(), data);
        if let Ok(snapshot) = codec::decode_session(number, &sealed) {
            let mut again = Vec::new();
            codec::encode_session(&snapshot, &mut again).expect("it was read from such bytes");
            let read = codec::decode_session(number, &again).expect("what was written can be read");
            assert_eq!(read, snapshot);
            assert!(snapshot.floor() <= snapshot.next);
            assert_eq!(
                snapshot.expires_at().is_none(),
                snapshot.detached_at.is_none()
            );
            let limits = Arc::new(SessionLimits::default());
            let session = Session::restore(snapshot, limits, Timestamp(1_700_000_000_000));
            assert!(session.deadline().is_some(), "a session that never ends");
        }
    }
    for version in [1, 2] {
        if let Ok(marks) = codec::decode_marks(&seal(version, b"marks", data)) {
            let mut again = Vec::new();
            codec::encode_marks(&marks, &mut again).expect("it was read from such bytes");
            assert_eq!(codec::decode_marks(&again).ok(), Some(marks));
        }
    }
}

/// `body` with its version and a checksum that holds.
fn seal(version: u8, key: &[u8], body: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &[version]);
    let crc = crc32c::crc32c_append(crc, body);
    let mut sealed = vec![version];
    sealed.extend_from_slice(&crc.to_le_bytes());
    sealed.extend_from_slice(body);
    sealed
}
