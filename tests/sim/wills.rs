//! What becomes of wills: published once if the connection ends otherwise, never after a DISCONNECT that dropped it.
//! A crash may publish one again, or forget that it was dropped.

use outlive_actors::model::ids::Fence;
use outlive_actors::model::packet::Inbound;

use crate::oracle::Post;
use crate::world::World;

/// A will that the broker took.
#[derive(Debug)]
pub(crate) struct Watched {
    post: Post,
    client: usize,
    /// The session's actor and the fence under which it took the will.
    holder: (u64, Fence),
    /// It has no delay, so that no resume can cancel it.
    at_once: bool,
    dropped: bool,
    excused: bool,
}

impl Watched {
    pub(crate) fn new(post: Post, client: usize, holder: (u64, Fence), at_once: bool) -> Self {
        Self {
            post,
            client,
            holder,
            at_once,
            dropped: false,
            excused: false,
        }
    }

    /// A crash came in between.
    pub(crate) fn excuse(&mut self) {
        self.excused = true;
    }
}

impl World {
    /// DISCONNECT from the holder of the fence drops the will or keeps it, and may change the expiry.
    pub(crate) fn watch_leave(&mut self, client: usize, holder: (u64, Fence), packets: &[Inbound]) {
        let attached = self.actor(client).filter(|actor| actor.link.is_some());
        if attached.map(|actor| (actor.incarnation, actor.fence)) != Some(holder) {
            return;
        }
        for packet in packets {
            let Inbound::Disconnect {
                with_will,
                expiry_seconds,
            } = packet
            else {
                continue;
            };
            let seconds = &mut self.last_held_at[client].1;
            *seconds = expiry_seconds.map_or(*seconds, |asked| asked.max(*seconds));
            for will in &mut self.wills {
                will.dropped |= !with_will && will.client == client && will.holder == holder;
            }
        }
    }

    pub(crate) fn excuse_wills_of(&mut self, client: usize) {
        let wills = self.wills.iter_mut();
        wills
            .filter(|will| will.client == client)
            .for_each(Watched::excuse);
    }

    /// Nobody is connected any more.
    pub(crate) fn check_wills(&self) {
        for will in self.wills.iter().filter(|will| !will.excused) {
            let routed = self.oracle.posts[will.post].routed;
            assert!(routed <= 1, "published {routed} times: {will:?}");
            assert!(routed == 0 || !will.dropped, "published: {will:?}");
            assert!(
                routed == 1 || will.dropped || !will.at_once,
                "not published: {will:?}"
            );
        }
    }
}
