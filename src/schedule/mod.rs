//! Nodes in graph order over several threads. In: ids with what each waits for, and a [`Worker`] that runs one; out: a
//! result for every id, in the order they ended. It decides who runs, who is skipped and when to stop; what running means is
//! the worker's business.

mod queue;
mod result;
mod run_results;

use std::sync::atomic::{AtomicUsize, Ordering};

use indexmap::IndexMap;
use parking_lot::{Condvar, Mutex};

use crate::interrupt::interrupted;

use queue::Queue;
pub use result::{NodeResult, NodeStatus, Timing};
pub use run_results::{RunResults, result_json, write_run_results};

/// Templates nest: macros that call macros need more than the 2 MiB of a thread.
const STACK: usize = 16 << 20;

/// Runs nodes. One value serves all threads; each thread gets a state of its own (a session).
pub trait Worker: Sync {
    /// What one thread keeps between nodes.
    type State;

    /// The state of a new thread.
    fn state(&self, thread: usize) -> Self::State;

    /// Runs a node. `position` counts from 1 in the order of starting, of `total`.
    fn run(&self, state: &mut Self::State, id: &str, position: Position) -> NodeResult;

    /// A node that is not run, because of `cause`.
    fn skip(&self, id: &str, position: Position, cause: &SkipCause) -> NodeResult;
}

/// `3 of 42`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub index: usize,
    pub total: usize,
    /// The thread, from 1.
    pub thread: usize,
}

/// Why a node is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipCause {
    /// The node upstream that failed.
    Upstream(String),
    /// `--fail-fast`, after a failure anywhere.
    FailFast,
    /// Ctrl-C.
    Interrupted,
}

/// How the nodes are run.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleOptions {
    pub threads: usize,
    pub fail_fast: bool,
}

/// Runs all nodes; `waits` maps each id to the ids it comes after, in the order of preference.
pub fn run<W: Worker>(waits: &IndexMap<String, Vec<String>>, options: ScheduleOptions, worker: &W) -> Vec<NodeResult> {
    let total = waits.len();
    let queue = Mutex::new(Queue::new(waits));
    let changed = Condvar::new();
    let started = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(total));
    let threads = options.threads.clamp(1, total.max(1));
    let work = |thread: usize| {
        let mut state = None;
        let position = || Position { index: started.fetch_add(1, Ordering::Relaxed) + 1, total, thread };
        loop {
            let next = {
                let mut queue = queue.lock();
                loop {
                    if interrupted() {
                        queue.stop(SkipCause::Interrupted);
                    }
                    match queue.next() {
                        queue::Next::Run(id) => break Some((id, None)),
                        queue::Next::Skip(id, cause) => break Some((id, Some(cause))),
                        queue::Next::Done => break None,
                        // A signal does not wake the others, so they look by themselves.
                        queue::Next::Wait => {
                            changed.wait_for(&mut queue, std::time::Duration::from_millis(100));
                        }
                    }
                }
            };
            let Some((id, skip)) = next else {
                changed.notify_all();
                return;
            };
            let result = match &skip {
                Some(cause) => worker.skip(&id, position(), cause),
                None => worker.run(state.get_or_insert_with(|| worker.state(thread)), &id, position()),
            };
            let mut queue = queue.lock();
            if options.fail_fast && result.status.is_failure() {
                queue.stop(SkipCause::FailFast);
            }
            queue.finish(&id, result.status);
            results.lock().push(result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        let mut handles = Vec::new();
        for thread in 1..=threads {
            let name = format!("Thread-{thread}");
            let spawned =
                std::thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, move || work(thread));
            match spawned {
                Ok(handle) => handles.push(handle),
                // Without a single thread of its own the work is done here.
                Err(_) if handles.is_empty() => work(thread),
                Err(_) => break,
            }
        }
        for handle in handles {
            if let Err(panic) = handle.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    results.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Recorder {
        fails: Vec<&'static str>,
    }

    impl Worker for Recorder {
        type State = ();

        fn state(&self, _thread: usize) {}

        fn run(&self, (): &mut (), id: &str, _position: Position) -> NodeResult {
            let status = if self.fails.contains(&id) { NodeStatus::Error } else { NodeStatus::Success };
            NodeResult::new(id, status)
        }

        fn skip(&self, id: &str, _position: Position, cause: &SkipCause) -> NodeResult {
            let mut result = NodeResult::new(id, NodeStatus::Skipped);
            result.message = Some(format!("{cause:?}"));
            result
        }
    }

    fn outcome(waits: &[(&str, &[&str])], fails: &[&'static str], fail_fast: bool) -> Vec<String> {
        let waits = waits
            .iter()
            .map(|(id, parents)| ((*id).to_owned(), parents.iter().map(|parent| (*parent).to_owned()).collect()))
            .collect();
        let worker = Recorder { fails: fails.to_vec() };
        run(&waits, ScheduleOptions { threads: 1, fail_fast }, &worker)
            .into_iter()
            .map(|result| format!("{} {}", result.unique_id, result.status.as_str()))
            .collect()
    }

    #[test]
    fn parents_come_first() {
        let waits: &[(&str, &[&str])] = &[("c", &["b"]), ("b", &["a"]), ("a", &[]), ("d", &[])];
        assert_eq!(outcome(waits, &[], false), ["a success", "b success", "c success", "d success"]);
    }

    #[test]
    fn what_depends_on_a_failure_is_skipped() {
        let waits: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])];
        assert_eq!(outcome(waits, &["a"], false), ["a error", "b skipped", "c skipped", "d success"]);
        assert_eq!(outcome(waits, &["a"], true), ["a error", "b skipped", "c skipped", "d skipped"]);
    }
}
