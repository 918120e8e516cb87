//! The topic aliases that a 5.0 client sets on one connection (5.0 section 3.3.2.3.4).

use std::sync::Arc;

use outlive_actors::model::refusal::Refusal;

/// The topic of alias n at n - 1. Grows as aliases are set.
#[derive(Debug, Default)]
pub(super) struct Aliases(Vec<Option<Arc<str>>>);

impl Aliases {
    /// The topic that `alias`, of at most `max`, stands for, after setting it to `topic` unless that is empty.
    pub(super) fn resolve(
        &mut self,
        alias: u16,
        topic: &str,
        max: u16,
    ) -> Result<Arc<str>, Refusal> {
        // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
        if alias > max {
            return Err(Refusal::TopicAlias);
        }
        let at = usize::from(alias)
            .checked_sub(1)
            .ok_or(Refusal::TopicAlias)?;
        let Self(aliases) = self;
        if topic.is_empty() {
            return aliases.get(at).cloned().flatten().ok_or(Refusal::Protocol);
        }
        if aliases.len() <= at {
            aliases.resize(at + 1, None);
        }
        let slot = &mut aliases[at];
        match slot {
            Some(known) if &**known == topic => Ok(Arc::clone(known)),
            _ => Ok(Arc::clone(slot.insert(Arc::from(topic)))),
        }
    }
}
