//! Broken projects and the whole text a user gets for them. A case is a folder of `errors/`: its files are laid over a
//! small working project; `command` says what is run (`parse` where there is none), `env` which variables are set, `absent`
//! which files of the working project are taken away. `expected.snap` is the transcript.

use std::path::Path;

use chpipe::config::EngineSettings;

use crate::harness::{Project, repository};

/// The project that a case breaks.
const WORKING: [(&str, &str); 3] = [
    ("dbt_project.yml", "name: t1\nversion: '1.0'\nprofile: t1\n"),
    (
        "profiles.yml",
        "t1:\n  target: dev\n  outputs:\n    dev: {type: clickhouse, driver: embedded, path: wh, schema: s}\n",
    ),
    ("models/a.sql", "select 1 as id\n"),
];

/// Files of a case that are not part of the project.
const OF_THE_DRIVER: [&str; 4] = ["expected.snap", "command", "env", "absent"];

/// Every broken project is refused with a text that says what, where and what to do.
#[test]
fn broken_projects_say_what_is_wrong() {
    let mut cases: Vec<_> = fs_err::read_dir(repository().join("snapshots_tests/errors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    // All cases are looked at before the test fails, so that one run tells of every golden that is out of date.
    let different: Vec<_> = cases
        .iter()
        .filter(|case| {
            std::panic::catch_unwind(|| {
                let transcript = transcript(case);
                insta::with_settings!({snapshot_path => case, snapshot_suffix => "", prepend_module_to_snapshot => false, omit_expression => true}, {
                    insta::assert_snapshot!("expected", transcript);
                });
            })
            .is_err()
        })
        .map(|case| case.file_name().unwrap())
        .collect();
    assert!(different.is_empty(), "differ from their goldens: {different:?}");
}

fn transcript(case: &Path) -> String {
    let read = |name: &str| fs_err::read_to_string(case.join(name)).unwrap_or_default();
    let absent = read("absent");
    let mut project = Project::new();
    for (path, text) in WORKING {
        if !absent.lines().any(|line| line == path) {
            project.write(path, text);
        }
    }
    for entry in walkdir::WalkDir::new(case).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file())
    {
        let path = entry.path().strip_prefix(case).unwrap().to_str().unwrap();
        if !OF_THE_DRIVER.contains(&path) {
            // Not as text: a case may be about bytes that are none.
            let to = project.path().join(path);
            fs_err::create_dir_all(to.parent().unwrap()).unwrap();
            fs_err::write(to, fs_err::read(entry.path()).unwrap()).unwrap();
        }
    }
    for line in read("env").lines() {
        let (name, value) = line.split_once('=').unwrap();
        project = project.env(name, value);
    }
    // A profile in the home folder of whoever runs the tests must not count; the libchdb in its cache must.
    let home = project.path().join("home").display().to_string();
    let cache = EngineSettings::from_environment().cache_dir().display().to_string();
    let project = project.env("HOME", home).env("CHPIPE_CACHE_DIR", cache);
    let command = read("command");
    let arguments: Vec<&str> = if command.is_empty() { vec!["parse"] } else { command.split_whitespace().collect() };
    without_times(&project.run(arguments).transcript())
}

/// Progress lines begin with the time of day.
fn without_times(text: &str) -> String {
    let is_time = |time: &str| time.chars().all(|c| c == ':' || c.is_ascii_digit());
    let masked = text.lines().map(|line| match line.split_at_checked(8) {
        Some((time, rest)) if is_time(time) => format!("[TIME]{rest}\n"),
        _ => format!("{line}\n"),
    });
    masked.collect()
}
