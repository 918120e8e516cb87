//! The session's connection: given, taken over, dropped; and who listens while there is one.

use super::super::local::Presence;
use super::super::protocol::{Candidate, Load, ToConnection, close};
use super::SessionActor;
use super::turn::{Held, Turn};
use crate::model::effect::Effect;
use crate::model::ids::Fence;
use crate::model::message::QoS;
use crate::model::packet::Outbound;
use crate::model::refusal::Refusal;

impl SessionActor {
    /// The newcomer holds the session at once; what waited for the connection before is dropped with it.
    pub(super) fn switch_connection(
        &mut self,
        fence: Fence,
        taken_over: bool,
        turn: &mut Turn<'_>,
    ) {
        if taken_over && let Some(before) = self.connection.take() {
            close(&before, Refusal::TakenOver);
        }
        self.detached_at = None;
        // It may have asked for another expiry: the directory is told anew.
        self.told.0 = Presence::Vacant;
        self.forget_held(turn);
        self.connection = turn.candidate.take().and_then(Candidate::accept);
        let mut local = self.local.borrow_mut();
        let Some(slot) = local.slot(self.sentinel.slot()) else {
            return;
        };
        slot.attached = self.connection.is_some();
        if let Some(connection) = &self.connection
            && let Some(session) = slot.session()
        {
            connection.do_send(ToConnection::Attached {
                fence,
                number: self.session.number(),
                session: session.clone(),
            });
        }
    }

    pub(super) fn drop_connection(&mut self, turn: &mut Turn<'_>) {
        // A refusal that waits for the journal is sent now: it answers nothing that must be durable first.
        let close = self.waiting.held.iter().rev().find_map(|held| {
            if let Held::Effect(Effect::Send(packet @ Outbound::Close(_))) = held {
                return Some(packet.clone());
            }
            None
        });
        if let Some(close) = close {
            turn.outgoing.push(close);
        }
        self.send_outgoing(turn);
        self.forget_held(turn);
        self.connection = None;
        let mut local = self.local.borrow_mut();
        if let Some(slot) = local.slot(self.sentinel.slot()) {
            slot.attached = false;
        }
        self.detached_at = Some(local.shared.clock.now());
    }

    fn forget_held(&mut self, turn: &mut Turn<'_>) {
        turn.outgoing.packets.clear();
        turn.processed = Load::default();
        if let Some(waiting) = self.waiting.used() {
            waiting.withheld = Load::default();
            // A group waits to hear what is taken, connection or not; and what the journal has yet to take in takes memory.
            waiting.held.retain(|held| {
                matches!(
                    held,
                    Held::Barrier(_) | Held::Processed(..) | Held::Effect(Effect::TellGroup { .. })
                )
            });
        }
    }

    pub(super) fn listen(&mut self, attached: bool) {
        let mut local = self.local.borrow_mut();
        if !attached {
            return local.mute_all(self.sentinel.slot());
        }
        // Not before: should the actor die while one session makes way for the next, groups must hear of the one they know.
        if let Some(slot) = local.slot(self.sentinel.slot()) {
            slot.number = self.session.number();
        }
        let own = self.session.subscriptions().iter();
        for known in own.filter(|known| !known.filter.is_shared()) {
            let durable = self.session.is_kept() && known.options.qos > QoS::AtMostOnce;
            local.listen(
                self.sentinel.slot(),
                &known.filter,
                &known.options,
                durable,
                false,
            );
        }
    }
}
