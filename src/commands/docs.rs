//! `chpipe docs generate`: manifest.json with every node compiled, and catalog.json: what the warehouse says of each
//! relation, its columns, rows and bytes.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::{
    Error,
    cli::{DocsArgs, DocsCommand},
    commands::{
        Context, ExitStatus,
        execute::{Lines, Prepared},
        parse, warehouse,
    },
    engine::quote_string,
    project::{Compiler, DBT_VERSION, LoadOptions, Resolver, ResourceType, Workspace, write_manifest},
};

/// Writes the artifacts of the documentation.
pub(super) fn docs(args: &DocsArgs, context: &Context) -> Result<ExitStatus, Error> {
    let DocsCommand::Generate(args) = &args.command;
    let options = LoadOptions { command: "generate".into(), quiet: context.printer.quiet(), ..LoadOptions::default() };
    let workspace = parse::load(context, &options)?;
    let lines = Lines::new(&context.printer, false);
    let opened = warehouse::open(context)?;
    let prepared = Prepared::open(&opened, context)?;
    let resolver = Resolver::new(&workspace, Vec::new(), false, None);
    let compiler = Compiler::new(&workspace, &resolver, &lines);
    if !args.no_compile {
        for node in workspace.manifest.nodes.values() {
            if matches!(node.resource_type, ResourceType::Seed | ResourceType::Operation) {
                continue;
            }
            compiler.compile(&node.unique_id, Some(prepared.warehouse())).map_err(Error::SharedProject)?;
        }
    }
    let target_path = workspace.target_path();
    write_manifest(&workspace.manifest, &compiler.compiled(), &context.invocation, target_path)?;
    let catalog = if args.empty_catalog { BTreeMap::new() } else { catalog(&workspace, &prepared)? };
    let path = target_path.join("catalog.json");
    let document = document(context, &workspace, &catalog);
    let bytes = serde_json::to_vec(&document).map_err(std::io::Error::other);
    bytes.and_then(|bytes| fs_err::write(&path, bytes)).map_err(|source| Error::Io { path: path.clone(), source })?;
    lines.note(&format!("Catalog written to {}", path.display()));
    Ok(ExitStatus::Success)
}

/// Of each relation in the project's databases, by (database, name): its entry without `unique_id`.
type Catalog = BTreeMap<(String, String), Map<String, Value>>;

fn catalog(workspace: &Workspace, prepared: &Prepared) -> Result<Catalog, Error> {
    let schemas: BTreeSet<&str> = workspace
        .manifest
        .nodes
        .values()
        .filter(|node| node.resource_type.is_refable() && !node.is_ephemeral())
        .map(|node| node.schema.as_str())
        .chain(workspace.manifest.sources.values().map(|source| source.schema.as_str()))
        .filter(|schema| !schema.is_empty())
        .collect();
    let list: Vec<String> = schemas.into_iter().map(quote_string).collect();
    if list.is_empty() {
        return Ok(Catalog::new());
    }
    let list = list.join(", ");
    let mut adapter = prepared.warehouse().adapter();
    let mut catalog = Catalog::new();
    let tables = adapter.rows(&format!(
        "SELECT database, name, engine, comment, toString(total_rows), toString(total_bytes) FROM system.tables \
         WHERE database IN ({list}) ORDER BY database, name"
    ))?;
    for row in tables {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        let (schema, name, engine) =
            (next().unwrap_or_default(), next().unwrap_or_default(), next().unwrap_or_default());
        let comment = next().filter(|comment| !comment.is_empty());
        let kind = if matches!(engine.as_str(), "View" | "MaterializedView") { "view" } else { "table" };
        let mut entry = Map::new();
        entry.insert(
            "metadata".into(),
            json!({"type": kind, "schema": schema, "name": name, "database": "", "comment": comment, "owner": null}),
        );
        entry.insert("columns".into(), json!({}));
        entry.insert("stats".into(), stats(next(), next(), &engine));
        catalog.insert((schema, name), entry);
    }
    let columns = adapter.rows(&format!(
        "SELECT database, table, name, toString(position), type, comment FROM system.columns \
         WHERE database IN ({list}) ORDER BY database, table, position"
    ))?;
    for row in columns {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || values.next().unwrap_or_default();
        let (schema, table, name, position, data_type, comment) = (next(), next(), next(), next(), next(), next());
        let Some(entry) = catalog.get_mut(&(schema, table)) else { continue };
        if let Some(Value::Object(columns)) = entry.get_mut("columns") {
            let comment = (!comment.is_empty()).then_some(comment);
            columns.insert(
                name.clone(),
                json!({
                    "type": data_type, "index": position.parse::<u64>().unwrap_or(0), "name": name, "comment": comment,
                }),
            );
        }
    }
    Ok(catalog)
}

/// dbt's statistics: what the docs site shows beside a relation.
fn stats(rows: Option<String>, bytes: Option<String>, engine: &str) -> Value {
    let mut stats = Map::new();
    let mut add = |id: &str, label: &str, value: Value, description: &str| {
        let entry = json!({
            "id": id, "label": label, "value": value, "include": !value.is_null(), "description": description,
        });
        stats.insert(id.to_owned(), entry);
    };
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok()).map_or(Value::Null, Value::from);
    let (rows, bytes) = (number(rows), number(bytes));
    add("has_stats", "Has Stats?", json!(!rows.is_null()), "Indicates whether there are statistics for this table");
    add("num_rows", "Rows", rows, "Rows in the table");
    add("num_bytes", "Bytes", bytes, "Compressed bytes on disk");
    add("engine", "Engine", json!(engine), "Table engine");
    Value::Object(stats)
}

/// catalog.json, version 1. <https://schemas.getdbt.com/dbt/catalog/v1.json>
fn document(context: &Context, workspace: &Workspace, catalog: &Catalog) -> Value {
    let entry = |schema: &str, name: &str, unique_id: &str| {
        let mut entry = catalog.get(&(schema.to_owned(), name.to_owned()))?.clone();
        entry.insert("unique_id".into(), json!(unique_id));
        Some((unique_id.to_owned(), Value::Object(entry)))
    };
    let nodes: Map<String, Value> = workspace
        .manifest
        .nodes
        .values()
        .filter(|node| node.resource_type.is_refable() && !node.is_ephemeral())
        .filter_map(|node| entry(&node.schema, &node.alias, &node.unique_id))
        .collect();
    let sources: Map<String, Value> = workspace
        .manifest
        .sources
        .values()
        .filter_map(|source| entry(&source.schema, &source.identifier, &source.unique_id))
        .collect();
    json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/catalog/v1.json",
            "dbt_version": DBT_VERSION,
            "generated_at": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            "invocation_id": context.invocation.id.to_string(),
            "invocation_started_at": context.invocation.started_at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "env": {},
        },
        "nodes": nodes,
        "sources": sources,
        "errors": null,
    })
}
