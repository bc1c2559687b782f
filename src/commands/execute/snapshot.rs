//! Snapshots: the node's configuration, and for a custom strategy its macro, become a spec.

use chrono::{DateTime, SubsecRound as _, Utc};

use super::{
    Plan,
    node::{Done, Failure, NodeWorker, Running, response},
    with_worker,
};
use crate::{
    Error,
    adapter::{Adapter, settings_list},
    commands::{Context, ExitStatus},
    materialize::{MaterializeError, apply_grants, persist_docs},
    project::Node,
    render::{Phase, Value},
    snapshot::{self, HistorySpec, SnapshotConfig, SnapshotError, SnapshotSpec, Strategy},
};

/// `--dry-run`: what a run would do, per snapshot; nothing is written.
///
/// # Errors
/// As [`super::execute`].
pub(in crate::commands) fn dry_run(plan: &Plan<'_>, context: &Context) -> Result<ExitStatus, Error> {
    each_snapshot(plan, context, |worker, running| {
        let preview = worker.with_spec(running, snapshot::preview)?;
        let name = running.node.relation();
        let lines = worker.lines;
        lines.note("");
        if preview.creates {
            lines.note(&format!("{name} does not exist yet; {} rows would be inserted", preview.inserted));
            return Ok(true);
        }
        lines.note(&format!(
            "{name}: {} new, {} changed, {} deleted, {} unchanged",
            preview.inserted, preview.changed, preview.deleted, preview.unchanged
        ));
        if preview.history_rows > 0 {
            lines.note(&format!("  {} rows of the past, by the observations", preview.history_rows));
        }
        if !preview.columns_added.is_empty() {
            lines.note(&format!("  new columns: {}", preview.columns_added.join(", ")));
        }
        if !preview.sample.is_empty() {
            let rows: Vec<Vec<String>> = preview
                .sample
                .into_iter()
                .map(|change| vec![change.kind.to_owned(), change.key, change.column, change.old, change.new])
                .collect();
            lines.table(&["change", "key", "column", "old", "new"], &rows);
        }
        Ok(true)
    })
}

/// `verify`: the rules of each snapshot's table; `repair` restores what can be restored.
///
/// # Errors
/// As [`super::execute`].
pub(in crate::commands) fn verify(plan: &Plan<'_>, context: &Context, repair: bool) -> Result<ExitStatus, Error> {
    each_snapshot(plan, context, |worker, running| {
        let name = running.node.relation();
        let lines = worker.lines;
        let Some(mut violations) = worker.with_spec(running, snapshot::verify)? else {
            lines.note(&format!("{name} does not exist yet"));
            return Ok(true);
        };
        if repair && violations.iter().any(|violation| violation.rule.is_repairable()) {
            worker.with_spec(running, snapshot::repair)?;
            lines.note(&format!("{name} was repaired"));
            violations = worker.with_spec(running, snapshot::verify)?.unwrap_or_default();
        }
        if violations.is_empty() {
            lines.note(&format!("{name} is sound"));
        }
        for violation in &violations {
            let sample = violation.sample.join("; ");
            lines.note(&format!("{name}: {} {} ({sample})", violation.count, violation.rule.text()));
            if violation.rule.is_repairable() {
                lines.note("  `chpipe snapshot verify --repair` restores it");
            }
        }
        Ok(violations.is_empty())
    })
}

/// Calls `work` with each selected snapshot, compiled, one after another; it answers whether all is well.
fn each_snapshot(
    plan: &Plan<'_>,
    context: &Context,
    work: impl Fn(&NodeWorker<'_>, &Running<'_>) -> Result<bool, Failure>,
) -> Result<ExitStatus, Error> {
    let well = with_worker(
        plan,
        context,
        |_| Ok(()),
        |worker, ids| {
            let warehouse = worker.prepared.connect()?;
            let mut well = true;
            for node in ids.iter().filter_map(|id| worker.workspace.manifest.nodes.get(id)) {
                let mut running = Running::new(node, &warehouse);
                // The lease stands beside the table; where not even the database is there, nobody takes the snapshot.
                let database = running.warehouse.adapter().databases().map_err(Error::from)?.contains_key(&node.schema);
                let lease = if database { worker.lease(&running).map(Some) } else { Ok(None) };
                let done = lease
                    .and_then(|lease| worker.compile(&mut running).map(|()| lease))
                    .and_then(|lease| work(worker, &running).map(|fine| (fine, lease)));
                match done {
                    Ok((fine, _lease)) => well &= fine,
                    Err(failure) => {
                        well = false;
                        context.printer.error_text(&failure.message);
                    }
                }
            }
            Ok(well)
        },
    )?;
    Ok(if well.unwrap_or(true) { ExitStatus::Success } else { ExitStatus::Failure })
}

impl NodeWorker<'_> {
    pub(super) fn run_snapshot(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        let outcome = self.with_spec(running, snapshot::take)?;
        let failed = |error: MaterializeError| Failure::materialize(node, &error);
        let relation = node.relation();
        let model = self.model(node, &relation, "", &[]);
        let mut adapter = running.warehouse.adapter();
        apply_grants(&model, &mut adapter).map_err(failed)?;
        persist_docs(&model, &mut adapter).map_err(failed)?;
        let query_id = adapter.statements().last().map(|last| last.summary.query_id.clone()).unwrap_or_default();
        let rows = outcome.inserted + outcome.changed;
        let mut response = response("OK", Some(rows), &query_id);
        response.extend(outcome.response());
        let mut message = if outcome.created {
            format!("OK, {} new", outcome.inserted)
        } else {
            format!(
                "OK, {} new, {} changed, {} deleted, {} unchanged",
                outcome.inserted, outcome.changed, outcome.deleted, outcome.unchanged
            )
        };
        if outcome.history_rows > 0 {
            message.push_str(&format!(", {} of the past", outcome.history_rows));
        }
        Ok(Done { message: Some(message), response, ..Done::default() })
    }

    /// Calls `work` with the snapshot as it is configured, at the time of now.
    fn with_spec<R>(
        &self,
        running: &Running<'_>,
        work: impl FnOnce(&SnapshotSpec<'_>, &mut Adapter) -> Result<R, SnapshotError>,
    ) -> Result<R, Failure> {
        let node = running.node;
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
            history: config.history.map(|history| self.history(node, history)).transpose()?,
        };
        work(&spec, &mut running.warehouse.adapter()).map_err(failed)
    }

    /// The relation of `history` by the name of a model that the snapshot depends on, or as it was written.
    fn history(&self, node: &Node, mut history: HistorySpec) -> Result<HistorySpec, Failure> {
        let parent = node
            .depends_on
            .nodes
            .iter()
            .filter_map(|id| self.workspace.manifest.nodes.get(id))
            .find(|parent| parent.name == history.relation);
        history.relation = match parent {
            Some(parent) => parent.relation().render(),
            None if history.relation.contains('.') => history.relation,
            None => {
                let reason = format!(
                    "the snapshot does not depend on a model `{0}`; put `-- depends_on: {{{{ ref('{0}') }}}}` into its SQL",
                    history.relation
                );
                return Err(Failure::snapshot(node, &SnapshotError::config("history", reason)));
            }
        };
        Ok(history)
    }

    /// `snapshot_<name>_strategy(node, snapshotted_rel, current_rel, model_config, target_exists)`: dbt's contract of custom
    /// strategies; `package.name` means the macro of that package. Its `scd_id` is not used: two versions may get one from it.
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
        let macro_name = match name.split_once('.') {
            Some((package, name)) => format!("{package}.snapshot_{name}_strategy"),
            None => format!("snapshot_{name}_strategy"),
        };
        let answer = renderer
            .call_macro(&macro_name, arguments, Vec::new())
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
