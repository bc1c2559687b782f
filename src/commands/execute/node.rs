//! One node from its SQL to its result: compile, run, report. What running means is decided by its kind.

use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{Lines, Plan, Prepared, lines::NodeName, locate};
use crate::{
    Error,
    adapter::{Lease, LeaseError, NodeWarehouse, Statement},
    materialize::MaterializeError,
    project::{Compiled, Compiler, Node, ProjectError, Relation, Resolver, ResourceType, Workspace},
    render::RenderError,
    schedule::{NodeResult, NodeStatus, Position, SkipCause, Timing, Worker},
    snapshot::SnapshotError,
};

/// Runs the nodes of one invocation.
pub(super) struct NodeWorker<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) workspace: &'a Workspace,
    pub(super) compiler: &'a Compiler<'a>,
    pub(super) resolver: &'a Resolver,
    pub(super) prepared: &'a Prepared,
    pub(super) lines: &'a Lines<'a>,
}

/// A node that failed: dbt's message, and what else to show.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) details: Vec<String>,
}

impl Failure {
    /// dbt's heading over an error: `Database Error in model x (models/x.sql)`, the text indented.
    pub(super) fn new(label: &str, node: &Node, text: &str, hint: Option<String>) -> Self {
        let kind = node.resource_type.as_str();
        let mut message = format!("{label} in {kind} {} ({})", node.name, node.original_file_path);
        for line in text.lines() {
            message.push_str("\n  ");
            message.push_str(line);
        }
        Self { message, details: hint.map(|hint| format!("hint: {hint}")).into_iter().collect() }
    }

    pub(super) fn project(error: &ProjectError) -> Self {
        let hint = error.hint();
        Self { message: error.to_string(), details: hint.map(|hint| format!("hint: {hint}")).into_iter().collect() }
    }

    pub(super) fn render(node: &Node, error: &RenderError) -> Self {
        let mut error = error.clone();
        if error.node.is_none() {
            let kind = node.resource_type.as_str();
            error.node = Some(format!("{kind} {} ({})", node.name, node.original_file_path));
        }
        Self { message: error.report(), details: Vec::new() }
    }

    pub(super) fn materialize(node: &Node, error: &MaterializeError) -> Self {
        Self::new(error.label(), node, &error.to_string(), error.hint())
    }

    pub(super) fn snapshot(node: &Node, error: &SnapshotError) -> Self {
        Self::new(error.label(), node, &error.to_string(), error.hint())
    }
}

/// What a node's run says of itself.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) status: Option<NodeStatus>,
    pub(super) message: Option<String>,
    pub(super) failures: Option<i64>,
    pub(super) response: Map<String, Value>,
    pub(super) details: Vec<String>,
    pub(super) batch_results: Option<Value>,
}

/// A node on its way.
pub(super) struct Running<'a> {
    pub(super) node: &'a Node,
    pub(super) warehouse: &'a NodeWarehouse,
    pub(super) compiled: Option<std::sync::Arc<Compiled>>,
    /// Marks of an ended run that let the model be deployed as if it were new.
    pub(super) again: std::cell::RefCell<Vec<Relation>>,
    timing: Vec<Timing>,
}

impl<'a> Running<'a> {
    pub(super) fn new(node: &'a Node, warehouse: &'a NodeWarehouse) -> Self {
        Self { node, warehouse, compiled: None, again: Default::default(), timing: Vec::new() }
    }
}

impl Worker for NodeWorker<'_> {
    type State = Result<NodeWarehouse, Error>;

    fn state(&self, _thread: usize) -> Self::State {
        self.prepared.connect()
    }

    fn run(&self, state: &mut Self::State, id: &str, position: Position) -> NodeResult {
        let Some(node) = self.workspace.manifest.nodes.get(id) else {
            if self.workspace.manifest.exposures.contains_key(id) {
                return self.no_op(id, position);
            }
            return self.run_unit_test(state, id, position);
        };
        let name = NodeName::of(node);
        self.lines.start(&name, position);
        let started = Instant::now();
        let (mut result, running) = match state {
            Ok(warehouse) => {
                self.begin(warehouse, id);
                let mut running = Running::new(node, warehouse);
                let done = self.compile_and_run(&mut running);
                (self.result(node, done, warehouse), Some(running))
            }
            Err(error) => (self.unreachable(node, error), None),
        };
        if let Some(running) = running {
            result.timing = running.timing;
            if let Some(compiled) = running.compiled {
                result.compiled_code = Some(compiled.code.clone());
                result.compiled_path = compiled.compiled_path.clone();
            }
        }
        result.thread = position.thread;
        result.execution_time = started.elapsed().as_secs_f64();
        self.lines.result(&name, &result, position);
        result
    }

    fn skip(&self, id: &str, position: Position, cause: &SkipCause) -> NodeResult {
        let mut result = NodeResult::new(id, NodeStatus::Skipped);
        result.thread = position.thread;
        result.message = match cause {
            SkipCause::Upstream(_) => None,
            SkipCause::FailFast => Some("Skipping due to fail_fast".to_owned()),
            SkipCause::Interrupted => Some("Skipping due to interruption".to_owned()),
        };
        if let SkipCause::Upstream(upstream) = cause {
            result.details.push(format!("skipped because of {upstream}"));
        }
        let name = match self.workspace.manifest.nodes.get(id) {
            Some(node) => {
                result.relation_name = node.relation_name.clone();
                NodeName::of(node)
            }
            None if self.workspace.manifest.exposures.contains_key(id) => NodeName::of_exposure(id),
            None => self.unit_test_name(id),
        };
        self.lines.result(&name, &result, position);
        result
    }
}

impl NodeWorker<'_> {
    /// Names the statements that follow after a node, so that no two connections use an id at once.
    pub(super) fn begin(&self, warehouse: &NodeWarehouse, id: &str) {
        let mut adapter = warehouse.adapter();
        adapter.set_query_prefix(self.prepared.query_prefix(id.split_once('.').map_or(id, |(_, id)| id)));
        adapter.take_statements();
    }

    /// A resource that is nothing to run.
    fn no_op(&self, id: &str, position: Position) -> NodeResult {
        let mut result = NodeResult::new(id, NodeStatus::NoOp);
        result.thread = position.thread;
        result.message = Some("NO-OP".to_owned());
        result.failures = Some(0);
        let began = Utc::now();
        result.timing = vec![timing("compile", began), timing("execute", began)];
        self.lines.result(&NodeName::of_exposure(id), &result, position);
        result
    }

    fn compile_and_run(&self, running: &mut Running<'_>) -> Result<Done, Failure> {
        let _lease = self.lease(running)?;
        let began = Utc::now();
        let compiled = self.compile(running);
        running.timing.push(timing("compile", began));
        compiled?;
        let began = Utc::now();
        let done = self.execute(running);
        running.timing.push(timing("execute", began));
        done
    }

    /// Nodes whose next state follows from the last one are worked on by one invocation at a time.
    pub(super) fn lease(&self, running: &Running<'_>) -> Result<Option<Lease>, Failure> {
        let node = running.node;
        let stateful = node.resource_type == ResourceType::Snapshot
            || matches!(node.materialized(), "incremental" | "materialized_view" | "distributed_incremental");
        if !stateful {
            return Ok(None);
        }
        let relation = node.relation();
        let lease = running.warehouse.adapter().lease(&relation, &self.prepared.holder(), self.prepared.patience);
        lease.map(Some).map_err(|error| match error {
            LeaseError::Adapter(error) => Failure::materialize(node, &error.into()),
            LeaseError::Held(holder) => {
                Failure::materialize(node, &MaterializeError::Busy { relation, invocation: holder.invocation })
            }
        })
    }

    pub(super) fn compile(&self, running: &mut Running<'_>) -> Result<(), Failure> {
        self.finish_leftovers(running)?;
        // Each batch is compiled for itself.
        if running.node.resource_type == ResourceType::Seed || self.is_microbatch(running.node) {
            return Ok(());
        }
        let compiled = self
            .compiler
            .compile(&running.node.unique_id, Some(running.warehouse))
            .map_err(|error| Failure::project(&error))?;
        running.compiled = Some(compiled);
        Ok(())
    }

    fn execute(&self, running: &Running<'_>) -> Result<Done, Failure> {
        self.execute_unplaced(running).map_err(|mut failure| {
            let place =
                running.compiled.as_ref().and_then(|compiled| locate::place(&failure.message, running.node, compiled));
            failure.details.splice(0..0, place);
            failure
        })
    }

    fn execute_unplaced(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let done = match running.node.resource_type {
            ResourceType::Test => self.run_test(running),
            ResourceType::Seed => self.with_hooks(running, || self.run_seed(running)),
            ResourceType::Snapshot => self.with_hooks(running, || self.run_snapshot(running)),
            // A materialization of the project's own runs its hooks by itself.
            _ if self.own_materialization(running.node).is_some() => self.run_model(running),
            _ if self.is_microbatch(running.node) => self.with_hooks(running, || self.run_batches(running)),
            _ => self.with_hooks(running, || self.run_model(running)),
        };
        let statements = running.warehouse.adapter().take_statements();
        if self.is_microbatch(running.node) && self.own_materialization(running.node).is_none() {
            // Each interval has its own file.
            return done;
        }
        self.write_run(running.node, running.compiled.as_deref(), &statements)?;
        done
    }

    /// Pre-hooks, the node, post-hooks.
    fn with_hooks(&self, running: &Running<'_>, run: impl FnOnce() -> Result<Done, Failure>) -> Result<Done, Failure> {
        self.run_hooks(running, &running.node.config.pre_hooks())?;
        let done = run()?;
        self.run_hooks(running, &running.node.config.post_hooks())?;
        Ok(done)
    }

    /// Writes the statements that were sent to `target/run`; of a test, which changes nothing, its query.
    pub(super) fn write_run(
        &self,
        node: &Node,
        compiled: Option<&Compiled>,
        statements: &[Statement],
    ) -> Result<(), Failure> {
        let mut text: Vec<&str> = statements.iter().map(|statement| statement.sql.as_str()).collect();
        if text.is_empty() {
            text.extend(compiled.map(|compiled| compiled.code.as_str()));
        }
        self.compiler.write_run(node, &text.join(";\n\n")).map(drop).map_err(|error| Failure::project(&error))
    }

    fn result(&self, node: &Node, done: Result<Done, Failure>, warehouse: &NodeWarehouse) -> NodeResult {
        let mut result = NodeResult::new(&node.unique_id, NodeStatus::Success);
        result.relation_name = node.relation_name.clone();
        match done {
            Ok(done) => {
                result.status = done.status.unwrap_or(NodeStatus::Success);
                result.message = done.message;
                result.failures = done.failures;
                result.adapter_response = done.response;
                result.details = done.details;
                result.batch_results = done.batch_results;
            }
            Err(failure) => {
                // What a statement that failed left open must not meet the next node.
                warehouse.adapter().take_statements();
                result.status = NodeStatus::Error;
                result.message = Some(failure.message);
                result.details = failure.details;
            }
        }
        result
    }

    fn unreachable(&self, node: &Node, error: &Error) -> NodeResult {
        let mut result = NodeResult::new(&node.unique_id, NodeStatus::Error);
        result.message = Some(error.to_string());
        result
    }
}

/// dbt's `adapter_response` of a statement.
pub(super) fn response(message: &str, rows: Option<u64>, query_id: &str) -> Map<String, Value> {
    let mut response = Map::new();
    response.insert("_message".into(), json!(message));
    response.insert("code".into(), json!("SUCCESS"));
    if let Some(rows) = rows {
        response.insert("rows_affected".into(), json!(rows));
    }
    response.insert("query_id".into(), json!(query_id));
    response
}

pub(super) fn timing(name: &'static str, started_at: DateTime<Utc>) -> Timing {
    Timing { name, started_at, completed_at: Utc::now() }
}
