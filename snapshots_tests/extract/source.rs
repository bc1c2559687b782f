//! `chpipe extract` against the simulated API: plans, faults, kills, limits, and what a rerun does.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use chpipe::simulate::{RateLimit, Simulation, SimulationOptions};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::harness::Project;

const BATCH: &str = "20240102T030405";

fn simulation(faults: &[&str]) -> Simulation {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let delay = Duration::from_millis(100);
    Simulation::start(SimulationOptions { faults, lap_scale: 0.2, delay, ..SimulationOptions::default() }).unwrap()
}

/// A project that asks this simulation, as fast as it answers.
fn project(source: &Simulation) -> Project {
    Project::new()
        .env("CHPIPE_SOURCE_URL", source.url())
        .env("CHPIPE_REQUESTS_PER_SECOND", "5000")
        .env("CHPIPE_REQUESTS_PER_HOUR", "1000000")
}

/// Files below a bucket that are no run records: by key.
fn objects(project: &Project, bucket: &str) -> BTreeMap<String, std::path::PathBuf> {
    let root = project.path().join(".chpipe/lake").join(bucket);
    let files =
        walkdir::WalkDir::new(&root).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    let keys = files.map(|entry| {
        let path = entry.into_path();
        (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), path)
    });
    keys.filter(|(key, _)| !key.starts_with("_runs/")).collect()
}

/// The newest batch of every partition as a folder of its files' `data`, started-over and incomplete ones left out.
fn newest_data(project: &Project) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut batches: BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>> = BTreeMap::new();
    for (key, path) in objects(project, "bronze") {
        let (partition, rest) = key.split_once("/batch_id=").unwrap();
        let (batch, file) = rest.split_once('/').unwrap();
        if file == "superseded.json" {
            continue;
        }
        let object: Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        let batch = batches.entry(partition.to_owned()).or_default().entry(batch.to_owned()).or_default();
        batch.insert(file.to_owned(), object);
    }
    let newest = batches.into_iter().filter_map(|(partition, batches)| {
        let complete = |files: &BTreeMap<String, Value>| {
            files.values().all(|object| object["metadata"]["total_pages"] == files.len())
        };
        let files = batches.into_values().rfind(complete)?;
        let data = files.into_iter().map(|(file, mut object)| {
            // The simulation's own address is in its URLs.
            let mut data = object["data"].take();
            data["MRData"]["url"].take();
            (file, data)
        });
        Some((partition, data.collect()))
    });
    newest.collect()
}

fn modified(path: &Path) -> SystemTime {
    fs_err::metadata(path).unwrap().modified().unwrap()
}

/// With every fault there is, Bronze ends up with the same data as without any, and Silver with the same rows.
#[test]
fn faults_lose_nothing() {
    let clean = simulation(&[]);
    let faulty =
        simulation(&["500:0.05", "truncate:0.04", "cut:0.02", "html:0.03", "reset:0.03", "shift:0.04", "503:0.02"]);
    let selection = ["--season", "2023", "--round", "1..7", "--batch-id", BATCH];
    let expected = project(&clean);
    expected.run(["extract"].iter().chain(&selection)).success();
    let project = project(&faulty);
    let outcome = project.run(["extract"].iter().chain(&selection)).success();
    assert!(outcome.stderr.contains("asking again"), "{}", outcome.stderr);
    assert_eq!(newest_data(&project), newest_data(&expected));
    for project in [&project, &expected] {
        project.run(["transform"]).success();
        assert!(objects(project, "silver").keys().all(|key| !key.contains("_quarantine")));
    }
    let rows = |project: &Project| -> BTreeMap<String, String> {
        let silver = objects(project, "silver");
        let newest =
            silver.into_iter().map(|(key, path)| (key.split("/batch_id=").next().unwrap().to_owned(), rows_of(&path)));
        // Keys ascend, so the newest batch of a partition comes last.
        newest.collect()
    };
    assert_eq!(rows(&project), rows(&expected));
}

fn rows_of(path: &Path) -> String {
    let file = fs_err::File::open(path).unwrap().into_parts().0;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
}

/// Killed at any moment and run again, it goes on with the same batch, and asks for nothing that is stored.
#[test]
fn a_killed_run_goes_on_where_it_was() {
    let source = simulation(&["delay:0.4"]);
    let project = project(&source);
    let arguments = ["extract", "--season", "2022", "--round", "1..4"];
    let mut random = StdRng::seed_from_u64(7);
    let mut seen: BTreeMap<String, SystemTime> = BTreeMap::new();
    let (mut kills, mut is_done) = (0, false);
    for _ in 0..12 {
        let mut child = project.command().args(arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(30..250)));
        if child.try_wait().unwrap().is_some() {
            is_done = true;
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let stored = objects(&project, "bronze");
        for (key, time) in &seen {
            assert_eq!(modified(&stored[key]), *time, "{key} was written again");
        }
        seen = stored.iter().map(|(key, path)| (key.clone(), modified(path))).collect();
    }
    assert!(kills >= 2, "it was too fast to be killed");
    if !is_done {
        project.run(arguments).success();
    }
    let stored = objects(&project, "bronze");
    let batches: std::collections::BTreeSet<_> =
        stored.keys().map(|key| key.split("batch_id=").nth(1).unwrap().split('/').next().unwrap().to_owned()).collect();
    assert_eq!(batches.len(), 1, "{batches:?}");
    // What was asked for and not stored was under way at a kill: at most one page of each of the four workers.
    let lost = source.requests() - stored.len() as u64;
    assert!(lost <= kills * 4, "{lost} requests too many after {kills} kills");
    // The whole of it, compared with a run that nobody killed.
    let undisturbed = simulation(&[]);
    let expected = super::source::project(&undisturbed);
    expected.run(arguments).success();
    assert_eq!(newest_data(&project), newest_data(&expected));
}

/// A complete batch_id is skipped without a request; without one a new batch begins, and `--fresh` begins one in any case.
#[test]
fn batches_are_resumed_or_begun() {
    let source = simulation(&[]);
    let project = project(&source);
    let selection = ["extract", "--season", "2023", "--round", "3", "--endpoint", "results,races"];
    project.run(selection.iter().chain(&["--batch-id", BATCH])).success();
    let asked = source.requests();
    assert_eq!(asked, 2);
    let outcome = project.run(selection.iter().chain(&["--batch-id", BATCH])).success();
    assert_eq!(source.requests(), asked);
    assert!(outcome.stdout.contains("about 0 requests"), "{}", outcome.stdout);
    for run in 1..=2 {
        project.run(selection).success();
        assert_eq!(source.requests(), asked + 2 * run);
    }
    assert_eq!(objects(&project, "bronze").len(), 6);
    project.run(selection.iter().chain(&["--fresh"])).success();
    assert_eq!(objects(&project, "bronze").len(), 8);
    let future = project.run(selection.iter().chain(&["--batch-id", "29991231T000000"]));
    assert_eq!(future.code, Some(2));
}

/// What cannot exist is not asked for.
#[test]
fn what_cannot_exist_is_not_asked_for() {
    let source = simulation(&[]);
    let project = project(&source);
    project.run(["extract", "--season", "1957", "--level", "round,standings"]).success();
    let endpoints = |season: &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for key in objects(&project, "bronze").into_keys().filter(|key| key.contains(season)) {
            let partition = key.split("/batch_id=").next().unwrap();
            *counts.entry(partition.split('/').nth(1).unwrap().to_owned()).or_default() += 1;
        }
        counts
    };
    // The rounds come from `races`, which was asked for although only the others were named.
    assert_eq!(
        endpoints("season=1957").into_keys().collect::<Vec<_>>(),
        ["endpoint=driverstandings", "endpoint=races", "endpoint=results"]
    );
    project.run(["extract", "--season", "2023", "--endpoint", "sprint,results"]).success();
    let of_2023 = endpoints("season=2023");
    let rounds = source.source().rounds(2023);
    assert_eq!(of_2023["endpoint=results"], usize::from(rounds));
    assert!((1..usize::from(rounds)).contains(&of_2023["endpoint=sprint"]), "{of_2023:?}");
    let asked = source.requests();
    let outcome = project.run(["extract", "--season", "1950..2025", "--dry-run"]).success();
    assert_eq!(source.requests(), asked, "a dry run asked for something");
    assert!(
        outcome.stdout.contains("laps") && outcome.stdout.contains("requests to http://127.0.0.1"),
        "{}",
        outcome.stdout
    );
}

/// The incremental run takes the latest round with data and the standings after it.
#[test]
fn an_incremental_run_takes_the_latest_round() {
    let source = simulation(&[]);
    let project = project(&source);
    project.run(["extract", "--season", "2023", "--mode", "incremental"]).success();
    let last = format!("round={:02}", source.source().rounds(2023));
    let keys: Vec<String> = objects(&project, "bronze").into_keys().collect();
    assert!(keys.iter().any(|key| key.contains("endpoint=driverstandings") && key.contains(&last)), "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains("round=") || key.contains(&last)), "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains("endpoint=circuits")), "{keys:?}");
}

/// Its own limit keeps it below the source's, also with several processes at once; a refusal makes it wait and go on.
#[test]
fn limits_hold_over_processes() {
    let limit = RateLimit { per_second: 40, per_hour: 10_000 };
    let options = SimulationOptions { rate_limit: Some(limit), lap_scale: 0.2, ..SimulationOptions::default() };
    let source = Simulation::start(options).unwrap();
    let project = project(&source).env("CHPIPE_REQUESTS_PER_SECOND", "30");
    let children: Vec<_> = ["results", "qualifying", "pitstops"]
        .map(|endpoint| {
            let arguments =
                ["extract", "--quiet", "--season", "2023", "--round", "1..8", "--batch-id", BATCH, "--endpoint"];
            project.command().args(arguments).arg(endpoint).spawn().unwrap()
        })
        .into();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(source.counts().get("429"), None, "{:?}", source.counts());
    assert_eq!(objects(&project, "bronze").len(), 25);
    // Far too fast: the source refuses, and it all arrives nevertheless.
    let limit = RateLimit { per_second: 4, per_hour: 10_000 };
    let options = SimulationOptions { rate_limit: Some(limit), ..SimulationOptions::default() };
    let source = Simulation::start(options).unwrap();
    let project = super::source::project(&source);
    project.run(["extract", "--season", "2023", "--round", "1..8", "--endpoint", "results,qualifying"]).success();
    assert!(source.counts()["429"] > 0, "{:?}", source.counts());
    assert_eq!(objects(&project, "bronze").len(), 17);
}

/// A source that is down ends the run with what to do; what came before is kept.
#[test]
fn a_source_that_is_down_is_an_error() {
    let source = simulation(&["500:1.0"]);
    let project = project(&source);
    project.write("chpipe.toml", "[source]\nmax_attempts = 2\n");
    let outcome = project.run(["extract", "--level", "static"]);
    assert_eq!(outcome.code, Some(2));
    for part in [
        "error: 3 of 3 listings could not be extracted; first ",
        "failed after 2 attempts",
        "500 Internal Server Error",
        "hint: run the same command again",
    ] {
        assert!(outcome.stderr.contains(part), "{part}\n{}", outcome.stderr);
    }
    // Another address answers, and is no API: asking again is of no use.
    let source = simulation(&[]);
    let refused = Project::new().env("CHPIPE_SOURCE_URL", source.url().replace("/ergast/f1/", "/other/"));
    let outcome = refused.run(["extract", "--endpoint", "seasons"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("was refused: 404"), "{}", outcome.stderr);
}

/// SIGINT ends it at once with exit code 130, and a rerun goes on.
#[test]
fn an_interrupt_is_resumed() {
    let source = simulation(&["delay:1.0"]);
    let project = project(&source);
    let arguments = ["extract", "--season", "2023", "--endpoint", "results"];
    let child = project.command().args(arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while objects(&project, "bronze").len() < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the same command goes on from there"), "{stderr}");
    let outcome = project.run(arguments).success();
    assert!(outcome.stdout.contains("(resumed)"), "{}", outcome.stdout);
    assert_eq!(newest_data(&project).len(), usize::from(source.source().rounds(2023)) + 1);
}

/// A backfill takes season after season to Silver, and goes on where it was.
#[test]
fn a_backfill_goes_season_by_season() {
    let source = simulation(&[]);
    let project = project(&source);
    let arguments = ["backfill", "--season", "1957..1959", "--endpoint", "races,results,circuits"];
    let outcome = project.run(arguments).success();
    assert!(outcome.stdout.contains("season 1958: "), "{}", outcome.stdout);
    let (bronze, silver) = (objects(&project, "bronze").len(), objects(&project, "silver").len());
    let rounds: usize = (1957..=1959).map(|season| usize::from(source.source().rounds(season))).sum();
    assert_eq!((bronze, silver), (1 + 3 + rounds, 1 + 3 + rounds));
}
