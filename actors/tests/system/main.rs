//! The actor system in one process, on journal and store doubles that can be crashed, with a clock turned by hand.
//!
//! Nothing sleeps: a test waits for an observable fact, and fails loudly if it does not come in time.

mod client;
mod crash;
mod quota;
mod rehydration;
mod supervision;
mod world;
