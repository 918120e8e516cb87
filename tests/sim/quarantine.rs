//! Actors that die again and again: sessions and groups are given up on until the process starts again, an operator ends
//! them or, if it is a session, it expires; what they hold is not lost, and nobody else waits for it. As
//! `actor/shard/comeback.rs`.

use outlive_actors::actor::local::Presence;
use outlive_actors::model::effect::Input;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::snapshot::SessionSnapshot;
use outlive_actors::supervise::{PANICS_MAX, Panics};

use crate::seen::Seen;
use crate::world::{Residence, World};

/// After so long at the earliest a quarantined session is tried again.
const RETRY_MILLIS: u64 = 60_000;

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
        let slot = &mut self.slots[client];
        let expires_at = slot.stay.map_or(self.time, |stay| stay.expires_at);
        slot.retry_at = Some(expires_at.max(self.time.plus_millis(RETRY_MILLIS)));
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
                self.retry(client);
            }
            Residence::None | Residence::Dead | Residence::Quarantined => return,
        }
        self.note(|| format!("client {client}'s session is discarded by an operator"));
        self.saw(Seen::Discarded);
        self.end_session(client, Refusal::Administrative);
    }

    /// A shard hears that an actor died: from now on its session counts as without a connection.
    pub(crate) fn goes_offline(&mut self, client: usize) {
        let now = self.time;
        if let Some(stay) = &mut self.slots[client].stay
            && stay.presence == Presence::Online
        {
            *stay = stay.left(now);
        }
    }

    /// A quarantined session is brought back once more; it may die again.
    fn retry(&mut self, client: usize) {
        let slot = &mut self.slots[client];
        slot.retry_at = None;
        if let Some(panics) = &mut slot.panics {
            panics.forgive_one();
        }
        self.rebuild(client);
        if matches!(self.residences[client], Residence::Passive) {
            self.rehydrate(client);
        }
    }

    /// Something may be due for a quarantined session: if it expired, nothing of it stays.
    pub(crate) fn retry_if_due(&mut self, client: usize) {
        let now = self.time;
        let slot = &self.slots[client];
        let due = slot.retry_at.is_some_and(|at| at <= now);
        let quarantined = matches!(self.residences[client], Residence::Quarantined);
        if !quarantined || !due || self.journal.owes(client) {
            return;
        }
        let offline_since = slot.stay.and_then(|stay| stay.offline_since());
        let snapshot = self.journal.snapshot_of(&self.clients[client].id).cloned();
        self.note(|| format!("client {client}'s session is tried again"));
        self.retry(client);
        self.turn_if_active(client, vec![Input::Tick]);
        if let Some(snapshot) = snapshot {
            let offline_since = snapshot.detached_at.or(offline_since);
            let ends = offline_since.map(|at| at.plus_seconds(snapshot.expiry_seconds));
            if ends.is_some_and(|at| at <= now) {
                self.has_expired(client, &snapshot);
            }
        }
    }

    /// A session expired while it was quarantined: its unit, its subscriptions and its groups are free, its will is published.
    fn has_expired(&mut self, client: usize, snapshot: &SessionSnapshot) {
        self.saw(Seen::QuarantineExpired);
        let id = &snapshot.client_id;
        let none = matches!(self.residences[client], Residence::None);
        assert!(none, "{id} expired and is there");
        let slot = &self.slots[client];
        assert!(slot.permit.is_none(), "{id} expired and has a unit");
        assert!(slot.holds.is_empty(), "{id} expired: {:?}", slot.holds);
        let joined = self.groups.directory.filters_of(snapshot.number);
        assert!(joined.is_empty(), "{id} expired and is in {joined:?}");
        if let Some(will) = &snapshot.will {
            let post = self.oracle.post_of(&will.message);
            let routed = self.oracle.posts[post].routed;
            assert!(routed > 0, "{id} expired without its will");
        }
    }

    /// So much time passes that all quarantined sessions are over or back.
    pub(crate) fn quarantines_end(&mut self) {
        let due = self.slots.iter().filter_map(|slot| slot.retry_at).max();
        self.goes_by(due.map_or(self.time, |due| due.max(self.time)));
        self.commit_first(usize::MAX);
        for client in 0..self.clients.len() {
            self.tick_if_due(client);
            let stays = matches!(self.residences[client], Residence::Quarantined);
            assert!(!stays, "client {client}'s session is quarantined for good");
        }
    }

    /// A session ends, whatever its client thinks.
    pub(crate) fn end_session(&mut self, client: usize, refusal: Refusal) {
        if matches!(self.residences[client], Residence::Passive) {
            self.rehydrate(client);
        }
        let gone = (self.time, self.links_made);
        self.clients[client].abandon();
        self.clients[client].unsafe_from = Some(gone);
        if self
            .actor(client)
            .is_some_and(|actor| actor.session.is_attached())
        {
            self.saw_attached(client); // until now; an actor that dies of this leaves the session there
        }
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
