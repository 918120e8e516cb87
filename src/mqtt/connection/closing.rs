//! How a connection ends.

use std::task::{Context as TaskContext, Poll};

use outlive_actors::model::refusal::Refusal;
use tokio::time::Instant;
use tracing::debug;

use super::super::counters::WireCounter;
use super::super::{encode, scratch};
use super::{Connection, Ending, Phase};

/// Full reads that a connection which is left may still do: more than a socket's buffer holds by default.
const LEAVING_READS_MAX: u8 = 128;

/// A connection that nothing is written to any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// Why it ends.
    ending: Ending,
    reads_left: u8,
}

impl Connection {
    /// Nothing can be written any more, or nothing shall: the connection ends when what has arrived is read. A client that
    /// said goodbye and did not wait for all that was on its way to it has said goodbye. `Err` if that is now.
    pub(super) fn leave(&mut self, ending: Ending) -> Result<(), Ending> {
        let Phase::Open {
            leaving: leaving @ None,
            ..
        } = &mut self.phase
        else {
            return Err(ending);
        };
        *leaving = Some(Leaving {
            ending,
            reads_left: LEAVING_READS_MAX,
        });
        self.outbox.clear();
        Ok(())
    }

    /// Whether nothing is written any more.
    pub(super) fn is_left(&self) -> bool {
        let Phase::Open { leaving, .. } = &self.phase else {
            return false;
        };
        leaving.is_some()
    }

    /// One more read of a connection that is left, which found that there `is_more`, or not.
    pub(super) fn left(&mut self, is_more: bool) -> Result<(), Ending> {
        let Phase::Open {
            leaving: Some(leaving),
            ..
        } = &mut self.phase
        else {
            return Ok(());
        };
        match leaving.reads_left.checked_sub(1) {
            Some(left) if is_more => leaving.reads_left = left,
            _ => return Err(leaving.ending),
        }
        Ok(())
    }

    /// Ends the connection, once. The session hears of it at once, the peer as far as it listens.
    pub(super) fn end(&mut self, ending: Ending) {
        let was_open = match self.phase {
            Phase::Opening(_) => false,
            Phase::Open { .. } => true,
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
