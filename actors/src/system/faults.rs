//! How tests make things die.

use std::sync::Arc;

use super::{ActorSystem, Engine, StartError, SystemConfig, start};
use crate::clock::Clock;
use crate::supervise::faults::{Die, Fault, GroupFault};
use crate::supervise::vitals::Vital;

impl ActorSystem {
    /// As [`Self::start`], on files and a store that the caller made: `config.data_dir` is not looked at.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_with(
        config: SystemConfig,
        clock: Arc<dyn Clock>,
        engine: Engine,
    ) -> Result<Self, StartError> {
        start::start(config, clock, engine, None).await
    }

    /// From now on `fault` is called before every effect that a session performs.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.inject(fault);
    }

    /// From now on `fault` is called before every effect that a group performs.
    pub fn inject_group(&self, fault: GroupFault) {
        self.shared.faults.inject_group(fault);
    }

    /// Lets a part panic in its next turn.
    pub fn kill(&self, part: Vital) {
        match part {
            Vital::Appender => self.shared.appender.die(),
            Vital::Checkpointer => self.shared.checkpointer.die(),
            Vital::Registry => self.registry.do_send(Die),
            Vital::Shard(shard) => self.shards[usize::from(shard.0)].address.do_send(Die),
        }
    }
}
