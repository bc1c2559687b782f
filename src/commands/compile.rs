//! `chpipe compile`: the SQL of what is selected goes to target/compiled; the warehouse is opened only when a model asks it
//! something.

use std::{sync::Arc, time::Instant};

use serde_json::{Map, Value, json};

use crate::{
    Error,
    cli::{CompileArgs, CompileOutput, SelectionArgs},
    commands::{
        Context, ExitStatus, arguments,
        execute::{deferral, previous_state},
        lazy_warehouse::LazyWarehouse,
        parse, results,
    },
    project::{
        Compiled, Compiler, LoadOptions, Node, ProjectError, Resolver, ResourceType, Selection, Selector, Workspace,
        write_manifest,
    },
    render::SilentEvents,
    schedule::{NodeResult, NodeStatus},
};

/// What dbt compiles.
const KINDS: [ResourceType; 7] = [
    ResourceType::Model,
    ResourceType::Snapshot,
    ResourceType::Seed,
    ResourceType::Test,
    ResourceType::Analysis,
    ResourceType::UnitTest,
    ResourceType::Operation,
];

/// Compiles the selected nodes, writes their SQL and manifest.json, and prints what was named alone. `only`: exactly these nodes,
/// whatever the selection says.
pub(super) fn compile(args: &CompileArgs, only: Option<&[String]>, context: &Context) -> Result<ExitStatus, Error> {
    let mut arguments = arguments::common("compile", &context.settings);
    arguments::put_selection(&mut arguments, &args.selection);
    arguments.insert("full_refresh".into(), json!(args.full_refresh));
    arguments.insert("empty".into(), json!(args.empty));
    arguments.insert("introspect".into(), json!(!args.no_introspect));
    let options = LoadOptions {
        full_refresh: args.full_refresh,
        empty: args.empty,
        arguments: arguments.clone(),
        ..parse::options("compile", context)
    };
    let workspace = parse::load(context, &options)?;
    let state = previous_state(&args.selection, &workspace, &context.printer)?;
    let mut selection_args = args.selection.clone();
    if selection_args.resource_type.is_empty() {
        // dbt compiles analyses too.
        selection_args.resource_type = vec!["all".into()];
    }
    let selection = match only {
        Some(ids) => Selection { ids: ids.to_vec(), ..Selection::default() },
        None => Selector::new(&workspace).with_state(state.as_ref()).select(&selection_args, &KINDS)?,
    };
    for warning in &selection.warnings {
        context.printer.warning(warning);
    }
    let warehouse = LazyWarehouse::new(context, !args.no_introspect);
    let defer = deferral(&args.selection, &workspace, state, false, |schemas| warehouse.existing(schemas))?;
    let resolver = Resolver::new(&workspace, selection.ids.clone(), args.empty, defer);
    let events = SilentEvents;
    let compiler = Compiler::new(&workspace, &resolver, &events);
    if let Some(sql) = &args.inline {
        let compiled = compiler.compile_inline(sql, Some(&warehouse))?;
        print(args, context, "inline_query", &compiled);
        return Ok(ExitStatus::Success);
    }
    compile_and_write(&workspace, &compiler, &warehouse, &selection.ids, arguments, context)?;
    context.printer.line(&parse::found(&workspace));
    let compiled = compiler.compiled();
    for node in named(&workspace, &args.selection, &selection.ids) {
        if let Some(compiled) = compiled.get(&node.unique_id) {
            print(args, context, &node.name, compiled);
        }
    }
    Ok(ExitStatus::Success)
}

/// manifest.json and run_results.json are written even where a node failed, with the others compiled.
pub(super) fn compile_and_write(
    workspace: &Workspace,
    compiler: &Compiler<'_>,
    warehouse: &LazyWarehouse<'_>,
    ids: &[String],
    arguments: Map<String, Value>,
    context: &Context,
) -> Result<(), Error> {
    let started = Instant::now();
    let with_sql: Vec<&String> = ids.iter().filter(|id| has_sql(workspace, id)).collect();
    let failures = compile_all(compiler, warehouse, &with_sql);
    let compiled = compiler.compiled();
    write_manifest(&workspace.manifest, &compiled, &context.invocation, workspace.target_path())?;
    let results: Vec<NodeResult> = ids
        .iter()
        .filter_map(|id| workspace.manifest.nodes.get(id.as_str()))
        .filter(|node| !node.is_ephemeral())
        .map(|node| {
            let found = compiled.get(&node.unique_id);
            let failed = found.is_none() && has_sql(workspace, &node.unique_id);
            let status = if failed { NodeStatus::Error } else { NodeStatus::Success };
            let mut result = NodeResult::new(&node.unique_id, status);
            // What failed fails again with the same error, without being tried.
            let error = failed.then(|| compiler.compile(&node.unique_id, None).err()).flatten();
            result.message = error.map(|error| error.to_string());
            result.compiled_code = found.map(|compiled| compiled.code.clone());
            result.compiled_path = found.and_then(|compiled| compiled.compiled_path.clone());
            result.relation_name = node.relation_name.clone();
            result
        })
        .collect();
    results::write(context, workspace, arguments, &results, started)?;
    match failures.into_iter().next() {
        Some(error) => Err(Error::SharedProject(error)),
        None => Ok(()),
    }
}

/// The nodes whose names stand in the first word of `--select`: those that dbt prints, be it in `compile` or in `show`.
pub(super) fn named<'w>(workspace: &'w Workspace, selection: &SelectionArgs, ids: &[String]) -> Vec<&'w Node> {
    let included = selection.included();
    let Some(first) = included.first() else { return Vec::new() };
    let nodes = ids.iter().filter_map(|id| workspace.manifest.nodes.get(id));
    nodes.filter(|node| first.contains(&node.name)).collect()
}

fn has_sql(workspace: &Workspace, id: &str) -> bool {
    workspace.manifest.nodes.get(id).is_some_and(|node| node.resource_type != ResourceType::Seed)
}

/// All of them, on all threads; the errors in selection order.
fn compile_all(compiler: &Compiler<'_>, warehouse: &LazyWarehouse<'_>, ids: &[&String]) -> Vec<Arc<ProjectError>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(ids.len() / 16 + 1);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(id) = ids.get(at) else { return failed };
            if let Err(error) = compiler.compile(id, Some(warehouse)) {
                failed.push((at, error));
            }
        }
    };
    let mut failed = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..threads)
            .filter_map(|_| std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, work).ok())
            .collect();
        let mut failed = work();
        for handle in handles {
            match handle.join() {
                Ok(more) => failed.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed
    });
    failed.sort_by_key(|(at, _)| *at);
    failed.into_iter().map(|(_, error)| error).collect()
}

fn print(args: &CompileArgs, context: &Context, name: &str, compiled: &Compiled) {
    match args.output {
        CompileOutput::Json => {
            let value = json!({"node": name, "compiled": compiled.code});
            context.printer.data(&serde_json::to_string_pretty(&value).unwrap_or_default());
        }
        CompileOutput::Text => {
            context.printer.line(&format!("Compiled node '{name}' is:"));
            context.printer.data(&compiled.code);
        }
    }
}
