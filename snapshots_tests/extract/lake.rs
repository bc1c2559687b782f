//! `chpipe transform` over a lake in a directory: which batches it sees, what it writes, and what it says.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use chpipe::{
    extract::{Metadata, wrap},
    lake::layout::{BatchId, BronzeFile, BronzeKey, Partition, QuarantineKey, SilverKey},
};
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, file::metadata::ParquetMetaData};
use serde_json::{Value, json};

use super::pages::body;
use crate::harness::Project;

const BATCH: &str = "20240102T030405";

fn batch_id() -> BatchId {
    BATCH.parse().unwrap()
}

fn stops() -> Partition {
    Partition::new("pitstops", Some(2023), Some(1)).unwrap()
}

/// A race with pit stops of these drivers.
fn race(drivers: &[&str]) -> Value {
    let stop =
        |driver: &&str| json!({"driverId": driver, "lap": "9", "stop": "1", "time": "17:00:00", "duration": "22.5"});
    json!({"season": "2023", "round": "1", "raceName": "x", "PitStops": drivers.iter().map(stop).collect::<Vec<_>>()})
}

/// Puts a page into Bronze as extract does.
fn put(project: &Project, batch_id: BatchId, page: u32, total_pages: u32, body: &[u8]) {
    let metadata = Metadata {
        ingestion_timestamp: "2024-01-02T03:04:05Z".into(),
        batch_id: batch_id.as_str().into(),
        endpoint: "pitstops".into(),
        season: Some(2023),
        round: Some(1),
        page,
        total_pages,
        source_url: format!("http://example.com/2023/1/pitstops.json?limit=2&offset={}", (page - 1) * 2).into(),
        api_response_total: 3,
        file_version: "1.0".into(),
    };
    let file = if total_pages == 1 { BronzeFile::Data } else { BronzeFile::Page(page) };
    let key = BronzeKey { partition: stops(), batch_id, file };
    let object = String::from_utf8(wrap(&metadata, body).unwrap()).unwrap();
    project.write(&format!(".chpipe/lake/bronze/{key}"), &object);
}

fn silver(project: &Project) -> PathBuf {
    let key = SilverKey { partition: stops(), batch_id: batch_id() };
    project.path().join(format!(".chpipe/lake/silver/{key}"))
}

fn quarantine(project: &Project) -> Vec<Value> {
    let key = QuarantineKey { partition: stops(), batch_id: batch_id() };
    let text = fs_err::read_to_string(project.path().join(format!(".chpipe/lake/silver/{key}"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read(project: &Project) -> (RecordBatch, ParquetMetaData) {
    let file = fs_err::File::open(silver(project)).unwrap().into_parts().0;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = builder.metadata().as_ref().clone();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    (arrow::compute::concat_batches(&schema, &batches).unwrap(), metadata)
}

/// Pages become one sorted Parquet object with statistics, page index and its provenance; a second run leaves it alone, and
/// `--all` makes the same bytes again.
#[test]
fn a_complete_batch_becomes_one_object() {
    let project = Project::new();
    put(&project, batch_id(), 1, 2, &body(2, 0, 3, &[race(&["c", "a"])]));
    put(&project, batch_id(), 2, 2, &body(2, 2, 3, &[race(&["b"])]));
    // The marker of a batch that was started over is no page.
    let marker = format!("{}superseded.json", stops().batch_prefix("20240101T000000".parse().unwrap()));
    project.write(&format!(".chpipe/lake/bronze/{marker}"), "{\"superseded_by\":\"20240102T030405\"}");
    let outcome = project.run(["transform"]).success();
    assert!(outcome.stdout.contains("pitstops"), "{}", outcome.stdout);
    let bytes = fs_err::read(silver(&project)).unwrap();
    let (rows, metadata) = read(&project);
    let drivers = rows.column_by_name("driver_id").unwrap();
    assert_eq!(format!("{drivers:?}").matches("\"").count(), 6);
    let schema: Vec<String> = rows
        .schema()
        .fields()
        .iter()
        .map(|f| format!("{} {}{}", f.name(), f.data_type(), if f.is_nullable() { "?" } else { "" }))
        .collect();
    assert_eq!(
        schema,
        [
            "season Int16",
            "round Int16",
            "driver_id Utf8",
            "stop Int16",
            "lap Int16?",
            "time_of_day_local Utf8?",
            "duration_text Utf8?",
            "duration_millis Int64?",
            "_extra Utf8?"
        ]
    );
    let file = metadata.file_metadata();
    let pairs: Vec<(String, String)> =
        file.key_value_metadata().unwrap().iter().map(|pair| (pair.key.clone(), pair.value.clone().unwrap())).collect();
    assert_eq!(
        pairs,
        [
            ("chpipe.endpoint", "pitstops"),
            ("chpipe.batch_id", BATCH),
            (
                "chpipe.source_urls",
                r#"["http://example.com/2023/1/pitstops.json?limit=2&offset=0","http://example.com/2023/1/pitstops.json?limit=2&offset=2"]"#
            ),
            ("chpipe.schema_version", "1"),
            ("chpipe.tool_version", env!("CARGO_PKG_VERSION")),
            ("chpipe.season", "2023"),
            ("chpipe.round", "1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    let group = metadata.row_group(0);
    for column in group.columns() {
        assert!(column.statistics().is_some() && column.offset_index_range().is_some(), "{column:?}");
        assert!(column.column_index_range().is_some(), "{column:?}");
    }
    assert_eq!(group.sorting_columns().unwrap().len(), 4);
    project.run(["transform"]).success();
    assert_eq!(fs_err::read(silver(&project)).unwrap(), bytes);
    fs_err::remove_file(silver(&project)).unwrap();
    project.run(["transform", "--all"]).success();
    assert_eq!(fs_err::read(silver(&project)).unwrap(), bytes);
}

/// A batch that lacks a page is not seen, and is as soon as the page is there.
#[test]
fn an_incomplete_batch_is_left_alone() {
    let project = Project::new();
    put(&project, batch_id(), 1, 2, &body(2, 0, 3, &[race(&["c", "a"])]));
    project.run(["transform"]).success();
    assert!(!silver(&project).exists());
    put(&project, batch_id(), 2, 2, &body(2, 2, 3, &[race(&["b"])]));
    project.run(["transform"]).success();
    assert_eq!(read(&project).0.num_rows(), 3);
}

/// Too many refused rows fail the batch; they are in quarantine, whole and with the reason, and the rest goes through with a
/// higher threshold.
#[test]
fn refused_rows_go_to_quarantine() {
    let project = Project::new();
    let mut bad = race(&["a", "b"]);
    bad["PitStops"][1]["stop"] = json!("first");
    put(&project, batch_id(), 1, 1, &body(100, 0, 2, &[bad.clone()]));
    let outcome = project.run(["transform"]);
    assert_eq!(outcome.code, Some(1));
    for part in [
        "1 of 1 batches failed; first `ergast/endpoint=pitstops/season=2023/round=01/batch_id=20240102T030405/`",
        "1 of 2 rows",
        "column `stop` (stop = `first`) not an integer",
        "quarantine_threshold",
    ] {
        assert!(outcome.stderr.contains(part), "{part}\n{}", outcome.stderr);
    }
    assert!(!silver(&project).exists());
    let expected = json!([{
        "endpoint": "pitstops", "season": 2023, "round": 1, "batch_id": BATCH, "page": 1, "kind": "invalid",
        "reasons": [{"column": "stop", "path": "stop", "value": "first", "reason": "not an integer"}],
        "context": {"Races[].season": "2023", "Races[].round": "1"},
        "row": bad["PitStops"][1],
    }]);
    assert_eq!(Value::from(quarantine(&project)), expected);
    project.write("chpipe.toml", "[transform]\nquarantine_threshold = 0.5\n");
    project.run(["transform"]).success();
    assert_eq!(read(&project).0.num_rows(), 1);
    assert_eq!(Value::from(quarantine(&project)), expected);
}

/// Nothing stays in quarantine of a batch whose rows pass today.
#[test]
fn quarantine_is_left() {
    let project = Project::new();
    let mut stops = race(&["a", "b"]);
    stops["PitStops"][1]["stop"] = json!("first");
    put(&project, batch_id(), 1, 1, &body(100, 0, 2, &[stops]));
    assert_eq!(project.run(["transform"]).code, Some(1));
    assert_eq!(quarantine(&project).len(), 1);
    put(&project, batch_id(), 1, 1, &body(100, 0, 2, &[race(&["a", "b"])]));
    project.run(["transform"]).success();
    assert_eq!(read(&project).0.num_rows(), 2);
    assert!(!project.path().join(".chpipe/lake/silver/ergast/_quarantine").exists());
}

/// An unknown field is a warning, and stays in `_extra`.
#[test]
fn drift_is_reported() {
    let project = Project::new();
    let mut race = race(&["a"]);
    race["PitStops"][0]["crew"] = json!({"jack": "7"});
    put(&project, batch_id(), 1, 1, &body(100, 0, 1, &[race]));
    let outcome = project.run(["transform"]).success();
    assert!(
        outcome.stderr.contains(
            "`pitstops` has an unknown field `RaceTable.Races[].PitStops[].crew` (1 times, first value {\"jack\":\"7\"})"
        ),
        "{}",
        outcome.stderr
    );
    let (rows, _) = read(&project);
    let extra = rows.column_by_name("_extra").unwrap();
    assert_eq!(arrow::util::display::array_value_to_string(extra, 0).unwrap(), r#"{"crew":{"jack":"7"}}"#);
}

/// A field of another JSON type fails the batch with endpoint, path and value; other batches go through.
#[test]
fn a_type_change_fails_its_batch_alone() {
    let project = Project::new();
    let mut changed = race(&["a"]);
    changed["PitStops"][0]["lap"] = json!(9);
    put(&project, "20240101T000000".parse().unwrap(), 1, 1, &body(100, 0, 1, &[changed]));
    put(&project, batch_id(), 1, 1, &body(100, 0, 1, &[race(&["a"])]));
    let outcome = project.run(["transform"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome
            .stderr
            .contains("`RaceTable.Races[].PitStops[].lap` of endpoint `pitstops` was a text and is a number: 9"),
        "{}",
        outcome.stderr
    );
    assert!(silver(&project).exists());
    // Bronze keeps it for ever; it fails no run any more that begins with a newer batch in its place.
    put(&project, "20240101T000001".parse().unwrap(), 1, 2, &body(2, 0, 3, &[race(&["c", "a"])]));
    let outcome = project.run(["transform"]).success();
    assert!(
        outcome.stderr.contains("2 batches of `pitstops` are incomplete or cannot be read; newer ones"),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("batch failed"), "{outcome:?}");
    assert_eq!(project.run(["transform", "--all"]).code, Some(1));
}

/// A page whose envelope is another's is not taken for data.
#[test]
fn an_envelope_must_agree_with_its_key() {
    let project = Project::new();
    put(&project, batch_id(), 1, 1, &body(100, 0, 1, &[race(&["a"])]));
    let bronze = project.path().join(".chpipe/lake/bronze");
    let from = bronze.join(stops().batch_prefix(batch_id()));
    let to = bronze.join(Partition::new("pitstops", Some(2023), Some(2)).unwrap().batch_prefix(batch_id()));
    fs_err::create_dir_all(to.parent().unwrap()).unwrap();
    fs_err::rename(from, to).unwrap();
    let outcome = project.run(["transform"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome
            .stderr
            .contains("its metadata says page 1 of endpoint pitstops, season 2023, round 1, batch 20240102T030405"),
        "{}",
        outcome.stderr
    );
}

/// The run record says what was done, by whom, on what.
#[test]
fn a_run_leaves_a_record() {
    let project = Project::new();
    put(&project, batch_id(), 1, 1, &body(100, 0, 1, &[race(&["a"])]));
    project.run(["transform", "--season", "2020..2023", "--endpoint", "pitstops"]).success();
    let folder = project.path().join(".chpipe/lake/silver/_runs/transform");
    let entries: Vec<_> = fs_err::read_dir(folder).unwrap().collect();
    let [Ok(entry)] = entries.as_slice() else { panic!("{entries:?}") };
    let record: Value = serde_json::from_str(&fs_err::read_to_string(entry.path()).unwrap()).unwrap();
    assert_eq!(record["outcome"], "success");
    assert_eq!(record["batch_ids"], json!([BATCH]));
    assert_eq!(record["arguments"]["season"], "2020..2023");
    assert_eq!(record["endpoints"]["pitstops"]["rows"], 1);
    assert!(record["run_id"].is_string() && record["error"].is_null());
}

/// The metrics of a run add up all records, and read each from the lake once.
#[test]
fn a_record_is_read_once() {
    let project = Project::new().file("chpipe.toml", "[metrics]\ntextfile = \"chpipe.prom\"\n");
    put(&project, batch_id(), 1, 1, &body(100, 0, 1, &[race(&["a"])]));
    let runs = || {
        project.run(["transform"]).success();
        let text = fs_err::read_to_string(project.path().join("chpipe_lake.prom")).unwrap();
        let line = text.lines().find(|line| line.starts_with("chpipe_runs_total{command=\"transform\"")).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(runs(), "1");
    let folder = project.path().join(".chpipe/lake/silver/_runs/transform");
    let first = fs_err::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    fs_err::write(&first, "what was read before is not read again").unwrap();
    assert_eq!(runs(), "2");
    // What the lake has no more does not count.
    fs_err::remove_file(&first).unwrap();
    assert_eq!(runs(), "2");
    // An object that is made again is stored once.
    project.run(["transform", "--all"]).success();
    let text = fs_err::read_to_string(project.path().join("chpipe_lake.prom")).unwrap();
    let stored =
        format!("chpipe_layer_bytes{{layer=\"silver\"}} {}", fs_err::metadata(silver(&project)).unwrap().len());
    assert!(text.lines().any(|line| line == stored), "{stored}\n{text}");
}
