//! What clients say of what they got: what an acknowledgement settles is settled for good, and what a client refuses
//! with a code of 0x80 or above is discarded and counted.

use outlive_actors::model::counter::Counter;
use outlive_actors::model::effect::{Effect, Input};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::{Step, Unsettled};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Delivery, Inbound, ProtocolVersion};

use crate::client::Client;
use crate::groups::{Key, lease_of};
use crate::oracle::Oracle;
use crate::seen::Seen;
use crate::world::{Actor, World};

/// What an acknowledgement that is about to be heard settles.
pub(crate) struct Settling {
    sent: Unsettled,
    failed: bool,
}

impl Settling {
    /// The lease that is refused, if it is one.
    pub(crate) fn refused_lease(&self) -> Option<Key> {
        let group = self.sent.lease.filter(|_| self.failed)?;
        Some((group, self.sent.offset))
    }
}

impl Client {
    /// Whether it refuses what it gets now; only 5.0 has words for that.
    pub(crate) fn refuses(&mut self) -> bool {
        self.version == ProtocolVersion::V5 && self.whims.permille(self.refuses_permille)
    }

    /// It refuses a message; those of groups are in no order.
    pub(crate) fn refused(&mut self, delivery: &Delivery, oracle: &mut Oracle) {
        if lease_of(&delivery.message).is_none() {
            oracle.arrived(self.index, &mut self.holding, delivery);
        }
    }

    /// From now on it takes whatever comes.
    pub(crate) fn refuses_nothing(&mut self) {
        self.refuses_permille = 0;
    }
}

impl World {
    /// What this input settles, if it is an acknowledgement and fits.
    pub(crate) fn settling(actor: &Actor, input: &Input) -> Option<Settling> {
        let Input::Packet { fence, packet } = input else {
            return None;
        };
        let (packet_id, qos, step, failed) = match packet {
            Inbound::PubAck { packet_id, failed } => {
                (*packet_id, QoS::AtLeastOnce, Step::Published, *failed)
            }
            Inbound::PubRec { packet_id, failed } if *failed => {
                (*packet_id, QoS::ExactlyOnce, Step::Published, true)
            }
            Inbound::PubComp { packet_id } => (*packet_id, QoS::ExactlyOnce, Step::Released, false),
            _ => return None,
        };
        let session = &actor.session;
        if *fence != session.fence() || !session.is_attached() {
            return None;
        }
        let mut window = session.inflight().iter();
        let sent = window.find(|sent| sent.packet_id == packet_id);
        let sent = sent.filter(|sent| sent.qos == qos && sent.step == step)?;
        Some(Settling {
            sent: *sent,
            failed,
        })
    }

    /// It was heard.
    pub(crate) fn settled(
        &mut self,
        client: usize,
        actor: &Actor,
        settling: &Settling,
        effects: &Effects<Effect>,
    ) {
        let Settling { sent, failed } = settling;
        let session = &actor.session;
        let counter = if *failed {
            Counter::AckFailed
        } else {
            Counter::Acked
        };
        assert!(
            effects.counted(counter) == 1,
            "client {client}: {sent:?} is not counted as {counter:?}"
        );
        let mut window = session.inflight().iter();
        let stays = window.any(|known| {
            (known.packet_id, known.offset, known.lease)
                == (sent.packet_id, sent.offset, sent.lease)
        });
        assert!(
            !stays,
            "client {client}: {sent:?} is acknowledged and stays"
        );
        let attempt = self.clients[client].under[&sent.packet_id];
        let number = session.number();
        let lease = sent.lease.map(|group| (group, sent.offset));
        let delivery = (attempt, lease);
        self.oracle.acknowledged(number, sent.packet_id, delivery);
        if !failed {
            return;
        }
        let at = self.oracle.tick();
        self.clients[client].holding.refused(attempt, at);
        self.saw(match (sent.lease, sent.qos) {
            (None, _) => Seen::Refused,
            (Some(_), QoS::ExactlyOnce) => Seen::BegunLeaseRefused,
            (Some(_), QoS::AtMostOnce | QoS::AtLeastOnce) => Seen::LeaseRefused,
        });
        if let Some(lease) = lease {
            self.groups.account.refused(lease);
        }
    }
}
