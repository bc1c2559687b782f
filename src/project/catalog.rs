//! catalog.json, version 1: what the warehouse has of the project's relations. In: rows of system.tables and system.columns;
//! out: the document. It asks nothing itself. <https://schemas.getdbt.com/dbt/catalog/v1.json>

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{DBT_VERSION, Manifest, ProjectError, Resource};
use crate::{engine::quote_string, observe::Invocation};

/// One column of one relation, as [`catalog_query`] answers it.
#[derive(Debug, Clone, Default)]
pub struct CatalogRow {
    pub schema: String,
    pub table: String,
    /// `table` or `view`.
    pub kind: String,
    pub table_comment: String,
    /// Of the table; none for views.
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    pub column: String,
    pub data_type: String,
    pub column_comment: String,
    pub position: u64,
}

/// The query for all relations of these schemas; its columns are the fields of [`CatalogRow`], in order.
pub fn catalog_query(schemas: &BTreeSet<String>) -> String {
    let list = schemas.iter().map(|schema| quote_string(schema)).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT columns.database, columns.table, if(tables.engine LIKE '%View' AND tables.engine != 'MaterializedView', 'view', 'table'), \
         tables.comment, tables.total_rows, tables.total_bytes, columns.name, columns.type, columns.comment, columns.position \
         FROM system.columns AS columns \
         INNER JOIN system.tables AS tables ON tables.database = columns.database AND tables.name = columns.table \
         WHERE columns.database IN ({list}) \
         ORDER BY columns.database, columns.table, columns.position"
    )
}

/// The schemas that the project's relations and sources are in.
pub fn catalog_schemas(manifest: &Manifest) -> BTreeSet<String> {
    manifest
        .resources()
        .filter_map(|resource| match resource {
            Resource::Node(node) if node.relation_name.is_some() => Some(node.schema.clone()),
            Resource::Source(source) => Some(source.relation().schema),
            _ => None,
        })
        .filter(|schema| !schema.is_empty())
        .collect()
}

/// The document; `selected` limits the nodes (sources always count), all where `None`.
pub fn catalog_json(
    manifest: &Manifest,
    rows: &[CatalogRow],
    selected: Option<&BTreeSet<String>>,
    invocation: &Invocation,
) -> Value {
    let mut tables: HashMap<(&str, &str), Vec<&CatalogRow>> = HashMap::new();
    for row in rows {
        tables.entry((&row.schema, &row.table)).or_default().push(row);
    }
    let (mut nodes, mut sources) = (Map::new(), Map::new());
    for resource in manifest.resources() {
        let id = resource.unique_id();
        if selected.is_some_and(|selected| !selected.contains(id)) {
            continue;
        }
        match resource {
            // Tests too, whose failures are stored.
            Resource::Node(node) if node.relation_name.is_some() => {
                if let Some(columns) = tables.get(&(node.schema.as_str(), node.alias.as_str())) {
                    nodes.insert(id.to_owned(), table_json(id, columns));
                }
            }
            Resource::Source(source) => {
                let relation = source.relation();
                if let Some(columns) = tables.get(&(relation.schema.as_str(), relation.identifier.as_str())) {
                    sources.insert(id.to_owned(), table_json(id, columns));
                }
            }
            _ => {}
        }
    }
    let time = |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/catalog/v1.json",
            "dbt_version": DBT_VERSION,
            "generated_at": time(chrono::Utc::now()),
            "invocation_id": invocation.id.to_string(),
            "invocation_started_at": time(invocation.started_at),
            "env": {},
        },
        "nodes": nodes,
        "sources": sources,
        "errors": null,
    })
}

fn table_json(id: &str, rows: &[&CatalogRow]) -> Value {
    let comment = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let mut columns = Map::new();
    for row in rows {
        columns.insert(
            row.column.clone(),
            json!({
                "type": row.data_type, "index": row.position, "name": row.column, "comment": comment(&row.column_comment),
            }),
        );
    }
    let Some(first) = rows.first() else { return Value::Null };
    json!({
        "metadata": {
            "type": first.kind, "schema": first.schema, "name": first.table, "database": "",
            "comment": comment(&first.table_comment), "owner": null,
        },
        "columns": columns,
        "stats": stats(first),
        "unique_id": id,
    })
}

/// dbt-clickhouse gives none; the docs site shows what is here.
fn stats(table: &CatalogRow) -> Value {
    let mut stats = Map::new();
    let mut add = |id: &str, label: &str, value: Value, include: bool, description: &str| {
        stats.insert(
            id.into(),
            json!({"id": id, "label": label, "value": value, "include": include, "description": description}),
        );
    };
    if let Some(rows) = table.rows {
        add("num_rows", "# Rows", json!(rows), true, "Number of rows in the table");
    }
    if let Some(bytes) = table.bytes {
        add("num_bytes", "Approximate Size", json!(bytes), true, "Size of the table's data on disk, compressed");
    }
    let any = table.rows.is_some() || table.bytes.is_some();
    add("has_stats", "Has Stats?", json!(any), false, "Indicates whether there are statistics for this table");
    Value::Object(stats)
}

/// Writes catalog.json into the target folder.
///
/// # Errors
/// The file cannot be written.
pub fn write_catalog(catalog: &Value, target_path: &Path) -> Result<PathBuf, ProjectError> {
    let path = target_path.join("catalog.json");
    fs_err::create_dir_all(target_path).map_err(|source| ProjectError::io(target_path, source))?;
    fs_err::write(&path, catalog.to_string()).map_err(|source| ProjectError::io(&path, source))?;
    Ok(path)
}
