//! What `extract`, `transform` and `backfill` share: a runtime, the lake, stopping on a signal, the run record. None of
//! them opens the warehouse.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    Error,
    cli::ListingArgs,
    commands::Context,
    extract::Selectors,
    lake::{Bucket, PutMode},
    observe::{Outcome, RunRecord},
};

/// Set by the first SIGINT or SIGTERM.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends when a signal asks to stop.
    pub(super) async fn wait(&self) {
        while !self.is_set() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Runs a command's work on every core, with `stop` set by SIGINT and SIGTERM.
pub(super) fn block_on<T>(context: &Context, work: impl AsyncFnOnce(Stop) -> Result<T, Error>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { path: context.settings.project_dir.clone(), source })?;
    let stop = Stop::default();
    let result = runtime.block_on(async {
        spawn_signals(&stop);
        work(stop.clone()).await
    });
    // What is left are requests of an interrupted run, which nobody waits for.
    runtime.shutdown_background();
    result
}

fn spawn_signals(stop: &Stop) {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let stop = stop.clone();
        // Without a handler the signal ends the process, which every step survives.
        let Ok(mut signals) = signal(kind) else { continue };
        tokio::spawn(async move {
            signals.recv().await;
            stop.0.store(true, Ordering::Relaxed);
        });
    }
}

/// Flags to selectors.
pub(super) fn selectors(args: &ListingArgs) -> Selectors {
    Selectors {
        levels: args.level.clone(),
        endpoints: args.endpoint.clone(),
        seasons: args.season.clone(),
        rounds: args.round.clone(),
        batch_id: args.batch_id,
    }
}

/// The selectors as a run record keeps them.
pub(super) fn arguments(selectors: &Selectors) -> serde_json::Value {
    serde_json::json!({
        "level": selectors.levels.iter().map(|level| level.as_str()).collect::<Vec<_>>(),
        "endpoint": selectors.endpoints,
        "season": selectors.seasons.as_ref().map(ToString::to_string),
        "round": selectors.rounds.as_ref().map(ToString::to_string),
        "batch_id": selectors.batch_id,
    })
}

/// Completes a record with how the run ended, and keeps it.
pub(super) async fn leave_record(
    bucket: &dyn Bucket,
    mut record: RunRecord,
    result: Result<(), &Error>,
) -> Result<(), Error> {
    if let Err(error) = result {
        record.outcome = if error.exit_code() == 130 { Outcome::Interrupted } else { Outcome::Failed };
        record.error = Some(crate::diagnostic::text(error));
    }
    record.finished_at = chrono::Utc::now();
    // Nothing in a record can fail to be JSON: numbers are finite and keys are texts.
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    bucket.put(&record.key(), Bytes::from(bytes), PutMode::Overwrite).await?;
    Ok(())
}

/// Waits for the work, or for the signal that ends it early.
pub(super) async fn until_stopped<T>(
    stop: &Stop,
    work: impl Future<Output = Result<T, Error>>,
    interrupted: impl FnOnce() -> Error,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        () = stop.wait() => Err(interrupted()),
    }
}
