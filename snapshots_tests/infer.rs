//! `ddl infer`: a spec for Parquet in a bucket of its own, over plain HTTP with credentials of the environment and in a
//! folder of a directory lake; what it writes is then migrated and loaded.

use std::{path::Path, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use chpipe::lake::{LocalS3, LocalS3Options};

use crate::{harness::Project, parquet_files};

fn project() -> Project {
    Project::new()
        .file("chpipe.toml", "[source]\nendpoints = \"none\"\n[lake]\npath = \"lake\"\n")
        .env("CHPIPE_WAREHOUSE_PATH", "warehouse")
}

fn query(project: &Project, sql: &str) -> String {
    project.run(["query", "--format", "TSV", sql]).success().stdout.trim().to_owned()
}

/// Two years of files with names that need quotes, one column in the second alone, and a file that is no Parquet.
fn events(bucket: &Path) {
    let file = |year: u32, extra: bool| {
        let ids: Vec<i64> = (0..3).map(|id| i64::from(year) * 10 + id).collect();
        let words: Vec<String> = ids.iter().map(|id| format!("it's {id} 🏁")).collect();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(ids.clone()))),
            ("a `b` \"c\".d 🏎", Arc::new(StringArray::from(words.clone()))),
            ("select", Arc::new(StringArray::from(words))),
        ];
        if extra {
            columns.push(("extra", Arc::new(Int64Array::from(ids))));
        }
        parquet_files::write(&bucket.join(format!("in/year={year}/part-0.parquet")), columns);
    };
    file(2023, false);
    file(2024, true);
    fs_err::write(bucket.join("in/year=2024/_SUCCESS"), "").unwrap();
}

/// From `infer` to rows: the spec is all that `migrate` and `load` need, and a second run of each finds nothing to do.
fn reaches_rows(project: &Project, infer: &[&str], database: &str) {
    let inferred = project.run(infer).success();
    assert!(inferred.stdout.contains(&format!("CREATE TABLE `{database}`.`raw_events`")), "{}", inferred.stdout);
    let migrated = project.run(["migrate"]).success();
    assert!(!format!("{}{}", migrated.stdout, migrated.stderr).contains("test-secret"));
    project.run(["load"]).success();
    let sql = format!(
        "SELECT id, \"a `b` \\\"c\\\".d 🏎\", `select`, extra, year FROM {database}.raw_events FINAL ORDER BY id LIMIT 2 BY year"
    );
    assert_eq!(
        query(project, &sql),
        "20230\tit\\'s 20230 🏁\tit\\'s 20230 🏁\t\\N\t2023\n20231\tit\\'s 20231 🏁\tit\\'s 20231 🏁\t\\N\t2023\n\
         20240\tit\\'s 20240 🏁\tit\\'s 20240 🏁\t20240\t2024\n20241\tit\\'s 20241 🏁\tit\\'s 20241 🏁\t20241\t2024"
    );
    project.run(["migrate", "--check"]).success();
    project.run(["load"]).success();
    assert_eq!(query(project, &format!("SELECT count(), uniqExact(id) FROM {database}.raw_events")), "6\t6");
    assert_eq!(query(project, &format!("SELECT count() FROM {database}.ext_events")), "6");
    assert_eq!(project.run(infer).success().stdout, inferred.stdout.replace("written", "is as it would be written"));
}

/// A bucket of another S3 over plain HTTP, with the credentials of the environment, into a database of its own.
#[test]
fn a_foreign_bucket_reaches_the_warehouse() {
    let store = tempfile::tempdir().unwrap();
    events(&store.path().join("events-2024"));
    let credentials = Some(("test-id".to_owned(), chpipe::config::Secret::new("test-secret")));
    let server = LocalS3::start(store.path(), LocalS3Options { credentials, ..LocalS3Options::default() }).unwrap();
    let project = project().env("AWS_ACCESS_KEY_ID", "test-id").env("AWS_SECRET_ACCESS_KEY", "test-secret");
    let endpoint = server.endpoint();
    let source = "s3://events-2024/in/**.parquet";
    let infer = ["ddl", "infer", source, "--name", "events", "--endpoint", &endpoint, "--database", "foreign"];
    reaches_rows(&project, &infer, "foreign");
}

/// A public bucket, read without any keys: by the footers' requests and by ClickHouse's. The same bucket with keys that it
/// does not know is refused, and one that is not public too.
#[test]
fn a_public_bucket_needs_no_keys() {
    let store = tempfile::tempdir().unwrap();
    events(&store.path().join("open-data"));
    events(&store.path().join("closed-data"));
    let options = LocalS3Options { public: vec!["open-data".into()], ..LocalS3Options::default() };
    let server = LocalS3::start(store.path(), options).unwrap();
    let endpoint = server.endpoint();
    // Keys of another store lie about in the environment: they are not sent.
    let project = project().env("AWS_ACCESS_KEY_ID", "other-id").env("AWS_SECRET_ACCESS_KEY", "other-secret");
    let infer = |bucket: &str, name: &str, flags: &[&str]| {
        let source = format!("s3://{bucket}/in/**.parquet");
        project.run(["ddl", "infer", &source, "--name", name, "--endpoint", &endpoint].iter().chain(flags))
    };
    for outcome in [infer("open-data", "x", &[]), infer("closed-data", "x", &["--no-sign-request"])] {
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(!outcome.stderr.contains("other-secret"), "{outcome:?}");
    }
    let source = "s3://open-data/in/**.parquet";
    let infer = ["ddl", "infer", source, "--name", "events", "--endpoint", &endpoint, "--no-sign-request"];
    reaches_rows(&project, &infer, "raw");
}

/// A plan without changes is remembered, and forgotten with anything that could change it.
#[test]
fn nothing_to_do_is_remembered_until_something_changes() {
    let project = project();
    events(&project.path().join("lake/other"));
    project.run(["ddl", "infer", "s3://other/in/**.parquet", "--name", "events"]).success();
    project.run(["migrate"]).success();
    let check = || {
        let outcome = project.run(["migrate", "--check", "--log-level", "debug"]);
        (outcome.code, outcome.stderr.contains("holds=true") || outcome.stderr.contains("\"holds\":true"), outcome)
    };
    let (code, remembered, outcome) = check();
    assert_eq!((code, remembered), (Some(0), false), "{outcome:?}");
    let (code, remembered, outcome) = check();
    assert_eq!((code, remembered), (Some(0), true), "{outcome:?}");
    assert!(outcome.stdout.contains("Nothing to do"), "{outcome:?}");
    // Rows are no matter of a plan; a table that somebody changed is, and so are a new file, a spec and a migration file.
    project.run(["load"]).success();
    let (code, _, outcome) = check();
    assert_eq!(code, Some(0), "{outcome:?}");
    assert!(check().1);
    query(&project, "ALTER TABLE raw.raw_events MODIFY COMMENT 'by hand'");
    assert_eq!(check().0, Some(1));
    project.run(["migrate"]).success();
    assert_eq!(check().0, Some(0));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    parquet_files::write(&project.path().join("lake/other/in/year=2025/part-0.parquet"), vec![("new", column)]);
    assert_eq!(check().0, Some(1));
    project.run(["migrate"]).success();
    assert_eq!(check().0, Some(0));
    assert!(check().1);
    project.write("ddl/migrations/0001_note.sql", "CREATE TABLE raw.note (a Int8) ENGINE = MergeTree ORDER BY a;\n");
    assert_eq!(check().0, Some(1));
    fs_err::remove_file(project.path().join("ddl/migrations/0001_note.sql")).unwrap();
    assert_eq!(check().0, Some(0));
    let spec = fs_err::read_to_string(project.path().join("ddl/tables/events.yml")).unwrap();
    project.write("ddl/tables/events.yml", &format!("{spec}comment: other\n"));
    assert_eq!(check().0, Some(1));
}

/// A folder beside Silver in a directory lake, by its path; and every way in which `infer` says no.
#[test]
fn a_folder_of_the_lake_reaches_the_warehouse_and_what_is_wrong_is_named() {
    let project = project();
    let bucket = project.path().join("lake/other");
    events(&bucket);
    let infer = ["ddl", "infer", "lake/other/in/year={2023,2024}/*.parquet", "--name", "events"];
    reaches_rows(&project, &infer, "raw");
    // The tables of a spec that is gone stay, and the warehouse opens.
    let spec = fs_err::read_to_string(project.path().join("ddl/tables/events.yml")).unwrap();
    fs_err::remove_file(project.path().join("ddl/tables/events.yml")).unwrap();
    assert_eq!(query(&project, "SELECT count() FROM raw.ext_events"), "6");
    project.write("ddl/tables/events.yml", &spec);
    let refused = |arguments: &[&str], expected: &[&str]| {
        let outcome = project.run(["ddl", "infer"].iter().chain(arguments));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        for part in expected {
            let text = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(text.contains(part), "{arguments:?} does not say `{part}`:\n{text}");
        }
    };
    refused(&["s3://other/out/*.parquet", "--name", "x"], &["no object matches `s3://other/out/*.parquet`"]);
    refused(&["https://host/x", "--name", "x"], &["does not read https://"]);
    refused(&["/elsewhere/x.parquet", "--name", "x"], &["not below the lake"]);
    refused(&["s3://other/in/**.parquet", "--name", "../x"], &["letters, digits"]);
    refused(&["s3://other/in/**.parquet", "--name", "events"], &["+ source: \"s3://other/in/**.parquet\"", "--force"]);
    fs_err::write(bucket.join("in/year=2024/bad.parquet"), "PAR1 this is no Parquet file").unwrap();
    refused(&["s3://other/in/**.parquet", "--name", "x"], &["other/in/year=2024/bad.parquet", "no Parquet file"]);
    fs_err::remove_file(bucket.join("in/year=2024/bad.parquet")).unwrap();
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    parquet_files::write(&bucket.join("in/year=2025/part-0.parquet"), vec![("id", column)]);
    refused(
        &["s3://other/in/**.parquet", "--name", "x"],
        &["`id`", "year=2023/part-0.parquet", "year=2025/part-0.parquet"],
    );
}
