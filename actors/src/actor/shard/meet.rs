//! How a shard begins to work: once all shards know what survived.

use std::fmt;

use actix::{AsyncContext, Context, Handler, Message, Recipient};

use super::{ShardActor, TICK};
use crate::actor::local::Local;
use crate::actor::protocol::{GroupBatch, RouteBatch};

/// All shards are there, and the routes of all sessions that survived are built. Answered once the first turn is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Meet {
    /// Where publications for other shards go, by number.
    pub routes: Vec<Recipient<RouteBatch>>,
    /// Where the words of groups and their members go, by number.
    pub groups: Vec<Recipient<GroupBatch>>,
    /// The first turn: what is published in it reaches all who read it.
    pub first: Box<dyn FnOnce(&mut Local) + Send>,
}

impl fmt::Debug for Meet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meet").finish_non_exhaustive()
    }
}

impl Handler<Meet> for ShardActor {
    type Result = ();

    /// No deadline comes due before: a will would miss the readers of shards that are not there yet.
    fn handle(&mut self, meet: Meet, ctx: &mut Context<Self>) {
        let mut local = self.local.borrow_mut();
        local.meet(meet.routes, meet.groups);
        (meet.first)(&mut local);
        local.flush_unanswered();
        drop(local);
        ctx.run_interval(TICK, |shard, ctx| {
            shard.tick(ctx);
            shard.tick_groups();
            shard.look_after_drain();
        });
    }
}
