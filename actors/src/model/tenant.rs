//! Tenants: clients whose ids, topics and groups are apart from those of others.
//!
//! Owns: how what a client says (its **own** id, topic, filter) becomes what the broker knows it by, and back. Does not
//! know: who belongs to which tenant. Who has no tenant is known by what it says.
//!
//! | a client of tenant `t` says | the broker knows |
//! | --- | --- |
//! | client id `c` | `t␀c` |
//! | topic or filter `a/b`, `+/b`, `#` | `t␀/a/b`, `t␀/+/b`, `t␀/#` |
//! | topic or filter `$x/b` | `t␀$x/b` |
//! | filter `$share/g/a/+` | `$share/t␀g/t␀/a/+` |
//!
//! `␀` is U+0000, which the door lets into no text of a client. So the first level of all that belongs to a tenant is a
//! name that nobody else can say and no wildcard of anybody else stands for; and as topics that begin with `$` have a
//! first level of their own, a leading wildcard does not match them ([MQTT-4.7.2-1]), though no matcher knows of tenants.
//!
//! Invariant: own texts match exactly if what the broker knows them by does, and nothing of another tenant matches.

use std::fmt;
use std::sync::Arc;

use super::ids::ClientId;
use super::topic::Filter;

/// Behind the name of a tenant.
const END: char = '\0';

/// The most bytes of a tenant's name.
pub const TENANT_BYTES_MAX: usize = 255;

/// A tenant. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Tenant {
    /// What its ordinary topics begin with: the name, [`END`] and `/`.
    prefix: Arc<str>,
}

impl Tenant {
    /// `None` if a tenant cannot be called so: empty, above [`TENANT_BYTES_MAX`], or with U+0000, `/`, `+` or `#`, which
    /// would not make one level of a topic.
    pub fn new(name: &str) -> Option<Self> {
        let valid =
            (1..=TENANT_BYTES_MAX).contains(&name.len()) && !name.contains([END, '/', '+', '#']);
        valid.then(|| Self {
            prefix: format!("{name}{END}/").into(),
        })
    }

    /// Whose client id this is; `None` if it is nobody's but the client's.
    pub fn of(client_id: &ClientId) -> Option<Self> {
        client_id.tenant().and_then(Self::new)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.prefix[..self.prefix.len() - "\0/".len()]
    }

    /// What the broker knows a client by whose own id is `own`.
    pub fn client_id(&self, own: &str) -> ClientId {
        ClientId::from(format!("{}{own}", self.end()).as_str())
    }

    /// What the broker knows a filter of one of its clients by.
    pub fn filter(&self, own: &Filter) -> Filter {
        match own.share() {
            Some((group, plain)) => {
                let (end, plain) = (self.end(), plain.as_str());
                Filter::known(&format!(
                    "$share/{end}{group}/{}{plain}",
                    self.prefix_of(plain)
                ))
            }
            None => {
                let own = own.as_str();
                Filter::known(&format!("{}{own}", self.prefix_of(own)))
            }
        }
    }

    /// What the broker puts in front of a topic or filter of one of its clients.
    pub fn prefix_of(&self, own: &str) -> &str {
        match own.starts_with('$') {
            true => self.end(),
            false => &self.prefix,
        }
    }

    /// How many bytes of `topic`, which is one of its topics or filters, the broker put in front.
    ///
    /// # Panics
    /// If it belongs to somebody else: rather no answer than a message of another tenant.
    pub fn prefix_bytes(&self, topic: &[u8]) -> usize {
        let own = topic.strip_prefix(self.end().as_bytes());
        let own = own.expect("nothing of another tenant comes here");
        self.end().len() + usize::from(own.first() == Some(&b'/'))
    }

    /// The name and [`END`].
    fn end(&self) -> &str {
        &self.prefix[..self.prefix.len() - 1]
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tenant").field(&self.name()).finish()
    }
}

/// Takes apart what the broker knows a client or a group by: its tenant, if it has one, and its own name.
pub(super) fn split(known: &str) -> (Option<&str>, &str) {
    match known.split_once(END) {
        Some((tenant, own)) => (Some(tenant), own),
        None => (None, known),
    }
}

/// A filter as its client said it, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFilter {
    /// The tenant's name.
    pub tenant: Option<String>,
    /// The group, of a shared subscription.
    pub group: Option<String>,
    /// The filter; of a shared subscription what its group reads.
    pub filter: String,
}

impl From<&Filter> for OwnFilter {
    fn from(known: &Filter) -> Self {
        let share = known.share();
        let (group, plain) = match &share {
            Some((group, plain)) => (Some(split(group).1), plain),
            None => (None, known),
        };
        let (tenant, own) = split(plain.as_str());
        let own = match tenant {
            Some(_) => own.strip_prefix('/').unwrap_or(own),
            None => own,
        };
        Self {
            tenant: tenant.map(str::to_owned),
            group: group.map(str::to_owned),
            filter: own.to_owned(),
        }
    }
}

/// For people: `tenant:filter`.
impl fmt::Display for OwnFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = &self.tenant {
            write!(f, "{tenant}:")?;
        }
        if let Some(group) = &self.group {
            write!(f, "$share/{group}/")?;
        }
        f.write_str(&self.filter)
    }
}

#[cfg(test)]
mod tests;
