//! AUTH (MQTT 5.0 sections 3.15 and 4.12): its packets, and what an open connection does with them.
//!
//! Owns: that an exchange keeps to its method and its order. Does not know: methods, sockets. The exchange before CONNACK
//! is in [`super::handshake`].

use outlive_actors::model::ids::Principal;
use outlive_actors::model::refusal::Refusal;

use super::encode::{self, Oversized};
use super::guard;
use super::properties::{self, Place};
use super::reason;
use crate::auth::{Authenticator, Exchange, Step};

/// The exchange goes on.
pub(super) const CONTINUE: u8 = 0x18;
/// A client that is connected begins another exchange.
pub(super) const AGAIN: u8 = 0x19;

/// How a CONNECT begins an exchange.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Box<str>,
    pub(super) data: Box<[u8]>,
}

/// An AUTH packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuthPacket<'a> {
    pub(super) code: u8,
    pub(super) method: &'a str,
    pub(super) data: &'a [u8],
}

/// Reads the body of an AUTH packet.
pub(super) fn decode(body: &[u8]) -> Result<AuthPacket<'_>, Refusal> {
    let code = body.first().copied().unwrap_or(reason::SUCCESS);
    match code {
        CONTINUE | AGAIN => {}
        // Success is the broker's word.
        reason::SUCCESS => return Err(Refusal::Protocol),
        // [MQTT-3.15.2-1]
        _ => return Err(Refusal::Malformed),
    }
    let (mut method, mut data) = (None, &[][..]);
    if body.len() > 1 {
        let block = guard::block(body, 1)?;
        if block.end != body.len() {
            return Err(Refusal::Malformed);
        }
        properties::check(Place::Auth, &body[block], |property| {
            match property.id {
                properties::AUTH_METHOD => method = Some(property.value),
                properties::AUTH_DATA => data = property.value,
                _ => {}
            }
            Ok(())
        })?;
    }
    // Section 3.15.2.2.2: there is always a method.
    let method = std::str::from_utf8(method.ok_or(Refusal::Protocol)?);
    Ok(AuthPacket {
        code,
        method: method.map_err(|_| Refusal::Malformed)?,
        data,
    })
}

/// Writes AUTH.
pub(super) fn put(
    out: &mut Vec<u8>,
    code: u8,
    method: &str,
    data: &[u8],
    bytes_max: u32,
) -> Result<(), Oversized> {
    let mut block = Vec::with_capacity(6 + method.len() + data.len());
    put_properties(&mut block, method, data);
    encode::put_last(out, guard::AUTH << 4, &[code], &block, bytes_max)
}

/// Method and data, in AUTH and in CONNACK.
pub(super) fn put_properties(block: &mut Vec<u8>, method: &str, data: &[u8]) {
    block.push(properties::AUTH_METHOD);
    encode::put_prefixed(block, method.as_bytes());
    if !data.is_empty() {
        block.push(properties::AUTH_DATA);
        encode::put_prefixed(block, data);
    }
}

/// A client that an exchange let in.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) method: Box<str>,
    pub(super) principal: Principal,
    /// The last word of the exchange, for CONNACK.
    pub(super) data: Vec<u8>,
    /// The exchange that the client began since, if one is under way.
    pub(super) again: Option<Box<dyn Exchange>>,
}

impl Proven {
    /// Takes an AUTH packet of the open connection; the code and the data of the answer.
    pub(super) fn take(
        &mut self,
        authenticator: &dyn Authenticator,
        packet: AuthPacket<'_>,
    ) -> Result<(u8, Vec<u8>), Refusal> {
        // [MQTT-4.12.1-1]
        if packet.method != &*self.method {
            return Err(Refusal::Protocol);
        }
        let mut exchange = match (packet.code, self.again.take()) {
            (AGAIN, None) => authenticator
                .exchange(&self.method)
                .ok_or(Refusal::AuthMethod)?,
            (CONTINUE, Some(exchange)) => exchange,
            _ => return Err(Refusal::Protocol),
        };
        match exchange.step(packet.data)? {
            Step::Continue(data) => {
                self.again = Some(exchange);
                Ok((CONTINUE, data))
            }
            // The session has an owner: nobody else goes on with it.
            Step::Done { principal, .. } if principal != self.principal => {
                Err(Refusal::NotAuthorized)
            }
            Step::Done { data, .. } => Ok((reason::SUCCESS, data)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auth_packet_is_read_and_written_as_the_specification_says() {
        // 5.0: [MQTT-3.15.2-1]
        let body = b"\x18\x09\x15\x00\x01m\x16\x00\x02da";
        let expected = AuthPacket {
            code: CONTINUE,
            method: "m",
            data: b"da",
        };
        assert_eq!(decode(body), Ok(expected));
        let mut out = Vec::new();
        put(&mut out, CONTINUE, "m", b"da", 13).unwrap();
        assert_eq!(out, [&b"\xf0\x0b"[..], body].concat());
        // 5.0: [MQTT-3.1.2-24]
        assert_eq!(put(&mut out, CONTINUE, "m", b"da", 12), Err(Oversized));
        out.clear();
        put(&mut out, reason::SUCCESS, "m", b"", 100).unwrap();
        assert_eq!(out, b"\xf0\x06\x00\x04\x15\x00\x01m");
    }

    #[test]
    fn an_auth_packet_that_a_client_may_not_send_is_refused() {
        // 5.0: [MQTT-3.15.2-1]
        for (body, refusal) in [
            (&b""[..], Refusal::Protocol),
            (b"\x00\x04\x15\x00\x01m", Refusal::Protocol),
            (b"\x17\x04\x15\x00\x01m", Refusal::Malformed),
            (b"\x18", Refusal::Protocol),
            (b"\x18\x00", Refusal::Protocol),
            (b"\x18\x05\x16\x00\x02da", Refusal::Protocol),
            (b"\x18\x08\x15\x00\x01m\x15\x00\x01m", Refusal::Protocol),
            (b"\x18\x04\x15\x00\x01\xff", Refusal::Malformed),
            (b"\x18\x05\x15\x00\x01m", Refusal::Malformed),
            (b"\x18\x04\x15\x00\x01mx", Refusal::Malformed),
            (b"\x18\x06\x15\x00\x01m\x01\x00", Refusal::Malformed),
        ] {
            assert_eq!(decode(body), Err(refusal), "{body:02x?}");
        }
    }
}
