//! The transformation over the lake: which complete Bronze batches there are, which have no Silver object yet, and each
//! of them turned into one. In: both buckets and selectors; out: Silver and quarantine objects, and a [`Report`]. A batch is
//! worked on as a whole and written last, so that what a kill leaves behind is either nothing or all of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{Drift, PageInfo, Provenance, Refused, Rows, Shape, TransformError};
use crate::{
    extract::{Endpoints, ExtractError, Metadata, RoundSelector, Selectors},
    lake::{
        Bucket, Lake, LakeError, PutMode,
        layout::{
            BatchId, BronzeFile, BronzeKey, Partition, QuarantineKey, SilverKey, endpoint_prefix, quarantine_prefix,
        },
    },
};

/// Pages of one batch that are asked for ahead.
const PAGES_AHEAD: usize = 8;

/// Endpoints that are listed at once: over S3 a listing is one request after the other.
const LISTINGS: usize = 4;

/// What to transform and how.
#[derive(Debug, Clone)]
pub struct Options {
    pub selectors: Selectors,
    /// Also batches that have a Silver object already.
    pub force: bool,
    /// A batch with a larger share of refused rows fails.
    pub quarantine_threshold: f64,
    /// Batches worked on at once.
    pub concurrency: usize,
}

/// A Bronze batch as its keys show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BronzeBatch {
    pub partition: Partition,
    pub batch_id: BatchId,
    /// In page order.
    pub files: Vec<BronzeFile>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// By endpoint, in the order of extraction.
    pub endpoints: IndexMap<String, EndpointReport>,
    /// Unknown fields: endpoint, path, how often and one value.
    pub drift: Vec<DriftReport>,
}

/// One endpoint's part of a [`Report`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EndpointReport {
    /// Written now.
    pub batches: u64,
    /// Not looked at: their Silver object is there.
    pub skipped: u64,
    /// Left alone: pages are missing.
    pub incomplete: u64,
    pub failed: u64,
    /// Incomplete or failed, with a newer batch of the same listing in Silver that has taken its place.
    pub superseded: u64,
    pub pages: u64,
    pub rows: u64,
    pub quarantined: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    /// Bytes read from Bronze.
    pub bytes_in: u64,
    /// Bytes written to Silver.
    pub bytes_out: u64,
    /// Time spent on its batches; they overlap.
    pub seconds: f64,
    /// The batches written, newest last.
    pub batch_ids: BTreeSet<String>,
}

/// An unknown field in a [`Report`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftReport {
    pub endpoint: String,
    pub path: String,
    pub count: u64,
    pub example: String,
}

/// What one batch came to.
#[derive(Debug)]
pub enum Outcome {
    Incomplete,
    Written(Written),
}

/// A batch that was written.
#[derive(Debug)]
pub struct Written {
    pub pages: u64,
    pub rows: u64,
    pub refused: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub drift: BTreeMap<String, Drift>,
    pub elapsed: Duration,
}

/// The stage: definitions, lake and options.
#[derive(Debug)]
pub struct Transform {
    lake: Lake,
    shapes: IndexMap<String, Shape>,
    schema_version: u32,
    options: Options,
}

/// What there is to do.
#[derive(Debug)]
pub struct Plan {
    pub batches: Vec<BronzeBatch>,
    /// By endpoint: batches whose Silver object is there.
    pub skipped: IndexMap<String, u64>,
    /// Keys of what was refused earlier.
    quarantined: HashSet<String>,
    /// The newest batch of each partition that Silver has.
    newest: HashMap<Partition, BatchId>,
}

impl Plan {
    /// Whether a newer batch stands in Silver, so that nobody misses this one: Bronze keeps it for ever, and a page that
    /// was broken once must not fail every run to come.
    fn is_superseded(&self, batch: &BronzeBatch) -> bool {
        self.newest.get(&batch.partition).is_some_and(|newest| *newest > batch.batch_id)
    }
}

/// Told of every batch as it ends.
pub trait Progress: Send + Sync {
    fn batch_done(&self, batch: &BronzeBatch, outcome: &Result<Outcome, TransformError>);
    /// Whether to stop at the next batch.
    fn interrupted(&self) -> bool;
}

impl Transform {
    /// # Errors
    /// `--endpoint` names one that does not exist.
    pub fn new(lake: Lake, endpoints: &Endpoints, options: Options) -> Result<Self, ExtractError> {
        let selected = options.selectors.endpoints(endpoints)?;
        let shapes = selected.into_iter().map(|endpoint| (endpoint.name.clone(), Shape::new(endpoint))).collect();
        Ok(Self { lake, shapes, schema_version: endpoints.version, options })
    }

    /// Lists Bronze and Silver and answers what is left to do, static endpoints first, then by season and round.
    ///
    /// # Errors
    /// The lake cannot be listed.
    pub async fn plan(&self) -> Result<Plan, TransformError> {
        let mut plan =
            Plan { batches: Vec::new(), skipped: IndexMap::new(), quarantined: HashSet::new(), newest: HashMap::new() };
        let mut listings = stream::iter(self.shapes.keys())
            .map(|endpoint| self.listed(endpoint).map_ok(move |listed| (endpoint, listed)))
            .buffered(LISTINGS);
        while let Some((endpoint, (mut found, done, quarantined))) = listings.try_next().await? {
            plan.quarantined.extend(quarantined);
            self.select(&mut found);
            let before = found.len();
            if !self.options.force {
                found.retain(|batch| !done.contains(&(batch.partition.clone(), batch.batch_id)));
            }
            plan.skipped.insert(endpoint.clone(), (before - found.len()) as u64);
            plan.batches.extend(found);
            for (partition, batch_id) in done {
                let newest = plan.newest.entry(partition).or_insert(batch_id);
                *newest = batch_id.max(*newest);
            }
        }
        Ok(plan)
    }

    /// Works the plan off. Every batch is tried; the first failure is reported at the end.
    ///
    /// # Errors
    /// [`TransformError::Failed`] with the first batch that failed, or [`TransformError::Interrupted`]; what was done is
    /// in `report` all the same.
    pub async fn run(
        self: &Arc<Self>,
        mut plan: Plan,
        progress: Arc<dyn Progress>,
        report: &mut Report,
    ) -> Result<(), TransformError> {
        keep_freed_memory();
        let planned = plan.batches.len();
        for (endpoint, skipped) in std::mem::take(&mut plan.skipped) {
            report.endpoints.entry(endpoint).or_default().skipped += skipped;
        }
        let batches = std::mem::take(&mut plan.batches);
        let written = Arc::new(AtomicU64::new(0));
        let quarantined = Arc::new(std::mem::take(&mut plan.quarantined));
        let mut drift: BTreeMap<(String, String), Drift> = BTreeMap::new();
        let mut failures: Vec<(BronzeBatch, TransformError)> = Vec::new();
        let mut interrupted = false;
        let tasks = stream::iter(batches).map(|batch| {
            let (stage, progress, written) = (Arc::clone(self), Arc::clone(&progress), Arc::clone(&written));
            let quarantined = Arc::clone(&quarantined);
            // A task of its own: parsing and encoding then use every core.
            tokio::spawn(async move {
                if progress.interrupted() {
                    return (batch, None);
                }
                let outcome = stage.batch(&batch, &quarantined).await;
                if matches!(outcome, Ok(Outcome::Written(_))) {
                    written.fetch_add(1, Ordering::Relaxed);
                }
                progress.batch_done(&batch, &outcome);
                (batch, Some(outcome))
            })
        });
        let mut tasks = tasks.buffer_unordered(self.options.concurrency.max(1));
        while let Some(joined) = tasks.next().await {
            let (batch, outcome) = match joined {
                Ok(done) => done,
                // A panic in a task is a bug and goes on as one.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            let endpoint = report.endpoints.entry(batch.partition.endpoint().to_owned()).or_default();
            match outcome {
                None => interrupted = true,
                Some(Ok(Outcome::Incomplete)) if plan.is_superseded(&batch) => endpoint.superseded += 1,
                Some(Ok(Outcome::Incomplete)) => endpoint.incomplete += 1,
                Some(Ok(Outcome::Written(written))) => {
                    endpoint.add(&batch, &written);
                    for (path, found) in written.drift {
                        let sum = drift.entry((batch.partition.endpoint().to_owned(), path)).or_default();
                        sum.count += found.count;
                        // The least one, so that the report does not depend on which task was first.
                        if sum.example.is_empty() || found.example < sum.example {
                            sum.example = found.example;
                        }
                    }
                }
                Some(Err(TransformError::Page { .. } | TransformError::Quarantine { .. }))
                    if plan.is_superseded(&batch) =>
                {
                    endpoint.superseded += 1;
                }
                Some(Err(error)) => {
                    endpoint.failed += 1;
                    failures.push((batch, error));
                }
            }
        }
        report.drift = drift
            .into_iter()
            .map(|((endpoint, path), drift)| DriftReport { endpoint, path, count: drift.count, example: drift.example })
            .collect();
        if interrupted {
            return Err(TransformError::Interrupted { written: written.load(Ordering::Relaxed) });
        }
        failures.sort_by(|(a, _), (b, _)| (&a.partition, a.batch_id).cmp(&(&b.partition, b.batch_id)));
        let failed = failures.len();
        match failures.into_iter().next() {
            None => Ok(()),
            Some((batch, source)) => Err(TransformError::Failed {
                failed,
                planned,
                first_batch: batch.partition.batch_prefix(batch.batch_id),
                source: Box::new(source),
            }),
        }
    }

    /// One batch: read, parse, check, write.
    async fn batch(&self, batch: &BronzeBatch, quarantined: &HashSet<String>) -> Result<Outcome, TransformError> {
        let started = Instant::now();
        let name = batch.partition.batch_prefix(batch.batch_id);
        let shape = &self.shapes[batch.partition.endpoint()];
        let mut rows = Rows::new(shape, batch.partition.season(), batch.partition.round());
        let mut provenance = Provenance {
            batch_id: batch.batch_id.to_string(),
            season: batch.partition.season(),
            round: batch.partition.round(),
            source_urls: Vec::with_capacity(batch.files.len()),
            schema_version: self.schema_version,
        };
        let mut bytes_in = 0;
        let keys: Vec<(BronzeFile, String)> =
            batch.files.iter().map(|&file| (file, batch.key(file).to_string())).collect();
        let mut pages = stream::iter(keys)
            .map(|(file, key)| {
                let bronze = Arc::clone(&self.lake.bronze);
                async move { bronze.get(&key).await.map(|bytes| (file, key, bytes)) }
            })
            .buffered(PAGES_AHEAD);
        while let Some((file, key, bytes)) = pages.try_next().await? {
            bytes_in += bytes.len() as u64;
            let info = rows.add_page(&bytes).map_err(|source| TransformError::Page {
                endpoint: shape.endpoint.clone(),
                key: key.clone(),
                source,
            })?;
            if provenance.source_urls.is_empty() {
                rows.reserve(info.rows as usize * (batch.files.len() - 1));
            }
            let metadata = check_envelope(batch, file, &key, &info)?;
            if metadata.total_pages as usize != batch.files.len() {
                return Ok(Outcome::Incomplete);
            }
            provenance.source_urls.push(metadata.source_url.into_owned());
        }
        drop(pages);
        let passed = rows.len();
        let table = rows.finish().map_err(|source| TransformError::Arrow { batch: name.clone(), source })?;
        let refused = table.refused.len();
        let quarantine_key = QuarantineKey { partition: batch.partition.clone(), batch_id: batch.batch_id }.to_string();
        if refused > 0 || !table.conflicts.is_empty() {
            let lines = quarantine_lines(batch, &table.refused, &table.conflicts);
            self.lake.silver.put(&quarantine_key, Bytes::from(lines), PutMode::Overwrite).await?;
        } else if quarantined.contains(&quarantine_key) {
            // What was refused once may pass today.
            self.lake.silver.delete(&quarantine_key).await?;
        }
        if refused as f64 > self.options.quarantine_threshold * (passed + refused) as f64 {
            return Err(TransformError::Quarantine {
                batch: name,
                refused,
                rows: passed + refused,
                threshold: self.options.quarantine_threshold,
                quarantine_key,
                example: example(&table.refused),
            });
        }
        let bytes =
            table.to_parquet(shape, &provenance).map_err(|source| TransformError::Parquet { batch: name, source })?;
        let bytes_out = bytes.len() as u64;
        let silver_key = SilverKey { partition: batch.partition.clone(), batch_id: batch.batch_id };
        self.lake.silver.put(&silver_key.to_string(), Bytes::from(bytes), PutMode::Overwrite).await?;
        Ok(Outcome::Written(Written {
            pages: batch.files.len() as u64,
            rows: table.rows.num_rows() as u64,
            refused: refused as u64,
            duplicates: table.duplicates as u64,
            conflicts: table.conflicts.len() as u64,
            bytes_in,
            bytes_out,
            drift: table.drift,
            elapsed: started.elapsed(),
        }))
    }

    /// What the lake has of an endpoint: its batches in Bronze, those that Silver has, the keys of its quarantine.
    async fn listed(
        &self,
        endpoint: &str,
    ) -> Result<(Vec<BronzeBatch>, HashSet<(Partition, BatchId)>, Vec<String>), TransformError> {
        let quarantine =
            async { Ok::<_, TransformError>(self.lake.silver.list_keys(&quarantine_prefix(endpoint)).await?) };
        futures::try_join!(self.bronze_batches(endpoint), self.silver_batches(endpoint), quarantine)
    }

    /// The batches of an endpoint that have at least their first page, by partition and batch_id.
    async fn bronze_batches(&self, endpoint: &str) -> Result<Vec<BronzeBatch>, TransformError> {
        let keys = list(self.lake.bronze.as_ref(), endpoint, &self.options.selectors).await?;
        Ok(group(&keys))
    }

    async fn silver_batches(&self, endpoint: &str) -> Result<HashSet<(Partition, BatchId)>, TransformError> {
        if self.options.force {
            return Ok(HashSet::new());
        }
        let keys = list(self.lake.silver.as_ref(), endpoint, &self.options.selectors).await?;
        let keys = keys.iter().filter_map(|key| key.parse::<SilverKey>().ok());
        Ok(keys.map(|key| (key.partition, key.batch_id)).collect())
    }

    /// Drops what the selectors do not ask for; `current` and `last` are the latest that Bronze has.
    fn select(&self, batches: &mut Vec<BronzeBatch>) {
        let selectors = &self.options.selectors;
        if let Some(batch_id) = selectors.batch_id {
            batches.retain(|batch| batch.batch_id == batch_id);
        }
        if let Some(seasons) = &selectors.seasons {
            let latest = batches.iter().filter_map(|batch| batch.partition.season()).max().unwrap_or(0);
            let seasons = seasons.resolve(latest);
            batches.retain(|batch| Selectors::matches(&batch.partition, Some(&seasons), None));
        }
        match &selectors.rounds {
            None => {}
            Some(RoundSelector::Numbers(rounds)) => {
                batches.retain(|batch| Selectors::matches(&batch.partition, None, Some(rounds)));
            }
            Some(RoundSelector::Last) => {
                let mut last: BTreeMap<Option<u16>, Option<u8>> = BTreeMap::new();
                for batch in batches.iter() {
                    let round = last.entry(batch.partition.season()).or_default();
                    *round = (*round).max(batch.partition.round());
                }
                batches.retain(|batch| last[&batch.partition.season()] == batch.partition.round());
            }
        }
    }
}

impl BronzeBatch {
    pub fn key(&self, file: BronzeFile) -> BronzeKey {
        BronzeKey { partition: self.partition.clone(), batch_id: self.batch_id, file }
    }
}

impl EndpointReport {
    fn add(&mut self, batch: &BronzeBatch, written: &Written) {
        self.batches += 1;
        self.pages += written.pages;
        self.rows += written.rows;
        self.quarantined += written.refused;
        self.duplicates += written.duplicates;
        self.conflicts += written.conflicts;
        self.bytes_in += written.bytes_in;
        self.bytes_out += written.bytes_out;
        self.seconds += written.elapsed.as_secs_f64();
        self.batch_ids.insert(batch.batch_id.to_string());
    }
}

/// Lets the allocator keep what a batch gives back for the next one. Every column of every object has a compressor with a
/// buffer that glibc would otherwise give back to the system and fetch again: half of all page faults.
fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets numbers of the allocator, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 20);
    }
}

/// Keys of an endpoint, narrowed to the seasons asked for where that is one listing each.
async fn list(bucket: &dyn Bucket, endpoint: &str, selectors: &Selectors) -> Result<Vec<String>, LakeError> {
    let prefix = endpoint_prefix(endpoint);
    let seasons = selectors.seasons.as_ref().filter(|seasons| !seasons.names_current());
    let seasons = seasons.map(|seasons| seasons.resolve(0)).filter(|seasons| seasons.len() <= 3);
    let mut prefixes = Vec::new();
    match seasons {
        // An endpoint without seasons has its batches directly below it.
        Some(seasons) => {
            prefixes.extend(seasons.iter().map(|season| format!("{prefix}season={season}/")));
            prefixes.push(format!("{prefix}batch_id="));
        }
        None => prefixes.push(prefix),
    }
    let mut keys = Vec::new();
    for prefix in prefixes {
        keys.extend(bucket.list_keys(&prefix).await?);
    }
    Ok(keys)
}

/// Keys to batches with their files in page order. What is not a page (the marker of a batch that was started over) is none
/// of ours.
fn group(keys: &[String]) -> Vec<BronzeBatch> {
    let mut batches: Vec<BronzeBatch> = Vec::new();
    // Keys of one batch follow each other, and only their last part differs.
    for of_batch in keys.chunk_by(|a, b| folder(a) == folder(b)) {
        let Some(key) = of_batch.iter().find_map(|key| key.parse::<BronzeKey>().ok()) else { continue };
        let names = of_batch.iter().filter_map(|key| BronzeFile::from_name(&key[folder(key).len()..]));
        let mut files: Vec<BronzeFile> = names.collect();
        files.sort_unstable();
        batches.push(BronzeBatch { partition: key.partition, batch_id: key.batch_id, files });
    }
    batches.sort_unstable_by(|a, b| (&a.partition, a.batch_id).cmp(&(&b.partition, b.batch_id)));
    batches
}

/// A key without its last part.
fn folder(key: &str) -> &str {
    &key[..key.rfind('/').map_or(0, |slash| slash + 1)]
}

/// The page's own account of itself must agree with its key.
fn check_envelope<'a>(
    batch: &BronzeBatch,
    file: BronzeFile,
    key: &str,
    info: &PageInfo<'a>,
) -> Result<Metadata<'a>, TransformError> {
    let wrong = |reason: String| TransformError::Envelope { key: key.to_owned(), reason };
    let metadata = info.metadata.ok_or_else(|| wrong("it has no `metadata`".to_owned()))?;
    let metadata = Metadata::parse(metadata).map_err(|error| wrong(format!("its metadata: {error}")))?;
    let page = match file {
        BronzeFile::Data => 1,
        BronzeFile::Page(page) => page,
    };
    let of_key =
        (batch.batch_id.as_str(), batch.partition.endpoint(), batch.partition.season(), batch.partition.round());
    let of_page = (metadata.batch_id.as_ref(), metadata.endpoint.as_ref(), metadata.season, metadata.round);
    if of_key != of_page || page != metadata.page {
        let of = |part: Option<String>| part.unwrap_or_else(|| "none".to_owned());
        return Err(wrong(format!(
            "its metadata says page {} of endpoint {}, season {}, round {}, batch {}",
            metadata.page,
            metadata.endpoint,
            of(metadata.season.map(|season| season.to_string())),
            of(metadata.round.map(|round| round.to_string())),
            metadata.batch_id
        )));
    }
    Ok(metadata)
}

/// Refused rows and losing duplicates, one JSON object a line.
fn quarantine_lines(batch: &BronzeBatch, refused: &[Refused], conflicts: &[String]) -> String {
    let mut lines = String::new();
    let mut push =
        |page: Option<u32>, kind: &str, reasons: serde_json::Value, context: serde_json::Value, row: &str| {
            let mut line = json!({
                "endpoint": batch.partition.endpoint(),
                "season": batch.partition.season(),
                "round": batch.partition.round(),
                "batch_id": batch.batch_id.as_str(),
                "page": page,
                "kind": kind,
                "reasons": reasons,
                "context": context,
            })
            .to_string();
            // The row's own bytes, not a copy that was parsed and written again; line breaks between its fields would break
            // the line, and a JSON text cannot hold one.
            line.pop();
            let row: String = row.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
            lines.push_str(&format!("{line},\"row\":{row}}}\n"));
        };
    for row in refused {
        let reasons: Vec<_> = row
            .reasons
            .iter()
            .map(|r| json!({"column": r.column, "path": r.path, "value": r.value, "reason": r.reason}))
            .collect();
        push(Some(row.page), "invalid", reasons.into(), json!(row.context), &row.json);
    }
    for row in conflicts {
        let reason = json!([{"reason": "the same key came again later in the listing, with other values"}]);
        push(None, "conflict", reason, json!({}), row);
    }
    debug_assert!(lines.lines().all(|line| serde_json::from_str::<&RawValue>(line).is_ok()));
    lines
}

fn example(refused: &[Refused]) -> String {
    let reason = refused.first().and_then(|row| row.reasons.first());
    reason.map_or_else(String::new, |reason| {
        let value = reason.value.as_deref().map_or("null".to_owned(), |value| format!("`{value}`"));
        format!("column `{}` ({} = {value}) {}", reason.column, reason.path, reason.reason)
    })
}
