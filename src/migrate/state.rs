//! The tables that chpipe keeps its own state in: the ledgers of migrations and loads, run records, and `raw.batches`,
//! which models read. They are tables like any other: planned, compared and altered with the rest.

use crate::schema::{ClickHouseType, Column, ColumnDefault, DefaultKind, Relation, Table, TableEngine};

fn column(name: &str, kind: &str) -> Column {
    // The types below are constants; a wrong one would be found by the first test that creates the table.
    Column::new(name, ClickHouseType::parse(kind).unwrap_or(ClickHouseType::String))
}

fn defaulted(name: &str, kind: &str, expression: &str) -> Column {
    Column {
        default: Some(ColumnDefault { kind: DefaultKind::Default, expression: expression.to_owned() }),
        ..column(name, kind)
    }
}

fn replacing(database: &str, name: &str, columns: Vec<Column>, version: &str, key: &str, comment: &str) -> Table {
    let mut table = Table::new(
        Relation::new(database, name),
        columns,
        TableEngine::new("ReplacingMergeTree", [version.to_owned()]),
    );
    table.order_by = Some(key.to_owned());
    table.comment = comment.to_owned();
    table
}

/// `migrations` and `migration_steps`: they exist before anything is applied.
pub(crate) fn ledger_tables(database: &str) -> Vec<Table> {
    vec![
        replacing(
            database,
            "migrations",
            vec![
                column("id", "String"),
                column("kind", "LowCardinality(String)"),
                column("name", "String"),
                column("checksum", "String"),
                column("state", "LowCardinality(String)"),
                column("objects", "Array(String)"),
                column("steps", "UInt32"),
                column("run_id", "String"),
                column("started_at", "DateTime64(3, 'UTC')"),
                column("finished_at", "Nullable(DateTime64(3, 'UTC'))"),
                column("error", "String"),
                column("plan", "String"),
                defaulted("recorded_at", "DateTime64(6, 'UTC')", "now64(6, 'UTC')"),
            ],
            "recorded_at",
            "id",
            "Migrations applied by chpipe, with checksums",
        ),
        replacing(
            database,
            "migration_steps",
            vec![
                column("migration_id", "String"),
                column("step", "UInt32"),
                column("object", "String"),
                column("statement", "String"),
                column("state", "LowCardinality(String)"),
                defaulted("recorded_at", "DateTime64(6, 'UTC')", "now64(6, 'UTC')"),
            ],
            "recorded_at",
            "(migration_id, step)",
            "Journal of the statements of each migration",
        ),
    ]
}

/// `loads`, `runs` and `events`.
pub(crate) fn state_tables(database: &str) -> Vec<Table> {
    vec![
        replacing(
            database,
            "loads",
            vec![
                column("dataset", "LowCardinality(String)"),
                column("object_key", "String"),
                column("etag", "String"),
                column("bytes", "UInt64"),
                column("rows", "UInt64"),
                column("state", "LowCardinality(String)"),
                column("mode", "LowCardinality(String)"),
                column("reason", "String"),
                column("query_id", "String"),
                column("run_id", "String"),
                defaulted("recorded_at", "DateTime64(6, 'UTC')", "now64(6, 'UTC')"),
            ],
            "recorded_at",
            "(dataset, object_key)",
            "The Silver objects and what became of each: loading, loaded, failed",
        ),
        replacing(
            database,
            "runs",
            vec![
                column("run_id", "String"),
                column("command", "LowCardinality(String)"),
                column("started_at", "DateTime64(3, 'UTC')"),
                column("finished_at", "DateTime64(3, 'UTC')"),
                column("outcome", "LowCardinality(String)"),
                column("error", "String"),
                column("record", "String"),
                defaulted("recorded_at", "DateTime64(6, 'UTC')", "now64(6, 'UTC')"),
            ],
            "recorded_at",
            "(command, run_id)",
            "Run records of all commands",
        ),
        replacing(
            database,
            "events",
            vec![
                column("run_id", "String"),
                column("event", "LowCardinality(String)"),
                column("name", "String"),
                column("kind", "String"),
                column("batch_id", "String"),
                column("status", "LowCardinality(String)"),
                column("started_at", "DateTime64(3, 'UTC')"),
                column("seconds", "Float64"),
                column("pages", "UInt64"),
                column("rows", "UInt64"),
                column("bytes_in", "UInt64"),
                column("bytes", "UInt64"),
                column("quarantined", "UInt64"),
                column("detail", "String"),
                defaulted("recorded_at", "DateTime64(6, 'UTC')", "now64(6, 'UTC')"),
            ],
            "recorded_at",
            "(event, name, kind, run_id, batch_id, status)",
            "The steps of every run: requests, endpoints, loads, migrations, nodes",
        ),
    ]
}

/// `raw.batches`: one row a loaded Silver object, also for one without rows.
pub(crate) fn batches_table(raw_database: &str) -> Table {
    replacing(
        raw_database,
        "batches",
        vec![
            column("endpoint", "LowCardinality(String)"),
            column("season", "Int16"),
            column("round", "Int16"),
            column("batch_id", "String"),
            column("rows", "UInt64"),
            column("loaded_at", "DateTime64(3, 'UTC')"),
            column("object_key", "String"),
            column("etag", "String"),
            column("bytes", "UInt64"),
        ],
        "loaded_at",
        "(endpoint, season, round, batch_id)",
        "Loaded batches; season and round are 0 where a batch has none",
    )
}
