//! Small things that dbt-clickhouse or dbt-core get wrong, and that docs/compatibility.md lists.

use super::project::{artifact, query, run, shop};

/// A hook outside of a transaction runs, and first.
#[test]
fn hooks_outside_of_a_transaction_run() {
    let project = shop();
    project.write(
        "models/hooked.sql",
        "{{ config(materialized='table', pre_hook=[\"insert into shop.log select 2, 'inside'\", {'sql': \"create table shop.log (n UInt8, what String) engine = MergeTree order by n\", 'transaction': false}], post_hook={'sql': \"insert into shop.log select 3, 'after'\", 'transaction': false}) }}\nselect 1 as n\n",
    );
    run(&project, "run --select hooked").success();
    assert_eq!(query(&project, "select what from shop.log order by n"), ["inside", "after"]);
}

/// Ephemeral models stand before the statement, wherever else a `with` is.
#[test]
fn ephemeral_models_stand_before_other_withs() {
    let project = shop();
    project.write(
        "models/totals.sql",
        "{{ config(materialized='table') }}\nselect customer, count() as orders from {{ ref('eph') }} group by customer with totals\n",
    );
    project.write(
        "models/filled.sql",
        "select id from {{ ref('eph') }} where id != 2 order by id with fill from 0 to 5\n",
    );
    run(&project, "seed").success();
    run(&project, "run --select stg_orders totals filled").success();
    assert_eq!(query(&project, "select * from shop.totals order by 1"), ["ann\t2", "bob\t1"]);
    assert_eq!(query(&project, "select groupArray(id) from shop.filled"), ["[0,1,2,3,4]"]);
}

/// What failed and is disabled by now is left out of `retry`; the rest is done.
#[test]
fn a_disabled_node_does_not_end_a_retry() {
    let project = shop();
    for name in ["broken", "mended"] {
        project.write(&format!("models/{name}.sql"), "select no_such_column\n");
    }
    assert_eq!(run(&project, "run --select broken mended").code, Some(1));
    project.write("models/broken.sql", "{{ config(enabled=false) }}\nselect no_such_column\n");
    project.write("models/mended.sql", "select 1 as n\n");
    run(&project, "retry").success();
    assert_eq!(query(&project, "select n from shop.mended"), ["1"]);
}

/// Statements of two versions of a model have ids of their own.
#[test]
fn query_ids_tell_versions_apart() {
    let project = shop()
        .file("models/told_v1.sql", "select 1 as n\n")
        .file("models/told_v2.sql", "select 2 as n\n")
        .file("models/told.yml", "models: [{name: told, latest_version: 2, versions: [{v: 1}, {v: 2}]}]\n");
    run(&project, "run --select told").success();
    let results = artifact(&project, "run_results.json")["results"].clone();
    let mut ids: Vec<&str> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["adapter_response"]["query_id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert!(ids.len() == 2 && ids[0].contains("told.v1") && ids[1].contains("told.v2"), "{ids:?}");
}

/// `--warn-error` is about warnings of the project, not about how its files are written.
#[test]
fn warnings_become_errors_on_request() {
    let project = shop();
    run(&project, "seed").success();
    project.write(
        "models/schema.yml",
        "models:\n  - name: stg_orders\n    columns:\n      - name: customer\n        tests:\n          - unique: {severity: warn}\n",
    );
    // `tests:` is deprecated in dbt.
    run(&project, "run --select stg_orders --warn-error").success();
    run(&project, "test --select stg_orders,test_type:generic").success();
    assert_eq!(run(&project, "test --select stg_orders,test_type:generic --warn-error").code, Some(1));
}

/// An object store without TLS can be named.
#[test]
fn an_s3_source_keeps_its_scheme() {
    let project = shop();
    let source = "{{ clickhouse_s3source(bucket='http://127.0.0.1:9000/lake', path='/orders/*.csv', fmt='CSV', structure=['id Int64']) }}";
    project.write("models/remote.sql", &format!("select * from {source}\n"));
    run(&project, "compile --select remote").success();
    let compiled = fs_err::read_to_string(project.path().join("target/compiled/shop/models/remote.sql")).unwrap();
    assert!(compiled.contains("s3('http://127.0.0.1:9000/lake/orders/*.csv', 'CSV'"), "{compiled}");
}

/// `show` of a seed reads its table, and loads nothing.
#[test]
fn show_of_a_seed_changes_nothing() {
    let project = shop();
    run(&project, "seed").success();
    project.write("seeds/orders.csv", "id,customer,amount,day\n7,eve,1,2024-01-01\n");
    let shown = run(&project, "show --select orders --limit 2").success().stdout;
    assert!(shown.contains("ann") && !shown.contains("eve"), "{shown}");
    assert_eq!(query(&project, "select count() from shop.orders"), ["3"]);
}
