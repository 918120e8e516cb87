//! What groups lease to a session.

use super::*;
use crate::model::effect::WhichGroup;
use crate::model::group::talk::{GroupRef, Lease, Leased, Said};
use crate::model::ids::{GroupNumber, ShardId};

const GROUP: GroupRef = GroupRef {
    number: GroupNumber(1),
    home: ShardId(0),
};

fn said(s: &Script) -> Vec<Said> {
    let effects = s.effects.iter().filter_map(|effect| match effect {
        Effect::TellGroup {
            to: WhichGroup::Group(GROUP),
            said,
            ..
        } => Some(said.clone()),
        _ => None,
    });
    effects.collect()
}

#[test]
fn a_lease_that_its_client_refuses_is_settled_and_not_returned() {
    // [MQTT-4.8.2-6]
    let mut s = Script::attached("member");
    let filter = Filter::new("$share/g/t").unwrap();
    let fence = s.session.fence();
    s.input(Input::Packet {
        fence,
        packet: Inbound::Subscribe {
            packet_id: PacketId::FIRST,
            filters: vec![(
                filter.clone(),
                SubscriptionOptions::of_qos(QoS::AtLeastOnce),
                None,
            )],
        },
    });
    let at = Offset(900);
    let message = Arc::new(Message::new(parts("x")));
    s.input(Input::Leased(Leased {
        group: GROUP,
        filter,
        fence,
        what: Lease::Record { at, message },
    }));
    let (_, sent) = s.session.inflight().leases().next().unwrap();
    let packet_id = sent.packet_id;
    let failed = true;
    s.input(Input::Packet {
        fence,
        packet: Inbound::PubAck { packet_id, failed },
    });
    assert_eq!(said(&s), [Said::Settled(fence, at)]);
    assert!(s.session.inflight().is_empty());
}
