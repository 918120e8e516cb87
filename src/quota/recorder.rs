//! Watches the quota for the files of usage.

use std::sync::Arc;
use std::time::Duration;

use outlive_actors::clock::Clock;
use outlive_actors::model::quota::QuotaRefusals;
use outlive_actors::system::QuotaHandle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};

use super::usage::{Meter, UsageFiles, UsageLine, Used};

/// How often the sessions are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Principals without a limit of their own that a line names.
const PRINCIPALS_MAX: usize = 100;

/// A task that records usage until it is stopped.
#[derive(Debug)]
pub struct Recorder {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Records on this thread, which must run local tasks; files are written on others.
    pub fn start(
        quota: QuotaHandle,
        files: Arc<UsageFiles>,
        clock: Arc<dyn Clock>,
        interval_seconds: u32,
    ) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = spawn_local(async move {
            let refused = sum(quota.observe().refused);
            let mut meter = Meter::new(interval_seconds, clock.now(), refused);
            // What survived the start was not taken from zero in this interval.
            quota.end_interval();
            quota.forget_highs();
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            loop {
                let is_last = tokio::select! {
                    _ = &mut stopped => true,
                    _ = looks.tick() => false,
                };
                let now = clock.now();
                if meter.look(now, quota.observe().used) || is_last {
                    let line = meter.end(now, &used(&quota));
                    write(Arc::clone(&files), line).await;
                }
                if is_last {
                    return;
                }
            }
        });
        Self { stop, task }
    }

    /// Records what was used of the interval under way, and ends.
    pub async fn stop(self) {
        // It may have ended with its runtime.
        self.stop.send(()).ok();
        self.task.await.ok();
    }
}

fn used(quota: &QuotaHandle) -> Used {
    let seen = quota.observe();
    let used = Used {
        interval: quota.end_interval(),
        sessions_max: seen.limit,
        refused: sum(seen.refused),
        report: quota.report(PRINCIPALS_MAX),
    };
    quota.forget_highs();
    used
}

fn sum(refused: QuotaRefusals) -> u64 {
    refused.sessions + refused.principal + refused.listener
}

async fn write(files: Arc<UsageFiles>, line: UsageLine) {
    let written = spawn_blocking(move || files.append(&line)).await;
    if let Ok(Err(error)) = written {
        tracing::error!(%error, "usage of an interval is not recorded");
    }
}
