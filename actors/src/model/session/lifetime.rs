//! Attach, detach, expiry and will: when a session begins, who holds it, when it ends.

use std::sync::Arc;

use super::parts::Reading;
use super::{Life, Session};
use crate::model::counter::Counter;
use crate::model::effect::Effect;
use crate::model::effects::Effects;
use crate::model::entry::{Attach, Change, Created};
use crate::model::ids::{Fence, Listener, Now, SessionNumber, Timestamp};
use crate::model::inflight::Takes;
use crate::model::message::Will;
use crate::model::packet::{Connect, Outbound, ProtocolVersion};
use crate::model::refusal::Refusal;

/// An attach is durable before its CONNACK if the session would have expired within so many seconds: time enough for a
/// broker that crashed to come back.
const ATTACH_AWAITED_SECONDS: u32 = 600;

impl Session {
    /// CONNECT: one owner at a time, at once; the newcomer never waits for the old socket to die.
    pub(super) fn attach(
        &mut self,
        now: Now,
        connect: Connect,
        number: SessionNumber,
        epoch: u32,
        effects: &mut Effects<Effect>,
    ) {
        if self.is_begun() && self.expires_at.is_some_and(|at| at <= now.time) {
            self.expire(now, effects);
        }
        if self.is_begun() && self.owner != connect.principal {
            effects.count(Counter::OwnerRefused);
            effects.push(Effect::RefuseConnection(Refusal::NotAuthorized));
            return;
        }
        // A kept session that was resumed with expiry 0 ends with that connection, taken over or not.
        let resume =
            self.is_begun() && self.kept && self.expiry_seconds > 0 && !connect.clean_start;
        let lapses_soon = self
            .expires_at
            .is_some_and(|at| at <= now.time.plus_seconds(ATTACH_AWAITED_SECONDS));
        self.settle_will_before_attach(now, resume, effects);
        let taken_over = self.attached;
        if taken_over {
            effects.count(Counter::SessionTakenOver);
            self.park(effects);
        }
        if self.is_begun() && !resume {
            self.discard(Counter::SessionDiscarded, effects);
        }
        let fence = self.fence.next(epoch);
        let listener = connect.listener.clone();
        effects.push(Effect::SwitchConnection { fence, taken_over });
        self.hold(connect, fence, effects);
        if resume {
            self.resume(now, lapses_soon, effects);
        } else {
            self.begin(now, number, listener, effects);
        }
    }

    /// The connection told us that it leaves.
    pub(super) fn disconnect(
        &mut self,
        now: Now,
        with_will: bool,
        expiry_seconds: Option<u32>,
        effects: &mut Effects<Effect>,
    ) {
        if let Some(asked) = expiry_seconds {
            // 5.0 section 3.14.2.2.2: an expiry of 0 cannot be made longer.
            if self.expiry_seconds == 0 && asked > 0 {
                effects.push(Effect::Send(Outbound::Close(Refusal::Protocol)));
                return self.closed(now, effects);
            }
            self.expiry_seconds = self.capped(asked, effects);
        }
        if !with_will {
            self.will = None;
        }
        self.closed(now, effects);
    }

    /// The network connection ended, however it ended; the expiry clock starts.
    pub(super) fn closed(&mut self, now: Now, effects: &mut Effects<Effect>) {
        self.record_progress(now, effects);
        self.park(effects);
        effects.push(Effect::DropConnection);
        let ends = !self.kept || self.expiry_seconds == 0;
        if let Some(will) = self.will.take_if(|will| ends || will.delay_seconds == 0) {
            self.publish_will(&will, now.time, effects);
        }
        if ends {
            self.discard(Counter::SessionDiscarded, effects);
            effects.push(Effect::End);
            return;
        }
        self.expires_at = Some(now.time.plus_seconds(self.expiry_seconds));
        self.will_at = self
            .will
            .as_ref()
            .map(|will| now.time.plus_seconds(will.delay_seconds));
        self.record(
            Change::Detached {
                at: now.time,
                expiry_seconds: self.expiry_seconds,
                will_due: self.will.is_some(),
            },
            effects,
        );
    }

    /// Does what is due. A spurious call changes nothing.
    pub(super) fn run_deadlines(&mut self, now: Now, effects: &mut Effects<Effect>) {
        if self.reading.progress_at.is_some_and(|at| at <= now.time) {
            self.record_progress(now, effects);
        }
        if self.expires_at.is_some_and(|at| at <= now.time) {
            self.expire(now, effects);
            effects.push(Effect::End);
        } else if self.will_at.is_some_and(|at| at <= now.time) {
            self.will_at = None;
            if let Some(will) = self.will.take() {
                self.publish_will(&will, now.time, effects);
                self.record(Change::WillSettled, effects);
            }
        }
    }

    /// An operator ends the connection, or the whole session.
    pub(super) fn end_by_operator(
        &mut self,
        now: Now,
        refusal: Refusal,
        discard: bool,
        effects: &mut Effects<Effect>,
    ) {
        if self.attached {
            effects.push(Effect::Send(Outbound::Close(refusal)));
            self.closed(now, effects);
        }
        if discard && self.is_begun() {
            if let Some(will) = self.will.take() {
                self.publish_will(&will, now.time, effects);
            }
            self.discard(Counter::SessionDiscarded, effects);
            effects.push(Effect::End);
        }
    }

    fn expire(&mut self, now: Now, effects: &mut Effects<Effect>) {
        if let Some(will) = self.will.take() {
            self.publish_will(&will, now.time, effects);
        }
        self.discard(Counter::SessionExpired, effects);
    }

    /// What must happen to the will of the connection before: a resume in time cancels a delayed one; otherwise it is
    /// published, since that connection, or its session, ends ([MQTT-3.1.2-8], 5.0 section 3.1.3.2.2).
    fn settle_will_before_attach(&mut self, now: Now, resume: bool, effects: &mut Effects<Effect>) {
        let overdue = self.will_at.take().is_some_and(|at| at <= now.time);
        let Some(will) = self.will.take() else { return };
        if !resume || overdue || (self.attached && will.delay_seconds == 0) {
            self.publish_will(&will, now.time, effects);
        }
    }

    /// Stops serving the connection; what was not handed out stays in the journal.
    fn park(&mut self, effects: &mut Effects<Effect>) {
        if !std::mem::take(&mut self.attached) {
            return;
        }
        effects.push(Effect::Listen(false));
        self.has_room();
        self.go_offline(effects);
        if let Some(reading) = self.reading.used() {
            reading.cursor.park();
            reading.progress_at = None;
        }
        if let Some(pending) = self.pending.used() {
            pending.park();
        }
    }

    /// Ends the session: its routes, its window and its records go.
    fn discard(&mut self, why: Counter, effects: &mut Effects<Effect>) {
        for known in self.subscriptions.drain().collect::<Vec<_>>() {
            self.drop_subscription(known, effects);
        }
        for _ in 0..self.inflight.clear() + self.pending.queue.len() {
            effects.count(Counter::DroppedSessionEnded);
        }
        if self.kept {
            // A newcomer's CONNACK waits for it: what a clean start discarded must not come back after a crash.
            self.persist(Change::Ended, effects);
        }
        effects.count(why);
        let vacant = Self::vacant(self.client_id.clone(), Arc::clone(&self.limits));
        *self = Self {
            number: self.number,
            fence: self.fence,
            ..vacant
        };
    }

    /// The connection holds the session from here on.
    fn hold(&mut self, connect: Connect, fence: Fence, effects: &mut Effects<Effect>) {
        self.fence = fence;
        self.attached = true;
        self.version = connect.version;
        self.owner = connect.principal;
        self.expiry_seconds = self.capped(connect.expiry_seconds, effects);
        self.expires_at = None;
        self.will = connect.will;
        self.inflight.attach(Takes {
            receive_max: connect.receive_max,
            exactly_once_max: match connect.version {
                ProtocolVersion::V5 => u16::MAX,
                ProtocolVersion::V31 | ProtocolVersion::V311 => self.limits.exactly_once_v3_max,
            },
        });
    }

    fn begin(
        &mut self,
        now: Now,
        number: SessionNumber,
        listener: Listener,
        effects: &mut Effects<Effect>,
    ) {
        self.number = number;
        self.life = Life::New;
        self.kept = self.expiry_seconds > 0;
        effects.count(Counter::SessionCreated);
        if self.kept {
            self.reading = Reading::from(now.log_end).into();
            self.persist(
                Change::Created(Box::new(Created {
                    client_id: self.client_id.clone(),
                    owner: self.owner.clone(),
                    listener,
                    attach: self.attach_record(now.time),
                    next: now.log_end,
                })),
                effects,
            );
        }
        self.connack(false, effects);
        effects.push(Effect::Listen(true));
        self.schedule_progress(now);
    }

    /// A resume awaits no disk, unless the deadline that it cancels is near: a crash that forgot the attach would let the
    /// session expire though its client was told that it goes on.
    fn resume(&mut self, now: Now, lapses_soon: bool, effects: &mut Effects<Effect>) {
        effects.count(Counter::SessionResumed);
        self.life = Life::Resumed;
        let attached = Change::Attached(self.attach_record(now.time));
        if lapses_soon {
            self.persist(attached, effects);
        } else {
            self.record(attached, effects);
        }
        self.connack(true, effects);
        effects.push(Effect::Listen(true));
        self.go_online(effects);
        self.schedule_progress(now);
        self.inflight.resume();
        self.pump(now, effects);
    }

    fn connack(&self, session_present: bool, effects: &mut Effects<Effect>) {
        effects.push(Effect::Send(Outbound::ConnAck {
            session_present,
            expiry_seconds: self.expiry_seconds,
        }));
    }

    fn attach_record(&self, at: Timestamp) -> Attach {
        Attach {
            fence: self.fence,
            version: self.version,
            expiry_seconds: self.expiry_seconds,
            will: self.will.clone(),
            at,
        }
    }

    fn capped(&self, asked: u32, effects: &mut Effects<Effect>) -> u32 {
        let cap = self.limits.expiry_seconds_max;
        // "Never" is how 3.x clients and 5.0's 0xFFFFFFFF ask for the cap: nothing is cut against their will.
        if asked > cap && asked != u32::MAX {
            effects.count(Counter::ExpiryClamped);
        }
        asked.min(cap)
    }

    fn publish_will(&self, will: &Will, now: Timestamp, effects: &mut Effects<Effect>) {
        effects.count(Counter::WillPublished);
        effects.push(Effect::Publish {
            message: will.due(now, self.number),
            received: None,
        });
    }
}
