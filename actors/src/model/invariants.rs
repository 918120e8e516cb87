//! Whole-state checks: pure predicates shared by the model, the simulation and debug builds.

use super::session::Session;

/// What must hold of a session after every input.
///
/// # Panics
/// In debug builds, if something does not: a fault of the model, never of a peer.
pub fn session(session: &Session) {
    debug_assert!(
        session.is_begun() || !session.is_attached(),
        "a connection is attached to no session"
    );
    debug_assert!(
        session.is_attached() || session.expires_at().is_some() || !session.is_begun(),
        "a detached session has no deadline"
    );
    debug_assert!(
        session.is_kept() || session.is_attached() || !session.is_begun(),
        "a transient session outlived its connection"
    );
    debug_assert!(
        packet_ids_are_unique(session),
        "a packet identifier is held twice"
    );
}

fn packet_ids_are_unique(session: &Session) -> bool {
    let mut ids: Vec<_> = session
        .inflight()
        .iter()
        .map(|sent| sent.packet_id)
        .collect();
    ids.sort_unstable();
    ids.windows(2).all(|pair| pair[0] != pair[1])
}
