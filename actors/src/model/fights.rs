//! Two clients with one client id take the session from each other for ever, each as fast as it can reconnect. Takeovers
//! in a row are free up to a number; from then on each waits until some time has passed.
//!
//! Invariants: at most one connection waits for a client id, the last one; what is kept of a client id is as much however
//! often it is taken over, and is forgotten when it no longer counts.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::ids::{ClientId, Timestamp};

/// Takeovers of one session in a row that nothing slows down.
pub const FREE: u64 = 20;

/// Milliseconds between two moments at which fights are worth a word.
const NOTE_MILLIS: u64 = 10_000;

/// Sessions that were taken over lately, and the connections `R` that wait for their turn.
#[derive(Debug)]
pub struct Fights<R> {
    /// How long one more takeover than the free ones waits; 0: nobody waits.
    pause_millis: u64,
    /// When all takeovers of a session would be over, were there a pause behind each.
    paid_at: HashMap<ClientId, Timestamp>,
    /// When to look whether a session's takeovers still count: once for each in `paid_at`.
    forgotten: VecDeque<(Timestamp, ClientId)>,
    waiting: BTreeMap<(Timestamp, ClientId), R>,
    due_of: HashMap<ClientId, Timestamp>,
    /// When somebody was last told of a fight.
    noted_at: Timestamp,
}

impl<R> Fights<R> {
    /// No fights; one more takeover than the free ones waits `pause_millis`, or never if that is 0.
    pub fn new(pause_millis: u64) -> Self {
        Self {
            pause_millis,
            paid_at: HashMap::new(),
            forgotten: VecDeque::new(),
            waiting: BTreeMap::new(),
            due_of: HashMap::new(),
            noted_at: Timestamp(0),
        }
    }

    /// A connection would take a session over: when it may, if not now.
    pub fn takeover(&mut self, now: Timestamp, client_id: &ClientId) -> Option<Timestamp> {
        if self.pause_millis == 0 {
            return None;
        }
        // However long a fight lasts, it is looked after once.
        if !self.paid_at.contains_key(client_id) {
            self.forgotten
                .push_back((now.plus_millis(self.pause_millis), client_id.clone()));
        }
        let paid_at = self.paid_at.entry(client_id.clone()).or_insert(now);
        *paid_at = (*paid_at).max(now).plus_millis(self.pause_millis);
        let free = FREE * self.pause_millis;
        let due = Timestamp(paid_at.0.saturating_sub(free));
        (due > now).then_some(due)
    }

    /// Lets a connection wait until `due`. Gives whether that is worth a word: not each time.
    pub fn wait(
        &mut self,
        now: Timestamp,
        due: Timestamp,
        client_id: ClientId,
        request: R,
    ) -> bool {
        let is_news = now.millis_since(self.noted_at) >= NOTE_MILLIS;
        if is_news {
            self.noted_at = now;
        }
        self.due_of.insert(client_id.clone(), due);
        self.waiting.insert((due, client_id), request);
        is_news
    }

    /// The connection that waits for a session, if one does and may be displaced: somebody else came behind it.
    pub fn displaced(&mut self, client_id: &ClientId, may: impl FnOnce(&R) -> bool) -> Option<R> {
        if self.due_of.is_empty() {
            return None;
        }
        let due = *self.due_of.get(client_id)?;
        let key = (due, client_id.clone());
        if !self.waiting.get(&key).is_some_and(may) {
            return None;
        }
        self.due_of.remove(client_id);
        // It did not take anything over.
        if let Some(paid_at) = self.paid_at.get_mut(client_id) {
            paid_at.0 = paid_at.0.saturating_sub(self.pause_millis);
        }
        self.waiting.remove(&key)
    }

    /// The connections whose time has come.
    pub fn due(&mut self, now: Timestamp) -> Vec<R> {
        while let Some((at, _)) = self.forgotten.front()
            && *at <= now
            && let Some((_, client_id)) = self.forgotten.pop_front()
        {
            match self.paid_at.get(&client_id) {
                Some(paid_at) if *paid_at <= now => {
                    self.paid_at.remove(&client_id);
                }
                Some(paid_at) => self.forgotten.push_back((*paid_at, client_id)),
                None => {}
            }
        }
        let mut due = Vec::new();
        while let Some(((at, _), _)) = self.waiting.first_key_value()
            && *at <= now
            && let Some(((_, client_id), request)) = self.waiting.pop_first()
        {
            self.due_of.remove(&client_id);
            due.push(request);
        }
        due
    }

    /// All connections that wait.
    pub fn drain(&mut self) -> impl Iterator<Item = R> {
        self.due_of.clear();
        std::mem::take(&mut self.waiting).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE_MILLIS: u64 = 1000;

    #[test]
    fn a_fight_takes_as_much_memory_however_long_it_lasts() {
        let mut fights = Fights::new(PAUSE_MILLIS);
        let ids = ["a", "b"].map(ClientId::from);
        let mut now = Timestamp(1);
        for n in 0..10_000_u64 {
            for id in &ids {
                fights.displaced(id, |_| true);
                if let Some(due) = fights.takeover(now, id) {
                    fights.wait(now, due, id.clone(), n);
                }
            }
            if n % 10 == 0 {
                now = now.plus_millis(PAUSE_MILLIS / 2);
                fights.due(now);
            }
            let held = [
                fights.paid_at.len(),
                fights.forgotten.len(),
                fights.waiting.len(),
                fights.due_of.len(),
            ];
            assert!(held.iter().all(|held| *held <= ids.len()), "{held:?}");
        }
        fights.due(now.plus_millis(PAUSE_MILLIS));
        let mut later = now;
        while !fights.forgotten.is_empty() {
            later = later.plus_millis(PAUSE_MILLIS);
            fights.due(later);
            assert!(later.millis_since(now) <= (FREE + 2) * PAUSE_MILLIS);
        }
        assert!(fights.paid_at.is_empty() && fights.waiting.is_empty());
    }

    #[test]
    fn a_client_id_whose_takeovers_were_forgotten_is_looked_after_anew() {
        let mut fights = Fights::<()>::new(PAUSE_MILLIS);
        let id = ClientId::from("a");
        for start in [1, 10_000] {
            let now = Timestamp(start);
            fights.takeover(now, &id);
            fights.takeover(now, &id);
            assert_eq!(fights.forgotten.len(), 1);
            fights.due(now.plus_millis(PAUSE_MILLIS));
            assert_eq!(fights.paid_at.len(), 1, "two pauses behind each other");
            fights.due(now.plus_millis(2 * PAUSE_MILLIS));
            assert_eq!((fights.paid_at.len(), fights.forgotten.len()), (0, 0));
        }
    }
}
