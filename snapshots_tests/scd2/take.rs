//! Runs of a snapshot: strategies, deletes, the defects of others that must not be here.

use chpipe::{
    adapter::{Adapter, settings_list},
    materialize::TableSource,
    project::{NodeConfig, Relation},
    snapshot::{SnapshotConfig, SnapshotError, SnapshotOutcome, SnapshotSpec, Strategy, take, verify},
};
use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::materialize::{adapter, rows};

/// A snapshot of a test, taken at chosen times.
pub(crate) struct Case {
    pub(crate) adapter: Adapter,
    pub(crate) database: String,
    pub(crate) config: NodeConfig,
}

impl Case {
    pub(crate) fn new(database: &str, config: Value) -> Self {
        Self {
            adapter: adapter(database),
            database: database.to_owned(),
            config: serde_json::from_value(config).unwrap(),
        }
    }

    /// The same in a database that is there.
    pub(crate) fn beside(database: &str, config: Value) -> Self {
        Self {
            adapter: super::random::adapter(&chpipe::engine::testing::shared(), "beside"),
            database: database.to_owned(),
            config: serde_json::from_value(config).unwrap(),
        }
    }

    pub(crate) fn take(&mut self, sql: &str, at: i64) -> Result<SnapshotOutcome, SnapshotError> {
        self.with_spec(sql, at, take)
    }

    /// Calls `work` with the snapshot's spec over this source, at this time.
    pub(crate) fn with_spec<R>(
        &mut self,
        sql: &str,
        at: i64,
        work: impl FnOnce(&SnapshotSpec<'_>, &mut Adapter) -> R,
    ) -> R {
        let config = SnapshotConfig::of(&self.config).unwrap();
        let documented = IndexMap::new();
        let spec = SnapshotSpec {
            relation: Relation::new(&self.database, "snap"),
            sql,
            unique_key: config.unique_key,
            strategy: config.strategy.unwrap_or_else(|| Strategy::Custom {
                updated_at: "now()".into(),
                row_changed: self.config.str("row_changed").unwrap().to_owned(),
                scd_id: None,
            }),
            hard_deletes: config.hard_deletes,
            valid_to_current: config.valid_to_current,
            names: config.names,
            table: TableSource { config: &self.config, documented: &documented, description: "", constraints: &[] },
            query_settings: settings_list(self.config.query_settings()),
            run_at: time(at),
            invocation: "0a1b2c3d",
            apply: config.apply,
            history: config.history,
        };
        work(&spec, &mut self.adapter)
    }

    pub(crate) fn rows(&mut self, columns: &str) -> Vec<String> {
        let sql = format!("SELECT {columns} FROM {}.snap ORDER BY ALL", self.database);
        rows(&mut self.adapter, &sql)
    }

    fn tables(&mut self) -> Vec<String> {
        let sql = format!("SELECT name FROM system.tables WHERE database = '{}' ORDER BY name", self.database);
        rows(&mut self.adapter, &sql)
    }
}

/// Second 0 is the last one of 2023.
pub(crate) fn time(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_704_067_199 + second, 0).unwrap()
}

const VERSIONS: &str = "id, v, toSecond(dbt_valid_from) AS f, toSecond(dbt_valid_to) AS t";

fn values(rows: &str) -> String {
    format!("select * from values('id Int32, v String', {rows})")
}

/// The table layouts and the ways to apply changes that each has.
const VARIANTS: [(&str, &str); 6] = [
    ("replace_partition", ""),
    ("lightweight_delete", ""),
    ("lightweight_update", "id % 2"),
    ("rewrite", ""),
    ("rewrite", "id % 2"),
    ("auto", ""),
];

fn with_variant(mut config: Value, (variant, partition): (&str, &str)) -> Value {
    config["snapshot_apply"] = json!(variant);
    if !partition.is_empty() {
        config["partition_by"] = json!(partition);
    }
    config
}

/// New, changed, unchanged and reverted rows, by every way to apply them.
#[test]
fn check_strategy_keeps_every_version() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config = with_variant(json!({"unique_key": "id", "strategy": "check", "check_cols": "all"}), variant);
        let mut case = Case::new(&format!("s_check_{index}"), config);
        let first = case.take(&values("(1, 'a'), (2, 'b'), (3, 'c')"), 1).unwrap();
        assert!(first.created);
        let second = case.take(&values("(1, 'a'), (2, 'B'), (4, 'd')"), 2).unwrap();
        assert_eq!((second.inserted, second.changed, second.deleted, second.unchanged), (1, 1, 0, 2));
        let third = case.take(&values("(1, 'a'), (2, 'B'), (4, 'd')"), 3).unwrap();
        assert_eq!((third.inserted, third.changed, third.variant), (0, 0, None));
        case.take(&values("(1, 'a'), (2, 'b'), (4, 'd')"), 4).unwrap();
        assert_eq!(
            case.rows(VERSIONS),
            ["1 a 0 \\N", "2 B 1 3", "2 b 0 1", "2 b 3 \\N", "3 c 0 \\N", "4 d 1 \\N"],
            "{variant:?}"
        );
        assert_eq!(
            case.rows("uniqExact(dbt_scd_id) = count(), min(length(dbt_scd_id)), max(length(dbt_scd_id))"),
            ["1 32 32"]
        );
        assert_eq!(case.tables(), ["snap"], "{variant:?}");
    }
}

/// The source's own time decides, and a row that is older than what is known changes nothing.
#[test]
fn timestamp_strategy_believes_the_source() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config = with_variant(json!({"unique_key": "id", "strategy": "timestamp", "updated_at": "at"}), variant);
        let mut case = Case::new(&format!("s_timestamp_{index}"), config);
        let at = |rows: &str| {
            format!("select id, v, toDateTime64(s, 3, 'UTC') as at from values('id Int32, v String, s UInt32', {rows})")
        };
        case.take(&at("(1, 'a', 10), (2, 'b', 10)"), 1).unwrap();
        case.take(&at("(1, 'A', 20), (2, 'x', 10)"), 2).unwrap();
        case.take(&at("(1, 'old', 15), (2, 'B', 30)"), 3).unwrap();
        assert_eq!(case.rows(VERSIONS), ["1 A 20 \\N", "1 a 10 20", "2 B 30 \\N", "2 b 10 30"], "{variant:?}");
    }
}

/// S1: vanished keys are closed, whatever the settings are, and come back as new versions.
#[test]
fn s1_invalidate_closes_what_vanished() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config =
            json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"], "hard_deletes": "invalidate"});
        let mut case = Case::new(&format!("s1_{index}"), with_variant(config, variant));
        case.take(&values("(0, 'a'), (2, 'b')"), 1).unwrap();
        let second = case.take(&values("(2, 'b')"), 2).unwrap();
        assert_eq!((second.deleted, second.unchanged), (1, 1));
        case.take(&values("(2, 'b')"), 3).unwrap();
        case.take(&values("(2, 'b'), (0, 'a')"), 4).unwrap();
        assert_eq!(case.rows(VERSIONS), ["0 a 0 1", "0 a 3 \\N", "2 b 0 \\N"], "{variant:?}");
    }
}

/// S6: deletes are recorded, once, and so is the return of a key.
#[test]
fn s6_new_record_records_deletes() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config =
            json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"], "hard_deletes": "new_record"});
        let mut case = Case::new(&format!("s6_{index}"), with_variant(config, variant));
        case.take(&values("(0, 'a'), (2, 'b')"), 1).unwrap();
        case.take(&values("(2, 'b')"), 2).unwrap();
        case.take(&values("(2, 'b')"), 3).unwrap();
        case.take(&values("(2, 'b'), (0, 'a')"), 4).unwrap();
        assert_eq!(
            case.rows(&format!("{VERSIONS}, dbt_is_deleted")),
            ["0 a 0 1 False", "0 a 1 3 True", "0 a 3 \\N False", "2 b 0 \\N False"],
            "{variant:?}"
        );
    }
}

/// S2: new rows whose checked columns are all defaults are new rows.
#[test]
fn s2_default_values_are_values() {
    let mut case = Case::new("s2", json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"]}));
    case.take(&values("(1, 'a')"), 1).unwrap();
    case.take(&values("(1, 'a'), (0, '')"), 2).unwrap();
    assert_eq!(case.rows(VERSIONS), ["0  1 \\N", "1 a 0 \\N"]);
}

/// S3: a list of keys is a key of several columns.
#[test]
fn s3_lists_of_keys_are_one_key() {
    let mut case = Case::new("s3", json!({"unique_key": ["id", "v"], "strategy": "check", "check_cols": ["n"]}));
    let rows = |rows: &str| format!("select * from values('id Int32, v String, n Int32', {rows})");
    case.take(&rows("(1, 'a', 1), (1, 'b', 1), (2, 'a', 1), (2, 'b', 1)"), 1).unwrap();
    let second = case.take(&rows("(1, 'a', 1), (1, 'b', 2), (2, 'a', 1), (2, 'b', 1)"), 2).unwrap();
    assert_eq!((second.inserted, second.changed, second.unchanged), (0, 1, 3));
    assert_eq!(case.rows("count(), countIf(dbt_valid_to IS NULL)"), ["5 4"]);
}

/// S4: a column that the source loses keeps its history; a new one is NULL in the past and opens no version.
#[test]
fn s4_columns_come_and_go() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config = json!({"unique_key": "id", "strategy": "check", "check_cols": "all"});
        let mut case = Case::new(&format!("s4_{index}"), with_variant(config, variant));
        case.take("select * from values('id Int32, v String, old Int32', (1, 'a', 7), (2, 'b', 8))", 1).unwrap();
        case.take("select * from values('id Int32, v String, old Int32', (1, 'A', 7), (2, 'b', 8))", 2).unwrap();
        let third = case
            .take("select * from values('id Int32, v String, new String', (1, 'A', 'x'), (2, 'b', 'y'))", 3)
            .unwrap();
        assert_eq!((third.changed, third.columns_added), (0, vec!["new".to_owned()]));
        case.take("select * from values('id Int32, v String, new String', (1, 'A', 'x'), (2, 'b', 'z'))", 4).unwrap();
        assert_eq!(
            case.rows(&format!("{VERSIONS}, old, new")),
            ["1 A 1 \\N 7 x", "1 a 0 1 7 \\N", "2 b 0 3 8 y", "2 b 3 \\N \\N z"],
            "{variant:?}"
        );
    }
}

/// S7, S8: open rows have a value of their own, and the columns other names.
#[test]
fn s7_valid_to_current_and_s8_column_names() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config = json!({
            "unique_key": "id", "strategy": "check", "check_cols": ["v"], "hard_deletes": "new_record",
            "dbt_valid_to_current": "toDateTime64('2299-12-31 00:00:00', 6, 'UTC')",
            "snapshot_meta_column_names": {"dbt_valid_to": "until", "dbt_valid_from": "since", "dbt_scd_id": "version id",
                "dbt_updated_at": "seen", "dbt_is_deleted": "gone"},
        });
        let mut case = Case::new(&format!("s7_{index}"), with_variant(config, variant));
        case.take(&values("(1, 'a'), (2, 'b')"), 1).unwrap();
        let second = case.take(&values("(1, 'a'), (2, 'b')"), 2).unwrap();
        assert_eq!(second.variant, None);
        case.take(&values("(1, 'A')"), 3).unwrap();
        assert_eq!(
            case.rows("id, v, toSecond(since), if(toYear(until) = 2299, 'open', toString(toSecond(until))), gone"),
            ["1 A 2 open False", "1 a 0 2 False", "2 b 0 2 False", "2 b 2 open True"],
            "{variant:?}"
        );
    }
}

/// Where `dbt_valid_to` is finer than the source's `updated_at`, a deleted version still ends exactly where its deletion begins.
#[test]
fn a_finer_end_does_not_reach_into_the_next_version() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config = json!({
            "unique_key": "id", "strategy": "timestamp", "updated_at": "u", "hard_deletes": "new_record",
            "dbt_valid_to_current": "toDateTime64('2299-12-31 00:00:00', 6, 'UTC')",
        });
        let mut case = Case::new(&format!("finer_{index}"), with_variant(config, variant));
        let rows =
            |ids: &str| format!("select arrayJoin([{ids}]) as id, toDateTime('2024-01-01 00:00:00', 'UTC') as u");
        case.take(&rows("1, 2"), 1).unwrap();
        for (ids, at) in [("1", 2), ("1, 2", 3)] {
            case.with_spec(&rows(ids), at, |spec, adapter| {
                let run_at = spec.run_at + chrono::TimeDelta::milliseconds(460);
                take(&SnapshotSpec { run_at, ..spec.clone() }, adapter).unwrap()
            });
        }
        let broken = case.with_spec(&rows("1, 2"), 4, |spec, adapter| verify(spec, adapter).unwrap().unwrap());
        assert_eq!(broken, [], "{variant:?}");
        assert_eq!(
            case.rows("id, dbt_is_deleted, toYear(dbt_valid_to) = 2299"),
            ["1 False 1", "2 False 0", "2 False 1", "2 True 0"],
            "{variant:?}"
        );
    }
}

/// S5: what an interrupted run of another tool left behind takes no part, and an interrupted run of ours is finished with its
/// own time (each statement boundary: `kill`).
#[test]
fn s5_leftovers_do_not_double_the_history() {
    for (index, variant) in VARIANTS.into_iter().enumerate() {
        let config = with_variant(json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"]}), variant);
        let database = format!("s5_{index}");
        let mut case = Case::new(&database, config);
        case.take(&values("(1, 'a'), (2, 'b')"), 1).unwrap();
        for left in
            ["snap__snapshot_upsert", "snap__dbt_tmp", "snap__dbt_tmp_0a1b2c3d_staged", "snap__dbt_tmp_0a1b2c3d_open"]
        {
            case.adapter.execute(&format!("CREATE TABLE {database}.{left} AS {database}.snap")).unwrap();
            case.adapter.execute(&format!("INSERT INTO {database}.{left} SELECT * FROM {database}.snap")).unwrap();
        }
        case.take(&values("(1, 'A'), (2, 'b')"), 2).unwrap();
        assert_eq!(case.rows(VERSIONS), ["1 A 1 \\N", "1 a 0 1", "2 b 0 \\N"], "{variant:?}");
    }
}

/// S9: ids are texts of 32 hexadecimal digits, and two versions within one second are two versions.
#[test]
fn s9_ids_do_not_collide_and_time_has_microseconds() {
    let mut case = Case::new("s9", json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"]}));
    for (micros, value) in [(0, "a"), (1, "b"), (250_000, "a"), (250_001, "b")] {
        let moment = time(1) + chrono::Duration::microseconds(micros);
        case.with_spec(&values(&format!("(1, '{value}')")), 1, |spec, adapter| {
            take(&SnapshotSpec { run_at: moment, ..spec.clone() }, adapter).unwrap();
        });
    }
    assert_eq!(
        case.rows("toUnixTimestamp64Micro(dbt_valid_from) % 1000000 AS f, v, toUnixTimestamp64Micro(dbt_valid_to) - toUnixTimestamp64Micro(dbt_valid_from)"),
        ["0 a 1", "1 b 249999", "250000 a 1", "250001 b \\N"]
    );
    assert_eq!(case.rows("DISTINCT toTypeName(dbt_scd_id), match(dbt_scd_id, '^[0-9a-f]{32}$')"), ["String 1"]);
    assert_eq!(case.rows("uniqExact(dbt_scd_id)"), ["4"]);
}

/// S11: a run writes what changed, not what is there.
#[test]
fn s11_a_run_writes_only_the_changes() {
    for (index, variant) in ["auto", "lightweight_delete", "lightweight_update"].into_iter().enumerate() {
        let mut config =
            json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"], "snapshot_apply": variant});
        if variant == "lightweight_update" {
            config["partition_by"] = json!("id % 2");
        }
        let mut case = Case::new(&format!("s11_{index}"), config);
        let source =
            |round: u32| format!("select number as id, if(number % 10000 = 7, {round}, 0) as v from numbers(300000)");
        case.take(&source(0), 1).unwrap();
        case.adapter.take_statements();
        let outcome = case.take(&source(1), 2).unwrap();
        assert_eq!((outcome.changed, outcome.unchanged), (30, 299_970));
        let written: u64 =
            case.adapter.statements().iter().filter_map(|statement| statement.summary.written_rows).sum();
        assert!(written < 1_000, "{variant}: {written} rows were written");
        assert_eq!(case.rows("count(), countIf(dbt_valid_to IS NULL)"), ["300030 300000"]);
    }
}

/// S10: duplicate keys are an error that shows them, and nothing is written.
#[test]
fn s10_duplicate_keys_are_refused() {
    let mut case = Case::new("s10", json!({"unique_key": "id", "strategy": "check", "check_cols": ["all"]}));
    case.take(&values("(1, 'a')"), 1).unwrap();
    let error = case.take(&values("(1, 'A'), (2, 'b'), (2, 'c')"), 2).unwrap_err().to_string();
    assert!(error.contains("id = 2: 2 rows"), "{error}");
    assert_eq!(case.rows(VERSIONS), ["1 a 0 \\N"]);
    assert_eq!(case.tables(), ["snap"]);
}

/// Every type is compared exactly: NULL and NaN equal themselves, inside of arrays and maps too.
#[test]
fn all_types_are_compared_without_null() {
    let mut case = Case::new("s_types", json!({"unique_key": "id", "strategy": "check", "check_cols": "all"}));
    let source = "select 1 as id, CAST(NULL AS Nullable(Int32)) as n, nan as f, [1.5, nan] as a, map('k', CAST(NULL AS Nullable(String))) as m, \
        tuple(1, CAST(NULL AS Nullable(String))) as t, CAST('{\"a\": [1, null]}' AS JSON) as j, toDecimal64('1.10', 2) as d, \
        toLowCardinality(CAST(NULL AS Nullable(String))) as l, generateUUIDv4(42) != generateUUIDv4(43) as u";
    case.take(source, 1).unwrap();
    let second = case.take(source, 2).unwrap();
    assert_eq!((second.changed, second.unchanged), (0, 1));
    for (index, (from, to)) in [
        ("CAST(NULL AS Nullable(Int32)) as n", "toNullable(toInt32(0)) as n"),
        ("nan as f", "1.0 as f"),
        ("[1.5, nan] as a", "[1.5, 2] as a"),
        ("map('k', CAST(NULL", "map('K', CAST(NULL"),
        ("'1.10'", "'1.11'"),
        ("[1, null]", "[1, 2]"),
    ]
    .into_iter()
    .enumerate()
    {
        let changed = source.replace(from, to);
        assert_ne!(changed, source);
        let outcome = case.take(&changed, 10 + 2 * i64::try_from(index).unwrap()).unwrap();
        assert_eq!(outcome.changed, 1, "{to}");
        let outcome = case.take(source, 11 + 2 * i64::try_from(index).unwrap()).unwrap();
        assert_eq!(outcome.changed, 1, "back from {to}");
    }
}

/// The whole history comes from one pass over observations; later ones extend, split and close what is there.
#[test]
fn history_is_built_from_observations() {
    let config = json!({
        "unique_key": "driver", "strategy": "check", "check_cols": ["team", "name"],
        "history": {"relation": "s_history.entries", "observed_at": "race_date", "close_when_absent_for": "season"},
    });
    let mut case = Case::new("s_history", config);
    case.adapter
        .execute("CREATE TABLE s_history.entries (driver String, team LowCardinality(String), race_date Date32, season Int16) ENGINE = MergeTree ORDER BY tuple()")
        .unwrap();
    let observe = |case: &mut Case, rows: &str| {
        case.adapter.execute(&format!("INSERT INTO s_history.entries VALUES {rows}")).unwrap();
    };
    observe(
        &mut case,
        "('ham','mclaren','2007-03-18',2007),('ham','mclaren','2008-03-16',2008),('schu','ferrari','1997-03-09',1997),('rai','ferrari','2007-03-18',2007),('rai','ferrari','2008-03-16',2008)",
    );
    let source = "select * from values('driver String, team String, name String', ('ham', 'mclaren', 'Lewis'), ('schu', 'ferrari', 'Michael'), ('rai', 'ferrari', 'Kimi'), ('new', '', 'Nobody'))";
    let versions = "driver, team, name, toDate(dbt_valid_from), toDate(dbt_valid_to)";
    case.take(source, 1).unwrap();
    assert_eq!(
        case.rows(versions),
        [
            "ham mclaren Lewis 2007-03-18 \\N",
            "new  Nobody 2024-01-01 \\N",
            "rai ferrari Kimi 2007-03-18 \\N",
            "schu ferrari Michael 1997-03-09 2007-03-18",
        ]
    );
    let again = case.take(source, 2).unwrap();
    assert_eq!((again.inserted, again.changed, again.history_rows, again.unchanged), (0, 0, 0, 3));
    // Another team, a season without one, and an observation between two that are there.
    observe(&mut case, "('ham','mercedes','2013-03-17',2013),('ham','guest','2007-06-01',2007)");
    case.take(source, 3).unwrap();
    assert_eq!(
        case.rows(versions),
        [
            "ham guest Lewis 2007-06-01 2008-03-16",
            "ham mclaren Lewis 2007-03-18 2007-06-01",
            "ham mclaren Lewis 2008-03-16 2013-03-17",
            "ham mercedes Lewis 2013-03-17 \\N",
            "new  Nobody 2024-01-01 \\N",
            "rai ferrari Kimi 2007-03-18 2013-03-17",
            "schu ferrari Michael 1997-03-09 2007-03-18",
        ]
    );
    // What the observations do not know is compared with the source, and survives a later correction of the past.
    let renamed = source.replace("Lewis", "Sir Lewis");
    case.take(&renamed, 4).unwrap();
    observe(&mut case, "('rai','ferrari','2013-05-01',2013)");
    case.take(&renamed, 5).unwrap();
    assert_eq!(
        case.rows(versions),
        [
            "ham guest Lewis 2007-06-01 2008-03-16",
            "ham mclaren Lewis 2007-03-18 2007-06-01",
            "ham mclaren Lewis 2008-03-16 2013-03-17",
            "ham mercedes Lewis 2013-03-17 2024-01-01",
            "ham mercedes Sir Lewis 2024-01-01 \\N",
            "new  Nobody 2024-01-01 \\N",
            "rai ferrari Kimi 2007-03-18 \\N",
            "schu ferrari Michael 1997-03-09 2007-03-18",
        ]
    );
    assert_eq!(case.rows("uniqExact(dbt_scd_id) = count(), countIf(dbt_valid_to <= dbt_valid_from)"), ["1 0"]);
}
