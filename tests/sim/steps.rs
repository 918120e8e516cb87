//! What can happen next, and the end of a run: everybody comes back, then everybody leaves for good.

use outlive_actors::model::effect::Input;
use outlive_actors::model::entry::{Change, Entry};
use outlive_actors::model::ids::{SessionNumber, Timestamp};
use outlive_actors::model::packet::{Inbound, Outbound};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::session::Session;
use std::sync::Arc;

use crate::wills::Watched;
use crate::world::{Actor, Link, Read, Residence, Slot, World};

/// The broker appends a liveness stamp at least this often.
pub(crate) const LIVENESS_MILLIS: u64 = 60_000;

impl World {
    /// One step of a run with faults.
    pub(crate) fn step(&mut self) {
        let client = self.rng.index(self.clients.len());
        match self.rng.between(0, 999) {
            0..=249 => self.client_acts(client, false),
            250..=449 => self.up(),
            450..=619 => self.down(),
            620..=699 => self.commit(),
            700..=759 => self.with_someone(|actor, _| !actor.held.is_empty(), Self::release),
            760..=839 => self.with_someone(|_, slot| !slot.queue.is_empty(), Self::hand_over),
            840..=909 => self.with_someone(|actor, _| !actor.reads.is_empty(), Self::read_some),
            910..=921 => self.cut(),
            922..=949 => self.time_passes(),
            950..=959 => self.turn_if_active(client, vec![Input::Tick]),
            960..=969 => self.passivate(client),
            970..=974 => self.journal_refuses(),
            975..=980 => self.die_soon(client),
            981 => self.crash(),
            982..=986 => self.journal.checkpoint(),
            _ => self.rebuild_if_dead(client),
        }
    }

    // --- clients and their connections

    fn client_acts(&mut self, client: usize, calm: bool) {
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
        let Some(packet) = packet else { return };
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

    fn connect(&mut self, client: usize, calm: bool) {
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
    fn with_someone(
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

    fn some_link(&mut self, fits: impl Fn(&Link) -> bool) -> Option<u64> {
        let fitting = self.links.iter().filter(|(_, link)| fits(link));
        let links: Vec<u64> = fitting.map(|(at, _)| *at).collect();
        (!links.is_empty()).then(|| *self.rng.pick(&links))
    }

    /// Something arrives at the broker.
    fn up(&mut self) {
        let ready = |link: &Link| link.connect.is_some() || !link.up.is_empty() || link.up_ends;
        if let Some(link) = self.some_link(ready) {
            self.up_on(link);
        }
    }

    fn up_on(&mut self, at: u64) {
        let Some(link) = self.links.get_mut(&at) else {
            return;
        };
        let client = link.client;
        if link.connect.is_some() {
            // CONNECTs of one client arrive in order, or a client could be taken over by its own past.
            let waits = |(at, link): (&u64, &Link)| {
                (link.client == client && link.connect.is_some()).then_some(*at)
            };
            let at = self.links.iter().find_map(waits).unwrap_or(at);
            if !matches!(self.residences[client], Residence::Dead) {
                self.attach(client, at);
            }
            return;
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
    fn bury(&mut self, at: u64) {
        let Some(link) = self.links.get(&at) else {
            return;
        };
        let mine = self.clients[link.client].link == Some(at);
        if link.connect.is_none() && (link.told || link.home.is_none()) && !mine {
            self.links.remove(&at);
        }
    }

    fn attach(&mut self, client: usize, at: u64) {
        match self.residences[client] {
            Residence::None => {
                self.incarnations += 1;
                let id = self.clients[client].id.clone();
                let session = Session::vacant(id, Arc::clone(&self.limits));
                self.residences[client] =
                    Residence::Active(Box::new(Actor::new(session, self.incarnations)));
                self.slots[client].permit = true;
            }
            Residence::Passive => self.rehydrate(client),
            Residence::Active(_) | Residence::Dead => {}
        }
        self.numbers += 1;
        let number = SessionNumber(self.numbers);
        let epoch = self.epoch;
        let (Some(link), Residence::Active(actor)) =
            (self.links.get_mut(&at), &mut self.residences[client])
        else {
            return;
        };
        let Some(connect) = link.connect.take() else {
            return;
        };
        actor.candidate = Some(at);
        if actor.session.is_attached() {
            self.last_held_at[client].0 = self.time;
        }
        let seconds = connect.expiry_seconds.min(self.limits.expiry_seconds_max);
        let will = connect.will.as_ref();
        let will = will.map(|will| (self.oracle.post_of(&will.message), will.delay_seconds == 0));
        let connect = Box::new(connect);
        self.turn(
            client,
            vec![Input::Attach {
                connect,
                number,
                epoch,
            }],
        );
        self.last_held_at[client] = (self.time, seconds);
        let holder = self.actor(client).map(|it| (it.incarnation, it.fence));
        if let (Some((post, at_once)), Some(holder)) = (will, holder) {
            self.wills.push(Watched::new(post, client, holder, at_once));
        }
    }

    /// As long as a connection is attached, the expiry does not run.
    fn saw_attached(&mut self, client: usize) {
        self.last_held_at[client].0 = self.time;
    }

    /// Something arrives at a client.
    fn down(&mut self) {
        if let Some(link) = self.some_link(|link| !link.down.is_empty()) {
            self.down_on(link);
        }
    }

    fn down_on(&mut self, at: u64) {
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
            let answers = self.clients[client].take(packet, number, &mut self.oracle, now);
            if let Some(link) = self.links.get_mut(&at)
                && !link.up_ends
            {
                link.up.extend(answers);
            }
            self.bury(at);
        }
    }

    /// A connection dies: what is under way is lost from some point on, in both directions.
    fn cut(&mut self) {
        if let Some(at) = self.some_link(|_| true) {
            self.note(|| format!("link {at} is cut"));
            self.cut_link(at);
        }
    }

    fn cut_link(&mut self, at: u64) {
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

    // --- journal, wakes, reads

    fn commit(&mut self) {
        let count = self.rng.index(4) + 1;
        self.commit_first(count);
    }

    pub(crate) fn commit_first(&mut self, count: usize) {
        let records = self.journal.commit(count, &mut self.rng);
        let end = self.journal.end;
        self.note(|| format!("commit up to {end:?}"));
        for record in &records {
            self.oracle.committed(&record.message);
            let label = self.label(Some(&record.message));
            self.note(|| format!("committed {:?}{label}", record.offset));
            for slot in &mut self.slots {
                let wanted = slot
                    .readers
                    .iter()
                    .any(|(filter, _, durable)| *durable && filter.matches(record.message.topic()));
                if wanted {
                    slot.queue.push_back(Input::Logged(record.clone()));
                }
            }
        }
        self.live_end = end;
    }

    fn journal_refuses(&mut self) {
        let refusable: Vec<usize> = (0..self.journal.pending.len())
            .filter(|at| self.journal.pending[*at].is_refusable())
            .collect();
        if !refusable.is_empty() {
            let at = *self.rng.pick(&refusable);
            let ticket = self.journal.pending[at].ticket;
            self.note(|| format!("the journal refuses ticket {ticket}"));
            self.refuse(at);
        }
    }

    /// A wake: some of what waits for a session reaches it.
    fn hand_over(&mut self, client: usize) {
        let waiting = self.slots[client].queue.len();
        if self.actor(client).is_none() || waiting == 0 {
            return;
        }
        let count = self.rng.index(waiting) + 1;
        for _ in 0..count {
            // Taken one by one: the live end follows what was handed over.
            let Some(input) = self.slots[client].queue.pop_front() else {
                break;
            };
            self.turn(client, vec![input]);
        }
    }

    /// A read happens, or its answer arrives.
    fn read_some(&mut self, client: usize) {
        let Residence::Active(actor) = &mut self.residences[client] else {
            return;
        };
        if actor.reads.is_empty() {
            return;
        }
        let at = self.rng.index(actor.reads.len());
        let read = actor.reads.remove(at);
        let at_once = matches!(read, Read::Answer(_)) || self.rng.permille(500);
        let input = self.read(read);
        if at_once {
            self.turn(client, vec![input]);
        } else if let Residence::Active(actor) = &mut self.residences[client] {
            actor.reads.push(Read::Answer(input));
        }
    }

    // --- time and faults

    fn time_passes(&mut self) {
        let millis = match self.rng.between(0, 99) {
            0..=79 => self.rng.between(1, 300),
            80..=97 => self.rng.between(300, 8000),
            _ => self.rng.between(8000, 150_000),
        };
        self.advance(millis);
    }

    pub(crate) fn advance(&mut self, millis: u64) {
        self.time = Timestamp(self.time.0 + millis);
        if self.time.0 >= self.journal.alive_at.0 + LIVENESS_MILLIS {
            self.journal.append(Entry::Liveness { at: self.time });
        }
        for client in 0..self.clients.len() {
            self.tick_if_due(client);
        }
    }

    fn tick_if_due(&mut self, client: usize) {
        let now = self.time;
        if matches!(self.residences[client], Residence::Passive) {
            let id = &self.clients[client].id;
            let snapshot = self.journal.snapshot_of(id);
            let due = snapshot.is_none_or(|known| known.expires_at().is_none_or(|at| at <= now));
            if due {
                self.rehydrate(client);
            }
        }
        let due = self
            .actor(client)
            .and_then(|actor| actor.session.deadline())
            .is_some_and(|at| at <= now);
        if due {
            self.turn(client, vec![Input::Tick]);
        }
    }

    fn turn_if_active(&mut self, client: usize, inputs: Vec<Input>) {
        if self.actor(client).is_some() {
            self.turn(client, inputs);
        }
    }

    /// A detached session that owes nothing and waits for nothing leaves memory.
    fn passivate(&mut self, client: usize) {
        let Some(actor) = self.actor(client) else {
            return;
        };
        let session = &actor.session;
        let idle = session.is_begun() && !session.is_attached() && actor.held.is_empty();
        let quiet = idle && !self.journal.owes(client) && self.slots[client].queue.is_empty();
        if quiet {
            crate::fold::agrees(&self.journal, session);
            self.note(|| format!("client {client}'s session is passivated"));
            self.residences[client] = Residence::Passive;
        }
    }

    fn die_soon(&mut self, client: usize) {
        let after = self.rng.between(0, 12);
        if let Residence::Active(actor) = &mut self.residences[client] {
            actor.dies_after = Some(after);
        }
    }

    fn rebuild_if_dead(&mut self, client: usize) {
        if matches!(self.residences[client], Residence::Dead) && !self.journal.owes(client) {
            self.note(|| format!("client {client}'s session is rebuilt"));
            self.rebuild(client);
            self.tick_if_due(client);
        }
    }

    /// The process dies and starts again.
    fn crash(&mut self) {
        let records = self.journal.crash(&mut self.rng);
        self.note(|| format!("the process crashes; torn writes left {records:?}"));
        for record in &records {
            self.oracle.committed(&record.message);
        }
        self.epoch += 1;
        self.wills.iter_mut().for_each(Watched::excuse);
        let links: Vec<u64> = self.links.keys().copied().collect();
        for at in links {
            self.cut_link(at);
            if let Some(link) = self.links.get_mut(&at) {
                (link.connect, link.home) = (None, None);
                link.up.clear();
            }
            self.bury(at);
        }
        let down = self.rng.between(0, 40_000);
        self.time = Timestamp(self.time.0 + down);
        let end = self.journal.end;
        let last_stamp = self.journal.alive_at;
        for client in 0..self.clients.len() {
            let fence = self.actor(client).map(|actor| actor.fence);
            self.forget(client);
            self.clients[client].forget_acks();
            let id = self.clients[client].id.clone();
            let Some(snapshot) = self.journal.snapshot_of(&id).cloned() else {
                continue;
            };
            let ended_at = snapshot.detached_at.unwrap_or_else(|| {
                let seen = last_stamp.max(snapshot.attached_at);
                Timestamp((seen.0 + LIVENESS_MILLIS).min(self.time.0))
            });
            let held_at = &mut self.last_held_at[client].0;
            *held_at = ended_at.max(*held_at);
            let deadline = ended_at.plus_seconds(snapshot.expiry_seconds);
            if fence.is_some_and(|fence| fence != snapshot.fence) {
                self.clients[client].unsafe_from = Some((deadline, self.links_made));
                self.oracle.attach_forgotten(snapshot.number);
            }
            if deadline <= self.time {
                self.journal
                    .append(Entry::change(snapshot.number, Change::Ended));
                continue;
            }
            if snapshot.detached_at.is_none() {
                self.journal.append(Entry::change(
                    snapshot.number,
                    Change::Recovered {
                        at: ended_at,
                        maybe_sent_below: end,
                    },
                ));
            }
            self.slots[client].permit = true;
            self.rebuild(client);
        }
        self.live_end = self.journal.end;
    }

    // --- the end of a run

    /// Nothing fails any more: everybody comes back and takes what waits for it.
    pub(crate) fn settle(&mut self) {
        let at = self.oracle.clock;
        self.note(|| format!("--- the faults end at {at}"));
        for round in 0.. {
            assert!(round < 5000, "the run does not come to rest");
            if self.settle_once() {
                break;
            }
            self.check();
        }
        for client in &self.clients {
            self.oracle
                .nothing_is_missing(client.index, &client.holding, self.time);
        }
    }

    /// Gives whether there was nothing left to do.
    fn settle_once(&mut self) -> bool {
        let mut idle = self.journal.pending.is_empty();
        self.commit_first(usize::MAX);
        for client in 0..self.clients.len() {
            if let Residence::Active(actor) = &mut self.residences[client] {
                actor.dies_after = None;
                idle &= actor.held.is_empty() && actor.reads.is_empty();
            }
            idle &= self.slots[client].queue.is_empty();
            self.rebuild_if_dead(client);
            self.release(client);
            self.hand_over(client);
            self.read_some(client);
            if self.clients[client].link.is_none() || self.clients[client].owes_acks() {
                self.client_acts(client, true);
            }
            idle &= self.clients[client].is_settled();
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for at in links {
            let link = &self.links[&at];
            let mine = self.clients[link.client].link == Some(at);
            idle &= mine && link.up.is_empty() && link.down.is_empty() && link.connect.is_none();
            self.up_on(at);
            self.down_on(at);
        }
        idle
    }

    /// Everybody leaves: the fold is what the sessions say; then all expire and nothing stays.
    pub(crate) fn wind_up(&mut self) {
        let now = self.time;
        for client in 0..self.clients.len() {
            let leave = self.clients[client].disconnect(&mut self.rng, now, true);
            if let Some(link) = self
                .links
                .values_mut()
                .find(|link| link.client == client && !link.up_ends)
            {
                link.up.push_back(leave);
                link.up_ends = true;
            }
        }
        for _ in 0..100 {
            let links: Vec<u64> = self.links.keys().copied().collect();
            for at in links {
                self.up_on(at);
            }
            self.commit_first(usize::MAX);
            for client in 0..self.clients.len() {
                self.release(client);
                self.hand_over(client);
            }
        }
        self.check();
        assert!(self.links.is_empty(), "{:?}", self.links);
        for client in 0..self.clients.len() {
            if let Some(actor) = self.actor(client) {
                crate::fold::agrees(&self.journal, &actor.session);
            }
        }
        self.check_wills();
        self.advance(200_000);
        self.commit_first(usize::MAX);
        self.advance(1);
        self.commit_first(usize::MAX);
        self.check();
        assert!(
            self.journal.folded.is_empty(),
            "snapshots of expired sessions"
        );
        let empty = |slot: &Slot| slot.holds.is_empty() && !slot.permit;
        assert!(
            self.slots.iter().all(empty),
            "routes or permits of expired sessions"
        );
    }
}
