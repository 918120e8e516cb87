//! Metrics, health and status over HTTP.
//!
//! Owns the pages and their form. Does not know where numbers come from ([`MetricsSource`]) nor how the broker starts
//! ([`Readiness`]).
//!
//! - No page outside of `/api` changes anything, and none waits for a session, a disk or a client.
//! - The pages ask for no password; the configuration keeps them on loopback unless told otherwise. `/api` has a guard.
//! - The server takes no signals: ending the process is the broker's business.

mod api;
mod guard;
mod metrics;
mod readiness;
mod server;
mod sources;
mod status;

pub use api::{Api, QuotaApi};
pub use guard::Guard;
pub use metrics::{Labels, MetricKind, MetricsSource, Sample, broker_samples, exposition};
pub use readiness::{Missing, Readiness};
pub use server::{Admin, start};
pub use sources::{ActorMetrics, WireMetrics};
