//! The end of a run: everybody comes back and drains, then everybody leaves for good.

use crate::client::Client;
use crate::world::{Residence, Slot, World};

impl World {
    /// Nothing fails any more: everybody comes back and takes what waits for it.
    pub(crate) fn settle(&mut self) {
        let at = self.oracle.clock;
        self.note(|| format!("--- the faults end at {at}"));
        self.units.lift();
        self.clients.iter_mut().for_each(Client::refuses_nothing);
        if self.is_anything_quarantined() {
            for _ in 0..100 {
                self.settle_once();
            }
            self.check_quarantined();
            if self.rng.permille(500) {
                self.quarantines_end();
            }
        }
        for round in 0.. {
            assert!(round < 5000, "the run does not come to rest");
            if self.is_anything_quarantined() {
                self.crash();
            }
            if self.settle_once() {
                break;
            }
            self.check();
        }
        for client in &self.clients {
            let (index, holding) = (client.index, &client.holding);
            self.oracle.nothing_is_missing(index, holding, self.time);
            for message in self.journal.retained_messages() {
                self.oracle.no_retained_message_is_missing(
                    (index, client.number),
                    holding,
                    message,
                    self.time,
                );
            }
        }
        self.groups_rest();
        self.groups_progress();
    }

    /// Gives whether there was nothing left to do.
    pub(crate) fn settle_once(&mut self) -> bool {
        let mut idle = self.journal.pending.is_empty();
        self.commit_first(usize::MAX);
        for client in 0..self.clients.len() {
            if let Residence::Active(actor) = &mut self.residences[client] {
                actor.dies_after = None;
                idle &= actor.held.is_empty() && actor.reads.is_empty();
                idle &= actor.session.replays().next().is_none();
            }
            idle &= self.slots[client].queue.is_empty() && self.slots[client].leased.is_empty();
            self.rebuild_if_dead(client);
            self.release(client);
            self.hand_over(client);
            self.hand_over_leases(client);
            self.read_some(client);
            if self.clients[client].link.is_none() || self.clients[client].owes_acks() {
                self.client_acts(client, true);
            }
            idle &= self.clients[client].is_settled();
        }
        self.fights_end();
        idle &= self.groups_are_idle();
        self.groups_move();
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

    /// Everything that groups wait for happens.
    fn groups_move(&mut self) {
        self.bury_groups();
        self.start_groups();
        self.all_talk_arrives();
        self.all_groups_turn();
    }

    /// Time passes for groups that have nothing left to do.
    fn groups_progress(&mut self) {
        self.goes_by(self.time.plus_millis(6000));
        self.tick_groups();
        self.commit_first(usize::MAX);
        self.groups_pin_nothing();
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
                self.hand_over_leases(client);
            }
            self.groups_move();
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
        for client in 0..self.clients.len() {
            self.tick_if_due(client);
        }
        for _ in 0..10 {
            self.groups_move();
            self.commit_first(usize::MAX);
        }
        self.check();
        self.groups_are_gone();
        assert!(
            self.journal.folded.is_empty(),
            "snapshots of expired sessions"
        );
        let empty = |slot: &Slot| slot.holds.is_empty() && slot.permit.is_none();
        assert!(
            self.slots.iter().all(empty),
            "routes or permits of expired sessions"
        );
    }
}
