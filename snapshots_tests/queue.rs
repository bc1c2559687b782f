//! `load --mode queue`: S3Queue of the embedded engine against a real ZooKeeper and the local S3.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::array::{ArrayRef, Int64Array, StringArray};

use crate::{
    harness::{Project, skip},
    parquet_files,
    zookeeper::ZooKeeper,
};

const ROWS: i64 = 20;

/// A project with one dataset, `events`, whose queue commits every few files so that a kill hits it in the middle.
fn project(zookeeper: &ZooKeeper) -> Project {
    Project::new()
        .file("chpipe.toml", "[source]\nendpoints = \"none\"\n[lake]\npath = \"lake\"\n[load]\nmode = \"queue\"\n")
        .file("ddl/tables/events.yml", &spec(10))
        .env("CHPIPE_ZOOKEEPER", &zookeeper.address)
        .env("CHPIPE_WAREHOUSE_PATH", "warehouse")
}

fn spec(retries: u32) -> String {
    format!(
        "natural_key: [id]\nqueue_settings: {{processing_threads_num: 2, max_processed_files_before_commit: 5, \
         loading_retries: {retries}, polling_max_timeout_ms: 500}}\n"
    )
}

fn key(season: u32, round: u32) -> String {
    format!("ergast/endpoint=events/season={season}/round={round:02}/batch_id=20240101T000000/data.parquet")
}

fn path(project: &Project, key: &str) -> PathBuf {
    project.path().join("lake/silver").join(key)
}

/// A file of [`ROWS`] rows; `extra` is a column that older files have not.
fn event_file(project: &Project, season: u32, round: u32, extra: bool) {
    let first = i64::from(season * 100 + round) * ROWS;
    let ids: Vec<i64> = (first..first + ROWS).collect();
    let names: Vec<String> = ids.iter().map(|id| format!("event {id}")).collect();
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(Int64Array::from(ids.clone()))), ("name", Arc::new(StringArray::from(names)))];
    if extra {
        columns.push(("extra", Arc::new(Int64Array::from(ids))));
    }
    parquet_files::write(&path(project, &key(season, round)), columns);
}

fn query(project: &Project, sql: &str) -> String {
    project.run(["query", "--format", "TSV", sql]).success().stdout.trim().to_owned()
}

const FOLLOW: [&str; 3] = ["load", "--patience", "180"];

/// Starts `load --mode queue` and kills it as soon as ClickHouse has written some more parts.
fn kill_in_the_middle(project: &Project) {
    let before = parts(project);
    let mut child: Child = project.command().args(FOLLOW).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while parts(project) < before + 3 && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(180), "the queue read nothing within three minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Parts of tables that are partitioned by a year.
fn parts(project: &Project) -> usize {
    let part = regex::Regex::new(r"^(19|20)\d\d_\d+_\d+_\d+$").unwrap();
    walkdir::WalkDir::new(project.path().join("warehouse/store"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| part.is_match(&entry.file_name().to_string_lossy()))
        .count()
}

/// 300 files, backfilled out of order, the consumer killed three times, a column added halfway: each row once, and what
/// was loaded before the change is not read again.
#[test]
fn each_row_arrives_exactly_once() {
    let zookeeper = match ZooKeeper::start() {
        Ok(zookeeper) => zookeeper,
        Err(reason) => return skip("queue::each_row_arrives_exactly_once", &reason),
    };
    let project = project(&zookeeper);
    // Without a file there is nothing to make yet.
    let plan = project.run(["migrate"]).success();
    assert!(plan.stdout.contains("events has no file below"), "{}", plan.stdout);

    // The present first, the past after it: ordered mode would never read the second half.
    (2015..2025).for_each(|season| (1..=10).for_each(|round| event_file(&project, season, round, false)));
    project.run(["migrate"]).success();
    kill_in_the_middle(&project);
    (1950..1960).for_each(|season| (1..=10).for_each(|round| event_file(&project, season, round, false)));
    kill_in_the_middle(&project);
    project.run(FOLLOW).success();
    assert_eq!(query(&project, "SELECT count() FROM raw.raw_events FINAL"), "4000");
    let loaded = query(&project, "SELECT count(), max(_loaded_at) FROM raw.raw_events");

    // A new column: the queue of the old columns is not followed, the next migration makes a new one.
    (1990..2000).for_each(|season| (1..=10).for_each(|round| event_file(&project, season, round, true)));
    let refused = project.run(FOLLOW);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("is not made for the files of `events` as they are now"), "{}", refused.stderr);
    let plan = project.run(["migrate"]).success().stdout;
    assert!(plan.contains("recreate table raw.queue_events"), "{plan}");
    assert_eq!(project.run(["migrate", "--check"]).code, Some(0));
    kill_in_the_middle(&project);
    project.run(FOLLOW).success();

    let counts =
        "SELECT count(), uniqExact(id), uniqExact(_path), sum(extra), countIf(extra = id) FROM raw.raw_events FINAL";
    let extras: i64 = (1990..2000)
        .flat_map(|season| (1..=10).map(move |round| (season * 100 + round) * ROWS))
        .flat_map(|first| first..first + ROWS)
        .sum();
    assert_eq!(query(&project, counts), format!("6000\t6000\t300\t{extras}\t2000"));
    assert_eq!(
        query(&project, "SELECT count(), max(_loaded_at) FROM raw.raw_events WHERE season NOT BETWEEN 1990 AND 1999"),
        loaded,
        "what was loaded is not read again"
    );
    assert_eq!(query(&project, "SELECT count(), sum(rows) FROM raw.batches FINAL"), "300\t6000");
    let ledger = "SELECT state, mode, count() FROM chpipe.loads FINAL GROUP BY ALL";
    assert_eq!(query(&project, ledger), "loaded\tqueue\t300");

    // Nothing is left to do, and a second run does nothing.
    let again = project.run(FOLLOW).success();
    assert!(again.stdout.contains("300"), "{}", again.stdout);
    assert_eq!(query(&project, counts), format!("6000\t6000\t300\t{extras}\t2000"));
}

/// What its mode lets ALTER change is altered in place; a broken file is reported and loaded again by name, and so is one
/// that was uploaded anew.
#[test]
fn settings_failures_and_reloads() {
    let zookeeper = match ZooKeeper::start() {
        Ok(zookeeper) => zookeeper,
        Err(reason) => return skip("queue::settings_failures_and_reloads", &reason),
    };
    let project = project(&zookeeper);
    event_file(&project, 2024, 1, false);
    project.run(["migrate"]).success();
    project.write("ddl/tables/events.yml", &spec(1));
    let plan = project.run(["migrate"]).success().stdout;
    assert!(plan.contains("alter table raw.queue_events (metadata only)"), "{plan}");
    assert!(plan.contains("MODIFY SETTING loading_retries = 1"), "{plan}");
    assert_eq!(project.run(["migrate", "--check"]).code, Some(0));

    // Its footer is sound, its pages are not.
    event_file(&project, 2024, 2, false);
    let broken = path(&project, &key(2024, 2));
    let mut bytes = fs_err::read(&broken).unwrap();
    bytes[4..60].fill(0xff);
    fs_err::write(&broken, bytes).unwrap();
    let outcome = project.run(FOLLOW);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains(&key(2024, 2)), "{}", outcome.stderr);
    let status = project.run(["load", "status"]).success().stdout;
    assert!(status.contains(&key(2024, 2)), "{status}");
    assert_eq!(query(&project, "SELECT count(), uniqExact(_path) FROM raw.raw_events"), "20\t1");

    event_file(&project, 2024, 2, false);
    project.run(["load", "--reload", "round=02"]).success();
    assert_eq!(query(&project, "SELECT count(), uniqExact(_path) FROM raw.raw_events FINAL"), "40\t2");

    // The first file again, with other rows.
    parquet_files::write(
        &path(&project, &key(2024, 1)),
        vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ],
    );
    let warned = project.run(FOLLOW).success();
    assert!(warned.stderr.contains("is not what was loaded under its key"), "{}", warned.stderr);
    project.run(["load", "--reload", &key(2024, 1)]).success();
    let rows = "SELECT countIf(round = 1), countIf(round = 2) FROM raw.raw_events FINAL";
    assert_eq!(query(&project, rows), "3\t20");

    // A value that the spec's type does not hold is no other value in the table, it is a failed file.
    project.write("ddl/tables/events.yml", &format!("{}columns: {{extra: {{type: Int8}}}}\n", spec(1)));
    let small = |round: u32, extra: i64| {
        let text = Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
        let number = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let columns = vec![("id", number(1)), ("name", text), ("extra", number(extra))];
        parquet_files::write(&path(&project, &key(2024, round)), columns);
    };
    small(3, 100);
    project.run(["migrate"]).success();
    project.run(FOLLOW).success();
    small(4, 1000);
    let outcome = project.run(FOLLOW);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("column extra of the files has a value that is no Int8"), "{outcome:?}");
    let extras = "SELECT round, sum(extra) FROM raw.raw_events FINAL WHERE round > 2 GROUP BY round";
    assert_eq!(query(&project, extras), "3\t100");
}
