//! Ctrl-C in the middle of a run: the statement is cancelled where it runs, and what was finished is said and kept.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    time::{Duration, Instant},
};

use super::project::{artifact, query};
use crate::{
    engine::{PATIENCE, serve, start},
    harness::Project,
};

/// Many minutes, if nobody ends it.
const ENDLESS: &str = "sleepEachRow(1)";

fn project(profile: &str) -> Project {
    Project::new()
        .file(
            "dbt_project.yml",
            "name: slow\nversion: '1.0'\nprofile: slow\nmodels: {+materialized: table, +order_by: a}\n",
        )
        .file(
            "profiles.yml",
            &format!(
                "slow: {{target: t, outputs: {{t: {{type: clickhouse, schema: slow, threads: 1, {profile}}}}}}}\n"
            ),
        )
        .file("models/a.sql", "select 1 as a\n")
        .file(
            "models/b.sql",
            &format!(
                "-- {{{{ ref('a') }}}}\nselect sum({ENDLESS}) as a from numbers(100000) settings max_block_size = 1\n"
            ),
        )
        .file("models/c.sql", "select * from {{ ref('b') }}\n")
}

/// Runs until `b` is built, interrupts, and answers what was said from then on.
fn interrupted(project: &Project, begun: impl FnOnce()) -> String {
    let mut running = start(project.command().arg("run"));
    let mut said = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("2 of 3 START") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the run ended before it was interrupted");
    }
    begun();
    running.signal(nix::sys::signal::Signal::SIGINT);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(running.end().code(), Some(130), "{rest}");
    let results = artifact(project, "run_results.json")["results"].clone();
    let results: Vec<_> = results.as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(results, ["success", "error", "skipped"]);
    rest
}

fn check(said: &str) {
    for expected in
        ["ERROR creating", "3 of 3 SKIP", "Exited because of keyboard interrupt", "PASS=1 WARN=0 ERROR=1 SKIP=1"]
    {
        assert!(said.contains(expected), "`{expected}` is not in {said}");
    }
}

/// The next run finds what was finished, and takes away what was not.
fn check_next(project: &Project) {
    assert_eq!(query(project, "select a from slow.a"), ["1"]);
    project.write("models/b.sql", "-- {{ ref('a') }}\nselect 2 as a\n");
    project.run(["run"]).success();
    let tables = "select name from system.tables where database = 'slow' order by name";
    assert_eq!(query(project, tables), ["a", "b", "c"]);
}

#[test]
fn a_run_inside_of_the_process_is_interrupted() {
    let project = project("driver: embedded, path: warehouse");
    check(&interrupted(&project, || {}));
    check_next(&project);
}

#[test]
fn a_run_on_a_server_is_cancelled_there() {
    let served = Project::new()
        .file("dbt_project.yml", "name: served\nversion: '1.0'\nprofile: served\n")
        .file(
            "profiles.yml",
            "served: {target: t, outputs: {t: {type: clickhouse, driver: embedded, path: warehouse, schema: slow}}}\n",
        )
        .file("chpipe.toml", "[serve]\nuser = \"someone\"\npassword = \"of-the-test-84\"\n");
    let (_serving, port) = serve(&served);
    let project =
        project(&format!("driver: http, host: 127.0.0.1, port: {port}, user: someone, password: of-the-test-84"));
    let running = || {
        let count = format!(
            "select count() from system.processes where query like '%{ENDLESS}%' and query not like '%processes%'"
        );
        query(&project, &count) == ["1"]
    };
    let wait_for = |wanted: bool| {
        let began = Instant::now();
        while running() != wanted {
            assert!(began.elapsed() < PATIENCE, "the statement is{} running", if wanted { " not" } else { "" });
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    check(&interrupted(&project, || wait_for(true)));
    wait_for(false);
    check_next(&project);
}
