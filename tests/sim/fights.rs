//! Two clients that fight over one client id: takeovers beyond a number wait for their turn. As `actor/shard.rs`.

use outlive_actors::model::fights::FREE;
use outlive_actors::model::refusal::Refusal;

use crate::seen::Seen;
use crate::world::{Link, Turn, World};

/// How long one more takeover than the free ones waits.
pub(crate) const PAUSE_MILLIS: u64 = 1000;

impl World {
    /// A CONNECT reaches the broker: does what it asks, unless its client id is fought over.
    pub(crate) fn receive(&mut self, client: usize, at: u64) {
        let turn = self.links.get(&at).map(|link| link.turn);
        if turn != Some(Turn::First) {
            return self.attach(client, at);
        }
        let id = self.clients[client].id.clone();
        if let Some(before) = self.fights.displaced(&id, |_| true) {
            self.note(|| format!("link {before} waited in vain"));
            self.saw(Seen::TakeoverRefused);
            if let Some(link) = self.links.get_mut(&before) {
                link.connect = None;
            }
            self.close(before, Some(Refusal::TakeoverRate));
        }
        let displaces = self
            .actor(client)
            .is_some_and(|actor| actor.session.is_attached());
        let now = self.time;
        let due = displaces.then(|| self.fights.takeover(now, &id)).flatten();
        let Some(due) = due else {
            return self.attach(client, at);
        };
        let wait = due.millis_since(now);
        assert!((1..=PAUSE_MILLIS).contains(&wait), "{id} waits {wait} ms");
        self.note(|| format!("link {at} waits until {due:?}"));
        self.saw(Seen::TakeoverDelayed);
        self.fights.wait(now, due, id, at);
        if let Some(link) = self.links.get_mut(&at) {
            link.turn = Turn::Waits;
        }
    }

    /// Connections whose time has come.
    pub(crate) fn fights_go_on(&mut self) {
        for at in self.fights.due(self.time) {
            if let Some(link) = self.links.get_mut(&at) {
                link.turn = Turn::Comes;
            }
        }
    }

    /// Time passes if somebody waits for nothing else.
    pub(crate) fn fights_end(&mut self) {
        let waits = |link: &Link| link.turn == Turn::Waits && link.connect.is_some();
        if self.links.values().any(waits) {
            self.goes_by(self.time.plus_millis(PAUSE_MILLIS));
            self.fights_go_on();
        }
    }

    /// Somebody else uses the client's id: both connect as fast as they can.
    pub(crate) fn fight(&mut self, client: usize) {
        for _ in 0..FREE + 5 {
            let now = self.time;
            if self.clients[client].link.is_some() {
                self.clients[client].lost(now);
            }
            self.connect(client, false);
            self.up_on(self.links_made);
            if self.rng.permille(100) {
                self.time_passes();
            }
        }
    }

    /// A session was taken over: in any time no more often than is free, and once for each pause.
    pub(crate) fn watch_takeover(&mut self, client: usize) {
        let now = self.time;
        let taken = &mut self.takeovers[client];
        taken.push(now);
        for (at, since) in taken.iter().enumerate() {
            let count = (taken.len() - at) as u64;
            let most = FREE + 1 + now.millis_since(*since) / PAUSE_MILLIS;
            assert!(
                count <= most,
                "client {client} was taken over {count} times since {since:?}"
            );
        }
    }
}
