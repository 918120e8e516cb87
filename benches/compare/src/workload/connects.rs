//! Connections that come and go, and what each costs.

use crate::broker::{Contender, Keep};
use crate::cli::Cli;
use crate::clock;
use crate::cycle::{Script, Until, cycle};
use crate::failure::Result;
use crate::net::Net;
use crate::outcome::{Extra, Faults, Outcome};

const SESSIONS: u64 = 5_000;
const AT_ONCE: u64 = 50;

/// Which connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Clean session, each with its own id.
    Clean,
    /// Each creates a kept session.
    New,
    /// Each resumes one of some kept sessions.
    Resume,
    /// All kept sessions come back at once and stay.
    Storm,
}

/// Connects for the measured time, or until all are back.
pub(crate) fn run(plan: &Plan, contender: &Contender, cli: &Cli) -> Result<Outcome> {
    let plan = *plan;
    let broker = contender.start(Keep::Memory)?;
    let mut net = Net::new(broker.address)?;
    let prepared = matches!(plan, Plan::Resume | Plan::Storm);
    if prepared {
        prepare(&mut net)?;
    }
    let measured_id = move |number: u64| match plan {
        Plan::Clean => format!("clean-{number}"),
        Plan::New => format!("new-{number}"),
        Plan::Resume | Plan::Storm => format!("kept-{}", number % SESSIONS),
    };
    let measured = Script {
        id: &measured_id,
        filters: &|_| Vec::new(),
        qos: 1,
        clean: plan == Plan::Clean,
        present: Some(prepared),
        leave: plan != Plan::Storm,
        at_once: if plan == Plan::Storm {
            SESSIONS
        } else {
            AT_ONCE
        },
    };
    if plan != Plan::Storm {
        let warming = Script {
            id: &|number| format!("{}-w", measured_id(number)),
            present: None,
            clean: true,
            ..measured
        };
        let end = clock::nanos() + clock::from_seconds(cli.warm_up_seconds / 2.0);
        cycle(&mut net, &warming, Until::Nanos(end))?;
    }
    let (rss, cpu, from) = (broker.rss_bytes()?, broker.cpu_seconds()?, clock::nanos());
    let until = match plan {
        Plan::Storm => Until::Count(SESSIONS),
        Plan::Clean | Plan::New | Plan::Resume => {
            Until::Nanos(from + clock::from_seconds(cli.seconds))
        }
    };
    let cycled = cycle(&mut net, &measured, until)?;
    let after = broker.rss_bytes()?;
    let growth = after.saturating_sub(rss) as f64 / cycled.done.max(1) as f64;
    let extra = |value| Extra {
        name: "rss_bytes_per_session",
        value,
    };
    Ok(Outcome {
        unit: "connects",
        count: cycled.done,
        seconds: clock::seconds(clock::nanos() - from),
        cpu_seconds: broker.cpu_seconds()? - cpu,
        latency: Some(cycled.latency),
        rss_bytes: after,
        extras: (plan == Plan::New)
            .then(|| extra(growth))
            .into_iter()
            .collect(),
        faults: Faults::default(),
    })
}

/// Creates the sessions that come back later.
fn prepare(net: &mut Net) -> Result<()> {
    let script = Script {
        id: &|number| format!("kept-{number}"),
        filters: &|number| vec![format!("kept/{number}")],
        qos: 1,
        clean: false,
        present: Some(false),
        leave: true,
        at_once: AT_ONCE,
    };
    cycle(net, &script, Until::Count(SESSIONS)).map(drop)
}
