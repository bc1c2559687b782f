//! Queue mode: ClickHouse's S3Queue reads new objects by itself; chpipe waits until it has taken all that are there, and
//! notes them in the ledger and in `raw.batches`. Exactly once as models read it: what a killed consumer reads again has the
//! same sorting key, and what the ledger has is filtered out by the view.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    engine::{Session, quote_string},
    migrate::{
        Lock,
        rows::{number, rows, text},
    },
    schema::Relation,
};

use super::{
    DatasetLoad, LoadError, LoadObject, LoadProgress, LoadRecord, LoadReport, LoadState, Loader, ledger::Note,
};

/// How often the tables are asked.
const POLL: Duration = Duration::from_millis(500);

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
    raw: Relation,
    queue: Relation,
    objects: Vec<LoadObject>,
    report: LoadReport,
}

impl Loader {
    /// Waits until ClickHouse has taken every object, and notes each as it is complete. Gives up when nothing moved for
    /// `patience`.
    ///
    /// # Errors
    /// There is no Keeper or no queue; the server is lost.
    pub fn follow_queues(
        &self,
        loads: &[DatasetLoad<'_>],
        records: &HashMap<(String, String), LoadRecord>,
        patience: Duration,
        lock: &Lock,
        progress: &dyn LoadProgress,
    ) -> Result<QueueOutcome, LoadError> {
        if !self.engine.capabilities().keeper {
            return Err(LoadError::NoKeeper);
        }
        let mut session = self.engine.connect()?;
        let begun = Instant::now();
        let mut waiting = Vec::new();
        for load in loads {
            waiting.push(self.waiting(&mut *session, load, records)?);
        }
        let mut moved = Instant::now();
        loop {
            for dataset in &mut waiting {
                lock.check()?;
                if crate::interrupt::interrupted() {
                    return Err(LoadError::Interrupted);
                }
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

    fn waiting<'a>(
        &self,
        session: &mut dyn Session,
        load: &'a DatasetLoad<'a>,
        records: &HashMap<(String, String), LoadRecord>,
    ) -> Result<Waiting<'a>, LoadError> {
        let name = &load.dataset.name;
        let raw = Relation::new(&self.raw_database, format!("raw_{name}"));
        let queue = Relation::new(&self.raw_database, format!("queue_{name}"));
        let sql = format!(
            "SELECT count() FROM system.tables WHERE database = {} AND name IN ({}, {})",
            quote_string(&self.raw_database),
            quote_string(&raw.name),
            quote_string(&queue.name)
        );
        if rows(session, &sql)?.first().map_or(0, |row| number(row, 0)) < 2 {
            return Err(LoadError::NoQueue { table: queue.plain() });
        }
        let pending = Self::pending(load, records, &[]);
        let mut report = LoadReport { dataset: name.clone(), ..LoadReport::default() };
        report.skipped = (load.objects.len() - pending.len()) as u64;
        // A queue never reads a path twice, so a changed object is for `--reload`.
        let objects = pending
            .into_iter()
            .filter(|(_, state)| *state != Some(LoadState::Loaded))
            .map(|(object, _)| object.clone())
            .collect();
        Ok(Waiting { load, raw, queue, objects, report })
    }

    /// Notes the objects whose rows are all there. Answers how many.
    fn note_complete(
        &self,
        session: &mut dyn Session,
        dataset: &mut Waiting<'_>,
        progress: &dyn LoadProgress,
    ) -> Result<usize, LoadError> {
        if dataset.objects.is_empty() {
            return Ok(0);
        }
        let arrived = self.arrived(session, dataset)?;
        let states = self.queue_states(session, dataset)?;
        let (mut complete, mut failed, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for object in dataset.objects.drain(..) {
            let rows = arrived.get(&self.path(&object.key)).copied().unwrap_or_default();
            match states.get(&object.key) {
                _ if rows >= object.rows => complete.push(object),
                // Equal keys in one file were merged: ClickHouse says that it has read all of it.
                Some((status, _)) if status == "Processed" && rows > 0 => complete.push(object),
                Some((status, reason)) if status == "Failed" => failed.push((object, reason.clone())),
                _ => left.push(object),
            }
        }
        dataset.objects = left;
        let name = dataset.load.dataset.name.as_str();
        let note = |reason| Note { mode: "queue", query_id: "", reason };
        if !complete.is_empty() {
            self.ledger.record_batches(session, &complete)?;
            self.ledger.record(session, name, &complete, LoadState::Loaded, note(""))?;
            let rows = complete.iter().map(|object| object.rows).sum();
            dataset.report.objects += complete.len() as u64;
            dataset.report.rows += rows;
            dataset.report.bytes += complete.iter().map(|object| object.bytes).sum::<u64>();
            progress.loaded(name, complete.len() as u64, rows);
        }
        let moved = complete.len() + failed.len();
        for (object, reason) in failed {
            self.ledger.record(session, name, std::slice::from_ref(&object), LoadState::Failed, note(&reason))?;
            progress.failed(name, &object.key, &reason);
            dataset.report.failed.push((object.key, reason));
        }
        Ok(moved)
    }

    /// Rows of each path that is waited for.
    fn arrived(&self, session: &mut dyn Session, dataset: &Waiting<'_>) -> Result<HashMap<String, u64>, LoadError> {
        let mut arrived = HashMap::new();
        for chunk in dataset.objects.chunks(2_000) {
            let paths: Vec<String> = chunk.iter().map(|object| quote_string(&self.path(&object.key))).collect();
            let sql = format!(
                "SELECT _path, count() FROM {} WHERE _path IN ({}) GROUP BY _path",
                dataset.raw,
                paths.join(", ")
            );
            let options = crate::engine::QueryOptions::default().setting("max_query_size", "100000000");
            for row in crate::migrate::rows::rows_with(session, &sql, &options)? {
                arrived.insert(text(&row, 0).to_owned(), number(&row, 1));
            }
        }
        Ok(arrived)
    }

    /// What the queue says of its files: key to state and exception. Empty on a server that does not tell.
    fn queue_states(
        &self,
        session: &mut dyn Session,
        dataset: &Waiting<'_>,
    ) -> Result<HashMap<String, (String, String)>, LoadError> {
        let sql = format!(
            "SELECT file_path, toString(status), exception FROM system.s3queue_metadata_cache WHERE zookeeper_path IN \
             (SELECT extract(create_table_query, 'keeper_path = \\'([^\\']+)\\'') FROM system.tables WHERE database = {} AND name \
             = {}) AND status IN ('Processed', 'Failed')",
            quote_string(&dataset.queue.database),
            quote_string(&dataset.queue.name),
        );
        match rows(session, &sql) {
            Ok(found) => Ok(found
                .iter()
                .map(|row| (text(row, 0).to_owned(), (text(row, 1).to_owned(), text(row, 2).to_owned())))
                .collect()),
            Err(error) if error.code().is_some() => Ok(HashMap::new()),
            Err(error) => Err(error.into()),
        }
    }
}
