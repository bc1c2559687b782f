//! What `extract`, `transform` and `backfill` share: a runtime, stopping on a signal, selectors, run records and metrics.
//! Nothing here opens the warehouse.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Runtime;

use crate::{
    Error,
    cli::ListingArgs,
    commands::{Context, metrics},
    extract::Selectors,
    interrupt,
    lake::{Bucket, Lake, PutMode},
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

/// Completes a record with how the run ended, keeps it, and sends the lake's metrics.
pub(super) async fn leave_record(
    context: &Context,
    lake: &Lake,
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
    if context.settings.metrics.is_on() {
        metrics::warn_unsent(metrics::send_lake(context, lake).await, context);
    }
    Ok(())
}

/// Records read at once.
const READS: usize = 32;

/// The records of extract and transform in the lake, but for those whose ids are `known`.
///
/// # Errors
/// The lake cannot be read.
pub(super) async fn records(lake: &Lake, known: impl Fn(&str) -> bool) -> Result<Vec<RunRecord>, Error> {
    let mut kept = kept_records(lake).await?;
    kept.retain(|record| !known(&record.id));
    read(kept).await
}

/// All records of the lake. None ever changes, so those that an earlier process of this project has read are in a file of
/// its state folder, and the lake is asked for the others alone. Deleting that file costs nothing but time.
///
/// # Errors
/// The lake cannot be read.
pub(super) async fn all_records(context: &Context, lake: &Lake) -> Result<Vec<RunRecord>, Error> {
    let path = context.settings.state_dir().join("run_records.json");
    let kept = kept_records(lake).await?;
    let ids: HashSet<&str> = kept.iter().map(|record| record.id.as_str()).collect();
    let known = fs_err::read(&path).ok().and_then(|text| serde_json::from_slice::<Vec<RunRecord>>(&text).ok());
    let mut records = known.unwrap_or_default();
    // Another lake's, or gone from this one.
    records.retain(|record| ids.contains(record.run_id.to_string().as_str()));
    let known: HashSet<String> = records.iter().map(|record| record.run_id.to_string()).collect();
    let new = read(kept.into_iter().filter(|record| !known.contains(&record.id)).collect()).await?;
    if !new.is_empty() {
        records.extend(new);
        let written = serde_json::to_vec(&records)
            .map_err(std::io::Error::from)
            .and_then(|text| crate::file::write_whole(&path, text));
        if let Err(error) = written {
            tracing::debug!("cannot remember the run records: {error}");
        }
    }
    Ok(records)
}

/// Bytes of the objects in Silver, records and quarantine (`_runs/`, `_quarantine/`) left out.
///
/// # Errors
/// The lake cannot be read.
pub(super) async fn silver_bytes(lake: &Lake) -> Result<u64, Error> {
    let objects = lake.silver.list("", None).await?;
    let is_data = |key: &str| !key.split('/').any(|folder| matches!(folder, "_runs" | "_quarantine"));
    Ok(objects.iter().filter(|object| is_data(&object.key)).map(|object| object.size).sum())
}

/// Where a record is.
struct KeptRecord {
    bucket: Arc<dyn Bucket>,
    key: String,
    id: String,
}

async fn kept_records(lake: &Lake) -> Result<Vec<KeptRecord>, Error> {
    let mut kept = Vec::new();
    for (bucket, command) in [(&lake.bronze, "extract"), (&lake.silver, "transform")] {
        for key in bucket.list_keys(&format!("_runs/{command}/")).await? {
            // `_runs/extract/20241216T120000Z_{run_id}.json`; below `selections/` is what extract itself keeps.
            let id = key.trim_end_matches(".json").rsplit_once("Z_").map(|(_, id)| id.to_owned());
            if let Some(id) = id.filter(|_| !key.contains("/selections/")) {
                kept.push(KeptRecord { bucket: Arc::clone(bucket), key, id });
            }
        }
    }
    Ok(kept)
}

async fn read(kept: Vec<KeptRecord>) -> Result<Vec<RunRecord>, Error> {
    let reads = stream::iter(kept).map(|KeptRecord { bucket, key, .. }| async move {
        let bytes = bucket.get(&key).await?;
        let record = serde_json::from_slice::<RunRecord>(&bytes);
        Ok::<_, Error>(record.inspect_err(|error| tracing::warn!(key, %error, "a run record cannot be read")).ok())
    });
    reads.buffered(READS).try_filter_map(|record| async { Ok(record) }).try_collect().await
}
