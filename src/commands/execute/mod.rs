//! What run, test, build, snapshot and seed have in common: load, select, open, prepare schemas, run in graph order, write
//! the artifacts, tell how it went.

mod batches;
mod clone;
mod freshness;
mod hooks;
mod lines;
mod locate;
mod model;
mod node;
mod prepare;
mod seed;
mod snapshot;
mod test;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Instant,
};

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    Error,
    cli::{ExecutionArgs, SelectionArgs},
    commands::{Context, ExitStatus, arguments, audit, parse, warehouse},
    interrupt::interrupted,
    printer::Printer,
    project::{
        Compiler, Defer, LoadOptions, PreviousState, ProjectError, Resolver, ResourceType, Sample, Selector, Workspace,
        write_manifest,
    },
    schedule::{
        self, NodeResult, NodeStatus, Position, RunResults, ScheduleOptions, SkipCause, Worker as _, write_run_results,
    },
};

pub(super) use batches::Batches;
pub(super) use clone::clone;
pub(super) use freshness::freshness;
pub(super) use lines::Lines;
pub(super) use prepare::Prepared;
pub(super) use snapshot::{dry_run, verify};

/// What a command runs.
pub(super) struct Plan<'a> {
    /// dbt's name of it.
    pub(super) command: &'static str,
    pub(super) kinds: &'static [ResourceType],
    pub(super) selection: &'a SelectionArgs,
    pub(super) execution: &'a ExecutionArgs,
    /// A failed test holds back what is built on the models it tests.
    pub(super) tests_block: bool,
    /// The nodes' databases are made where they are missing.
    pub(super) makes_schemas: bool,
    /// What of an earlier invocation is done again, whatever the selection says.
    pub(super) again: Option<&'a Again>,
    /// `--event-time-start` and `--event-time-end`.
    pub(super) event_time: (Option<&'a str>, Option<&'a str>),
}

/// What `retry` takes up.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub(super) ids: Vec<String>,
    /// Of microbatch models that got half way: their `batch_results`.
    pub(super) batches: BTreeMap<String, Batches>,
    /// When the first attempt began: other microbatch models get the intervals of then.
    pub(super) began: Option<DateTime<Utc>>,
}

impl<'a> Plan<'a> {
    /// A plan without what only some commands have.
    pub(super) fn new(
        command: &'static str,
        kinds: &'static [ResourceType],
        selection: &'a SelectionArgs,
        execution: &'a ExecutionArgs,
    ) -> Self {
        Self {
            command,
            kinds,
            selection,
            execution,
            tests_block: false,
            makes_schemas: true,
            again: None,
            event_time: (None, None),
        }
    }

    /// For `invocation_args_dict` and run_results.json.
    fn arguments(&self, context: &Context) -> Map<String, Value> {
        let mut args = arguments::common(self.command, &context.settings);
        arguments::put_selection(&mut args, self.selection);
        arguments::put_execution(&mut args, self.execution);
        arguments::put_text(&mut args, "event_time_start", self.event_time.0);
        arguments::put_text(&mut args, "event_time_end", self.event_time.1);
        args
    }
}

/// Runs the plan.
///
/// # Errors
/// The project or the warehouse cannot be used; a node that fails is an [`ExitStatus::Failure`].
pub(super) fn execute(plan: &Plan<'_>, context: &Context) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    let nothing = |workspace: &Workspace| finish(plan, context, workspace, None, &[], Instant::now());
    let status = with_worker(plan, context, nothing, |worker, ids| {
        let threads = context.settings.threads.unwrap_or(worker.workspace.target.threads).max(1);
        worker.lines.concurrency(threads, &worker.workspace.target.name);
        let mut results = hooks::run(worker, "on-run-start", &[])?;
        let failed = results.iter().any(|result| result.status.is_failure());
        let skipped = failed && skips_nodes(worker.workspace);
        if skipped {
            let total = ids.len();
            results.extend(ids.iter().enumerate().map(|(at, id)| {
                let position = Position { index: at + 1, total, thread: 1 };
                worker.skip(id, position, &SkipCause::Upstream("on-run-start".to_owned()))
            }));
        } else {
            let waits = order(worker.workspace, ids, plan.tests_block);
            let options = ScheduleOptions { threads, fail_fast: plan.execution.fail_fast };
            results.extend(schedule::run(&waits, options, worker));
        }
        if !interrupted() {
            // As dbt's: of nodes that were all skipped, on-run-end is told nothing.
            let told = if skipped { &[] } else { results.as_slice() };
            let ended = hooks::run(worker, "on-run-end", told)?;
            results.extend(ended);
        }
        finish(plan, context, worker.workspace, Some(worker.compiler), &results, started)?;
        worker.lines.summary(worker.workspace, &results, started.elapsed());
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let warned = plan.execution.warn_error && results.iter().any(|result| result.status == NodeStatus::Warn);
        let failed = warned || results.iter().any(|result| result.status.is_failure());
        Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
    })?;
    Ok(status.unwrap_or(ExitStatus::Success))
}

/// dbt goes on with the nodes after a failed on-run-start, unless the project's flag says otherwise.
fn skips_nodes(workspace: &Workspace) -> bool {
    workspace.project.flag("skip_nodes_if_on_run_start_fails").and_then(Value::as_bool).unwrap_or(false)
}

/// Loads the project, selects, opens the warehouse and hands both to `work`; where nothing is selected, it is `nothing` that is
/// called, and `None` the answer.
fn with_worker<R>(
    plan: &Plan<'_>,
    context: &Context,
    nothing: impl FnOnce(&Workspace) -> Result<(), Error>,
    work: impl FnOnce(&node::NodeWorker<'_>, &[String]) -> Result<R, Error>,
) -> Result<Option<R>, Error> {
    let options = load_options(plan, context);
    let workspace = parse::load(context, &options)?;
    let lines = Lines::new(&context.printer, plan.execution.warn_error);
    lines.note(&parse::found(&workspace));
    let state = previous_state(plan.selection, &workspace, &context.printer)?;
    let mut ids = match plan.again {
        Some(again) => again.ids.clone(),
        None => {
            let selector = Selector::new(&workspace).with_state(state.as_ref());
            let selection = selector.select(plan.selection, plan.kinds)?;
            for warning in &selection.warnings {
                lines.warning(warning);
            }
            selection.ids
        }
    };
    ids.retain(|id| is_run(&workspace, id));
    if ids.is_empty() {
        lines.warning("Nothing to do. Try checking your model configs and model specification args");
        nothing(&workspace)?;
        return Ok(None);
    }
    let opened = warehouse::open(context)?;
    let mut prepared = Prepared::open(&opened, context)?;
    prepared.hold()?;
    prepared.schemas(&workspace, &ids, plan)?;
    let defer = deferral(plan.selection, &workspace, state, true, |schemas| prepared.existing(schemas))?;
    let sample = plan.execution.sample.as_deref();
    let sample = sample.map(|text| Sample::parse(text, context.invocation.started_at)).transpose()?;
    let resolver = Resolver::new(&workspace, ids.clone(), plan.execution.empty, defer).with_sample(sample);
    let compiler = Compiler::new(&workspace, &resolver, &lines);
    let worker = node::NodeWorker {
        plan,
        workspace: &workspace,
        compiler: &compiler,
        resolver: &resolver,
        prepared: &prepared,
        lines: &lines,
    };
    work(&worker, &ids).map(Some)
}

/// dbt's flags of the command.
fn load_options(plan: &Plan<'_>, context: &Context) -> LoadOptions {
    LoadOptions {
        full_refresh: plan.execution.full_refresh,
        store_failures: plan.execution.store_failures,
        empty: plan.execution.empty,
        fail_fast: plan.execution.fail_fast,
        warn_error: plan.execution.warn_error,
        arguments: plan.arguments(context),
        ..parse::options(plan.command, context)
    }
}

/// Ephemeral models live inside others, and what is not SQL is refused when it is compiled.
fn is_run(workspace: &Workspace, id: &str) -> bool {
    match workspace.manifest.nodes.get(id) {
        Some(node) => !node.is_ephemeral(),
        // Exposures are nothing to run, but dbt's `build` counts them.
        None => {
            workspace.manifest.unit_tests.contains_key(id)
                || workspace.manifest.exposures.contains_key(id)
                || workspace.manifest.sources.get(id).is_some_and(freshness::is_checked)
        }
    }
}

/// The artifacts of `--state`.
pub(super) fn previous_state(
    selection: &SelectionArgs,
    workspace: &Workspace,
    printer: &Printer,
) -> Result<Option<PreviousState>, ProjectError> {
    let Some(folder) = selection.state.as_deref() else { return Ok(None) };
    let target_path = workspace.target_path();
    if let (Ok(state), Ok(target)) = (fs_err::canonicalize(folder), fs_err::canonicalize(target_path))
        && state == target
    {
        printer.warning(&format!(
            "The state and target directories are the same: '{}'. This could lead to missing changes due to \
             overwritten state including non-idempotent retries.",
            folder.display()
        ));
    }
    PreviousState::load(folder, target_path).map(Some)
}

/// `--defer`: what is not there resolves to the relations of `--state`. `existing` lists the relations of databases; `builds`
/// is whether the command makes what is selected.
pub(super) fn deferral(
    selection: &SelectionArgs,
    workspace: &Workspace,
    state: Option<PreviousState>,
    builds: bool,
    existing: impl FnOnce(&BTreeSet<&str>) -> Result<HashSet<(String, String)>, Error>,
) -> Result<Option<Defer>, Error> {
    if !selection.defer {
        return Ok(None);
    }
    let state = match &selection.defer_state {
        Some(folder) => Some(PreviousState::load(folder, workspace.target_path())?),
        None => state,
    };
    let Some(state) = state else {
        let message = "--state or --defer-state are required for deferral, but neither was provided";
        let error = ProjectError::runtime(message).hinting("name the folder of the earlier manifest.json: --state DIR");
        return Err(error.into());
    };
    let schemas: BTreeSet<&str> =
        workspace.manifest.nodes.values().map(|node| node.schema.as_str()).filter(|s| !s.is_empty()).collect();
    let existing = existing(&schemas)?;
    Ok(Some(Defer { state, favor_state: selection.favor_state, existing, builds }))
}

/// What each id waits for, in graph order.
fn order(workspace: &Workspace, ids: &[String], tests_block: bool) -> IndexMap<String, Vec<String>> {
    let graph = &workspace.graph;
    let selected: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    let mut waits = graph.subgraph(ids);
    if tests_block {
        for (test, parents) in data_tests(workspace, &selected) {
            for id in common_descendants(workspace, &parents) {
                // As dbt's: exposures wait for what they depend on, not for its tests.
                if workspace.manifest.nodes.contains_key(id)
                    && !is_test(workspace, id)
                    && selected.contains(id)
                    && let Some(waits) = waits.get_mut(id)
                {
                    waits.push(test.to_owned());
                }
            }
        }
        unit_tests_first(workspace, &mut waits);
    }
    // Preference by graph order: parents before children, and what was declared first before the rest.
    if let Ok(order) = graph.topological_order() {
        let rank: IndexMap<&str, usize> = order.into_iter().enumerate().map(|(at, id)| (id, at)).collect();
        waits.sort_by_cached_key(|id, _| rank.get(id.as_str()).copied());
    }
    waits
}

fn is_test(workspace: &Workspace, id: &str) -> bool {
    workspace.manifest.unit_tests.contains_key(id)
        || workspace.manifest.nodes.get(id).is_some_and(|node| node.resource_type == ResourceType::Test)
}

/// The selected data tests with the nodes they depend on.
fn data_tests<'w>(workspace: &'w Workspace, selected: &BTreeSet<&str>) -> Vec<(&'w str, Vec<&'w str>)> {
    workspace
        .manifest
        .nodes
        .values()
        .filter(|node| node.resource_type == ResourceType::Test && selected.contains(node.unique_id.as_str()))
        .map(|node| (node.unique_id.as_str(), node.depends_on.nodes.iter().map(String::as_str).collect()))
        .collect()
}

/// A unit test comes before its model and holds it back; it needs what the model needs.
fn unit_tests_first(workspace: &Workspace, waits: &mut IndexMap<String, Vec<String>>) {
    for test in workspace.manifest.unit_tests.values() {
        let Some(model) = test.depends_on.nodes.first() else { continue };
        if !waits.contains_key(&test.unique_id) || !waits.contains_key(model) {
            continue;
        }
        let inherited = waits.get(model).cloned().unwrap_or_default();
        waits.insert(test.unique_id.clone(), inherited);
        if let Some(model) = waits.get_mut(model) {
            model.push(test.unique_id.clone());
        }
    }
}

/// What is below all of the nodes: a node that uses only some of a test's parents does not wait for it.
fn common_descendants<'w>(workspace: &'w Workspace, parents: &[&str]) -> BTreeSet<&'w str> {
    let mut common: Option<BTreeSet<&str>> = None;
    for parent in parents {
        let below = workspace.graph.descendants(parent, None);
        common = Some(match common {
            None => below,
            Some(known) => known.intersection(&below).copied().collect(),
        });
    }
    common.unwrap_or_default()
}

/// Writes manifest.json and run_results.json.
fn finish(
    plan: &Plan<'_>,
    context: &Context,
    workspace: &Workspace,
    compiler: Option<&Compiler<'_>>,
    results: &[NodeResult],
    started: Instant,
) -> Result<(), Error> {
    let target_path = workspace.target_path();
    let compiled = compiler.map(Compiler::compiled).unwrap_or_default();
    write_manifest(&workspace.manifest, &compiled, &context.invocation, target_path)?;
    let mut args = plan.arguments(context);
    args.insert("target".into(), json!(workspace.target.name));
    let document =
        RunResults { invocation: &context.invocation, results, elapsed: started.elapsed().as_secs_f64(), args };
    let json = document.json();
    context.journal.set_arguments(audit::selected(&document.args));
    context.journal.add_nodes(json["results"].as_array().map(Vec::as_slice).unwrap_or_default());
    write_run_results(&document, target_path)
        .map_err(|source| Error::Io { path: target_path.join("run_results.json"), source })?;
    Ok(())
}
