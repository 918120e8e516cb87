//! What clients say of what they got: what an acknowledgement settles is settled for good, and what a client refuses
//! with a code of 0x80 or above is discarded and counted.

use outlive_actors::model::counter::Counter;
use outlive_actors::model::effect::{Effect, Input};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::{Step, Unsettled};
use outlive_actors::model::ids::PacketId;
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Delivery, Inbound, Outbound, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;

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

    /// Its acknowledgement of a delivery that it got with this QoS, or for once one that is not for that.
    pub(crate) fn acknowledges(&mut self, qos: QoS, right: Inbound) -> Inbound {
        if !self.whims.permille(self.confuses_permille) {
            return right;
        }
        let (Inbound::PubAck { packet_id, .. } | Inbound::PubRec { packet_id, .. }) = right else {
            return right;
        };
        let failed = self.refuses();
        match qos {
            _ if self.whims.permille(500) => Inbound::PubComp { packet_id },
            QoS::ExactlyOnce => Inbound::PubAck { packet_id, failed },
            QoS::AtMostOnce | QoS::AtLeastOnce => Inbound::PubRec { packet_id, failed },
        }
    }

    /// From now on it takes whatever comes, and knows how to say so.
    pub(crate) fn refuses_nothing(&mut self) {
        self.refuses_permille = 0;
        self.confuses_permille = 0;
    }
}

/// What an acknowledgement is about: its identifier, and the QoS and step that it is for. PUBREC may come twice.
fn meant(packet: &Inbound) -> Option<(PacketId, QoS, Option<Step>)> {
    match packet {
        Inbound::PubAck { packet_id, .. } => Some((*packet_id, QoS::AtLeastOnce, None)),
        Inbound::PubRec { packet_id, .. } => Some((*packet_id, QoS::ExactlyOnce, None)),
        Inbound::PubComp { packet_id } => {
            Some((*packet_id, QoS::ExactlyOnce, Some(Step::Released)))
        }
        _ => None,
    }
}

impl World {
    /// Whether this input is an acknowledgement of the wrong kind for the delivery that it names.
    pub(crate) fn is_confused(actor: &Actor, input: &Input) -> bool {
        let session = &actor.session;
        let Input::Packet { fence, packet } = input else {
            return false;
        };
        let Some((packet_id, qos, step)) = meant(packet) else {
            return false;
        };
        let heard = *fence == session.fence() && session.is_attached();
        let mut window = session.inflight().iter();
        let named = window.find(|sent| heard && sent.packet_id == packet_id);
        named.is_some_and(|sent| sent.qos != qos || step.is_some_and(|step| step != sent.step))
    }

    /// What ends the connection of a confused client, and of nobody else.
    pub(crate) fn watch_confused(&mut self, confused: bool, effects: &Effects<Effect>) {
        let refused = Effect::Send(Outbound::Close(Refusal::WrongAck));
        assert_eq!(effects.as_slice().contains(&refused), confused);
        if confused {
            self.saw(Seen::Confused);
        }
    }

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
