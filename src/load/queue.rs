//! Queue mode: ClickHouse's S3Queue reads new objects by itself; chpipe waits until it has taken all that are there, and
//! notes them in the ledger and in `raw.batches`. Exactly once as models read it: what a killed consumer reads again has the
//! same sorting key, and what the ledger has is filtered out by the view. What is taken is asked of Keeper, which alone
//! knows it for certain: rows of an object may be there before all of them are, or from an older queue.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use crate::{
    ddl::{WantedOptions, wanted_objects},
    engine::{QueryOptions, Session, quote_string},
    migrate::{
        Live, Lock,
        rows::{rows, rows_with, text},
    },
    schema::{Relation, SchemaObject, Table},
};

use super::{
    DatasetLoad, LoadError, LoadObject, LoadProgress, LoadRecord, LoadReport, LoadState, Loader, batch::path,
    keeper::Keeper, ledger::Note,
};

/// How often Keeper is asked.
const POLL: Duration = Duration::from_millis(500);
/// ClickHouse's KEEPER_EXCEPTION: there is no such path.
const NO_PATH: i32 = 999;
/// ClickHouse's UNKNOWN_TABLE and ACCESS_DENIED.
const NO_SYSTEM_TABLE: [i32; 2] = [60, 497];

/// How a wait ended.
#[derive(Debug)]
pub struct QueueOutcome {
    pub reports: Vec<LoadReport>,
    /// Objects that ClickHouse has not taken yet, when nothing moved for the time given.
    pub waiting: Vec<String>,
}

/// The objects of one dataset that are not noted yet.
struct Waiting<'a> {
    load: &'a DatasetLoad<'a>,
    /// The bucket of its files.
    bucket: &'a str,
    raw: Relation,
    /// Where its queue keeps its state.
    path: String,
    objects: Vec<LoadObject>,
    /// What the queue has read, and what it gave up with the reason.
    processed: HashSet<String>,
    failed: BTreeMap<String, String>,
    /// Nodes whose content is known.
    seen: HashSet<String>,
    report: LoadReport,
}

impl Loader {
    /// Waits until ClickHouse has taken every object, and notes each as it is complete. Gives up when nothing moved for
    /// `patience`.
    ///
    /// # Errors
    /// There is no Keeper or no queue, or the queue is of older columns than the files; the server is lost.
    pub fn follow_queues(
        &self,
        loads: &[DatasetLoad<'_>],
        records: &HashMap<(String, String), LoadRecord>,
        wanted: &WantedOptions,
        patience: Duration,
        lock: &Lock,
        progress: &dyn LoadProgress,
    ) -> Result<QueueOutcome, LoadError> {
        if !self.engine.capabilities().keeper && self.keeper.is_none() {
            return Err(LoadError::NoKeeper);
        }
        let mut session = self.engine.connect()?;
        let begun = Instant::now();
        let mut databases = vec![self.raw_database.as_str()];
        databases.extend(loads.iter().filter_map(|load| load.spec.database.as_deref()));
        let live = Live::read(&mut *session, &databases)?;
        let mut waiting = Vec::new();
        // A dataset without a file has no queue yet.
        for load in loads.iter().filter(|load| !load.objects.is_empty()) {
            waiting.push(self.waiting(&live, load, records, wanted)?);
        }
        let mut keeper = self.keeper()?;
        let mut moved = Instant::now();
        loop {
            for dataset in waiting.iter_mut().filter(|dataset| !dataset.objects.is_empty()) {
                lock.check()?;
                if crate::interrupt::interrupted() {
                    return Err(LoadError::Interrupted);
                }
                self.read_states(&mut *session, keeper.as_mut(), dataset)?;
                if self.note_complete(&mut *session, dataset, progress)? > 0 {
                    moved = Instant::now();
                }
                dataset.report.elapsed = begun.elapsed();
            }
            let left: Vec<String> =
                waiting.iter().flat_map(|dataset| dataset.objects.iter().map(|object| object.key.clone())).collect();
            if left.is_empty() || moved.elapsed() >= patience {
                let reports = waiting.into_iter().map(|dataset| dataset.report).collect();
                return Ok(QueueOutcome { reports, waiting: left });
            }
            std::thread::sleep(POLL);
        }
    }

    /// The Keeper itself, where its address is known; else the server is asked for it.
    fn keeper(&self) -> Result<Option<Keeper>, LoadError> {
        let connect = |address: &String| Keeper::connect(address).map_err(|source| self.keeper_error(source));
        self.keeper.as_ref().map(connect).transpose()
    }

    fn keeper_error(&self, source: std::io::Error) -> LoadError {
        LoadError::Keeper { address: self.keeper.clone().unwrap_or_default(), source }
    }

    fn waiting<'a>(
        &'a self,
        live: &Live,
        load: &'a DatasetLoad<'a>,
        records: &HashMap<(String, String), LoadRecord>,
        wanted: &WantedOptions,
    ) -> Result<Waiting<'a>, LoadError> {
        let name = &load.dataset.name;
        let relation = |kind: &str| load.spec.relation(kind, &self.raw_database);
        let table = |relation: &Relation| match live.objects.get(relation).map(|object| &object.object) {
            Some(SchemaObject::Table(table)) => Some(table.clone()),
            _ => None,
        };
        let (raw, queue) = (relation("raw"), relation("queue"));
        let no_queue = || LoadError::NoQueue { table: queue.plain() };
        if table(&raw).is_none() || !live.objects.contains_key(&relation("mv")) {
            return Err(no_queue());
        }
        let path = keeper_path(&table(&queue).ok_or_else(no_queue)?).ok_or_else(no_queue)?;
        // The path tells the columns. What an older queue read of newer files lacks columns: the next queue, of the next
        // migration, reads those files again, and they must not be noted before that.
        let options = WantedOptions { queue: true, ..wanted.clone() };
        let current = wanted_objects(load.dataset, load.spec, &options)?.into_iter().find_map(|object| match object {
            SchemaObject::Table(table) if table.engine.is_s3_queue() => keeper_path(&table),
            _ => None,
        });
        if current.as_ref() != Some(&path) {
            return Err(LoadError::OldQueue { table: queue.plain(), dataset: name.clone() });
        }
        let pending = Self::pending(load, records, &[]);
        let mut report = LoadReport { dataset: name.clone(), ..LoadReport::default() };
        report.skipped = (load.objects.len() - pending.len()) as u64;
        // A queue never reads a path twice, so a changed object is for `--reload`.
        let (changed, objects): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|(_, state)| *state == Some(LoadState::Loaded));
        report.changed = changed.into_iter().map(|(object, _)| object.key.clone()).collect();
        Ok(Waiting {
            load,
            bucket: load.dataset.bucket(&self.bucket),
            raw,
            path,
            objects: objects.into_iter().map(|(object, _)| object.clone()).collect(),
            processed: HashSet::new(),
            failed: BTreeMap::new(),
            seen: HashSet::new(),
            report,
        })
    }

    /// Reads what Keeper has learned since the last time.
    fn read_states(
        &self,
        session: &mut dyn Session,
        mut keeper: Option<&mut Keeper>,
        dataset: &mut Waiting<'_>,
    ) -> Result<(), LoadError> {
        for folder in ["processed", "failed"] {
            let path = format!("{}/{folder}", dataset.path);
            let nodes: Vec<(String, Vec<u8>)> = match &mut keeper {
                Some(keeper) => {
                    let fail = |source| self.keeper_error(source);
                    let mut names = keeper.children(&path).map_err(fail)?;
                    names.retain(|name| !dataset.seen.contains(&format!("{folder}/{name}")));
                    keeper.nodes(&path, &names).map_err(fail)?
                }
                None => system_nodes(session, &path)?,
            };
            for (name, data) in nodes {
                // A failure that is tried again is none yet.
                if name.ends_with(".retriable") {
                    continue;
                }
                let Ok(node) = serde_json::from_slice::<serde_json::Value>(&data) else { continue };
                let field = |name: &str| node.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
                let key = key(dataset.bucket, field("file_path"));
                if folder == "processed" {
                    dataset.processed.insert(key);
                } else {
                    let reason = field("last_exception");
                    dataset.failed.insert(key, reason.split(", Stack trace").next().unwrap_or(reason).to_owned());
                }
                dataset.seen.insert(format!("{folder}/{name}"));
            }
        }
        Ok(())
    }

    /// Notes the objects that the queue has read, or given up. Answers how many.
    fn note_complete(
        &self,
        session: &mut dyn Session,
        dataset: &mut Waiting<'_>,
        progress: &dyn LoadProgress,
    ) -> Result<usize, LoadError> {
        let (taken, left): (Vec<_>, Vec<_>) =
            dataset.objects.drain(..).partition(|object| dataset.processed.contains(&object.key));
        let (given_up, left): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|object| dataset.failed.contains_key(&object.key));
        dataset.objects = left;
        let there = with_rows(session, dataset, &taken)?;
        let (complete, lost): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .partition(|object| object.rows == 0 || there.contains(&path(dataset.bucket, &object.key)));
        let name = dataset.load.dataset.name.as_str();
        if !complete.is_empty() {
            // The rows first, then the word of them: a crash in between leaves an object to be noted again.
            self.ledger.record_batches(session, &complete)?;
            let note = Note { mode: "queue", query_id: "", reason: "" };
            self.ledger.record(session, name, &complete, LoadState::Loaded, note)?;
            let rows = complete.iter().map(|object| object.rows).sum();
            dataset.report.objects += complete.len() as u64;
            dataset.report.rows += rows;
            dataset.report.bytes += complete.iter().map(|object| object.bytes).sum::<u64>();
            progress.loaded(name, complete.len() as u64, rows);
        }
        let moved = complete.len() + given_up.len() + lost.len();
        let reasons = given_up.into_iter().map(|object| {
            let reason = dataset.failed.get(&object.key).cloned().unwrap_or_default();
            (object, reason)
        });
        let lost = lost.into_iter().map(|object| {
            let reason = format!(
                "the queue has read it and no row of it is in {}: another warehouse may use its Keeper path, {}",
                dataset.raw.plain(),
                dataset.path
            );
            (object, reason)
        });
        for (object, reason) in reasons.chain(lost).collect::<Vec<_>>() {
            let note = Note { mode: "queue", query_id: "", reason: &reason };
            self.ledger.record(session, name, std::slice::from_ref(&object), LoadState::Failed, note)?;
            progress.failed(name, &object.key, &reason);
            dataset.report.failed.push((object.key, reason));
        }
        Ok(moved)
    }
}

/// S3Queue leaves the bucket out of a file's path, in some versions.
fn key(bucket: &str, path: &str) -> String {
    path.strip_prefix(&format!("{bucket}/")).unwrap_or(path).to_owned()
}

/// The paths of which there are rows.
fn with_rows(
    session: &mut dyn Session,
    dataset: &Waiting<'_>,
    objects: &[LoadObject],
) -> Result<HashSet<String>, LoadError> {
    let mut there = HashSet::new();
    for chunk in objects.chunks(2_000) {
        let paths: Vec<String> = chunk.iter().map(|object| quote_string(&path(dataset.bucket, &object.key))).collect();
        let sql = format!("SELECT DISTINCT _path FROM {} WHERE _path IN ({})", dataset.raw, paths.join(", "));
        let options = QueryOptions::default().setting("max_query_size", "100000000");
        there.extend(rows_with(session, &sql, &options)?.iter().map(|row| text(row, 0).to_owned()));
    }
    Ok(there)
}

/// The `keeper_path` of a queue.
fn keeper_path(queue: &Table) -> Option<String> {
    queue.settings.get("keeper_path").map(|literal| literal.trim_matches('\'').to_owned())
}

/// Name and content of the nodes below a path, as the server tells them.
fn system_nodes(session: &mut dyn Session, path: &str) -> Result<Vec<(String, Vec<u8>)>, LoadError> {
    let sql = format!("SELECT name, value FROM system.zookeeper WHERE path = {}", quote_string(path));
    match rows(session, &sql) {
        Ok(found) => Ok(found.iter().map(|row| (text(row, 0).to_owned(), text(row, 1).as_bytes().to_vec())).collect()),
        Err(error) if error.code() == Some(NO_PATH) => Ok(Vec::new()),
        Err(error) if error.code().is_some_and(|code| NO_SYSTEM_TABLE.contains(&code)) => Err(LoadError::NoKeeper),
        Err(error) => Err(error.into()),
    }
}

/// Removes the marks of dead consumers below the queues' path. A killed consumer leaves the files that it was reading marked,
/// and ClickHouse waits for `persistent_processing_node_ttl_seconds` before it reads them; a consumer that has seen a mark
/// does not look again while it runs. So this comes before an embedded warehouse is opened, and only while nobody else has
/// it open: then every mark is of a dead one. Answers how many there were.
///
/// # Errors
/// The Keeper cannot be reached.
pub fn release_dead_consumers(address: &str, keeper_path: &str, database: &str) -> Result<usize, LoadError> {
    release(address, &format!("{keeper_path}/{database}"))
        .map_err(|source| LoadError::Keeper { address: address.to_owned(), source })
}

fn release(address: &str, path: &str) -> Result<usize, std::io::Error> {
    let mut keeper = Keeper::connect(address)?;
    let mut released = 0;
    for dataset in keeper.children(path)? {
        for columns in keeper.children(&format!("{path}/{dataset}"))? {
            let processing = format!("{path}/{dataset}/{columns}/processing");
            for mark in keeper.children(&processing)? {
                keeper.delete(&format!("{processing}/{mark}"))?;
                released += 1;
            }
        }
    }
    Ok(released)
}
