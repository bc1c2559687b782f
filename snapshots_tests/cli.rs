//! The command line as a user meets it: help, wrong flags, wrong files, exit codes.

use clap::Parser as _;

use crate::harness::Project;

/// Settings of a golden whose text comes from the binary: the version changes with every release.
fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("goldens/cli");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// An unknown flag is a usage error (2) that names it.
#[test]
fn unknown_flag_is_a_usage_error() {
    let outcome = Project::new().run(["query", "--no-such-flag"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("--no-such-flag"), "{}", outcome.stderr);
}

/// An unknown key of chpipe.toml is an error that shows the line and a caret.
#[test]
fn unknown_key_names_file_and_line() {
    let project =
        Project::new().file("chpipe.toml", "[source]\nurl = \"http://127.0.0.1:1/\"\nrequest_per_second = 3\n");
    golden("unknown_key", &project.run(["query", "select 1"]).transcript());
}

/// A value of the wrong type in the environment names the variable.
#[test]
fn invalid_variable_is_named() {
    let project = Project::new().env("CHPIPE_REQUESTS_PER_HOUR", "many");
    golden("invalid_variable", &project.run(["query", "select 1"]).transcript());
}

/// A line of .env that cannot be read is reported without showing it: it may hold a secret.
#[test]
fn broken_dotenv_shows_no_secret() {
    let project = Project::new().file(".env", "CHPIPE_S3_SECRET_ACCESS_KEY='hunter2\n").file("chpipe.toml", "");
    let outcome = project.run(["query", "select 1"]);
    assert_eq!(outcome.code, Some(2));
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(".env"), "{}", outcome.stderr);
}

/// --vars must be a mapping.
#[test]
fn vars_must_be_a_mapping() {
    golden("vars_must_be_a_mapping", &Project::new().run(["query", "select 1", "--vars", "[1, 2]"]).transcript());
}

/// A project folder that does not exist is an error before anything else is tried.
#[test]
fn missing_project_dir() {
    let outcome = Project::new().run(["query", "select 1", "--project-dir", "nowhere"]);
    golden("missing_project_dir", &outcome.transcript());
}

/// Completion scripts need no project.
#[test]
fn completions_are_printed() {
    assert!(Project::new().run(["completions", "bash"]).success().stdout.contains("_chpipe"));
}

/// A script that calls dbt with its global flags, before or after the command's name, goes on when it calls chpipe.
#[test]
fn dbts_global_flags_are_taken_everywhere() {
    let commands = [
        "build",
        "clean",
        "clone",
        "compile",
        "debug",
        "deps",
        "docs generate",
        "init",
        "ls",
        "parse",
        "retry",
        "run",
        "run-operation x",
        "seed",
        "show",
        "snapshot",
        "source freshness",
        "test",
    ];
    let flags = "--cache-selected-only --no-cache-selected-only --debug --no-debug --fail-fast --no-fail-fast --log-cache-events \
        --no-log-cache-events --log-file-max-bytes=1 --log-format=json --log-format-file=json --log-level=info --log-level-file=info \
        --log-path=logs --macro-debugging --partial-parse --no-partial-parse --partial-parse-file-path=x --partial-parse-file-diff \
        --populate-cache --no-populate-cache --print --no-print --printer-width=80 --quiet --no-quiet --record-timing-info=x \
        --send-anonymous-usage-stats --no-send-anonymous-usage-stats --show-all-deprecations --single-threaded --static-parser \
        --no-static-parser --upload-to-artifacts-ingest-api --use-colors --no-use-colors --use-colors-file --no-use-colors-file \
        --use-experimental-parser --use-fast-test-edges --version-check --no-version-check --warn-error --no-warn-error \
        --warn-error-options={} --write-json --no-write-json --introspect --no-introspect --profile=p --profiles-dir=x --project-dir=x \
        --target=t --target-path=x --threads=1 --vars={}";
    for command in commands {
        let command: Vec<&str> = command.split(' ').collect();
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let short = ["-x", "-q", "-d", "-r=x"];
        for flags in [&flags[..], &short] {
            for line in [[&["chpipe"], flags, &command[..]].concat(), [&["chpipe"], &command[..], flags].concat()] {
                let parsed = chpipe::cli::Cli::try_parse_from(&line);
                assert!(parsed.is_ok(), "{line:?}: {}", parsed.unwrap_err());
            }
        }
    }
}

/// `--no-…` holds against the environment, and `--no-print` silences `print()`.
#[test]
fn flags_that_take_back_are_heeded() {
    let project = crate::materialize::shop()
        .file("macros/say.sql", "{% macro say() %}{% do print('full refresh: ' ~ flags.FULL_REFRESH) %}{% endmacro %}")
        .file("models/said.sql", "{{ say() }}select 1 as id")
        .env("DBT_FULL_REFRESH", "1");
    let text = |flag: &str| project.run(["compile", "-s", "said", flag]).success().stdout;
    assert!(text("--print").contains("full refresh: True"));
    assert!(text("--no-full-refresh").contains("full refresh: False"));
    assert!(!text("--no-print").contains("full refresh"));
}
