//! The broker as its clients see it: the real program, over TCP, through kill -9.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one packet and does not care what else there is"
)]
#![expect(
    clippy::print_stdout,
    reason = "a failed test shows the log of its broker"
)]

mod abuse;
mod backup;
mod client;
mod connect;
mod crash;
mod frames;
mod goodbye;
mod groups;
mod harness;
mod limits;
mod loss;
mod messages;
mod network;
mod proxy;
mod qos2;
mod quota;
mod replay;
mod retained;
mod scram;
mod sessions;
mod shared;
mod shutdown;
mod subscriptions;
mod tenancy;
mod versions;
mod will;
mod wire;
