//! Section `shared`: groups of subscribers that share what they subscribe to.

use outlive_actors::model::group::directory::is_name;
use serde::{Deserialize, Serialize};

/// Shared subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedConfig {
    /// How a group chooses the member that gets a message.
    pub strategy: Strategy,
    /// Declared groups, as `name` or `name=strategy`.
    pub groups: Vec<String>,
    /// Whether other groups are refused.
    pub require_declared_groups: bool,
    /// Groups by name; 0 = none.
    pub groups_max: u32,
    /// Filters of one group; 0 = none.
    pub filters_per_group_max: u32,
    /// Member sessions of one group; 0 = none.
    pub members_per_group_max: u32,
    /// Subscribes and unsubscribes of one group within a second; 0 = none.
    pub changes_per_second_max: u32,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::RoundRobin,
            groups: Vec::new(),
            require_declared_groups: false,
            groups_max: 1000,
            filters_per_group_max: 100,
            members_per_group_max: 1024,
            changes_per_second_max: 1000,
        }
    }
}

/// How a group chooses the member that gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One after the other.
    RoundRobin,
    /// Any, with the same chance.
    Random,
    /// Who has the fewest unsettled.
    LeastInflight,
    /// The same one, as long as it can.
    Sticky,
    /// The same one for the same publisher.
    HashPublisher,
    /// The same one for the same topic.
    HashTopic,
}

impl From<outlive_actors::model::group::Strategy> for Strategy {
    fn from(strategy: outlive_actors::model::group::Strategy) -> Self {
        use outlive_actors::model::group::Strategy as Chosen;
        match strategy {
            Chosen::RoundRobin => Self::RoundRobin,
            Chosen::Random => Self::Random,
            Chosen::LeastInflight => Self::LeastInflight,
            Chosen::Sticky => Self::Sticky,
            Chosen::HashPublisher => Self::HashPublisher,
            Chosen::HashTopic => Self::HashTopic,
        }
    }
}

impl From<Strategy> for outlive_actors::model::group::Strategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::RoundRobin => Self::RoundRobin,
            Strategy::Random => Self::Random,
            Strategy::LeastInflight => Self::LeastInflight,
            Strategy::Sticky => Self::Sticky,
            Strategy::HashPublisher => Self::HashPublisher,
            Strategy::HashTopic => Self::HashTopic,
        }
    }
}

/// The name of a declared group, and its strategy if it has one of its own; `None` if the text names no group.
pub(crate) fn declared(
    text: &str,
) -> Option<(&str, Option<outlive_actors::model::group::Strategy>)> {
    let (name, strategy) = match text.rsplit_once('=') {
        Some((name, strategy)) => {
            let strategy = outlive_actors::model::group::Strategy::named(strategy)?;
            (name, Some(strategy))
        }
        None => (text, None),
    };
    is_name(name).then_some((name, strategy))
}
