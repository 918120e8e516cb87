//! The one timer of a connection: which deadline it stands for.

use std::future::Future as _;
use std::task::Context as TaskContext;
use std::time::Duration;

use outlive_actors::model::refusal::Refusal;
use tokio::time::Instant;

use super::{CLOSE_TIMEOUT, Connection, Ending, Phase};

/// What happens if a deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The session has not answered the CONNECT.
    Opening,
    /// The client was not heard of for 1.5 times its keep-alive.
    KeepAlive,
    /// The client takes nothing.
    Write,
    /// The last bytes and the peer's close took too long.
    Close,
}

impl Connection {
    pub(super) fn watch_deadline(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ending> {
        while let Some((at, deadline)) = self.deadline() {
            let timer = match &mut self.timer {
                Some(timer) => timer,
                None => self.timer.insert(Box::pin(tokio::time::sleep_until(at))),
            };
            // A timer that goes off early is set anew then, so that packets need not touch it.
            if at < timer.deadline() {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if at <= Instant::now() {
                return Err(self.passed(deadline));
            }
            timer.as_mut().reset(at);
        }
        self.timer = None;
        Ok(())
    }

    pub(super) fn passed(&self, deadline: Deadline) -> Ending {
        match deadline {
            Deadline::Opening => Refusal::Busy.into(),
            Deadline::KeepAlive => Refusal::KeepAlive.into(),
            Deadline::Write => Refusal::NotReading.into(),
            Deadline::Close => Ending::Gone,
        }
    }

    /// The next deadline.
    pub(super) fn deadline(&self) -> Option<(Instant, Deadline)> {
        let config = &self.seat.shared().setup.config;
        match self.phase {
            Phase::Opening(_) => {
                let timeout = Duration::from_millis(config.connect_timeout_millis);
                Some((self.heard_at + timeout, Deadline::Opening))
            }
            Phase::Closing { .. } | Phase::Over => {
                Some((self.heard_at + CLOSE_TIMEOUT, Deadline::Close))
            }
            Phase::Open { .. } => {
                let write = self.outbox.stalled_at().map(|at| {
                    let timeout = Duration::from_millis(config.write_timeout_millis);
                    (at + timeout, Deadline::Write)
                });
                // Who is not read cannot be heard.
                let keep_alive = (self.keep_alive_seconds > 0 && self.may_read()).then(|| {
                    (
                        self.heard_at + allowed(self.keep_alive_seconds),
                        Deadline::KeepAlive,
                    )
                });
                match (write, keep_alive) {
                    (Some(write), Some(keep_alive)) if keep_alive.0 < write.0 => Some(keep_alive),
                    (Some(write), _) => Some(write),
                    (None, keep_alive) => keep_alive,
                }
            }
        }
    }
}

/// One and a half times the keep-alive ([MQTT-3.1.2-22]).
fn allowed(keep_alive_seconds: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive_seconds) * 1500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_be_silent_for_one_and_a_half_times_its_keep_alive() {
        assert_eq!(allowed(60), Duration::from_secs(90));
        assert_eq!(allowed(1), Duration::from_millis(1500));
        assert_eq!(allowed(u16::MAX), Duration::from_millis(98_302_500));
    }
}
