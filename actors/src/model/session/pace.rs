//! How far a session runs ahead of its connection: what it has handed out and the socket has not taken is bounded by bytes,
//! whatever the window allows. So a client with a long window that resumes, or subscribes to large retained messages, is
//! served at its own speed.

use super::Session;
use crate::model::effect::Effect;
use crate::model::effects::Effects;
use crate::model::message::{Message, QoS};
use crate::model::packet::Outbound;

/// What a delivery takes besides its message, about.
const DELIVERY_BYTES: usize = 64;

/// Bytes handed to the connection since it last said that it has room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    bytes: u32,
    /// It was asked to say so.
    asked: bool,
}

impl Session {
    /// How many more records may be sent, those due first.
    pub(super) fn credit(&self) -> usize {
        if self.awaits_room() {
            0
        } else {
            self.inflight.credit()
        }
    }

    /// As [`Self::credit`], for records of this QoS.
    pub(super) fn room_for(&self, qos: QoS) -> usize {
        if self.awaits_room() {
            0
        } else {
            self.inflight.room_for(qos)
        }
    }

    /// Whether nothing more may be sent before the connection says that it has room.
    pub(super) fn awaits_room(&self) -> bool {
        self.pace.bytes >= self.limits.send_ahead_bytes
    }

    /// A delivery of this message is handed out.
    pub(super) fn hand_out(&mut self, message: &Message) {
        let bytes = u32::try_from(message.size_bytes() + DELIVERY_BYTES).unwrap_or(u32::MAX);
        self.pace.bytes = self.pace.bytes.saturating_add(bytes);
    }

    /// Asks the connection for room, if it is needed: behind what was handed out.
    pub(super) fn ask_for_room(&mut self, effects: &mut Effects<Effect>) {
        if self.awaits_room() && !std::mem::replace(&mut self.pace.asked, true) {
            effects.push(Effect::Send(Outbound::AwaitRoom));
        }
    }

    /// The connection has room.
    pub(super) fn has_room(&mut self) {
        self.pace = Pace::default();
    }
}
