//! The embeddable actor system of outlive: one actor per MQTT session, supervised, rebuilt from snapshot and journal.
//!
//! Architecture invariant: this crate never names ntex; what crosses its border are values of [`model`] and the
//! messages of [`actor::protocol`].

pub mod actor;
pub mod clock;
pub mod durable;
pub mod journal;
pub mod model;
pub mod observe;
pub mod store;
pub mod supervise;
pub mod system;
