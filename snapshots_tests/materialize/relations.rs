//! view, table, incremental, materialized view and seed, one model at a time.

use std::sync::Arc;

use chpipe::{
    adapter::{Adapter, Catalog},
    materialize::{Batch, MaterializeError, Model, Outcome, Seed, load_seed, materialization},
    project::{Node, Relation},
};
use serde_json::json;

use super::{
    adapter, node,
    node::{column, rows},
};

fn model<'a>(node: &'a Node, relation: &'a Relation, sql: &'a str, full_refresh: bool) -> Model<'a> {
    let (empty, batch) = (false, None);
    Model {
        node,
        relation,
        sql,
        full_refresh,
        empty,
        invocation: "0a1b2c3d",
        batch,
        feeding_views: &[],
        replaced_views: &[],
    }
}

fn run(adapter: &mut Adapter, node: &Node, sql: &str, full_refresh: bool) -> Result<Outcome, MaterializeError> {
    let relation = node.relation();
    materialization(node.materialized())?.materialize(&model(node, &relation, sql, full_refresh), adapter)
}

fn tables(adapter: &mut Adapter, database: &str) -> Vec<String> {
    rows(adapter, &format!("SELECT name, engine FROM system.tables WHERE database = '{database}' ORDER BY name"))
}

/// A view replaces a view, a table replaces it, and a view replaces that; nothing is left beside them.
#[test]
fn view_and_table_replace_each_other() {
    let mut adapter = adapter("m_view_table");
    let view = node("m_view_table", "a", json!({"materialized": "view"}));
    let table = node("m_view_table", "a", json!({"materialized": "table", "order_by": "n", "partition_by": ["n % 2"]}));
    run(&mut adapter, &view, "select 1 as n", false).unwrap();
    run(&mut adapter, &view, "select 2 as n", false).unwrap();
    assert_eq!(rows(&mut adapter, "SELECT n FROM m_view_table.a"), ["2"]);
    run(&mut adapter, &table, "select number as n from numbers(4)", false).unwrap();
    assert_eq!(tables(&mut adapter, "m_view_table"), ["a MergeTree"]);
    run(&mut adapter, &table, "select number as n, 'x' as t from numbers(5)", false).unwrap();
    assert_eq!(rows(&mut adapter, "SELECT count(), any(t) FROM m_view_table.a"), ["5 x"]);
    run(&mut adapter, &view, "with q as (select 3 as n) select * from q", false).unwrap();
    assert_eq!(tables(&mut adapter, "m_view_table"), ["a View"]);
}

/// Others make and drop relations after the listing of a run was made: each node finds out, and does what it would have.
#[test]
fn an_outdated_listing_does_no_harm() {
    let database = "m_listing";
    let mut adapter = adapter(database);
    let list = |adapter: &mut Adapter| {
        let mut databases = adapter.databases().unwrap();
        databases.retain(|name, _| name == database);
        let listed = adapter.relations_in(&databases).unwrap();
        Arc::new(Catalog::new(databases, listed))
    };
    let model = |name: &str, kind: &str| node(database, name, json!({"materialized": kind, "order_by": "n"}));
    let statements = [
        "CREATE TABLE m_listing.made (x UInt8) ENGINE = Memory",
        "CREATE TABLE m_listing.viewed (x UInt8) ENGINE = Memory",
        "DROP TABLE m_listing.dropped",
    ];
    run(&mut adapter, &model("dropped", "table"), "select 1 as n", false).unwrap();
    let catalog = list(&mut adapter);
    adapter.set_catalog(catalog);
    for statement in statements {
        adapter.execute(statement).unwrap();
    }
    for (name, kind) in [("made", "table"), ("viewed", "view"), ("dropped", "table")] {
        run(&mut adapter, &model(name, kind), "select 2 as n", false).unwrap();
        assert_eq!(rows(&mut adapter, &format!("SELECT n FROM m_listing.{name}")), ["2"]);
    }
    assert_eq!(tables(&mut adapter, database), ["dropped MergeTree", "made MergeTree", "viewed View"]);
    // A statement of the project's own ends the belief at once: this one would be told to drop what is no view any more.
    let catalog = list(&mut adapter);
    assert!(catalog.first_look(&Relation::new(database, "viewed")).flatten().is_some());
    assert!(catalog.first_look(&Relation::new(database, "viewed")).is_none(), "believed once");
    adapter.set_catalog(Arc::clone(&catalog));
    adapter.execute_of_project("SELECT 1").unwrap();
    assert!(catalog.first_look(&Relation::new(database, "made")).is_some());
    adapter.execute_of_project("DROP VIEW m_listing.viewed").unwrap();
    assert!(catalog.first_look(&Relation::new(database, "dropped")).is_none());
}

/// All table-level and column-level configs arrive in the DDL.
#[test]
fn table_configs_are_in_the_ddl() {
    let mut adapter = adapter("m_configs");
    let mut model = node(
        "m_configs",
        "t",
        json!({
            "materialized": "table",
            "engine": "ReplacingMergeTree(v)",
            "order_by": ["id", "day"],
            "primary_key": "id",
            "partition_by": "toYYYYMM(day)",
            "ttl": "day + INTERVAL 90 YEAR",
            "settings": {"index_granularity": 4096},
            "indexes": [{"name": "i", "definition": "v TYPE minmax GRANULARITY 2"}],
            "projections": [{"name": "p", "query": "SELECT v, count() GROUP BY v"}],
            "persist_docs": {"relation": true, "columns": true},
        }),
    );
    model.config.0["settings"]["deduplicate_merge_projection_mode"] = json!("drop");
    model.columns = [
        column("v", "It's the version", json!({"codec": "Delta, ZSTD(3)"})),
        column("note", "", json!({"ttl": "day + INTERVAL 95 YEAR"})),
    ]
    .into();
    let query = "select toInt32(1) as id, toDate('2024-01-01') as day, toUInt32(1) as v, 'x' as note";
    run(&mut adapter, &model, query, false).unwrap();
    let ddl = rows(&mut adapter, "SHOW CREATE TABLE m_configs.t").join("\n");
    for expected in [
        "`v` UInt32 COMMENT 'It\\'s the version' CODEC(Delta(4), ZSTD(3))",
        "`note` String TTL day + toIntervalYear(95)",
        "INDEX i v TYPE minmax GRANULARITY 2",
        "PROJECTION p",
        "ENGINE = ReplacingMergeTree(v)",
        "PARTITION BY toYYYYMM(day)",
        "PRIMARY KEY id",
        "ORDER BY (id, day)",
        "TTL day + toIntervalYear(90)",
        "index_granularity = 4096",
        "COMMENT 'A model of a test'",
    ] {
        assert!(ddl.contains(expected), "`{expected}` is not in\n{ddl}");
    }
}

/// The rows of an incremental table after a second run, by strategy.
#[test]
fn incremental_strategies_meet_existing_rows() {
    let mut adapter = adapter("m_incremental");
    let cases = [
        (json!({"incremental_strategy": "append"}), vec!["1 a", "2 b", "2 B", "3 C"]),
        (json!({"incremental_strategy": "delete_insert", "unique_key": "id"}), vec!["1 a", "2 B", "3 C"]),
        (json!({"incremental_strategy": "delete+insert", "unique_key": ["id"]}), vec!["1 a", "2 B", "3 C"]),
        (json!({"incremental_strategy": "legacy", "unique_key": "id"}), vec!["1 a", "2 B", "3 C"]),
        (json!({"unique_key": "id", "inserts_only": true}), vec!["1 a", "2 b", "2 B", "3 C"]),
        (
            json!({"incremental_strategy": "delete_insert", "unique_key": "id", "incremental_predicates": ["id > 2"]}),
            vec!["1 a", "2 b", "2 B", "3 C"],
        ),
        (json!({"incremental_strategy": "insert_overwrite", "partition_by": "id"}), vec!["1 a", "2 B", "3 C"]),
    ];
    for (index, (mut config, expected)) in cases.into_iter().enumerate() {
        config["materialized"] = json!("incremental");
        config["order_by"] = json!("id");
        let name = format!("t{index}");
        let model = node("m_incremental", &name, config.clone());
        let first = "select * from values('id Int32, v String', (1, 'a'), (2, 'b'))";
        // The second run's columns stand the other way round: they are matched by name.
        let second = "select v, id from values('id Int32, v String', (2, 'B'), (3, 'C'))";
        run(&mut adapter, &model, first, false).unwrap();
        run(&mut adapter, &model, second, false).unwrap();
        let query = format!("SELECT id, v FROM m_incremental.{name} ORDER BY id, v DESC");
        assert_eq!(rows(&mut adapter, &query), expected, "{config}");
        run(&mut adapter, &model, second, true).unwrap();
        assert_eq!(rows(&mut adapter, &query), ["2 B", "3 C"], "{config}");
    }
    assert_eq!(tables(&mut adapter, "m_incremental").len(), 7, "nothing is left behind");
}

/// What the configuration no longer has goes from the table too.
#[test]
fn configs_that_are_gone_are_taken_back() {
    let mut adapter = adapter("m_taken_back");
    let base = json!({"materialized": "incremental", "incremental_strategy": "append", "order_by": "id"});
    let mut full = base.clone();
    full["settings"] = json!({"min_bytes_for_wide_part": 1000});
    full["ttl"] = json!("toDate(id) + INTERVAL 90 YEAR");
    full["indexes"] = json!([{"name": "i", "definition": "id TYPE minmax GRANULARITY 1"}]);
    full["projections"] = json!([{"name": "p", "query": "SELECT id ORDER BY id"}]);
    let query = "select toInt32(1) as id";
    run(&mut adapter, &node("m_taken_back", "t", full), query, false).unwrap();
    let outcome = run(&mut adapter, &node("m_taken_back", "t", base.clone()), query, false).unwrap();
    assert_eq!(outcome.notes, ["1 setting reset", "indexes changed", "projections changed", "ttl changed"]);
    let ddl = rows(&mut adapter, "SELECT create_table_query FROM system.tables WHERE database = 'm_taken_back'");
    let plain =
        "CREATE TABLE m_taken_back.t (`id` Int32) ENGINE = MergeTree ORDER BY id SETTINGS index_granularity = 8192";
    assert_eq!(ddl, [plain]);
    assert_eq!(run(&mut adapter, &node("m_taken_back", "t", base), query, false).unwrap().notes, [""; 0]);
}

/// `on_schema_change` holds for every strategy, append included.
#[test]
fn schema_changes_follow_the_policy() {
    let mut adapter = adapter("m_schema");
    for strategy in ["append", "delete_insert", "legacy", "insert_overwrite", "microbatch"] {
        let mut run = |policy: &str, id: u8, columns: &str| {
            let mut config = json!({
                "materialized": "incremental", "incremental_strategy": strategy, "on_schema_change": policy, "order_by": "id",
            });
            match strategy {
                "insert_overwrite" => config["partition_by"] = json!("id"),
                "microbatch" => {}
                _ => config["unique_key"] = json!("id"),
            }
            let node = node("m_schema", &format!("t_{strategy}"), config);
            let batch = Batch {
                name: format!("b{id}"),
                event_time: "toDateTime(id, 'UTC')".into(),
                start: format!("1970-01-01 00:00:0{id}"),
                end: format!("1970-01-01 00:00:0{}", id + 1),
            };
            let relation = node.relation();
            let sql = format!("select toInt32({id}) as id, {columns}");
            let batch = (strategy == "microbatch").then_some(&batch);
            let model = Model { batch, ..model(&node, &relation, &sql, false) };
            materialization("incremental").unwrap().materialize(&model, &mut adapter)
        };
        let wide = "toInt64(5) as n, 'new' as extra";
        run("ignore", 1, "toInt32(4) as n, 'x' as gone").unwrap();
        let failed = run("fail", 2, wide).unwrap_err().to_string();
        for part in ["`extra` String: in the query only", "`gone` String: in the table only", "`n`: Int32 in the table"]
        {
            assert!(failed.contains(part), "{failed}");
        }
        let dropping = run("append_new_columns", 2, wide).unwrap_err().to_string();
        assert!(dropping.contains("`gone` String: in the table only"), "{dropping}");
        let appended = run("append_new_columns", 2, "toInt32(5) as n, 'y' as gone, 6 as more").unwrap();
        assert_eq!(appended.notes, ["1 column added"], "{strategy}");
        let synced = run("sync_all_columns", 3, wide).unwrap();
        assert_eq!(synced.notes, ["1 column added", "2 columns dropped", "1 column retyped"], "{strategy}");
        run("ignore", 4, "1 as unknown").unwrap();
        let table = format!("m_schema.t_{strategy}");
        assert_eq!(
            rows(&mut adapter, &format!("SELECT id, n, extra, toTypeName(n) FROM {table} ORDER BY id")),
            ["1 4  Int64", "2 5  Int64", "3 5 new Int64", "4 0  Int64"],
            "{strategy}"
        );
    }
}

/// The target of a materialized view follows the same policies, and its view is changed in place.
#[test]
fn schema_changes_of_a_materialized_view_follow_the_policy() {
    let mut adapter = adapter("m_mv_schema");
    adapter.execute("CREATE TABLE m_mv_schema.src (id Int32) ENGINE = MergeTree ORDER BY id").unwrap();
    let run = |adapter: &mut Adapter, policy: &str, id: u8, columns: &str| {
        let config = json!({"materialized": "materialized_view", "on_schema_change": policy, "order_by": "id"});
        let node = node("m_mv_schema", "t", config);
        let outcome = run(adapter, &node, &format!("select id, {columns} from m_mv_schema.src"), false);
        adapter.execute(&format!("INSERT INTO m_mv_schema.src VALUES ({id})")).unwrap();
        outcome
    };
    let wide = "toInt64(5) as n, 'new' as extra";
    run(&mut adapter, "ignore", 1, "toInt32(4) as n, 'x' as gone").unwrap();
    let failed = run(&mut adapter, "fail", 2, wide).unwrap_err().to_string();
    assert!(failed.contains("`extra` String: in the query only"), "{failed}");
    run(&mut adapter, "append_new_columns", 3, wide).unwrap_err();
    let appended = run(&mut adapter, "append_new_columns", 4, "toInt32(5) as n, 'y' as gone, 6 as more").unwrap();
    assert_eq!(appended.notes, ["1 column added"]);
    let synced = run(&mut adapter, "sync_all_columns", 5, wide).unwrap();
    assert_eq!(synced.notes, ["1 column added", "2 columns dropped", "1 column retyped"]);
    run(&mut adapter, "ignore", 6, "toInt64(7) as n, 1 as unknown").unwrap();
    assert_eq!(
        rows(&mut adapter, "SELECT id, n, extra, toTypeName(n) FROM m_mv_schema.t ORDER BY id"),
        ["1 4  Int64", "2 4  Int64", "3 4  Int64", "4 5  Int64", "5 5 new Int64", "6 7  Int64"]
    );
}

/// A contract names what differs, and orders the columns.
#[test]
fn contracts_show_each_difference() {
    let mut adapter = adapter("m_contract");
    let mut model = node("m_contract", "t", json!({"materialized": "table", "contract": {"enforced": true}}));
    model.columns = [
        column("a", "", json!({"data_type": "Int32"})),
        column("b", "", json!({"data_type": "decimal(9,2)"})),
        column("c", "", json!({"data_type": "LowCardinality(String)"})),
    ]
    .into();
    model.constraints = vec![json!({"type": "check", "name": "positive", "expression": "a > 0"})];
    let failed = run(&mut adapter, &model, "select toInt64(1) as a, 2 as d", false).unwrap_err().to_string();
    assert_eq!(
        failed,
        "this contract does not hold:\n  `a`: declared Int32, found Int64\n  `b` Decimal(9, 2): not in the query\n  \
         `c` LowCardinality(String): not in the query\n  `d` UInt8: not in the contract"
    );
    let right = "select toLowCardinality('x') as c, toDecimal32(1.5, 2) as b, toInt32(1) as a";
    run(&mut adapter, &model, right, false).unwrap();
    assert_eq!(rows(&mut adapter, "SELECT * FROM m_contract.t"), ["1 1.50 x"]);
    let negative = run(&mut adapter, &model, &right.replace("toInt32(1)", "toInt32(-1)"), false).unwrap_err();
    assert!(negative.to_string().contains("VIOLATED_CONSTRAINT"), "{negative}");
    assert_eq!(rows(&mut adapter, "SELECT a FROM m_contract.t"), ["1"], "the old table is still there");
}

/// The view's target holds what was there before and what comes after, through a redeployment with another query.
#[test]
fn materialized_view_catches_up_and_goes_on() {
    let mut adapter = adapter("m_mv");
    adapter.execute("CREATE TABLE m_mv.src (id Int32) ENGINE = MergeTree ORDER BY id").unwrap();
    adapter.execute("INSERT INTO m_mv.src VALUES (1), (2)").unwrap();
    let model = node("m_mv", "t", json!({"materialized": "materialized_view", "order_by": "id"}));
    run(&mut adapter, &model, "select id, 'a' as v from m_mv.src", false).unwrap();
    adapter.execute("INSERT INTO m_mv.src VALUES (3)").unwrap();
    assert_eq!(rows(&mut adapter, "SELECT * FROM m_mv.t ORDER BY id"), ["1 a", "2 a", "3 a"]);
    run(&mut adapter, &model, "select id, 'b' as v from m_mv.src", false).unwrap();
    adapter.execute("INSERT INTO m_mv.src VALUES (4)").unwrap();
    assert_eq!(rows(&mut adapter, "SELECT * FROM m_mv.t ORDER BY id"), ["1 a", "2 a", "3 a", "4 b"]);
    run(&mut adapter, &model, "select id, 'c' as v from m_mv.src", true).unwrap();
    adapter.execute("INSERT INTO m_mv.src VALUES (5)").unwrap();
    assert_eq!(rows(&mut adapter, "SELECT * FROM m_mv.t ORDER BY id"), ["1 c", "2 c", "3 c", "4 c", "5 c"]);
    assert_eq!(tables(&mut adapter, "m_mv"), ["src MergeTree", "t MergeTree", "t_mv MaterializedView"]);
}

/// A seed arrives as written, and a second load replaces it.
#[test]
fn seeds_arrive_as_written() {
    let mut adapter = adapter("m_seed");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.csv");
    let csv = "id,born,big,at,ok,ratio,note\n1,1950-05-13,3000000000,1950-05-13T14:30:00.5Z,true,1.25,\"a, \"\"b\"\"\"\n2,,,,,,\n";
    fs_err::write(&path, csv).unwrap();
    let seed_node =
        node("m_seed", "s", json!({"materialized": "seed", "column_types": {"note": "LowCardinality(String)"}}));
    let types = seed_node.config.map("column_types");
    for _ in 0..2 {
        let seed = Seed::open(&path, None, types).unwrap();
        let relation = seed_node.relation();
        load_seed(&model(&seed_node, &relation, "", false), &mut adapter, &seed).unwrap();
    }
    assert_eq!(
        rows(&mut adapter, "SELECT name, type FROM system.columns WHERE database = 'm_seed' ORDER BY position"),
        [
            "id Int64",
            "born Nullable(Date32)",
            "big Nullable(Int64)",
            "at Nullable(DateTime64(3, 'UTC'))",
            "ok Nullable(Bool)",
            "ratio Nullable(Float64)",
            "note LowCardinality(String)"
        ]
    );
    assert_eq!(
        rows(&mut adapter, "SELECT id, toString(born), big, toString(at), ok, ratio, note FROM m_seed.s ORDER BY id"),
        ["1 1950-05-13 3000000000 1950-05-13 14:30:00.500 true 1.25 a, \"b\"", "2 \\N \\N \\N \\N \\N "]
    );
}
