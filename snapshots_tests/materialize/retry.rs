//! `retry` of each kind of command.

use super::project::{artifact, last_line, query, results, run, shop};
use crate::harness::Project;

/// `retry` takes up a microbatch model where it failed, even after `--full-refresh`, and keeps the window of then.
#[test]
fn a_retry_does_only_the_batches_that_failed() {
    let project = shop()
        .file("models/source_events.sql", "{{ config(materialized='table', event_time='at', order_by='at') }}\nselect toDateTime('2024-01-01 00:00:00', 'UTC') + number * 43200 as at, number as n from numbers(6)\n")
        .file(
            "models/daily.sql",
            "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', begin='2024-01-01', order_by='at') }}\n\
             select at, n, toUInt64('{{ var('round') }}') as round{{ ', no_such_column' if var('round') == 1 and model.batch.id == '20240102' }} from {{ ref('source_events') }}\n",
        );
    let window = "--event-time-start 2024-01-01 --event-time-end 2024-01-04";
    let first =
        run(&project, &format!("run --select source_events daily --full-refresh --vars {{\"round\":1}} {window}"));
    assert_eq!(first.code, Some(1));
    assert_eq!(last_line(&first), "Done. PASS=1 WARN=0 ERROR=1 SKIP=0 NO-OP=0 TOTAL=2");
    let batches = |project: &Project| artifact(project, "run_results.json")["results"][0]["batch_results"].clone();
    run(&project, "retry --vars {\"round\":2}").success();
    let rows = "select toDate(at), any(round), count() from shop.daily group by 1 order by 1";
    assert_eq!(query(&project, rows), ["2024-01-01\t1\t2", "2024-01-02\t2\t2", "2024-01-03\t1\t2"]);
    assert_eq!(batches(&project)["successful"][0][0], "2024-01-02T00:00:00+00:00");
    assert_eq!(batches(&project)["successful"].as_array().map(Vec::len), Some(3));
    let arguments = &artifact(&project, "run_results.json")["args"];
    assert_eq!((&arguments["which"], &arguments["full_refresh"]), (&"run".into(), &true.into()));
    assert_eq!(arguments["event_time_end"], "2024-01-04");
    assert!(fs_err::metadata(project.path().join("target/compiled/shop/models/daily/daily_2024-01-02.sql")).is_ok());
    // There is nothing left, and that is no error.
    let nothing = run(&project, "retry").success();
    assert!(nothing.stderr.contains("Nothing to do"), "{}", nothing.stderr);
}

/// What was compiled, called or cloned in vain is done again, with its flags.
#[test]
fn commands_without_a_graph_can_be_retried() {
    let project = shop()
        .file("models/picky.sql", "select {% if execute and var('picky', true) %}{{ exceptions.raise_compiler_error('no') }}{% endif %}1 as a\n")
        .file("macros/picky.sql", "{% macro picky(word) %}{% if var('picky', true) %}{{ exceptions.raise_compiler_error('no') }}{% endif %}{{ print('heard ' ~ word) }}{% endmacro %}\n");
    let calm = "--vars {\"picky\":false}";
    assert_eq!(run(&project, "compile").code, Some(2));
    let messages = artifact(&project, "run_results.json")["results"].to_string();
    assert!(messages.contains("Compilation Error in model picky"), "{messages}");
    run(&project, &format!("retry {calm}")).success();
    let results = results(&project);
    assert_eq!(results, [("model.shop.picky".to_owned(), "success".to_owned())]);
    assert_eq!(run(&project, "docs generate").code, Some(2));
    run(&project, &format!("retry {calm}")).success();
    assert!(artifact(&project, "catalog.json")["nodes"].is_object());
    assert_eq!(project.run(["run-operation", "picky", "--args", "{word: it}"]).code, Some(1));
    assert_eq!(artifact(&project, "run_results.json")["args"]["args"]["word"], "it");
    assert!(run(&project, &format!("retry {calm}")).success().stdout.contains("heard it"));
    assert!(!run(&project, "retry").success().stdout.contains("heard it"), "it came to its end");
}

/// A clone that fails holds back none of what is built on it, and `retry` knows where to clone from.
#[test]
fn clones_wait_for_no_other() {
    let project = shop();
    run(&project, "compile").success();
    fs_err::rename(project.path().join("target"), project.path().join("state")).unwrap();
    let profile = fs_err::read_to_string(project.path().join("profiles.yml")).unwrap();
    project.write("profiles.yml", &profile.replace("schema: shop", "schema: copy"));
    let failed = ["model.shop.customers", "model.shop.stg_orders"].map(|id| (id.to_owned(), "error".to_owned()));
    for command in ["clone -s customers stg_orders --state state", "retry"] {
        assert_eq!(run(&project, command).code, Some(1));
        let mut found = results(&project);
        found.sort();
        assert_eq!(found, failed, "{command}");
    }
}
