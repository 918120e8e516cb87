//! The quota of the simulation: the real one, with limits that bite, and what must hold of it after every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use outlive_actors::model::ids::{Listener, Timestamp};
use outlive_actors::model::quota::{
    Claim, Permit, Quota, QuotaLimits, QuotaPolicy, Reserve, Shortage,
};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::snapshot::SessionSnapshot;

use crate::rng::Rng;
use crate::seen::Seen;
use crate::world::{Residence, Slot, World};

/// The quota and what is known about it.
pub(crate) struct Units {
    pub(crate) quota: Arc<Quota>,
    /// Of its own, so that limits do not change what else happens.
    rng: Rng,
    clients: u64,
    /// The limits never change: then no count may ever pass them, crashes or not.
    fixed: bool,
}

impl Units {
    pub(crate) fn new(seed: u64, clients: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x5155_4f54);
        let clients = clients as u64;
        let limits = some_limits(&mut rng, clients);
        Self {
            quota: Quota::new(limits),
            fixed: rng.permille(700),
            rng,
            clients,
        }
    }

    /// An operator changes the limits; below the use, too.
    pub(crate) fn change_limits(&mut self) {
        if !self.fixed {
            let limits = some_limits(&mut self.rng, self.clients);
            self.quota.set_limits(limits).unwrap();
        }
    }

    /// Everybody gets in from now on.
    pub(crate) fn lift(&mut self) {
        self.fixed = false;
        let reserved = self.quota.limits().reserved;
        self.quota
            .set_limits(QuotaLimits {
                reserved,
                ..QuotaLimits::default()
            })
            .unwrap();
    }

    /// What survived a crash holds its unit.
    pub(crate) fn adopt(&self, snapshot: &SessionSnapshot, now: Timestamp) -> Permit {
        let claim = Claim {
            client_id: &snapshot.client_id,
            principal: &snapshot.owner,
            listener: &snapshot.listener,
        };
        self.quota.adopt(claim, now)
    }

    /// One unit per session, neither more nor less; never above a limit that was always there.
    pub(crate) fn check(&self, slots: &[Slot]) {
        let permits: Vec<_> = slots
            .iter()
            .filter_map(|slot| slot.permit.as_ref())
            .collect();
        let used = self.quota.used();
        assert_eq!(used, permits.len() as u64, "units and permits differ");
        let mut by_listener: BTreeMap<&Listener, u64> = BTreeMap::new();
        for permit in &permits {
            *by_listener.entry(permit.listener()).or_default() += 1;
        }
        let report = self.quota.report(0);
        for (listener, used, _) in &report.listeners {
            assert_eq!(by_listener.get(listener).copied().unwrap_or(0), *used);
        }
        if !self.fixed {
            return;
        }
        let limits = self.quota.limits();
        assert!(used <= limits.sessions_max, "{used} sessions");
        for (listener, used, limit) in &report.listeners {
            assert!(
                *limit == 0 || used <= limit,
                "{used} sessions on {listener:?}"
            );
        }
        let reserve = &report.reserves[0];
        let others = used - reserve.used.min(reserve.units);
        assert!(
            others <= limits.sessions_max - reserve.units,
            "{others} sessions in common units"
        );
    }
}

/// Often fewer units than clients, one of them reserved for client 0; sometimes a listener with a limit.
fn some_limits(rng: &mut Rng, clients: u64) -> QuotaLimits {
    QuotaLimits {
        sessions_max: if rng.permille(500) {
            clients
        } else {
            rng.between(2, clients)
        },
        reserved: vec![Reserve {
            name: "first".into(),
            client_id: Some("*-0".into()),
            principal: None,
            units: 1,
        }],
        listeners: [("north".into(), *rng.pick(&[0, 0, 1, 2, 3]))].into(),
        policy: if rng.permille(300) {
            QuotaPolicy::EvictLongestOffline
        } else {
            QuotaPolicy::Reject
        },
        ..QuotaLimits::default()
    }
}

impl World {
    /// A newcomer needs a unit before anything of it is kept.
    pub(crate) fn acquire(&mut self, client: usize, link: u64) -> Result<(), Refusal> {
        let Some(connect) = self.links.get(&link).and_then(|link| link.connect.as_ref()) else {
            return Ok(());
        };
        let connect = connect.clone();
        let claim = || Claim::from(&connect);
        let mut taken = self.units.quota.try_acquire(claim(), self.time);
        if let Err(shortage) = &taken
            && self.make_room(shortage)
        {
            taken = self.units.quota.try_acquire(claim(), self.time);
            assert!(taken.is_ok(), "room was made in vain: {taken:?}");
        }
        let permit = taken.map_err(|shortage| self.units.quota.refuse(&shortage))?;
        self.slots[client].permit = Some(permit);
        Ok(())
    }

    /// Ends who has been offline longest among those whose unit helps, if that is the policy; gives whether one is free.
    fn make_room(&mut self, shortage: &Shortage) -> bool {
        let quota = Arc::clone(&self.units.quota);
        if quota.policy() != QuotaPolicy::EvictLongestOffline || shortage.units != 1 {
            return false;
        }
        let helps = |client: &usize| {
            let permit = self.slots[*client].permit.as_ref();
            permit.is_some_and(|permit| quota.helps(permit, shortage))
        };
        let offline = (0..self.clients.len()).filter(helps);
        let offline = offline.filter_map(|client| Some((self.offline_since(client)?, client)));
        let Some((_, victim)) = offline.min() else {
            return false;
        };
        self.note(|| format!("client {victim}'s session is evicted"));
        self.end_session(victim, Refusal::SessionQuota);
        let gone = self.slots[victim].permit.is_none();
        if gone {
            self.saw(Seen::Evicted);
        }
        gone
    }

    /// Since when a session that can be evicted has been without a connection.
    fn offline_since(&self, client: usize) -> Option<Timestamp> {
        let (expires_at, seconds) = match &self.residences[client] {
            Residence::Active(actor) => {
                let session = &actor.session;
                (session.expires_at()?, session.expiry_seconds())
            }
            Residence::Passive => {
                let snapshot = self.journal.snapshot_of(&self.clients[client].id)?;
                (snapshot.expires_at()?, snapshot.expiry_seconds)
            }
            Residence::None | Residence::Dead | Residence::Quarantined => return None,
        };
        let millis = u64::from(seconds) * 1000;
        Some(Timestamp(expires_at.0.saturating_sub(millis)))
    }

    /// The unit of a session that is over goes to whoever begins the next one.
    pub(crate) fn pass_on(&mut self, client: usize, link: u64) -> Result<(), Refusal> {
        let now = self.time;
        let is_over = self.actor(client).is_some_and(|actor| {
            let session = &actor.session;
            !session.is_begun() || session.expires_at().is_some_and(|at| at <= now)
        });
        let connect = self.links.get(&link).and_then(|link| link.connect.as_ref());
        let (Some(connect), Some(permit)) = (connect, &mut self.slots[client].permit) else {
            return Ok(());
        };
        if !is_over {
            return Ok(());
        }
        let passed_on = permit.pass_on(connect.into(), now);
        passed_on.map_err(|shortage| self.units.quota.refuse(&shortage))
    }

    /// Nothing is left of a newcomer that found no unit.
    pub(crate) fn refuse_newcomer(&mut self, at: u64, refusal: Refusal) {
        self.saw(Seen::NewcomerRefused);
        self.note(|| format!("link {at} is refused: {refusal}"));
        let Some(link) = self.links.get_mut(&at) else {
            return;
        };
        link.connect = None;
        let client = &self.clients[link.client];
        let known = client.safe_until.is_some_and(|until| self.time < until);
        assert!(
            !known || client.clean || client.unsafe_from.is_some(),
            "{}: a session that must be there was refused as new",
            client.id
        );
        self.close(at, Some(refusal));
    }

    /// Where the client's unit is charged.
    pub(crate) fn charged_to(&self, client: usize) -> Listener {
        let permit = self.slots[client].permit.as_ref();
        permit.map_or_else(Listener::default, |permit| permit.listener().clone())
    }
}
