//! Who may start: nodes whose parents are done, in the order of preference. Pure.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;

use super::{NodeStatus, SkipCause};

/// What a thread does next.
pub(super) enum Next {
    Run(String),
    Skip(String, SkipCause),
    /// Others have to end first.
    Wait,
    Done,
}

pub(super) struct Queue {
    ids: Vec<String>,
    index: HashMap<String, usize>,
    children: Vec<Vec<usize>>,
    missing: Vec<usize>,
    skip: Vec<Option<SkipCause>>,
    ready: BTreeSet<usize>,
    left: usize,
    stopped: Option<SkipCause>,
}

impl Queue {
    pub(super) fn new(waits: &IndexMap<String, Vec<String>>) -> Self {
        let ids: Vec<String> = waits.keys().cloned().collect();
        let index: HashMap<String, usize> = ids.iter().cloned().enumerate().map(|(at, id)| (id, at)).collect();
        let mut children = vec![Vec::new(); ids.len()];
        let mut missing = vec![0; ids.len()];
        for (at, parents) in waits.values().enumerate() {
            for parent in parents.iter().filter_map(|parent| index.get(parent)) {
                if !children[*parent].contains(&at) && *parent != at {
                    children[*parent].push(at);
                    missing[at] += 1;
                }
            }
        }
        let ready = (0..ids.len()).filter(|&at| missing[at] == 0).collect();
        Self { left: ids.len(), skip: vec![None; ids.len()], ids, index, children, missing, ready, stopped: None }
    }

    pub(super) fn next(&mut self) -> Next {
        match self.ready.pop_first() {
            Some(at) => {
                let cause = self.skip[at].clone().or_else(|| self.stopped.clone());
                match cause {
                    Some(cause) => Next::Skip(self.ids[at].clone(), cause),
                    None => Next::Run(self.ids[at].clone()),
                }
            }
            None if self.left == 0 => Next::Done,
            None => Next::Wait,
        }
    }

    /// From here on everything is skipped.
    pub(super) fn stop(&mut self, cause: SkipCause) {
        if self.stopped.is_none() {
            self.stopped = Some(cause);
        }
    }

    pub(super) fn finish(&mut self, id: &str, status: NodeStatus) {
        let Some(&at) = self.index.get(id) else { return };
        self.left -= 1;
        for child in std::mem::take(&mut self.children[at]) {
            if status.blocks_children() && self.skip[child].is_none() {
                self.skip[child] = Some(self.skip[at].clone().unwrap_or_else(|| SkipCause::Upstream(id.to_owned())));
            }
            self.missing[child] -= 1;
            if self.missing[child] == 0 {
                self.ready.insert(child);
            }
        }
    }
}
