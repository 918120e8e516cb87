//! The actor system in one process, on journal and store doubles that can be crashed, with a clock turned by hand.
//!
//! Nothing sleeps: a test waits for an observable fact, and fails loudly if it does not come in time.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one packet and does not care what else there is"
)]

mod backlog;
mod client;
mod clocks;
mod crash;
mod fan_out;
mod fights;
mod gate;
mod groups;
mod handover;
mod quota;
mod rehydration;
mod retained;
mod room;
mod supervision;
mod switch;
mod vitals;
mod wills;
mod world;
