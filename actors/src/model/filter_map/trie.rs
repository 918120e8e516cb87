//! A trie of topic levels for filters with wildcards.
//!
//! Nodes lie in one vector and name each other by index. A literal edge is an entry of one hash table for the whole
//! trie, found by (parent, text), so a node with one child and one with a million cost the same per child. The edge `+`
//! is a field of the parent, and there for filters that go on below it ([`Ends`]). A node fills one line of the processor's cache, because among a hundred
//! thousand filters each one that a look-up comes by must be fetched.
//!
//! Invariants: node 0 is the root and exists while the trie is not empty; every other node in use has an end or a
//! child; a node knows its parent, which is what lets lookup and removal go back without a stack.

use std::mem;

use ahash::RandomState;
use hashbrown::HashTable;

use super::ends::{End, Ends, split};
use super::is_sparse;
use super::level::Level;

const ROOT: u32 = 0;
/// No such node.
const NONE: u32 = u32::MAX;
/// The parent of a slot that is not in use.
const FREE: u32 = u32::MAX - 1;

#[derive(Debug)]
#[repr(align(64))]
struct Node<T> {
    /// The literal on the edge from the parent; empty for the edge `+`.
    level: Level,
    parent: u32,
    plus: u32,
    /// How many literal edges leave this node.
    literals: u32,
    ends: Ends<T>,
}

impl<T> Node<T> {
    fn new(parent: u32, level: Level) -> Self {
        Self {
            level,
            parent,
            plus: NONE,
            literals: 0,
            ends: Ends::None,
        }
    }

    fn is_needed(&self) -> bool {
        !self.ends.is_empty() || self.literals > 0 || self.plus != NONE
    }
}

/// The map from filters with wildcards to values.
#[derive(Debug)]
pub(super) struct Trie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    edges: HashTable<u32>,
    hasher: RandomState,
    len: usize,
}

impl<T> Trie<T> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            edges: HashTable::new(),
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
        self.nodes.capacity() * size_of::<Node<T>>()
            + self.free.capacity() * size_of::<u32>()
            + self.edges.allocation_size()
            + apart
    }

    pub(super) fn get(&self, filter: &str) -> Option<&T> {
        let (path, end) = split(filter);
        self.node(self.find(path)?).ends.get(end)
    }

    pub(super) fn get_mut(&mut self, filter: &str) -> Option<&mut T> {
        let (path, end) = split(filter);
        let node = self.find(path)?;
        self.node_mut(node).ends.get_mut(end)
    }

    pub(super) fn get_or_insert_with(&mut self, filter: &str, make: impl FnOnce() -> T) -> &mut T {
        if self.nodes.is_empty() {
            self.nodes.push(Node::new(NONE, Level::EMPTY));
        }
        let (path, end) = split(filter);
        let mut at = ROOT;
        for level in levels(path) {
            at = match self.child(at, level) {
                NONE => self.grow(at, level),
                known => known,
            };
        }
        if self.node(at).ends.get(end).is_none() {
            self.node_mut(at).ends.put(end, make());
            self.len += 1;
        }
        let value = self.node_mut(at).ends.get_mut(end);
        value.expect("put there if it was not")
    }

    pub(super) fn remove(&mut self, filter: &str) -> Option<T> {
        let (path, end) = split(filter);
        let mut at = self.find(path)?;
        let removed = self.node_mut(at).ends.take(end)?;
        self.len -= 1;
        while at != ROOT && !self.node(at).is_needed() {
            at = self.prune(at);
        }
        let live = self.nodes.len() - self.free.len();
        if self.len == 0 {
            *self = Self::new(self.hasher.clone());
        } else if is_sparse(live, self.nodes.len()) {
            self.compact(live);
        }
        Some(removed)
    }

    /// Depth first, literals before `+`, without a stack: the node names its parent, and the parent's place in the
    /// topic is one `/` further back.
    pub(super) fn for_each_match(&self, topic: &str, mut found: impl FnMut(&T)) {
        if self.nodes.is_empty() {
            return;
        }
        // [MQTT-4.7.2-1]
        let wild_at_root = !topic.starts_with('$');
        let mut node = ROOT;
        // Where the level below `node` begins; one past the end of the topic if there is none.
        let mut start = 0;
        // `+` edges passed by on the way to `node`, not yet taken.
        let mut postponed = 0_usize;
        loop {
            let here = self.node(node);
            let wild = node != ROOT || wild_at_root;
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
                let plus = if wild { here.plus } else { NONE };
                let next = match self.literal(node, &topic[start..end]) {
                    NONE => plus,
                    literal => {
                        postponed += usize::from(plus != NONE);
                        literal
                    }
                };
                if next != NONE {
                    node = next;
                    start = end + 1;
                    continue;
                }
            }
            if postponed == 0 {
                return;
            }
            loop {
                let parent = self.node(node).parent;
                let plus = self.node(parent).plus;
                if plus != NONE && plus != node && (parent != ROOT || wild_at_root) {
                    node = plus;
                    postponed -= 1;
                    break;
                }
                node = parent;
                start = level_start(topic, start - 1);
            }
        }
    }

    fn node(&self, at: u32) -> &Node<T> {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<T> {
        &mut self.nodes[at as usize]
    }

    fn find(&self, path: Option<&str>) -> Option<u32> {
        if self.nodes.is_empty() {
            return None;
        }
        let mut at = ROOT;
        for level in levels(path) {
            at = match self.child(at, level) {
                NONE => return None,
                child => child,
            };
        }
        Some(at)
    }

    /// The child behind the edge `level` of a path.
    fn child(&self, parent: u32, level: &str) -> u32 {
        match level {
            "+" => self.node(parent).plus,
            _ => self.literal(parent, level),
        }
    }

    fn literal(&self, parent: u32, level: &str) -> u32 {
        if self.node(parent).literals == 0 {
            return NONE;
        }
        self.edges
            .find(edge_hash(&self.hasher, parent, level.as_bytes()), |child| {
                let child = self.node(*child);
                child.parent == parent && child.level.as_bytes() == level.as_bytes()
            })
            .copied()
            .unwrap_or(NONE)
    }

    /// Adds the child behind the edge `level`, which is not there yet.
    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let text = match level {
            "+" => Level::EMPTY,
            _ => Level::from(level),
        };
        let node = Node::new(parent, text);
        let child = match self.free.pop() {
            Some(slot) => {
                *self.node_mut(slot) = node;
                slot
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("2^32 nodes do not fit in memory")
            }
        };
        match level {
            "+" => self.node_mut(parent).plus = child,
            _ => {
                self.node_mut(parent).literals += 1;
                self.link(child);
            }
        }
        child
    }

    /// Enters the edge to `child` into the table.
    fn link(&mut self, child: u32) {
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let rehash = |child: &u32| hash_of(hasher, nodes, *child);
        self.edges.insert_unique(rehash(&child), child, rehash);
    }

    /// Removes a node without value or child; returns its parent.
    fn prune(&mut self, at: u32) -> u32 {
        let parent = self.node(at).parent;
        let above = self.node_mut(parent);
        if above.plus == at {
            above.plus = NONE;
        } else {
            above.literals -= 1;
            let (nodes, hasher) = (&self.nodes, &self.hasher);
            let hash = hash_of(hasher, nodes, at);
            if let Ok(edge) = self.edges.find_entry(hash, |child| *child == at) {
                edge.remove();
            }
            if is_sparse(self.edges.len(), self.edges.capacity()) {
                self.edges
                    .shrink_to(self.edges.len() * 2, |child| hash_of(hasher, nodes, *child));
            }
        }
        *self.node_mut(at) = Node::new(FREE, Level::EMPTY);
        self.free.push(at);
        parent
    }

    /// Moves the `live` nodes together and gives the rest of the memory back.
    fn compact(&mut self, live: usize) {
        let old = mem::take(&mut self.nodes);
        self.free = Vec::new();
        let mut moved = vec![NONE; old.len()];
        let mut count = 0;
        for (node, moved) in old.iter().zip(&mut moved) {
            if node.parent != FREE {
                *moved = count;
                count += 1;
            }
        }
        let new_place = |at: u32| moved.get(at as usize).copied().unwrap_or(NONE);
        self.nodes.reserve_exact(live);
        for mut node in old.into_iter().filter(|node| node.parent != FREE) {
            node.parent = new_place(node.parent);
            node.plus = new_place(node.plus);
            self.nodes.push(node);
        }
        let children: Vec<u32> = mem::take(&mut self.edges)
            .into_iter()
            .map(new_place)
            .collect();
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.edges = HashTable::with_capacity(children.len());
        for child in children {
            let rehash = |child: &u32| hash_of(hasher, nodes, *child);
            self.edges.insert_unique(rehash(&child), child, rehash);
        }
    }
}

/// The levels of a path, which has none if it is the root's.
fn levels(path: Option<&str>) -> impl Iterator<Item = &str> {
    path.into_iter().flat_map(|path| path.split('/'))
}

fn edge_hash(hasher: &RandomState, parent: u32, level: &[u8]) -> u64 {
    hasher.hash_one((parent, level))
}

fn hash_of<T>(hasher: &RandomState, nodes: &[Node<T>], child: u32) -> u64 {
    let child = &nodes[child as usize];
    edge_hash(hasher, child.parent, child.level.as_bytes())
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
