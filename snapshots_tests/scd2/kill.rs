//! A run ends at each of its statements, its process is killed at any moment, two come at once: the next command leaves what
//! an undisturbed run leaves.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Instant,
};

use chpipe::{adapter::LeaseHolder, engine::testing, project::Relation, snapshot::finish};
use serde_json::json;

use super::{
    model::{Deletes, Model, Row},
    random::{adapter, take_until},
    take::Case,
};
use crate::{
    harness::Project,
    materialize::{query, shop},
};

/// The layouts, and whether another tool's table is there already.
const LAYOUTS: [(&str, &str); 4] =
    [("replace_partition", ""), ("lightweight_delete", ""), ("lightweight_update", "id % 2"), ("rewrite", "")];

/// Nothing of a run reaches the warehouse after its first statement, its second, and so on: either it never was, or it is
/// finished, with its own time.
#[test]
fn a_run_that_ends_at_any_statement_was_or_was_not() {
    for (apply, partition) in LAYOUTS {
        let database = format!("boundary_{apply}");
        let mut config = json!({"unique_key": "id", "strategy": "check", "check_cols": "all",
            "hard_deletes": "new_record", "snapshot_apply": apply});
        if !partition.is_empty() {
            config["partition_by"] = json!(partition);
        }
        let mut case = Case::new(&database, config);
        let mut model = Model::new(false, false, Deletes::NewRecord, None);
        let mut finished = 0;
        for statements in 0.. {
            // One key changes each time, one is deleted, one is new.
            let text: &'static str = Box::leak(format!("v{statements}").into_boxed_str());
            let rows: BTreeMap<i32, Row> = [1, 2, 10 + statements]
                .into_iter()
                .map(|key| {
                    let value = if key == 2 { "same" } else { text };
                    (key, Row { values: BTreeMap::from([("v", value)]), updated_at: 0 })
                })
                .collect();
            let values: Vec<String> = rows.iter().map(|(key, row)| format!("({key}, '{}')", row.values["v"])).collect();
            let sql = format!("select * from values('id Int32, v String', {})", values.join(", "));
            let now = i64::from(statements) * 100;
            if statements == 0 {
                case.take(&sql, now).unwrap();
                model.take(&["v"], &rows, now);
            }
            let died = take_until(&mut case, &sql, now + 10, i64::from(statements));
            let mut next = adapter(&testing::shared(), "next");
            finish(&Relation::new(&database, "snap"), "bbbbbbbb", &mut next).unwrap();
            let mut completed = model.clone();
            completed.take(&["v"], &rows, now + 10);
            if versions(&mut case) == expected(&completed) {
                finished += 1;
                model = completed;
            } else {
                assert_eq!(versions(&mut case), expected(&model), "{apply}: after {statements} statements");
            }
            case.take(&sql, now + 20).unwrap();
            model.take(&["v"], &rows, now + 20);
            assert_eq!(versions(&mut case), expected(&model), "{apply}: after {statements} statements, and again");
            if !died && statements > 0 {
                assert!(statements > 4 && finished > 2, "{apply}: {statements} statements, {finished} finished");
                break;
            }
        }
    }
}

fn versions(case: &mut Case) -> Vec<String> {
    let mut rows =
        case.rows("id, v, toUnixTimestamp(dbt_valid_from), ifNull(toString(toUnixTimestamp(dbt_valid_to)), 'open'), dbt_is_deleted");
    rows.sort();
    rows
}

fn expected(model: &Model) -> Vec<String> {
    let second = |second: i64| super::take::time(second).timestamp().to_string();
    let mut rows: Vec<String> = model
        .versions
        .iter()
        .map(|version| {
            let until = version.until.map_or("open".to_owned(), second);
            let deleted = if version.deleted { "True" } else { "False" };
            format!("{} {} {} {until} {deleted}", version.key, version.values["v"], second(version.from))
        })
        .collect();
    rows.sort();
    rows
}

/// A snapshot large enough to be hit in the middle of each of its statements.
fn project((apply, partition): (&str, &str)) -> Project {
    let partition = if partition.is_empty() { String::new() } else { format!(", partition_by='{partition}'") };
    shop()
        .file("models/source.sql", "{{ config(materialized='table', order_by='id') }}\nselect number as id, if(number = 49, {{ var('round') }}, intDiv(number + 7 * {{ var('round') }}, 50)) as v from numbers(60000 + 100 * {{ var('round') }})\n")
        .file(
            "snapshots/snap.sql",
            &format!("{{% snapshot snap %}}{{{{ config(schema='snapshots', unique_key='id', strategy='check', check_cols=['v'], snapshot_apply='{apply}'{partition}) }}}}\nselect * from {{{{ ref('source') }}}}\n{{% endsnapshot %}}\n"),
        )
}

fn vars(round: u32) -> String {
    format!("{{round: {round}}}")
}

fn start(project: &Project, round: u32) -> Child {
    project
        .command()
        .args(["snapshot", "--select", "snap", "--vars", &vars(round)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The table equals the source, keeps the rules and all rounds before, and nothing is left over; each asked by a new process.
fn check(project: &Project, round: u32, context: &str) {
    let verified = project.run(["snapshot", "verify", "--select", "snap", "--vars", &vars(round)]);
    assert_eq!(verified.code, Some(0), "{context}:\n{}\n{}", verified.stdout, verified.stderr);
    let facts = query(
        project,
        "select (select count() from shop.source as s full join (select * from shop_snapshots.snap where dbt_valid_to is null) as o using id where s.v != o.v), \
         (select uniqExact(dbt_valid_from) from shop_snapshots.snap where id = 49), \
         (select count() from system.tables where name like '%\\_\\_dbt\\_%')",
    );
    assert_eq!(facts, [format!("0\t{}\t0", round + 1)], "{context}");
}

/// For each way to apply: SIGKILL, go on, compare with the source and the rules. Key 49 changes in every round, so a round that
/// was lost with its process, as a REPLACE PARTITION that is not durable would be, is missed.
#[test]
fn a_killed_snapshot_is_finished_by_the_next_command() {
    for layout in LAYOUTS {
        let project = project(layout);
        project.run(["run", "--select", "source", "--vars", &vars(0)]).success();
        let begun = Instant::now();
        project.run(["snapshot", "--select", "snap", "--vars", &vars(0)]).success();
        let whole = begun.elapsed();
        for round in 1..=4 {
            project.run(["run", "--select", "source", "--vars", &vars(round)]).success();
            let mut child = start(&project, round);
            // Spread over the later part of a run, whatever the machine's speed: the first is the process's own start.
            std::thread::sleep(whole * (2 * round + 2) / 12);
            let _ = child.kill();
            child.wait().unwrap();
            project.run(["snapshot", "--select", "snap", "--vars", &vars(round)]).success();
            check(&project, round, &format!("{layout:?}, round {round}"));
        }
        project.run(["run", "--select", "source", "--vars", &vars(5)]).success();
        project.run(["snapshot", "--select", "snap", "--vars", &vars(5)]).success();
        let text = fs_err::read_to_string(project.path().join("target/run_results.json")).unwrap();
        let results: serde_json::Value = serde_json::from_str(&text).unwrap();
        let said = &results["results"][0]["adapter_response"];
        assert_eq!(said["snapshot_apply"], layout.0);
        assert_eq!(said["rows_inserted"], 100);
        assert_eq!(said["rows_closed"], said["rows_changed"]);
        assert_eq!(said["rows_changed"].as_u64().unwrap() + said["rows_unchanged"].as_u64().unwrap(), 60_400);
    }
}

/// Two at once: one waits for the other, and finds nothing left to do.
#[test]
fn of_two_snapshots_at_once_one_waits() {
    let project = project(("auto", ""));
    for round in 0..=2 {
        project.run(["run", "--select", "source", "--vars", &vars(round)]).success();
        let both = [start(&project, round), start(&project, round)];
        for mut child in both {
            assert_eq!(child.wait().unwrap().code(), Some(0), "round {round}");
        }
        check(&project, round, &format!("round {round}"));
    }
}

/// The same on one server, where only the lease is between them.
#[test]
fn of_two_snapshots_in_one_warehouse_one_waits() {
    let database = "at_once";
    let config = json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"]});
    drop(Case::new(database, config.clone()));
    let relation = Relation::new(database, "snap");
    for round in 0..3_i64 {
        std::thread::scope(|scope| {
            for holder in ["aaaaaaaa", "bbbbbbbb"] {
                let (config, relation) = (config.clone(), &relation);
                scope.spawn(move || {
                    let mut case = Case::beside(database, config);
                    let patience = std::time::Duration::from_secs(120);
                    let lease = case.adapter.lease(relation, &LeaseHolder::this(holder), patience);
                    let _lease = lease.unwrap_or_else(|_| panic!("{holder} did not get the lease"));
                    let sql = format!("select number as id, intDiv(number + {round}, 2) as v from numbers(100)");
                    case.take(&sql, 10 * round).unwrap();
                });
            }
        });
        let mut case = Case::beside(database, config.clone());
        let rows = case.rows("count(), countIf(dbt_valid_to IS NULL), uniqExact(dbt_scd_id) = count()");
        assert_eq!(rows, [format!("{} 100 1", 100 + 50 * round)]);
    }
}
