//! The durable state of a session is the fold of its journal entries: at rest both say the same.

use outlive_actors::model::entry::{Step, Unsettled};
use outlive_actors::model::session::Session;

use crate::journal::Journal;

/// Compares a detached session with the fold.
pub(crate) fn agrees(journal: &Journal, session: &Session) {
    let number = session.number();
    let fold = journal
        .folded
        .get(&number)
        .expect("a kept session has a snapshot");
    assert_eq!(fold.fence, session.fence(), "{number:?}: fence");
    assert_eq!(
        fold.subscriptions,
        session.subscriptions().iter().cloned().collect::<Vec<_>>(),
        "{number:?}: subscriptions"
    );
    assert_eq!(&fold.past, session.past(), "{number:?}: past subscriptions");
    assert_eq!(
        fold.replays,
        session.replays().cloned().collect::<Vec<_>>(),
        "{number:?}: replays"
    );
    let by_id = |mut sent: Vec<Unsettled>| {
        sent.sort_by_key(|sent| sent.packet_id);
        sent
    };
    let unsettled = fold.unsettled.iter().copied();
    assert_eq!(
        by_id(unsettled.filter(|sent| sent.step != Step::Done).collect()),
        by_id(session.inflight().iter().copied().collect()),
        "{number:?}: window"
    );
    let mut received = fold.received.clone();
    received.sort_unstable();
    assert_eq!(
        received,
        session.received().collect::<Vec<_>>(),
        "{number:?}: received"
    );
    assert_eq!(
        fold.expires_at(),
        session.expires_at(),
        "{number:?}: expiry"
    );
    assert_eq!(fold.next, session.cursor().next(), "{number:?}: cursor");
    assert_eq!(
        fold.next_packet_id,
        session.inflight().next_packet_id(),
        "{number:?}: next packet identifier"
    );
}
