//! Sources: how old the newest row of each is, against what its properties allow. In: the selected sources; out: sources.json.

use std::{path::Path, time::Instant};

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    Plan, hooks,
    lines::NodeName,
    node::{NodeWorker, timing},
    skips_nodes, with_worker,
};
use crate::{
    Error,
    adapter::{Adapter, AdapterError, ColumnInfo, NodeWarehouse},
    commands::{Context, ExitStatus},
    engine::quote_string,
    interrupt::interrupted,
    project::{Compiler, DBT_VERSION, Freshness, FreshnessThreshold, Source, Workspace, write_manifest},
    schedule::{self, NodeResult, NodeStatus, Position, ScheduleOptions, SkipCause, Worker},
};

/// One source's age.
struct Checked<'a> {
    source: &'a Source,
    age: Result<Age, String>,
    status: &'static str,
    seconds: f64,
    thread: usize,
}

struct Age {
    max_loaded_at: DateTime<Utc>,
    snapshotted_at: DateTime<Utc>,
}

impl Age {
    /// Seconds.
    fn seconds(&self) -> f64 {
        (self.snapshotted_at - self.max_loaded_at).num_milliseconds() as f64 / 1000.0
    }
}

/// Checks sources and writes sources.json: to `output`, or into the target folder.
///
/// # Errors
/// As [`super::execute`].
pub(in crate::commands) fn freshness(
    plan: &Plan<'_>,
    output: Option<&Path>,
    context: &Context,
) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    let report =
        |workspace: &Workspace, compiler: Option<&Compiler<'_>>, checked: &[Checked<'_>]| -> Result<(), Error> {
            let path = output.map_or_else(|| workspace.target_path().join("sources.json"), Path::to_owned);
            write(&path, context, workspace, checked, started)?;
            let compiled = compiler.map(Compiler::compiled).unwrap_or_default();
            write_manifest(&workspace.manifest, &compiled, &context.invocation, workspace.target_path())?;
            Ok(())
        };
    let status = with_worker(
        plan,
        context,
        |workspace| report(workspace, None, &[]),
        |worker, ids| {
            let threads = context.settings.threads.unwrap_or(worker.workspace.target.threads).max(1);
            worker.lines.concurrency(threads, &worker.workspace.target.name);
            let with_hooks = runs_hooks(worker.workspace);
            let mut hooked = if with_hooks { hooks::run(worker, "on-run-start", &[])? } else { Vec::new() };
            let begins_well = !hooked.iter().any(|result| result.status.is_failure());
            let mut told = hooked.clone();
            let checker = Checker { nodes: worker, checked: Mutex::default() };
            if begins_well || !skips_nodes(worker.workspace) {
                let waits: IndexMap<String, Vec<String>> = ids.iter().map(|id| (id.clone(), Vec::new())).collect();
                told.extend(schedule::run(&waits, ScheduleOptions { threads, fail_fast: false }, &checker));
            }
            if interrupted() {
                return Err(Error::Interrupted);
            }
            if with_hooks {
                let ended = hooks::run(worker, "on-run-end", &told)?;
                hooked.extend(ended);
            }
            let checked = checker.checked.into_inner();
            report(worker.workspace, Some(worker.compiler), &checked)?;
            worker.lines.note("Done.");
            let failed = hooked.iter().any(|result| result.status.is_failure())
                || checked.iter().any(|checked| matches!(checked.status, "error" | "runtime error"));
            Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
        },
    )?;
    Ok(status.unwrap_or(ExitStatus::Success))
}

/// dbt's flag of the project, which is on.
fn runs_hooks(workspace: &Workspace) -> bool {
    workspace.project.flag("source_freshness_run_project_hooks").and_then(Value::as_bool).unwrap_or(true)
}

/// Asks for one source after another, on each thread.
struct Checker<'w> {
    nodes: &'w NodeWorker<'w>,
    checked: Mutex<Vec<Checked<'w>>>,
}

impl Worker for Checker<'_> {
    type State = Result<NodeWarehouse, Error>;

    fn state(&self, thread: usize) -> Self::State {
        self.nodes.state(thread)
    }

    fn run(&self, state: &mut Self::State, id: &str, position: Position) -> NodeResult {
        let mut result = NodeResult::new(id, NodeStatus::Success);
        let Some(source) = self.nodes.workspace.manifest.sources.get(id) else { return result };
        let name = NodeName::of_source(source);
        self.nodes.lines.start(&name, position);
        let (began, began_at) = (Instant::now(), Utc::now());
        let age = match state {
            Ok(warehouse) => {
                self.nodes.begin(warehouse, id);
                age(source, self.nodes.compiler, warehouse)
            }
            Err(error) => Err(error.to_string()),
        };
        let status = match (&age, &source.freshness) {
            (Ok(age), Some(freshness)) => verdict(freshness, age),
            (Ok(_), None) => "pass",
            (Err(_), _) => "runtime error",
        };
        let seconds = began.elapsed().as_secs_f64();
        self.nodes.lines.freshness(&name, status, position, seconds);
        if let Err(reason) = &age {
            self.nodes.lines.note(&format!("  {reason}"));
        }
        result.status = match status {
            "pass" => NodeStatus::Pass,
            "warn" => NodeStatus::Warn,
            _ => NodeStatus::Error,
        };
        result.timing = vec![timing("compile", began_at), timing("execute", began_at)];
        result.execution_time = seconds;
        result.thread = position.thread;
        result.message = age.as_ref().err().cloned();
        self.checked.lock().push(Checked { source, age, status, seconds, thread: position.thread });
        result
    }

    /// Sources wait for nothing, so only Ctrl-C skips them.
    fn skip(&self, id: &str, _position: Position, _cause: &SkipCause) -> NodeResult {
        NodeResult::new(id, NodeStatus::Skipped)
    }
}

/// Whether there is anything to check of a source.
pub(super) fn is_checked(source: &Source) -> bool {
    source
        .freshness
        .as_ref()
        .is_some_and(|freshness| freshness.warn_after.count.is_some() || freshness.error_after.count.is_some())
}

fn verdict(freshness: &Freshness, age: &Age) -> &'static str {
    let exceeded = |bound: &FreshnessThreshold| {
        let seconds = match bound.period.as_deref() {
            Some("minute") => 60.0,
            Some("hour") => 3_600.0,
            _ => 86_400.0,
        };
        bound.count.is_some_and(|count| age.seconds() > count as f64 * seconds)
    };
    if exceeded(&freshness.error_after) {
        "error"
    } else if exceeded(&freshness.warn_after) {
        "warn"
    } else {
        "pass"
    }
}

/// When the newest row came: by the source's own field or query, else by what ClickHouse or S3 knows of the table.
fn age(source: &Source, compiler: &Compiler<'_>, warehouse: &NodeWarehouse) -> Result<Age, String> {
    let relation = source.relation();
    let query = match (&source.loaded_at_query, &source.loaded_at_field) {
        (Some(query), _) => {
            let sql = compiler.compile_loaded_at(source, query, warehouse).map_err(|error| error.to_string())?;
            format!("SELECT * FROM (\n{}\n)", sql.trim_end())
        }
        (None, Some(field)) => {
            let filter = source.freshness.as_ref().and_then(|freshness| freshness.filter.clone());
            let filter = filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
            format!("SELECT max({field}) FROM {relation}{filter}")
        }
        (None, None) => metadata_query(source, warehouse)?,
    };
    let mut adapter = warehouse.adapter();
    newest(&mut adapter, &query).map_err(|error| error.to_string())
}

/// The newest part of a MergeTree table, or the newest object behind an S3 table.
fn metadata_query(source: &Source, warehouse: &NodeWarehouse) -> Result<String, String> {
    let relation = source.relation();
    let mut adapter = warehouse.adapter();
    let info = adapter.relation(&relation).map_err(|error| error.to_string())?;
    let Some(info) = info else { return Err(format!("{relation} does not exist")) };
    if info.is_merge_tree() {
        return Ok(format!(
            "SELECT max(modification_time) FROM system.parts WHERE active AND database = {} AND table = {}",
            quote_string(&relation.schema),
            quote_string(&relation.identifier)
        ));
    }
    if info.engine == "S3" {
        return Ok(format!("SELECT max(_time) FROM {relation}"));
    }
    Err(format!(
        "source {} has no loaded_at_field, and a table of engine {} does not say when it was changed",
        source.name, info.engine
    ))
}

/// Both times in UTC; dates and times of any type become microseconds first.
fn newest(adapter: &mut Adapter, query: &str) -> Result<Age, AdapterError> {
    let columns = adapter.query_columns(query, &[])?;
    let column = columns.first().map(ColumnInfo::quoted).unwrap_or_default();
    let sql =
        format!("SELECT toString(toDateTime64({column}, 6), 'UTC'), toString(now64(6), 'UTC') FROM (\n{query}\n)");
    let row = adapter.rows(&sql)?.into_iter().next().unwrap_or_default();
    let time = |index: usize| {
        row.get(index)
            .and_then(Option::as_deref)
            .and_then(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok())
            .map(|time| time.and_utc())
    };
    let snapshotted_at = time(1).unwrap_or_else(Utc::now);
    // An empty table is as old as can be, as in dbt.
    let max_loaded_at = time(0).unwrap_or(DateTime::UNIX_EPOCH);
    Ok(Age { max_loaded_at, snapshotted_at })
}

/// sources.json, version 3. <https://schemas.getdbt.com/dbt/sources/v3.json>
fn write(
    path: &Path,
    context: &Context,
    workspace: &Workspace,
    checked: &[Checked<'_>],
    started: Instant,
) -> Result<(), Error> {
    let timestamp = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let results: Vec<Value> = checked
        .iter()
        .map(|checked| match &checked.age {
            Err(reason) => {
                json!({"unique_id": checked.source.unique_id, "error": reason, "status": "runtime error"})
            }
            Ok(age) => json!({
                "unique_id": checked.source.unique_id,
                "max_loaded_at": timestamp(age.max_loaded_at),
                "snapshotted_at": timestamp(age.snapshotted_at),
                "max_loaded_at_time_ago_in_s": age.seconds(),
                "status": checked.status,
                "criteria": checked.source.freshness,
                "adapter_response": {},
                "timing": [],
                "thread_id": format!("Thread-{} (worker)", checked.thread),
                "execution_time": checked.seconds,
            }),
        })
        .collect();
    let document = json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/sources/v3.json",
            "dbt_version": DBT_VERSION,
            "generated_at": timestamp(Utc::now()),
            "invocation_id": context.invocation.id.to_string(),
            "invocation_started_at": timestamp(context.invocation.started_at),
            "env": {},
        },
        "results": results,
        "elapsed_time": started.elapsed().as_secs_f64(),
    });
    let write = || -> std::io::Result<()> {
        fs_err::create_dir_all(workspace.target_path())?;
        fs_err::write(path, serde_json::to_vec(&document).map_err(std::io::Error::other)?)
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}
