//! What can happen next: one step of a run with faults, drawn at random.

use outlive_actors::model::effect::Input;

use crate::world::{Read, Residence, World};

impl World {
    /// One step of a run with faults.
    pub(crate) fn step(&mut self) {
        let client = self.rng.index(self.clients.len());
        match self.rng.between(0, 1312) {
            1000..=1079 => self.some_talk_arrives(),
            1080..=1159 => self.some_group_turns(),
            1160..=1209 => {
                self.with_someone(|_, slot| !slot.leased.is_empty(), Self::hand_over_leases);
            }
            1210..=1249 => self.some_group_reads(),
            1250..=1269 => self.start_groups(),
            1270..=1274 => self.some_group_ticks(),
            1275..=1284 => self.tick_groups(),
            1285..=1288 => self.some_group_dies(),
            1289..=1294 => self.bury_groups(),
            1295..=1299 => self.bury_session(client),
            1300..=1303 => self.two_die(),
            1312 if self.rng.permille(300) => self.fight(client),
            1312 => {}
            1310 => self.someone_keeps_dying(client),
            1311 => self.operator_discards(client),
            1304..=1309 => self.declare_groups(),
            0..=249 => self.client_acts(client, false),
            250..=449 => self.up(),
            450..=619 => self.down(),
            620..=699 => self.commit(),
            700..=759 => self.with_someone(|actor, _| !actor.held.is_empty(), Self::release),
            760..=839 => self.with_someone(|_, slot| !slot.queue.is_empty(), Self::hand_over),
            840..=909 => self.with_someone(|actor, _| !actor.reads.is_empty(), Self::read_some),
            910..=921 => self.cut(),
            922..=949 => self.time_passes(),
            950..=954 => self.turn_if_active(client, vec![Input::Tick]),
            955..=959 => self.tick_if_due(client),
            960..=969 => self.passivate(client),
            970..=974 => self.journal_refuses(),
            975..=980 => self.die_soon(client),
            981 => self.crash(),
            982..=985 => self.journal.checkpoint(),
            986 => self.units.change_limits(),
            _ => self.rebuild_if_dead(client),
        }
    }

    // --- journal, wakes, reads

    pub(crate) fn commit(&mut self) {
        let count = self.rng.index(4) + 1;
        self.commit_first(count);
    }

    pub(crate) fn commit_first(&mut self, count: usize) {
        let records = self.journal.commit(count, &mut self.rng);
        let end = self.journal.end;
        self.note(|| format!("commit up to {end:?}"));
        self.note_begun();
        for record in &records {
            self.oracle.committed(&record.message);
            let label = self.label(Some(&record.message));
            self.note(|| format!("committed {:?}{label}", record.offset));
            self.commit_to_groups(record);
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

    pub(crate) fn note_begun(&mut self) {
        for (key, member) in std::mem::take(&mut self.journal.begun) {
            self.groups.account.begun(key, member);
        }
    }

    pub(crate) fn journal_refuses(&mut self) {
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

    /// A wake: some of what groups leased reaches a session.
    pub(crate) fn hand_over_leases(&mut self, client: usize) {
        let waiting = self.slots[client].leased.len();
        if self.actor(client).is_none() || waiting == 0 {
            return;
        }
        let count = self.rng.index(waiting) + 1;
        let leased = self.slots[client].leased.drain(..count);
        let inputs = leased.map(Input::Leased).collect();
        self.turn(client, inputs);
    }

    /// A wake: some of what waits for a session reaches it.
    pub(crate) fn hand_over(&mut self, client: usize) {
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
    pub(crate) fn read_some(&mut self, client: usize) {
        let Residence::Active(actor) = &mut self.residences[client] else {
            return;
        };
        if actor.reads.is_empty() {
            return;
        }
        let at = self.rng.index(actor.reads.len());
        if matches!(actor.reads[at], Read::Retained(_)) && !self.slots[client].queue.is_empty() {
            // The shard has handed over what was routed before the journal answered.
            return self.hand_over(client);
        }
        let read = actor.reads.remove(at);
        let at_once = matches!(read, Read::Answer(_)) || self.rng.permille(500);
        let input = self.read(read);
        if at_once {
            self.turn(client, vec![input]);
        } else if let Residence::Active(actor) = &mut self.residences[client] {
            actor.reads.push(Read::Answer(input));
        }
    }
}
