//! Actors that die again and again: sessions and groups are given up on until the process starts again or an operator ends
//! them; what they hold is not lost, and nobody else waits for it. As `actor/shard/comeback.rs`, but for the end of quarantine
//! by expiry.

use outlive_actors::model::effect::Input;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::supervise::{PANICS_MAX, Panics};

use crate::seen::Seen;
use crate::world::{Residence, World};

impl World {
    /// Some actor dies as often as it is rebuilt.
    pub(crate) fn someone_keeps_dying(&mut self, client: usize) {
        match self.rng.between(0, 3) {
            0 => self.session_keeps_dying(client),
            1 => self.group_keeps_dying(),
            _ => {}
        }
    }

    /// A session's actor dies as often as it is rebuilt.
    fn session_keeps_dying(&mut self, client: usize) {
        for _ in 0..=PANICS_MAX {
            self.session_dies_now(client);
            self.commit_first(usize::MAX);
            self.rebuild_if_dead(client);
        }
    }

    /// A session's actor died once more: gives whether that is too often.
    pub(crate) fn gives_up_on(&mut self, client: usize) -> bool {
        let now = self.time;
        let panics = &mut self.slots[client].panics;
        let panics = panics.get_or_insert_with(|| Panics::none(now));
        panics.count(now) > PANICS_MAX
    }

    /// It is not rebuilt: it stays a member of its groups. They heard that its actor died, and others get what it had.
    pub(crate) fn quarantine(&mut self, client: usize) {
        self.note(|| format!("client {client}'s session is quarantined"));
        self.saw(Seen::SessionQuarantined);
        self.residences[client] = Residence::Quarantined;
    }

    /// A quarantined session takes no connection.
    pub(crate) fn refuse_quarantined(&mut self, link: u64) {
        if let Some(known) = self.links.get_mut(&link) {
            known.connect = None;
        }
        self.close(link, Some(Refusal::Internal));
    }

    /// An operator ends a session, whether it has an actor or not; rather one that is quarantined.
    pub(crate) fn operator_discards(&mut self, client: usize) {
        let residences = self.residences.iter();
        let mut quarantined = residences.map(|it| matches!(it, Residence::Quarantined));
        let client = quarantined.position(|it| it).unwrap_or(client);
        match self.residences[client] {
            Residence::Active(_) => {}
            Residence::Passive => self.rehydrate(client),
            Residence::Quarantined if !self.journal.owes(client) => {
                self.saw(Seen::QuarantineLifted);
                if let Some(panics) = &mut self.slots[client].panics {
                    panics.forgive_one();
                }
                self.rebuild(client);
                if matches!(self.residences[client], Residence::Passive) {
                    self.rehydrate(client);
                }
            }
            Residence::None | Residence::Dead | Residence::Quarantined => return,
        }
        self.note(|| format!("client {client}'s session is discarded by an operator"));
        self.saw(Seen::Discarded);
        self.end_session(client, Refusal::Administrative);
    }

    /// A session ends, whatever its client thinks.
    pub(crate) fn end_session(&mut self, client: usize, refusal: Refusal) {
        if matches!(self.residences[client], Residence::Passive) {
            self.rehydrate(client);
        }
        let gone = (self.time, self.links_made);
        self.clients[client].abandon();
        self.clients[client].unsafe_from = Some(gone);
        let discard = true;
        self.turn_if_active(client, vec![Input::End { refusal, discard }]);
    }

    /// All others had time: they have what was leased to a quarantined session, whose subscriptions are still in force.
    pub(crate) fn check_quarantined(&self) {
        for client in 0..self.clients.len() {
            let slot = &self.slots[client];
            let id = &self.clients[client].id;
            let snapshot = self.journal.snapshot_of(id);
            let (Residence::Quarantined, Some(snapshot)) = (&self.residences[client], snapshot)
            else {
                continue;
            };
            for known in snapshot.durable_subscriptions() {
                assert!(slot.holds.contains(&known.filter), "{id}: {}", known.filter);
            }
            let joined = self.groups.directory.filters_of(snapshot.number);
            for known in snapshot.shared_subscriptions() {
                assert!(joined.contains(&known.filter), "{id}: {}", known.filter);
            }
            self.groups.lease_nothing_to(snapshot.number);
        }
    }

    /// Whether anything is given up on.
    pub(crate) fn is_anything_quarantined(&self) -> bool {
        let mut residences = self.residences.iter();
        let session = residences.any(|it| matches!(it, Residence::Quarantined));
        session || self.groups.is_any_quarantined()
    }
}
