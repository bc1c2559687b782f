//! The state of the warehouse as metrics, read from the ledgers, the audit trail and the system tables. In: a session;
//! out: a [`Registry`]. What was never made (no migration, no load, another project than F1) is left out, not an error.
//! What extract and transform did, the lake tells ([`super::of_lake`]).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    audit::{rows, text},
    metrics::{self, Kind, Registry, Sample, SampleValue},
};
use crate::{
    engine::{EngineError, Session, quote_identifier, quote_string},
    migrate::LEASE,
};

/// Upper bounds of the duration buckets, seconds.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];
/// UNKNOWN_TABLE, UNKNOWN_DATABASE, UNKNOWN_IDENTIFIER: the project has no such thing.
const NOT_THERE: [i32; 3] = [60, 81, 47];
/// The name of a node from its unique id: `model.f1.dim_drivers`, `test.f1.not_null_stg_laps_lap.0a1b2c3d4e`.
const NODE: &str = "arrayStringConcat(arraySlice(splitByChar('.', name), 3, if(kind = 'test', 1, 9)), '.')";
/// A round's data should be there this long after its race.
const ROUND_DUE: &str = "INTERVAL 3 DAY";

/// Columns of a distribution beside its labels: `counts` by bucket (what is above the last bound included) and `sum`.
fn distribution(row: &Value, bounds: &[f64]) -> SampleValue {
    let counts = row["counts"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    SampleValue::Histogram { bounds: bounds.to_vec(), counts, sum: row["sum"].as_f64().unwrap_or_default() }
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Of the ledgers and the audit trail.
    pub state_database: String,
    /// Of the raw tables.
    pub raw_database: String,
    /// Of the models.
    pub schema: String,
    pub target: String,
    pub now: DateTime<Utc>,
    /// Batches of each endpoint that are in Silver and not loaded; none where the lake cannot be asked.
    pub pending: Option<BTreeMap<String, u64>>,
}

/// Reads everything.
///
/// # Errors
/// The server cannot be asked.
pub fn collect(session: &mut dyn Session, options: &CollectOptions) -> Result<Registry, EngineError> {
    let mut collector = Collector { session, options, registry: Registry::default() };
    let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("target", options.target.clone())];
    let sample = Sample { labels, value: SampleValue::Number(1.0) };
    collector.registry.add("chpipe_info", Kind::Gauge, "Always 1", vec![sample]);
    let (name, help) = ("chpipe_warehouse_read_timestamp_seconds", "When these figures were read from the warehouse");
    collector.registry.number(name, Kind::Gauge, help, options.now.timestamp() as f64);
    collector.runs()?;
    collector.loads()?;
    collector.nodes()?;
    collector.tables()?;
    collector.rounds()?;
    Ok(collector.registry)
}

struct Collector<'a> {
    session: &'a mut dyn Session,
    options: &'a CollectOptions,
    registry: Registry,
}

impl Collector<'_> {
    /// Rows of a query; none where a table of it does not exist.
    fn rows(&mut self, sql: &str) -> Result<Vec<Value>, EngineError> {
        match rows(self.session, sql) {
            Err(error) if error.code().is_some_and(|code| NOT_THERE.contains(&code)) => Ok(Vec::new()),
            found => found,
        }
    }

    /// A family of numbers: one sample a row, `labels` and `value` being columns.
    fn family(
        &mut self,
        (name, kind, help): metrics::Name,
        labels: &[&'static str],
        sql: &str,
    ) -> Result<(), EngineError> {
        let samples = self
            .rows(sql)?
            .iter()
            .filter_map(|row| {
                let labels = labels.iter().map(|&label| (label, text(row, label))).collect();
                Some(Sample { labels, value: SampleValue::Number(row["value"].as_f64()?) })
            })
            .collect();
        self.registry.add(name, kind, help, samples);
        Ok(())
    }

    fn state(&self, table: &str) -> String {
        format!("{}.{}", quote_identifier(&self.options.state_database), quote_identifier(table))
    }

    fn raw(&self, table: &str) -> String {
        format!("{}.{}", quote_identifier(&self.options.raw_database), quote_identifier(table))
    }

    fn runs(&mut self) -> Result<(), EngineError> {
        // Those of extract and transform are the lake's to tell.
        let runs = format!("{} FINAL WHERE command NOT IN ('extract', 'transform')", self.state("runs"));
        let labels = ["command", "outcome"];
        self.family(
            metrics::RUNS,
            &labels,
            &format!("SELECT command, outcome, count() AS value FROM {runs} GROUP BY 1, 2 ORDER BY 1, 2"),
        )?;
        self.family(
            metrics::LAST_RUN,
            &labels,
            &format!(
                "SELECT command, outcome, toUnixTimestamp64Milli(max(finished_at)) / 1000 AS value \
                 FROM {runs} GROUP BY 1, 2 ORDER BY 1, 2"
            ),
        )?;
        self.family(
            metrics::LAST_RUN_DURATION,
            &["command"],
            &format!(
                "SELECT command, argMax(toUnixTimestamp64Milli(finished_at) - toUnixTimestamp64Milli(started_at), \
                 finished_at) / 1000 AS value FROM {runs} GROUP BY 1 ORDER BY 1"
            ),
        )?;
        self.migrations()
    }

    /// A migration that failed is over with the next one that works: `recovered` from then on. One that has begun and not
    /// ended is `running` as long as the lock's holder lives, and `interrupted` after it.
    fn migrations(&mut self) -> Result<(), EngineError> {
        let held = format!(
            "SELECT greatest(max(beat_at), toDateTime64((SELECT metadata_modification_time FROM system.tables WHERE \
             database = {} AND name = 'lock'), 3, 'UTC')) > now64(3, 'UTC') - INTERVAL {} SECOND AS is_held FROM {}",
            quote_string(&self.options.state_database),
            LEASE.as_secs(),
            self.state("lock")
        );
        let held = self.rows(&held)?.first().is_some_and(|row| text(row, "is_held") == "1");
        let started = if held { "running" } else { "interrupted" };
        let worked = format!(
            "SELECT toString(max(started_at)) AS at FROM {} FINAL WHERE command IN ('migrate', 'backfill') AND \
             outcome = 'success'",
            self.state("runs")
        );
        let worked =
            self.rows(&worked)?.first().map_or_else(|| "1970-01-01 00:00:00".to_owned(), |row| text(row, "at"));
        let migrations = self.state("migrations");
        self.family(
            ("chpipe_migrations", Kind::Gauge, "Migrations in the ledger by state"),
            &["state"],
            &format!(
                "SELECT multiIf(state = 'started', '{started}', \
                 state = 'failed' AND started_at <= toDateTime64({}, 3, 'UTC'), 'recovered', toString(state)) AS state, \
                 count() AS value FROM {migrations} FINAL GROUP BY 1 ORDER BY 1",
                quote_string(&worked)
            ),
        )
    }

    fn loads(&mut self) -> Result<(), EngineError> {
        let batches = self.raw("batches");
        for (family, column) in [(metrics::ROWS, "rows"), (metrics::BYTES, "bytes")] {
            let sql = format!(
                "SELECT 'raw' AS layer, toString(endpoint) AS endpoint, sum({column}) AS value FROM {batches} FINAL \
                 GROUP BY 1, 2 ORDER BY 2"
            );
            self.family(family, &["layer", "endpoint"], &sql)?;
        }
        let sql = format!("SELECT toString(endpoint) AS endpoint, count() AS n FROM {batches} FINAL GROUP BY 1");
        let complete: BTreeMap<String, f64> =
            self.rows(&sql)?.iter().map(|row| (text(row, "endpoint"), row["n"].as_f64().unwrap_or_default())).collect();
        let pending = self.options.pending.clone().unwrap_or_default();
        let endpoints: BTreeSet<&String> = complete.keys().chain(pending.keys()).collect();
        let mut samples = Vec::new();
        for endpoint in endpoints {
            let mut sample = |state: &str, value| {
                let labels = vec![("endpoint", endpoint.clone()), ("state", state.to_owned())];
                samples.push(Sample { labels, value: SampleValue::Number(value) });
            };
            sample("complete", complete.get(endpoint).copied().unwrap_or_default());
            // Nobody knows while the lake is away.
            if self.options.pending.is_some() {
                sample("pending", pending.get(endpoint).copied().unwrap_or_default() as f64);
            }
        }
        let (name, kind, help) = metrics::BATCHES;
        self.registry.add(name, kind, help, samples);
        Ok(())
    }

    fn nodes(&mut self) -> Result<(), EngineError> {
        let (events, runs) = (self.state("events"), self.state("runs"));
        // The bucket of each: how many bounds it is above.
        let buckets: Vec<String> = (0..=BOUNDS.len())
            .map(|at| format!("countIf(arrayCount(bound -> seconds > bound, {BOUNDS:?}) = {at})"))
            .collect();
        // Loads and migrations have no time of their own in their ledgers: the run's is theirs.
        let sql = format!(
            "SELECT node, command, [{}] AS counts, sum(seconds) AS sum FROM ( \
               SELECT {NODE} AS node, runs.command AS command, seconds \
               FROM (SELECT name, kind, run_id, seconds FROM {events} FINAL WHERE event = 'node') AS events \
               INNER JOIN (SELECT run_id, toString(command) AS command FROM {runs} FINAL) AS runs USING run_id \
               UNION ALL SELECT command AS node, command, \
                 (toUnixTimestamp64Milli(finished_at) - toUnixTimestamp64Milli(started_at)) / 1000 AS seconds \
               FROM {runs} FINAL WHERE command IN ('load', 'migrate') \
             ) GROUP BY 1, 2 ORDER BY 1, 2",
            buckets.join(", ")
        );
        let samples = self
            .rows(&sql)?
            .iter()
            .map(|row| Sample {
                labels: vec![("node", text(row, "node")), ("command", text(row, "command"))],
                value: distribution(row, &BOUNDS),
            })
            .collect();
        self.registry.add(
            "clickhouse_query_duration_seconds",
            Kind::Histogram,
            "Time of a node's statements in the warehouse",
            samples,
        );
        self.family(
            ("chpipe_node_status", Kind::Gauge, "1 for the status of the node's newest run"),
            &["node", "resource_type", "status"],
            &format!(
                "SELECT {NODE} AS node, kind AS resource_type, argMax(status, started_at) AS status, 1 AS value \
                 FROM {events} FINAL WHERE event = 'node' GROUP BY 1, 2 ORDER BY 1"
            ),
        )?;
        self.family(
            ("chpipe_test_failures", Kind::Gauge, "Failing rows of the test's newest run"),
            &["test", "severity"],
            &format!(
                "SELECT {NODE} AS test, \
                 if(argMax(status, started_at) = 'warn', 'warn', 'error') AS severity, \
                 argMax(greatest(JSONExtractUInt(detail, 'failures'), toUInt64(status IN ('fail', 'error'))), started_at) \
                 AS value FROM {events} FINAL WHERE event = 'node' AND kind IN ('test', 'unit_test') \
                 GROUP BY 1 ORDER BY 1"
            ),
        )?;
        self.family(
            ("chpipe_snapshot_changes_total", Kind::Counter, "Changes that snapshots recorded"),
            &["snapshot", "change"],
            &format!(
                "SELECT {NODE} AS snapshot, pair.1 AS change, \
                 sum(JSONExtractUInt(detail, 'response', pair.2)) AS value FROM {events} FINAL \
                 ARRAY JOIN [('insert', 'rows_inserted'), ('update', 'rows_changed'), ('delete', 'rows_deleted')] AS pair \
                 WHERE event = 'node' AND kind = 'snapshot' GROUP BY 1, 2 ORDER BY 1, 2"
            ),
        )
    }

    fn tables(&mut self) -> Result<(), EngineError> {
        let CollectOptions { raw_database, schema, .. } = self.options;
        let layer = format!(
            "multiIf(database = {}, 'raw', database = {}, 'gold', 'snapshots')",
            quote_string(raw_database),
            quote_string(schema)
        );
        let databases = format!("database IN ({}, {}, 'snapshots')", quote_string(raw_database), quote_string(schema));
        self.family(
            metrics::LAYER_BYTES,
            &["layer"],
            &format!(
                "SELECT {layer} AS layer, sum(bytes_on_disk) AS value FROM system.parts WHERE active AND {databases} \
                 GROUP BY 1 ORDER BY 1"
            ),
        )?;
        self.family(
            ("chpipe_table_rows", Kind::Gauge, "Rows by table"),
            &["table", "layer"],
            &format!(
                "SELECT name AS table, {layer} AS layer, total_rows AS value FROM system.tables \
                 WHERE {databases} AND engine LIKE '%MergeTree' AND total_rows IS NOT NULL ORDER BY layer, table"
            ),
        )?;
        let batches = self.raw("batches");
        self.family(
            ("chpipe_table_last_loaded_timestamp_seconds", Kind::Gauge, "When the newest row of a raw table came"),
            &["table"],
            &format!(
                "SELECT concat('raw_', endpoint) AS table, toUnixTimestamp64Milli(max(loaded_at)) / 1000 AS value \
                 FROM {batches} FINAL GROUP BY 1 ORDER BY 1"
            ),
        )
    }

    /// Volume against the past, and what should be there: for sources that have seasons and rounds.
    fn rounds(&mut self) -> Result<(), EngineError> {
        let batches = self.raw("batches");
        let current = format!(
            "SELECT toString(endpoint) AS endpoint, season, round, argMax(rows, batch_id) AS rows FROM {batches} FINAL \
             WHERE round > 0 GROUP BY 1, 2, 3 HAVING rows > 0"
        );
        let newest = format!(
            "SELECT endpoint, max((season, round)) AS at, argMax(rows, (season, round)) AS rows FROM ({current}) GROUP BY 1"
        );
        let labels = ["endpoint", "season", "round"];
        self.family(
            ("chpipe_round_rows", Kind::Gauge, "Rows of the newest loaded round"),
            &labels,
            &format!("SELECT endpoint, at.1 AS season, at.2 AS round, rows AS value FROM ({newest}) ORDER BY endpoint"),
        )?;
        self.family(
            ("chpipe_round_rows_expected", Kind::Gauge, "Median of the same round in up to five past seasons"),
            &labels,
            &format!(
                "SELECT newest.endpoint AS endpoint, newest.at.1 AS season, newest.at.2 AS round, \
                 quantileExact(0.5)(past.rows) AS value FROM ({newest}) AS newest \
                 INNER JOIN ({current}) AS past ON past.endpoint = newest.endpoint AND past.round = newest.at.2 \
                 WHERE past.season < newest.at.1 AND past.season >= newest.at.1 - 5 GROUP BY 1, 2, 3 ORDER BY 1"
            ),
        )?;
        let races = self.raw("raw_races");
        let now = quote_string(&self.options.now.format("%Y-%m-%d").to_string());
        self.family(
            (
                "chpipe_rounds_missing",
                Kind::Gauge,
                "Rounds of the newest season that are over and have no loaded batch",
            ),
            &["endpoint", "season"],
            &format!(
                "WITH (SELECT max(season) FROM {races}) AS newest \
                 SELECT endpoint, newest AS season, countIf(NOT has(loaded, race.round)) AS value FROM ( \
                   SELECT endpoint, groupUniqArrayIf(toUInt64(round), season = newest AND rows > 0) AS loaded \
                   FROM {batches} FINAL WHERE endpoint IN ('results', 'qualifying', 'driverstandings', \
                   'constructorstandings') GROUP BY endpoint \
                 ) AS of_endpoint CROSS JOIN ( \
                   SELECT DISTINCT toUInt64(round) AS round FROM {races} FINAL \
                   WHERE season = newest AND race_date < toDate32({now}) - {ROUND_DUE} \
                 ) AS race GROUP BY 1, 2 ORDER BY 1"
            ),
        )
    }
}
