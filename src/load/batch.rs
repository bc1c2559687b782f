//! Batch mode: the objects that the ledger does not know are inserted, many in a statement. Exactly once: an object is noted
//! before its rows can arrive; what a crash left is removed by its `_path` before it is loaded again; and a row that arrives
//! twice has one sorting key, so that FINAL shows it once even between the two.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ddl::{Dataset, TableSpec, Templates, file_kind, load_select},
    engine::{Engine, EngineError, QueryOptions, Session, quote_string},
    migrate::{
        Live, Lock,
        rows::{number, rows, text},
    },
    schema::{Relation, SchemaObject, Table},
};

use super::{LoadError, LoadLedger, LoadRecord, LoadState, ledger::Note};

/// Objects in one statement: enough that the statement's own cost does not matter, few enough to show progress and to
/// find the one that fails.
const OBJECTS_PER_STATEMENT: usize = 500;
/// Compressed bytes in one statement.
const BYTES_PER_STATEMENT: u64 = 512 * 1024 * 1024;

/// An object of Silver that belongs to a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadObject {
    pub key: String,
    pub etag: String,
    pub bytes: u64,
    /// Of its footer.
    pub rows: u64,
}

/// A dataset and all of its objects.
#[derive(Debug)]
pub struct DatasetLoad<'a> {
    pub dataset: &'a Dataset,
    pub spec: &'a TableSpec,
    pub objects: Vec<LoadObject>,
}

/// What was done to one dataset.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    pub dataset: String,
    /// Loaded now.
    pub objects: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Known to the ledger already.
    pub skipped: u64,
    /// Rows of another version of the object, or of an interrupted load, were removed first.
    pub replaced: u64,
    /// Objects that are not what was loaded under their key: a queue does not see that (queue mode only).
    pub changed: Vec<String>,
    pub failed: Vec<(String, String)>,
    pub elapsed: Duration,
}

/// Told while objects are loaded.
pub trait LoadProgress {
    fn loaded(&self, dataset: &str, objects: u64, rows: u64);
    fn failed(&self, dataset: &str, key: &str, reason: &str);
}

/// Loads objects into the raw tables.
pub struct Loader {
    pub engine: Arc<dyn Engine>,
    pub templates: Templates,
    pub ledger: LoadLedger,
    pub raw_database: String,
    /// The Silver bucket's name, which begins the `_path` of every file that is not in another bucket.
    pub bucket: String,
    /// `host:port` of the Keeper, where chpipe can reach it by itself.
    pub keeper: Option<String>,
}

/// The tables of a dataset as they are.
struct Target {
    /// The bucket of its files.
    bucket: String,
    raw: Table,
    ext: Relation,
    columns: Vec<(String, String)>,
}

impl Loader {
    /// The objects that are to be loaded: unknown ones, those with another etag, failed and interrupted ones, and those
    /// that `reload` names.
    pub fn pending<'a>(
        load: &'a DatasetLoad<'_>,
        records: &HashMap<(String, String), LoadRecord>,
        reload: &[String],
    ) -> Vec<(&'a LoadObject, Option<LoadState>)> {
        load.objects
            .iter()
            .filter_map(|object| {
                let record = records.get(&(load.dataset.name.clone(), object.key.clone()));
                let wanted = reload.iter().any(|part| object.key.contains(part.as_str()));
                match record {
                    Some(record) if record.state == LoadState::Loaded && record.etag == object.etag && !wanted => None,
                    Some(record) => Some((object, Some(record.state))),
                    None => Some((object, None)),
                }
            })
            .collect()
    }

    /// Takes the objects out of the records whose raw table is empty, or is not there: whoever dropped or truncated it took
    /// their rows, and the ledger does not know. Answers the names of those datasets.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn forget_emptied(
        &self,
        session: &mut dyn Session,
        datasets: &[DatasetLoad<'_>],
        records: &mut HashMap<(String, String), LoadRecord>,
    ) -> Result<Vec<String>, LoadError> {
        let mut loaded: HashMap<&str, u64> = HashMap::new();
        for record in records.values().filter(|record| record.state == LoadState::Loaded) {
            *loaded.entry(&record.dataset).or_default() += record.rows;
        }
        // Rows that expired are gone for good.
        let with_rows: Vec<(&str, Relation)> = datasets
            .iter()
            .filter(|load| {
                load.spec.ttl.is_none() && loaded.get(load.dataset.name.as_str()).is_some_and(|rows| *rows > 0)
            })
            .map(|load| (load.dataset.name.as_str(), load.spec.relation("raw", &self.raw_database)))
            .collect();
        if with_rows.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = with_rows
            .iter()
            .map(|(_, raw)| format!("({}, {})", quote_string(&raw.database), quote_string(&raw.name)))
            .collect();
        // A table that cannot count its rows (Distributed) may have some.
        let sql = format!(
            "SELECT database, name FROM system.tables WHERE (database, name) IN ({}) AND ifNull(total_rows, 1) > 0",
            names.join(", ")
        );
        let filled = rows(session, &sql)?;
        let is_filled =
            |raw: &Relation| filled.iter().any(|row| text(row, 0) == raw.database && text(row, 1) == raw.name);
        let emptied: Vec<String> =
            with_rows.iter().filter(|(_, raw)| !is_filled(raw)).map(|(name, _)| (*name).to_owned()).collect();
        records.retain(|(dataset, _), _| !emptied.contains(dataset));
        Ok(emptied)
    }

    /// Loads what is pending of a dataset.
    ///
    /// # Errors
    /// A table is missing or older than the files; the server is lost. An object that alone fails is in the report.
    pub fn load(
        &self,
        load: &DatasetLoad<'_>,
        records: &HashMap<(String, String), LoadRecord>,
        reload: &[String],
        lock: &Lock,
        progress: &dyn LoadProgress,
    ) -> Result<LoadReport, LoadError> {
        let begun = Instant::now();
        let name = load.dataset.name.as_str();
        let mut report = LoadReport { dataset: name.to_owned(), ..LoadReport::default() };
        let pending = Self::pending(load, records, reload);
        report.skipped = (load.objects.len() - pending.len()) as u64;
        if pending.is_empty() {
            report.elapsed = begun.elapsed();
            return Ok(report);
        }
        let mut session = self.engine.connect()?;
        let target = self.target(&mut *session, load)?;
        // Whatever the ledger has a word of may have left rows.
        let known: Vec<LoadObject> =
            pending.iter().filter(|(_, state)| state.is_some()).map(|(object, _)| (*object).clone()).collect();
        if !known.is_empty() {
            self.wait_for_statements(&mut *session, &known, records, name)?;
            report.replaced = self.remove(&mut *session, &target, &known, name)?;
        }
        let objects: Vec<LoadObject> = pending.into_iter().map(|(object, _)| object.clone()).collect();
        for chunk in chunks(&objects) {
            lock.check()?;
            if crate::interrupt::interrupted() {
                return Err(LoadError::Interrupted);
            }
            self.load_chunk(&mut *session, &target, name, chunk, &mut report, progress)?;
        }
        report.elapsed = begun.elapsed();
        Ok(report)
    }

    /// Loads some objects in one statement; where that fails, halves of them, until the one is found that cannot be loaded.
    fn load_chunk(
        &self,
        session: &mut dyn Session,
        target: &Target,
        dataset: &str,
        objects: &[LoadObject],
        report: &mut LoadReport,
        progress: &dyn LoadProgress,
    ) -> Result<(), LoadError> {
        let query_id = format!("chpipe-load-{}", uuid::Uuid::new_v4().simple());
        self.ledger.record(session, dataset, objects, LoadState::Loading, note(&query_id, ""))?;
        match self.insert(session, target, objects, &query_id) {
            Ok(()) => {
                self.ledger.record_batches(session, objects)?;
                self.ledger.record(session, dataset, objects, LoadState::Loaded, note(&query_id, ""))?;
                let rows = objects.iter().map(|object| object.rows).sum();
                report.objects += objects.len() as u64;
                report.rows += rows;
                report.bytes += objects.iter().map(|object| object.bytes).sum::<u64>();
                tracing::info!(dataset, objects = objects.len(), rows, query_id, "objects loaded");
                progress.loaded(dataset, objects.len() as u64, rows);
                Ok(())
            }
            Err(Failure::Lost(error)) => Err(error),
            Err(Failure::Objects(reason)) => {
                self.remove(session, target, objects, dataset)?;
                if let [object] = objects {
                    self.ledger.record(session, dataset, objects, LoadState::Failed, note(&query_id, &reason))?;
                    progress.failed(dataset, &object.key, &reason);
                    report.failed.push((object.key.clone(), reason));
                    return Ok(());
                }
                let (first, second) = objects.split_at(objects.len() / 2);
                self.load_chunk(session, target, dataset, first, report, progress)?;
                self.load_chunk(session, target, dataset, second, report, progress)
            }
        }
    }

    fn insert(
        &self,
        session: &mut dyn Session,
        target: &Target,
        objects: &[LoadObject],
        query_id: &str,
    ) -> Result<(), Failure> {
        let paths: Vec<String> =
            objects.iter().filter(|object| object.rows > 0).map(|object| path(&target.bucket, &object.key)).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let sql = self
            .templates
            .load_objects(&target.ext.to_string(), &target.raw.name, &target.columns, &paths)
            .map_err(|error| Failure::Lost(error.into()))?;
        let options = QueryOptions::default()
            .query_id(query_id)
            // Every row of a file arrives, so that the count can be checked; merges and FINAL make one of equal keys.
            .setting("optimize_on_insert", "0")
            // One token for a statement would let a repeat skip blocks that now hold other rows.
            .setting("insert_deduplicate", "0")
            .setting("max_partitions_per_insert_block", "0")
            .setting("max_query_size", "100000000");
        let summary = session.execute(&sql, &options).map_err(|error| match error {
            EngineError::Server { .. } if !is_of_the_server(&error) => Failure::Objects(error.to_string()),
            error => Failure::Lost(error.into()),
        })?;
        let expected: u64 = objects.iter().map(|object| object.rows).sum();
        match summary.written_rows {
            // More is no fault: materialized views over the table write rows of their own, and the server counts both.
            Some(written) if written < expected => {
                Err(Failure::Objects(format!("{written} rows arrived where the footers say {expected}")))
            }
            _ => Ok(()),
        }
    }

    /// Removes the rows of objects, where there are any. Answers how many objects had some.
    fn remove(
        &self,
        session: &mut dyn Session,
        target: &Target,
        objects: &[LoadObject],
        _dataset: &str,
    ) -> Result<u64, LoadError> {
        let mut replaced = 0;
        for chunk in objects.chunks(OBJECTS_PER_STATEMENT) {
            let paths: Vec<String> =
                chunk.iter().map(|object| quote_string(&path(&target.bucket, &object.key))).collect();
            let condition = format!("_path IN ({})", paths.join(", "));
            let count = format!("SELECT uniqExact(_path) FROM {} WHERE {condition}", target.raw.name);
            let found = rows(session, &count)?.first().map_or(0, |row| number(row, 0));
            if found > 0 {
                replaced += found;
                // Not a lightweight DELETE: that one refuses a table with projections.
                let delete = format!("ALTER TABLE {} DELETE WHERE {condition}", target.raw.name);
                session.execute(&delete, &QueryOptions::default().setting("mutations_sync", "2"))?;
            }
        }
        Ok(replaced)
    }

    /// On a server the statement of a killed chpipe may still run: it is ended first.
    fn wait_for_statements(
        &self,
        session: &mut dyn Session,
        objects: &[LoadObject],
        records: &HashMap<(String, String), LoadRecord>,
        dataset: &str,
    ) -> Result<(), LoadError> {
        let mut ids: Vec<&str> = objects
            .iter()
            .filter_map(|object| records.get(&(dataset.to_owned(), object.key.clone())))
            .filter(|record| record.state == LoadState::Loading)
            .map(|record| record.query_id.as_str())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let sql = format!("SELECT count() FROM system.processes WHERE query_id = {}", quote_string(id));
            if rows(session, &sql)?.first().is_some_and(|row| number(row, 0) > 0) {
                let kill = format!("KILL QUERY WHERE query_id = {} SYNC", quote_string(id));
                session.execute(&kill, &QueryOptions::default())?;
            }
        }
        Ok(())
    }

    /// The dataset's tables, checked to be as new as its files.
    fn target(&self, session: &mut dyn Session, load: &DatasetLoad<'_>) -> Result<Target, LoadError> {
        let name = &load.dataset.name;
        let raw = load.spec.relation("raw", &self.raw_database);
        let ext = load.spec.relation("ext", &self.raw_database);
        let live = Live::read(session, &[&raw.database])?;
        let table = |relation: &Relation| match live.objects.get(relation).map(|object| &object.object) {
            Some(SchemaObject::Table(table)) => Ok(table.clone()),
            _ => Err(LoadError::NoTable { table: relation.plain() }),
        };
        let (raw, ext_table) = (table(&raw)?, table(&ext)?);
        for column in &load.dataset.schema.columns {
            let renamed = load.spec.renames.get(&column.name).unwrap_or(&column.name);
            let missing = |table: &Table, column: &str| LoadError::NoColumn {
                table: table.name.plain(),
                column: column.to_owned(),
                dataset: name.clone(),
            };
            match raw.column(renamed) {
                None if load.spec.drop.contains(renamed) => {}
                None => return Err(missing(&raw, renamed)),
                Some(target) => {
                    let pinned = load.spec.columns.get(renamed);
                    let pinned = pinned.is_some_and(|spec| spec.kind.is_some() || spec.nullable.is_some());
                    let (found, kind) =
                        (column.kind.clone().not_low_cardinality(), target.kind.clone().not_low_cardinality());
                    // What does not fit would arrive as another value, or as a default in the place of NULL.
                    if !pinned && found != kind && !found.widens_to(&kind) {
                        return Err(LoadError::NarrowColumn {
                            table: raw.name.plain(),
                            column: renamed.clone(),
                            kind: target.kind.to_string(),
                            found: column.kind.to_string(),
                            dataset: name.clone(),
                        });
                    }
                }
            }
            let Some(read) = ext_table.column(&column.name) else { return Err(missing(&ext_table, &column.name)) };
            let wanted = file_kind(&column.name, &column.kind, load.spec);
            let in_path = load.dataset.hive.iter().any(|hive| hive.name == column.name);
            if !in_path && wanted != read.kind && !wanted.widens_to(&read.kind) {
                return Err(LoadError::NarrowColumn {
                    table: ext_table.name.plain(),
                    column: column.name.clone(),
                    kind: read.kind.to_string(),
                    found: wanted.to_string(),
                    dataset: name.clone(),
                });
            }
        }
        let columns = load_select(load.dataset, load.spec, &raw);
        Ok(Target { bucket: load.dataset.bucket(&self.bucket).to_owned(), raw, ext, columns })
    }
}

/// The key as `_path` has it.
pub(super) fn path(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

fn note<'a>(query_id: &'a str, reason: &'a str) -> Note<'a> {
    Note { mode: "batch", query_id, reason }
}

/// Why an insert failed.
enum Failure {
    /// The server refused: one of the objects may be the cause.
    Objects(String),
    /// Nothing can be said of the objects.
    Lost(LoadError),
}

/// Whether a failure says nothing of the objects: then trying them one after the other would fail each, and what is to be
/// done is to try again later. TIMEOUT_EXCEEDED, READONLY, DNS_ERROR, TOO_MANY_SIMULTANEOUS_QUERIES, SOCKET_TIMEOUT,
/// NETWORK_ERROR, TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, TOO_MANY_PARTS, QUERY_WAS_CANCELLED, ACCESS_DENIED,
/// AUTHENTICATION_FAILED, KEEPER_EXCEPTION, POCO_EXCEPTION; and S3_ERROR, but for an object that is not there.
fn is_of_the_server(error: &EngineError) -> bool {
    match error {
        EngineError::Server {
            code: 159 | 164 | 198 | 202 | 209 | 210 | 242 | 243 | 252 | 394 | 497 | 516 | 999 | 1000,
            ..
        } => true,
        EngineError::Server { code: 499, message, .. } => {
            !["NoSuchKey", "HTTP response code: 404"].iter().any(|gone| message.contains(gone))
        }
        _ => false,
    }
}

/// Objects in statements of a bounded size, in key order: neighbours share partitions.
fn chunks(objects: &[LoadObject]) -> Vec<&[LoadObject]> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, object) in objects.iter().enumerate() {
        if index > start && (index - start >= OBJECTS_PER_STATEMENT || bytes + object.bytes > BYTES_PER_STATEMENT) {
            out.push(&objects[start..index]);
            start = index;
            bytes = 0;
        }
        bytes += object.bytes;
    }
    if start < objects.len() {
        out.push(&objects[start..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ails_the_server_fails_no_object() {
        let error = |text: &str| EngineError::from_server_text(text, "");
        for (text, of_the_server) in [
            (
                "Code: 499. DB::Exception: Failed to get object info: Connection refused. HTTP response code: 18446744073709551615. (S3_ERROR)",
                true,
            ),
            (
                "Code: 499. DB::Exception: Failed to get object info: No response body. HTTP response code: 404. (S3_ERROR)",
                false,
            ),
            ("Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)", true),
            ("Code: 117. DB::Exception: Not a Parquet file. (INCORRECT_DATA)", false),
        ] {
            assert_eq!(is_of_the_server(&error(text)), of_the_server, "{text}");
        }
    }

    #[test]
    fn statements_are_bounded_by_objects_and_bytes() {
        let object = |bytes| LoadObject { key: "k".into(), etag: "e".into(), bytes, rows: 1 };
        let many: Vec<_> = (0..1201).map(|_| object(10)).collect();
        assert_eq!(chunks(&many).iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [500, 500, 201]);
        let large = [object(BYTES_PER_STATEMENT), object(1), object(BYTES_PER_STATEMENT + 1)];
        assert_eq!(chunks(&large).iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(chunks(&[]).is_empty());
    }
}
