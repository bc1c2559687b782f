//! `chpipe extract` against the simulated API: plans, faults, kills, limits, and what a rerun does.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, SystemTime},
};

use arrow::util::display::array_value_to_string;
use chpipe::simulate::{Simulation, SimulationOptions};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use super::replayed::assert_never_faster;
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
pub(super) fn objects(project: &Project, bucket: &str) -> BTreeMap<String, PathBuf> {
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
pub(super) fn newest_data(project: &Project) -> BTreeMap<String, BTreeMap<String, Value>> {
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
    let rows = |project: &Project| -> BTreeMap<String, Vec<String>> {
        newest_silver(project).into_iter().map(|(partition, (_, path))| (partition, rows_of(&path))).collect()
    };
    assert_eq!(rows(&project), rows(&expected));
}

/// The newest batch of every partition of Silver: its batch_id and its object.
pub(super) fn newest_silver(project: &Project) -> BTreeMap<String, (String, PathBuf)> {
    let silver = objects(project, "silver").into_iter().map(|(key, path)| {
        let (partition, batch) = key.split_once("/batch_id=").unwrap();
        (partition.to_owned(), (batch.to_owned(), path))
    });
    // Keys ascend, so the newest batch of a partition comes last and stays.
    silver.collect()
}

/// The rows of a Parquet object as text.
pub(super) fn rows_of(path: &Path) -> Vec<String> {
    let file = fs_err::File::open(path).unwrap().into_parts().0;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader.map(Result::unwrap) {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
            rows.push(values.collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

/// Killed at any moment and run again, it goes on with the same batch, and asks for nothing that is stored.
#[test]
fn a_killed_run_goes_on_where_it_was() {
    let source = simulation(&["delay:0.4"]);
    let arguments = ["extract", "--season", "2022", "--round", "1..4"];
    // The whole of it, by a run that nobody kills.
    let undisturbed = simulation(&[]);
    let expected = project(&undisturbed);
    expected.run(arguments).success();
    // So few requests that it cannot come to its end before it is killed, however late that is.
    let most = undisturbed.requests() - 1;
    let limited = project(&source).env("CHPIPE_REQUESTS_PER_HOUR", most.to_string());
    let mut random = StdRng::seed_from_u64(7);
    let mut seen: BTreeMap<String, SystemTime> = BTreeMap::new();
    let mut kills = 0;
    while seen.len() < 12 && taken(&limited) < most {
        let enough = seen.len() + random.random_range(1..4);
        let mut child = Running(limited.command().args(arguments).stdout(Stdio::null()).spawn().unwrap());
        wait_for(|| objects(&limited, "bronze").len() >= enough || taken(&limited) == most);
        child.0.kill().unwrap();
        assert_eq!(child.0.wait().unwrap().code(), None, "it ended by itself");
        kills += 1;
        let stored = objects(&limited, "bronze");
        for (key, time) in &seen {
            assert_eq!(modified(&stored[key]), *time, "{key} was written again");
        }
        seen = stored.iter().map(|(key, path)| (key.clone(), modified(path))).collect();
    }
    let free = limited.env("CHPIPE_REQUESTS_PER_HOUR", "1000000");
    free.run(arguments).success();
    let stored = objects(&free, "bronze");
    let batches: BTreeSet<_> =
        stored.keys().map(|key| key.split("batch_id=").nth(1).unwrap().split('/').next().unwrap().to_owned()).collect();
    assert_eq!(batches.len(), 1, "{batches:?}");
    // What was asked for and not stored was under way at a kill: at most one page of each of the four workers.
    let lost = source.requests() - stored.len() as u64;
    assert!(lost <= kills * 4, "{lost} requests too many after {kills} kills");
    assert_eq!(newest_data(&free), newest_data(&expected));
}

/// Requests of this hour, also those that were never sent because their process was killed.
fn taken(project: &Project) -> u64 {
    let files = walkdir::WalkDir::new(project.path().join(".chpipe/state/rate")).into_iter().filter_map(Result::ok);
    let states = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json"));
    let counts = states.map(|file| {
        let state: Value = serde_json::from_slice(&fs_err::read(file.path()).unwrap()).unwrap();
        state["minutes"].as_array().unwrap().iter().map(|minute| minute[1].as_u64().unwrap()).sum::<u64>()
    });
    counts.sum()
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
    // A round that was never held is no listing either, and a typing error is told.
    let outcome = project.run(["extract", "--season", "2023", "--endpoint", "results", "--round", "99"]).success();
    assert!(outcome.stderr.contains("none of the rounds asked for was held"), "{outcome:?}");
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

/// Several processes share both limits, and each request is counted before it is sent.
#[test]
fn limits_hold_over_processes() {
    let source = simulation(&[]);
    let start = |project: &Project| -> Vec<Running> {
        let endpoints = ["results", "qualifying", "pitstops"].into_iter();
        let children = endpoints.map(|endpoint| {
            let log = fs_err::File::create(project.path().join(format!("{endpoint}.jsonl"))).unwrap().into_parts().0;
            let arguments =
                ["extract", "--season", "2023", "--round", "1..8", "--batch-id", BATCH, "--endpoint", endpoint];
            let mut command = project.command();
            command.args(arguments).args(["--log-format", "json", "--log-level", "debug"]);
            Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
        });
        children.collect()
    };
    let shared = project(&source).env("CHPIPE_REQUESTS_PER_SECOND", "20");
    for mut child in start(&shared) {
        assert!(child.0.wait().unwrap().success());
    }
    // The calendar is asked for once by each that finds none.
    assert_eq!(objects(&shared, "bronze").len(), 25);
    let logs = ["results", "qualifying", "pitstops"].map(|endpoint| shared.path().join(format!("{endpoint}.jsonl")));
    let logs: String = logs.iter().map(|path| fs_err::read_to_string(path).unwrap()).collect();
    assert_never_faster(&logs, 20);

    let source = simulation(&[]);
    let shared = project(&source).env("CHPIPE_REQUESTS_PER_HOUR", "8");
    let children = start(&shared);
    wait_for(|| source.requests() >= 8);
    // Whoever would send a ninth does so within this time, but for a machine that is slow; then nothing is learnt.
    std::thread::sleep(Duration::from_millis(500));
    for mut child in children {
        assert_eq!(interrupt(&mut child), Some(130));
    }
    assert_eq!(source.requests(), 8);
}

/// A source that refuses makes it slow down and go on.
#[test]
fn refusals_are_waited_for() {
    let source = simulation(&["throttle:0.1"]);
    let project = project(&source);
    let arguments = ["extract", "--season", "2023", "--round", "1..8", "--endpoint", "results,qualifying"];
    let outcome = project.run(arguments).success();
    assert!(source.counts()["429"] > 0, "{:?}", source.counts());
    assert!(outcome.stderr.contains("throttled by the source"), "{}", outcome.stderr);
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

/// SIGINT ends it at once with exit code 130, also while it waits for the hour to end, and a rerun goes on.
#[test]
fn an_interrupt_is_resumed() {
    let source = simulation(&[]);
    let arguments = ["extract", "--season", "2023", "--endpoint", "results"];
    let waiting = project(&source).env("CHPIPE_REQUESTS_PER_HOUR", "6");
    let mut child = Running(waiting.command().args(arguments).stderr(Stdio::piped()).spawn().unwrap());
    wait_for(|| objects(&waiting, "bronze").len() == 6);
    assert_eq!(interrupt(&mut child), Some(130));
    let mut stderr = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("the same command goes on from there"), "{stderr}");
    let free = waiting.env("CHPIPE_REQUESTS_PER_HOUR", "1000000");
    let outcome = free.run(arguments).success();
    assert!(outcome.stdout.contains("(resumed)"), "{}", outcome.stdout);
    let listings = u64::from(source.source().rounds(2023)) + 1;
    assert_eq!((newest_data(&free).len() as u64, source.requests()), (listings, listings));
}

/// A process that does not outlive a test that fails: it may wait for the hour to end.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends SIGINT and answers the exit code.
fn interrupt(Running(child): &mut Running) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    child.wait().unwrap().code()
}

/// Waits for what will come about, on however slow a machine.
fn wait_for(mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(300), "it did not come about within five minutes");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A backfill takes season after season through the whole pipeline, ends at once when it is told to, and goes on where it was.
#[test]
fn a_backfill_goes_season_by_season() {
    let source = simulation(&[]);
    let arguments = ["backfill", "--season", "1957..1959", "--endpoint", "races,results,circuits"];
    let rounds = |season: u16| u64::from(source.source().rounds(season));
    // Enough for the circuits, the first season and a part of the second.
    let some = 1 + (1 + rounds(1957)) + 4;
    let limited = crate::f1::project(&source.url()).env("CHPIPE_REQUESTS_PER_HOUR", some.to_string());
    let mut child = Running(limited.command().args(arguments).stdout(Stdio::null()).spawn().unwrap());
    wait_for(|| objects(&limited, "bronze").len() as u64 == some);
    assert_eq!(interrupt(&mut child), Some(130));
    let free = limited.env("CHPIPE_REQUESTS_PER_HOUR", "1000000");
    let outcome = free.run(arguments).success();
    for part in ["(resumed)", "static endpoints: in the warehouse", "season 1957: ", "season 1959: in the warehouse"] {
        assert!(outcome.stdout.contains(part), "{part}\n{}", outcome.stdout);
    }
    let listings = 1 + (1957..=1959).map(|season| 1 + rounds(season)).sum::<u64>();
    assert_eq!((objects(&free, "bronze").len() as u64, source.requests()), (listings, listings));
    let sql = "select season, uniqExact(round) from raw.raw_results group by season order by season";
    let loaded = free.run(["query", "--format", "TSV", sql]).success().stdout;
    let expected: String = (1957..=1959).map(|season| format!("{season}\t{}\n", rounds(season))).collect();
    assert_eq!(loaded, expected);
    // One endpoint alone, static or not: the parts of the others are passed over.
    for (endpoint, part, other) in [
        ("constructors", "season 1957: in the warehouse", "static"),
        ("seasons", "static endpoints: in", "season 1957"),
    ] {
        let outcome = free.run(["backfill", "--season", "1957", "--endpoint", endpoint]).success();
        assert!(outcome.stdout.contains(part) && !outcome.stdout.contains(other), "{outcome:?}");
    }
}
