//! Random sequences of changes, by every strategy, option and way to apply, against the model; some runs die in the middle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chpipe::{
    adapter::{Adapter, AdapterOptions, Templates},
    engine::{
        Engine,
        dying::{Death, DyingEngine},
        testing,
    },
    project::Relation,
    snapshot::finish,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use super::{
    model::{Deletes, Model, Row, Version},
    take::{Case, time},
};

/// Columns with their types and the values they take.
const COLUMNS: [(&str, &str, &[&str]); 7] = [
    ("n", "Nullable(Int32)", &["NULL", "0", "7"]),
    ("s", "String", &["''", "'x'", "'it\\'s'"]),
    ("f", "Float64", &["0", "nan", "1.5"]),
    ("l", "LowCardinality(Nullable(String))", &["NULL", "''", "'low'"]),
    ("a", "Array(Nullable(Int32))", &["[]", "[NULL]", "[1, NULL]"]),
    ("d", "Decimal(9, 2)", &["0", "1.10", "-2.25"]),
    ("m", "Map(String, Float64)", &["map()", "map('k', nan)", "map('k', 1)"]),
];

/// How changes are recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Timestamp,
    CheckAll,
    CheckList,
    /// Columns are compared, the source says when a version begins.
    CheckDated,
    Custom,
}

const KINDS: [Kind; 5] = [Kind::Timestamp, Kind::CheckAll, Kind::CheckList, Kind::CheckDated, Kind::Custom];

impl Kind {
    fn dated(self) -> bool {
        matches!(self, Self::Timestamp | Self::CheckDated)
    }

    fn checked(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Timestamp | Self::CheckAll => None,
            Self::CheckList | Self::CheckDated => Some(&["n", "s", "a"]),
            Self::Custom => Some(&["n"]),
        }
    }
}

#[derive(Debug)]
struct Setting {
    kind: Kind,
    deletes: Deletes,
    current: bool,
    /// The key as two expressions.
    composite: bool,
    layout: (&'static str, &'static str),
}

impl Setting {
    fn config(&self) -> Value {
        let mut config = json!({"unique_key": "id", "snapshot_apply": self.layout.0});
        if self.composite {
            config["unique_key"] = json!(["id % 7", "toString(id)"]);
        }
        config["strategy"] = json!(match self.kind {
            Kind::Timestamp => "timestamp",
            Kind::CheckAll | Kind::CheckList | Kind::CheckDated => "check",
            Kind::Custom => "custom",
        });
        match self.kind {
            Kind::CheckAll => config["check_cols"] = json!("all"),
            Kind::CheckList | Kind::CheckDated => config["check_cols"] = json!(self.kind.checked()),
            Kind::Custom => {
                config["row_changed"] = json!(
                    "isNull(source_data.n) != isNull(snapshotted_data.n) OR ifNull(source_data.n != snapshotted_data.n, 0)"
                );
            }
            Kind::Timestamp => {}
        }
        if self.kind.dated() {
            config["updated_at"] = json!("at");
        }
        config["hard_deletes"] = json!(match self.deletes {
            Deletes::Ignore => "ignore",
            Deletes::Invalidate => "invalidate",
            Deletes::NewRecord => "new_record",
        });
        if self.current {
            config["dbt_valid_to_current"] = json!("toDateTime64('2299-01-01 00:00:00', 6, 'UTC')");
        }
        if !self.layout.1.is_empty() {
            config["partition_by"] = json!(self.layout.1);
        }
        config
    }
}

/// Each key has a history of its own: so many cases in one sequence.
const KEYS: i32 = 120;

const STEPS: i64 = 6;

const LAYOUTS: [(&str, &str); 5] = [
    ("replace_partition", ""),
    ("lightweight_delete", ""),
    ("lightweight_update", "id % 2"),
    ("rewrite", ""),
    ("auto", ""),
];

/// A source: the columns it has now, and its rows.
struct Source {
    columns: Vec<&'static str>,
    rows: BTreeMap<i32, Row>,
    /// Whether the timestamp column is part of it.
    timestamp: bool,
}

impl Source {
    fn change(&mut self, random: &mut StdRng, now: i64) {
        if random.random_bool(0.1) && !self.timestamp {
            let (name, ..) = COLUMNS.choose(random).unwrap();
            match self.columns.iter().position(|column| column == name) {
                Some(at) if self.columns.len() > 2 => _ = self.columns.remove(at),
                Some(_) => {}
                None => self.columns.push(name),
            }
        }
        for key in 0..KEYS {
            let roll: f64 = random.random();
            if roll < 0.15 {
                self.rows.remove(&key);
            } else if roll < 0.5 || (roll < 0.7 && !self.rows.contains_key(&key)) {
                let known = self.rows.get(&key).map_or(now - 20, |row| row.updated_at);
                let values = COLUMNS.iter().map(|(name, _, values)| (*name, *values.choose(random).unwrap())).collect();
                // Sometimes the source forgets to move its time, or moves it back.
                let updated_at = if random.random_bool(0.8) { now - random.random_range(0..5) } else { known };
                self.rows.insert(key, Row { values, updated_at });
            }
        }
    }

    fn rows(&self) -> BTreeMap<i32, Row> {
        self.rows
            .iter()
            .map(|(key, row)| {
                let values =
                    row.values.iter().filter(|(name, _)| self.columns.contains(name)).map(|(n, v)| (*n, *v)).collect();
                (*key, Row { values, updated_at: row.updated_at })
            })
            .collect()
    }

    /// Rows as numbers of values, so that the statement stays small.
    fn sql(&self) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|(key, row)| {
                let values: Vec<String> =
                    self.columns.iter().map(|name| index_of(name, row.values[name]).to_string()).collect();
                format!("({key}, {}, {})", row.updated_at, values.join(", "))
            })
            .collect();
        let structure: Vec<String> = self.columns.iter().map(|name| format!("i_{name} UInt8")).collect();
        let columns: Vec<String> = self.columns.iter().map(|name| format!("{} AS {name}", value_of(name))).collect();
        let at = format!("toDateTime64({} + t, 3, 'UTC') AS at", time(0).timestamp());
        let (values, condition) = if rows.is_empty() {
            (format!("(0, 0, {})", vec!["1"; self.columns.len()].join(", ")), " WHERE id < 0")
        } else {
            (rows.join(", "), "")
        };
        format!(
            "SELECT id, {}{} FROM values('id Int32, t Int64, {}', {values}){condition}",
            columns.join(", "),
            if self.timestamp { format!(", {at}") } else { String::new() },
            structure.join(", ")
        )
    }
}

/// From 1; 0 stands for no value.
fn index_of(column: &str, value: &str) -> usize {
    let (_, _, values) = COLUMNS.iter().find(|(known, ..)| *known == column).unwrap();
    values.iter().position(|known| *known == value).map_or(0, |index| index + 1)
}

/// The value by its number; 0 is the type's default.
fn value_of(column: &str) -> String {
    let (_, data_type, values) = COLUMNS.iter().find(|(known, ..)| *known == column).unwrap();
    format!("CAST(CAST([{}] AS Array({data_type}))[i_{column}] AS {data_type})", values.join(", "))
}

/// The rows of the table as versions; values are compared as ClickHouse writes them.
fn rows_of(case: &mut Case, columns: &[&'static str], setting: &Setting) -> Vec<String> {
    let values: Vec<String> = columns.iter().map(|column| format!("ifNull(toString({column}), 'NULL')")).collect();
    let deleted = if setting.deletes == Deletes::NewRecord { "dbt_is_deleted" } else { "'False'" };
    let until = if setting.current {
        "if(toYear(dbt_valid_to) = 2299, 'open', toString(toUnixTimestamp(dbt_valid_to)))"
    } else {
        "ifNull(toString(toUnixTimestamp(dbt_valid_to)), 'open')"
    };
    let columns = format!("id, {}, toString(toUnixTimestamp(dbt_valid_from)), {until}, {deleted}", values.join(", "));
    let mut rows = case.rows(&columns);
    rows.sort();
    rows
}

/// How ClickHouse writes each value: by column, by number.
fn texts(case: &mut Case) -> BTreeMap<&'static str, Vec<String>> {
    COLUMNS
        .iter()
        .map(|(name, _, values)| {
            let mut texts = Vec::new();
            for index in 0..=values.len() {
                // An array or a map cannot be NULL; what has no value is empty.
                let sql = format!(
                    "SELECT ifNull(toString({}), 'NULL') FROM values('i_{name} UInt8', ({index}))",
                    value_of(name)
                );
                let shown = crate::materialize::rows(&mut case.adapter, &sql).remove(0);
                texts.push(if index == 0 && !matches!(*name, "a" | "m") { "NULL".to_owned() } else { shown });
            }
            (*name, texts)
        })
        .collect()
}

/// The same of the model.
fn rows_of_model(model: &Model, texts: &BTreeMap<&'static str, Vec<String>>, columns: &[&'static str]) -> Vec<String> {
    let mut rows: Vec<String> = model.versions.iter().map(|version| row_of(version, texts, columns)).collect();
    rows.sort();
    rows
}

fn row_of(version: &Version, texts: &BTreeMap<&'static str, Vec<String>>, columns: &[&'static str]) -> String {
    let values: Vec<&str> = columns
        .iter()
        .map(|name| {
            let index = version.values.get(name).map_or(0, |value| index_of(name, value));
            texts[name][index].as_str()
        })
        .collect();
    let until = version.until.map_or("open".to_owned(), |until| time(until).timestamp().to_string());
    let deleted = if version.deleted { "True" } else { "False" };
    format!("{} {} {} {until} {deleted}", version.key, values.join(" "), time(version.from).timestamp())
}

/// Rows that only one side has.
fn differences(found: &[String], expected: &[String]) -> String {
    let only = |these: &[String], others: &[String], name: &str| {
        let known: BTreeSet<&String> = others.iter().collect();
        these
            .iter()
            .filter(|row| !known.contains(row))
            .take(5)
            .map(|row| format!("\n  {name}: {row}"))
            .collect::<String>()
    };
    format!(
        "{} found, {} expected{}{}",
        found.len(),
        expected.len(),
        only(found, expected, "found"),
        only(expected, found, "expected")
    )
}

/// One sequence of runs. Thirty of them are every layout with every kind of deletes and of open rows, and with every strategy.
fn sequence(seed: usize, steps: i64) {
    let mut random = StdRng::seed_from_u64(seed as u64);
    let setting = Setting {
        kind: KINDS[(seed + seed / 5) % 5],
        deletes: [Deletes::Ignore, Deletes::Invalidate, Deletes::NewRecord][seed / 5 % 3],
        current: seed / 15 % 2 == 1,
        composite: random.random_bool(0.3),
        layout: LAYOUTS[seed % 5],
    };
    let checked = setting.kind.checked();
    let mut model = Model::new(
        setting.kind == Kind::Timestamp,
        setting.kind.dated(),
        setting.deletes,
        checked.map(<[&'static str]>::to_vec),
    );
    let mut source = Source {
        columns: COLUMNS.iter().map(|(name, ..)| *name).collect(),
        rows: BTreeMap::new(),
        timestamp: setting.kind.dated(),
    };
    if setting.kind == Kind::CheckAll {
        // Some start with fewer columns.
        source.columns.truncate(random.random_range(3..=COLUMNS.len()));
    }
    let database = format!("random_{seed}");
    let mut case = Case::new(&database, setting.config());
    let texts = texts(&mut case);
    let mut columns: Vec<&'static str> = Vec::new();
    for step in 1..=steps {
        let now = 100 * step;
        source.change(&mut random, now);
        // A checked column that is gone is an error of its own.
        for name in checked.unwrap_or_default() {
            if !source.columns.contains(name) {
                source.columns.push(name);
            }
        }
        for column in &source.columns {
            if !columns.contains(column) {
                columns.push(column);
            }
        }
        let sql = source.sql();
        let rows = source.rows();
        let context = format!("seed {seed}, step {step}, {setting:?}");
        if step > 1 && random.random_bool(0.3) {
            let after = random.random_range(0..25);
            let died = take_until(&mut case, &sql, now, after);
            let mut next = adapter(&testing::shared(), "next");
            let relation = Relation::new(&database, "snap");
            finish(&relation, "bbbbbbbb", &mut next).unwrap_or_else(|error| panic!("{context}: {error}"));
            // Either the run was completed with its own time, or it never was.
            let mut completed = model.clone();
            completed.take(&source.columns, &rows, now);
            let found = rows_of_existing(&mut case, &columns, &setting);
            let expected = rows_of_model(&completed, &texts, &columns);
            if found == expected {
                model = completed;
            } else {
                assert!(died, "{context}: a run that ended well is not complete: {}", differences(&found, &expected));
            }
        }
        let outcome = case.take(&sql, now + 50);
        outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
        model.take(&source.columns, &rows, now + 50);
        let found = rows_of(&mut case, &columns, &setting);
        let expected = rows_of_model(&model, &texts, &columns);
        assert!(found == expected, "{context}: {}", differences(&found, &expected));
        let invariants = case.rows("uniqExact(dbt_scd_id) = count(), countIf(dbt_valid_to <= dbt_valid_from)");
        assert_eq!(invariants, ["1 0"], "{context}");
    }
    case.adapter.drop_schema(&database).unwrap();
}

pub(super) fn adapter(engine: &Arc<dyn Engine>, name: &str) -> Adapter {
    let templates = Arc::new(Templates::load(None).unwrap());
    Adapter::connect(engine, &AdapterOptions::embedded(), &templates, name).unwrap()
}

/// A run whose process ends after so many statements; whether it did.
pub(super) fn take_until(case: &mut Case, sql: &str, now: i64, statements: i64) -> bool {
    let failing = DyingEngine::after(testing::shared(), statements, Death::Before);
    let dying = adapter(&failing, "dying");
    let alive = std::mem::replace(&mut case.adapter, dying);
    let result = case.take(sql, now);
    case.adapter = alive;
    result.is_err()
}

/// As [`rows_of`], where the new columns may not have arrived.
fn rows_of_existing(case: &mut Case, columns: &[&'static str], setting: &Setting) -> Vec<String> {
    let sql = format!("SELECT name FROM system.columns WHERE database = '{}' AND table = 'snap'", case.database);
    let existing = crate::materialize::rows(&mut case.adapter, &sql);
    if columns.iter().all(|column| existing.iter().any(|name| name == column)) {
        rows_of(case, columns, setting)
    } else {
        Vec::new()
    }
}

/// Every strategy, option, layout and type, with crashes: 30 sequences of runs, 3,600 keys with histories of their own.
#[test]
fn snapshots_equal_the_model() {
    for seed in 0..15 {
        sequence(seed, STEPS);
    }
}

/// The other half, beside the first.
#[test]
fn snapshots_with_a_current_value_equal_the_model() {
    for seed in 15..30 {
        sequence(seed, STEPS);
    }
}
