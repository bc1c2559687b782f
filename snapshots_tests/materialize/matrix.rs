//! Every materialization through the life of a project: made, run again over more rows, configured anew, its columns changed,
//! failing in the middle, made anew. After each step: relations, rows and DDL as ClickHouse has them, and the same where the
//! process was killed a few times on the way.

use super::project::query;
use crate::harness::{Outcome, Project};

/// The phases, each with the flags of its run.
const PHASES: [(&str, &[&str]); 5] =
    [("first", &[]), ("second", &[]), ("config", &[]), ("columns", &[]), ("anew", &["--full-refresh"])];

/// Models whose rows, columns and configuration follow from the variable `phase`; rows arrive in `matrix.src` before the
/// models of the phases `second` and `columns`.
fn project(threads: u32) -> Project {
    let project = Project::new()
        .file(
            "dbt_project.yml",
            r#"name: matrix
version: '1.0'
profile: matrix
vars: {phase: first}
models: {matrix: {+order_by: id, +persist_docs: {relation: true, columns: true}}}
on-run-start:
  - "create table if not exists matrix.src (id UInt32, day Date, n UInt8, v String, at DateTime('UTC') default toDateTime(day, 'UTC')) engine = MergeTree order by id"
  - "insert into matrix.src (id, day, n, v) select number, toDate('2024-01-01') + number, 1, 'first' from numbers(2) where (select count() from matrix.src) = 0"
  - "insert into matrix.src (id, day, n, v) select number, toDate('2024-01-01') + number, 2, 'second' from numbers(1, 2) where '{{ var('phase') }}' = 'second' and 2 not in (select n from matrix.src)"
  - "insert into matrix.src (id, day, n, v) select number, toDate('2024-01-01') + number, 3, 'third' from numbers(2, 2) where '{{ var('phase') }}' = 'columns' and 3 not in (select n from matrix.src)"
"#,
        )
        .file("chpipe.toml", "[lake]\npath = \"lake\"\n")
        .file("lake/silver/words/a.jsonl", "{\"id\": 1, \"name\": \"one\", \"extra\": 10}\n{\"id\": 2, \"name\": \"two\"}\n")
        .file(
            "profiles.yml",
            &format!("matrix:\n  target: dev\n  outputs:\n    dev: {{type: clickhouse, driver: embedded, path: warehouse, schema: matrix, threads: {threads}}}\n"),
        )
        .file("models/sources.yml", "sources: [{name: matrix, schema: matrix, tables: [{name: src, config: {event_time: at}}]}]\n")
        .file(
            "macros/body.sql",
            r"{% macro extra(expression='toInt64(id) * 10') %}{% if var('phase') in ('columns', 'fail', 'anew') %}, {{ expression }} as extra{% endif %}{% endmacro %}
{% macro later(first, then) %}{{ return(first if var('phase') in ('first', 'second') else then) }}{% endmacro %}
{% macro broken() %}{% if var('phase') == 'fail' %}, no_such_column{% endif %}{% endmacro %}
{% macro body() -%}
select id, day, n, v{{ extra() }} from {{ source('matrix', 'src') }}
{%- if is_incremental() %} where n > (select max(n) from {{ this }}){% endif %}
{%- if var('phase') == 'fail' %}
union all select 9, toDate('2024-02-01'), 9, toString(throwIf(number = 2, 'in the middle')), 9 from numbers(3)
{%- endif %}
{%- endmacro %}
",
        )
        .file("models/an_ephemeral.sql", "{{ config(materialized='ephemeral') }}\nselect id, day, n, v{{ extra() }}{{ broken() }} from {{ source('matrix', 'src') }}\n")
        .file("models/a_view.sql", "{{ config(materialized='view', query_settings=later({}, {'max_threads': 1})) }}\nselect * from {{ ref('an_ephemeral') }}\n")
        .file(
            "models/a_table.sql",
            "{{ config(materialized='table', partition_by=later(none, 'day'), settings=later({}, {'min_bytes_for_wide_part': 1000})) }}\n{{ body() }}\n",
        )
        .file(
            "models/an_s3.sql",
            "{{ config(materialized='s3', named_collection='silver', path=later('words/*.jsonl', 'words/a.jsonl'), format='JSONEachRow') }}\nselect 1::Int32 as id, '' as name{{ extra('0::Int64') }}{{ broken() }}\n",
        )
        .file(
            "models/a_dictionary.sql",
            "{{ config(materialized='dictionary', primary_key='id', layout='flat()' if var('phase') != 'fail' else 'no_such_layout()', lifetime=later('0', '60'), fields=[('id', 'UInt64'), ('v', 'String')] + ([('extra', 'Int64')] if extra() else [])) }}\nselect id, argMax(v, n) as v{{ extra('toInt64(id)') }} from {{ source('matrix', 'src') }} group by id\n",
        )
        .file(
            "models/a_materialized_view.sql",
            "{{ config(materialized='materialized_view', on_schema_change='append_new_columns', settings=later({}, {'min_bytes_for_wide_part': 1000})) }}\nselect id, v{{ extra() }}{{ broken() }} from {{ source('matrix', 'src') }}\n",
        )
        .file(
            "models/a_target.sql",
            "{{ config(materialized='table', mv_on_schema_change='append_new_columns', ttl=later(none, 'toDate(id) + INTERVAL 90 YEAR')) }}\nselect id, v{{ extra() }}{{ broken() }} from {{ source('matrix', 'src') }} where 0\n",
        )
        .file(
            "models/a_feeding_view.sql",
            "{{ config(materialized='materialized_view') }}\n{{ materialization_target_table(ref('a_target')) }}\nselect id, {{ later('v', 'upper(v)') }} as v{{ extra() }}{{ broken() }} from {{ source('matrix', 'src') }}\n",
        )
        .file(
            "models/docs.yml",
            r"models:
  - name: a_table
    description: It's a table
    columns: [{name: id, description: The key, codec: 'Delta, LZ4'}]
  - name: a_view
    description: A view
    columns: [{name: id, description: The key}]
  - name: replaced
    description: Replaced by key
    columns: [{name: v, description: A word, codec: ZSTD(1)}]
",
        );
    for (name, config) in [
        ("appended", "incremental_strategy='append', on_schema_change='append_new_columns'"),
        ("replaced", "incremental_strategy='delete_insert', unique_key='id', on_schema_change='sync_all_columns'"),
        ("rewritten", "incremental_strategy='legacy', unique_key=['id', 'day'], on_schema_change='ignore'"),
        (
            "partitioned",
            "incremental_strategy='insert_overwrite', partition_by='day', on_schema_change='append_new_columns'",
        ),
        (
            "daily",
            "incremental_strategy='microbatch', event_time='at', batch_size='day', begin='2024-01-01', on_schema_change='append_new_columns'",
        ),
    ] {
        project.write(
            &format!("models/{name}.sql"),
            &format!(
                "{{{{ config(materialized='incremental', {config}, ttl=later(none, 'day + INTERVAL 90 YEAR'), indexes=later([], [{{'name': 'i', 'definition': 'v TYPE set(9) GRANULARITY 1'}}]), settings=later({{}}, {{'min_bytes_for_wide_part': 1000}})) }}}}\n{}\n",
                if name == "daily" { "select id, day, n, v, at{{ extra() }} from {{ source('matrix', 'src') }}" } else { "{{ body() }}" }
            ),
        );
    }
    project
}

/// `build` of one phase; the process may die in the place of a statement.
fn build(project: &Project, phase: &str, flags: &[&str], die_at: Option<usize>) -> Outcome {
    let documented = if matches!(phase, "first" | "second") { "Replaced by key" } else { "Replaced by key, newest" };
    let docs = fs_err::read_to_string(project.path().join("models/docs.yml")).unwrap();
    let codec = if matches!(phase, "first" | "second") { "ZSTD(1)" } else { "LZ4HC(2)" };
    let docs: Vec<String> = docs
        .lines()
        .map(|line| match line.trim_start() {
            text if text.starts_with("description: Replaced") => format!("    description: {documented}"),
            text if text.starts_with("columns: [{name: v") => {
                format!("    columns: [{{name: v, description: A word, codec: {codec}}}]")
            }
            _ => line.to_owned(),
        })
        .collect();
    project.write("models/docs.yml", &docs.join("\n"));
    let words = match phase {
        "first" => "id,word\n1,one\n",
        "second" | "config" => "id,word\n1,one\n2,two\n",
        "fail" => "id,word\n1,one\n2\n",
        _ => "id,word,born\n1,one,1950-05-13\n",
    };
    project.write("seeds/words.csv", words);
    let vars = format!("{{phase: {phase}}}");
    let mut command = project.command();
    command.args(["build", "--vars", &vars, "--event-time-start", "2024-01-01", "--event-time-end", "2024-01-05"]);
    command.args(flags);
    if let Some(number) = die_at {
        command.env("CHPIPE_DEBUG_DIE_AT", number.to_string());
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code() }
}

/// What the warehouse has: a line of DDL and one of rows for each relation.
fn state(project: &Project) -> String {
    let names = query(project, "select name from system.tables where database = 'matrix' order by name");
    let each = |sql: &dyn Fn(&str) -> String| {
        let queries: Vec<String> = names.iter().map(|name| sql(name)).collect();
        query(project, &format!("select * from ({}) order by 1", queries.join(" union all ")))
    };
    let ddl = query(
        project,
        "select name, replaceAll(create_table_query, '\\n', ' ') from system.tables where database = 'matrix' order by name",
    );
    let rows =
        each(&|name| format!("select '{name}', (select arraySort(groupArray(toString(tuple(*)))) from matrix.{name})"));
    format!("{}\n\n{}\n", ddl.join("\n"), rows.join("\n"))
}

/// What was told of each node, sorted: its kind, its name, and what changed in place.
fn told(outcome: &Outcome) -> String {
    let line = regex::Regex::new(r"(?m)^\S+  \d+ of \d+ (OK .*|ERROR .*) \[(.*) in .*\]$").unwrap();
    let mut told: Vec<String> = line
        .captures_iter(&outcome.stdout)
        .map(|found| format!("{} [{}]", found[1].trim_end_matches('.').trim(), &found[2]))
        .collect();
    told.sort_unstable();
    told.join("\n")
}

/// One golden a phase; the second project is killed in several places before it comes to the end of each.
#[test]
fn every_materialization_lives_through_its_changes() {
    let (project, killed) = (project(2), project(1));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../goldens/matrix");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    std::thread::scope(|scope| {
        let after_kills = scope.spawn(|| {
            PHASES.map(|(phase, flags)| {
                let mut deaths = 0;
                for die_at in [9, 33, 58, 87, 120] {
                    let outcome = build(&killed, phase, flags, Some(die_at));
                    assert!(matches!(outcome.code, None | Some(0)), "{phase}, {die_at}: {}", outcome.stdout);
                    deaths += usize::from(outcome.code.is_none());
                }
                assert!(deaths > 0, "{phase}: it had no statement to die in");
                build(&killed, phase, flags, None).success();
                state(&killed)
            })
        });
        let mut states = Vec::new();
        settings.bind(|| {
            for (phase, flags) in PHASES {
                if phase == "anew" {
                    // What fails in the middle leaves everything as it was, and nothing beside it. (A microbatch that fails
                    // keeps a list of its intervals.)
                    let failed = build(&project, "fail", &["--exclude", "daily"], None);
                    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
                    insta::assert_snapshot!("fail", told(&failed));
                    assert_eq!(state(&project), states[states.len() - 1], "{}", failed.stdout);
                }
                let outcome = build(&project, phase, flags, None).success();
                let state = state(&project);
                insta::assert_snapshot!(phase, format!("{}\n\n{state}", told(&outcome)));
                states.push(state);
            }
        });
        let after_kills = after_kills.join().unwrap();
        for ((phase, _), (killed, whole)) in PHASES.iter().zip(after_kills.iter().zip(&states)) {
            assert_eq!(killed, whole, "{phase}, after kills");
        }
    });
}

/// What an existing table cannot become in place is refused with the reason, and done by `--full-refresh`.
#[test]
fn a_rebuild_is_asked_for() {
    let project = project(1);
    let model = |config: &str| {
        let config = format!("materialized='incremental', incremental_strategy='append', {config}");
        project.write("models/keyed.sql", &format!("{{{{ config({config}) }}}}\nselect 1 as id, 2 as other\n"));
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
