//! The attached readers of one filter in one shard, and how many durable subscriptions hold it.
//!
//! Most filters have one reader or none, so those are stored in place, in 16 bytes. Longer lists are contiguous,
//! because a fan-out walks them; past [`INDEX_AT`] readers an index from slot to position keeps removal cheap when
//! thousands leave at once.

use hashbrown::HashMap;

use super::super::message::QoS;
use super::super::packet::{RetainHandling, SubscriptionOptions};
use super::Slot;

/// A list longer than this gets an index; one shorter than half of it loses its index.
const INDEX_AT: usize = 64;

const NO_LOCAL: u8 = 1;
const RETAIN_AS_PUBLISHED: u8 = 2;
const DURABLE: u8 = 4;

/// One attached session's subscription, packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    slot: u32,
    /// The subscription identifier; 0 for none, which is no identifier (section 3.8.2.1.2).
    id: u32,
    qos: QoS,
    retain_handling: RetainHandling,
    flags: u8,
}

impl Reader {
    pub(super) fn new(slot: Slot, options: &SubscriptionOptions, durable: bool) -> Self {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        Self {
            slot: slot.0,
            id: options.id.unwrap_or(0),
            qos: options.qos,
            retain_handling: options.retain_handling,
            flags: flag(options.no_local, NO_LOCAL)
                | flag(options.retain_as_published, RETAIN_AS_PUBLISHED)
                | flag(durable, DURABLE),
        }
    }

    pub(super) fn slot(&self) -> Slot {
        Slot(self.slot)
    }

    pub(super) fn options(&self) -> SubscriptionOptions {
        SubscriptionOptions {
            qos: self.qos,
            no_local: self.flags & NO_LOCAL != 0,
            retain_as_published: self.flags & RETAIN_AS_PUBLISHED != 0,
            retain_handling: self.retain_handling,
            id: (self.id != 0).then_some(self.id),
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.flags & DURABLE != 0
    }
}

#[derive(Debug)]
pub(super) enum Readers {
    None { durable: u32 },
    One { reader: Reader, durable: u32 },
    Many(Box<Many>),
}

#[derive(Debug)]
pub(super) struct Many {
    durable: u32,
    readers: Vec<Reader>,
    /// Slot -> position in `readers`. Slots are our own numbers: the default hasher will do.
    positions: Option<HashMap<u32, u32>>,
}

impl Default for Readers {
    fn default() -> Self {
        Self::None { durable: 0 }
    }
}

impl Readers {
    pub(super) fn as_slice(&self) -> &[Reader] {
        match self {
            Self::None { .. } => &[],
            Self::One { reader, .. } => std::slice::from_ref(reader),
            Self::Many(many) => &many.readers,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(super) fn durable(&self) -> u32 {
        match self {
            Self::None { durable } | Self::One { durable, .. } => *durable,
            Self::Many(many) => many.durable,
        }
    }

    pub(super) fn durable_mut(&mut self) -> &mut u32 {
        match self {
            Self::None { durable } | Self::One { durable, .. } => durable,
            Self::Many(many) => &mut many.durable,
        }
    }

    /// Adds the reader, in place of one with the same slot.
    pub(super) fn put(&mut self, new: Reader) {
        match self {
            Self::Many(many) => many.put(new),
            Self::One { reader, .. } if reader.slot == new.slot => *reader = new,
            Self::One { reader, durable } => {
                *self = Self::Many(Box::new(Many {
                    durable: *durable,
                    readers: vec![*reader, new],
                    positions: None,
                }));
            }
            Self::None { durable } => {
                *self = Self::One {
                    reader: new,
                    durable: *durable,
                };
            }
        }
    }

    /// Removes the reader with this slot; returns whether there was one.
    pub(super) fn take(&mut self, slot: Slot) -> bool {
        match self {
            Self::None { .. } => false,
            Self::One { reader, durable } => {
                if reader.slot != slot.0 {
                    return false;
                }
                *self = Self::None { durable: *durable };
                true
            }
            Self::Many(many) => {
                let taken = many.take(slot.0);
                if let [reader] = *many.readers {
                    *self = Self::One {
                        reader,
                        durable: many.durable,
                    };
                }
                taken
            }
        }
    }
}

impl Many {
    fn position(&self, slot: u32) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&slot).map(|at| *at as usize),
            None => self.readers.iter().position(|reader| reader.slot == slot),
        }
    }

    fn put(&mut self, new: Reader) {
        if let Some(at) = self.position(new.slot) {
            self.readers[at] = new;
            return;
        }
        let at = place(self.readers.len());
        self.readers.push(new);
        match &mut self.positions {
            Some(positions) => {
                positions.insert(new.slot, at);
            }
            None if self.readers.len() > INDEX_AT => {
                let slots = self.readers.iter().map(|reader| reader.slot);
                self.positions = Some(slots.zip(0..).collect());
            }
            None => {}
        }
    }

    fn take(&mut self, slot: u32) -> bool {
        let Some(at) = self.position(slot) else {
            return false;
        };
        self.readers.swap_remove(at);
        if self.readers.len() < INDEX_AT / 2 {
            self.positions = None;
        }
        if let Some(positions) = &mut self.positions {
            positions.remove(&slot);
            if let Some(moved) = self.readers.get(at) {
                positions.insert(moved.slot, place(at));
            }
        }
        if self.readers.len() < self.readers.capacity() / 4 {
            let capacity = self.readers.len() * 2;
            self.readers.shrink_to(capacity);
            if let Some(positions) = &mut self.positions {
                positions.shrink_to(capacity);
            }
        }
        true
    }
}

/// A position as the index stores it.
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("slots are u32 and distinct")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_one_reader_costs_sixteen_bytes() {
        assert_eq!(size_of::<Reader>(), 12);
        assert_eq!(size_of::<Readers>(), 16);
        assert_eq!(size_of::<Option<Readers>>(), 16);
    }
}
