//! The pure model: every decision of the broker, synchronous and told the time.
//!
//! Architecture invariant: nothing in here is async, reads a clock, draws a random number, does I/O or iterates in hash
//! order. The model decides, the actors perform.

pub mod census;
pub mod counter;
pub mod cursor;
pub mod effect;
pub mod effects;
pub mod entry;
pub mod fights;
pub mod filter_map;
pub mod group;
pub mod ids;
pub mod inflight;
pub mod invariants;
pub mod lazy;
pub mod limits;
pub mod message;
mod numbers;
pub mod packet;
pub mod past;
pub mod quota;
pub mod record;
pub mod refusal;
pub mod retained;
pub mod routes;
pub mod session;
pub mod snapshot;
pub mod subscriptions;
pub mod tally;
pub mod tenant;
pub mod topic;
