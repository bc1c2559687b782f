//! Work on many small things at once, on as many threads as the machine has.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this many items a thread costs more than it saves.
const WORTH_A_THREAD: usize = 16;

/// `f` of every item, in order. The first error in that order wins.
///
/// # Errors
/// What `f` answered for the first item that failed.
pub(super) fn try_map<T: Sync, R: Send, E: Send>(
    items: &[T],
    f: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        return items.iter().map(f).collect();
    }
    // Small batches, since one item may cost a hundred times another.
    let batch = (items.len() / (threads * 8)).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(batch, Ordering::Relaxed);
            if start >= items.len() {
                return done;
            }
            for (at, item) in items.iter().enumerate().skip(start).take(batch) {
                done.push((at, f(item)));
            }
        }
    };
    let mut results: Vec<(usize, Result<R, E>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..threads)
            .filter_map(|_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work();
        for handle in handles {
            match handle.join() {
                Ok(done) => all.extend(done),
                // A panic is our bug and must stay one.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Templates nest: macros calling macros need more than the 2 MiB of a thread.
const STACK: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_first_error_are_kept() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(try_map(&items, |&n| Ok::<_, ()>(n * 2)).expect("fine")[999], 1998);
        assert_eq!(try_map(&items, |&n| if n % 300 == 299 { Err(n) } else { Ok(n) }), Err(299));
    }
}
