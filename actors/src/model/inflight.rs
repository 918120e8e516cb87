//! The outbound window: records sent and not settled, and the packet identifiers they hold.
//!
//! Invariants:
//! - an identifier is held by at most one unsettled record;
//! - deliveries of earlier connections count against the client's receive maximum once their PUBLISH is sent again, and never
//!   if only their PUBREL is;
//! - identifiers of records sent in the order of the log count up by one, so that after a crash the same records get
//!   the same identifiers again; retained replays and leases take theirs counting down.

mod identifiers;

use std::collections::VecDeque;

use self::identifiers::Identifiers;
use super::entry::{Step, Unsettled};
use super::group::talk::is_in_memory;
use super::ids::{GroupNumber, Offset, PacketId};
use super::lazy::{Lazy, Unused};
use super::message::QoS;

/// The window of one session. Lives on across connections.
#[derive(Clone, Debug)]
pub struct Inflight {
    sent: VecDeque<Unsettled>,
    /// How many of the last ones in `sent` the attached client must be sent again.
    due: usize,
    identifiers: Identifiers,
    /// The most unsettled records, whoever is attached.
    max: u16,
    takes: Takes,
    /// How many QoS 2 records in `sent` are not due.
    exactly_once: u16,
    released: Lazy<Released>,
}

/// How much the attached client takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// The most PUBLISH packets of QoS 1 and 2 on its connection that it has not settled.
    pub receive_max: u16,
    /// The most QoS 2 exchanges, those of earlier connections included.
    pub exactly_once_max: u16,
}

impl Takes {
    /// A client that takes whatever there is.
    pub const ALL: Self = Self {
        receive_max: u16::MAX,
        exactly_once_max: u16::MAX,
    };
}

/// Deliveries under way of which the attached client was sent the PUBREL alone: the PUBLISH went to an earlier connection.
#[derive(Clone, Debug, Default)]
struct Released(Vec<PacketId>);

impl Unused for Released {
    fn unused() -> &'static Self {
        static UNUSED: Released = Released(Vec::new());
        &UNUSED
    }

    fn is_unused(&self) -> bool {
        self.0.is_empty()
    }
}

/// An acknowledgement does not fit what holds its identifier, which is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit(pub Unsettled);

impl Inflight {
    /// An empty window.
    pub fn new(max: u16) -> Self {
        Self {
            sent: VecDeque::new(),
            due: 0,
            identifiers: Identifiers::new(PacketId::FIRST, PacketId::LAST),
            max,
            takes: Takes::ALL,
            exactly_once: 0,
            released: Lazy::default(),
        }
    }

    /// A window as a snapshot holds it. No snapshot knows which leases the last connection had, and its client may still
    /// acknowledge them: so each restored window counts down from somewhere else, as `seed` says.
    pub fn restore(
        max: u16,
        next_packet_id: PacketId,
        sent: VecDeque<Unsettled>,
        seed: u64,
    ) -> Self {
        Self {
            sent,
            identifiers: Identifiers::new(next_packet_id, PacketId::any_of(seed)),
            ..Self::new(max)
        }
    }

    /// A new connection, whose client takes so much at once.
    pub fn attach(&mut self, takes: Takes) {
        self.takes = takes;
    }

    /// Everything in the window must be sent again, in order, and nothing counts for the new connection before.
    pub fn resume(&mut self) {
        self.due = self.sent.len();
        self.exactly_once = 0;
        self.released = Lazy::default();
    }

    /// Records that must be sent again, in the order in which they were sent.
    pub fn due(&self) -> impl Iterator<Item = &Unsettled> {
        self.sent.iter().skip(self.sent.len() - self.due)
    }

    /// The first of [`Self::due`].
    pub fn first_due(&self) -> Option<Unsettled> {
        self.due().next().copied()
    }

    /// Whether this identifier's record must still be sent again.
    pub fn is_due(&self, packet_id: PacketId) -> bool {
        self.due().any(|sent| sent.packet_id == packet_id)
    }

    /// The first of [`Self::due`] was sent again: its PUBLISH, or its PUBREL if that is where it is.
    pub fn resent(&mut self) {
        let Some(sent) = self.first_due() else {
            return;
        };
        self.due -= 1;
        self.exactly_once += u16::from(sent.qos == QoS::ExactlyOnce);
        if sent.step == Step::Released {
            self.released.0.push(sent.packet_id);
        }
    }

    /// The most unsettled records towards the attached client.
    pub fn max(&self) -> u16 {
        self.max.min(self.takes.receive_max)
    }

    /// How many more records may be sent, those due first.
    pub fn credit(&self) -> usize {
        let under_way = self.sent.len() - self.due;
        let ours = usize::from(self.max).saturating_sub(under_way);
        // 5.0 section 4.9: the quota is the connection's, and a PUBREL takes none of it.
        let published = under_way - self.released.0.len();
        ours.min(usize::from(self.takes.receive_max).saturating_sub(published))
    }

    /// As [`Self::credit`], for records of this QoS.
    pub fn room_for(&self, qos: QoS) -> usize {
        let left = match qos {
            QoS::ExactlyOnce => self
                .takes
                .exactly_once_max
                .saturating_sub(self.exactly_once),
            QoS::AtMostOnce | QoS::AtLeastOnce => u16::MAX,
        };
        self.credit().min(left.into())
    }

    /// Unsettled records in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = &Unsettled> {
        self.sent.iter()
    }

    /// How many records are unsettled.
    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether nothing is unsettled.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The identifier that the next record in the order of the log gets.
    pub fn next_packet_id(&self) -> PacketId {
        self.identifiers.up()
    }

    /// Goes on counting behind `packet_id`: a re-read passed a record that had been sent with it.
    pub fn count_past(&mut self, packet_id: PacketId) {
        self.identifiers.count_past(packet_id);
    }

    /// Takes a place in the window. The caller has checked [`Self::credit`] and that nothing is due.
    ///
    /// # Panics
    /// If the window is full: then all 65,535 identifiers might be held.
    pub fn send(&mut self, offset: Offset, qos: QoS, retain: bool, replay: bool) -> Unsettled {
        assert!(self.due == 0, "new before old");
        assert!(self.room_for(qos) > 0, "no credit left");
        let held = self.sent.iter().map(|sent| sent.packet_id);
        let packet_id = if replay {
            self.identifiers.take_down(held)
        } else {
            self.identifiers.take_up(held)
        };
        let sent = Unsettled {
            packet_id,
            offset,
            qos,
            retain,
            replay,
            lease: None,
            id: None,
            step: Step::Published,
        };
        self.sent.push_back(sent);
        self.exactly_once += u16::from(qos == QoS::ExactlyOnce);
        sent
    }

    /// As [`Self::send`], for a retained message of the subscription with the identifier `id`.
    pub fn replay(&mut self, offset: Offset, qos: QoS, id: Option<u32>) -> Unsettled {
        self.send(offset, qos, true, true);
        let sent = self.sent.back_mut().expect("it was just sent");
        sent.id = id;
        *sent
    }

    /// As [`Self::send`], for a record that `group` leased by the subscription with the identifier `id`.
    pub fn lease(
        &mut self,
        offset: Offset,
        qos: QoS,
        retain: bool,
        (group, id): (GroupNumber, Option<u32>),
    ) -> Unsettled {
        self.send(offset, qos, retain, true);
        let sent = self.sent.back_mut().expect("it was just sent");
        sent.lease = Some(group);
        sent.id = id;
        *sent
    }

    /// Leases under way, in the order in which they were sent.
    pub fn leases(&self) -> impl Iterator<Item = (GroupNumber, &Unsettled)> {
        let leases = self.sent.iter();
        leases.filter_map(|sent| sent.lease.map(|group| (group, sent)))
    }

    /// Takes out the QoS 1 leases: somebody else may get them. QoS 2 ones stay, but for those whose message is nowhere to be
    /// read again; gives how many.
    pub fn give_back(&mut self) -> usize {
        let mut lost = 0;
        self.sent.retain(|sent| {
            let lease = sent.lease.is_some();
            let goes = lease && (sent.qos == QoS::AtLeastOnce || is_in_memory(sent.offset));
            lost += usize::from(goes && sent.qos == QoS::ExactlyOnce);
            !goes
        });
        // Until the next connection begins, which sends all of it again.
        self.resume();
        lost
    }

    /// PUBREC: from now on only PUBREL is sent; gives the step before. `None` if nothing holds the identifier.
    ///
    /// # Errors
    /// If what holds it is not QoS 2.
    pub fn release(&mut self, packet_id: PacketId) -> Result<Option<Step>, Unfit> {
        let mut sent = self.sent.iter_mut();
        match sent.find(|sent| sent.packet_id == packet_id) {
            None => Ok(None),
            Some(sent) if sent.qos == QoS::ExactlyOnce => {
                Ok(Some(std::mem::replace(&mut sent.step, Step::Released)))
            }
            Some(sent) => Err(Unfit(*sent)),
        }
    }

    /// Frees the identifier of a record of this QoS and at this step. `None` if nothing holds it.
    ///
    /// # Errors
    /// If what holds it is of another QoS or at another step.
    pub fn settle(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        step: Step,
    ) -> Result<Option<Unsettled>, Unfit> {
        let Some(at) = self.position(packet_id) else {
            return Ok(None);
        };
        let sent = self.sent[at];
        if (sent.qos, sent.step) != (qos, step) {
            return Err(Unfit(sent));
        }
        Ok(self.take_out(at))
    }

    /// Frees the identifier, whatever holds it.
    pub fn abandon(&mut self, packet_id: PacketId) -> Option<Unsettled> {
        self.take_out(self.position(packet_id)?)
    }

    fn position(&self, packet_id: PacketId) -> Option<usize> {
        let mut sent = self.sent.iter();
        sent.position(|sent| sent.packet_id == packet_id)
    }

    fn take_out(&mut self, at: usize) -> Option<Unsettled> {
        let is_due = at >= self.sent.len() - self.due;
        let sent = self.sent.remove(at)?;
        if is_due {
            self.due -= 1;
            return Some(sent);
        }
        self.exactly_once -= u16::from(sent.qos == QoS::ExactlyOnce);
        if let Some(Released(released)) = self.released.used() {
            released.retain(|known| *known != sent.packet_id);
            self.released.tidy();
        }
        Some(sent)
    }

    /// The unsettled QoS 1 records that are the session's own, for a progress record.
    pub fn at_least_once(&self) -> Vec<Unsettled> {
        self.sent
            .iter()
            .filter(|sent| sent.qos == QoS::AtLeastOnce && sent.lease.is_none())
            .copied()
            .collect()
    }

    /// Empties the window; gives how many deliveries were abandoned.
    pub fn clear(&mut self) -> usize {
        self.identifiers = Identifiers::new(PacketId::FIRST, PacketId::LAST);
        let abandoned = std::mem::take(&mut self.sent).len();
        self.resume();
        abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_count_up_and_wrap_past_those_in_use() {
        let mut window = Inflight::new(3);
        let held = window
            .send(Offset(1), QoS::AtLeastOnce, false, false)
            .packet_id;
        assert_eq!(held, PacketId::FIRST);
        window.count_past(PacketId::LAST.preceding());
        assert_eq!(
            window
                .send(Offset(2), QoS::AtLeastOnce, false, false)
                .packet_id,
            PacketId::LAST
        );
        // 1 is still held, so the next one is 2.
        assert_eq!(
            window
                .send(Offset(3), QoS::AtLeastOnce, false, false)
                .packet_id
                .get(),
            2
        );
        assert_eq!(window.credit(), 0);
    }

    #[test]
    fn a_replay_does_not_disturb_the_identifiers_of_the_log() {
        let mut window = Inflight::new(10);
        window.send(Offset(9), QoS::AtLeastOnce, true, true);
        assert_eq!(
            window
                .send(Offset(1), QoS::AtLeastOnce, false, false)
                .packet_id
                .get(),
            1
        );
    }

    #[test]
    fn an_acknowledgement_of_the_wrong_kind_settles_nothing() {
        let mut window = Inflight::new(10);
        let sent = window.send(Offset(1), QoS::ExactlyOnce, false, false);
        let (id, unfit) = (sent.packet_id, Unfit(sent));
        let (qos1, qos2) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
        assert_eq!(window.settle(id, qos1, Step::Published), Err(unfit));
        assert_eq!(window.settle(id, qos2, Step::Released), Err(unfit));
        assert_eq!(
            window.settle(id.following(), qos2, Step::Released),
            Ok(None)
        );
        assert_eq!(window.release(id), Ok(Some(Step::Published)));
        assert_eq!(window.release(id), Ok(Some(Step::Released)));
        assert!(window.settle(id, qos2, Step::Released).unwrap().is_some());
        assert!(window.is_empty());
        let sent = window.send(Offset(2), qos1, false, false);
        assert_eq!(window.release(sent.packet_id), Err(Unfit(sent)));
        assert_eq!(window.release(id), Ok(None));
    }
}
