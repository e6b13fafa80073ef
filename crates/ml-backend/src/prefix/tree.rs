//! What was read, by its tokens.
//!
//! A radix tree: an edge is a run of tokens, and where something was kept behind some tokens there is a node. Nothing
//! here knows what is kept; that makes the tree something to test.

use std::collections::BTreeMap;

/// A node of the tree, by its place in the list.
type Place = usize;

const ROOT: Place = 0;

/// Things by the tokens that led to them.
#[derive(Debug)]
pub(crate) struct Tree<S> {
    nodes: Vec<Node<S>>,
    /// Nodes that are in no tree.
    free: Vec<Place>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Node<S> {
    parent: Place,
    /// The tokens between the parent and this.
    edge: Vec<u32>,
    /// By the first token of their edges.
    children: BTreeMap<u32, Place>,
    kept: Option<Kept<S>>,
}

#[derive(Debug)]
struct Kept<S> {
    what: S,
    used: u64,
}

/// Something that is kept, and with how many tokens it begins as those that were looked for.
#[derive(Debug)]
pub(crate) struct Found<'a, S> {
    pub(crate) what: &'a S,
    pub(crate) shared: usize,
    place: Place,
}

impl<S> Default for Tree<S> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(ROOT, Vec::new())],
            free: Vec::new(),
            clock: 0,
        }
    }
}

impl<S> Node<S> {
    fn new(parent: Place, edge: Vec<u32>) -> Self {
        Self {
            parent,
            edge,
            children: BTreeMap::new(),
            kept: None,
        }
    }
}

impl<S> Tree<S> {
    /// Keeps something behind these tokens, in place of what was there.
    pub(crate) fn keep(&mut self, tokens: &[u32], what: S) {
        let (mut at, mut rest) = (ROOT, tokens);
        while let Some(first) = rest.first() {
            let Some(&child) = self.nodes[at].children.get(first) else {
                let new = self.add(Node::new(at, rest.to_vec()));
                self.nodes[at].children.insert(*first, new);
                at = new;
                break;
            };
            let same = alike(&self.nodes[child].edge, rest);
            at = match same < self.nodes[child].edge.len() {
                true => self.split(child, same),
                false => child,
            };
            rest = &rest[same..];
        }
        self.clock += 1;
        let used = self.clock;
        self.nodes[at].kept = Some(Kept { what, used });
    }

    /// What is kept behind tokens that begin as `tokens` do, from those that share most of them to those that share
    /// least; what shares none is left out.
    pub(crate) fn alike(&self, tokens: &[u32]) -> Vec<Found<'_, S>> {
        // The way down, and how many tokens led to each node.
        let mut way = vec![(ROOT, 0)];
        let mut shared = 0;
        loop {
            let at = way.last().map_or(ROOT, |(at, _)| *at);
            let next = tokens.get(shared);
            let Some(&child) = next.and_then(|id| self.nodes[at].children.get(id)) else {
                break;
            };
            let edge = &self.nodes[child].edge;
            let same = alike(edge, &tokens[shared..]);
            let whole = same == edge.len();
            shared += same;
            way.push((child, shared));
            if !whole {
                break;
            }
        }
        let mut found = Vec::new();
        let mut below = None;
        for (at, shared) in way.into_iter().rev().filter(|(_, shared)| *shared > 0) {
            self.collect(at, shared, below, &mut found);
            below = Some(at);
        }
        found
    }

    /// All that is kept at a node and below, but for one of its children.
    fn collect<'a>(
        &'a self,
        at: Place,
        shared: usize,
        but: Option<Place>,
        found: &mut Vec<Found<'a, S>>,
    ) {
        let mut places = vec![at];
        while let Some(place) = places.pop() {
            let node = &self.nodes[place];
            let what = node.kept.iter().map(|kept| Found {
                what: &kept.what,
                shared,
                place,
            });
            found.extend(what);
            let below = node.children.values().copied();
            places.extend(below.filter(|child| Some(*child) != but));
        }
    }

    /// What was found is used now. To be called before anything else changes.
    pub(crate) fn touch(&mut self, place: FoundPlace) {
        self.clock += 1;
        if let Some(kept) = self
            .nodes
            .get_mut(place.0)
            .and_then(|node| node.kept.as_mut())
        {
            kept.used = self.clock;
        }
    }

    /// What was found there. To be called before anything else changes, as the next one.
    pub(crate) fn get_mut(&mut self, place: FoundPlace) -> Option<&mut S> {
        let kept = self.nodes.get_mut(place.0)?.kept.as_mut();
        kept.map(|kept| &mut kept.what)
    }

    /// Gives up what was found there.
    pub(crate) fn remove(&mut self, place: FoundPlace) -> Option<S> {
        self.nodes.get(place.0)?.kept.as_ref()?;
        self.take(place.0)
    }

    /// Gives up what was used longest ago.
    pub(crate) fn drop_oldest(&mut self) -> Option<S> {
        let nodes = self.nodes.iter().enumerate();
        let used = nodes.filter_map(|(place, node)| Some((node.kept.as_ref()?.used, place)));
        let (_, oldest) = used.min()?;
        self.take(oldest)
    }

    /// Gives up what is kept behind some first tokens of `tokens`, fewer than all, and is not `worth` it: what that was.
    #[must_use]
    pub(crate) fn take_on_the_way(&mut self, tokens: &[u32], worth: impl Fn(&S) -> bool) -> Vec<S> {
        let found = self.alike(tokens).into_iter();
        let places: Vec<Place> = found
            .filter(|found| self.depth(found.place) == found.shared && found.shared < tokens.len())
            .filter(|found| !worth(found.what))
            .map(|found| found.place)
            .collect();
        let taken = places.into_iter().filter_map(|place| self.take(place));
        taken.collect()
    }

    /// Everything that is kept.
    pub(crate) fn all(&self) -> impl Iterator<Item = &S> {
        let kept = self.nodes.iter().filter_map(|node| node.kept.as_ref());
        kept.map(|kept| &kept.what)
    }

    /// Tokens in front of a node, its own edge among them.
    fn depth(&self, mut place: Place) -> usize {
        let mut depth = 0;
        while place != ROOT {
            depth += self.nodes[place].edge.len();
            place = self.nodes[place].parent;
        }
        depth
    }

    fn add(&mut self, node: Node<S>) -> Place {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// A new node in the middle of the edge to `child`, behind its first `count` tokens.
    fn split(&mut self, child: Place, count: usize) -> Place {
        let parent = self.nodes[child].parent;
        let rest = self.nodes[child].edge.split_off(count);
        let edge = std::mem::replace(&mut self.nodes[child].edge, rest);
        let (first, next) = (edge[0], self.nodes[child].edge[0]);
        let between = self.add(Node::new(parent, edge));
        self.nodes[between].children.insert(next, child);
        self.nodes[child].parent = between;
        self.nodes[parent].children.insert(first, between);
        between
    }

    /// Gives up what is kept at a node, and the node if nothing needs it.
    fn take(&mut self, mut place: Place) -> Option<S> {
        let taken = self.nodes[place].kept.take();
        while place != ROOT && self.nodes[place].kept.is_none() {
            let parent = self.nodes[place].parent;
            let mut below = self.nodes[place].children.values();
            match (below.next().copied(), below.next()) {
                (None, _) => {
                    let first = self.nodes[place].edge[0];
                    self.nodes[parent].children.remove(&first);
                }
                // Its edge and that of its only child are one.
                (Some(child), None) => {
                    let mut edge = std::mem::take(&mut self.nodes[place].edge);
                    edge.append(&mut self.nodes[child].edge);
                    self.nodes[parent].children.insert(edge[0], child);
                    self.nodes[child].edge = edge;
                    self.nodes[child].parent = parent;
                }
                (Some(_), Some(_)) => break,
            }
            self.nodes[place] = Node::new(ROOT, Vec::new());
            self.free.push(place);
            place = parent;
        }
        taken.map(|kept| kept.what)
    }
}

/// Where something was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundPlace(Place);

impl<S> Found<'_, S> {
    pub(crate) fn place(&self) -> FoundPlace {
        FoundPlace(self.place)
    }
}

/// How many first tokens are the same.
pub(crate) fn alike(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Random trees against a plain map from tokens to what is kept.
    #[test]
    fn a_tree_finds_what_a_list_finds() {
        let mut state = 1_u64;
        let mut below = |n: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for _ in 0..40 {
            let mut tree = Tree::default();
            let mut plain: BTreeMap<Vec<u32>, (u64, u64)> = BTreeMap::new();
            for time in 1..200 {
                let tokens: Vec<u32> = (0..1 + below(9)).map(|_| below(3) as u32).collect();
                match below(5) {
                    0..3 => {
                        tree.keep(&tokens, time);
                        plain.insert(tokens, (time, time));
                    }
                    3 => {
                        let oldest = plain.iter().min_by_key(|(_, (_, used))| *used);
                        let oldest = oldest.map(|(tokens, (what, _))| (tokens.clone(), *what));
                        assert_eq!(tree.drop_oldest(), oldest.as_ref().map(|(_, what)| *what));
                        if let Some((tokens, _)) = oldest {
                            plain.remove(&tokens);
                        }
                    }
                    _ => {
                        let _ = tree.take_on_the_way(&tokens, |what| what % 3 > 0);
                        plain.retain(|kept, (what, _)| {
                            let on_the_way = kept.len() < tokens.len() && tokens.starts_with(kept);
                            !on_the_way || *what % 3 > 0
                        });
                    }
                }
                let looked_for: Vec<u32> = (0..below(10)).map(|_| below(3) as u32).collect();
                let found = tree.alike(&looked_for);
                assert!(
                    found
                        .windows(2)
                        .all(|pair| pair[0].shared >= pair[1].shared)
                );
                let mut found: Vec<_> = found.iter().map(|f| (*f.what, f.shared)).collect();
                let wanted = plain
                    .iter()
                    .map(|(kept, (what, _))| (*what, alike(kept, &looked_for)));
                let mut wanted: Vec<_> = wanted.filter(|(_, shared)| *shared > 0).collect();
                found.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(found, wanted, "{looked_for:?} in {plain:?}");
            }
            let mut left = tree.all().count();
            assert_eq!(left, plain.len());
            while tree.drop_oldest().is_some() {
                left -= 1;
            }
            assert_eq!(left, 0);
            assert_eq!(tree.free.len() + 1, tree.nodes.len(), "no node stays");
        }
    }

    #[test]
    fn what_is_used_stays_longest() {
        let mut tree = Tree::default();
        tree.keep(&[1, 2], "a");
        tree.keep(&[1, 3], "b");
        tree.keep(&[1, 2, 4], "c");
        let place = tree
            .alike(&[1, 2, 9])
            .iter()
            .find(|f| *f.what == "a")
            .map(Found::place);
        tree.touch(place.unwrap());
        assert_eq!(tree.drop_oldest(), Some("b"));
        assert_eq!(tree.drop_oldest(), Some("c"));
        assert_eq!(tree.drop_oldest(), Some("a"));
        assert_eq!(tree.drop_oldest(), None);
    }
}
