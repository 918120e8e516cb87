//! Messages for sessions that are away, and how they get them when they return.
//!
//! Each message is accounted for: a session must find its messages in order, once each.

use std::time::Duration;

use crate::broker::{Broker, Contender, Keep};
use crate::cli::Cli;
use crate::clock;
use crate::cycle::{Script, Until, cycle};
use crate::failure::{Failure, Result};
use crate::net::{Links, Net, Receiver};
use crate::outcome::{Extra, Faults, Outcome};
use crate::packet::{self, Account, Packet, Template};

const PUBLISHERS: u32 = 50;
const UNACKNOWLEDGED_MAX: u32 = 20;
const DRAINING_AT_ONCE: u32 = 100;
const STALL_NANOS: u64 = 60_000_000_000;
const WAIT: Duration = Duration::from_millis(100);

/// How many sessions and messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) sessions: u32,
    /// For each session.
    pub(crate) messages: u32,
    /// All sessions subscribe to one topic, each message is published once.
    pub(crate) shared_topic: bool,
    pub(crate) payload: Option<u16>,
}

/// Fills the backlog, then drains it.
pub(crate) fn run(plan: &Plan, contender: &Contender, cli: &Cli) -> Result<Outcome> {
    let sessions = (plan.sessions / cli.shrink).next_multiple_of(PUBLISHERS);
    let plan = Plan { sessions, ..*plan };
    let broker = contender.start(Keep::Memory)?;
    let mut net = Net::new(broker.address)?;
    subscribe(&mut net, plan)?;
    let payload = plan.payload.unwrap_or(cli.payload);
    let mut extras = fill(&mut net, &broker, plan, payload)?;
    let mut drain = Drain {
        plan,
        readers: Vec::new(),
        next: vec![0; sessions as usize],
        open: 0,
        started: 0,
        delivered: 0,
        faults: Faults::default(),
    };
    let (cpu, from) = (broker.cpu_seconds()?, clock::nanos());
    drain.run(&mut net)?;
    let seconds = clock::seconds(clock::nanos() - from);
    let disk = broker.disk_bytes() as f64 / drain.delivered.max(1) as f64;
    extras.push(Extra {
        name: "disk_bytes_per_delivery",
        value: disk,
    });
    Ok(Outcome {
        unit: "deliveries",
        count: drain.delivered,
        seconds,
        cpu_seconds: broker.cpu_seconds()? - cpu,
        latency: None,
        rss_bytes: broker.rss_bytes()?,
        extras,
        faults: drain.faults,
    })
}

fn topic(plan: Plan, session: u64) -> String {
    if plan.shared_topic {
        "all".to_owned()
    } else {
        format!("away/{session:06}")
    }
}

/// Creates the sessions, with one subscription each, and leaves them.
pub(crate) fn subscribe(net: &mut Net, plan: Plan) -> Result<()> {
    let script = Script {
        id: &|number| format!("away-{number}"),
        filters: &|number| vec![topic(plan, number)],
        qos: 1,
        clean: false,
        present: Some(false),
        leave: true,
        at_once: 50,
    };
    cycle(net, &script, Until::Count(plan.sessions.into())).map(drop)
}

/// Publishes what the sessions are to find; says what it cost.
pub(crate) fn fill(
    net: &mut Net,
    broker: &Broker<'_>,
    plan: Plan,
    payload: u16,
) -> Result<Vec<Extra>> {
    let script = Script {
        id: &|number| format!("pub-{number}"),
        filters: &|_| Vec::new(),
        qos: 1,
        clean: true,
        present: Some(false),
        leave: false,
        at_once: 50,
    };
    let publishers = if plan.shared_topic { 1 } else { PUBLISHERS };
    let links = cycle(net, &script, Until::Count(publishers.into()))?.links;
    let mut by_link = vec![0; links.iter().max().map_or(0, |at| at + 1)];
    for (number, at) in links.iter().enumerate() {
        by_link[*at] = number;
    }
    let mut fill = Fill {
        plan,
        template: Template::new(&topic(plan, 0), 1, payload.into()),
        each: if plan.shared_topic {
            plan.messages
        } else {
            plan.messages * (plan.sessions / PUBLISHERS)
        },
        sent: vec![0; links.len()],
        acknowledged: vec![0; links.len()],
        links,
        by_link,
    };
    let (rss, cpu, from) = (broker.rss_bytes()?, broker.cpu_seconds()?, clock::nanos());
    fill.run(net)?;
    let seconds = clock::seconds(clock::nanos() - from);
    let cpu_seconds = broker.cpu_seconds()? - cpu;
    let rss = broker.rss_bytes()?.saturating_sub(rss) as f64;
    let published = f64::from(fill.each) * f64::from(publishers);
    let waiting = f64::from(plan.messages) * f64::from(plan.sessions);
    let links = std::mem::take(&mut fill.links);
    links.into_iter().for_each(|at| net.links.close(at));
    let extra = |name, value| Extra { name, value };
    Ok(vec![
        extra("publish_per_second", published / seconds),
        extra("publish_seconds", seconds),
        extra("publish_cpu_s_per_million", cpu_seconds * 1e6 / published),
        extra("publish_cpu_seconds", cpu_seconds),
        extra("rss_bytes_per_waiting_delivery", rss / waiting),
        extra("disk_bytes", broker.disk_bytes() as f64),
    ])
}

/// Publishers that write to sessions that are away: closed loops of 20 unacknowledged.
struct Fill {
    plan: Plan,
    template: Template,
    each: u32,
    sent: Vec<u32>,
    acknowledged: Vec<u32>,
    links: Vec<usize>,
    by_link: Vec<usize>,
}

impl Fill {
    fn run(&mut self, net: &mut Net) -> Result<()> {
        for number in 0..self.links.len() {
            self.publish(&mut net.links, number);
        }
        let mut moved = (0, clock::nanos());
        loop {
            let acknowledged: u64 = self.acknowledged.iter().map(|one| u64::from(*one)).sum();
            if acknowledged == u64::from(self.each) * self.links.len() as u64 {
                return Ok(());
            }
            net.turn(WAIT, self)?;
            stalled(&mut moved, acknowledged, net, "publishing to sessions away")?;
        }
    }

    fn publish(&mut self, links: &mut Links, number: usize) {
        let Some(out) = links.out(self.links[number]) else {
            return;
        };
        while self.sent[number] < self.each
            && self.sent[number] - self.acknowledged[number] < UNACKNOWLEDGED_MAX
        {
            let turn = self.sent[number];
            let (session, sequence) = if self.plan.shared_topic {
                (0, turn)
            } else {
                let sessions = self.plan.sessions / PUBLISHERS;
                let own = u32::try_from(number).unwrap_or(0);
                (own + PUBLISHERS * (turn % sessions), turn / sessions)
            };
            if !self.plan.shared_topic {
                let digits = format!("{session:06}");
                self.template.topic(5, 6).copy_from_slice(digits.as_bytes());
            }
            let id = u16::try_from(turn % 65_000 + 1).unwrap_or(1);
            let account = Account {
                publisher: session,
                sequence: sequence.into(),
                nanos: 0,
            };
            self.template.write(out, id, account);
            self.sent[number] += 1;
        }
    }
}

impl Receiver for Fill {
    fn packet(&mut self, links: &mut Links, at: usize, packet: Packet<'_>) -> Result<()> {
        if let Packet::Puback(_) = packet {
            let number = self.by_link[at];
            self.acknowledged[number] += 1;
            self.publish(links, number);
        }
        Ok(())
    }

    fn closed(&mut self, _links: &mut Links, _at: usize) -> Result<()> {
        Err(Failure::Closed("publishing to sessions away"))
    }
}

/// Sessions that come back for their messages, some at a time, and leave when they have them all.
struct Drain {
    plan: Plan,
    /// Session by connection.
    readers: Vec<u32>,
    /// Sequence that each session must get next.
    next: Vec<u64>,
    open: u32,
    started: u32,
    delivered: u64,
    faults: Faults,
}

impl Drain {
    fn run(&mut self, net: &mut Net) -> Result<()> {
        let mut moved = (0, clock::nanos());
        while self.started < self.plan.sessions || self.open > 0 {
            while self.started < self.plan.sessions && self.open < DRAINING_AT_ONCE {
                self.start(&mut net.links)?;
            }
            net.turn(WAIT, self)?;
            let progress = self.delivered + u64::from(self.started);
            if stalled(&mut moved, progress, net, "draining").is_err() {
                break;
            }
        }
        let all = u64::from(self.plan.messages);
        self.faults.lost += self.next.iter().map(|next| all - next).sum::<u64>();
        Ok(())
    }

    fn start(&mut self, links: &mut Links) -> Result<()> {
        let at = links.open()?;
        if self.readers.len() <= at {
            self.readers.resize(at + 1, 0);
        }
        self.readers[at] = self.started;
        let out = links.out(at).expect("opened just now");
        packet::connect(out, &format!("away-{}", self.started), false);
        self.started += 1;
        self.open += 1;
        Ok(())
    }

    fn arrived(&mut self, session: u32, payload: &[u8]) -> bool {
        let topic = if self.plan.shared_topic { 0 } else { session };
        let all = u64::from(self.plan.messages);
        let next = &mut self.next[session as usize];
        match Account::read(payload) {
            Some(account) if account.publisher == topic && account.sequence < all => {
                if account.sequence < *next {
                    self.faults.doubled += 1;
                } else {
                    self.faults.lost += account.sequence - *next;
                    *next = account.sequence + 1;
                    self.delivered += 1;
                }
            }
            _ => self.faults.foreign += 1,
        }
        *next == all
    }
}

impl Receiver for Drain {
    fn packet(&mut self, links: &mut Links, at: usize, packet: Packet<'_>) -> Result<()> {
        match packet {
            Packet::Connack {
                present: true,
                code: 0,
            } => Ok(()),
            Packet::Connack {
                present: false,
                code: 0,
            } => Err(Failure::SessionPresent(false, true)),
            Packet::Connack { code, .. } => Err(Failure::Refused(code)),
            Packet::Publish { id, payload, .. } => {
                let complete = self.arrived(self.readers[at], payload);
                if let Some(out) = links.out(at) {
                    packet::acknowledge(out, packet::PUBACK, id);
                    if complete {
                        out.extend_from_slice(&packet::DISCONNECT);
                    }
                }
                Ok(())
            }
            Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Suback { .. }
            | Packet::Pingresp => Ok(()),
        }
    }

    fn closed(&mut self, _links: &mut Links, at: usize) -> Result<()> {
        let session = self.readers[at] as usize;
        if self.next[session] < u64::from(self.plan.messages) {
            return Err(Failure::Closed("draining"));
        }
        self.open -= 1;
        Ok(())
    }
}

fn stalled(moved: &mut (u64, u64), progress: u64, net: &Net, what: &'static str) -> Result<()> {
    if progress != moved.0 {
        *moved = (progress, net.links.now);
    } else if net.links.now.saturating_sub(moved.1) > STALL_NANOS {
        return Err(Failure::Stalled {
            what,
            seconds: STALL_NANOS / 1_000_000_000,
        });
    }
    Ok(())
}
