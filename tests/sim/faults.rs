//! Time, and what goes wrong with it: late ticks, passivation, dying sessions, a dying process.

use outlive_actors::actor::local::{Presence, Stay};
use outlive_actors::model::effect::Input;
use outlive_actors::model::entry::{Change, Entry};
use outlive_actors::model::fights::Fights;
use outlive_actors::model::ids::Timestamp;

use crate::fights::PAUSE_MILLIS;
use crate::wills::Watched;
use crate::world::{Residence, World};

/// The broker appends a liveness stamp at least this often.
const LIVENESS_MILLIS: u64 = 60_000;

impl World {
    pub(crate) fn time_passes(&mut self) {
        let millis = match self.rng.between(0, 99) {
            0..=79 => self.rng.between(1, 300),
            80..=97 => self.rng.between(300, 8000),
            _ => self.rng.between(8000, 150_000),
        };
        self.advance(millis);
    }

    pub(crate) fn advance(&mut self, millis: u64) {
        self.goes_by(Timestamp(self.time.0 + millis));
        self.fights_go_on();
        for client in 0..self.clients.len() {
            if self.rng.permille(700) {
                self.tick_if_due(client); // or later
            }
        }
    }

    /// It is `time` now, and the broker stamps that it lives.
    pub(crate) fn goes_by(&mut self, time: Timestamp) {
        self.clocks.go_to(time, &mut self.rng);
        self.time = self.clocks.now();
        if time.0 >= self.journal.alive_at.0 + LIVENESS_MILLIS {
            self.journal.append(self.clocks.stamp());
        }
    }

    pub(crate) fn tick_if_due(&mut self, client: usize) {
        let now = self.time;
        self.retry_if_due(client);
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

    pub(crate) fn turn_if_active(&mut self, client: usize, inputs: Vec<Input>) {
        if self.actor(client).is_some() {
            self.turn(client, inputs);
        }
    }

    /// A detached session that owes nothing and waits for nothing leaves memory.
    pub(crate) fn passivate(&mut self, client: usize) {
        let Some(actor) = self.actor(client) else {
            return;
        };
        let session = &actor.session;
        let idle = session.is_begun() && !session.is_attached() && actor.held.is_empty();
        let slot = &self.slots[client];
        let nothing_waits = slot.queue.is_empty() && slot.leased.is_empty();
        let quiet = idle && !self.journal.owes(client) && nothing_waits;
        if quiet {
            crate::fold::agrees(&self.journal, session);
            self.note(|| format!("client {client}'s session is passivated"));
            self.residences[client] = Residence::Passive;
            self.vacate(client);
            self.flush(client);
        }
    }

    pub(crate) fn die_soon(&mut self, client: usize) {
        let after = self.rng.between(0, 12);
        self.die_after(client, after);
    }

    /// So many effects from now on a session's actor dies.
    pub(crate) fn die_after(&mut self, client: usize, effects: u64) {
        if let Residence::Active(actor) = &mut self.residences[client] {
            actor.dies_after = Some(effects);
        }
    }

    pub(crate) fn rebuild_if_dead(&mut self, client: usize) {
        if !matches!(self.residences[client], Residence::Dead) {
            return;
        }
        self.bury_session(client);
        let dead = matches!(self.residences[client], Residence::Dead);
        if dead && !self.journal.owes(client) {
            self.note(|| format!("client {client}'s session is rebuilt"));
            self.rebuild(client);
            if matches!(self.residences[client], Residence::Passive) {
                self.rehydrate(client);
            }
            self.tick_if_due(client);
        }
    }

    /// All connections end with the process.
    fn bury_links(&mut self) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        for at in links {
            self.cut_link(at);
            if let Some(link) = self.links.get_mut(&at) {
                (link.connect, link.home) = (None, None);
                link.up.clear();
            }
            self.bury(at);
        }
    }

    /// The process dies and starts again.
    pub(crate) fn crash(&mut self) {
        let records = self.journal.crash(&mut self.rng);
        self.note(|| format!("the process crashes; torn writes left {records:?}"));
        for record in &records {
            self.oracle.committed(&record.message);
        }
        self.note_begun();
        self.epoch += 1;
        self.fights = Fights::new(PAUSE_MILLIS);
        self.takeovers.iter_mut().for_each(Vec::clear);
        self.wills.iter_mut().for_each(Watched::excuse);
        self.bury_links();
        let down = self.rng.between(0, 40_000);
        self.clocks
            .go_to(self.time.plus_millis(down), &mut self.rng);
        let last_stamp = self.journal.alive_at;
        self.clocks
            .start(self.journal.stamp, last_stamp, &mut self.rng);
        self.time = self.clocks.now();
        let end = self.journal.end;
        let mut survivors = Vec::new();
        for client in 0..self.clients.len() {
            let fence = self.slots[client].fence;
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
            let (held_at, seconds) = &mut self.last_held_at[client];
            *held_at = ended_at.max(*held_at);
            *seconds = snapshot.expiry_seconds.max(*seconds);
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
            self.slots[client].permit = Some(self.units.adopt(&snapshot, self.time));
            self.slots[client].recorded = Some(snapshot.number);
            self.slots[client].stay = Some(Stay {
                presence: Presence::Offline,
                resumed: snapshot.was_resumed(),
                expiry_seconds: snapshot.expiry_seconds,
                expires_at: deadline,
            });
            self.rebuild(client);
            survivors.push(snapshot);
        }
        self.groups_survive(&survivors);
        self.live_end = self.journal.end;
        self.journal.append(self.clocks.stamp());
    }
}
