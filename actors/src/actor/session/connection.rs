//! The session's connection: given, taken over, dropped; and who listens while there is one.

use actix::{AsyncContext, Context};

use super::super::protocol::{Candidate, ToConnection, close};
use super::{Held, SessionActor};
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
        ctx: &mut Context<Self>,
    ) {
        if taken_over && let Some(before) = self.connection.take() {
            close(&before, Refusal::TakenOver);
        }
        self.detached_at = None;
        self.forget_held();
        self.connection = self.candidate.take().and_then(Candidate::accept);
        if let Some(connection) = &self.connection {
            connection.do_send(ToConnection::Attached {
                fence,
                number: self.session.number(),
                session: ctx.address().recipient(),
            });
        }
        if let Some(slot) = self.local.borrow_mut().slot(self.slot) {
            slot.connection.clone_from(&self.connection);
        }
    }

    pub(super) fn drop_connection(&mut self) {
        // A refusal that waits for the journal is sent now: it answers nothing that must be durable first.
        let close = self.held.iter().rev().find_map(|held| {
            if let Held::Effect(Effect::Send(packet @ Outbound::Close(_))) = held {
                return Some(packet.clone());
            }
            None
        });
        self.outgoing.extend(close);
        self.send_outgoing();
        self.forget_held();
        self.connection = None;
        let mut local = self.local.borrow_mut();
        if let Some(slot) = local.slot(self.slot) {
            slot.connection = None;
        }
        self.detached_at = Some(local.shared.clock.now());
    }

    pub(super) fn forget_held(&mut self) {
        self.outgoing.clear();
        self.processed = 0;
        self.withheld = 0;
        self.held.retain(|held| matches!(held, Held::Barrier(_)));
    }

    pub(super) fn listen(&mut self, attached: bool) {
        let mut local = self.local.borrow_mut();
        if let Some(slot) = local.slot(self.slot) {
            slot.number = self.session.number();
        }
        if !attached {
            return local.mute_all(self.slot);
        }
        for known in self.session.subscriptions().iter() {
            let durable = self.session.is_kept() && known.options.qos > QoS::AtMostOnce;
            local.listen(self.slot, &known.filter, &known.options, durable, false);
        }
    }
}
