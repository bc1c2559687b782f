//! Snapshots: the node's configuration, and for a custom strategy its macro, become a spec.

use chrono::{DateTime, SubsecRound as _, Utc};

use super::node::{Done, Failure, NodeWorker, Running, response};
use crate::{
    adapter::settings_list,
    materialize::{MaterializeError, apply_grants, persist_docs},
    project::{Node, ResourceType},
    render::{Phase, Value},
    snapshot::{self, SnapshotConfig, SnapshotError, SnapshotSpec, Strategy},
};

impl NodeWorker<'_> {
    pub(super) fn run_snapshot(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        debug_assert_eq!(node.resource_type, ResourceType::Snapshot);
        let failed = |error: SnapshotError| Failure::snapshot(node, &error);
        let sql = running.compiled.as_ref().map_or("", |compiled| compiled.code.as_str());
        let config = SnapshotConfig::of(&node.config).map_err(failed)?;
        let strategy = match config.strategy.clone() {
            Some(strategy) => strategy,
            None => self.custom_strategy(running)?,
        };
        let relation = node.relation();
        let model = self.model(node, &relation, sql, &[]);
        let spec = SnapshotSpec {
            relation: relation.clone(),
            sql,
            unique_key: config.unique_key,
            strategy,
            hard_deletes: config.hard_deletes,
            valid_to_current: config.valid_to_current,
            names: config.names,
            table: model.source(),
            query_settings: settings_list(node.config.query_settings()),
            run_at: now(),
            invocation: &self.prepared.mark,
            apply: config.apply,
        };
        let mut adapter = running.warehouse.adapter();
        let outcome = snapshot::take(&spec, &mut adapter).map_err(failed)?;
        let failed = |error: MaterializeError| Failure::materialize(node, &error);
        apply_grants(&model, &mut adapter).map_err(failed)?;
        persist_docs(&model, &mut adapter).map_err(failed)?;
        let query_id = adapter.statements().last().map(|last| last.summary.query_id.clone()).unwrap_or_default();
        let rows = outcome.inserted + outcome.changed;
        let mut response = response("OK", Some(rows), &query_id);
        response.extend(outcome.response());
        let message = if outcome.created {
            format!("OK, {} new", outcome.inserted)
        } else {
            format!(
                "OK, {} new, {} changed, {} deleted, {} unchanged",
                outcome.inserted, outcome.changed, outcome.deleted, outcome.unchanged
            )
        };
        Ok(Done { message: Some(message), response, ..Done::default() })
    }

    /// `snapshot_<name>_strategy(node, snapshotted_rel, current_rel, model_config, target_exists)`: dbt's contract of custom
    /// strategies.
    fn custom_strategy(&self, running: &Running<'_>) -> Result<Strategy, Failure> {
        let node = running.node;
        let name = node.config.str("strategy").unwrap_or_default();
        let exists = running
            .warehouse
            .adapter()
            .relation(&node.relation())
            .map_err(|error| Failure::snapshot(node, &error.into()))?
            .is_some();
        let mut renderer = self.compiler.renderer(node, Phase::Run, Some(running.warehouse));
        let context = self.compiler.context(node);
        let arguments = vec![
            context.model.clone(),
            Value::str("snapshotted_data"),
            Value::str("source_data"),
            context.config.clone(),
            Value::from(exists),
        ];
        let answer = renderer
            .call_macro(&format!("snapshot_{name}_strategy"), arguments, Vec::new())
            .map_err(|error| Failure::render(node, &error))?
            .to_json();
        let text = |key: &str| answer.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let row_changed = text("row_changed").ok_or_else(|| missing(node, name, "row_changed"))?;
        let updated_at = text("updated_at").ok_or_else(|| missing(node, name, "updated_at"))?;
        Ok(Strategy::Custom { updated_at, row_changed, scd_id: None })
    }
}

fn missing(node: &Node, strategy: &str, key: &str) -> Failure {
    let reason = format!("the macro `snapshot_{strategy}_strategy` answers no `{key}`");
    Failure::snapshot(node, &SnapshotError::config("strategy", reason))
}

/// The one time of the run; ClickHouse keeps microseconds.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
