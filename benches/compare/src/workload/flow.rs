//! Messages from connected publishers to connected subscribers: pairs, fan-in, fan-out, many filters, paced or as fast as they go.
//!
//! Closed loops: a publisher has at most 20 messages unacknowledged (QoS 1 and 2) and at most 200 not delivered.

use std::time::Duration;

use crate::broker::{Broker, Contender, Keep};
use crate::cli::Cli;
use crate::clock;
use crate::cycle::{Script, Until, cycle};
use crate::failure::{Failure, Result};
use crate::net::{Links, Net, Receiver};
use crate::outcome::{Extra, Latency, Outcome, latency};
use crate::packet::{self, Account, Packet, Template};
use crate::process;
use crate::workload::account::Books;

const UNACKNOWLEDGED_MAX: u16 = 20;
const UNDELIVERED_MAX: u32 = 200;
const FILTERS: u64 = 100_000;
const FILTER_CONNECTIONS: u64 = 100;
const FILTER_PUBLISHERS: u64 = 50;
const SHARED_PUBLISHERS: u64 = 50;
const DRAIN_NANOS: u64 = 10_000_000_000;
const SETTLE: Duration = Duration::from_millis(100);

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Pairs(u64),
    FanIn(u64),
    FanOut(u64),
    /// 50 publishers, and one shared subscription with so many members.
    Shared(u64),
    Filters(Wildcard),
}

/// The kind of the 100,000 filters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wildcard {
    None,
    Plus,
    Hash,
}

/// A flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) qos: u8,
    /// Subscribers have clean session 0.
    pub(crate) kept: bool,
    pub(crate) payload: Option<u16>,
    /// Messages per second of all publishers together; as fast as they go if none.
    pub(crate) per_second: Option<u64>,
}

impl Shape {
    fn publishers(self) -> u64 {
        match self {
            Self::Pairs(count) | Self::FanIn(count) => count,
            Self::FanOut(_) => 1,
            Self::Shared(_) => SHARED_PUBLISHERS,
            Self::Filters(_) => FILTER_PUBLISHERS,
        }
    }

    fn subscribers(self) -> u64 {
        match self {
            Self::Pairs(count) | Self::FanOut(count) | Self::Shared(count) => count,
            Self::FanIn(_) => 1,
            Self::Filters(_) => FILTER_CONNECTIONS,
        }
    }

    fn filters(self, subscriber: u64) -> Vec<String> {
        match self {
            Self::Pairs(_) => vec![format!("pair/{subscriber}")],
            Self::FanIn(_) => vec!["in/+".to_owned()],
            Self::FanOut(_) => vec!["out".to_owned()],
            Self::Shared(_) => vec!["$share/workers/job/+".to_owned()],
            Self::Filters(wildcard) => (0..FILTERS)
                .filter(|filter| filter % FILTER_CONNECTIONS == subscriber)
                .map(|filter| match wildcard {
                    Wildcard::None => format!("device/{filter:06}/state"),
                    Wildcard::Plus => format!("device/{filter:06}/+"),
                    Wildcard::Hash => format!("device/{filter:06}/#"),
                })
                .collect(),
        }
    }

    fn topic(self, publisher: u64) -> String {
        match self {
            Self::Pairs(_) => format!("pair/{publisher}"),
            Self::FanIn(_) => format!("in/{publisher}"),
            Self::FanOut(_) => "out".to_owned(),
            Self::Shared(_) => format!("job/{publisher}"),
            Self::Filters(_) => "device/000000/state".to_owned(),
        }
    }
}

struct Publisher {
    at: usize,
    template: Template,
    unacknowledged: u16,
    /// Bit set of packet ids in use, so that an ack for nothing is seen.
    ids: Vec<u64>,
    /// In the list of those that may be able to send.
    ready: bool,
}

#[derive(Clone, Copy)]
enum Role {
    None,
    Publisher(usize),
    Subscriber(usize),
}

struct Flow {
    plan: Plan,
    publishers: Vec<Publisher>,
    roles: Vec<Role>,
    books: Books,
    latency: Latency,
    /// Publishers that may have become able to send.
    ready: Vec<usize>,
    paced_from: u64,
    paced_sent: u64,
}

/// Runs the flow against a fresh broker.
pub(crate) fn run(plan: &Plan, contender: &Contender, cli: &Cli) -> Result<Outcome> {
    let broker = contender.start(Keep::Memory)?;
    let mut net = Net::new(broker.address)?;
    let mut flow = Flow::set_up(*plan, &mut net, cli)?;
    flow.start_pace(&net);
    flow.drive(&mut net, clock::from_seconds(cli.warm_up_seconds))?;
    flow.latency.reset();
    let outcome = flow.measure(&mut net, &broker, clock::from_seconds(cli.seconds))?;
    flow.drain(&mut net)?;
    Ok(Outcome {
        faults: flow.books.faults,
        latency: Some(flow.latency),
        ..outcome
    })
}

impl Flow {
    fn set_up(plan: Plan, net: &mut Net, cli: &Cli) -> Result<Self> {
        let shape = plan.shape;
        let (subscribers, publishers) = (shape.subscribers(), shape.publishers());
        let subscribing = Script {
            id: &|number| format!("sub-{number}"),
            filters: &|number| shape.filters(number),
            qos: plan.qos,
            clean: !plan.kept,
            present: Some(false),
            leave: false,
            at_once: 50,
        };
        let readers = cycle(net, &subscribing, Until::Count(subscribers))?.links;
        let publishing = Script {
            id: &|number| format!("pub-{number}"),
            filters: &|_| Vec::new(),
            clean: !(plan.kept && plan.qos == 2),
            ..subscribing
        };
        let writers = cycle(net, &publishing, Until::Count(publishers))?.links;
        let readers_each = match shape {
            Shape::FanOut(count) => u32::try_from(count).unwrap_or(u32::MAX),
            Shape::Pairs(_) | Shape::FanIn(_) | Shape::Shared(_) | Shape::Filters(_) => 1,
        };
        // Members of a shared subscription get every so-manieth message of a publisher, in order: nothing shows a gap.
        let ordered = !matches!(shape, Shape::Filters(_) | Shape::Shared(_));
        let mut roles = vec![Role::None; readers.len() + writers.len()];
        for (number, at) in readers.iter().enumerate() {
            roles[*at] = Role::Subscriber(number);
        }
        for (number, at) in writers.iter().enumerate() {
            roles[*at] = Role::Publisher(number);
        }
        let payload = usize::from(plan.payload.unwrap_or(cli.payload));
        let template = |number| Template::new(&shape.topic(number), plan.qos, payload);
        Ok(Self {
            plan,
            books: Books::new(
                writers.len(),
                readers.len(),
                UNDELIVERED_MAX,
                readers_each,
                ordered,
            ),
            ready: (0..writers.len()).collect(),
            publishers: (0..)
                .zip(writers)
                .map(|(number, at)| Publisher {
                    at,
                    template: template(number),
                    unacknowledged: 0,
                    ids: vec![0; 1024],
                    ready: true,
                })
                .collect(),
            roles,
            latency: latency(),
            paced_from: 0,
            paced_sent: 0,
        })
    }

    fn start_pace(&mut self, net: &Net) {
        self.paced_from = net.links.now;
    }

    fn measure(
        &mut self,
        net: &mut Net,
        broker: &Broker<'_>,
        window_nanos: u64,
    ) -> Result<Outcome> {
        let own = || process::cpu_seconds(std::process::id());
        let (delivered, own_cpu) = (self.books.delivered, own()?);
        let (cpu, from) = (broker.cpu_seconds()?, clock::nanos());
        self.drive(net, window_nanos)?;
        let (cpu_seconds, to) = (broker.cpu_seconds()? - cpu, clock::nanos());
        let count = self.books.delivered - delivered;
        Ok(Outcome {
            unit: "deliveries",
            count,
            seconds: clock::seconds(to - from),
            cpu_seconds,
            latency: None,
            rss_bytes: broker.rss_bytes()?,
            extras: vec![Extra {
                name: "load_cpu_s_per_million",
                value: (own()? - own_cpu) * 1e6 / (count.max(1) as f64),
            }],
            faults: self.books.faults,
        })
    }

    fn drive(&mut self, net: &mut Net, window_nanos: u64) -> Result<()> {
        let end = clock::nanos() + window_nanos;
        // A paced publisher must not oversleep, and this core is ours: it spins.
        let wait = match self.plan.per_second {
            Some(_) => Duration::ZERO,
            None => SETTLE,
        };
        while net.links.now < end {
            self.publish(&mut net.links);
            net.turn(wait, self)?;
        }
        Ok(())
    }

    /// Stops publishing and waits until everything arrived; what does not is lost.
    fn drain(&mut self, net: &mut Net) -> Result<()> {
        let mut moved = (self.books.delivered, clock::nanos());
        while !self.books.settled() || self.publishers.iter().any(|one| one.unacknowledged > 0) {
            net.turn(SETTLE, self)?;
            if self.books.delivered != moved.0 {
                moved = (self.books.delivered, net.links.now);
            } else if net.links.now - moved.1 > DRAIN_NANOS {
                break;
            }
        }
        // What comes twice comes now.
        let end = clock::nanos() + clock::from_seconds(0.2);
        while clock::nanos() < end {
            net.turn(SETTLE, self)?;
        }
        self.books.close();
        Ok(())
    }

    fn publish(&mut self, links: &mut Links) {
        match self.plan.per_second {
            None => {
                while let Some(number) = self.ready.pop() {
                    self.publishers[number].ready = false;
                    while self.publish_one(links, number, links.now) {}
                }
            }
            Some(rate) => {
                let due = |sent: u64| sent * 1_000_000_000 / rate;
                while self.paced_from + due(self.paced_sent) <= links.now {
                    // Stamped with the time it was due: a broker that stalls the load is not let off.
                    let stamp = self.paced_from + due(self.paced_sent);
                    let publishers = self.publishers.len() as u64;
                    let number = usize::try_from(self.paced_sent % publishers).unwrap_or(0);
                    if !self.publish_one(links, number, stamp) {
                        break;
                    }
                    self.paced_sent += 1;
                }
            }
        }
    }

    fn publish_one(&mut self, links: &mut Links, number: usize, stamp: u64) -> bool {
        let publisher = &mut self.publishers[number];
        if self.plan.qos > 0 && publisher.unacknowledged >= UNACKNOWLEDGED_MAX {
            return false;
        }
        let Some(sequence) = self.books.next(number) else {
            return false;
        };
        let id = packet_id(sequence);
        let (word, bit) = bit_of(id);
        if publisher.ids[word] & bit != 0 {
            return false;
        }
        let Some(out) = links.out(publisher.at) else {
            return false;
        };
        if let Shape::Filters(_) = self.plan.shape {
            let turn = sequence * FILTER_PUBLISHERS + number as u64;
            write_digits(publisher.template.topic(7, 6), turn * 7919 % FILTERS);
        }
        let account = Account {
            publisher: u32::try_from(number).unwrap_or(u32::MAX),
            sequence,
            nanos: stamp,
        };
        publisher.template.write(out, id, account);
        if self.plan.qos > 0 {
            publisher.ids[word] |= bit;
            publisher.unacknowledged += 1;
        }
        self.books.send(number);
        true
    }

    fn acknowledged(&mut self, number: usize, id: u16) {
        let publisher = &mut self.publishers[number];
        let (word, bit) = bit_of(id);
        if publisher.ids[word] & bit == 0 {
            self.books.faults.foreign += 1;
            return;
        }
        publisher.ids[word] &= !bit;
        publisher.unacknowledged -= 1;
        self.may_publish(number);
    }

    fn may_publish(&mut self, number: usize) {
        let publisher = &mut self.publishers[number];
        if !publisher.ready {
            publisher.ready = true;
            self.ready.push(number);
        }
    }

    fn arrived(&mut self, links: &mut Links, at: usize, subscriber: usize, publish: Packet<'_>) {
        let Packet::Publish {
            qos, id, payload, ..
        } = publish
        else {
            return;
        };
        if let Some(account) = Account::read(payload) {
            self.books.arrived(subscriber, account);
            self.latency
                .saturating_record(links.now.saturating_sub(account.nanos));
            let number = account.publisher as usize;
            if number < self.publishers.len() {
                self.may_publish(number);
            }
        } else {
            self.books.faults.foreign += 1;
        }
        if qos > 0
            && let Some(out) = links.out(at)
        {
            let kind = if qos == 1 {
                packet::PUBACK
            } else {
                packet::PUBREC
            };
            packet::acknowledge(out, kind, id);
        }
    }
}

impl Receiver for Flow {
    fn packet(&mut self, links: &mut Links, at: usize, packet: Packet<'_>) -> Result<()> {
        match (self.roles[at], packet) {
            (Role::Subscriber(number), Packet::Publish { .. }) => {
                self.arrived(links, at, number, packet);
            }
            (Role::Subscriber(_), Packet::Pubrel(id)) => {
                if let Some(out) = links.out(at) {
                    packet::acknowledge(out, packet::PUBCOMP, id);
                }
            }
            (Role::Publisher(number), Packet::Puback(id) | Packet::Pubcomp(id)) => {
                self.acknowledged(number, id);
            }
            (Role::Publisher(_), Packet::Pubrec(id)) => {
                if let Some(out) = links.out(at) {
                    packet::acknowledge(out, packet::PUBREL, id);
                }
            }
            (_, Packet::Pingresp) => {}
            _ => self.books.faults.foreign += 1,
        }
        Ok(())
    }

    fn closed(&mut self, _links: &mut Links, _at: usize) -> Result<()> {
        Err(Failure::Closed("messages flow"))
    }
}

fn packet_id(sequence: u64) -> u16 {
    u16::try_from(sequence % 65_000 + 1).expect("below 65,536")
}

fn bit_of(id: u16) -> (usize, u64) {
    (usize::from(id / 64), 1 << (id % 64))
}

fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}
