//! The MQTT broker outlive: configuration, wire and administration around the actor system of `outlive-actors`.

pub mod admin;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod config;
pub mod groups;
pub mod mqtt;
pub mod quota;
pub mod telemetry;
