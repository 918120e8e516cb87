//! What a client knows of its subscriptions: since when each is in force, and what it got by them.

use std::collections::{BTreeMap, BTreeSet};

use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{RetainHandling, SubscriptionOptions};
use outlive_actors::model::topic::Filter;

use super::{Attempt, Oracle, Post};

/// One time that a subscription was in force, as its client knows.
#[derive(Debug)]
pub(super) struct Period {
    pub(super) filter: Filter,
    pub(super) no_local: bool,
    /// SUBSCRIBE was sent.
    pub(super) asked_at: u64,
    /// How often it was: an earlier one may have been heard though nobody said so.
    pub(super) asked: u32,
    /// SUBACK came.
    pub(super) granted_at: Option<u64>,
    /// SUBSCRIBE that asked for retained messages was sent; those that were granted, and the last of them.
    pub(super) replays_asked: Vec<u64>,
    pub(super) replay_granted: Option<u64>,
    /// Nothing from here on is owed: UNSUBSCRIBE or a downgrade to QoS 0 was sent.
    pub(super) dropped_at: Option<u64>,
    /// A SUBSCRIBE with other options replaced it here: what was acknowledged before is owed as it was.
    pub(super) owed_before: Option<u64>,
    /// From here on nothing new may come: UNSUBACK came.
    pub(super) gone_at: Option<u64>,
}

/// What one client's application knows of one session.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    pub(super) periods: Vec<Period>,
    /// Posts received: how often, and how often as QoS 2.
    pub(super) got: BTreeMap<Post, (u32, u32)>,
    pub(super) seen: BTreeSet<Attempt>,
    /// When an attempt was last received as a retained message.
    pub(super) retained: BTreeMap<Attempt, u64>,
    /// When the broker heard that an attempt is refused.
    pub(super) refused: BTreeMap<Attempt, u64>,
    /// How often retained messages were asked for.
    pub(super) replays: Vec<Filter>,
    /// The last first delivery per topic, QoS of publication and of delivery, of what was published to be retained.
    pub(super) newest: BTreeMap<(String, QoS, QoS), Attempt>,
    /// The last first delivery per publisher, topic, QoS of publication and of delivery.
    pub(super) order: BTreeMap<(usize, String, QoS, QoS), Attempt>,
}

impl Holding {
    /// Shared subscriptions in force with QoS 1 or 2, and since when.
    pub(crate) fn shares_held(&self) -> impl Iterator<Item = (&Filter, u64)> {
        let held = self.periods.iter();
        let held = held.filter(|known| known.filter.is_shared() && known.dropped_at.is_none());
        held.filter_map(|known| Some((&known.filter, known.granted_at?)))
    }

    /// Whether a shared subscription was ever asked for.
    pub(crate) fn shared(&self, filter: &Filter) -> bool {
        self.periods.iter().any(|known| known.filter == *filter)
    }

    /// The last subscription that was asked for was refused. One that may be in force since before stays.
    pub(crate) fn not_granted(&mut self, filter: &Filter) {
        let mut periods = self.periods.iter();
        let last = periods.rposition(|known| known.filter == *filter);
        let never = |known: &Period| known.granted_at.is_none() && known.asked == 1;
        if let Some(at) = last.filter(|at| never(&self.periods[*at])) {
            self.periods.remove(at);
        }
    }

    /// The broker heard that the client refuses an attempt.
    pub(crate) fn refused(&mut self, attempt: Attempt, at: u64) {
        self.refused.insert(attempt, at);
    }

    /// Nothing is owed any more.
    pub(crate) fn abandon(&mut self) {
        for known in &mut self.periods {
            known.dropped_at = known.dropped_at.or(Some(0));
            known.owed_before = None;
        }
    }
}

impl Oracle {
    /// A subscription is asked for; QoS 0 ends what is owed from here on.
    pub(crate) fn asked(
        &mut self,
        holding: &mut Holding,
        filter: &Filter,
        options: SubscriptionOptions,
    ) {
        let SubscriptionOptions { qos, no_local, .. } = options;
        let now = self.tick();
        let replays = options.retain_handling == RetainHandling::AtSubscribe;
        if options.retain_handling != RetainHandling::Never {
            holding.replays.push(filter.clone());
        }
        let open = holding
            .periods
            .iter_mut()
            .rev()
            .find(|known| known.filter == *filter && known.gone_at.is_none());
        match open {
            Some(known) if known.dropped_at.is_none() && known.no_local == no_local => {
                if qos == QoS::AtMostOnce {
                    known.dropped_at = Some(now);
                    known.owed_before = Some(now);
                }
                known.asked += 1;
                known.replays_asked.extend(replays.then_some(now));
            }
            _ => {
                if let Some(known) = open.filter(|known| known.dropped_at.is_none()) {
                    known.dropped_at = Some(now);
                    known.owed_before = Some(now);
                }
                holding.periods.push(Period {
                    filter: filter.clone(),
                    no_local,
                    asked_at: now,
                    asked: 1,
                    granted_at: None,
                    replays_asked: Vec::from_iter(replays.then_some(now)),
                    replay_granted: None,
                    dropped_at: (qos == QoS::AtMostOnce).then_some(now),
                    owed_before: None,
                    gone_at: None,
                });
            }
        }
    }

    pub(crate) fn granted(&mut self, holding: &mut Holding, filter: &Filter, asked_at: u64) {
        let now = self.tick();
        for known in &mut holding.periods {
            let answered = known.asked_at <= asked_at && known.gone_at.is_none();
            if known.filter == *filter && known.granted_at.is_none() && answered {
                known.granted_at = Some(now);
            }
            if known.filter == *filter && answered {
                // A SUBSCRIBE has two filters at most, and counts one for itself.
                let mut asked = known.replays_asked.iter().copied();
                let asked = asked.find(|at| (asked_at - 1..=asked_at).contains(at));
                known.replay_granted = asked.max(known.replay_granted);
            }
        }
    }

    pub(crate) fn dropped(&mut self, holding: &mut Holding, filter: &Filter) {
        let now = self.tick();
        for known in &mut holding.periods {
            if known.filter == *filter {
                known.dropped_at = known.dropped_at.or(Some(now));
                known.owed_before = None;
            }
        }
    }

    pub(crate) fn gone(&mut self, holding: &mut Holding, filter: &Filter, asked_at: u64) {
        let now = self.tick();
        for known in &mut holding.periods {
            let dropped = known.dropped_at.is_some_and(|at| at <= asked_at);
            let ended = dropped && known.gone_at.is_none();
            if known.filter == *filter && ended {
                known.gone_at = Some(now);
            }
        }
    }
}
