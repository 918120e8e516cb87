//! The outbound window: records sent and not settled, and the packet identifiers they hold.
//!
//! Invariants:
//! - an identifier is held by at most one unsettled record;
//! - identifiers of records sent in the order of the log count up by one, so that after a crash the same records get
//!   the same identifiers again; retained replays and leases take theirs counting down.

mod identifiers;

use std::collections::VecDeque;

use self::identifiers::Identifiers;
use super::entry::{Step, Unsettled};
use super::group::talk::is_in_memory;
use super::ids::{GroupNumber, Offset, PacketId};
use super::message::QoS;

/// The window of one session. Lives on across connections.
#[derive(Clone, Debug)]
pub struct Inflight {
    sent: VecDeque<Unsettled>,
    /// How many of the last ones in `sent` the attached client must be sent again.
    due: usize,
    identifiers: Identifiers,
    /// The most unsettled records towards the attached client.
    max: u16,
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
            due: 0,
            identifiers: Identifiers::new(next_packet_id, PacketId::any_of(seed)),
            max,
        }
    }

    /// A new connection: everything in the window must be sent again, in order, within its receive maximum.
    pub fn resume(&mut self) {
        self.due = self.sent.len();
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

    /// The first of [`Self::due`] was sent again.
    pub fn resent(&mut self) {
        self.due = self.due.saturating_sub(1);
    }

    /// The most unsettled records.
    pub fn max(&self) -> u16 {
        self.max
    }

    /// Sets the most unsettled records, from the client's receive maximum.
    pub fn set_max(&mut self, max: u16) {
        self.max = max;
    }

    /// How many more records may be sent, those due first.
    pub fn credit(&self) -> usize {
        usize::from(self.max).saturating_sub(self.sent.len() - self.due)
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
        assert!(self.credit() > 0, "no credit left");
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
            step: Step::Published,
        };
        self.sent.push_back(sent);
        sent
    }

    /// As [`Self::send`], for a record that `group` leased.
    pub fn lease(
        &mut self,
        offset: Offset,
        qos: QoS,
        retain: bool,
        group: GroupNumber,
    ) -> Unsettled {
        self.send(offset, qos, retain, true);
        let sent = self.sent.back_mut().expect("it was just sent");
        sent.lease = Some(group);
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
        self.due = self.due.min(self.sent.len());
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
        if at >= self.sent.len() - self.due {
            self.due -= 1;
        }
        self.sent.remove(at)
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
        self.due = 0;
        std::mem::take(&mut self.sent).len()
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
