//! Connections that connect, perhaps subscribe, and stay or leave: the set-up of most workloads, and the whole of `connect-*`.

use std::time::Duration;

use crate::clock;
use crate::failure::{Failure, Result};
use crate::net::{Links, Net, Receiver};
use crate::outcome::{Latency, latency};
use crate::packet::{self, Packet};

const STALL_NANOS: u64 = 60_000_000_000;
const LIMIT_NANOS: u64 = 180_000_000_000;
const FILTERS_PER_SUBSCRIBE: usize = 100;

/// What each connection does.
pub(crate) struct Script<'a> {
    /// Client id of the n-th connection.
    pub(crate) id: &'a dyn Fn(u64) -> String,
    /// Its filters.
    pub(crate) filters: &'a dyn Fn(u64) -> Vec<String>,
    /// QoS asked for.
    pub(crate) qos: u8,
    /// Clean session.
    pub(crate) clean: bool,
    /// Session present that CONNACK must show, if it matters.
    pub(crate) present: Option<bool>,
    /// Disconnect when done, or stay open.
    pub(crate) leave: bool,
    /// How many are under way at once.
    pub(crate) at_once: u64,
}

/// When to stop starting connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After so many.
    Count(u64),
    /// At this time.
    Nanos(u64),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Cycled {
    /// The connections that stayed, by number.
    pub(crate) links: Vec<usize>,
    /// How many went through.
    pub(crate) done: u64,
    /// How many of them resumed a session.
    pub(crate) resumed: u64,
    /// From connect to CONNACK.
    pub(crate) latency: Latency,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    number: u64,
    started: u64,
    subacks: usize,
    leaving: bool,
}

struct Cycle<'a> {
    script: &'a Script<'a>,
    steps: Vec<Option<Step>>,
    links: Vec<usize>,
    under_way: u64,
    done: u64,
    resumed: u64,
    latency: Latency,
}

/// Runs the script until told to stop, and waits for the last one.
pub(crate) fn cycle(net: &mut Net, script: &Script<'_>, until: Until) -> Result<Cycled> {
    let mut cycle = Cycle {
        script,
        steps: Vec::new(),
        links: Vec::new(),
        under_way: 0,
        done: 0,
        resumed: 0,
        latency: latency(),
    };
    let mut started = 0;
    let mut moved = (0, clock::nanos());
    let began = moved.1;
    loop {
        let more = match until {
            Until::Count(count) => started < count,
            Until::Nanos(end) => net.links.now < end,
        };
        if more && cycle.under_way < script.at_once {
            cycle.start(&mut net.links, started)?;
            started += 1;
            continue;
        }
        if !more && cycle.under_way == 0 {
            break;
        }
        net.turn(Duration::from_millis(100), &mut cycle)?;
        if net.links.now.saturating_sub(began) > LIMIT_NANOS {
            return Err(Failure::Slow {
                seconds: LIMIT_NANOS / 1_000_000_000,
                done: cycle.done,
            });
        }
        if cycle.done != moved.0 {
            moved = (cycle.done, net.links.now);
        } else if net.links.now - moved.1 > STALL_NANOS {
            return Err(Failure::Stalled {
                what: "connecting",
                seconds: STALL_NANOS / 1_000_000_000,
            });
        }
    }
    Ok(Cycled {
        links: cycle.links,
        done: cycle.done,
        resumed: cycle.resumed,
        latency: cycle.latency,
    })
}

impl Cycle<'_> {
    fn start(&mut self, links: &mut Links, number: u64) -> Result<()> {
        let at = links.open()?;
        if self.steps.len() <= at {
            self.steps.resize(at + 1, None);
        }
        self.steps[at] = Some(Step {
            number,
            started: clock::nanos(),
            subacks: 0,
            leaving: false,
        });
        self.under_way += 1;
        let out = links.out(at).expect("opened just now");
        packet::connect(out, &(self.script.id)(number), self.script.clean);
        Ok(())
    }

    fn accepted(&mut self, links: &mut Links, at: usize, present: bool) -> Result<()> {
        if let Some(expected) = self.script.present
            && expected != present
        {
            return Err(Failure::SessionPresent(present, expected));
        }
        self.resumed += u64::from(present);
        let Some(step) = self.steps.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        self.latency
            .saturating_record(clock::nanos() - step.started);
        let filters = (self.script.filters)(step.number);
        step.subacks = filters.len().div_ceil(FILTERS_PER_SUBSCRIBE);
        if filters.is_empty() {
            return self.settled(links, at);
        }
        if let Some(out) = links.out(at) {
            for (id, chunk) in (1..).zip(filters.chunks(FILTERS_PER_SUBSCRIBE)) {
                packet::subscribe(out, id, self.script.qos, chunk);
            }
        }
        Ok(())
    }

    fn settled(&mut self, links: &mut Links, at: usize) -> Result<()> {
        let Some(step) = self.steps.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        if self.script.leave {
            step.leaving = true;
            if let Some(out) = links.out(at) {
                out.extend_from_slice(&packet::DISCONNECT);
            }
            return Ok(());
        }
        let number = usize::try_from(step.number).expect("a count of connections");
        if self.links.len() <= number {
            self.links.resize(number + 1, usize::MAX);
        }
        self.links[number] = at;
        self.steps[at] = None;
        self.under_way -= 1;
        self.done += 1;
        Ok(())
    }
}

impl Receiver for Cycle<'_> {
    fn packet(&mut self, links: &mut Links, at: usize, packet: Packet<'_>) -> Result<()> {
        match packet {
            Packet::Connack { present, code: 0 } => self.accepted(links, at, present),
            Packet::Connack { code, .. } => Err(Failure::Refused(code)),
            Packet::Suback { codes } => {
                if codes.iter().any(|code| *code > 2) {
                    return Err(Failure::SubscriptionRefused);
                }
                let Some(step) = self.steps.get_mut(at).and_then(Option::as_mut) else {
                    return Ok(());
                };
                step.subacks = step.subacks.saturating_sub(1);
                if step.subacks == 0 {
                    return self.settled(links, at);
                }
                Ok(())
            }
            Packet::Publish { .. }
            | Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Pingresp => Ok(()),
        }
    }

    fn closed(&mut self, _links: &mut Links, at: usize) -> Result<()> {
        match self.steps.get_mut(at).and_then(Option::take) {
            Some(step) if step.leaving => {
                self.under_way -= 1;
                self.done += 1;
                Ok(())
            }
            Some(_) => Err(Failure::Closed("connecting")),
            None => Err(Failure::Closed("others connect")),
        }
    }
}
