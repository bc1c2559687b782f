//! The graph over a manifest: who depends on whom, and an order in which everything comes after its parents. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use indexmap::IndexMap;

use super::Manifest;

/// Nodes, sources, exposures and unit tests, joined by `depends_on`. Indices are positions in [`Graph::ids`].
#[derive(Debug, Clone, Default)]
pub struct Graph {
    ids: Vec<String>,
    index: HashMap<String, usize>,
    parents: Vec<Vec<usize>>,
    children: Vec<Vec<usize>>,
}

impl Graph {
    /// The graph of all enabled resources; what `depends_on` names beside them is ignored.
    pub fn new(manifest: &Manifest) -> Self {
        // A test whose target is missing stays in the manifest, switched off.
        let members = || manifest.resources().filter(|resource| resource.config().enabled());
        let ids: Vec<String> = members().map(|resource| resource.unique_id().to_owned()).collect();
        let index: HashMap<String, usize> = ids.iter().cloned().enumerate().map(|(at, id)| (id, at)).collect();
        let mut parents = vec![Vec::new(); ids.len()];
        let mut children = vec![Vec::new(); ids.len()];
        for (at, resource) in members().enumerate() {
            for parent in resource.depends_on() {
                if let Some(&parent) = index.get(parent)
                    && !parents[at].contains(&parent)
                {
                    parents[at].push(parent);
                    children[parent].push(at);
                }
            }
        }
        Self { ids, index, parents, children }
    }

    /// Every id, in manifest order.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    pub fn parents(&self, id: &str) -> impl Iterator<Item = &str> {
        self.neighbours(id, &self.parents)
    }

    pub fn children(&self, id: &str) -> impl Iterator<Item = &str> {
        self.neighbours(id, &self.children)
    }

    fn neighbours<'a>(&'a self, id: &str, edges: &'a [Vec<usize>]) -> impl Iterator<Item = &'a str> {
        self.index_of(id).into_iter().flat_map(move |at| edges[at].iter().map(|&other| self.ids[other].as_str()))
    }

    /// Everything that depends on `id`, at most `depth` steps away (all where `None`); without `id` itself.
    pub fn descendants(&self, id: &str, depth: Option<usize>) -> BTreeSet<&str> {
        self.reach(id, depth, &self.children)
    }

    /// Everything `id` depends on, at most `depth` steps away (all where `None`); without `id` itself.
    pub fn ancestors(&self, id: &str, depth: Option<usize>) -> BTreeSet<&str> {
        self.reach(id, depth, &self.parents)
    }

    fn reach<'a>(&'a self, id: &str, depth: Option<usize>, edges: &[Vec<usize>]) -> BTreeSet<&'a str> {
        let Some(start) = self.index_of(id) else { return BTreeSet::new() };
        self.reach_indices(&[start], depth, edges)
            .into_iter()
            .filter(|&at| at != start)
            .map(|at| self.ids[at].as_str())
            .collect()
    }

    fn reach_indices(&self, starts: &[usize], depth: Option<usize>, edges: &[Vec<usize>]) -> Vec<usize> {
        let mut seen = vec![false; self.ids.len()];
        let mut queue: VecDeque<(usize, usize)> = starts.iter().map(|&start| (start, 0)).collect();
        let mut reached = Vec::new();
        for &start in starts {
            seen[start] = true;
        }
        while let Some((at, distance)) = queue.pop_front() {
            reached.push(at);
            if depth.is_some_and(|depth| distance >= depth) {
                continue;
            }
            for &next in &edges[at] {
                if !seen[next] {
                    seen[next] = true;
                    queue.push_back((next, distance + 1));
                }
            }
        }
        reached
    }

    /// `starts` and everything below them, at most `depth` steps.
    pub(super) fn below(&self, starts: &[usize], depth: Option<usize>) -> Vec<usize> {
        self.reach_indices(starts, depth, &self.children)
    }

    /// `starts` and everything above them, at most `depth` steps.
    pub(super) fn above(&self, starts: &[usize], depth: Option<usize>) -> Vec<usize> {
        self.reach_indices(starts, depth, &self.parents)
    }

    pub(super) fn parent_indices(&self, at: usize) -> &[usize] {
        &self.parents[at]
    }

    pub(super) fn child_indices(&self, at: usize) -> &[usize] {
        &self.children[at]
    }

    /// All ids, parents first; ties keep manifest order. The ids of one cycle where there is one.
    ///
    /// # Errors
    /// The cycle, first id repeated at the end.
    pub fn topological_order(&self) -> Result<Vec<&str>, Vec<String>> {
        let mut missing: Vec<usize> = self.parents.iter().map(Vec::len).collect();
        let mut ready: BTreeSet<usize> = (0..self.ids.len()).filter(|&at| missing[at] == 0).collect();
        let mut order = Vec::with_capacity(self.ids.len());
        while let Some(at) = ready.pop_first() {
            order.push(self.ids[at].as_str());
            for &child in &self.children[at] {
                missing[child] -= 1;
                if missing[child] == 0 {
                    ready.insert(child);
                }
            }
        }
        if order.len() == self.ids.len() { Ok(order) } else { Err(self.cycle(&missing)) }
    }

    /// The graph of these ids alone, joined also where the path between two of them leads through ids that are left out: what
    /// a run of the selected ids has to wait for.
    pub fn subgraph(&self, selected: &[String]) -> IndexMap<String, Vec<String>> {
        let chosen: BTreeSet<usize> = selected.iter().filter_map(|id| self.index_of(id)).collect();
        let mut waits = IndexMap::with_capacity(chosen.len());
        for &at in &chosen {
            let mut found = BTreeSet::new();
            let mut seen = BTreeSet::new();
            let mut stack = self.parents[at].clone();
            while let Some(parent) = stack.pop() {
                if !seen.insert(parent) {
                    continue;
                }
                if chosen.contains(&parent) {
                    found.insert(parent);
                } else {
                    stack.extend(&self.parents[parent]);
                }
            }
            waits.insert(self.ids[at].clone(), found.into_iter().map(|at| self.ids[at].clone()).collect());
        }
        waits
    }

    /// Some cycle among the nodes that never became ready.
    fn cycle(&self, missing: &[usize]) -> Vec<String> {
        // Every such node has a parent that is one too, so walking upwards must meet a node again.
        let Some(mut at) = missing.iter().position(|&count| count > 0) else { return Vec::new() };
        let mut path = Vec::new();
        while !path.contains(&at) {
            path.push(at);
            let Some(&next) = self.parents[at].iter().find(|&&parent| missing[parent] > 0) else { return Vec::new() };
            at = next;
        }
        let from = path.iter().position(|&other| other == at).unwrap_or(0);
        let mut cycle: Vec<String> = path[from..].iter().rev().map(|&at| self.ids[at].clone()).collect();
        if let Some(first) = cycle.first().cloned() {
            cycle.push(first);
        }
        cycle
    }
}
