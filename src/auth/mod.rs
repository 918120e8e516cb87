//! Who a client is and what it may do: the seam between the wire and authenticators and authorizers.
//!
//! Owns: the traits, the anonymous implementation of both, SCRAM, and who belongs to which tenant. Does not know: packets,
//! sessions.

mod scram;
mod tenancy;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use outlive_actors::model::ids::{ClientId, Principal};
use outlive_actors::model::refusal::Refusal;

pub use scram::{ITERATIONS, METHOD, Scram, Users, UsersError, Verifier};
pub use tenancy::Tenancy;

/// What a client says about itself in its CONNECT.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The client id, assigned already if the client sent none.
    pub client_id: &'a ClientId,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// Where the connection comes from.
    pub peer: SocketAddr,
}

impl fmt::Debug for Credentials<'_> {
    /// Never prints passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The answer of an [`Authenticator`]: the principal, or the refusal that the client gets in its CONNACK.
pub type Authentication<'a> = Pin<Box<dyn Future<Output = Result<Principal, Refusal>> + 'a>>;

/// Decides who a client is.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Called once per CONNECT on the thread that accepted the connection, under the connect timeout. Work that blocks
    /// or computes for long (password hashes) belongs on a thread of its own.
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Authentication<'a>;

    /// Begins an exchange by `method` (enhanced authentication of 5.0), which takes the place of [`authenticate`]:
    /// for a CONNECT, or for a client that is connected already. `None`: the method is not offered.
    ///
    /// [`authenticate`]: Self::authenticate
    fn exchange(&self, method: &str) -> Option<Box<dyn Exchange>> {
        let _not_offered = method;
        None
    }
}

/// One exchange of enhanced authentication.
pub trait Exchange: Send + fmt::Debug {
    /// Takes what the client says, beginning with the authentication data of its CONNECT. Called on shard threads: it must
    /// answer from memory and without computing for long.
    ///
    /// # Errors
    /// Why the client is refused; the exchange is over.
    fn step(&mut self, data: &[u8]) -> Result<Step, Refusal>;
}

/// What an [`Exchange`] has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client must answer this.
    Continue(Vec<u8>),
    /// The client is who it says; the exchange is over.
    Done {
        /// Who it is.
        principal: Principal,
        /// The last word to the client.
        data: Vec<u8>,
    },
}

/// Decides what a principal may do. Called on shard threads for every packet: it must answer from memory. It hears client ids,
/// topics and filters as the client says them, whatever its tenant.
pub trait Authorizer: Send + Sync + fmt::Debug {
    /// Whether it never says no; then it is not asked at all.
    fn allows_all(&self) -> bool {
        false
    }

    /// Whether the client may publish to `topic`. Also asked for the topic of its will, at CONNECT.
    fn may_publish(&self, client_id: &ClientId, principal: &Principal, topic: &str) -> bool;

    /// Whether the client may subscribe to `filter`.
    fn may_subscribe(&self, client_id: &ClientId, principal: &Principal, filter: &str) -> bool;
}

/// Takes everybody for the anonymous principal, who may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Authenticator for Anonymous {
    fn authenticate<'a>(&'a self, _: Credentials<'a>) -> Authentication<'a> {
        Box::pin(std::future::ready(Ok(Principal::anonymous())))
    }
}

impl Authorizer for Anonymous {
    fn allows_all(&self) -> bool {
        true
    }

    fn may_publish(&self, _: &ClientId, _: &Principal, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &ClientId, _: &Principal, _: &str) -> bool {
        true
    }
}
