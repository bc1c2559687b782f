//! The shipped Formula 1 project from the API to its gold tables, on the embedded engine: over simulated seasons, and
//! over the recorded responses where this machine has them.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    harness::{Project, repository, skip},
    replay::{self, Replay},
};

/// What of the repository makes up the F1 project.
const PROJECT: [&str; 9] =
    ["chpipe.toml", "dbt_project.yml", "profiles.yml", "models", "snapshots", "macros", "tests", "seeds", "ddl"];

/// A copy of the F1 project that asks `url` without a limit worth waiting for.
pub(crate) fn project(url: &str) -> Project {
    let project = Project::new()
        .env("CHPIPE_SOURCE_URL", url)
        .env("CHPIPE_REQUESTS_PER_SECOND", "10000")
        .env("CHPIPE_REQUESTS_PER_HOUR", "100000000");
    for name in PROJECT {
        let from = repository().join(name);
        if from.exists() {
            copy_tree(&from, &project.path().join(name));
        }
    }
    project
}

/// A process of ours that ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The simulated API on a free port.
fn simulate(project: &Path) -> (Service, String) {
    let file = project.join("simulate.url");
    let child = Command::new(env!("CARGO_BIN_EXE_chpipe"))
        .args(["simulate", "--port", "0", "--no-throttle", "--quiet", "--url-file"])
        .arg(&file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let service = Service(child);
    (service, wait_for(|| fs_err::read_to_string(&file).ok().filter(|url| !url.is_empty())))
}

fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "a service did not start within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let below = entry.path().strip_prefix(from).unwrap();
        let target = if below.as_os_str().is_empty() { to.to_path_buf() } else { to.join(below) };
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(target).unwrap();
        } else {
            fs_err::copy(entry.path(), target).unwrap();
        }
    }
}

fn query(project: &Project, sql: &str) -> String {
    project.run(["query", "--format", "TSV", sql]).success().stdout
}

/// Rows of every table of the raw, staging, snapshot and gold layers.
fn counts(project: &Project) -> String {
    let tables = query(
        project,
        "select database || '.' || name from system.tables where database in ('raw', 'f1', 'snapshots') \
         and name not like 'ext\\_%' and engine not like '%View%' order by 1",
    );
    let selects: Vec<String> = tables
        .lines()
        .map(|table| {
            format!(
                "select '{table}' as name, count() as rows from {table} {}",
                if table.starts_with("raw.") { "final" } else { "" }
            )
        })
        .collect();
    query(project, &format!("select * from ({}) order by name", selects.join(" union all ")))
}

fn pipeline(project: &Project, seasons: &str) {
    for command in ["extract", "transform"] {
        project.run([command, "--season", seasons]).success();
    }
    for command in ["migrate", "load", "build"] {
        project.run([command]).success();
    }
}

/// Every command twice changes no row; a newer batch of a round replaces the older one as a whole.
#[test]
fn simulated_seasons_reach_gold_and_a_second_run_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_service, url) = simulate(folder.path());
    let project = project(&url);
    pipeline(&project, "2022..2023");
    let first = counts(&project);
    assert!(first.lines().count() > 30, "{first}");
    for command in ["migrate", "load", "build"] {
        project.run([command]).success();
    }
    assert_eq!(first, counts(&project));

    // The model that the README shows.
    let readme = fs_err::read_to_string(repository().join("README.md")).unwrap();
    let (_, model) = readme.split_once("```sql\n-- models/").unwrap();
    let (path, model) = model.split_once('\n').unwrap();
    project.write(&format!("models/{path}"), model.split("```").next().unwrap());
    project.run(["build", "-s", "agg_podiums_by_country"]).success();
    assert_ne!(query(&project, "select count() from agg_podiums_by_country").trim(), "0");

    // Newer than what is there, and not so new that it would be refused.
    let next = (chrono::Utc::now() + chrono::Duration::hours(1)).format("%Y%m%dT%H%M%S").to_string();
    let selection = ["--season", "2023", "--round", "3", "--endpoint", "results,laps"];
    project.run(["extract", "--batch-id", &next].iter().chain(&selection)).success();
    project.run(["transform"].iter().chain(&selection)).success();
    project.run(["load"]).success();
    let batches = query(&project, "select uniqExact(batch_id) from raw.raw_results where season = 2023 and round = 3");
    assert_eq!(batches.trim(), "2", "both batches stay readable");
    let current =
        query(&project, "select uniqExact(batch_id), count() from f1.stg_results where season = 2023 and round = 3");
    let rows = query(
        &project,
        &format!(
            "select 1, count() from raw.raw_results final where season = 2023 and round = 3 and batch_id = '{next}'"
        ),
    );
    assert_eq!(current, rows, "staging shows the newer batch, whole and alone");

    // The changed season is replaced as a partition, and what it replaced does not come back with the next process.
    project.run(["build"]).success();
    project.run(["test"]).success();
    let laps = query(&project, "select (select count() from f1.fact_lap_times) = (select count() from f1.stg_laps)");
    assert_eq!(laps.trim(), "1");
}

/// What every model and snapshot renders to, for reviewers; `build` in the tests beside this one executes the same texts.
#[test]
fn every_model_renders_as_reviewed() {
    let project = project("http://127.0.0.1:1/");
    project.run(["compile", "--no-introspect", "--resource-type", "model", "snapshot"]).success();
    let compiled = project.path().join(".chpipe/target/compiled/f1");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("goldens/f1");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut count = 0;
    for entry in walkdir::WalkDir::new(&compiled).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "sql") {
            let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
            let sql = fs_err::read_to_string(entry.path()).unwrap();
            settings.bind(|| insta::assert_snapshot!(name, sql));
            count += 1;
        }
    }
    assert!(count >= 29, "only {count} were compiled");
}

/// What reviewers read in ddl/generated is what chpipe writes.
#[test]
fn the_committed_ddl_is_current() {
    let outcome = project("http://127.0.0.1:1/").run(["ddl", "generate", "--check"]);
    assert_eq!(outcome.code, Some(0), "run `chpipe ddl generate`\n{}{}", outcome.stdout, outcome.stderr);
}

/// The numbers that the real history must give.
#[test]
fn recorded_seasons_give_the_official_numbers() {
    let Some(replay) = Replay::start(&["--burst", "0"]) else {
        return skip("f1::recorded_seasons_give_the_official_numbers", replay::MISSING);
    };
    let project = project(&replay.url());
    pipeline(&project, "1958,2008,2020,2023");
    let one = |sql: &str| query(&project, sql).trim().to_owned();
    assert_eq!(one("select count() from f1.stg_races where season = 2023"), "22");
    assert_eq!(one("select count() from f1.fact_race_results where season = 2023"), "440");
    assert_eq!(one("select count() from f1.fact_sprint_results where season = 2023"), "120");
    assert_eq!(
        one(
            "select groupUniqArray(round) = [1, 10, 18, 22] or length(groupUniqArray(round)) = 4 from f1.fact_lap_times"
        ),
        "1"
    );
    assert_eq!(
        one("select driver_id, total_points, wins from f1.agg_driver_season_stats where season = 2023 \
             and driver_id in ('max_verstappen', 'hamilton') order by 2 desc"),
        "max_verstappen\t575\t19\nhamilton\t234\t0"
    );
    // Sprint points count; 1958 dropped scores, so its totals differ from the official table on purpose.
    let differing = "select count() from (select s.season, s.driver_id, s.points as official, a.total_points as total \
         from f1.stg_driverstandings s left join f1.agg_driver_season_stats a on a.season = s.season and a.driver_id = s.driver_id \
         where (s.season, s.round) in (select season, max(round) from f1.stg_driverstandings group by season)) \
         where season in (2008, 2020, 2023) and official != total";
    assert_eq!(one(differing), "0");
    assert_eq!(
        one(
            "select total_points, official_points from f1.agg_driver_season_stats where season = 1958 and driver_id = 'hawthorn'"
        ),
        "49\t42"
    );
    // 1958 keeps its shared drives.
    assert_eq!(
        one(
            "select count(), uniqExact(car_number) from f1.stg_results where season = 1958 and round = 6 and driver_id = 'brooks'"
        ),
        "2\t2"
    );
    let first = counts(&project);
    for command in ["migrate", "load", "build"] {
        project.run([command]).success();
    }
    assert_eq!(first, counts(&project));
}

/// Right after a backfill the drivers' dimension knows who drove for whom, from the first race of each team on.
#[test]
fn recorded_seasons_give_the_drivers_their_teams() {
    let Some(replay) = Replay::start(&["--burst", "0"]) else {
        return skip("f1::recorded_seasons_give_the_drivers_their_teams", replay::MISSING);
    };
    let project = project(&replay.url());
    let endpoints = ["--endpoint", "seasons,circuits,constructors,drivers,races,results"];
    for command in ["extract", "transform"] {
        project.run([command, "--season", "1997,2007..2009,2020,2023"].iter().chain(&endpoints)).success();
    }
    for command in [
        &["migrate"][..],
        &["load"],
        &["run", "--select", "staging"],
        &["snapshot"],
        &["run", "--select", "dim_drivers"],
    ] {
        project.run(command).success();
    }
    let one = |sql: &str| query(&project, sql).trim().to_owned();
    let ferrari_2008 = "select arraySort(groupUniqArray(driver_id)) from f1.dim_drivers where constructor_id = 'ferrari' \
         and valid_from < '2009-01-01' and (valid_to is null or valid_to > '2008-01-01')";
    assert_eq!(one(ferrari_2008), "['massa','raikkonen']");
    assert_eq!(
        one(
            "select min(valid_from) = (select min(race_date) from f1.stg_races where season = 2007) from f1.dim_drivers \
             where driver_id = 'hamilton' and constructor_id = 'mclaren'"
        ),
        "1"
    );
    // The seasons between are not loaded: the first race that is says when he came to Mercedes.
    assert_eq!(
        one(
            "select min(valid_from) = (select min(race_date) from f1.int_driver_entries where driver_id = 'hamilton' and constructor_id = 'mercedes'), \
             countIf(is_current) from f1.dim_drivers where driver_id = 'hamilton' and constructor_id = 'mercedes'"
        ),
        "1\t1"
    );
    assert_eq!(
        one("select toYear(min(valid_from)), countIf(is_current), countIf(is_latest) from f1.dim_drivers \
             where driver_id = 'michael_schumacher' and constructor_id = 'ferrari'"),
        "1997\t0\t1"
    );
    assert_eq!(one("select count() = uniqExact(driver_id) from f1.dim_drivers where is_latest"), "1");
    // Whoever drove in a race had that team on that day.
    let differing = "select count() from f1.int_driver_entries as entry \
         left join f1.dim_drivers as version on version.driver_id = entry.driver_id and version.constructor_id = entry.constructor_id \
             and version.valid_from <= entry.race_date and (version.valid_to is null or version.valid_to > entry.race_date) \
         where version.driver_id = ''";
    assert_eq!(one(differing), "0");
    project.run(["snapshot", "verify"]).success();

    // A second run finds nothing to do.
    let first = one("select * from snapshots.snap_drivers order by all format Hash");
    project.run(["snapshot"]).success();
    assert_eq!(first, one("select * from snapshots.snap_drivers order by all format Hash"));
}
