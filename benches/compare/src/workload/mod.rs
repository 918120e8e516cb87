//! The workloads by name.

mod account;
mod backlog;
mod connects;
mod flow;
mod idle;
mod sleepers;

use crate::broker::Contender;
use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::outcome::Outcome;

/// A named piece of work.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Flow(flow::Plan),
    Connects(connects::Plan),
    Idle,
    Backlog(backlog::Plan),
    Sleepers { sessions: u32, messages: u32 },
}

/// Every workload.
pub(crate) fn all() -> &'static [Workload] {
    ALL
}

/// The ones asked for, in the order of the table.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Workload>> {
    let known = |name: &String| name == "all" || ALL.iter().any(|one| one.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let names: Vec<_> = ALL.iter().map(|one| one.name).collect();
        return Err(Failure::Usage(format!(
            "no workload {unknown}; there are: {}",
            names.join(", ")
        )));
    }
    let wanted = |one: &&Workload| names.iter().any(|name| name == "all" || name == one.name);
    Ok(ALL.iter().filter(wanted).collect())
}

/// Runs one workload against a fresh broker.
pub(crate) fn run(workload: &Workload, contender: &Contender, cli: &Cli) -> Result<Outcome> {
    match &workload.kind {
        Kind::Flow(plan) => flow::run(plan, contender, cli),
        Kind::Connects(plan) => connects::run(plan, contender, cli),
        Kind::Idle => idle::run(contender, cli),
        Kind::Backlog(plan) => backlog::run(plan, contender, cli),
        Kind::Sleepers { sessions, messages } => {
            sleepers::run(*sessions, *messages, contender, cli)
        }
    }
}

const PAIRS: flow::Plan = flow::Plan {
    shape: flow::Shape::Pairs(50),
    qos: 0,
    kept: false,
    payload: None,
    per_second: None,
};

const ALL: &[Workload] = &[
    Workload {
        name: "qos0",
        about: "50 publisher-subscriber pairs, QoS 0",
        kind: Kind::Flow(PAIRS),
    },
    Workload {
        name: "qos1",
        about: "50 pairs, QoS 1",
        kind: Kind::Flow(flow::Plan { qos: 1, ..PAIRS }),
    },
    Workload {
        name: "qos2",
        about: "50 pairs, QoS 2",
        kind: Kind::Flow(flow::Plan { qos: 2, ..PAIRS }),
    },
    Workload {
        name: "qos1-1k",
        about: "50 pairs, QoS 1, 1 KB",
        kind: Kind::Flow(flow::Plan {
            qos: 1,
            payload: Some(1024),
            ..PAIRS
        }),
    },
    Workload {
        name: "persistent",
        about: "50 pairs, QoS 1, subscribers with clean session 0",
        kind: Kind::Flow(flow::Plan {
            qos: 1,
            kept: true,
            ..PAIRS
        }),
    },
    Workload {
        name: "persistent-qos2",
        about: "50 pairs, QoS 2, publishers and subscribers with clean session 0",
        kind: Kind::Flow(flow::Plan {
            qos: 2,
            kept: true,
            ..PAIRS
        }),
    },
    Workload {
        name: "fan-in",
        about: "100 publishers to one subscriber, QoS 1",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::FanIn(100),
            qos: 1,
            ..PAIRS
        }),
    },
    Workload {
        name: "shared",
        about: "50 publishers to one shared subscription with 10 members, QoS 1",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::Shared(10),
            qos: 1,
            ..PAIRS
        }),
    },
    Workload {
        name: "shared-persistent",
        about: "the same, members with clean session 0",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::Shared(10),
            qos: 1,
            kept: true,
            ..PAIRS
        }),
    },
    Workload {
        name: "fan-out",
        about: "one publisher to 1000 subscribers, QoS 0",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::FanOut(1000),
            ..PAIRS
        }),
    },
    Workload {
        name: "filters-exact",
        about: "100,000 filters over 100 connections, exact, QoS 1",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::Filters(flow::Wildcard::None),
            qos: 1,
            ..PAIRS
        }),
    },
    Workload {
        name: "filters-plus",
        about: "the same with `+`",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::Filters(flow::Wildcard::Plus),
            qos: 1,
            ..PAIRS
        }),
    },
    Workload {
        name: "filters-hash",
        about: "the same with `#`",
        kind: Kind::Flow(flow::Plan {
            shape: flow::Shape::Filters(flow::Wildcard::Hash),
            qos: 1,
            ..PAIRS
        }),
    },
    Workload {
        name: "paced",
        about: "10,000 messages/s over 50 pairs, QoS 0: latency",
        kind: Kind::Flow(flow::Plan {
            per_second: Some(10_000),
            ..PAIRS
        }),
    },
    Workload {
        name: "paced-persistent",
        about: "10,000 messages/s over 50 pairs, QoS 1, subscribers with clean session 0: latency",
        kind: Kind::Flow(flow::Plan {
            qos: 1,
            kept: true,
            per_second: Some(10_000),
            ..PAIRS
        }),
    },
    Workload {
        name: "connect-clean",
        about: "CONNECT, CONNACK, DISCONNECT with clean session 1, 50 at a time",
        kind: Kind::Connects(connects::Plan::Clean),
    },
    Workload {
        name: "connect-new",
        about: "the same, each a new kept session",
        kind: Kind::Connects(connects::Plan::New),
    },
    Workload {
        name: "connect-resume",
        about: "the same, resuming 5,000 kept sessions in turn",
        kind: Kind::Connects(connects::Plan::Resume),
    },
    Workload {
        name: "reconnect-all",
        about: "5,000 kept sessions with a subscription reconnect at once and stay",
        kind: Kind::Connects(connects::Plan::Storm),
    },
    Workload {
        name: "idle",
        about: "10,000 connections with one subscription each: memory",
        kind: Kind::Idle,
    },
    Workload {
        name: "offline",
        about: "1,000 QoS 1 messages for each of 1,000 kept offline sessions, then drained",
        kind: Kind::Backlog(backlog::Plan {
            sessions: 1000,
            messages: 1000,
            shared_topic: false,
            payload: None,
        }),
    },
    Workload {
        name: "broadcast",
        about: "10 QoS 1 messages of 1 KB for 10,000 kept offline sessions, then drained",
        kind: Kind::Backlog(backlog::Plan {
            sessions: 10_000,
            messages: 10,
            shared_topic: true,
            payload: Some(1024),
        }),
    },
    Workload {
        name: "sleepers-1k",
        about: "1,000 QoS 1 publishes to 1,000 kept offline sessions of one topic, then restart",
        kind: Kind::Sleepers {
            sessions: 1000,
            messages: 1000,
        },
    },
    Workload {
        name: "sleepers-100k",
        about: "20 QoS 1 publishes to 100,000 kept offline sessions of one topic, then restart",
        kind: Kind::Sleepers {
            sessions: 100_000,
            messages: 20,
        },
    },
];
