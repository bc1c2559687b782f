//! The process kills itself in the place of every statement that changes something; whatever comes next leaves what an
//! undisturbed run leaves. The tests of the project itself say what that is.

use super::served::Served;
use crate::harness::{Outcome, Project};

/// A project over `src`, which grows by ten rows a round: half of the ids are new, half have a new version.
fn project() -> Project {
    Project::new()
        .file(
            "dbt_project.yml",
            r#"name: killed
version: '1.0'
profile: killed
vars: {round: 0, upto: 0, begin: '2024-01-01', suffix: ''}
on-run-start:
  - "create table if not exists killed.src (id UInt32, round UInt32, at DateTime('UTC')) engine = MergeTree order by id"
  - "insert into killed.src select number + 5 * {{ var('round') }}, {{ var('round') }}, toDateTime('{{ var('begin') }} 00:00:00', 'UTC') + number * 43200 from numbers(10) where {{ var('round') }} not in (select round from killed.src)"
models: {killed: {+order_by: id}}
"#,
        )
        .file(
            "profiles.yml",
            "killed:\n  target: dev\n  outputs:\n    dev: {type: clickhouse, driver: embedded, path: warehouse, schema: killed, threads: 1}\n",
        )
        .file(
            "macros/newest.sql",
            "{% macro newest() %}select * from {{ source('killed', 'src') }}{% if is_incremental() %} where round > (select max(round) from {{ this }}){% endif %} order by round desc limit 1 by id{% endmacro %}\n",
        )
        .file(
            "models/sources.yml",
            "sources: [{name: killed, schema: killed, tables: [{name: src, config: {event_time: at}}]}]\n",
        )
}

/// One invocation; dead, or ended well.
fn build(project: &Project, vars: &str, die_at: Option<usize>) -> Outcome {
    let mut command = project.command();
    command.args(["build", "--vars", vars]);
    if let Some(number) = die_at {
        command.env("CHPIPE_DEBUG_DIE_AT", number.to_string());
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code() }
}

const LEFTOVERS: &str = "select database, name from system.tables where name like '%\\\\_\\\\_dbt\\\\_%'\n";

/// A test that comes after these models, and finds no temporary relation.
fn leave_nothing(project: &Project, models: &[&str]) {
    let after: Vec<String> = models.iter().map(|model| format!("-- depends_on: {{{{ ref('{model}') }}}}")).collect();
    project.write("tests/leftovers.sql", &format!("{}\n{LEFTOVERS}", after.join("\n")));
}

/// The rows of two queries, whole and sorted.
fn equal(left: &str, right: &str) -> String {
    let rows =
        |query: &str| format!("(select groupArray(row) from (select tuple(*) as row from ({query}) order by all))");
    format!("select 1 as differs where {} != {}\n", rows(left), rows(right))
}

/// Runs that die a few statements later each, each upon what the last one left; every few rounds one that lives.
#[test]
fn a_run_that_follows_dead_ones_is_whole() {
    let project = project();
    for (name, strategy) in [
        ("replaced", "incremental_strategy='delete_insert', unique_key='id'"),
        ("rewritten", "incremental_strategy='legacy', unique_key='id'"),
        ("spread", "materialized='distributed_incremental', incremental_strategy='delete_insert', unique_key='id'"),
    ] {
        let materialized = if name == "spread" { "" } else { "materialized='incremental', " };
        project.write(
            &format!("models/{name}.sql"),
            &format!("{{{{ config({materialized}{strategy}) }}}}\n{{{{ newest() }}}}\n"),
        );
        let newest = "select * from {{ source('killed', 'src') }} order by round desc limit 1 by id";
        project.write(&format!("tests/{name}.sql"), &equal(&format!("select * from {{{{ ref('{name}') }}}}"), newest));
    }
    for (name, materialized) in [("appended", "incremental"), ("spread_out", "distributed_incremental")] {
        project.write(&format!("models/{name}.sql"), &format!("{{{{ config(materialized='{materialized}', incremental_strategy='append', partition_by='round % 2') }}}}\nselect * from {{{{ source('killed', 'src') }}}}{{% if is_incremental() %}} where round > (select max(round) from {{{{ this }}}}){{% endif %}}\n"));
    }
    project.write("models/partitioned.sql", "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='round') }}\nselect * from {{ source('killed', 'src') }}{% if is_incremental() %} where round >= (select max(round) from {{ this }}){% endif %}\n");
    project.write(
        "models/rebuilt.sql",
        "{{ config(materialized='table') }}\nselect * from {{ source('killed', 'src') }}\n",
    );
    project.write(
        "models/seen.sql",
        "{{ config(materialized='materialized_view') }}\nselect id, round, at from {{ source('killed', 'src') }}\n",
    );
    project.write("models/redeployed.sql", "{{ config(materialized='materialized_view', full_refresh=true) }}\nselect id, round, at from {{ source('killed', 'src') }}\n");
    for name in ["appended", "spread_out", "partitioned", "rebuilt", "seen", "redeployed"] {
        let expected = "select * from {{ source('killed', 'src') }}";
        project
            .write(&format!("tests/{name}.sql"), &equal(&format!("select * from {{{{ ref('{name}') }}}}"), expected));
    }
    let models =
        ["replaced", "rewritten", "spread", "appended", "spread_out", "partitioned", "rebuilt", "seen", "redeployed"];
    leave_nothing(&project, &models);
    build(&project, "{round: 1}", None).success();
    let mut died = 0;
    for round in 2..400 {
        let vars = format!("{{round: {round}}}");
        if round % 8 == 0 {
            build(&project, &vars, None).success();
            continue;
        }
        // Every third statement: in the time of all of them most of the suite is run.
        died += 3;
        let outcome = build(&project, &vars, Some(died));
        match outcome.code {
            None => {}
            Some(0) => return assert!(died > 40, "it had only {died} statements to die in"),
            Some(_) => panic!("round {round}, statement {died}:\n{}\n{}", outcome.stdout, outcome.stderr),
        }
    }
    panic!("no run came to its end");
}

/// First runs: every round makes new relations, dies in one statement, and is started again while rows went on arriving.
#[test]
fn a_first_run_can_be_started_again() {
    let project = project();
    let model = |name: &str, config: &str, sql: &str| {
        let text = format!("{{{{ config(alias='{name}' ~ var('suffix'), {config}) }}}}\n{sql}\n");
        project.write(&format!("models/{name}.sql"), &text);
        let expected = "select id, round, at from {{ source('killed', 'src') }}";
        project.write(
            &format!("tests/{name}.sql"),
            &equal(&format!("select id, round, at from {{{{ ref('{name}') }}}}"), expected),
        );
    };
    let all = "select id, round, at from {{ source('killed', 'src') }}";
    model("own", "materialized='materialized_view'", all);
    model("target", "materialized='table'", &format!("{all} where 0"));
    project.write(
        "models/into.sql",
        &format!("{{{{ config(alias='into' ~ var('suffix'), materialized='materialized_view') }}}}\n{{{{ materialization_target_table(ref('target')) }}}}\n{all}\n"),
    );
    project.write(
        "tests/target.sql",
        &format!(
            "-- depends_on: {{{{ ref('into') }}}}\n{}",
            equal("select id, round, at from {{ ref('target') }}", all)
        ),
    );
    model(
        "daily",
        "materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', begin=var('begin'), lookback=0",
        // What arrives late is in an interval that is done.
        &format!("{all} where round <= {{{{ var('upto') }}}}"),
    );
    let early = equal("select * from {{ ref('daily') }}", &format!("{all} where round <= {{{{ var('upto') }}}}"));
    project.write("tests/daily.sql", &early);
    project.write(
        "models/words.sql",
        "{{ config(alias='words' ~ var('suffix'), materialized='dictionary', primary_key='id', layout='flat()', lifetime='0', fields=[('id', 'UInt64'), ('round', 'UInt32')]) }}\nselect id, max(round) as round from {{ source('killed', 'src') }} group by id\n",
    );
    project.write("seeds/letters.csv", "id,letter\n1,a\n2,b\n");
    project.write("tests/letters.sql", "select 1 where (select count() from {{ ref('letters') }}) != 2\n");
    leave_nothing(&project, &["own", "into", "daily", "words", "letters"]);
    // Ten half days: the last batch of a later run is today's, which has none of the rows.
    let begin = (chrono::Utc::now() - chrono::TimeDelta::days(7)).format("%Y-%m-%d");
    // Every fifth statement, for the same reason as above.
    for statement in (2..400).step_by(5) {
        let upto = 2 * statement;
        let vars = |round| format!("{{round: {round}, upto: {upto}, begin: '{begin}', suffix: '_{statement}'}}");
        let died = build(&project, &vars(upto), Some(statement));
        if died.code == Some(0) {
            return assert!(statement > 40, "it had only {statement} statements to die in");
        }
        assert_eq!(died.code, None, "statement {statement}:\n{}\n{}", died.stdout, died.stderr);
        let again = build(&project, &vars(upto + 1), None);
        assert_eq!(again.code, Some(0), "statement {statement}:\n{}\n{}", again.stdout, again.stderr);
    }
    panic!("no run came to its end");
}

/// On a server, where others go on: a view into another model's table, and the merges of its source.
#[test]
fn a_deployment_on_a_server_can_be_started_again() {
    let project = project();
    let all = "select id, round, at from {{ source('killed', 'src') }}";
    for (name, config, sql) in [
        ("target", "materialized='table', order_by='id'", format!("{all} where 0")),
        (
            "into",
            "materialized='materialized_view'",
            format!("{{{{ materialization_target_table(ref('target')) }}}}\n{all}"),
        ),
        ("other", "materialized='view'", "select 1 as n".to_owned()),
    ] {
        let text = format!("{{{{ config(alias='{name}' ~ var('suffix'), {config}) }}}}\n{sql}\n");
        project.write(&format!("models/{name}.sql"), &text);
    }
    let same = equal("select id, round, at from {{ ref('target') }}", all);
    project.write("tests/target.sql", &format!("-- depends_on: {{{{ ref('into') }}}}\n{same}"));
    leave_nothing(&project, &["into"]);
    let _served = Served::start(&project);
    for statement in (9..200).step_by(5) {
        let round = 2 * statement;
        let vars = |round| format!("{{round: {round}, suffix: '_{statement}'}}");
        let died = build(&project, &vars(round), Some(statement));
        if died.code == Some(0) {
            return assert!(statement > 25, "it had only {statement} statements to die in");
        }
        assert_eq!(died.code, None, "statement {statement}:\n{}\n{}", died.stdout, died.stderr);
        // Whatever runs next in the database starts the merges.
        project.run(["run", "--select", "other", "--vars", &vars(round)]).success();
        let merge = "optimize table killed.src final settings optimize_throw_if_noop = 1";
        project.run(["query", merge]).success();
        let again = build(&project, &vars(round + 1), None);
        assert_eq!(again.code, Some(0), "statement {statement}:\n{}\n{}", again.stdout, again.stderr);
    }
    panic!("no run came to its end");
}

/// What a dead run had half merged when its config was broken since then waits for the config to be mended.
#[test]
fn rows_of_a_dead_run_outlast_a_broken_config() {
    for materialized in ["incremental", "distributed_incremental"] {
        let project = super::shop();
        let model = |strategy: &str| {
            let config = format!("materialized='{materialized}', incremental_strategy='{strategy}', order_by='id'");
            let new = "{% if is_incremental() %} where id > (select max(id) from {{ this }}){% endif %}";
            project.write("models/added.sql", &format!("{{{{ config({config}) }}}}\nselect 1 as id{new}\n"));
        };
        model("append");
        project.run(["run", "-s", "added"]).success();
        let names = project.run(["query", "show tables from shop like 'added%'", "--format", "TSV"]).success().stdout;
        let table = names.lines().find(|name| *name != "added").unwrap_or("added");
        // As such a run leaves them: row 3 is merged, row 2 is not.
        let complete = "added__dbt_new_data_0a1b2c3d";
        let on_shards = "added__dbt_tmp_0a1b2c3d_local_new";
        let new = if materialized == "incremental" { complete } else { on_shards };
        let mut left = vec![
            format!("insert into shop.{table} values (3)"),
            format!("create table shop.{new} as shop.{table}"),
            format!("insert into shop.{new} values (2)"),
        ];
        if new == on_shards {
            let over = format!("Distributed('default', 'shop', '{new}', rand())");
            left.push(format!("create table shop.{complete} as shop.{new} engine = {over}"));
        }
        for sql in left {
            project.run(["query", &sql]).success();
        }
        model("nonsense");
        assert_eq!(project.run(["run", "-s", "added"]).code, Some(1));
        model("append");
        project.run(["run", "-s", "added"]).success();
        let rows = super::query(&project, "select id from shop.added order by id");
        assert_eq!(rows, ["1", "2", "3"], "{materialized}");
    }
}
