//! The actors: thin hands of the model. An actor file never imports another; they meet in [`protocol`].

pub mod appender;
pub mod checkpointer;
pub mod group;
pub mod intake;
pub mod local;
pub mod protocol;
pub mod recovery;
pub mod registry;
pub mod session;
pub mod shard;
pub mod shared;
