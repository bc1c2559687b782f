//! manifest.json, version 12: the shape of every resource as dbt writes it, key by key. In: a manifest and what was
//! compiled; out: JSON. <https://schemas.getdbt.com/dbt/manifest/v12.json>

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{
    Column, DBT_VERSION, Disabled, Documentation, Exposure, Group, Macro, Manifest, Node, ProjectError, Resource,
    ResourceType, Source, UnitTest, UnitTestRows, compile::Compiled,
};
use crate::observe::Invocation;

/// Compiled nodes by id.
pub type CompiledNodes = HashMap<String, std::sync::Arc<Compiled>>;

/// Writes manifest.json into the target folder, and makes the folder.
///
/// # Errors
/// The file cannot be written; an earlier one stays as it was.
pub fn write_manifest(
    manifest: &Manifest,
    compiled: &CompiledNodes,
    invocation: &Invocation,
    target_path: &Path,
) -> Result<PathBuf, ProjectError> {
    let path = target_path.join("manifest.json");
    fs_err::create_dir_all(target_path).map_err(|source| ProjectError::io(target_path, source))?;
    // Written beside and moved, so that a reader never sees half of it.
    let partial = target_path.join(format!(".manifest.{}.json", invocation.id));
    let write = || -> std::io::Result<()> {
        let mut out = std::io::BufWriter::with_capacity(1 << 16, fs_err::File::create(&partial)?);
        write_json(manifest, compiled, invocation, &mut out)?;
        out.flush()
    };
    write().map_err(|source| ProjectError::io(&partial, source))?;
    fs_err::rename(&partial, &path).map_err(|source| ProjectError::io(&path, source))?;
    Ok(path)
}

/// The whole of manifest.json as one value, for `graph` consumers and tests.
pub fn manifest_json(manifest: &Manifest, compiled: &CompiledNodes, invocation: &Invocation) -> Value {
    let mut bytes = Vec::new();
    match write_json(manifest, compiled, invocation, &mut bytes) {
        Ok(()) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// Streams the document: the nodes of a large project are never all in memory as JSON.
fn write_json(
    manifest: &Manifest,
    compiled: &CompiledNodes,
    invocation: &Invocation,
    out: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    write!(out, "{{\"metadata\":")?;
    serde_json::to_writer(&mut *out, &metadata(manifest, invocation))?;
    section(out, "nodes", manifest.nodes.values(), |node| {
        (node.unique_id.clone(), node_json(node, compiled.get(&node.unique_id).map(AsRef::as_ref)))
    })?;
    section(out, "sources", manifest.sources.values(), |source| (source.unique_id.clone(), source_json(source)))?;
    section(out, "macros", manifest.macros.values(), |found| (found.unique_id.clone(), macro_json(found)))?;
    section(out, "docs", manifest.docs.values(), |doc| (doc.unique_id.clone(), doc_json(doc)))?;
    section(out, "exposures", manifest.exposures.values(), |exposure| {
        (exposure.unique_id.clone(), exposure_json(exposure))
    })?;
    write!(out, ",\"metrics\":{{}}")?;
    section(out, "groups", manifest.groups.values(), |group| (group.unique_id.clone(), group_json(group)))?;
    section(out, "selectors", manifest.selectors.iter(), |(name, selector)| (name.clone(), selector.clone()))?;
    section(out, "disabled", manifest.disabled.iter(), |(id, resources)| {
        (id.clone(), resources.iter().map(disabled_json).collect())
    })?;
    section(out, "parent_map", manifest.parent_map.iter(), |(id, ids)| (id.clone(), json!(ids)))?;
    section(out, "child_map", manifest.child_map.iter(), |(id, ids)| (id.clone(), json!(ids)))?;
    section(out, "group_map", manifest.groups.values(), |group| {
        let ids: Vec<&String> = manifest
            .nodes
            .values()
            .filter(|node| node.group.as_deref() == Some(&group.name))
            .map(|node| &node.unique_id)
            .collect();
        (group.name.clone(), json!(ids))
    })?;
    write!(out, ",\"saved_queries\":{{}},\"semantic_models\":{{}}")?;
    section(out, "unit_tests", manifest.unit_tests.values(), |test| (test.unique_id.clone(), unit_test_json(test)))?;
    write!(out, ",\"functions\":{{}}}}")
}

fn section<T>(
    out: &mut dyn std::io::Write,
    name: &str,
    items: impl Iterator<Item = T>,
    shape: impl Fn(T) -> (String, Value),
) -> std::io::Result<()> {
    write!(out, ",\"{name}\":{{")?;
    for (index, item) in items.enumerate() {
        let (key, value) = shape(item);
        if index > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &key)?;
        out.write_all(b":")?;
        serde_json::to_writer(&mut *out, &value)?;
    }
    out.write_all(b"}")
}

fn metadata(manifest: &Manifest, invocation: &Invocation) -> Value {
    let mut quoting = json!({"database": true, "schema": true, "identifier": true, "column": null});
    for (key, value) in &manifest.metadata.quoting {
        quoting[key] = value.clone();
    }
    let time = |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let started = invocation.started_at.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
    json!({
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
        "dbt_version": DBT_VERSION,
        "generated_at": time(chrono::Utc::now()),
        "invocation_id": invocation.id.to_string(),
        "invocation_started_at": started,
        "env": {},
        "project_name": manifest.metadata.project_name,
        "project_id": manifest.metadata.project_id,
        "user_id": null,
        "send_anonymous_usage_stats": false,
        "adapter_type": manifest.metadata.adapter_type,
        "quoting": quoting,
        "run_started_at": started,
    })
}

/// Builds a mapping in order, without repeating `.into()`.
struct Shape(Map<String, Value>);

impl Shape {
    fn new() -> Self {
        Self(Map::with_capacity(48))
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn texts(items: &[String]) -> Value {
    items.iter().map(|item| Value::String(item.clone())).collect()
}

/// A node as manifest.json, `graph.nodes` and `model` show it.
pub fn node_json(node: &Node, compiled: Option<&Compiled>) -> Value {
    let mut shape = Shape::new();
    shape.put("database", node.database.as_str());
    shape.put("schema", node.schema.as_str());
    shape.put("name", node.name.as_str());
    shape.put("resource_type", node.resource_type.as_str());
    shape.put("package_name", node.package_name.as_str());
    shape.put("path", node.path.as_str());
    shape.put("original_file_path", node.original_file_path.as_str());
    shape.put("unique_id", node.unique_id.as_str());
    shape.put("fqn", texts(&node.fqn));
    shape.put("alias", node.alias.as_str());
    shape.put("checksum", json!({"name": node.checksum.name, "checksum": node.checksum.checksum}));
    shape.put("config", Value::Object(node.config.0.clone()));
    shape.put("tags", texts(&node.tags));
    shape.put("description", node.description.as_str());
    shape.put("columns", columns_json(&node.columns, compiled));
    shape.put("meta", Value::Object(node.meta.clone()));
    shape.put("group", json!(node.group));
    shape.put("docs", json!({"show": node.docs.show, "node_color": node.docs.node_color}));
    shape.put("patch_path", json!(node.patch_path));
    shape.put("build_path", json!(compiled.and_then(|compiled| compiled.build_path.clone())));
    shape.put("unrendered_config", Value::Object(node.unrendered_config.clone()));
    shape.put("created_at", node.created_at);
    shape.put("relation_name", json!(node.relation_name));
    shape.put("raw_code", node.raw_code.as_str());
    shape.put("doc_blocks", texts(&node.doc_blocks));
    if node.resource_type == ResourceType::Seed {
        shape.put("root_path", node.root_path.display().to_string());
        shape.put("depends_on", json!({"macros": node.depends_on.macros}));
        return shape.done();
    }
    shape.put("language", node.language.as_str());
    shape.put("refs", json!(node.refs));
    shape.put("sources", json!(node.sources));
    shape.put("metrics", json!([]));
    shape.put("functions", json!([]));
    let mut macros: Vec<&String> = node.depends_on.macros.iter().collect();
    for id in compiled.into_iter().flat_map(|compiled| &compiled.macros) {
        if !macros.contains(&id) {
            macros.push(id);
        }
    }
    shape.put("depends_on", json!({"macros": macros, "nodes": node.depends_on.nodes}));
    match compiled.filter(|compiled| !compiled.only_built) {
        None => shape.put("compiled_path", Value::Null),
        Some(compiled) => {
            shape.put("compiled_path", json!(compiled.compiled_path));
            shape.put("compiled", true);
            shape.put("compiled_code", compiled.code.as_str());
            shape.put("extra_ctes_injected", true);
            let ctes: Vec<Value> =
                compiled.extra_ctes.iter().map(|cte| json!({"id": cte.id, "sql": cte.sql})).collect();
            shape.put("extra_ctes", ctes);
        }
    }
    shape.put(
        "contract",
        json!({
            "enforced": node.contract.enforced, "alias_types": node.contract.alias_types,
            "checksum": node.contract.checksum
        }),
    );
    match node.resource_type {
        ResourceType::Model => {
            shape.put("access", node.access.as_str());
            shape.put("constraints", constraints(&node.constraints, compiled));
            shape.put("version", json!(node.version));
            shape.put("latest_version", json!(node.latest_version));
            shape.put("deprecation_date", json!(node.deprecation_date));
            shape.put("primary_key", texts(&node.primary_key));
            shape.put("time_spine", Value::Null);
        }
        ResourceType::Operation => {
            shape.put("index", json!(node.hook_index.map(|at| at + usize::from(compiled.is_some()))))
        }
        ResourceType::Test => {
            if let Some(metadata) = &node.test_metadata {
                shape.put("column_name", json!(node.column_name));
                shape.put("file_key_name", json!(node.file_key_name));
                shape.put("attached_node", json!(node.attached_node));
                shape.put(
                    "test_metadata",
                    json!({"name": metadata.name, "kwargs": metadata.kwargs, "namespace": metadata.namespace}),
                );
            }
        }
        _ => {}
    }
    shape.done()
}

/// Foreign keys name a relation once they are compiled.
fn constraints(written: &[Value], compiled: Option<&Compiled>) -> Value {
    let keys = compiled.map_or(&[][..], |compiled| &compiled.foreign_keys);
    let mut out = written.to_vec();
    for constraint in &mut out {
        let found = keys.iter().find(|(to, _)| constraint["to"].as_str() == Some(to));
        if let Some((_, relation)) = found {
            constraint["to"] = json!(relation);
        }
    }
    Value::Array(out)
}

fn columns_json(columns: &indexmap::IndexMap<String, Column>, compiled: Option<&Compiled>) -> Value {
    let mut out = Map::with_capacity(columns.len());
    for (name, column) in columns {
        let mut shape = Shape::new();
        shape.put("name", column.name.as_str());
        shape.put("description", column.description.as_str());
        shape.put("meta", Value::Object(column.meta.clone()));
        shape.put("data_type", json!(column.data_type));
        shape.put("constraints", constraints(&column.constraints, compiled));
        shape.put("quote", json!(column.quote));
        shape.put("config", Value::Object(column.config.clone()));
        shape.put("tags", texts(&column.tags));
        shape.put("granularity", json!(column.granularity));
        shape.put("doc_blocks", texts(&column.doc_blocks));
        shape.0.extend(column.extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        out.insert(name.clone(), shape.done());
    }
    Value::Object(out)
}

/// Any resource of the graph as manifest.json shows it.
pub fn resource_json(resource: Resource<'_>) -> Value {
    match resource {
        Resource::Node(node) => node_json(node, None),
        Resource::Source(source) => source_json(source),
        Resource::Exposure(exposure) => exposure_json(exposure),
        Resource::UnitTest(test) => unit_test_json(test),
    }
}

/// A source as manifest.json and `graph.sources` show it.
pub fn source_json(source: &Source) -> Value {
    let mut shape = Shape::new();
    shape.put("database", source.database.as_str());
    shape.put("schema", source.schema.as_str());
    shape.put("name", source.name.as_str());
    shape.put("resource_type", "source");
    shape.put("package_name", source.package_name.as_str());
    shape.put("path", source.path.as_str());
    shape.put("original_file_path", source.original_file_path.as_str());
    shape.put("unique_id", source.unique_id.as_str());
    shape.put("fqn", texts(&source.fqn));
    shape.put("source_name", source.source_name.as_str());
    shape.put("source_description", source.source_description.as_str());
    shape.put("loader", source.loader.as_str());
    shape.put("identifier", source.identifier.as_str());
    shape.put("quoting", Value::Object(source.quoting.clone()));
    shape.put("loaded_at_field", json!(source.loaded_at_field));
    shape.put("loaded_at_query", json!(source.loaded_at_query));
    shape.put("freshness", source.config.0.get("freshness").cloned().unwrap_or_default());
    shape.put("external", json!(source.external));
    shape.put("description", source.description.as_str());
    shape.put("columns", columns_json(&source.columns, None));
    shape.put("meta", Value::Object(source.meta.clone()));
    shape.put("source_meta", Value::Object(source.source_meta.clone()));
    shape.put("tags", texts(&source.tags));
    shape.put("config", Value::Object(source.config.0.clone()));
    shape.put("patch_path", Value::Null);
    shape.put("unrendered_config", Value::Object(source.unrendered_config.clone()));
    shape.put("relation_name", source.relation_name.as_str());
    shape.put("created_at", source.created_at);
    shape.put("unrendered_database", json!(source.unrendered_database));
    shape.put("unrendered_schema", json!(source.unrendered_schema));
    shape.put("doc_blocks", texts(&source.doc_blocks));
    shape.done()
}

fn macro_json(found: &Macro) -> Value {
    json!({
        "name": found.name, "resource_type": "macro", "package_name": found.package_name, "path": found.path,
        "original_file_path": found.original_file_path, "unique_id": found.unique_id, "macro_sql": found.macro_sql,
        "depends_on": {"macros": found.depends_on.macros}, "description": found.description, "meta": found.meta,
        "docs": {"show": found.docs.show, "node_color": found.docs.node_color}, "config": found.config,
        "patch_path": found.patch_path, "arguments": found.arguments, "created_at": found.created_at,
        "supported_languages": found.supported_languages,
    })
}

fn doc_json(doc: &Documentation) -> Value {
    json!({
        "name": doc.name, "resource_type": "doc", "package_name": doc.package_name, "path": doc.path,
        "original_file_path": doc.original_file_path, "unique_id": doc.unique_id, "block_contents": doc.block_contents,
    })
}

/// An exposure as manifest.json and `graph.exposures` show it.
pub(super) fn exposure_json(exposure: &Exposure) -> Value {
    json!({
        "name": exposure.name, "resource_type": "exposure", "package_name": exposure.package_name,
        "path": exposure.path, "original_file_path": exposure.original_file_path, "unique_id": exposure.unique_id,
        "fqn": exposure.fqn, "type": exposure.exposure_type, "owner": exposure.owner,
        "description": exposure.description, "label": exposure.label, "maturity": exposure.maturity,
        "meta": exposure.meta, "tags": exposure.tags, "config": exposure.config,
        "unrendered_config": exposure.unrendered_config, "url": exposure.url,
        "depends_on": {"macros": exposure.depends_on.macros, "nodes": exposure.depends_on.nodes},
        "refs": exposure.refs, "sources": exposure.sources, "metrics": [], "created_at": exposure.created_at,
    })
}

/// A group as manifest.json and `graph.groups` show it.
pub(super) fn group_json(group: &Group) -> Value {
    json!({
        "name": group.name, "resource_type": "group", "package_name": group.package_name, "path": group.path,
        "original_file_path": group.original_file_path, "unique_id": group.unique_id, "owner": group.owner,
        "description": group.description, "config": group.config,
    })
}

/// A unit test as manifest.json shows it.
pub(super) fn unit_test_json(test: &UnitTest) -> Value {
    let rows = |rows: &UnitTestRows| {
        let mut shape = Shape::new();
        shape.put("rows", json!(rows.rows));
        shape.put("format", rows.format.as_str());
        shape.put("fixture", json!(rows.fixture));
        shape
    };
    let given: Vec<Value> = test
        .given
        .iter()
        .map(|input| {
            let mut shape = rows(&input.rows);
            shape.put("input", input.input.as_str());
            shape.done()
        })
        .collect();
    json!({
        "model": test.model, "given": given, "expect": rows(&test.expect).done(), "name": test.name,
        "resource_type": "unit_test", "package_name": test.package_name, "path": test.path,
        "original_file_path": test.original_file_path, "unique_id": test.unique_id, "fqn": test.fqn,
        "description": test.description, "overrides": test.overrides,
        "depends_on": {"macros": test.depends_on.macros, "nodes": test.depends_on.nodes}, "config": test.config,
        "checksum": test.checksum, "schema": Some(&test.schema).filter(|schema| !schema.is_empty()), "created_at": test.created_at, "versions": test.versions,
        "version": test.version,
    })
}

fn disabled_json(resource: &Disabled) -> Value {
    match resource {
        Disabled::Node(node) => node_json(node, None),
        Disabled::Source(source) => source_json(source),
        Disabled::Exposure(exposure) => exposure_json(exposure),
        Disabled::UnitTest(test) => unit_test_json(test),
    }
}
