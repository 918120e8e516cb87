//! Connections that do nothing: what each costs in memory.

use crate::broker::{Contender, Keep};
use crate::cli::Cli;
use crate::clock;
use crate::cycle::{Script, Until, cycle};
use crate::failure::Result;
use crate::net::Net;
use crate::outcome::{Extra, Faults, Outcome};

const CONNECTIONS: u64 = 10_000;

/// Opens the connections, each with one subscription.
pub(crate) fn run(contender: &Contender, cli: &Cli) -> Result<Outcome> {
    let broker = contender.start(Keep::Memory)?;
    let mut net = Net::new(broker.address)?;
    let connections = CONNECTIONS / u64::from(cli.shrink);
    let script = Script {
        id: &|number| format!("idle-{number}"),
        filters: &|number| vec![format!("idle/{number}")],
        qos: 1,
        clean: true,
        present: Some(false),
        leave: false,
        at_once: 50,
    };
    let (rss, cpu, from) = (broker.rss_bytes()?, broker.cpu_seconds()?, clock::nanos());
    let cycled = cycle(&mut net, &script, Until::Count(connections))?;
    let after = broker.rss_bytes()?;
    let each = after.saturating_sub(rss) as f64 / connections.max(1) as f64;
    Ok(Outcome {
        unit: "connects",
        count: cycled.done,
        seconds: clock::seconds(clock::nanos() - from),
        cpu_seconds: broker.cpu_seconds()? - cpu,
        latency: Some(cycled.latency),
        rss_bytes: after,
        extras: vec![Extra {
            name: "rss_bytes_per_connection",
            value: each,
        }],
        faults: Faults::default(),
    })
}
