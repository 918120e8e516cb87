//! A trie of topic levels for filters with wildcards.
//!
//! All nodes lie in one hash table, found by (parent, text of the edge), so a node with one child and one with a million cost
//! the same per child, and a step of a look-up goes to the control bytes of the table and to the node, and nowhere else. The
//! edge `+` is there for filters that go on below it ([`Ends`]). A node fills one line of the processor's cache, because among
//! a hundred thousand filters each one that a look-up comes by must be fetched.
//!
//! Invariants: the root is no entry of the table; every other node has an end or a child; a node knows its parent, which is
//! what lets lookup and removal go back without a stack.

use ahash::RandomState;
use hashbrown::HashTable;

use super::super::numbers::Numbers;
use super::ends::{End, Ends, split};
use super::is_sparse;
use super::level::Level;

/// The root's id; no entry has it.
const ROOT: u32 = 0;
/// The text of the edge `+`: no level of a topic or a filter contains it.
const PLUS: &str = "/";
/// The bit of [`Node::children`] that says that there is an edge `+`; the others count literal edges.
const PLUS_CHILD: u32 = 1 << 31;

#[derive(Debug)]
#[repr(align(64))]
struct Node<T> {
    /// The text of the edge from the parent.
    level: Level,
    id: u32,
    parent: u32,
    /// Where the parent is found.
    parent_hash: u32,
    children: u32,
    ends: Ends<T>,
}

impl<T> Node<T> {
    fn new(id: u32, parent: Place, level: &str) -> Self {
        Self {
            level: Level::from(level),
            id,
            parent: parent.id,
            parent_hash: parent.hash,
            children: 0,
            ends: Ends::None,
        }
    }

    fn is_needed(&self) -> bool {
        !self.ends.is_empty() || self.children > 0
    }

    fn has_plus(&self) -> bool {
        self.children & PLUS_CHILD != 0
    }

    fn has_literals(&self) -> bool {
        self.children & !PLUS_CHILD != 0
    }

    fn is_plus(&self) -> bool {
        self.level.as_bytes() == PLUS.as_bytes()
    }
}

/// Where a node is.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    id: u32,
}

const ROOT_PLACE: Place = Place { hash: 0, id: ROOT };

/// The map from filters with wildcards to values.
#[derive(Debug)]
pub(super) struct Trie<T> {
    root: Node<T>,
    nodes: HashTable<Node<T>>,
    ids: Numbers,
    hasher: RandomState,
    len: usize,
}

impl<T> Trie<T> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            root: Node::new(ROOT, ROOT_PLACE, ""),
            nodes: HashTable::new(),
            ids: Numbers::default(),
            hasher,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let apart = |node: &Node<T>| node.level.heap_bytes() + node.ends.heap_bytes();
        let apart: usize = self.nodes.iter().map(apart).sum();
        let root = self.root.ends.heap_bytes();
        self.nodes.allocation_size() + self.ids.heap_bytes() + root + apart
    }

    pub(super) fn get(&self, filter: &str) -> Option<&T> {
        let (path, end) = split(filter);
        self.node(self.find(path)?).ends.get(end)
    }

    pub(super) fn get_mut(&mut self, filter: &str) -> Option<&mut T> {
        let (path, end) = split(filter);
        let place = self.find(path)?;
        self.node_mut(place).ends.get_mut(end)
    }

    pub(super) fn get_or_insert_with(&mut self, filter: &str, make: impl FnOnce() -> T) -> &mut T {
        let (path, end) = split(filter);
        let mut at = ROOT_PLACE;
        for level in levels(path) {
            at = match self.child(at.id, level) {
                Some((known, _)) => known,
                None => self.grow(at, level),
            };
        }
        let is_new = self.node(at).ends.get(end).is_none();
        self.len += usize::from(is_new);
        let ends = &mut self.node_mut(at).ends;
        if is_new {
            ends.put(end, make());
        }
        ends.get_mut(end).expect("put there if it was not")
    }

    pub(super) fn remove(&mut self, filter: &str) -> Option<T> {
        let (path, end) = split(filter);
        let mut at = self.find(path)?;
        let removed = self.node_mut(at).ends.take(end)?;
        self.len -= 1;
        while at.id != ROOT && !self.node(at).is_needed() {
            at = self.prune(at);
        }
        if self.len == 0 {
            *self = Self::new(self.hasher.clone());
        } else if is_sparse(self.nodes.len(), self.nodes.capacity()) {
            let hasher = &self.hasher;
            let rehash = |node: &Node<T>| spread(hash_of(hasher, node));
            self.nodes.shrink_to(self.nodes.len() * 2, rehash);
        }
        Some(removed)
    }

    /// Depth first, literals before `+`, without a stack: the node names its parent, and the parent's place in the
    /// topic is one `/` further back.
    pub(super) fn for_each_match(&self, topic: &str, mut found: impl FnMut(&T)) {
        if self.len == 0 {
            return;
        }
        // [MQTT-4.7.2-1]
        let wild_at_root = !topic.starts_with('$');
        let mut here = &self.root;
        // Where the level below `here` begins; one past the end of the topic if there is none.
        let mut start = 0;
        // `+` edges passed by on the way to `here`, not yet taken.
        let mut postponed = 0_usize;
        loop {
            let wild = here.id != ROOT || wild_at_root;
            if wild {
                here.ends.get(End::Hash).into_iter().for_each(&mut found);
            }
            if start > topic.len() {
                here.ends.get(End::Here).into_iter().for_each(&mut found);
            } else {
                let end = level_end(topic, start);
                if wild && end == topic.len() {
                    here.ends.get(End::Plus).into_iter().for_each(&mut found);
                }
                let plus = wild && here.has_plus();
                let literal = if here.has_literals() {
                    self.step(here, &topic[start..end])
                } else {
                    None
                };
                postponed += usize::from(plus && literal.is_some());
                let next = literal.or_else(|| if plus { self.step(here, PLUS) } else { None });
                if let Some(next) = next {
                    here = next;
                    start = end + 1;
                    continue;
                }
            }
            if postponed == 0 {
                return;
            }
            loop {
                let parent = self.parent(here);
                let wild = parent.id != ROOT || wild_at_root;
                if wild
                    && parent.has_plus()
                    && !here.is_plus()
                    && let Some(plus) = self.step(parent, PLUS)
                {
                    here = plus;
                    postponed -= 1;
                    break;
                }
                here = parent;
                start = level_start(topic, start - 1);
            }
        }
    }

    fn node(&self, at: Place) -> &Node<T> {
        if at.id == ROOT {
            return &self.root;
        }
        let node = self.nodes.find(spread(at.hash), |node| node.id == at.id);
        node.expect("a place is of a node that is there")
    }

    fn node_mut(&mut self, at: Place) -> &mut Node<T> {
        if at.id == ROOT {
            return &mut self.root;
        }
        let node = (self.nodes).find_mut(spread(at.hash), |node| node.id == at.id);
        node.expect("a place is of a node that is there")
    }

    fn parent(&self, node: &Node<T>) -> &Node<T> {
        self.node(Place {
            hash: node.parent_hash,
            id: node.parent,
        })
    }

    fn find(&self, path: Option<&str>) -> Option<Place> {
        let mut at = ROOT_PLACE;
        for level in levels(path) {
            (at, _) = self.child(at.id, level)?;
        }
        Some(at)
    }

    /// The node behind an edge.
    fn step(&self, node: &Node<T>, level: &str) -> Option<&Node<T>> {
        self.child(node.id, level).map(|(_, child)| child)
    }

    fn child(&self, parent: u32, level: &str) -> Option<(Place, &Node<T>)> {
        let hash = edge_hash(&self.hasher, parent, level.as_bytes());
        let child = self.nodes.find(spread(hash), |child| {
            child.parent == parent && child.level.as_bytes() == level.as_bytes()
        })?;
        let id = child.id;
        Some((Place { hash, id }, child))
    }

    /// Adds the child behind the edge `level`, which is not there yet.
    fn grow(&mut self, parent: Place, level: &str) -> Place {
        let id = self.ids.take() + 1;
        let hasher = &self.hasher;
        let rehash = |node: &Node<T>| spread(hash_of(hasher, node));
        let hash = edge_hash(hasher, parent.id, level.as_bytes());
        let node = Node::new(id, parent, level);
        self.nodes.insert_unique(spread(hash), node, rehash);
        let above = self.node_mut(parent);
        match level {
            PLUS => above.children |= PLUS_CHILD,
            _ => above.children += 1,
        }
        Place { hash, id }
    }

    /// Removes a node without value or child; returns its parent.
    fn prune(&mut self, at: Place) -> Place {
        let entry = (self.nodes).find_entry(spread(at.hash), |node| node.id == at.id);
        let entry = entry.ok().expect("a place is of a node that is there");
        let (node, _) = entry.remove();
        self.ids.give_back(node.id - 1);
        let parent = Place {
            hash: node.parent_hash,
            id: node.parent,
        };
        let above = self.node_mut(parent);
        if node.is_plus() {
            above.children &= !PLUS_CHILD;
        } else {
            above.children -= 1;
        }
        parent
    }
}

/// The edges of a path, which has none if it is the root's.
fn levels(path: Option<&str>) -> impl Iterator<Item = &str> {
    let levels = path.into_iter().flat_map(|path| path.split('/'));
    levels.map(|level| if level == "+" { PLUS } else { level })
}

/// Of 32 bits, so that a node has room for that of its parent.
fn edge_hash(hasher: &RandomState, parent: u32, level: &[u8]) -> u32 {
    let hash = hasher.hash_one((parent, level));
    u32::try_from(hash >> 32).unwrap_or(0)
}

fn hash_of<T>(hasher: &RandomState, node: &Node<T>) -> u32 {
    edge_hash(hasher, node.parent, node.level.as_bytes())
}

/// As the table wants it: it takes its place from the low bits, and what it compares first from the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Where the level that begins at `start` ends.
fn level_end(topic: &str, start: usize) -> usize {
    topic.as_bytes()[start..]
        .iter()
        .position(|byte| *byte == b'/')
        .map_or(topic.len(), |length| start + length)
}

/// Where the level that ends before `end` begins.
fn level_start(topic: &str, end: usize) -> usize {
    topic.as_bytes()[..end]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_the_value_of_a_route_fills_a_line_of_the_cache() {
        assert_eq!(size_of::<Node<[u32; 5]>>(), 64);
    }
}
