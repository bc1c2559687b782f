//! Goldens of the generated DDL: `ddl/create/<case>/schema.yml` beside the statements that make it, and
//! `ddl/diff/<case>/{before,after}.yml` beside the plan between the two. Every golden is executed on the embedded engine:
//! the plan is applied, the columns are read back from `system.columns`, a second plan is empty, and the rows of
//! `rows.sql` are asked about in `check.sql`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, Field};
use chpipe::{
    ddl::{Dataset, TableSpec, Templates, WantedOptions, hive_columns, wanted_objects},
    diagnostic,
    engine::{Engine, QueryOptions, testing},
    lake::{Lake, LocalS3Options, SilverAccess},
    migrate::{
        Ledger, MigrateError, MigrateProgress, Migrator, Plan, PlannedChange, Wanted, make_plan, normalise, plan_text,
    },
    schema::{FileColumn, FileSchema, SchemaObject, from_arrow, merge, parse_create, split_statements},
};
use serde::Deserialize;

use crate::harness::repository;

/// One side of a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The dataset: its tables are `ext_<name>` and `raw_<name>`.
    #[serde(default = "default_name")]
    name: String,
    /// Keys below the prefix.
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    files: Vec<File>,
    #[serde(default)]
    natural_key: Vec<String>,
    #[serde(default)]
    pub(crate) spec: serde_yaml_ng::Value,
    #[serde(default)]
    options: Options,
    /// Objects that may lose data.
    #[serde(default)]
    pub(crate) allow_destructive: Vec<String>,
}

fn default_name() -> String {
    "t".to_owned()
}

/// A Parquet file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default = "one")]
    rows: u64,
    /// Name to Arrow type as arrow-rs writes it; `?` at its end: nullable.
    columns: serde_yaml_ng::Mapping,
}

fn one() -> u64 {
    1
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    queue: bool,
    cluster: Option<String>,
    /// A server that does not know `partition_strategy`.
    old_server: bool,
}

/// The local S3 that `ext_` tables of the cases name: an empty bucket.
static SILVER: LazyLock<(tempfile::TempDir, SilverAccess)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::directory(dir.path(), "bronze", "silver").unwrap();
    let access = lake.for_clickhouse(LocalS3Options::default()).unwrap();
    let bucket = &access.bucket;
    let sql = format!(
        "CREATE NAMED COLLECTION silver AS url = '{}', access_key_id = '{}', secret_access_key = '{}'",
        bucket.url,
        bucket.access_key_id.as_deref().unwrap(),
        bucket.secret_access_key.as_ref().unwrap().expose(),
    );
    testing::shared().connect().unwrap().execute(&sql, &QueryOptions::default()).unwrap();
    (dir, access)
});

impl Case {
    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(&fs_err::read_to_string(path).unwrap(), &path.display().to_string())
    }

    pub(crate) fn parse(text: &str, place: &str) -> Self {
        serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"))
    }

    pub(crate) fn spec(&self) -> TableSpec {
        let text = if self.spec.is_null() { String::new() } else { serde_yaml_ng::to_string(&self.spec).unwrap() };
        let mut spec = TableSpec::parse(&text, Path::new("ddl/tables/t.yml")).unwrap();
        spec.name = self.name.clone();
        spec
    }

    pub(crate) fn dataset(&self) -> Result<Dataset, String> {
        let files = self
            .files
            .iter()
            .enumerate()
            .map(|(index, file)| {
                let columns = file
                    .columns
                    .iter()
                    .map(|(name, kind)| {
                        let (name, kind) = (name.as_str().unwrap(), kind.as_str().unwrap());
                        let nullable = kind.ends_with('?');
                        let arrow: DataType = kind.trim_end_matches('?').parse().unwrap();
                        let kind = from_arrow(&Field::new(name, arrow, nullable)).map_err(|error| error.to_string())?;
                        Ok(FileColumn { name: name.to_owned(), kind })
                    })
                    .collect::<Result<Vec<_>, String>>()?;
                let schema = FileSchema {
                    columns: Arc::new(columns),
                    unsupported: Vec::new(),
                    rows: file.rows,
                    metadata: BTreeMap::new(),
                };
                Ok((format!("file {}", index + 1), schema))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let spec = self.spec();
        let pinned = |column: &str| spec.columns.get(column).is_some_and(|column| column.kind.is_some());
        let mut schema = merge(files.iter().map(|(name, schema)| (name.as_str(), schema)), &pinned)
            .map_err(|error| error.to_string())?;
        if !self.natural_key.is_empty() {
            schema.metadata.insert("chpipe.natural_key".into(), serde_json::to_string(&self.natural_key).unwrap());
        }
        let prefix = format!("ergast/endpoint={}/", self.name);
        let keys: Vec<String> = self.keys.iter().map(|key| format!("{prefix}{key}")).collect();
        let hive = hive_columns(&prefix, keys.iter().map(String::as_str));
        let source = spec.files(|_| prefix).unwrap();
        Ok(Dataset { name: self.name.clone(), source, schema, hive })
    }

    pub(crate) fn options(&self, database: &str) -> WantedOptions {
        WantedOptions {
            database: database.to_owned(),
            collection: "silver".into(),
            cluster: self.options.cluster.clone(),
            hive_strategy: !self.options.old_server,
            independent_arrays: !self.options.old_server,
            queue: self.options.queue,
            keeper_path: "/chpipe/queue".into(),
            bucket: "silver".into(),
            state_database: "chpipe".into(),
        }
    }
}

/// The databases of one case on the shared engine, emptied.
pub(crate) struct Warehouse {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) raw: String,
    pub(crate) migrator: Migrator,
}

pub(crate) struct Quiet;

impl MigrateProgress for Quiet {
    fn waiting(&self, _: &str) {}
    fn change_started(&self, _: &PlannedChange) {}
    fn change_done(&self, _: &PlannedChange, _: std::time::Duration) {}
    fn recovered(&self, _: &str) {}
}

impl Warehouse {
    pub(crate) fn new(name: &str) -> Self {
        LazyLock::force(&SILVER);
        let engine = testing::shared();
        let raw = format!("golden_{name}");
        let state = format!("golden_{name}_state");
        let mut session = engine.connect().unwrap();
        for database in [&raw, &state] {
            session.execute(&format!("DROP DATABASE IF EXISTS {database}"), &QueryOptions::default()).unwrap();
        }
        let migrator = Migrator {
            engine: Arc::clone(&engine),
            templates: Templates::load(None, None).unwrap(),
            ledger: Ledger::new(&state),
            state_database: state,
            cluster: None,
            run_id: "test".into(),
            secrets: [].into(),
            lock_timeout: std::time::Duration::ZERO,
        };
        Self { engine, raw, migrator }
    }

    pub(crate) fn plan(&self, case: &Case) -> Result<Plan, String> {
        let mut options = case.options(&self.raw);
        // Without a Keeper queues are read by the server's parser alone.
        options.queue &= self.engine.capabilities().keeper;
        let datasets = [(case.dataset()?, case.spec())];
        let wanted = Wanted {
            datasets: &datasets,
            options: &options,
            templates: &self.migrator.templates,
            state_database: &self.migrator.state_database,
            named_collections: Vec::new(),
            secrets: &[].into(),
            allow_destructive: &case.allow_destructive,
        };
        let mut session = self.engine.connect().unwrap();
        make_plan(&mut *session, self.engine.capabilities(), &wanted).map_err(|error| self.error(error))
    }

    pub(crate) fn error(&self, error: MigrateError) -> String {
        self.shown(&diagnostic::text(&error.into()))
    }

    pub(crate) fn apply(&self, case: &Case, plan: &Plan) -> Result<(), String> {
        let lock = self.migrator.lock("migrate", &Quiet).unwrap();
        let applied = self
            .migrator
            .recover(&lock, &Quiet)
            .and_then(|()| self.migrator.apply(plan, &case.allow_destructive, &lock, &Quiet));
        applied.map_err(|error| self.error(error))
    }

    /// A second plan has nothing to do, and `system.columns` shows the wanted types.
    pub(crate) fn assert_settled(&self, case: &Case) {
        let again = self.plan(case).unwrap();
        assert!(again.is_empty(), "the second plan is not empty:\n{}", plan_text(&again));
        let options = WantedOptions { queue: false, ..case.options(&self.raw) };
        for object in wanted_objects(&case.dataset().unwrap(), &case.spec(), &options).unwrap() {
            let SchemaObject::Table(table) = object else { continue };
            let sql = format!(
                "SELECT name, type FROM system.columns WHERE database = '{}' AND table = '{}'",
                table.name.database, table.name.name
            );
            let live: BTreeMap<String, String> =
                self.rows(&sql).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
            for column in &table.columns {
                let kind = live.get(&column.name).unwrap_or_else(|| panic!("no column {}", column.name));
                // The server breaks long tuples into lines.
                let kind = chpipe::schema::ClickHouseType::parse(kind).unwrap();
                assert_eq!(kind, column.kind, "{}.{}", table.name, column.name);
            }
        }
    }

    /// Stops or starts the merges of the raw table: how many rows a plan counts must not depend on when a merge ran.
    pub(crate) fn merges(&self, verb: &str) {
        let mut session = self.engine.connect().unwrap();
        session.execute(&format!("SYSTEM {verb} MERGES {}.raw_t", self.raw), &QueryOptions::default()).unwrap();
    }

    pub(crate) fn run(&self, script: &Path) {
        let Ok(text) = fs_err::read_to_string(script) else { return };
        let mut session = self.engine.connect().unwrap();
        for statement in split_statements(&self.stored(&text)).unwrap() {
            session
                .execute(&statement, &QueryOptions::default())
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// The answers to the queries of a script.
    pub(crate) fn answers(&self, script: &Path) -> String {
        let mut out = String::new();
        let Ok(text) = fs_err::read_to_string(script) else { return out };
        let mut session = self.engine.connect().unwrap();
        for query in split_statements(&self.stored(&text)).unwrap() {
            let mut answer = Vec::new();
            let result = session.query_format(&query, "TSV", &QueryOptions::default(), &mut answer);
            let answer = match result {
                Ok(_) => String::from_utf8(answer).unwrap(),
                Err(error) => format!("{error}\n"),
            };
            _ = write!(out, "{}\n{}", self.shown(&query), self.shown(&answer));
        }
        out
    }

    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let mut session = self.engine.connect().unwrap();
        let mut out = Vec::new();
        session.query_format(sql, "JSONCompactStringsEachRow", &QueryOptions::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A case's text for this case's databases.
    pub(crate) fn stored(&self, text: &str) -> String {
        text.replace("raw.", &format!("{}.", self.raw))
    }

    /// Text of the warehouse without what differs from run to run.
    pub(crate) fn shown(&self, text: &str) -> String {
        let text = text
            .replace(&self.migrator.state_database, "chpipe")
            .replace(&self.raw, "raw")
            .replace(&format!("/{}/", self.raw), "/raw/");
        let filters = [
            (r"__chp_old_\d{14}", "__chp_old_[TIME]"),
            (r"Plan \d{8}T\d{9}_[0-9a-f]{8}", "Plan [ID]"),
            (r"migration \d{8}T\d{9}_[0-9a-f]{8}", "migration [ID]"),
            (r"query_id [0-9a-f-]{36}", "query_id [ID]"),
            // How well rows are compressed is the library's business, and times are among them.
            (r"rows, [0-9.]+ [kMG]?B\)", "rows, [SIZE])"),
        ];
        filters.iter().fold(text, |text, (pattern, with)| {
            regex::Regex::new(pattern).unwrap().replace_all(&text, *with).into_owned()
        })
    }
}

/// The plan without the tables that every warehouse has.
pub(crate) fn without_state(mut plan: Plan) -> Plan {
    plan.changes.retain(|change| {
        change.kind != "database" && !change.object.ends_with(".batches") && !change.object.contains("_state.")
    });
    plan
}

fn golden(dir: &Path, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(dir);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_suffix("");
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("expected", text));
}

/// Runs every case of a glob to its end, and names all that fail.
struct Cases {
    failed: Vec<String>,
}

impl Cases {
    fn run(&mut self, path: &Path, case: impl FnOnce(&Path)) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(path))).is_err() {
            self.failed.push(path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned());
        }
    }

    fn finish(self) {
        assert!(self.failed.is_empty(), "{} cases failed: {}", self.failed.len(), self.failed.join(", "));
    }
}

pub(crate) fn case_name(path: &Path) -> (PathBuf, String) {
    let dir = path.parent().unwrap().to_owned();
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    (dir, name)
}

/// A new dataset: the statements that make it, run and read back.
#[test]
fn create() {
    let mut cases = Cases { failed: Vec::new() };
    insta::glob!("ddl/create/*/schema.yml", |path| cases.run(path, create_case));
    cases.finish();
}

fn create_case(path: &Path) {
    let (dir, name) = case_name(path);
    let case = Case::read(path);
    let warehouse = Warehouse::new(&format!("create_{name}"));
    let dataset = match case.dataset() {
        Ok(dataset) => dataset,
        Err(refused) => return golden(&dir, &refused),
    };
    let templates = Templates::load(None, case.options.cluster.as_deref()).unwrap();
    let objects = match wanted_objects(&dataset, &case.spec(), &case.options("raw")) {
        Ok(objects) => objects,
        Err(refused) => return golden(&dir, &warehouse.error(refused.into())),
    };
    let statements: Vec<(String, String)> =
        objects.iter().map(|object| ("raw.t".to_owned(), templates.create(object).unwrap())).collect();
    let mut text: Vec<String> = statements.iter().map(|(_, sql)| format!("{sql};\n")).collect();
    let plan = case.options.cluster.is_none().then(|| warehouse.plan(&case).unwrap());
    text.extend(plan.iter().flat_map(|plan| &plan.notes).map(|note| format!("-- note: {note}\n")));
    golden(&dir, &text.join("\n"));
    // The server reads all of it, also what it could only run with a Keeper or in a cluster.
    let mut session = warehouse.engine.connect().unwrap();
    for text in normalise(&mut *session, &statements).unwrap() {
        parse_create(&text).unwrap();
    }
    if let Some(plan) = plan {
        warehouse.apply(&case, &plan).unwrap();
        warehouse.assert_settled(&case);
    }
}

/// A change of files or spec: the plan, applied to a table with rows.
#[test]
fn diff() {
    let mut cases = Cases { failed: Vec::new() };
    insta::glob!("ddl/diff/*/after.yml", |path| cases.run(path, diff_case));
    cases.finish();
}

fn diff_case(path: &Path) {
    let (dir, name) = case_name(path);
    let (before, after) = (Case::read(&dir.join("before.yml")), Case::read(path));
    let warehouse = Warehouse::new(&format!("diff_{name}"));
    let plan = warehouse.plan(&before).unwrap();
    warehouse.apply(&before, &plan).unwrap();
    let rows = dir.join("rows.sql");
    // An ALTER waits for its mutation, which stopped merges would never run.
    if !fs_err::read_to_string(&rows).is_ok_and(|text| text.contains("ALTER")) {
        warehouse.merges("STOP");
    }
    warehouse.run(&rows);
    let mut text = String::new();
    match warehouse.plan(&after) {
        Err(refused) => text.push_str(&refused),
        Ok(plan) => {
            warehouse.merges("START");
            text.push_str(&warehouse.shown(&plan_text(&without_state(plan.clone()))));
            match warehouse.apply(&after, &plan) {
                Err(refused) => _ = write!(text, "\n-- refused\n{refused}"),
                Ok(()) => warehouse.assert_settled(&after),
            }
        }
    }
    let answers = warehouse.answers(&dir.join("check.sql"));
    if !answers.is_empty() {
        _ = write!(text, "\n-- check.sql\n{answers}");
    }
    golden(&dir, &text);
}

/// There are enough goldens, and every kind of object, every action and every class of change is in one.
#[test]
fn goldens_cover_every_kind_of_object_and_class_of_change() {
    let folder = repository().join("snapshots_tests/ddl");
    let read = |kind: &str| -> Vec<String> {
        let cases = fs_err::read_dir(folder.join(kind)).unwrap();
        cases.map(|case| fs_err::read_to_string(case.unwrap().path().join("expected.snap")).unwrap()).collect()
    };
    let (create, diff) = (read("create"), read("diff"));
    // Errors make nothing; what is refused in a diff is tried, and its rows are read back.
    let made = create.iter().filter(|text| text.contains("CREATE")).count();
    assert!(made + diff.len() >= 60, "{made} and {} goldens", diff.len());
    let collection = fs_err::read_to_string(folder.join("collection_changed.snap")).unwrap();
    let all = format!("{}{}{collection}", create.concat(), diff.concat());
    for part in [
        "CREATE DATABASE",
        "CREATE NAMED COLLECTION",
        "ALTER NAMED COLLECTION",
        "ENGINE = S3(",
        "ENGINE = S3Queue(",
        "ENGINE = ReplacingMergeTree(",
        "ENGINE = ReplicatedReplacingMergeTree(",
        "ENGINE = Distributed(",
        "CREATE MATERIALIZED VIEW",
        "CREATE OR REPLACE VIEW",
        "(metadata only)",
        "(mutation, ",
        "(rebuild, ",
        "(replace)",
        "create named collection",
        "alter table",
        "replace table",
        "rebuild table",
        "EXCHANGE TABLES",
        "LOSES",
    ] {
        assert!(all.contains(part), "no golden has `{part}`");
    }
}
