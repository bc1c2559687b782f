//! Tables over objects as models, and how fresh they are.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{
    project::query,
    served::{Served, wait_for},
};
use crate::{
    harness::{Project, skip},
    zookeeper::ZooKeeper,
};

fn project() -> Project {
    Project::new()
        .file("dbt_project.yml", "name: external\nversion: '1.0'\nprofile: external\n")
        .file(
            "profiles.yml",
            "external:\n  target: dev\n  outputs:\n    dev: {type: clickhouse, driver: embedded, path: warehouse, schema: external, threads: 1}\n",
        )
        .file("chpipe.toml", "[lake]\npath = \"lake\"\n")
}

/// An S3Queue with its format and settings as a model, a materialized view upon it: objects arrive once each, through runs
/// of the project, and again only where the queue is made anew.
#[test]
fn a_queue_is_a_model() {
    let zookeeper = match ZooKeeper::start() {
        Ok(zookeeper) => zookeeper,
        Err(reason) => return skip("materialize::external::a_queue_is_a_model", &reason),
    };
    let project = project()
        .env("CHPIPE_ZOOKEEPER", &zookeeper.address)
        .file(
            "models/incoming.sql",
            "{{ config(materialized='s3queue', named_collection='silver', path='events/*.csv', format='CSV', settings={'polling_min_timeout_ms': 100, 'polling_max_timeout_ms': 200}) }}\nselect 0::Int64 as id, '' as name\n",
        )
        .file(
            "models/events.sql",
            "{{ config(materialized='materialized_view', order_by='id') }}\nselect id, upper(name) as name from {{ ref('incoming') }}\n",
        )
        .file("lake/silver/events/a.csv", "1,one\n2,two\n");
    project.run(["debug"]).success();
    let _served = Served::start(&project);
    let rows = |expected: &[&str]| {
        wait_for("the rows of the queue", || {
            (query(&project, "select id, name from external.events order by id") == expected).then_some(())
        });
    };
    project.run(["run"]).success();
    rows(&["1\tONE", "2\tTWO"]);
    project.run(["run"]).success();
    project.write("lake/silver/events/0.csv", "0,none\n");
    rows(&["0\tNONE", "1\tONE", "2\tTWO"]);
    let ddl =
        query(&project, "select engine_full from system.tables where database = 'external' and name = 'incoming'");
    for part in ["S3Queue(silver, filename = ", "events/*.csv", "mode = ", "unordered", "polling_max_timeout_ms = 200"]
    {
        assert!(ddl[0].contains(part), "`{part}` is not in {ddl:?}");
    }
    // A queue that is made anew begins from the first object, and so does what is built upon it.
    let anew = project.run(["run", "--full-refresh"]).success();
    assert!(anew.stdout.contains("`external`.`events_mv` dropped until its model is run"), "{}", anew.stdout);
    rows(&["0\tNONE", "1\tONE", "2\tTWO"]);
}

/// Views on a queue, and on what it lands in, are made and made again while objects go on arriving: each row is in each target
/// once. With two threads, so that several of them are switched at a time.
#[test]
fn rows_of_a_queue_are_neither_missed_nor_doubled() {
    let zookeeper = match ZooKeeper::start() {
        Ok(zookeeper) => zookeeper,
        Err(reason) => return skip("materialize::external::rows_of_a_queue_are_neither_missed_nor_doubled", &reason),
    };
    let project = project().env("CHPIPE_ZOOKEEPER", &zookeeper.address).file(
        "models/incoming.sql",
        "{{ config(materialized='s3queue', named_collection='silver', path='events/*.csv', format='CSV', settings={'polling_min_timeout_ms': 10, 'polling_max_timeout_ms': 20}) }}\nselect 0::Int64 as id\n",
    );
    for target in ["shared", "other", "direct_target"] {
        project.write(
            &format!("models/{target}.sql"),
            "{{ config(materialized='table', order_by='id') }}\nselect 0::Int64 as id where 0\n",
        );
    }
    for (name, target, from) in [
        ("landed", "", "incoming"),
        ("own", "", "landed"),
        ("into_shared", "shared", "landed"),
        ("into_other", "other", "landed"),
        ("direct", "direct_target", "incoming"),
    ] {
        let target = match target {
            "" => String::new(),
            target => format!("{{{{ materialization_target_table(ref('{target}')) }}}}\n"),
        };
        project.write(
            &format!("models/{name}.sql"),
            &format!(
                "{{{{ config(materialized='materialized_view', order_by='id') }}}}\n{target}select id from {{{{ ref('{from}') }}}}\n"
            ),
        );
    }
    project.run(["debug"]).success();
    let _served = Served::start(&project);
    // Views upon the queue itself hold what it hands out from when they are there.
    project.run(["run", "--threads", "2", "--select", "incoming", "landed", "direct_target", "direct"]).success();
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let rows: Vec<String> = (0..10).map(|row| format!("{}\n", written * 10 + row)).collect();
                // An object is there with its name, whole.
                project.write("aside.csv", &rows.concat());
                let object = project.path().join(format!("lake/silver/events/{written}.csv"));
                fs_err::create_dir_all(object.parent().unwrap()).unwrap();
                fs_err::rename(project.path().join("aside.csv"), object).unwrap();
                written += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            written * 10
        });
        let arrived = || query(&project, "select count() > 0 from external.landed") == ["1"];
        wait_for("the first rows", || arrived().then_some(()));
        let last = ["own", "shared", "other", "into_shared", "into_other"];
        project.run([&["run", "--threads", "2", "--select"], &last[..]].concat()).success();
        for _ in 0..2 {
            project
                .run([&["run", "--threads", "2", "--full-refresh", "--select", "direct"], &last[..]].concat())
                .success();
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let expected = format!("{written}\t{written}");
    for table in ["landed", "own", "shared", "other", "direct_target"] {
        let sql = format!("select count(), uniqExact(id) from external.{table}");
        let started = Instant::now();
        let mut rows = query(&project, &sql);
        while rows != [expected.as_str()] && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(50));
            rows = query(&project, &sql);
        }
        assert_eq!(rows, [expected.as_str()], "{table}");
    }
    // A deployment that dies while the queue is detached leaves a note, by which whatever runs next attaches it.
    #[cfg(debug_assertions)]
    for statement in (9..200).step_by(4) {
        let mut dying = project.command();
        dying.args(["run", "--full-refresh", "--select", "shared", "into_shared"]);
        let ended = dying.env("CHPIPE_DEBUG_DIE_AT", statement.to_string()).output().unwrap().status;
        project.run(["run", "--select", "direct_target"]).success();
        let attached = "select count() from system.tables where database = 'external' and name = 'incoming'";
        assert_eq!(query(&project, attached), ["1"], "statement {statement}");
        if ended.success() {
            assert!(statement > 25, "it had only {statement} statements to die in");
            break;
        }
    }
    project.run(["run", "--full-refresh", "--select", "shared", "into_shared"]).success();
    assert_eq!(query(&project, "select count(), uniqExact(id) from external.shared"), [expected.as_str()]);
    let left = "select name from system.tables where name like '%\\_\\_dbt\\_%'";
    assert_eq!(query(&project, left), Vec::<String>::new());
}

/// Without `loaded_at_field` the newest part of a table, or the newest object behind it, is its time.
#[test]
fn freshness_comes_from_metadata() {
    let project = project()
        .file(
            "models/sources.yml",
            "sources:\n  - name: external\n    schema: external\n    config:\n      freshness: {warn_after: {count: 1, period: day}, error_after: {count: 10, period: day}}\n    tables: [{name: parts}, {name: nothing}, {name: objects}, {name: old_objects}, {name: a_view}, {name: missing}]\n",
        )
        .file("lake/silver/new/a.csv", "1\n")
        .file("lake/silver/new/b.csv", "2\n")
        .file("lake/silver/old/a.csv", "1\n");
    let days_ago = |days: u64| SystemTime::now() - Duration::from_secs(days * 86_400);
    for (file, days) in [("new/a.csv", 20), ("new/b.csv", 3), ("old/a.csv", 20)] {
        let file = fs_err::File::options().write(true).open(project.path().join("lake/silver").join(file)).unwrap();
        file.file().set_modified(days_ago(days)).unwrap();
    }
    project.run(["query", "create database external engine = Atomic"]).success();
    for sql in [
        "create table external.parts (n Int64) engine = MergeTree order by n",
        "insert into external.parts values (1)",
        "create table external.nothing (n Int64) engine = MergeTree order by n",
        "create table external.objects (n Int64) engine = S3(silver, filename = 'new/*.csv', format = 'CSV')",
        "create table external.old_objects (n Int64) engine = S3(silver, filename = 'old/*.csv', format = 'CSV')",
        "create view external.a_view as select 1 as n",
    ] {
        project.run(["query", sql]).success();
    }
    let outcome = project.run(["source", "freshness"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    let text = fs_err::read_to_string(project.path().join("target/sources.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let result = |name: &str| {
        let id = format!("source.external.external.{name}");
        document["results"].as_array().unwrap().iter().find(|result| result["unique_id"] == id.as_str()).unwrap()
    };
    for (name, status) in [("parts", "pass"), ("nothing", "error"), ("objects", "warn"), ("old_objects", "error")] {
        assert_eq!(result(name)["status"], status, "{name}: {}", result(name));
    }
    let found = chrono::DateTime::parse_from_rfc3339(result("objects")["max_loaded_at"].as_str().unwrap()).unwrap();
    let expected = chrono::DateTime::<chrono::Utc>::from(days_ago(3));
    assert!((expected - found.to_utc()).abs() < chrono::TimeDelta::hours(1), "{found}");
    for (name, reason) in
        [("a_view", "a table of engine View does not say when it was changed"), ("missing", "does not exist")]
    {
        assert_eq!(result(name)["status"], "runtime error", "{name}");
        assert!(result(name)["error"].as_str().unwrap().contains(reason), "{}", result(name));
    }
}
