//! Counting who is there, when somebody asks.

use actix::{Context, Handler, MessageResult};

use super::super::local::Presence;
use super::super::protocol::TakeCensus;
use super::ShardActor;
use crate::model::census::{Census, Counted};

impl Handler<TakeCensus> for ShardActor {
    type Result = MessageResult<TakeCensus>;

    /// One look at every session of the shard: a million takes some tens of milliseconds, and nothing in between.
    fn handle(&mut self, _: TakeCensus, _: &mut Context<Self>) -> Self::Result {
        let local = self.local.borrow();
        let mut census = Census::new(local.shared.clock.now());
        for (client_id, resident) in &local.directory {
            let stay = &resident.stay;
            let counted = match stay.presence {
                Presence::Vacant => continue,
                Presence::Online => Counted::Online,
                Presence::Offline => Counted::Offline {
                    expires_at: stay.expires_at,
                },
            };
            census.count(client_id, counted, stay.resumed);
        }
        MessageResult(census)
    }
}
