//! outlive, an MQTT broker whose sessions outlive their connections: the broker around the actor system.

pub mod auth;
pub mod mqtt;
