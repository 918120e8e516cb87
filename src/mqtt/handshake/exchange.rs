//! The exchange of enhanced authentication before CONNACK (MQTT 5.0 section 4.12).

use outlive_actors::model::packet::ProtocolVersion;
use outlive_actors::model::refusal::Refusal;

use super::super::auth::{self, Asked, Proven};
use super::super::connect::Refused;
use super::super::counters::WireCounter;
use super::super::transport::Stream;
use super::super::{Shared, guard};
use super::{Failure, read_more};
use crate::auth::Step;

/// A client in the middle of an exchange.
pub(super) struct Applicant<'a> {
    pub(super) shared: &'a Shared,
    pub(super) stream: &'a mut Stream,
    /// What came behind the last packet.
    pub(super) rest: &'a mut Vec<u8>,
    /// The largest packet that the client takes.
    pub(super) bytes_max: u32,
}

impl Applicant<'_> {
    /// Goes through the exchange that the client asked for.
    pub(super) async fn prove(&mut self, asked: Asked) -> Result<Proven, Failure> {
        let Asked { method, data } = asked;
        let authenticator = &self.shared.setup.authenticator;
        let mut exchange = authenticator
            .exchange(&method)
            .ok_or_else(|| self.refuse(Refusal::AuthMethod))?;
        let mut step = exchange.step(&data);
        loop {
            match step.map_err(|refusal| self.refuse(refusal))? {
                Step::Continue(data) => self.ask(&method, &data).await?,
                Step::Done { principal, data } => {
                    return Ok(Proven {
                        method,
                        principal,
                        data,
                        again: None,
                    });
                }
            }
            let body = self.answer().await?;
            let packet = auth::decode(&body).map_err(|refusal| self.refuse(refusal))?;
            // [MQTT-4.12.0-3], [MQTT-4.12.0-5]
            if packet.code != auth::CONTINUE || packet.method != &*method {
                return Err(self.refuse(Refusal::Protocol));
            }
            step = exchange.step(packet.data);
        }
    }

    fn refuse(&self, refusal: Refusal) -> Failure {
        Failure::Refused(Refused::to(ProtocolVersion::V5, refusal), self.bytes_max)
    }

    async fn ask(&mut self, method: &str, data: &[u8]) -> Result<(), Failure> {
        let mut out = Vec::new();
        auth::put(&mut out, auth::CONTINUE, method, data, self.bytes_max)
            .map_err(|_| self.refuse(Refusal::PacketTooLarge))?;
        self.stream.write_all(&out).await?;
        let counters = &self.shared.setup.counters;
        counters.add(WireCounter::BytesOut, out.len());
        counters.add(WireCounter::PacketsOut, 1);
        Ok(())
    }

    /// The body of the next packet, which is an AUTH: nothing else may come before CONNACK but a DISCONNECT
    /// ([MQTT-3.1.2-30]).
    async fn answer(&mut self) -> Result<Vec<u8>, Failure> {
        let counters = &self.shared.setup.counters;
        let bytes_max = self.shared.setup.config.connect_bytes_max;
        loop {
            let frame = guard::peek(self.rest, Some(ProtocolVersion::V5), bytes_max)
                .map_err(|refusal| self.refuse(refusal))?;
            if let Some(frame) = frame {
                counters.add(WireCounter::PacketsIn, 1);
                let body = self.rest[frame.body_at..frame.end].to_vec();
                self.rest.drain(..frame.end);
                return match frame.kind() {
                    guard::AUTH => Ok(body),
                    guard::DISCONNECT => Err(Failure::Gone),
                    _ => Err(self.refuse(Refusal::Protocol)),
                };
            }
            let count = read_more(self.stream, self.rest).await?;
            if count == 0 {
                return Err(Failure::Gone);
            }
            counters.add(WireCounter::BytesIn, count);
        }
    }
}
