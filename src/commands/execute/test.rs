//! Data tests and unit tests.

use super::{
    lines::NodeName,
    node::{Done, Failure, NodeWorker, Running, response},
};
use crate::{
    Error,
    adapter::NodeWarehouse,
    data_test::{self, DataTest, Verdict},
    printer::table_text,
    schedule::{NodeResult, NodeStatus, Position},
};

impl NodeWorker<'_> {
    pub(super) fn run_test(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        let sql = running.compiled.as_ref().map_or("", |compiled| compiled.code.as_str());
        let relation = node.relation();
        let kept = node.config.store_failures().unwrap_or(self.plan.execution.store_failures);
        let kind = match node.config.store_failures_as() {
            Some("ephemeral") => None,
            Some(kind) => Some(kind),
            None if kept => Some("table"),
            None => None,
        };
        let test = DataTest {
            sql,
            config: &node.config,
            store: kind.map(|kind| (&relation, kind)),
            invocation: &self.prepared.mark,
        };
        let mut adapter = running.warehouse.adapter();
        let outcome = data_test::run(&test, &mut adapter).map_err(|error| Failure::materialize(node, &error))?;
        let mut details = Vec::new();
        if outcome.verdict != Verdict::Pass {
            if !outcome.sample.rows.is_empty() {
                let header: Vec<&str> = outcome.sample.columns.iter().map(String::as_str).collect();
                details.push(table_text(&header, &outcome.sample.rows, &[]));
            }
            if let Some(kind) = kind {
                details.push(format!("all of them are kept in the {kind} {relation}"));
            }
        }
        Ok(Done {
            status: Some(match outcome.verdict {
                Verdict::Pass => NodeStatus::Pass,
                Verdict::Warn if self.plan.execution.warn_error => NodeStatus::Fail,
                Verdict::Warn => NodeStatus::Warn,
                Verdict::Fail => NodeStatus::Fail,
            }),
            message: outcome.message,
            failures: Some(outcome.failures),
            response: response("OK", Some(1), adapter.query_prefix()),
            details,
            batch_results: None,
        })
    }

    pub(super) fn unit_test_name(&self, id: &str) -> NodeName {
        match self.workspace.manifest.unit_tests.get(id) {
            Some(test) => NodeName::of_unit_test(id, &test.model, &test.name),
            None => NodeName::of_unit_test(id, "", id),
        }
    }

    pub(super) fn run_unit_test(
        &self,
        _state: &mut Result<NodeWarehouse, Error>,
        id: &str,
        position: Position,
    ) -> NodeResult {
        let name = self.unit_test_name(id);
        self.lines.start(&name, position);
        let mut result = NodeResult::new(id, NodeStatus::Error);
        result.thread = position.thread;
        result.message = Some("Runtime Error\n  unit tests are not supported by this build".to_owned());
        self.lines.result(&name, &result, position);
        result
    }
}
