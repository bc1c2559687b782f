//! What `extract`, `transform` and `backfill` share: a runtime, stopping on a signal, selectors, the run record. None of
//! them opens the warehouse.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::{
    Error,
    cli::ListingArgs,
    commands::Context,
    extract::Selectors,
    interrupt,
    lake::{Bucket, PutMode},
    observe::{Outcome, RunRecord},
};

/// How often the signal is looked for.
const POLL: Duration = Duration::from_millis(50);

/// A runtime that uses every core.
pub(super) fn runtime(context: &Context) -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { path: context.settings.project_dir.clone(), source })
}

/// Waits for the work, or for the signal that ends it early; what it had under way is dropped then.
pub(super) async fn until_interrupted<T>(
    work: impl Future<Output = Result<T, Error>>,
    interrupted: impl FnOnce() -> Error,
) -> Result<T, Error> {
    let signal = async {
        while !interrupt::interrupted() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        result = work => result,
        () = signal => Err(interrupted()),
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
