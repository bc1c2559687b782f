//! What the embedded engine lacks: other servers and users. Statements that speak of them are written down as they are, for a
//! golden, and run as what it can do: on a cluster of itself alone, without ON CLUSTER; rows of a table in the place of
//! grants.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use chpipe::{
    adapter::{Adapter, AdapterOptions},
    engine::{
        BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session,
        dying::{Death, DyingEngine},
    },
    materialize::{Model, apply_grants, drop_leftovers, materialization, recover},
    project::{Node, Relation},
};
use regex::Regex;
use serde_json::{Value, json};

use super::{node, node::rows, templates};

type Log = Arc<Mutex<Vec<String>>>;

/// A database of the shared engine, as a server with the cluster `shards`.
struct Cluster {
    inner: Arc<dyn Engine>,
    capabilities: Capabilities,
    database: String,
    log: Log,
}

impl Engine for Cluster {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        let (inner, database) = (self.inner.connect()?, self.database.clone());
        Ok(Box::new(OnCluster { inner, database, log: Arc::clone(&self.log) }))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        self.inner.cancel(query_id)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

struct OnCluster {
    inner: Box<dyn Session>,
    database: String,
    log: Log,
}

impl OnCluster {
    /// The statement as this engine can run it.
    fn translated(&self, sql: &str) -> String {
        let sql = sql.replace(" ON CLUSTER `shards`", "").replace("'shards'", "'default'");
        let sql = sql.replace("system.grants", &format!("{}.grants", self.database));
        let access = Regex::new(r"^(GRANT|REVOKE) (\w+) ON `(\w+)`\.`(\w+)` (?:TO|FROM) `(\w+)`$").unwrap();
        let Some(found) = access.captures(&sql) else { return sql };
        let (privilege, database, table, grantee) = (&found[2], &found[3], &found[4], &found[5]);
        if &found[1] == "GRANT" {
            format!(
                "INSERT INTO {0}.grants VALUES ('{privilege}', '{grantee}', NULL, '{database}', '{table}')",
                self.database
            )
        } else {
            format!(
                "DELETE FROM {0}.grants WHERE access_type = '{privilege}' AND user_name = '{grantee}' AND table = '{table}'",
                self.database
            )
        }
    }
}

impl Session for OnCluster {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        if !sql.starts_with("SET ") {
            self.log.lock().unwrap().push(sql.to_owned());
        }
        self.inner.execute(&self.translated(sql), options)
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        let sql = self.translated(sql);
        self.inner.query(&sql, options)
    }

    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        self.inner.query_format(sql, format, options, out)
    }

    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        self.inner.insert(statement, schema, batches, options)
    }
}

/// Such a database, and the record of its statements.
fn engine(database: &str) -> (Arc<dyn Engine>, Log) {
    let inner = chpipe::engine::testing::shared();
    drop(chpipe::engine::testing::session(database));
    let log = Log::default();
    let capabilities = Capabilities { access_management: true, ..inner.capabilities().clone() };
    (Arc::new(Cluster { inner, capabilities, database: database.to_owned(), log: Arc::clone(&log) }), log)
}

fn adapter(engine: &Arc<dyn Engine>, cluster: bool) -> Adapter {
    let options = AdapterOptions { cluster: cluster.then(|| "shards".to_owned()), ..AdapterOptions::embedded() };
    Adapter::connect(engine, &options, &templates(), "test").unwrap()
}

/// An adapter on such a database, and the record of its statements.
fn cluster(database: &str, cluster: bool) -> (Adapter, Log) {
    let (engine, log) = engine(database);
    let mut adapter = adapter(&engine, cluster);
    adapter
        .execute(&format!(
            "CREATE TABLE {database}.grants (access_type String, user_name Nullable(String), role_name Nullable(String), \
             database String, table String) ENGINE = MergeTree ORDER BY access_type"
        ))
        .unwrap();
    log.lock().unwrap().clear();
    (adapter, log)
}

fn model<'a>(node: &'a Node, relation: &'a Relation, sql: &'a str, invocation: &'a str) -> Model<'a> {
    Model {
        node,
        relation,
        sql,
        full_refresh: false,
        empty: false,
        invocation,
        batch: None,
        feeding_views: &[],
        replaced_views: &[],
    }
}

/// Runs the model, and answers its statements.
fn run(adapter: &mut Adapter, log: &Log, node: &Node, sql: &str, full_refresh: bool) -> String {
    let relation = node.relation();
    let model = Model { full_refresh, ..model(node, &relation, sql, "0a1b2c3d") };
    materialization(node.materialized()).unwrap().materialize(&model, adapter).unwrap();
    apply_grants(&model, adapter).unwrap();
    let statements = std::mem::take(&mut *log.lock().unwrap());
    statements.iter().map(|sql| format!("{sql};\n")).collect()
}

/// Every statement of a golden is one that the engine can read, also where it cannot carry it out.
fn assert_readable(text: &str) {
    let mut session = chpipe::engine::testing::shared().connect().unwrap();
    let statements = text.split(";\n").map(|statement| {
        let lines = statement.lines().filter(|line| !line.starts_with("-- ") && !line.trim().is_empty());
        lines.collect::<Vec<_>>().join("\n")
    });
    for statement in statements.filter(|statement| !statement.is_empty()) {
        let sql = format!("SELECT formatQuery({})", chpipe::engine::quote_string(&statement));
        let read = chpipe::engine::fetch(session.as_mut(), &sql, &QueryOptions::default());
        assert!(read.is_ok(), "{statement}\n{}", read.unwrap_err());
    }
}

fn golden(name: &str, text: &str) {
    assert_readable(text);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../goldens/cluster");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// First run, second run, full refresh of each kind; the rows are those of the statements as one server runs them.
#[test]
fn distributed_models_are_made_on_every_shard() {
    let (mut adapter, log) = cluster("m_distributed", true);
    let model = |name: &str, config: Value| {
        let mut all = json!({"order_by": "id", "sharding_key": "id"});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        node("m_distributed", name, all)
    };
    let first = "select * from values('id Int32, v String', (1, 'a'), (2, 'b'))";
    let second = "select * from values('id Int32, v String', (2, 'B'), (3, 'C'))";
    let incremental = |config: Value| {
        let mut all = json!({"materialized": "distributed_incremental"});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        all
    };
    let cases = [
        ("table", json!({"materialized": "distributed_table", "grants": {"select": ["ann"]}}), vec!["2 B", "3 C"]),
        ("append", incremental(json!({})), vec!["1 a", "2 b", "2 B", "3 C"]),
        (
            "delete_insert",
            incremental(json!({"incremental_strategy": "delete_insert", "unique_key": "id"})),
            vec!["1 a", "2 B", "3 C"],
        ),
        (
            "legacy",
            incremental(json!({"incremental_strategy": "legacy", "unique_key": ["id"]})),
            vec!["1 a", "2 B", "3 C"],
        ),
        (
            "insert_overwrite",
            incremental(json!({"incremental_strategy": "insert_overwrite", "partition_by": "id"})),
            vec!["1 a", "2 B", "3 C"],
        ),
    ];
    for (name, config, expected) in cases {
        let node = model(name, config);
        let mut text = String::new();
        for (run_name, sql, full_refresh) in
            [("first", first, false), ("second", second, false), ("full refresh", second, true)]
        {
            text.push_str(&format!("-- {run_name}\n{}\n", run(&mut adapter, &log, &node, sql, full_refresh)));
            let query = format!("SELECT id, v FROM m_distributed.{name} ORDER BY id, v DESC");
            let expected = match run_name {
                "first" => vec!["1 a", "2 b"],
                "second" => expected.clone(),
                _ => vec!["2 B", "3 C"],
            };
            assert_eq!(rows(&mut adapter, &query), expected, "{name}, {run_name}");
        }
        golden(name, &text);
    }
    let left = "SELECT name FROM system.tables WHERE database = 'm_distributed' AND name LIKE '%dbt%'";
    assert_eq!(rows(&mut adapter, left), Vec::<String>::new());
}

/// A column that is added, and a changed setting, reach the shards and the table over them.
#[test]
fn distributed_models_follow_their_columns() {
    let (mut adapter, log) = cluster("m_distributed_columns", true);
    let mut model = node(
        "m_distributed_columns",
        "t",
        json!({"materialized": "distributed_incremental", "order_by": "id", "on_schema_change": "append_new_columns"}),
    );
    run(&mut adapter, &log, &model, "select 1 as id", false);
    model.config.0.insert("settings".into(), json!({"min_bytes_for_wide_part": 1000}));
    let text = run(&mut adapter, &log, &model, "select 2 as id, 'b' as v", false);
    golden("columns", &text);
    model.config.0.insert("on_schema_change".into(), json!("ignore"));
    run(&mut adapter, &log, &model, "select 3 as id, 'c' as v, 4 as unknown", false);
    assert_eq!(rows(&mut adapter, "SELECT * FROM m_distributed_columns.t ORDER BY id"), ["1 ", "2 b", "3 c"]);
    model.config.0.insert("incremental_strategy".into(), json!("microbatch"));
    let relation = model.relation();
    let refused = self::model(&model, &relation, "select 5 as id", "0a1b2c3d");
    let refused = materialization("distributed_incremental").unwrap().materialize(&refused, &mut adapter).unwrap_err();
    assert!(refused.to_string().contains("microbatch"), "{refused}");
    // A table with rows of its own is not taken for one over the shards.
    let plain = node("m_distributed_columns", "plain", json!({"materialized": "distributed_incremental"}));
    adapter
        .execute("CREATE TABLE m_distributed_columns.plain ENGINE = MergeTree ORDER BY id AS SELECT 1 AS id")
        .unwrap();
    let relation = plain.relation();
    let refused = self::model(&plain, &relation, "select 2 as id", "0a1b2c3d");
    let refused = materialization("distributed_incremental").unwrap().materialize(&refused, &mut adapter).unwrap_err();
    assert!(refused.to_string().contains("--full-refresh"), "{refused}");
    run(&mut adapter, &log, &plain, "select 2 as id", true);
    assert_eq!(rows(&mut adapter, "SELECT * FROM m_distributed_columns.plain"), ["2"]);
}

/// A run that ends in the place of a statement, whichever: the next one removes or finishes what it left on the shards, and
/// the rows are those of undisturbed runs.
#[test]
fn distributed_runs_are_finished_by_the_next() {
    let database = "m_distributed_killed";
    let (engine, log) = engine(database);
    let mut living = adapter(&engine, true);
    let named = |name: &str, config: Value| {
        let mut all = json!({"materialized": "distributed_incremental", "order_by": "id", "sharding_key": "id",
            "on_schema_change": "append_new_columns", "settings": {"min_bytes_for_wide_part": 1000}});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        node(database, name, all)
    };
    // Two partitions; rows that are there already are not read again, as `is_incremental()` would have it.
    let rows_of = "select toInt32(number) as id, id % 2 as part, 'b' as v, 7 as more from numbers(2, 4)";
    let newer = |name: &str| format!("{rows_of} where id > (select max(id) from {database}.{name})");
    let cases = [
        ("append", json!({"partition_by": "part"})),
        ("delete_insert", json!({"incremental_strategy": "delete_insert", "unique_key": "id"})),
        ("insert_overwrite", json!({"incremental_strategy": "insert_overwrite", "partition_by": "id"})),
    ];
    for (name, config) in cases {
        let node = named(name, config);
        let relation = node.relation();
        let second = if name == "append" { newer(name) } else { rows_of.to_owned() };
        let first = "select toInt32(number) as id, id % 2 as part, 'a' as v from numbers(3)";
        let content = format!("SELECT * FROM {relation} ORDER BY ALL");
        run(&mut living, &log, &node, first, false);
        run(&mut living, &log, &node, &second, false);
        let undisturbed = rows(&mut living, &content);
        // The first run, and how new rows are collected, is the same for all of them.
        let (runs, from) = if name == "append" { (2, 0) } else { (1, 7) };
        for (of_run, sql) in [("second", second.as_str()), ("first", first)].into_iter().take(runs) {
            for statements in from.. {
                assert!(statements < 40, "{name}: the {of_run} run does not end");
                living.drop_relation(&relation).unwrap();
                living.drop_relation(&relation.with_identifier(format!("{name}_local"))).unwrap();
                if of_run == "second" {
                    run(&mut living, &log, &node, first, false);
                }
                let dying = DyingEngine::after(Arc::clone(&engine), statements, Death::Before);
                let mut dead = adapter(&dying, true);
                let died = model(&node, &relation, sql, "dead0000");
                let ended = materialization(node.materialized()).unwrap().materialize(&died, &mut dead).is_ok();
                drop(dead);
                log.lock().unwrap().clear();
                let listed = living.relations(database).unwrap();
                let leftovers: Vec<Relation> = listed
                    .into_iter()
                    .map(|info| info.relation)
                    .filter(|relation| relation.identifier.contains("dead0000"))
                    .collect();
                let next = model(&node, &relation, sql, "0a1b2c3d");
                let finished = recover(&next, &mut living, &leftovers).unwrap();
                drop_leftovers(&mut living, &leftovers).unwrap();
                if finished && name == "delete_insert" {
                    let done = std::mem::take(&mut *log.lock().unwrap());
                    golden("recovered", &done.iter().map(|sql| format!("{sql};\n")).collect::<String>());
                }
                if of_run == "first" && !ended {
                    run(&mut living, &log, &node, first, false);
                }
                run(&mut living, &log, &node, &second, false);
                assert_eq!(rows(&mut living, &content), undisturbed, "{name}: {of_run} run, statement {statements}");
                let left = living.relations(database).unwrap();
                let left: Vec<&str> = left
                    .iter()
                    .map(|info| info.relation.identifier.as_str())
                    .filter(|name| name.contains("__dbt_"))
                    .collect();
                assert_eq!(left, Vec::<&str>::new(), "{name}: {of_run} run, statement {statements}");
                if ended {
                    assert!(
                        statements > from + 4,
                        "{name}: the {of_run} run had only {statements} statements to die in"
                    );
                    break;
                }
            }
        }
    }
}

/// Grants become what the config says: what is new is granted, what is gone revoked, what is there left alone.
#[test]
fn grants_follow_the_config() {
    let (mut adapter, log) = cluster("m_grants", false);
    let mut text = String::new();
    for grants in [
        json!({"select": ["ann", "readers"], "insert": "loader"}),
        json!({"select": ["ann", "readers"], "insert": "loader"}),
        json!({"select": ["bob", "readers"]}),
        json!({"select": []}),
    ] {
        let config = json!({"materialized": "view", "grants": grants});
        let statements = run(&mut adapter, &log, &node("m_grants", "v", config), "select 1 as n", false);
        let access: Vec<&str> =
            statements.lines().filter(|line| line.starts_with("GRANT") || line.starts_with("REVOKE")).collect();
        text.push_str(&format!("-- {grants}\n{}\n\n", access.join("\n")));
    }
    golden("grants", text.trim_end());
    assert_eq!(rows(&mut adapter, "SELECT count() FROM m_grants.grants"), ["0"]);
}
