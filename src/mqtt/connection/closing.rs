//! How a connection ends.

use std::task::{Context as TaskContext, Poll};

use outlive_actors::model::refusal::Refusal;
use tokio::time::Instant;
use tracing::debug;

use super::super::counters::WireCounter;
use super::super::{encode, scratch};
use super::{Connection, Ending, Phase};

impl Connection {
    /// Ends the connection, once. The session hears of it at once, the peer as far as it listens.
    pub(super) fn end(&mut self, ending: Ending) {
        let was_open = match self.phase {
            Phase::Opening(_) => false,
            Phase::Open(_) => true,
            Phase::Closing { .. } | Phase::Over => return,
        };
        debug!(client_id = %self.client_id, ?ending, "connection ends");
        self.attachment = None;
        self.partial = Vec::new();
        self.phase = Phase::Over;
        self.heard_at = Instant::now();
        self.count(WireCounter::Closed, usize::from(was_open));
        let refusal = match ending {
            Ending::Disconnect => return self.count(WireCounter::ClosedByClient, 1),
            Ending::Gone if was_open => return self.count(WireCounter::ClosedAbruptly, 1),
            Ending::Gone => return self.count(WireCounter::ConnectMissing, 1),
            Ending::Refused(refusal) => refusal,
        };
        let (version, bytes_max) = (self.version(), self.outbox.packet_bytes_max());
        self.outbox.drop_pending();
        if was_open {
            self.seat.shared().setup.counters.ended(refusal);
            encode::disconnect(self.outbox.raw(), version, bytes_max, refusal);
        } else {
            self.seat.shared().setup.counters.refused(refusal);
            encode::connack_refused(self.outbox.raw(), version, bytes_max, refusal);
        }
        // Who does not read does not read this either.
        if refusal != Refusal::NotReading {
            self.phase = Phase::Closing { shut: false };
        }
    }

    /// Writes what is left, then waits for the peer to close: closing with unread bytes would reset the connection, and
    /// the last packet might be lost.
    pub(super) fn close(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ending> {
        self.flush(cx)?;
        if self.outbox.is_empty() {
            if let Phase::Closing { shut } = &mut self.phase
                && !*shut
            {
                match self.stream.poll_shutdown(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => return self.watch_deadline(cx),
                }
                *shut = true;
            }
            while let Poll::Ready(count) =
                scratch::with(|scratch| self.stream.poll_read(cx, scratch))
            {
                if count? == 0 {
                    return Err(Ending::Gone);
                }
            }
        }
        self.watch_deadline(cx)
    }
}
