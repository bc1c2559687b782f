//! Every materialization through the life of a project: made, run again, configured anew, its columns changed, failing in
//! the middle, made anew. After each step: relations, rows and DDL as ClickHouse has them.

use crate::{
    harness::{Outcome, Project},
    materialize::query,
};

/// Models whose rows, columns and configuration follow from `phase`.
fn project() -> Project {
    let project = Project::new()
        .file(
            "dbt_project.yml",
            "name: matrix\nversion: '1.0'\nprofile: matrix\nvars: {phase: first}\nmodels: {matrix: {+order_by: id, +persist_docs: {relation: true, columns: true}}}\n",
        )
        .file(
            "profiles.yml",
            "matrix:\n  target: dev\n  outputs:\n    dev: {type: clickhouse, driver: embedded, path: warehouse, schema: matrix, threads: 2}\n",
        )
        .file(
            "macros/body.sql",
            r"{% macro body() -%}
select toUInt32(number + {{ 0 if var('phase') == 'first' else 1 }}) as id, toDate('2024-01-01') + number as day,
    {% if var('phase') == 'fail' %}toString(throwIf(number = 1, 'in the middle')){% else %}'{{ var('phase') }}'{% endif %} as v
    {%- if var('phase') in ('columns', 'fail', 'anew') %}, toInt64(number) as extra{% endif %}
from numbers({{ 2 if var('phase') == 'first' else 3 }})
{%- endmacro %}
{% macro later(config) -%}{{ return(config if var('phase') in ('config', 'columns', 'fail', 'anew') else {}) }}{%- endmacro %}
",
        )
        .file("seeds/words.csv", "id,word\n1,one\n2,two\n")
        .file("models/a_view.sql", "{{ config(materialized='view') }}\n{{ body() }}\n")
        .file("models/a_table.sql", "{{ config(materialized='table', settings=later({'min_bytes_for_wide_part': 1000})) }}\n{{ body() }}\n")
        .file(
            "models/an_s3.sql",
            "{{ config(materialized='s3', named_collection='silver', path='nothing/*.parquet') }}\nselect 1::Int32 as id{% if var('phase') in ('columns', 'anew') %}, '' as name{% endif %}\n",
        )
        .file(
            "models/a_dictionary.sql",
            "{{ config(materialized='dictionary', primary_key='id', layout='flat()', lifetime=('0' if var('phase') == 'first' else '60'), fields=[('id', 'UInt64'), ('v', 'String')]) }}\nselect id, v from {{ ref('a_table') }}\n",
        )
        .file(
            "models/a_materialized_view.sql",
            "{{ config(materialized='materialized_view', on_schema_change='append_new_columns', settings=later({'min_bytes_for_wide_part': 1000})) }}\nselect id, v{% if var('phase') in ('columns', 'anew') %}, extra{% endif %} from {{ ref('appended') }}\n",
        )
        .file(
            "models/docs.yml",
            "models:\n  - name: a_table\n    description: It's a table\n    columns: [{name: id, description: The key, codec: 'Delta, LZ4'}]\n  - name: replaced\n    description: \"{{ 'Replaced by key' if var('phase') == 'first' else 'Replaced by key, later' }}\"\n    columns: [{name: v, description: A word, codec: \"{{ 'ZSTD(1)' if var('phase') == 'first' else 'LZ4HC(2)' }}\"}]\n",
        );
    for (name, config) in [
        ("appended", "incremental_strategy='append', on_schema_change='append_new_columns'"),
        ("replaced", "incremental_strategy='delete_insert', unique_key='id', on_schema_change='sync_all_columns'"),
        ("rewritten", "incremental_strategy='legacy', unique_key=['id', 'day'], on_schema_change='ignore'"),
        (
            "partitioned",
            "incremental_strategy='insert_overwrite', partition_by='day', on_schema_change='append_new_columns'",
        ),
    ] {
        project.write(
            &format!("models/{name}.sql"),
            &format!("{{{{ config(materialized='incremental', {config}, ttl=(none if var('phase') == 'first' else 'day + INTERVAL 90 YEAR'), indexes=later({{'l': [{{'name': 'i', 'definition': 'v TYPE set(9) GRANULARITY 1'}}]}}).get('l', []), settings=later({{'min_bytes_for_wide_part': 1000}})) }}}}\n{{{{ body() }}}}\n"),
        );
    }
    project
}

fn build(project: &Project, phase: &str, more: &[&str]) -> Outcome {
    let vars = format!("{{phase: {phase}}}");
    project.run(["build", "--vars", vars.as_str()].iter().chain(more))
}

/// What the warehouse has: a line of DDL and the rows, a relation.
fn state(project: &Project) -> String {
    let relations = query(
        project,
        "select name, engine, toString(total_rows), create_table_query from system.tables where database = 'matrix' order by name",
    );
    let tables =
        ["a_table", "appended", "partitioned", "replaced", "rewritten", "a_materialized_view", "a_dictionary", "words"];
    let rows: Vec<String> = tables
        .iter()
        .map(|name| format!("select '{name}' as name, (select groupArray(toString(tuple(*))) from (select * from matrix.{name} order by all)) as found"))
        .collect();
    let rows = query(project, &format!("{} order by name settings enable_order_by_all = 1", rows.join(" union all ")));
    format!("{}\n\n{}\n", relations.join("\n"), rows.join("\n"))
}

fn messages(outcome: &Outcome) -> String {
    let lines = outcome.stdout.lines().filter_map(|line| line.split_once("  ").map(|(_, text)| text));
    let mut told: Vec<&str> = lines.filter(|line| line.contains(" OK ") || line.contains("ERROR ")).collect();
    told.sort_unstable();
    let told: Vec<String> = told
        .iter()
        .map(|line| {
            let line = line.split_once(" of ").map_or(*line, |(_, line)| line);
            let line = line.split_once(' ').map_or(line, |(_, line)| line);
            line.split(" in ").next().unwrap_or(line).replace('.', "")
        })
        .collect();
    told.join("\n")
}

/// One golden a phase.
#[test]
fn every_materialization_lives_through_its_changes() {
    let project = project();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../goldens/matrix");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        let mut before = String::new();
        for (phase, more) in [("first", &[][..]), ("second", &[]), ("config", &[]), ("columns", &[])] {
            let outcome = build(&project, phase, more).success();
            before = state(&project);
            insta::assert_snapshot!(phase, format!("{}\n\n{before}", messages(&outcome)));
        }
        // What fails in the middle leaves everything as it was, and nothing beside it.
        let failed = build(&project, "fail", &["--exclude", "a_view", "an_s3"]);
        assert_eq!(failed.code, Some(1), "{}", failed.stdout);
        assert!(failed.stdout.contains("in the middle"), "{}", failed.stdout);
        assert_eq!(state(&project), before, "{}", failed.stdout);
        let outcome = build(&project, "anew", &["--full-refresh"]).success();
        insta::assert_snapshot!("anew", format!("{}\n\n{}", messages(&outcome), state(&project)));
    });
}

/// What an existing table cannot become in place is refused with the reason, and done by `--full-refresh`.
#[test]
fn a_rebuild_is_asked_for() {
    let project = project();
    let model = |config: &str| {
        project.write("models/keyed.sql", &format!("{{{{ config(materialized='incremental', incremental_strategy='append', {config}) }}}}\nselect 1 as id, 2 as other\n"));
    };
    model("order_by='id'");
    project.run(["run", "--select", "keyed"]).success();
    for (config, what) in [
        ("order_by='other'", "sorting key"),
        ("order_by='id', partition_by='other'", "partition key"),
        ("order_by='id', engine='ReplacingMergeTree()'", "engine"),
    ] {
        model(config);
        let refused = project.run(["run", "--select", "keyed"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        for part in [what, "--full-refresh"] {
            assert!(refused.stdout.contains(part), "`{part}` is not in\n{}", refused.stdout);
        }
    }
    project.run(["run", "--select", "keyed", "--full-refresh"]).success();
    let engine =
        query(&project, "select engine, sorting_key from system.tables where database = 'matrix' and name = 'keyed'");
    assert_eq!(engine, ["ReplacingMergeTree\tid"]);
}
