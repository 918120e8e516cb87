//! Many kept sessions of one topic that are all away: what a publish costs, what they cost, and how long the broker takes to come back.

use crate::broker::{Contender, Keep};
use crate::cli::Cli;
use crate::cycle::{Script, Until, cycle};
use crate::failure::{Failure, Result};
use crate::net::Net;
use crate::outcome::{Extra, Faults, Outcome};
use crate::workload::backlog::{self, Plan};

const LOOKED_AT: u32 = 100;

/// Puts the sessions to sleep, publishes, and restarts the broker (orderly, then by SIGKILL).
pub(crate) fn run(
    sessions: u32,
    messages: u32,
    contender: &Contender,
    cli: &Cli,
) -> Result<Outcome> {
    let mut broker = contender.start(Keep::Disk)?;
    let mut net = Net::new(broker.address)?;
    let plan = Plan {
        sessions: (sessions / cli.shrink).max(LOOKED_AT),
        messages,
        shared_topic: true,
        payload: None,
    };
    let rss = broker.rss_bytes()?;
    backlog::subscribe(&mut net, plan)?;
    let asleep = broker.rss_bytes()?;
    let each = asleep.saturating_sub(rss) as f64 / f64::from(plan.sessions);
    let mut extras = backlog::fill(&mut net, &broker, plan, cli.payload)?;
    let find = |extras: &[Extra], name| {
        let found = extras.iter().find(|extra| extra.name == name);
        found.map_or(0.0, |extra| extra.value)
    };
    let (seconds, cpu_seconds) = (
        find(&extras, "publish_seconds"),
        find(&extras, "publish_cpu_seconds"),
    );
    let after = broker.rss_bytes()?;
    let mut extra = |name, value| extras.push(Extra { name, value });
    extra("rss_bytes_per_session", each);
    let mut restarts = || -> Result<()> {
        extra("start_seconds", broker.restart(true)?);
        extra("resumed_percent", resumed(&broker, 0)?);
        extra("start_after_kill_seconds", broker.restart(false)?);
        extra("resumed_after_kill_percent", resumed(&broker, 1)?);
        Ok(())
    };
    match restarts() {
        Ok(()) | Err(Failure::NotOurs) => {}
        Err(failure) => return Err(failure),
    }
    Ok(Outcome {
        unit: "publishes",
        count: messages.into(),
        seconds,
        cpu_seconds,
        latency: None,
        rss_bytes: after,
        extras,
        faults: Faults::default(),
    })
}

/// The share of some sessions, spread over all, that are still there.
fn resumed(broker: &crate::broker::Broker<'_>, from: u64) -> Result<f64> {
    let mut net = Net::new(broker.address)?;
    let script = Script {
        id: &|number| format!("away-{}", from * u64::from(LOOKED_AT) / 2 + number),
        filters: &|_| Vec::new(),
        qos: 1,
        clean: false,
        present: None,
        leave: true,
        at_once: 10,
    };
    let cycled = cycle(&mut net, &script, Until::Count(u64::from(LOOKED_AT) / 2))?;
    Ok(cycled.resumed as f64 * 100.0 / cycled.done.max(1) as f64)
}
