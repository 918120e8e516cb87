//! Who may use the API below `/api`.
//!
//! With `admin.token`, whoever shows it. Without, whoever reaches the pages may look, and change something only if these
//! are on loopback and the request was made for it: a web page that somebody on this machine has open can send requests
//! here, too, but neither JSON by PUT nor, with a name of its own that leads here, a host that is an address.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HOST};

use super::api::Denied;

/// The guard.
#[derive(Clone)]
pub struct Guard {
    token: Option<String>,
    is_loopback: bool,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("has_token", &self.token.is_some())
            .field("is_loopback", &self.is_loopback)
            .finish()
    }
}

impl Guard {
    /// For pages at `address`; an empty token is none.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            token: (!token.is_empty()).then(|| token.to_owned()),
            is_loopback: address.ip().is_loopback(),
        }
    }

    /// Whether the request may look.
    pub(super) fn may_look(&self, request: &HttpRequest) -> Result<(), Denied> {
        match &self.token {
            None => Ok(()),
            Some(token) if shown(request).is_some_and(|shown| is_same(shown, token)) => Ok(()),
            Some(_) => Err(Denied::Token),
        }
    }

    /// Whether the request may change something.
    pub(super) fn may_change(&self, request: &HttpRequest) -> Result<(), Denied> {
        self.may_look(request)?;
        if self.token.is_some() || (self.is_loopback && names_an_address(request)) {
            Ok(())
        } else {
            Err(Denied::NeedsToken)
        }
    }
}

fn shown(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ")
}

/// Takes as long whether they differ early or late.
fn is_same(a: &str, b: &str) -> bool {
    let differing = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && differing == 0
}

fn names_an_address(request: &HttpRequest) -> bool {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let name = host.map(|host| match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    });
    name.is_some_and(|name| name == "localhost" || name.parse::<IpAddr>().is_ok())
}
