//! Season 2023 as it was recorded, from a source that throttles and fails, with the process killed again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use super::source::{Running, newest_data, newest_silver, objects, rows_of};
use crate::{
    harness::{Project, skip},
    replay::{self, Replay},
};

const BATCH: &str = "20240102T030405";
const FAULTS: [&str; 5] = ["500:0.05", "truncate:0.02", "html:0.02", "reset:0.03", "shift:0.02"];
const KILLS: usize = 20;
/// Requests a second that the source is asked: one less than it allows.
const PER_SECOND: u32 = 3;

fn project(replay: &Replay, per_second: u32) -> Project {
    Project::new()
        .env("CHPIPE_SOURCE_URL", replay.url())
        .env("CHPIPE_REQUESTS_PER_SECOND", per_second.to_string())
        .env("CHPIPE_REQUESTS_PER_HOUR", "450")
        // What the replay calls a reset is a connection that stays open and silent.
        .file("chpipe.toml", "[source]\nrequest_timeout_seconds = 3\n")
}

/// The path and query of every stored page, but of those whose listing was started over.
fn stored(project: &Project, replay: &Replay) -> BTreeSet<String> {
    let objects = objects(project, "bronze");
    let partition = |key: &str| key.split("/batch_id=").next().unwrap().to_owned();
    let over: BTreeSet<String> =
        objects.keys().filter(|key| key.ends_with("superseded.json")).map(|key| partition(key)).collect();
    let pages = objects.iter().filter(|(key, _)| !over.contains(&partition(key)));
    let root = replay.url().replace("/ergast/f1/", "");
    let urls = pages.map(|(_, path)| {
        let object: Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        object["metadata"]["source_url"].as_str().unwrap().strip_prefix(&root).unwrap().to_owned()
    });
    urls.collect()
}

/// Killed at 20 random points, under every fault and within the limits, it ends up with what a run without faults has, and
/// never asks again for a page that it has.
#[test]
fn a_season_survives_faults_and_kills() {
    let mut arguments = vec!["--burst", "4"];
    arguments.extend(FAULTS.iter().flat_map(|fault| ["--fault", *fault]));
    let Some(replay) = Replay::start(&arguments) else {
        return skip("extract::replayed::a_season_survives_faults_and_kills", replay::MISSING);
    };
    let selection = ["--season", "2023", "--batch-id", BATCH];

    replay.set_calm(true);
    let expected = project(&replay, 2_000).env("CHPIPE_REQUESTS_PER_HOUR", "1000000");
    expected.run(["extract"].iter().chain(&selection)).success();
    expected.run(["transform"]).success();
    replay.set_calm(false);

    let project = project(&replay, PER_SECOND);
    let command = || {
        let mut command = project.command();
        let log = ["--log-format", "json", "--log-level", "debug"];
        let stderr = fs_err::OpenOptions::new().create(true).append(true).open(project.path().join("log.jsonl"));
        command.arg("extract").args(selection).args(log).stdout(Stdio::null()).stderr(stderr.unwrap().into_parts().0);
        command
    };
    let mut random = StdRng::seed_from_u64(20);
    let mut have = BTreeSet::new();
    let mut checked = replay.requests().len();
    for _ in 0..KILLS {
        let until = replay.requests().len() + random.random_range(0..8);
        let pause = Duration::from_millis(random.random_range(0..300));
        let mut child = Running(command().spawn().unwrap());
        while replay.requests().len() < until && child.0.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(pause);
        // One that is done is a zombie until it is waited for: there is no other process to hit.
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        let asked = replay.requests();
        let again: Vec<_> = asked[checked..].iter().filter(|url| have.contains(*url)).collect();
        // A listing that was started over since then is asked for again, as a whole.
        let now = stored(&project, &replay);
        assert!(again.iter().all(|url| !now.contains(*url)), "stored, and asked for again: {again:?}");
        checked = asked.len();
        have = now;
    }
    let status = command().status().unwrap();
    let log = fs_err::read_to_string(project.path().join("log.jsonl")).unwrap();
    assert!(status.success(), "{log}");
    assert_never_faster(&log, PER_SECOND);

    assert_eq!(newest_data(&project), newest_data(&expected));
    project.run(["transform"]).success();
    let (silver, expected_silver) = (newest_silver(&project), newest_silver(&expected));
    assert_eq!(silver.keys().collect::<Vec<_>>(), expected_silver.keys().collect::<Vec<_>>());
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for (partition, (batch, path)) in &silver {
        assert!(!partition.contains("_quarantine"), "{partition}");
        let (expected_batch, expected_path) = &expected_silver[partition];
        let (table, expected_table) = (rows_of(path), rows_of(expected_path));
        assert_eq!(table, expected_table, "{partition}");
        if batch == expected_batch {
            assert!(fs_err::read(path).unwrap() == fs_err::read(expected_path).unwrap(), "{partition}");
        }
        let endpoint = partition.split('/').nth(1).unwrap().trim_start_matches("endpoint=");
        *rows.entry(endpoint.to_owned()).or_default() += table.len();
    }
    let rows: Vec<_> = rows.iter().map(|(endpoint, rows)| (endpoint.as_str(), *rows)).collect();
    let of_2023 = [
        ("circuits", 77),
        ("constructors", 10),
        ("constructorstandings", 220),
        ("drivers", 22),
        ("driverstandings", 462),
        ("laps", 4196),
        ("pitstops", 147),
        ("qualifying", 440),
        ("races", 22),
        ("results", 440),
        ("seasons", 76),
        ("sprint", 120),
        ("status", 74),
    ];
    assert_eq!(rows, of_2023);
}

/// No second has more than `per_second` requests, over all processes whose logs these are, by the moment that each was
/// sent; when they arrive is not theirs to decide.
pub(super) fn assert_never_faster(log: &str, per_second: u32) {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut sent: Vec<i64> = lines.filter_map(|line| line["data"]["sent_micros"].as_i64()).collect();
    sent.sort_unstable();
    assert!(!sent.is_empty(), "{log}");
    for window in sent.windows(per_second as usize + 1) {
        assert!(window[window.len() - 1] - window[0] >= 1_000_000, "{window:?}");
    }
}
