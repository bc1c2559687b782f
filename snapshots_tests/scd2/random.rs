//! Random sequences of changes, by every strategy, option and way to apply, against the model; some runs die in the middle.

use std::{collections::BTreeMap, sync::Arc};

use chpipe::{
    adapter::{Adapter, AdapterOptions, LeaseHolder, Templates},
    engine::{Engine, testing},
    snapshot::recover,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use super::{
    failing::FailingEngine,
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

/// What the table shows for a NULL of a type that cannot hold one.
fn shown(column: &str, value: &'static str) -> &'static str {
    match (column, value) {
        ("a", "NULL") => "[]",
        ("m", "NULL") => "map()",
        _ => value,
    }
}

struct Setting {
    timestamp: bool,
    deletes: Deletes,
    current: bool,
    layout: (&'static str, &'static str),
}

impl Setting {
    fn config(&self, checked: Option<&[&'static str]>) -> Value {
        let mut config = json!({"unique_key": "id", "snapshot_apply": self.layout.0});
        if self.timestamp {
            config["strategy"] = json!("timestamp");
            config["updated_at"] = json!("at");
        } else {
            config["strategy"] = json!("check");
            config["check_cols"] = checked.map_or(json!("all"), |checked| json!(checked));
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
        for key in 0..10 {
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

    fn sql(&self) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|(key, row)| {
                let values: Vec<String> = self
                    .columns
                    .iter()
                    .map(|name| {
                        let (_, data_type, _) = COLUMNS.iter().find(|(known, ..)| known == name).unwrap();
                        format!("CAST({} AS {data_type}) AS {name}", row.values[name])
                    })
                    .collect();
                let at = if self.timestamp { format!(", {} AS at", literal(row.updated_at)) } else { String::new() };
                format!("SELECT toInt32({key}) AS id, {}{at}", values.join(", "))
            })
            .collect();
        if rows.is_empty() {
            let values: Vec<String> = self
                .columns
                .iter()
                .map(|name| {
                    let (_, data_type, values) = COLUMNS.iter().find(|(known, ..)| known == name).unwrap();
                    format!("CAST({} AS {data_type}) AS {name}", values[0])
                })
                .collect();
            let at = if self.timestamp { format!(", {} AS at", literal(0)) } else { String::new() };
            return format!("SELECT toInt32(0) AS id, {}{at} WHERE 0", values.join(", "));
        }
        rows.join("\nUNION ALL ")
    }
}

fn literal(second: i64) -> String {
    format!("toDateTime64('{}', 3, 'UTC')", time(second).format("%Y-%m-%d %H:%M:%S"))
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

/// The same of the model, its literals evaluated by ClickHouse.
fn rows_of_model(case: &mut Case, model: &Model, columns: &[&'static str]) -> Vec<String> {
    let versions = model.sorted();
    if versions.is_empty() {
        return Vec::new();
    }
    let selects: Vec<String> = versions.iter().map(|version| select_of(version, columns)).collect();
    let sql = selects.join("\nUNION ALL ");
    let mut rows = crate::materialize::rows(&mut case.adapter, &sql);
    rows.sort();
    rows
}

fn select_of(version: &Version, columns: &[&'static str]) -> String {
    let values: Vec<String> = columns
        .iter()
        .map(|name| {
            let (_, data_type, _) = COLUMNS.iter().find(|(known, ..)| known == name).unwrap();
            let value = shown(name, version.values.get(name).copied().unwrap_or("NULL"));
            if value == "NULL" { "'NULL'".to_owned() } else { format!("toString(CAST({value} AS {data_type}))") }
        })
        .collect();
    let until = version.until.map_or("open".to_owned(), |until| time(until).timestamp().to_string());
    let deleted = if version.deleted { "True" } else { "False" };
    format!(
        "SELECT {}, {}, '{}', '{until}', '{deleted}'",
        version.key,
        values.join(", "),
        time(version.from).timestamp()
    )
}

/// One sequence of runs.
fn sequence(seed: u64, steps: i64) {
    let mut random = StdRng::seed_from_u64(seed);
    let setting = Setting {
        timestamp: random.random_bool(0.4),
        deletes: *[Deletes::Ignore, Deletes::Invalidate, Deletes::NewRecord].choose(&mut random).unwrap(),
        current: random.random_bool(0.3),
        layout: *LAYOUTS.choose(&mut random).unwrap(),
    };
    let checked: Option<Vec<&'static str>> =
        (!setting.timestamp && random.random_bool(0.4)).then(|| vec!["n", "s", "a"]);
    let mut model = Model::new(setting.timestamp, setting.deletes, checked.clone());
    let mut source = Source {
        columns: COLUMNS.iter().map(|(name, ..)| *name).collect(),
        rows: BTreeMap::new(),
        timestamp: setting.timestamp,
    };
    if checked.is_none() && !setting.timestamp {
        // Some start with fewer columns.
        source.columns.truncate(random.random_range(3..=COLUMNS.len()));
    }
    let database = format!("random_{seed}");
    let mut case = Case::new(&database, setting.config(checked.as_deref()));
    let mut columns: Vec<&'static str> = Vec::new();
    for step in 1..=steps {
        let now = 100 * step;
        source.change(&mut random, now);
        if checked.is_some() {
            // A checked column that is gone is an error of its own.
            for name in ["n", "s", "a"] {
                if !source.columns.contains(&name) {
                    source.columns.push(name);
                }
            }
        }
        for column in &source.columns {
            if !columns.contains(column) {
                columns.push(column);
            }
        }
        let sql = source.sql();
        let rows = source.rows();
        let context = format!("seed {seed}, step {step}, {}", case.config.0["strategy"]);
        if step > 1 && random.random_bool(0.3) {
            let after = random.random_range(0..25);
            let died = take_until(&mut case, &sql, now, after);
            let mut next = adapter(&testing::shared(), "next");
            recover(&LeaseHolder::this("bbbbbbbb"), &mut next).unwrap_or_else(|error| panic!("{context}: {error}"));
            // Either the run was completed with its own time, or it never was.
            let mut completed = model.clone();
            completed.take(&source.columns, &rows, now);
            let found = rows_of_existing(&mut case, &columns, &setting);
            let expected = rows_of_model(&mut case, &completed, &columns);
            if found == expected {
                model = completed;
            } else {
                assert!(died, "{context}: a run that ended well is not complete");
            }
        }
        let outcome = case.take(&sql, now + 50);
        outcome.unwrap_or_else(|error| panic!("{context}: {error}\n{sql}"));
        model.take(&source.columns, &rows, now + 50);
        let found = rows_of(&mut case, &columns, &setting);
        let expected = rows_of_model(&mut case, &model, &columns);
        assert_eq!(found, expected, "{context}, {:?} {:?}", setting.layout, setting.deletes);
        let invariants = case.rows("uniqExact(dbt_scd_id) = count(), countIf(dbt_valid_to <= dbt_valid_from)");
        assert_eq!(invariants, ["1 0"], "{context}");
    }
    case.adapter.drop_schema(&database).unwrap();
}

fn adapter(engine: &Arc<dyn Engine>, name: &str) -> Adapter {
    let templates = Arc::new(Templates::load(None).unwrap());
    Adapter::connect(engine, &AdapterOptions::embedded(), &templates, name).unwrap()
}

/// A run whose process ends after so many statements; whether it did.
fn take_until(case: &mut Case, sql: &str, now: i64, statements: i64) -> bool {
    let failing: Arc<dyn Engine> = Arc::new(FailingEngine::after(testing::shared(), statements));
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

/// Every strategy, option, layout and type, with crashes, is what the model is.
#[test]
fn snapshots_equal_the_model() {
    for seed in 0..12 {
        sequence(seed, 6);
    }
}
