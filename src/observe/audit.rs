//! The audit trail: one row a run in `chpipe.runs`, one row a step in `chpipe.events`. In: run records of the lake and of
//! this process; out: rows, each harmless to insert twice. It makes no table: `chpipe migrate` does, so a warehouse that
//! was never migrated gets nothing.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::RunRecord;
use crate::engine::{Engine, EngineError, QueryOptions, Session, quote_identifier, quote_string};

/// Columns of `chpipe.events` that chpipe writes, as ClickHouse's `format()` needs them.
pub const EVENT_COLUMNS: &str = "run_id String, event String, name String, kind String, batch_id String, status String, \
    started_at DateTime64(3, 'UTC'), seconds Float64, pages UInt64, rows UInt64, bytes_in UInt64, bytes UInt64, \
    quarantined UInt64, detail String";
const RUN_COLUMNS: &str = "run_id String, command String, started_at DateTime64(3, 'UTC'), \
    finished_at DateTime64(3, 'UTC'), outcome String, error String, record String";
/// So many rows go into one statement.
const ROWS_A_STATEMENT: usize = 2000;

/// One step of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Event {
    pub run_id: String,
    /// `extract`, `request`, `transform`, `drift`, `load`, `migration`, `node`.
    pub event: String,
    /// The endpoint, the migration, the node's unique id.
    pub name: String,
    /// The node's resource type; the field of a drift.
    pub kind: String,
    pub batch_id: String,
    pub status: String,
    pub started_at: String,
    pub seconds: f64,
    pub pages: u64,
    /// Rows out; how often, for requests and drift.
    pub rows: u64,
    pub bytes_in: u64,
    /// Bytes out.
    pub bytes: u64,
    pub quarantined: u64,
    /// The rest, as JSON.
    pub detail: String,
}

/// What a command leaves for its audit row while it runs: the engine it opened, the results of its nodes.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    engine: Option<Arc<dyn Engine>>,
    nodes: Vec<Value>,
    arguments: Value,
    is_reading: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("nodes", &self.0.lock().nodes.len()).finish_non_exhaustive()
    }
}

impl Journal {
    /// Notes the warehouse of this run, so that the audit needs not open it again.
    pub fn opened(&self, engine: &Arc<dyn Engine>) {
        self.0.lock().engine = Some(Arc::clone(engine));
    }

    /// Notes the entries of `results` in run_results.json.
    pub fn add_nodes(&self, results: &[Value]) {
        self.0.lock().nodes.extend_from_slice(results);
    }

    /// Notes what the command was asked for: no values of variables, and no statement, since these can hold secrets.
    pub fn set_arguments(&self, arguments: Value) {
        self.0.lock().arguments = arguments;
    }

    /// What the command was asked for; null where it said nothing.
    pub fn arguments(&self) -> Value {
        self.0.lock().arguments.clone()
    }

    /// Notes that this run changes nothing, so that it needs no audit row.
    pub fn only_reads(&self) {
        self.0.lock().is_reading = true;
    }

    pub fn is_reading(&self) -> bool {
        self.0.lock().is_reading
    }

    /// The warehouse, where one was opened; it is closed when the answer is dropped.
    pub fn take_engine(&self) -> Option<Arc<dyn Engine>> {
        self.0.lock().engine.take()
    }

    /// The nodes as events.
    pub fn events(&self, run_id: &str) -> Vec<Event> {
        self.0.lock().nodes.iter().map(|node| node_event(node, run_id)).collect()
    }
}

/// The audit tables of one state database.
pub struct Audit<'a> {
    session: &'a mut dyn Session,
    database: &'a str,
}

impl<'a> Audit<'a> {
    /// The tables, or none where they were not made.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn open(session: &'a mut dyn Session, database: &'a str) -> Result<Option<Self>, EngineError> {
        let sql = format!(
            "SELECT count() AS tables FROM system.tables WHERE database = {} AND name IN ('runs', 'events')",
            quote_string(database)
        );
        let there = rows(session, &sql)?.first().and_then(|row| row["tables"].as_u64()) == Some(2);
        Ok(there.then_some(Self { session, database }))
    }

    /// Ids of the runs of extract and transform that were taken over.
    ///
    /// # Errors
    /// The server refuses.
    pub fn known(&mut self) -> Result<HashSet<String>, EngineError> {
        let sql = format!(
            "SELECT DISTINCT run_id FROM {}.runs WHERE command IN ('extract', 'transform')",
            quote_identifier(self.database)
        );
        let found = rows(self.session, &sql)?;
        Ok(found.iter().filter_map(|row| row["run_id"].as_str().map(str::to_owned)).collect())
    }

    /// What the ledgers say of loads and migrations of a run.
    ///
    /// # Errors
    /// The server refuses.
    pub fn ledger_events(&mut self, run_id: &str) -> Result<Vec<Event>, EngineError> {
        let database = quote_identifier(self.database);
        let id = quote_string(run_id);
        let sql = format!(
            "SELECT 'load' AS event, toString(dataset) AS name, toString(mode) AS kind, toString(state) AS status, \
             min(recorded_at) AS started_at, count() AS pages, sum(rows) AS rows, sum(bytes) AS bytes, \
             any(reason) AS detail FROM {database}.loads FINAL WHERE run_id = {id} GROUP BY dataset, mode, state \
             UNION ALL \
             SELECT 'migration', id, toString(kind), toString(state), started_at, toUInt64(steps), 0, 0, \
             toJSONString(objects) FROM {database}.migrations FINAL WHERE run_id = {id}"
        );
        let found = match rows(self.session, &sql) {
            // Never migrated or loaded.
            Err(EngineError::Server { code: 60, .. }) => return Ok(Vec::new()),
            found => found?,
        };
        Ok(found
            .iter()
            .map(|row| Event {
                run_id: run_id.to_owned(),
                event: text(row, "event"),
                name: text(row, "name"),
                kind: text(row, "kind"),
                status: text(row, "status"),
                started_at: text(row, "started_at"),
                pages: number(row, "pages"),
                rows: number(row, "rows"),
                bytes: number(row, "bytes"),
                detail: text(row, "detail"),
                ..Event::default()
            })
            .collect())
    }

    /// Adds runs and their steps; the steps first, so that a run that is there is whole.
    ///
    /// # Errors
    /// The server refuses.
    pub fn write(&mut self, runs: &[(RunRecord, Vec<Event>)]) -> Result<(), EngineError> {
        let events: Vec<Value> =
            runs.iter().flat_map(|(_, events)| events).filter_map(|event| serde_json::to_value(event).ok()).collect();
        let runs: Vec<Value> = runs.iter().map(|(record, _)| run_row(record)).collect();
        self.insert("events", EVENT_COLUMNS, &events)?;
        self.insert("runs", RUN_COLUMNS, &runs)
    }

    fn insert(&mut self, table: &str, columns: &str, values: &[Value]) -> Result<(), EngineError> {
        let names: Vec<&str> = columns
            .split(", ")
            .filter(|part| !part.starts_with('\''))
            .filter_map(|part| part.split(' ').next())
            .collect();
        let names = names.join(", ");
        for part in values.chunks(ROWS_A_STATEMENT) {
            let lines: Vec<String> = part.iter().map(ToString::to_string).collect();
            let sql = format!(
                "INSERT INTO {}.{} ({names}) SELECT {names} FROM format('JSONEachRow', {}, {})",
                quote_identifier(self.database),
                quote_identifier(table),
                quote_string(columns),
                quote_string(&lines.join("\n")),
            );
            let options = QueryOptions::default()
                .setting("max_query_size", "100000000")
                .setting("date_time_input_format", "best_effort");
            self.session.execute(&sql, &options)?;
        }
        Ok(())
    }
}

/// A run as a row of `chpipe.runs`.
fn run_row(record: &RunRecord) -> Value {
    json!({
        "run_id": record.run_id.to_string(),
        "command": record.command,
        "started_at": timestamp(record.started_at),
        "finished_at": timestamp(record.finished_at),
        "outcome": record.outcome,
        "error": record.error.as_deref().unwrap_or_default(),
        "record": serde_json::to_string(record).unwrap_or_default(),
    })
}

/// The steps of a run record of the lake.
pub fn lake_events(record: &RunRecord) -> Vec<Event> {
    let base =
        Event { run_id: record.run_id.to_string(), started_at: timestamp(record.started_at), ..Event::default() };
    let nothing = Map::new();
    let mut events = Vec::new();
    for (endpoint, counters) in record.endpoints.as_object().unwrap_or(&nothing) {
        let number = |name: &str| counters[name].as_u64().unwrap_or_default();
        let failed = number("failed") > 0;
        events.push(Event {
            event: record.command.clone(),
            name: endpoint.clone(),
            batch_id: record.batch_ids.last().cloned().unwrap_or_default(),
            status: if failed { "failed" } else { "success" }.to_owned(),
            seconds: counters["seconds"].as_f64().unwrap_or_default(),
            pages: number("pages"),
            rows: number("rows"),
            bytes_in: number("bytes_in"),
            bytes: number("bytes").max(number("bytes_out")),
            quarantined: number("quarantined"),
            detail: counters.to_string(),
            ..base.clone()
        });
    }
    for (endpoint, outcomes) in record.requests.as_object().unwrap_or(&nothing) {
        for (outcome, count) in outcomes.as_object().unwrap_or(&nothing) {
            events.push(Event {
                event: "request".into(),
                name: endpoint.clone(),
                status: outcome.clone(),
                rows: count.as_u64().unwrap_or_default(),
                seconds: record.durations[endpoint][outcome]["seconds"].as_f64().unwrap_or_default(),
                detail: record.durations[endpoint][outcome].to_string(),
                ..base.clone()
            });
        }
    }
    for drift in record.drift.as_array().map(Vec::as_slice).unwrap_or_default() {
        events.push(Event {
            event: "drift".into(),
            name: drift["endpoint"].as_str().unwrap_or_default().to_owned(),
            kind: drift["path"].as_str().unwrap_or_default().to_owned(),
            rows: drift["count"].as_u64().unwrap_or_default(),
            detail: drift.to_string(),
            ..base.clone()
        });
    }
    events
}

/// An entry of run_results.json.
fn node_event(node: &Value, run_id: &str) -> Event {
    let unique_id = node["unique_id"].as_str().unwrap_or_default();
    let response = &node["adapter_response"];
    let started = node["timing"].as_array().and_then(|timing| timing.last()).map(|timing| &timing["started_at"]);
    Event {
        run_id: run_id.to_owned(),
        event: "node".into(),
        name: unique_id.to_owned(),
        kind: unique_id.split('.').next().unwrap_or_default().to_owned(),
        status: node["status"].as_str().unwrap_or_default().to_owned(),
        started_at: started.and_then(Value::as_str).map_or_else(|| timestamp(Utc::now()), str::to_owned),
        seconds: node["execution_time"].as_f64().unwrap_or_default(),
        rows: response["rows_affected"].as_u64().unwrap_or_default(),
        detail: json!({
            "relation": node["relation_name"],
            "failures": node["failures"],
            "message": node["message"],
            "response": response,
        })
        .to_string(),
        ..Event::default()
    }
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The rows of a small result, as JSON objects.
///
/// # Errors
/// The server refuses.
pub fn rows(session: &mut dyn Session, sql: &str) -> Result<Vec<Value>, EngineError> {
    let options = QueryOptions::default()
        .setting("output_format_json_quote_64bit_integers", "0")
        .setting("output_format_json_quote_denormals", "0");
    let mut out = Vec::new();
    session.query_format(sql, "JSONEachRow", &options, &mut out)?;
    Ok(out.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// A column as text, whatever it is; empty where it is not there.
pub fn text(row: &Value, name: &str) -> String {
    match &row[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

/// A column as a whole number; 0 where it is none.
pub fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_what_its_adapter_said() {
        let node = json!({
            "unique_id": "snapshot.f1.snap_drivers", "status": "success", "execution_time": 0.5,
            "adapter_response": {"rows_inserted": 3}, "timing": [{"name": "execute", "started_at": "2024-12-16T12:00:00Z"}],
        });
        let event = node_event(&node, "run");
        assert_eq!((event.kind.as_str(), event.status.as_str()), ("snapshot", "success"));
        assert!(event.detail.contains("\"rows_inserted\":3"));
        assert_eq!(event.started_at, "2024-12-16T12:00:00Z");
    }
}
