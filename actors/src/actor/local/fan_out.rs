//! What was put into slots and not taken yet, in bytes: readers get their share before more is put there.
//!
//! Owns: the bound of a shard, and who waits until there is less: sessions that publish, and what came from other shards and
//! from the journal. Does not know: what a publication is.
//!
//! Invariants:
//! - who waits is woken when what is in slots has fallen below half of the bound, in the order in which they began to wait;
//! - what came from elsewhere is dealt with in the order in which it came.

use std::collections::VecDeque;

use super::super::protocol::{Committed, RouteBatch};
use super::Local;
use crate::model::counter::Counter;
use crate::model::ids::GroupNumber;
use crate::model::routes::Slot;

/// Bytes in slots of a shard, each delivery counted as if it had its message for itself; from there on nobody publishes more
/// before the readers had their turn.
pub const FAN_OUT_BYTES_MAX: usize = 16 << 20;

/// What is on its way to the readers of a shard.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    bytes: usize,
    /// Sessions that were stopped in the middle of what their client published.
    publishers: VecDeque<Slot>,
    /// What came from elsewhere and is not dealt with.
    late: VecDeque<Late>,
    /// The shard was told to go on with it.
    told: bool,
}

/// Something from elsewhere, and how much of it was dealt with.
#[derive(Debug)]
pub(super) enum Late {
    /// Publications of another shard.
    Routed(RouteBatch, usize),
    /// Records of the journal.
    Committed(Committed, usize),
    /// Another shard has sent a group all that it routed by the routes of before.
    Marked(GroupNumber),
}

impl Local {
    /// Whether readers must have their turn before more is published.
    pub fn is_crowded(&self) -> bool {
        self.fan_out.bytes >= FAN_OUT_BYTES_MAX
    }

    /// The session of this slot is woken when readers had their turn.
    pub fn await_readers(&mut self, slot: Slot) {
        self.fan_out.publishers.push_back(slot);
    }

    /// Something came from elsewhere, and is dealt with behind what came before it.
    pub(super) fn come_late(&mut self, late: Late) {
        self.fan_out.late.push_back(late);
        self.go_on();
    }

    /// Deals with what came from elsewhere, as far as readers take it.
    pub(super) fn go_on(&mut self) {
        self.fan_out.told = false;
        while let Some(late) = self.fan_out.late.pop_front() {
            let rest = match late {
                Late::Routed(batch, from) => self.route(batch, from),
                Late::Committed(committed, from) => self.commit(committed, from),
                Late::Marked(number) => {
                    self.marked(number);
                    None
                }
            };
            if let Some(rest) = rest {
                self.count(Counter::FanOutPaused);
                return self.fan_out.late.push_front(rest);
            }
        }
    }

    /// So many bytes were put into slots, or, below zero, did not have to be.
    pub(super) fn put(&mut self, bytes: isize) {
        self.fan_out.bytes = self.fan_out.bytes.saturating_add_signed(bytes);
    }

    /// So many bytes were taken out of slots.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.fan_out.bytes = self.fan_out.bytes.saturating_sub(bytes);
        if self.fan_out.bytes > FAN_OUT_BYTES_MAX / 2 {
            return;
        }
        while let Some(slot) = self.fan_out.publishers.pop_front() {
            if let Some(state) = self.slot(slot) {
                state.wake();
            }
        }
        if !self.fan_out.late.is_empty()
            && !self.fan_out.told
            && let Some(shard) = self.peers.get(usize::from(self.shard.0))
        {
            self.fan_out.told = true;
            shard.do_send(RouteBatch::default());
        }
    }
}
