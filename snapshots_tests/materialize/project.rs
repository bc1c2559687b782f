//! Whole projects through the binary: what a dbt user does, and what the commands leave behind.

use std::{
    io::{BufWriter, Write as _},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Outcome, Project};

/// A project of models of every common kind, over a seed.
pub(crate) fn shop() -> Project {
    Project::new()
        .file("dbt_project.yml", "name: shop\nversion: '1.0'\nprofile: shop\nseeds: {shop: {+column_types: {amount: 'Decimal(9, 2)'}}}\n")
        .file(
            "profiles.yml",
            "shop:\n  target: dev\n  outputs:\n    dev: {type: clickhouse, driver: embedded, path: warehouse, schema: shop, threads: 2}\n",
        )
        .file("seeds/orders.csv", "id,customer,amount,day\n1,ann,10.50,2024-01-01\n2,bob,20.00,2024-01-02\n3,ann,5.25,2024-01-02\n")
        .file("models/stg_orders.sql", "select * from {{ ref('orders') }}\n")
        .file("models/customers.sql", "{{ config(materialized='table', order_by='customer') }}\nselect customer, sum(amount) as total, count() as orders from {{ ref('stg_orders') }} group by customer\n")
        .file("models/eph.sql", "{{ config(materialized='ephemeral') }}\nselect id, customer from {{ ref('stg_orders') }}\n")
        .file(
            "models/events.sql",
            "{{ config(materialized='incremental', incremental_strategy='append', order_by='id') }}\nselect id, customer from {{ ref('eph') }}\n{% if is_incremental() %}where id > (select max(id) from {{ this }}){% endif %}\n",
        )
        .file(
            "models/schema.yml",
            "models:\n  - name: customers\n    columns:\n      - name: customer\n        data_tests: [unique, not_null]\n  - name: stg_orders\n    columns:\n      - name: amount\n        data_tests:\n          - not_null\n",
        )
        .file("tests/positive.sql", "select * from {{ ref('stg_orders') }} where amount <= 0\n")
        .file(
            "snapshots/customers.yml",
            "snapshots:\n  - name: snap_customers\n    relation: ref('customers')\n    config: {schema: snapshots, unique_key: customer, strategy: check, check_cols: all}\n",
        )
}

pub(crate) fn run(project: &Project, arguments: &str) -> Outcome {
    project.run(arguments.split(' '))
}

/// The rows of a query, tab-separated, without the header.
pub(crate) fn query(project: &Project, sql: &str) -> Vec<String> {
    let outcome = project.run(["query", sql, "--format", "TSV"]).success();
    outcome.stdout.lines().map(str::to_owned).collect()
}

pub(crate) fn last_line(outcome: &Outcome) -> &str {
    outcome.stdout.lines().last().unwrap_or_default().split_once("  ").map_or("", |(_, text)| text)
}

/// A file of the target folder.
pub(crate) fn artifact(project: &Project, name: &str) -> Value {
    serde_json::from_str(&fs_err::read_to_string(project.path().join("target").join(name)).unwrap()).unwrap()
}

pub(crate) fn results(project: &Project) -> Vec<(String, String)> {
    artifact(project, "run_results.json")["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["unique_id"].as_str().unwrap().to_owned(), result["status"].as_str().unwrap().to_owned()))
        .collect()
}

/// `build` twice: the same rows, the same line at the end, and artifacts that name everything.
#[test]
fn build_is_green_twice() {
    let project = shop();
    for _ in 0..2 {
        let outcome = run(&project, "build").success();
        assert_eq!(last_line(&outcome), "Done. PASS=9 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=9", "{}", outcome.stdout);
        assert_eq!(query(&project, "select * from shop.customers order by 1"), ["ann\t15.75\t2", "bob\t20\t1"]);
        assert_eq!(query(&project, "select count() from shop.events"), ["3"]);
    }
    assert_eq!(results(&project).len(), 9);
    let run_file = fs_err::read_to_string(project.path().join("target/run/shop/models/customers.sql")).unwrap();
    assert!(run_file.contains("CREATE TABLE") && run_file.contains("EXCHANGE TABLES"), "{run_file}");
    assert_eq!(
        query(&project, "select name from system.tables where name like '%\\_\\_dbt\\_%'"),
        Vec::<String>::new()
    );
}

/// A failing test shows its rows, holds back what is built upon its model, and retry takes up from there.
#[test]
fn failures_are_shown_skipped_and_retried() {
    let project = shop();
    project.write("seeds/orders.csv", "id,customer,amount,day\n1,ann,10.50,2024-01-01\n2,bob,-20.00,2024-01-02\n");
    let outcome = run(&project, "build");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("FAIL 1 positive"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("Got 1 result, configured to fail if != 0"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("bob"), "the failing row is shown:\n{}", outcome.stdout);
    assert!(outcome.stdout.contains("SKIP relation shop.customers"), "{}", outcome.stdout);
    let skipped = results(&project).into_iter().filter(|(_, status)| status == "skipped").count();
    assert_eq!(skipped, 5, "{:?}", results(&project));
    project.write("seeds/orders.csv", "id,customer,amount,day\n1,ann,10.50,2024-01-01\n2,bob,20.00,2024-01-02\n");
    run(&project, "seed").success();
    // The last command is the seed now, and it was well.
    assert!(run(&project, "retry").success().stderr.contains("Nothing to do"));
    run(&project, "build --select positive+ customers+").success();
}

/// A model that fails is an error (1) with ClickHouse's words, and its children are skipped.
#[test]
fn a_failing_model_names_what_clickhouse_said() {
    let project = shop();
    run(&project, "seed").success();
    project.write("models/stg_orders.sql", "select no_such_column from {{ ref('orders') }}\n");
    let outcome = run(&project, "run");
    assert_eq!(outcome.code, Some(1));
    for part in [
        "Database Error in model stg_orders (models/stg_orders.sql)",
        "Code 47, UNKNOWN_IDENTIFIER",
        "no_such_column",
        "compiled code at target/compiled/shop/models/stg_orders.sql",
        "Done. PASS=0 WARN=0 ERROR=1 SKIP=2 NO-OP=0 TOTAL=3",
    ] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in\n{}", outcome.stdout);
    }
    project.write("models/stg_orders.sql", "select * from {{ ref('orders') }}\n");
    let retried = run(&project, "retry").success();
    assert!(retried.stdout.contains("Done. PASS=3 "), "{}", retried.stdout);
}

/// What is wrong with a configuration or a seed is said where it is.
#[test]
fn mistakes_are_named() {
    let project = shop()
        .file("models/tabel.sql", "{{ config(materialized='tabel') }}\nselect 1 as id\n")
        .file("models/hooked.sql", "{{ config(pre_hook=\"select throwIf(1)\") }}\nselect 1 as id\n")
        .file(
            "models/keyed.sql",
            "{{ config(materialized='incremental', unique_key='nope', incremental_strategy='delete_insert') }}\nselect 1 as id\n",
        )
        .file("seeds/typed.csv", "id,v\n1,\"a\nb\"\nx,c\n")
        .file("seeds/typed.yml", "seeds: [{name: typed, config: {column_types: {id: Int32}}}]\n");
    run(&project, "run --select keyed").success();
    let outcome = run(&project, "build --select tabel hooked keyed typed");
    assert_eq!(outcome.code, Some(1));
    for part in [
        "there is no materialization `tabel`",
        "hint: there are view, table, incremental",
        "in the hook: select throwIf(1)",
        "`unique_key`: the query has no column `nope`; it has id",
        "line 4: `id` is `x`, which is no Int32",
    ] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in\n{}", outcome.stdout);
    }
    let left = "select name from system.tables where name like '%\\_\\_dbt\\_%'";
    assert_eq!(query(&project, left), Vec::<String>::new());
}

/// Test configs: severity, thresholds, where, limit, stored failures.
#[test]
fn test_configs_decide_the_verdict() {
    let project = shop();
    run(&project, "seed").success();
    project.write("models/stg_orders.sql", "select * from {{ ref('orders') }}\n");
    project.write(
        "models/schema.yml",
        "models:\n  - name: stg_orders\n    columns:\n      - name: customer\n        data_tests:\n          - unique:\n              name: warned\n              config: {severity: warn}\n          - unique:\n              name: tolerated\n              config: {error_if: '>5', warn_if: '>5'}\n          - unique:\n              name: filtered\n              config: {where: 'id < 3'}\n          - unique:\n              name: kept\n              config: {store_failures: true, schema: audit}\n",
    );
    run(&project, "run --select stg_orders").success();
    let outcome = run(&project, "test --select warned tolerated filtered kept");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    let verdicts: Vec<(String, String)> =
        results(&project).into_iter().map(|(id, status)| (id.split('.').nth(2).unwrap().to_owned(), status)).collect();
    for (name, status) in [("warned", "warn"), ("tolerated", "pass"), ("filtered", "pass"), ("kept", "fail")] {
        assert!(verdicts.contains(&(name.to_owned(), status.to_owned())), "{name}: {verdicts:?}");
    }
    assert_eq!(query(&project, "select * from shop_audit.kept"), ["ann\t2"]);
}

/// Unit tests run before their model, on rows given as mappings, CSV and SQL.
#[test]
fn unit_tests_compare_given_and_expected_rows() {
    let project = shop();
    run(&project, "build").success();
    project.write(
        "models/unit.yml",
        r"unit_tests:
  - name: sums_amounts
    model: customers
    given:
      - input: ref('stg_orders')
        rows:
          - {id: 1, customer: ann, amount: 1.5}
          - {id: 2, customer: ann, amount: 2}
    expect:
      rows:
        - {customer: ann, total: 3.5, orders: 2}
  - name: only_new_ids
    model: events
    overrides: {macros: {is_incremental: true}}
    given:
      - input: ref('eph')
        format: csv
        rows: |
          id,customer
          1,ann
          5,bob
      - input: this
        format: sql
        rows: select 3 as id
    expect:
      format: csv
      rows: |
        id,customer
        5,bob
  - name: wrong
    model: customers
    given:
      - input: ref('stg_orders')
        rows: [{customer: ann, amount: 1}]
    expect:
      rows: [{customer: ann, total: 2}]
",
    );
    let outcome = run(&project, "test --select test_type:unit");
    assert_eq!(outcome.code, Some(1), "{}\n{}", outcome.stdout, outcome.stderr);
    for part in ["PASS customers::sums_amounts", "PASS events::only_new_ids", "customers::wrong", "+++", "---"] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in\n{}", outcome.stdout);
    }
    let built = run(&project, "build --select customers");
    assert!(built.stdout.contains("SKIP relation shop.customers"), "{}", built.stdout);
}

/// Microbatch: a first run from `begin`, later ones back by `lookback`, an interval of its own by flags.
#[test]
fn microbatches_replace_their_interval() {
    let project = shop()
        .file("models/source_events.sql", "{{ config(materialized='table', event_time='at', order_by='at') }}\nselect toDateTime('2024-01-01 00:00:00', 'UTC') + number * 43200 as at, number as n from numbers(6)\n")
        .file(
            "models/daily.sql",
            "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', begin='2024-01-01', order_by='at', concurrent_batches=true) }}\nselect at, n from {{ ref('source_events') }}\n",
        );
    let window = "--event-time-start 2024-01-01 --event-time-end 2024-01-04";
    run(&project, &format!("run --select source_events daily {window}")).success();
    let rows = "select toDate(at), groupArray(n) from (select * from shop.daily order by n) group by 1 order by 1";
    assert_eq!(query(&project, rows), ["2024-01-01\t[0,1]", "2024-01-02\t[2,3]", "2024-01-03\t[4,5]"]);
    // A day changes; only the intervals of the window are made again.
    project.write(
        "models/source_events.sql",
        "{{ config(materialized='table', event_time='at', order_by='at') }}\nselect toDateTime('2024-01-01 00:00:00', 'UTC') + number * 43200 as at, number + 10 as n from numbers(6)\n",
    );
    run(&project, "run --select source_events daily --event-time-start 2024-01-02 --event-time-end 2024-01-03")
        .success();
    assert_eq!(query(&project, rows), ["2024-01-01\t[0,1]", "2024-01-02\t[12,13]", "2024-01-03\t[4,5]"]);
}

/// Batches at the same time, on a table whose configuration is compared each time, and has changed in the second run.
#[test]
fn concurrent_batches_change_the_table_once() {
    let project = shop();
    project.write(
        "models/half_days.sql",
        "{{ config(materialized='table', event_time='at', order_by='at') }}\nselect toDateTime('2024-01-01 00:00:00', 'UTC') + number * 43200 as at, number as n from numbers(20)\n",
    );
    let daily = |settings: &str| {
        let config = format!(
            "materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', begin='2024-01-01', order_by='at', concurrent_batches=true, projections=[{{'name': 'p', 'query': 'SELECT n ORDER BY n'}}], settings={{'lightweight_mutation_projection_mode': 'rebuild'{settings}}}"
        );
        project.write(
            "models/daily.sql",
            &format!("{{{{ config({config}) }}}}\nselect at, n from {{{{ ref('half_days') }}}}\n"),
        );
    };
    let window = "run --threads 4 --event-time-start 2024-01-01 --event-time-end 2024-01-11 --select";
    daily("");
    run(&project, &format!("{window} half_days daily")).success();
    daily(", 'min_bytes_for_wide_part': 1000");
    let outcome = run(&project, &format!("{window} daily")).success();
    assert_eq!(outcome.stdout.matches("1 setting changed").count(), 1, "{}", outcome.stdout);
    assert_eq!(query(&project, "select count(), uniqExact(n) from shop.daily"), ["20\t20"]);
    let engine = query(&project, "select engine_full from system.tables where database = 'shop' and name = 'daily'");
    assert!(engine[0].contains("min_bytes_for_wide_part = 1000"), "{engine:?}");
    let left = query(&project, "select name from system.tables where database = 'shop' and name like '%dbt%'");
    assert_eq!(left, Vec::<String>::new());
}

/// Hooks run around the model and around the invocation.
#[test]
fn hooks_run_in_order() {
    let project = shop();
    project.write(
        "dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\non-run-start: \"create table if not exists shop.log (n UInt8, what String) engine = MergeTree order by n\"\non-run-end: \"insert into shop.log values (4, '{{ results | length }} results')\"\nmodels: {shop: {customers: {+pre-hook: \"insert into shop.log values (2, 'before')\", +post-hook: [\"insert into shop.log values (3, 'after {{ this.identifier }}')\"]}}}\n",
    );
    run(&project, "seed").success();
    run(&project, "run --select stg_orders customers").success();
    let rows = query(&project, "select what from shop.log order by n, what");
    assert_eq!(
        rows,
        ["before", "after customers", "1 results", "2 results"],
        "of the seed's invocation, then of the models'"
    );
}

/// `show`, `run-operation`, `docs generate`, `source freshness` and `clone` on one project.
#[test]
fn the_small_commands_work() {
    let project = shop()
        .file("macros/grow.sql", "{% macro grow(name) %}{% do run_query('create table shop.' ~ name ~ ' (a Int32) engine = MergeTree order by a') %}{{ log('made ' ~ name, info=True) }}{% endmacro %}\n")
        .file("models/sources.yml", "sources:\n  - name: shop\n    schema: shop\n    tables:\n      - name: grown\n        config:\n          freshness: {warn_after: {count: 1, period: day}}\n");
    run(&project, "build").success();
    let shown = run(&project, "show --select customers --limit 1").success();
    assert!(shown.stdout.contains("Previewing node 'customers'") && shown.stdout.contains("total"), "{}", shown.stdout);
    let json = run(&project, "show --inline select/**/1/**/as/**/a --output json").success();
    let document: Value = serde_json::from_str(json.stdout.trim()).unwrap();
    assert_eq!(document["show"][0]["a"], 1);
    let grown = project.run(["run-operation", "grow", "--args", "{name: grown}"]).success();
    assert!(grown.stdout.contains("made grown"), "{}", grown.stdout);
    project.run(["query", "insert into shop.grown values (1)"]).success();
    run(&project, "source freshness").success();
    let sources: Value =
        serde_json::from_str(&fs_err::read_to_string(project.path().join("target/sources.json")).unwrap()).unwrap();
    assert_eq!(sources["results"][0]["status"], "pass");
    run(&project, "docs generate").success();
    let catalog: Value =
        serde_json::from_str(&fs_err::read_to_string(project.path().join("target/catalog.json")).unwrap()).unwrap();
    assert_eq!(catalog["nodes"]["model.shop.customers"]["columns"]["customer"]["type"], "String");
    assert_eq!(catalog["nodes"]["model.shop.customers"]["stats"]["num_rows"]["value"], 2);
    // Another schema, from the artifacts of this one.
    fs_err::rename(project.path().join("target"), project.path().join("state")).unwrap();
    project.write(
        "profiles.yml",
        "shop:\n  target: dev\n  outputs:\n    dev: {type: clickhouse, driver: embedded, path: warehouse, schema: copy, threads: 1}\n",
    );
    run(&project, "clone --state state").success();
    assert_eq!(query(&project, "select sum(orders) from copy.customers"), ["3"]);
    assert_eq!(
        query(
            &project,
            "select engine from system.tables where database = 'copy' and name in ('customers', 'stg_orders') order by name"
        ),
        ["MergeTree", "View"]
    );
}

/// Runs a command, and answers the most memory that it had at a time, in MB.
fn peak_of(project: &Project, command: &str) -> u64 {
    let mut child = project.command();
    let mut child = child.args(command.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // A process that has ended has no such line.
        let text = fs_err::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = line.map_or(peak, |kilobytes| kilobytes.parse().unwrap());
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{command}: {ended}");
            return peak / 1024;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Seeds as people write them: a mark at the beginning, semicolons, quotes, lines within values; and a million rows, which
/// stream: the process that loads them needs less memory than the file has bytes, beside what the engine itself does.
#[test]
fn seeds_of_every_kind_arrive() {
    let project = shop();
    project.write(
        "dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\nseeds: {shop: {odd: {+delimiter: ';'}, many: {+order_by: n}}}\n",
    );
    project.write("seeds/odd.csv", "\u{feff}id;born;big;text\n1;1950-05-13;3000000000;\"a; \"\"b\"\"\nc\"\n2;;;\"\"\n");
    let mut many = BufWriter::new(fs_err::File::create(project.path().join("seeds/many.csv")).unwrap());
    many.write_all(b"n,word\n").unwrap();
    for number in 0..1_000_000 {
        writeln!(many, "{number},{:w<400}", number % 7).unwrap();
    }
    drop(many);
    let engine = peak_of(&project, "seed --select odd");
    let all = peak_of(&project, "seed --select odd many");
    // The file has 407 MB. Some 190 MB are needed: blocks under way, their sorting, the merges of parts.
    assert!(all < engine + 340, "{all} MB with a million rows, {engine} MB without");
    assert_eq!(
        query(&project, "select *, toTypeName(born), toTypeName(big) from shop.odd order by id"),
        [
            "1\t1950-05-13\t3000000000\ta; \"b\"\\nc\tNullable(Date32)\tNullable(Int64)",
            "2\t\\N\t\\N\t\tNullable(Date32)\tNullable(Int64)"
        ]
    );
    assert_eq!(query(&project, "select count(), sum(n), uniq(word) from shop.many"), ["1000000\t499999500000\t7"]);
}

/// Fixtures of unit tests may be files.
#[test]
fn unit_tests_read_fixture_files() {
    let project = shop()
        .file("tests/fixtures/given_orders.csv", "id,customer,amount\n1,ann,1.5\n2,ann,2.0\n")
        .file("tests/fixtures/sums.sql", "select 'ann' as customer, 3.5 as total, 2 as orders\n")
        .file(
            "models/unit.yml",
            "unit_tests:\n  - name: from_files\n    model: customers\n    given: [{input: ref('stg_orders'), format: csv, fixture: given_orders}]\n    expect: {format: sql, fixture: sums}\n",
        );
    run(&project, "seed").success();
    run(&project, "run --select stg_orders").success();
    let outcome = run(&project, "build --select customers").success();
    assert!(outcome.stdout.contains("PASS customers::from_files"), "{}", outcome.stdout);
}

/// Fixtures hold values of every type: as dbt writes them, as text, and left out.
#[test]
fn unit_tests_hold_values_of_every_type() {
    let project = shop()
        .file(
            "models/typed.sql",
            "{{ config(materialized='table') }}\nselect 1::Int32 as id, map('k', 1.5::Decimal(9, 2)) as m, tuple(1, null)::Tuple(a UInt8, b Nullable(String)) as t, [tuple(1::UInt8)]::Array(Tuple(a UInt8)) as ts, '{\"a\": 1}'::JSON as j, 'x'::LowCardinality(Nullable(String)) as l, 'on'::Enum8('off' = 0, 'on' = 1) as e, '1.2.3.4'::IPv4 as ip, '61f0c404-5cb3-11e7-907b-a6006ad3dba0'::UUID as u, '1950-05-13'::Date32 as d, '2024-01-01 00:00:00.123'::DateTime64(3, 'UTC') as at, true as f, ['a']::Array(String) as strings\n",
        )
        .file(
            "models/same.sql",
            "{{ config(materialized='view') }}\nselect * from {{ ref('typed') }}\n",
        )
        .file(
            "models/typed.yml",
            r#"unit_tests:
  - name: mappings
    model: same
    given:
      - input: ref('typed')
        rows:
          - {id: 1, m: {k: 1.5}, t: {a: 2, b: it's}, ts: [{a: 1}, {a: 2}], j: {a: {b: [1]}}, l: null, e: 'on', ip: 1.2.3.4, u: 61f0c404-5cb3-11e7-907b-a6006ad3dba0, d: '1950-05-13', at: '2024-01-01 00:00:00.123', f: true, strings: [it's, b]}
          - {id: 2}
    expect:
      rows:
        - {id: 1, m: "{'k': 1.5}", t: "(2, 'it\\'s')", ts: "[(1), (2)]", j: '{"a": {"b": [1]}}', l: null, e: 1, ip: 1.2.3.4, u: 61f0c404-5cb3-11e7-907b-a6006ad3dba0, d: '1950-05-13', at: '2024-01-01 00:00:00.123', f: 1, strings: "['it\\'s', 'b']"}
        - {id: 2, m: {}, t: {a: 0, b: null}, ts: [], j: {}, l: null, e: 'off', ip: 0.0.0.0, u: 00000000-0000-0000-0000-000000000000, d: '1900-01-01', at: '1970-01-01 00:00:00', f: false, strings: []}
  - name: csv
    model: same
    given:
      - input: ref('typed')
        format: csv
        rows: |
          id,m,d
          1,"{'k': 2}",1950-05-13
    expect:
      format: csv
      rows: |
        id,m,d
        1,"{'k': 2.00}",1950-05-13
"#,
        );
    run(&project, "run --select typed").success();
    let outcome = run(&project, "test --select same").success();
    for name in ["mappings", "csv"] {
        assert!(outcome.stdout.contains(&format!("PASS same::{name}")), "{}", outcome.stdout);
    }
}

/// Of many failing rows the first are shown, and how to see the others.
#[test]
fn a_failing_test_says_how_to_see_all_rows() {
    let project = shop().file("tests/many.sql", "select number as n from numbers(25)\n");
    let outcome = run(&project, "test --select many");
    assert_eq!(outcome.code, Some(1));
    let hint = "the first 10; to see all of them: chpipe ";
    let command = outcome.stdout.lines().find_map(|line| Some(line.split_once(hint)?.1.to_owned())).unwrap();
    let shown = run(&project, &command).success();
    assert!(shown.stdout.contains(" 24"), "{}", shown.stdout);
}

/// A materialization of the project's own is run through the renderer.
#[test]
fn a_project_brings_its_own_materialization() {
    let project = shop().file(
        "macros/logged.sql",
        "{% materialization logged, default %}{{ run_hooks(pre_hooks) }}{% call statement('main') %}create or replace table {{ this }} engine = MergeTree order by tuple() as {{ sql }}{% endcall %}{{ return({'relations': [this]}) }}{% endmaterialization %}\n",
    );
    project.write("models/own.sql", "{{ config(materialized='logged') }}\nselect 7 as n\n");
    run(&project, "run --select own").success();
    assert_eq!(query(&project, "select n from shop.own"), ["7"]);
}

/// `--empty` makes every relation without rows, and adds none to what is there.
#[test]
fn empty_runs_make_relations_without_rows() {
    let project = shop()
        .file("models/day.sql", "{{ config(materialized='materialized_view', order_by='id') }}\nselect id, day from {{ ref('orders') }}\n")
        .file("models/latest.sql", "{{ config(materialized='incremental', incremental_strategy='delete_insert', unique_key='id', order_by='id') }}\nselect id, customer from {{ ref('orders') }}\n")
        .file("models/parted.sql", "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='customer', order_by='id') }}\nselect id, customer from {{ ref('orders') }}\n");
    let tables = ["customers", "events", "latest", "parted"];
    let counts = || {
        let each: Vec<String> =
            tables.iter().map(|table| format!("select '{table}' as name, count() from shop.{table}")).collect();
        query(&project, &format!("select * from ({}) order by name", each.join(" union all ")))
    };
    run(&project, "seed").success();
    run(&project, "run --empty").success();
    assert_eq!(counts(), tables.map(|table| format!("{table}\t0")));
    assert_eq!(query(&project, "select count() from shop.day"), ["0"]);
    run(&project, "run").success();
    let full = counts();
    assert_eq!(full, ["customers\t2", "events\t3", "latest\t3", "parted\t3"]);
    // What is made anew is empty; what is only added to stays.
    run(&project, "run --empty").success();
    assert_eq!(counts(), ["customers\t0", "events\t3", "latest\t3", "parted\t3"]);
}
