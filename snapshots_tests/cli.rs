//! The command line as a user meets it: help, wrong flags, wrong files, exit codes.

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
