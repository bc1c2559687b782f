//! A plan's life on the command line: written, edited, applied, undone, killed; what `load` does with values that do not fit and
//! with tables that somebody emptied; and what the metrics say of it.

use std::{path::Path, sync::Arc};

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, ListArray, TimestampMillisecondArray, types::Int32Type,
};

use chpipe::lake::{LocalS3, LocalS3Options};

use crate::{harness::Project, parquet_files};

/// A directory lake with one bucket, `shop`, and a spec of the name `sales` over its files.
fn project(spec: &str) -> Project {
    Project::new()
        .file("chpipe.toml", "[source]\nendpoints = \"none\"\n[lake]\npath = \"lake\"\n")
        .file("ddl/tables/sales.yml", &format!("source: s3://shop/**.parquet\n{spec}"))
        .env("CHPIPE_WAREHOUSE_PATH", "warehouse")
}

fn sales(project: &Project, file: &str, columns: Vec<(&str, ArrayRef)>) {
    parquet_files::write(&project.path().join("lake/shop").join(file), columns);
}

fn quantities(project: &Project, file: &str, ids: &[Option<i64>], quantities: &[i32]) {
    let ids = Arc::new(Int64Array::from(ids.to_vec()));
    sales(project, file, vec![("id", ids), ("qty", Arc::new(Int32Array::from(quantities.to_vec())))]);
}

fn query(project: &Project, sql: &str) -> String {
    project.run(["query", "--format", "TSV", sql]).success().stdout.trim().to_owned()
}

/// The warehouse's part of `chpipe metrics`, without comments.
fn metrics(project: &Project) -> Vec<String> {
    let text = project.run(["metrics"]).success().stdout;
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut plan = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    change(&mut plan);
    fs_err::write(path, plan.to_string()).unwrap();
}

/// What a plan would lose is counted when it is applied, whatever its file says; a plan is applied once, and by a chpipe that
/// knows its format.
#[test]
fn an_edited_plan_loses_nothing() {
    let project = project("natural_key: [id]\n");
    quantities(&project, "a.parquet", &[Some(1), Some(2)], &[5, 200]);
    project.run(["migrate"]).success();
    project.run(["load"]).success();
    project.write(
        "ddl/tables/sales.yml",
        "source: s3://shop/**.parquet\nnatural_key: [id]\ncolumns: {qty: {type: Int8}}\n",
    );
    project.run(["migrate", "--out", "plan.json"]).success();
    let path = project.path().join("plan.json");
    edit(&path, |plan| {
        plan["changes"].as_array_mut().unwrap().iter_mut().for_each(|c| c["destructive"] = serde_json::json!([]))
    });
    let applied = project.run(["migrate", "apply", "plan.json"]);
    assert_eq!(applied.code, Some(1), "{applied:?}");
    assert!(applied.stderr.contains("`raw.raw_sales` would lose data: the values of qty in 1 rows"), "{applied:?}");
    assert_eq!(query(&project, "SELECT sum(qty), any(toTypeName(qty)) FROM raw.raw_sales"), "205\tInt32");

    project.run(["migrate", "apply", "plan.json", "--allow-destructive", "raw.raw_sales"]).success();
    assert_eq!(query(&project, "SELECT sum(qty), any(toTypeName(qty)) FROM raw.raw_sales"), "5\tInt8");
    let twice = project.run(["migrate", "apply", "plan.json"]);
    assert_eq!(twice.code, Some(2), "{twice:?}");
    assert!(twice.stderr.contains("it was applied at "), "{twice:?}");
    edit(&path, |plan| plan["format"] = 2.into());
    let newer = project.run(["migrate", "apply", "plan.json"]);
    assert!(newer.stderr.contains("it is of format 2, and this chpipe reads format 1"), "{newer:?}");

    // What is kept for `undo` is listed, with its size and its end.
    let status = project.run(["migrate", "status"]).success();
    assert!(status.stdout.contains("raw.raw_sales__chp_old_"), "{status:?}");
    project.run(["migrate", "undo"]).success();
    assert_eq!(query(&project, "SELECT sum(qty) FROM raw.raw_sales"), "205");
}

/// A plan with queues is planned again with queues: it is not stale, and what stops it is the Keeper that is not there.
#[test]
fn a_plan_with_queues_can_be_applied() {
    let project = project("");
    quantities(&project, "a.parquet", &[Some(1)], &[5]);
    project.run(["migrate", "--queue", "--out", "plan.json"]).success();
    let applied = project.run(["migrate", "apply", "plan.json"]);
    assert_eq!(applied.code, Some(1), "{applied:?}");
    assert!(applied.stderr.contains("on `raw.queue_sales`"), "{applied:?}");
}

/// A file with a value that the spec's narrower type does not hold fails alone and is named: nothing arrives as another value.
#[test]
fn values_that_do_not_fit_fail_their_file() {
    let project = project(
        "columns:\n  id: {type: Int64}\n  qty: {type: Int8}\n  price: {type: UInt16}\n  day: {type: Date}\n  at: {type: DateTime('UTC')}\n  \
         stock: {type: Int64, default: '7'}\n",
    );
    let file = |name: &str, id: Option<i64>, qty: i32, price: f64, day: i32, at: i64| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), id]))),
            ("qty", Arc::new(Int32Array::from(vec![1, qty]))),
            ("price", Arc::new(Float64Array::from(vec![1.0, price]))),
            ("day", Arc::new(Date32Array::from(vec![1, day]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![1, at]).with_timezone("UTC"))),
            ("stock", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ];
        sales(&project, name, columns);
    };
    file("fits.parquet", Some(2), -128, 65535.0, 0, 1_700_000_000_123);
    file("no_id.parquet", None, 1, 1.0, 1, 1);
    file("much.parquet", Some(2), 200, 1.0, 1, 1);
    file("half.parquet", Some(2), 1, 1.5, 1, 1);
    file("old.parquet", Some(2), 1, 1.0, -7000, 1);
    file("early.parquet", Some(2), 1, 1.0, 1, -86_400_000);
    project.run(["migrate"]).success();
    project.run(["migrate", "--check"]).success();
    let loaded = project.run(["load"]);
    assert_eq!(loaded.code, Some(1), "{loaded:?}");
    for (name, column, kind) in [
        ("no_id", "id", "Int64"),
        ("much", "qty", "Int8"),
        ("half", "price", "UInt16"),
        ("old", "day", "Date"),
        ("early", "at", "DateTime('UTC')"),
    ] {
        let line = loaded.stderr.lines().find(|line| line.contains(&format!("`{name}.parquet` was not loaded")));
        let line = line.unwrap_or_else(|| panic!("{name} is loaded: {loaded:?}"));
        assert!(line.contains(&format!("column {column} of the files has a value that is no {kind}")), "{line}");
    }
    let rows = "SELECT id, qty, price, day, at, stock FROM raw.raw_sales ORDER BY id";
    assert_eq!(
        query(&project, rows),
        "1\t1\t1\t1970-01-02\t1970-01-01 00:00:00\t1\n2\t-128\t65535\t1970-01-01\t2023-11-14 22:13:20\t7"
    );
    // The plan's own reading of the files shows them as they are.
    assert_eq!(
        query(&project, "SELECT max(qty), min(day), countIf(isNull(id)) FROM raw.ext_sales"),
        "200\t1950-11-02\t1"
    );
    // With types that hold them, they come.
    project.write("ddl/tables/sales.yml", "source: s3://shop/**.parquet\n");
    project.run(["migrate"]).success();
    project.run(["load"]).success();
    assert_eq!(query(&project, "SELECT count(), max(qty), sum(price) FROM raw.raw_sales"), "12\t200\t65546.5");
}

/// Whoever empties or drops a raw table gets its rows back from the files by loading: the ledger is not believed over the
/// table. A plan says what NULL lists become.
#[test]
fn an_emptied_table_is_loaded_again() {
    let project = project("");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), None]);
    sales(&project, "a.parquet", vec![("tags", Arc::new(lists))]);
    let planned = project.run(["migrate"]).success();
    assert!(planned.stdout.contains("a NULL list, map or struct of the files arrives empty: tags"), "{planned:?}");
    project.run(["load"]).success();
    for statement in ["TRUNCATE TABLE raw.raw_sales", "DROP TABLE raw.raw_sales"] {
        project.run(["query", statement]).success();
        let status = project.run(["load", "status"]).success();
        let line = status.stdout.lines().find(|line| line.contains("sales")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["sales", "0", "1", "0", "0", "0"], "{status:?}");
        project.run(["migrate"]).success();
        let loaded = project.run(["load"]).success();
        assert!(loaded.stderr.contains("has objects of `sales` as loaded, and its raw table is empty"), "{loaded:?}");
        assert_eq!(query(&project, "SELECT count(), countIf(empty(tags)) FROM raw.raw_sales"), "2\t1");
        assert!(!project.run(["load"]).success().stderr.contains("is empty"));
    }
}

/// A store that ClickHouse does not reach fails the load, to be tried again (exit code 2), and no object: each of them would fail.
#[test]
fn a_store_out_of_reach_fails_no_object() {
    let store = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = store.path().join("shop").join(name);
        parquet_files::write(&path, vec![("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    };
    file("a.parquet");
    file("b.parquet");
    fs_err::create_dir_all(store.path().join("bronze")).unwrap();
    fs_err::create_dir_all(store.path().join("silver")).unwrap();
    let credentials = Some(("test-id".to_owned(), chpipe::config::Secret::new("test-secret")));
    let server = LocalS3::start(store.path(), LocalS3Options { credentials, ..LocalS3Options::default() }).unwrap();
    let project = project("")
        .env("CHPIPE_S3_ENDPOINT", server.endpoint())
        .env("CHPIPE_S3_ACCESS_KEY_ID", "test-id")
        .env("CHPIPE_S3_SECRET_ACCESS_KEY", "test-secret");
    project.run(["migrate"]).success();
    let away =
        project.command().arg("load").env("CHPIPE_S3_CLICKHOUSE_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    let text = String::from_utf8_lossy(&away.stderr);
    assert_eq!(away.status.code(), Some(2), "{text}");
    assert!(text.contains("S3_ERROR") && text.contains("CHPIPE_S3_CLICKHOUSE_ENDPOINT"), "{text}");
    let status = project.run(["load", "status"]).success().stdout;
    let line = status.lines().find(|line| line.contains("sales")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["sales", "0", "0", "2", "0", "0"], "{status}");
    project.run(["load"]).success();
    assert_eq!(query(&project, "SELECT count() FROM raw.raw_sales"), "2");
}

/// An alert on migrations has to end when the next one worked: what failed and what was killed is over then.
#[cfg(debug_assertions)]
#[test]
fn a_migration_that_went_on_is_no_failure_any_more() {
    let project = project("");
    quantities(&project, "a.parquet", &[Some(1)], &[5]);
    // Late enough that its ledger is there, early enough that something is left.
    let killed = project.command().args(["migrate"]).env("CHPIPE_DEBUG_DIE_AT", "20").output().unwrap();
    assert!(!killed.status.success(), "{killed:?}");
    let of_state = |states: &[&str]| {
        let wanted: Vec<String> =
            states.iter().map(|state| format!("chpipe_migrations{{state=\"{state}\"}} 1")).collect();
        let found = metrics(&project);
        assert!(found.iter().any(|line| wanted.contains(line)), "{wanted:?} are not in {found:#?}");
        found
    };
    // Within a minute the dead holder's lock looks alive.
    of_state(&["running", "interrupted"]);
    project.run(["migrate"]).success();
    let found = of_state(&["recovered"]);
    assert!(!found.iter().any(|line| line.contains("state=\"failed\"") || line.contains("state=\"interrupted\"")));
    project.write("ddl/migrations/0001_bad.sql", "CREATE TABLE raw.mine (a Int8) ENGINE = Memory;\nSELEC 1;\n");
    let plan = project.run(["migrate", "--dry-run"]).success();
    assert!(plan.stdout.contains("~ run migration file 0001_bad.sql (by hand)\n    2 statements\n"), "{plan:?}");
    assert_eq!(project.run(["migrate"]).code, Some(1));
    of_state(&["failed"]);
    // Its author gives it up.
    fs_err::remove_file(project.path().join("ddl/migrations/0001_bad.sql")).unwrap();
    project.run(["migrate"]).success();
    let found = metrics(&project);
    assert!(found.contains(&"chpipe_migrations{state=\"recovered\"} 2".to_owned()), "{found:#?}");
    // Machines read one document.
    project.write("ddl/migrations/0002_good.sql", "CREATE TABLE raw.yours (a Int8) ENGINE = Memory");
    let applied = project.run(["migrate", "--format", "json"]).success();
    let plan: serde_json::Value = serde_json::from_str(&applied.stdout).unwrap();
    assert_eq!(plan["changes"][0]["class"], "by_hand");
}

/// What is in Silver and was never loaded is pending, also before anything was; and figures of the warehouse are shown while the
/// lake is away.
#[test]
fn metrics_count_what_is_pending_and_do_without_the_lake() {
    let project =
        Project::new().file("chpipe.toml", "[lake]\npath = \"lake\"\n").env("CHPIPE_WAREHOUSE_PATH", "warehouse");
    let status = |batch: &str| {
        let key = format!("lake/silver/ergast/endpoint=status/batch_id={batch}/data.parquet");
        parquet_files::write(
            &project.path().join(key),
            vec![("status_id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)],
        );
    };
    status("20240101T000000");
    status("20240102T000000");
    let found = metrics(&project);
    assert!(found.contains(&"chpipe_batches{endpoint=\"status\",state=\"pending\"} 2".to_owned()), "{found:#?}");
    let away = project.command().args(["metrics"]).env("CHPIPE_S3_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    assert!(away.status.success(), "{away:?}");
    let (out, err) = (String::from_utf8_lossy(&away.stdout), String::from_utf8_lossy(&away.stderr));
    assert!(out.contains("chpipe_info") && !out.contains("state=\"pending\""), "{out}");
    assert!(err.contains("warning: what extract and transform did is missing, since the lake cannot be read"), "{err}");
}

/// `debug` connects, and says where it cannot.
#[test]
fn debug_connects() {
    let project = project("").file("dbt_project.yml", "name: p\nprofile: p\n").file(
        "profiles.yml",
        "p:\n  target: here\n  outputs:\n    here: {type: clickhouse, driver: embedded, path: warehouse, schema: p}\n    \
         there: {type: clickhouse, driver: http, host: 127.0.0.1, port: 1, schema: p}\n",
    );
    let here = project.run(["debug"]).success();
    assert!(here.stdout.contains("Connection test: [OK connection ok]"), "{here:?}");
    let there = project.run(["debug", "--target", "there"]);
    assert_eq!(there.code, Some(1), "{there:?}");
    assert!(there.stdout.contains("Connection test: [ERROR]") && there.stderr.contains("127.0.0.1:1"), "{there:?}");
}
