//! Feeds ntex's decoders.
//!
//! Owns: the buffer that they read from, and what becomes of their errors. Does not know: what packets mean.
//!
//! Invariants:
//! - A decoder only sees whole frames that passed the guard, one at a time, through a buffer of the thread: nothing
//!   decoded keeps a piece of it for long, and a connection keeps no codec state.
//! - Of a PUBLISH it sees the header only; the payload is copied once, into the message.

use std::cell::RefCell;

use ntex_bytes::BytesMut;
use ntex_codec::Decoder as _;
use ntex_mqtt::error::DecodeError;
use ntex_mqtt::{QoS as CodecQoS, v3::codec as v3, v5::codec as v5};
use outlive_actors::model::message::QoS;
use outlive_actors::model::refusal::Refusal;

use super::guard;

thread_local! {
    /// What the codec reads from. Empty between frames, and nothing decoded outlives its frame, so its memory is
    /// used again and again.
    static FRAME: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(4096));
}

/// More than this is not kept by a thread for the next frame.
const FRAME_BYTES_KEPT: usize = 64 * 1024;

/// Runs `decode` on `parts` put together. Whatever it leaves is dropped.
fn with_frame<T>(parts: &[&[u8]], decode: impl FnOnce(&mut BytesMut) -> T) -> T {
    FRAME.with_borrow_mut(|frame| {
        frame.clear();
        for part in parts {
            frame.extend_from_slice(part);
        }
        let decoded = decode(frame);
        if frame.capacity() > FRAME_BYTES_KEPT {
            *frame = BytesMut::with_capacity(4096);
        }
        decoded
    })
}

/// Decodes one whole frame of 3.1.1 that is no PUBLISH. The DUP that 3.1 has in other packets, too, says nothing.
pub(super) fn decode_v3(frame: &[u8]) -> Result<v3::Decoded, Refusal> {
    let (first, rest) = frame.split_first().ok_or(Refusal::Malformed)?;
    with_frame(&[&[first & !guard::DUP], rest], |bytes| {
        let decoded = v3::Codec::new().decode(bytes).map_err(refusal)?;
        decoded.ok_or(Refusal::Malformed)
    })
}

/// Decodes one whole frame of 5.0.
pub(super) fn decode_v5(frame: &[u8]) -> Result<v5::Decoded, Refusal> {
    with_frame(&[frame], |bytes| {
        let decoded = v5::Codec::new().decode(bytes).map_err(refusal)?;
        decoded.ok_or(Refusal::Malformed)
    })
}

/// A 5.0 PUBLISH up to its payload.
pub(super) struct Head<'a> {
    /// The first byte of the frame.
    pub(super) first: u8,
    /// The body without the payload.
    pub(super) body: &'a [u8],
    /// See [`PublishLayout::zero_expiry_at`](super::guard::PublishLayout::zero_expiry_at).
    pub(super) zero_expiry_at: Option<usize>,
}

impl Head<'_> {
    /// The fixed header of a PUBLISH with this head and no payload.
    fn fixed_header(&self) -> ([u8; 5], usize) {
        let mut header = [0; 5];
        header[0] = self.first;
        let mut length = self.body.len();
        let mut at = 1;
        loop {
            let byte = u8::try_from(length & 0x7F).unwrap_or_default();
            length >>= 7;
            if length == 0 || at == 4 {
                header[at] = byte;
                return (header, at + 1);
            }
            header[at] = byte | 0x80;
            at += 1;
        }
    }

    pub(super) fn decode_v5(&self) -> Result<v5::Publish, Refusal> {
        let (header, length) = self.fixed_header();
        with_frame(&[&header[..length], self.body], |bytes| {
            if let Some(at) = self.zero_expiry_at {
                one_second(bytes, length + at)?;
            }
            match v5::Codec::new().decode(bytes).map_err(refusal)? {
                Some(v5::Decoded::Publish(publish, _, _)) => Ok(publish),
                _ => Err(Refusal::Malformed),
            }
        })
    }
}

/// Makes a message expiry interval of zero, which is legal, one that the codec takes. The guard remembers the zero.
pub(super) fn one_second(bytes: &mut [u8], at: usize) -> Result<(), Refusal> {
    let interval = bytes.get_mut(at..at + 4).ok_or(Refusal::Malformed)?;
    interval.copy_from_slice(&1_u32.to_be_bytes());
    Ok(())
}

fn refusal(error: DecodeError) -> Refusal {
    match error {
        DecodeError::UnsupportedProtocolLevel | DecodeError::InvalidProtocol => Refusal::Version,
        DecodeError::InvalidClientId => Refusal::ClientId,
        DecodeError::MaxSizeExceeded { .. } => Refusal::PacketTooLarge,
        DecodeError::InvalidLength
        | DecodeError::MalformedPacket
        | DecodeError::ConnectReservedFlagSet
        | DecodeError::ConnAckReservedFlagSet
        | DecodeError::UnsupportedPacketType
        | DecodeError::PacketIdRequired
        | DecodeError::Utf8Error
        | DecodeError::UnexpectedPayload => Refusal::Malformed,
    }
}

/// ntex's QoS in the words of the model.
pub(super) fn qos(level: CodecQoS) -> QoS {
    match level {
        CodecQoS::AtMostOnce => QoS::AtMostOnce,
        CodecQoS::AtLeastOnce => QoS::AtLeastOnce,
        CodecQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}
