//! Clients and their connections: what they send, what arrives, and what a cut loses.

use std::sync::Arc;

use outlive_actors::model::effect::Input;
use outlive_actors::model::ids::{SessionNumber, Timestamp};
use outlive_actors::model::packet::{Inbound, Outbound};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::session::Session;

use crate::wills::Watched;
use crate::world::{Actor, Link, Residence, Slot, Turn, World};

impl World {
    pub(crate) fn client_acts(&mut self, client: usize, calm: bool) {
        let now = self.time;
        let Some(link) = self.clients[client].link else {
            return self.connect(client, calm);
        };
        if !calm && self.rng.permille(5) {
            // It does not wait for the old connection to die.
            let ended_at = self.links.get(&link).and_then(|link| link.ended_at);
            self.clients[client].lost(ended_at.unwrap_or(now));
            return self.connect(client, calm);
        }
        let ended_at = self.links.get(&link).and_then(|link| link.ended_at);
        let who = &mut self.clients[client];
        if !who.connected {
            return;
        }
        let packet = match self.rng.between(0, 99) {
            _ if calm => who.acknowledge(),
            0..=39 => who.publish(&mut self.rng, &mut self.oracle, now),
            40..=79 => who.acknowledge(),
            80..=92 => Some(who.subscribe(&mut self.rng, &mut self.oracle)),
            93..=97 => Some(who.unsubscribe(&mut self.rng, &mut self.oracle)),
            _ => Some(who.disconnect(&mut self.rng, ended_at.unwrap_or(now), calm)),
        };
        let Some(mut packet) = packet else { return };
        stamp(&mut packet, now);
        let label = self.label(match &packet {
            Inbound::Publish { message, .. } => Some(message),
            _ => None,
        });
        self.note(|| format!("client {client} sends {packet:?}{label}"));
        let leaves = matches!(packet, Inbound::Disconnect { .. });
        if let Some(link) = self.links.get_mut(&link)
            && !link.up_ends
        {
            link.up.push_back(packet);
            link.up_ends = leaves;
        }
    }

    pub(crate) fn connect(&mut self, client: usize, calm: bool) {
        let who = &mut self.clients[client];
        let connect = who.connect(&mut self.rng, &mut self.oracle, calm);
        self.links_made += 1;
        let link = self.links_made;
        who.link = Some(link);
        self.note(|| format!("client {client} connects by link {link}: {connect:?}"));
        self.links.insert(
            link,
            Link {
                client,
                connect: Some(connect),
                turn: Turn::First,
                home: None,
                number: SessionNumber(0),
                up: [].into(),
                down: [].into(),
                up_ends: false,
                down_ends: false,
                told: false,
                ended_at: None,
            },
        );
    }

    /// Picks a client whose session has something to do, and does it.
    pub(crate) fn with_someone(
        &mut self,
        has_work: impl Fn(&Actor, &Slot) -> bool,
        work: impl Fn(&mut Self, usize),
    ) {
        let able: Vec<usize> = (0..self.clients.len())
            .filter(|at| {
                let actor = self.actor(*at);
                actor.is_some_and(|actor| has_work(actor, &self.slots[*at]))
            })
            .collect();
        if !able.is_empty() {
            let client = *self.rng.pick(&able);
            work(self, client);
        }
    }

    pub(crate) fn some_link(&mut self, fits: impl Fn(&Link) -> bool) -> Option<u64> {
        let fitting = self.links.iter().filter(|(_, link)| fits(link));
        let links: Vec<u64> = fitting.map(|(at, _)| *at).collect();
        (!links.is_empty()).then(|| *self.rng.pick(&links))
    }

    /// Something arrives at the broker.
    pub(crate) fn up(&mut self) {
        let ready = |link: &Link| link.connect.is_some() || !link.up.is_empty() || link.up_ends;
        if let Some(link) = self.some_link(ready) {
            self.up_on(link);
        }
    }

    pub(crate) fn up_on(&mut self, at: u64) {
        let Some(link) = self.links.get_mut(&at) else {
            return;
        };
        let client = link.client;
        if link.connect.is_some() {
            // CONNECTs of one client arrive in order, or a client could be taken over by its own past.
            let waits = |(at, link): (&u64, &Link)| {
                let asks = link.connect.is_some() && link.turn != Turn::Waits;
                (link.client == client && asks).then_some(*at)
            };
            let Some(at) = self.links.iter().find_map(waits) else {
                return; // it waits for its turn
            };
            // Nor is a newcomer answered before the end of the session before it is recorded: a crash in between would
            // bring that one back.
            let ends =
                matches!(self.residences[client], Residence::None) && self.journal.owes(client);
            return match self.residences[client] {
                Residence::Quarantined => self.refuse_quarantined(at),
                Residence::Dead => {}
                _ if ends => {}
                _ => self.receive(client, at),
            };
        }
        let Some((incarnation, fence)) = link.home else {
            self.bury(at);
            return;
        };
        let count = self.rng.index(3) + 1;
        let take = count.min(link.up.len());
        let packets: Vec<Inbound> = link.up.drain(..take).collect();
        let ends = packets.is_empty() && link.up_ends && !link.told;
        link.told |= ends;
        let same = self
            .actor(client)
            .is_some_and(|actor| actor.incarnation == incarnation);
        if same {
            self.watch_leave(client, (incarnation, fence), &packets);
            let mut inputs: Vec<Input> = packets
                .into_iter()
                .map(|packet| Input::Packet { fence, packet })
                .collect();
            inputs.extend(ends.then_some(Input::Closed { fence }));
            self.turn(client, inputs);
            self.saw_attached(client);
        }
        self.bury(at);
    }

    /// Forgets a connection of which nothing is left.
    pub(crate) fn bury(&mut self, at: u64) {
        let Some(link) = self.links.get(&at) else {
            return;
        };
        let mine = self.clients[link.client].link == Some(at);
        if link.connect.is_none() && (link.told || link.home.is_none()) && !mine {
            self.links.remove(&at);
        }
    }

    pub(crate) fn attach(&mut self, client: usize, at: u64) {
        match self.residences[client] {
            Residence::None => {
                if let Err(refusal) = self.acquire(client, at) {
                    return self.refuse_newcomer(at, refusal);
                }
                self.incarnations += 1;
                let id = self.clients[client].id.clone();
                let session = Session::vacant(id, Arc::clone(&self.limits));
                self.residences[client] =
                    Residence::Active(Box::new(Actor::new(session, self.incarnations)));
                self.occupy(client, None);
            }
            Residence::Passive => self.rehydrate(client),
            Residence::Active(_) | Residence::Dead | Residence::Quarantined => {}
        }
        self.numbers += 1;
        let number = SessionNumber(self.numbers);
        let epoch = self.epoch;
        if let Err(refusal) = self.pass_on(client, at) {
            self.refuse_newcomer(at, refusal);
            return self.turn(client, vec![Input::Tick]); // which ends what expired
        }
        let listener = self.charged_to(client);
        let (Some(link), Residence::Active(actor)) =
            (self.links.get_mut(&at), &mut self.residences[client])
        else {
            return;
        };
        let Some(mut connect) = link.connect.take() else {
            return;
        };
        connect.listener = listener;
        actor.candidate = Some(at);
        if actor.session.is_attached() {
            self.last_held_at[client].0 = self.time;
        }
        let seconds = connect.expiry_seconds.min(self.limits.expiry_seconds_max);
        let will = connect.will.as_ref();
        let will = will.map(|will| (self.oracle.post_of(&will.message), will.delay_seconds == 0));
        let connect = Box::new(connect);
        // What groups leased comes first: it is for the session that is there, not for one that this begins.
        let leased = self.slots[client].leased.drain(..);
        let mut inputs: Vec<_> = leased.map(Input::Leased).collect();
        inputs.push(Input::Attach {
            connect,
            number,
            epoch,
        });
        self.turn(client, inputs);
        let before = match self.residences[client] {
            Residence::Active(_) => 0,
            // It died: this attach may count or not.
            Residence::None | Residence::Passive | Residence::Dead | Residence::Quarantined => {
                self.last_held_at[client].1
            }
        };
        self.last_held_at[client] = (self.time, seconds.max(before));
        let holder = self.actor(client).map(|it| (it.incarnation, it.fence));
        if let (Some((post, at_once)), Some(holder)) = (will, holder) {
            self.wills.push(Watched::new(post, client, holder, at_once));
        }
    }

    /// As long as a connection is attached, the expiry does not run.
    pub(crate) fn saw_attached(&mut self, client: usize) {
        self.last_held_at[client].0 = self.time;
    }

    /// Something arrives at a client.
    pub(crate) fn down(&mut self) {
        if let Some(link) = self.some_link(|link| !link.down.is_empty()) {
            self.down_on(link);
        }
    }

    pub(crate) fn down_on(&mut self, at: u64) {
        let now = self.time;
        for _ in 0..=self.rng.index(3) {
            let Some(link) = self.links.get_mut(&at) else {
                return;
            };
            let Some(packet) = link.down.pop_front() else {
                return;
            };
            let (client, number) = (link.client, link.number);
            let at_client = link
                .ended_at
                .filter(|_| matches!(packet, Outbound::Close(_)));
            let now = at_client.unwrap_or(now);
            if self.clients[client].link != Some(at) {
                continue; // it does not listen any more
            }
            let label = self.label(match &packet {
                Outbound::Publish(delivery) => Some(&delivery.message),
                _ => None,
            });
            self.note(|| format!("client {client} gets {packet:?}{label}"));
            let mut answers = self.clients[client].take(packet, number, &mut self.oracle, now);
            self.watch_receipts(client);
            answers.iter_mut().for_each(|answer| stamp(answer, now));
            if let Some(link) = self.links.get_mut(&at)
                && !link.up_ends
            {
                link.up.extend(answers);
            }
            self.bury(at);
        }
    }

    /// A connection dies: what is under way is lost from some point on, in both directions.
    pub(crate) fn cut(&mut self) {
        if let Some(at) = self.some_link(|_| true) {
            self.note(|| format!("link {at} is cut"));
            self.cut_link(at);
        }
    }

    pub(crate) fn cut_link(&mut self, at: u64) {
        let Some(link) = self.links.get_mut(&at) else {
            return;
        };
        if link.connect.is_some() && self.rng.permille(500) {
            link.connect = None; // the broker never hears of it
        }
        let up = self.rng.index(link.up.len() + 1);
        let last = link.up.back().cloned();
        link.up.truncate(up);
        if let Some(leave @ Inbound::Disconnect { .. }) = last
            && up < link.up.len() + 1
            && !matches!(link.up.back(), Some(Inbound::Disconnect { .. }))
        {
            link.up.push_back(leave); // a client that leaves for good is heard
        }
        let down = self.rng.index(link.down.len() + 1);
        link.down.truncate(down);
        link.up_ends = true;
        link.down_ends = true;
        link.ended_at = link.ended_at.or(Some(self.time));
        link.down.push_back(Outbound::Close(Refusal::KeepAlive));
        self.bury(at);
    }
}

/// When the broker reads a publication, or before: it is routed later.
fn stamp(packet: &mut Inbound, at: Timestamp) {
    if let Inbound::Publish { message, .. } = packet {
        Arc::make_mut(message).published_at = at;
    }
}
