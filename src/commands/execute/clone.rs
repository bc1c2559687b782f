//! Clones: each selected relation of `--state` under the name that this target has for it. A MergeTree table shares its
//! parts, anything else becomes a view.

use std::time::Instant;

use indexmap::IndexMap;
use serde_json::json;

use super::{
    Plan, finish,
    lines::NodeName,
    node::{Failure, NodeWorker},
    with_worker,
};
use crate::{
    Error,
    adapter::{AdapterError, NodeWarehouse},
    commands::{Context, ExitStatus},
    interrupt::interrupted,
    materialize::{apply_grants, persist_docs},
    project::{Node, PreviousState, ProjectError, RelationKind},
    schedule::{self, NodeResult, NodeStatus, Position, ScheduleOptions, SkipCause, Worker},
};

/// Clones what the plan selects.
///
/// # Errors
/// As [`super::execute`]; there is no `--state`.
pub(in crate::commands) fn clone(plan: &Plan<'_>, context: &Context) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    let Some(folder) = plan.selection.defer_state.as_ref().or(plan.selection.state.as_ref()) else {
        return Err(ProjectError::runtime("clone needs the artifacts of the environment to clone from")
            .hinting("chpipe clone --state DIR")
            .into());
    };
    let nothing = |workspace: &_| finish(plan, context, workspace, None, &[], started);
    let status = with_worker(plan, context, nothing, |worker, ids| {
        let threads = context.settings.threads.unwrap_or(worker.workspace.target.threads).max(1);
        worker.lines.concurrency(threads, &worker.workspace.target.name);
        let state = PreviousState::load(folder, worker.workspace.target_path())?;
        let cloner = Cloner { nodes: worker, state: &state };
        // A clone reads nothing of this target, so none waits for another.
        let waits: IndexMap<String, Vec<String>> = ids.iter().map(|id| (id.clone(), Vec::new())).collect();
        let results = schedule::run(&waits, ScheduleOptions { threads, fail_fast: false }, &cloner);
        finish(plan, context, worker.workspace, Some(worker.compiler), &results, started)?;
        worker.lines.summary(worker.workspace, &results, started.elapsed());
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let failed = results.iter().any(|result| result.status.is_failure());
        Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
    })?;
    Ok(status.unwrap_or(ExitStatus::Success))
}

/// dbt's word for a relation that is there already.
const NO_OP: &str = "No-op";

struct Cloner<'w> {
    nodes: &'w NodeWorker<'w>,
    state: &'w PreviousState,
}

impl Worker for Cloner<'_> {
    type State = Result<NodeWarehouse, Error>;

    fn state(&self, thread: usize) -> Self::State {
        self.nodes.state(thread)
    }

    fn run(&self, state: &mut Self::State, id: &str, position: Position) -> NodeResult {
        let mut result = NodeResult::new(id, NodeStatus::Success);
        result.thread = position.thread;
        let Some(node) = self.nodes.workspace.manifest.nodes.get(id) else { return result };
        result.relation_name = node.relation_name.clone();
        let began = Instant::now();
        let cloned = match state {
            Ok(warehouse) => {
                self.nodes.begin(warehouse, id);
                let cloned = self.clone_one(node, warehouse);
                let statements = warehouse.adapter().take_statements();
                let written = match cloned {
                    Ok(NO_OP) => Ok(()),
                    _ => self.nodes.write_run(node, None, &statements),
                };
                written.and(cloned)
            }
            Err(error) => Err(Failure::new("Runtime Error", node, &error.to_string(), None)),
        };
        result.execution_time = began.elapsed().as_secs_f64();
        match cloned {
            Ok(message) => result.message = Some(message.to_owned()),
            Err(failure) => {
                result.status = NodeStatus::Error;
                result.message = Some(failure.message);
                result.details = failure.details;
            }
        }
        self.nodes.lines.result(&NodeName::of_clone(node), &result, position);
        result
    }

    fn skip(&self, id: &str, position: Position, cause: &SkipCause) -> NodeResult {
        self.nodes.skip(id, position, cause)
    }
}

impl Cloner<'_> {
    fn clone_one(&self, node: &Node, warehouse: &NodeWarehouse) -> Result<&'static str, Failure> {
        let lines = self.nodes.lines;
        let target = node.relation();
        let Some(from) = self.state.relation(&node.unique_id) else {
            lines.note(&format!("No relation found in state manifest for {}", node.unique_id));
            return Ok(NO_OP);
        };
        let failed = |error: AdapterError| Failure::materialize(node, &error.into());
        let mut adapter = warehouse.adapter();
        let existing = adapter.relation(&target).map_err(failed)?;
        if from.render() == target.render() || (existing.is_some() && !self.nodes.plan.execution.full_refresh) {
            lines.note(&format!("Relation {target} already exists"));
            return Ok(NO_OP);
        }
        let Some(source) = adapter.relation(&from).map_err(failed)? else {
            return Err(Failure::new("Runtime Error", node, &format!("{from} does not exist"), None));
        };
        let model = self.nodes.model(node, &target, "", &[]);
        let message = if source.kind() == RelationKind::Table && source.is_merge_tree() {
            if let Some(existing) = existing.filter(|existing| existing.kind() != source.kind()) {
                adapter.drop_relation(&existing.relation).map_err(failed)?;
            }
            let values = json!({"relation": target.render(), "source": from.render()});
            adapter.run_ddl("materialize/clone.sql", values).map_err(failed)?;
            "clone"
        } else {
            if existing.is_some_and(|existing| existing.kind() != RelationKind::View) {
                adapter.drop_relation(&target).map_err(failed)?;
            }
            let values = json!({
                "relation": target.render(), "columns": null, "security": null,
                "query": format!("SELECT * FROM {from}"), "settings": [], "comment": null,
            });
            adapter.run_ddl("materialize/create_view.sql", values).map_err(failed)?;
            "view"
        };
        apply_grants(&model, &mut adapter).map_err(|error| Failure::materialize(node, &error))?;
        persist_docs(&model, &mut adapter).map_err(|error| Failure::materialize(node, &error))?;
        Ok(message)
    }
}
