//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the broker's side, without channel binding.
//!
//! Owns: the users of a file, and the messages of an exchange. Does not know: packets.
//!
//! The client proves that it knows its password without sending it, and the broker that it knows the user. The file holds
//! keys from which no password can be read, in the form that PostgreSQL has, one user per line:
//! `name:SCRAM-SHA-256$iterations:salt$stored-key:server-key`, the last three in base64. Names and passwords are taken as
//! they are: no SASLprep.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use outlive_actors::model::ids::Principal;
use outlive_actors::model::refusal::Refusal;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Authentication, Authenticator, Credentials, Exchange, Step};

/// The name of the method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Iterations of a new user, if nobody says otherwise: the least that RFC 7677 allows. Each connect costs a device as many
/// hashes, and the broker a handful whatever the number is.
pub const ITERATIONS: u32 = 4096;

/// The longest message of a client.
const MESSAGE_BYTES_MAX: usize = 4096;

type Key = [u8; 32];

/// Why a file of users cannot be used.
#[derive(Debug, Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A line is not of the form.
    #[error("line {0} is not of the form name:SCRAM-SHA-256$iterations:salt$stored-key:server-key")]
    Form(usize),
    /// A name stands there twice.
    #[error("line {0} names a user that an earlier one names, too")]
    Twice(usize),
    /// The system has no randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

/// What the broker keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// For `password`.
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Key::default();
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(mac(&salted, b"Client Key")).into(),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(METHOD)?.strip_prefix('$')?;
        let (salting, keys) = text.split_once('$')?;
        let (iterations, salt) = salting.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text| Key::try_from(BASE64.decode(text).ok()?).ok();
        Some(Self {
            iterations: iterations.parse().ok().filter(|count| *count > 0)?,
            salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

impl fmt::Display for Verifier {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        write!(f, "{METHOD}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    /// Never prints keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// Users by name.
#[derive(Debug)]
pub struct Users {
    verifiers: BTreeMap<Box<str>, Verifier>,
    /// What the salts of users that do not exist are made of.
    pepper: Key,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// [`UsersError`].
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// As [`Self::load`], of what is in such a file.
    ///
    /// # Errors
    /// [`UsersError`].
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut pepper = Key::default();
        getrandom::fill(&mut pepper).map_err(UsersError::Random)?;
        let mut verifiers = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            // A name may hold colons, a verifier begins with the method.
            let at = line.rfind(":SCRAM-SHA-256$");
            let (name, verifier) = at
                .map(|at| (&line[..at], &line[at + 1..]))
                .filter(|(name, _)| !name.is_empty())
                .ok_or(UsersError::Form(number))?;
            let verifier = Verifier::parse(verifier.trim_end()).ok_or(UsersError::Form(number))?;
            if verifiers.insert(Box::from(name), verifier).is_some() {
                return Err(UsersError::Twice(number));
            }
        }
        Ok(Self { verifiers, pepper })
    }

    /// Of a user that does not exist: a verifier that nobody passes, with the same salt each time, so that a guess at names
    /// learns nothing.
    fn stranger(&self, name: &str) -> Verifier {
        let salt = mac(&self.pepper, name.as_bytes());
        let key = mac(&self.pepper, &salt);
        Verifier {
            iterations: ITERATIONS,
            salt: salt[..16].to_vec(),
            stored_key: key,
            server_key: key,
        }
    }
}

/// Lets users in that prove who they are, and those who show nothing as far as the configuration says.
#[derive(Debug)]
pub struct Scram {
    users: Arc<Users>,
    allow_anonymous: bool,
}

impl Scram {
    /// With these users. Who shows nothing gets in from this machine, and with `allow_anonymous` from everywhere.
    pub fn new(users: Users, allow_anonymous: bool) -> Self {
        Self {
            users: Arc::new(users),
            allow_anonymous,
        }
    }
}

impl Authenticator for Scram {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Authentication<'a> {
        let allowed = self.allow_anonymous || credentials.peer.ip().is_loopback();
        let answer = allowed
            .then(Principal::anonymous)
            .ok_or(Refusal::NotAuthorized);
        Box::pin(std::future::ready(answer))
    }

    fn exchange(&self, method: &str) -> Option<Box<dyn Exchange>> {
        let mut nonce = [0; 18];
        if method != METHOD || getrandom::fill(&mut nonce).is_err() {
            return None;
        }
        Some(Box::new(ScramExchange {
            users: Arc::clone(&self.users),
            nonce: BASE64.encode(nonce),
            begun: None,
        }))
    }
}

/// One exchange.
#[derive(Debug)]
struct ScramExchange {
    users: Arc<Users>,
    /// The broker's half.
    nonce: String,
    /// From the first message on.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    name: String,
    known: bool,
    verifier: Verifier,
    /// What the client said about channel binding.
    header: String,
    /// Both halves.
    nonce: String,
    /// The first message of each side, as they are signed.
    said: String,
}

impl Exchange for ScramExchange {
    fn step(&mut self, data: &[u8]) -> Result<Step, Refusal> {
        let message = std::str::from_utf8(data)
            .ok()
            .filter(|message| message.len() <= MESSAGE_BYTES_MAX)
            .ok_or(Refusal::Credentials)?;
        match self.begun.take() {
            None => {
                let (begun, answer) = self.first(message).ok_or(Refusal::Credentials)?;
                self.begun = Some(begun);
                Ok(Step::Continue(answer.into_bytes()))
            }
            Some(begun) => last(&begun, message).ok_or(Refusal::Credentials),
        }
    }
}

impl ScramExchange {
    /// The client says who it is; it gets its salt.
    fn first(&self, message: &str) -> Option<(Begun, String)> {
        // "y" means that the client could bind to a channel and saw that the broker does not offer it.
        let mut parts = message.splitn(3, ',');
        let (binding, authorization, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(binding, "n" | "y") || !authorization.is_empty() {
            return None;
        }
        let mut attributes = bare.split(',');
        let name = unescaped(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let found = self.users.verifiers.get(name.as_str());
        let verifier = found.cloned().unwrap_or_else(|| self.users.stranger(&name));
        let nonce = format!("{nonce}{}", self.nonce);
        let salt = BASE64.encode(&verifier.salt);
        let answer = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let begun = Begun {
            known: found.is_some(),
            name,
            verifier,
            header: BASE64.encode(format!("{binding},,")),
            nonce,
            said: format!("{bare},{answer}"),
        };
        Some((begun, answer))
    }
}

/// The client proves that it knows the password; the broker, that it knows the user.
fn last(begun: &Begun, message: &str) -> Option<Step> {
    let (unproven, proof) = message.rsplit_once(",p=")?;
    let mut attributes = unproven.split(',');
    if attributes.next()?.strip_prefix("c=")? != begun.header
        || attributes.next()?.strip_prefix("r=")? != begun.nonce
    {
        return None;
    }
    let proof = Key::try_from(BASE64.decode(proof).ok()?).ok()?;
    let signed = format!("{},{unproven}", begun.said);
    let signature = mac(&begun.verifier.stored_key, signed.as_bytes());
    let client_key: Vec<u8> = signature.iter().zip(proof).map(|(a, b)| a ^ b).collect();
    // Both sides are hashes: how far they agree tells nothing about the key.
    let proven = Sha256::digest(client_key)[..] == begun.verifier.stored_key;
    if !(proven && begun.known) {
        return None;
    }
    let verification = mac(&begun.verifier.server_key, signed.as_bytes());
    Some(Step::Done {
        principal: Principal::from(begun.name.as_str()),
        data: format!("v={}", BASE64.encode(verification)).into_bytes(),
    })
}

/// A name as SCRAM sends it: `,` and `=` are `=2C` and `=3D`.
fn unescaped(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        let (code, behind) = after.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = behind;
    }
    name.push_str(rest);
    (!name.is_empty()).then_some(name)
}

fn mac(key: &[u8], message: &[u8]) -> Key {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Key::default();
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
