//! Hooks: of a node (pre-hook, post-hook) and of the invocation (on-run-start, on-run-end).

use std::time::Instant;

use chrono::Utc;

use super::{
    lines::NodeName,
    node::{Failure, NodeWorker, Running, timing},
};
use crate::{
    Error,
    project::{Hook, Node, ResourceType},
    render::{self, Phase, Source, Value, Warehouse as _},
    schedule::{NodeResult, NodeStatus, Position},
};

impl NodeWorker<'_> {
    /// Renders and runs the hooks of a node, one after another.
    pub(super) fn run_hooks(&self, running: &Running<'_>, hooks: &[Hook]) -> Result<(), Failure> {
        // Hooks outside of the transaction come first; ClickHouse has none, so only their order is left of it.
        for hook in hooks.iter().filter(|hook| !hook.transaction).chain(hooks.iter().filter(|hook| hook.transaction)) {
            let mut renderer = self.compiler.renderer(running.node, Phase::Run, Some(running.warehouse));
            let source = Source { text: &hook.sql, path: &running.node.original_file_path, first_line: 1 };
            let rendered = renderer.render(source).map_err(|error| Failure::render(running.node, &error))?;
            let sql = rendered.text.trim();
            if !sql.is_empty() {
                running.warehouse.adapter().execute_of_project(sql).map_err(|error| {
                    let mut failure = Failure::materialize(running.node, &error.into());
                    // As it is written: what it becomes may hold a secret.
                    failure.details.push(format!("in the hook: {}", hook.sql.trim()));
                    failure
                })?;
            }
        }
        Ok(())
    }
}

/// Runs the hooks of dbt_project.yml: packages first, in order; after a failure the rest is skipped.
///
/// # Errors
/// Never for a hook that fails: that is its result.
pub(super) fn run(worker: &NodeWorker<'_>, when: &str, results: &[NodeResult]) -> Result<Vec<NodeResult>, Error> {
    let manifest = &worker.workspace.manifest;
    let root = &worker.workspace.project.root.name;
    let mut hooks: Vec<&Node> = manifest
        .nodes
        .values()
        .filter(|node| node.resource_type == ResourceType::Operation && node.tags.iter().any(|tag| tag == when))
        .collect();
    hooks.sort_by_key(|node| (node.package_name == *root, node.package_name.clone(), node.hook_index));
    let total = hooks.len();
    let mut done = Vec::new();
    for (index, node) in hooks.into_iter().enumerate() {
        let position = Position { index: index + 1, total, thread: 1 };
        let name = NodeName::of(node);
        if done.iter().any(|result: &NodeResult| result.status.is_failure()) {
            let mut result = NodeResult::new(&node.unique_id, NodeStatus::Skipped);
            result.failures = Some(1);
            worker.lines.result(&name, &result, position);
            done.push(result);
            continue;
        }
        worker.lines.start(&name, position);
        let started = Instant::now();
        let began = Utc::now();
        let mut result = NodeResult::new(&node.unique_id, NodeStatus::Success);
        match run_one(worker, node, results) {
            Ok(sql) => {
                result.message = Some("OK".to_owned());
                result.failures = Some(0);
                result.compiled_code = Some(sql);
            }
            Err(failure) => {
                result.status = NodeStatus::Error;
                result.failures = Some(1);
                result.message = Some(failure.message);
                result.details = failure.details;
            }
        }
        result.timing.push(timing("execute", began));
        result.execution_time = started.elapsed().as_secs_f64();
        worker.lines.result(&name, &result, position);
        done.push(result);
    }
    Ok(done)
}

fn run_one(worker: &NodeWorker<'_>, node: &Node, results: &[NodeResult]) -> Result<String, Failure> {
    let warehouse = &worker.prepared.main;
    let mut renderer = worker.compiler.renderer(node, Phase::Operation, Some(warehouse));
    let schemas = schemas(worker, results);
    renderer.set("schemas", Value::from(schemas.clone()));
    let pairs = schemas.into_iter().map(|schema| Value::from(vec![String::new(), schema])).collect();
    renderer.set("database_schemas", Value::list(pairs));
    renderer.set("results", results_value(worker, results));
    let source = Source { text: &node.raw_code, path: &node.original_file_path, first_line: node.raw_code_line };
    let rendered = renderer.render(source).map_err(|error| Failure::render(node, &error))?;
    let macros = renderer.take_captured().macros;
    worker.compiler.keep(node, &rendered.text, macros).map_err(|error| Failure::project(&error))?;
    let sql = rendered.text.trim().to_owned();
    if !sql.is_empty() {
        warehouse
            .execute(&sql, false, None)
            .map_err(|error| Failure::new("Database Error", node, &error.to_string(), None))?;
    }
    Ok(sql)
}

/// The databases that relations were made in.
fn schemas(worker: &NodeWorker<'_>, results: &[NodeResult]) -> Vec<String> {
    let made =
        |result: &&NodeResult| !matches!(result.status, NodeStatus::Error | NodeStatus::Fail | NodeStatus::Skipped);
    let mut schemas: Vec<String> = results
        .iter()
        .filter(made)
        .filter_map(|result| worker.workspace.manifest.nodes.get(&result.unique_id))
        .filter(|node| node.resource_type.is_refable())
        .map(|node| node.schema.clone())
        .collect();
    schemas.sort();
    schemas.dedup();
    schemas
}

/// `results` of on-run-end: each with its `node`, as dbt's objects have it. Hooks that ran well are left out, as there.
fn results_value(worker: &NodeWorker<'_>, results: &[NodeResult]) -> Value {
    let is_hook = |id: &str| {
        let node = worker.workspace.manifest.nodes.get(id);
        node.is_some_and(|node| node.resource_type == ResourceType::Operation)
    };
    let shown = results.iter().filter(|result| result.status.is_failure() || !is_hook(&result.unique_id));
    let entries = shown.map(|result| {
        let mut entry = crate::schedule::result_json(result);
        if let Some(resource) = worker.workspace.manifest.resource(&result.unique_id) {
            entry["node"] = crate::project::resource_json(resource);
        }
        render::dataclass(&entry, &["node", "timing"])
    });
    Value::list(entries.collect())
}
