//! `chpipe docs generate`: manifest.json and catalog.json, what a docs site or a catalog reads.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    Error,
    adapter::text_rows,
    cli::{DocsArgs, DocsCommand, DocsGenerateArgs},
    commands::{
        Context, ExitStatus, arguments, compile,
        execute::{deferral, previous_state},
        lazy_warehouse::LazyWarehouse,
        parse, warehouse,
    },
    engine::{self, QueryOptions},
    project::{
        CatalogRow, Compiler, ProjectError, Resolver, ResourceType, Selector, Workspace, catalog_json, catalog_query,
        catalog_schemas, write_catalog,
    },
    render::SilentEvents,
};

/// Runs the subcommand.
pub(super) fn docs(args: &DocsArgs, context: &Context) -> Result<ExitStatus, Error> {
    match &args.command {
        DocsCommand::Generate(args) => generate(args, None, context),
        DocsCommand::Serve => Err(ProjectError::NotSupported { feature: "`docs serve`".into(), location: None }.into()),
    }
}

/// Compiles what is selected, or `only` these nodes, and writes both files.
pub(super) fn generate(
    args: &DocsGenerateArgs,
    only: Option<&[String]>,
    context: &Context,
) -> Result<ExitStatus, Error> {
    if args.static_page {
        return Err(ProjectError::NotSupported { feature: "`docs generate --static`".into(), location: None }.into());
    }
    let mut arguments = arguments::common("generate", &context.settings);
    arguments::put_selection(&mut arguments, &args.selection);
    arguments.insert("compile".into(), json!(!args.no_compile));
    arguments.insert("empty_catalog".into(), json!(args.empty_catalog));
    let workspace = parse::load(context, &parse::options("generate", context))?;
    let kinds = [
        ResourceType::Model,
        ResourceType::Snapshot,
        ResourceType::Seed,
        ResourceType::Test,
        ResourceType::Source,
        ResourceType::Analysis,
        ResourceType::Operation,
    ];
    let state = previous_state(&args.selection, &workspace, &context.printer)?;
    let mut of_kinds = args.selection.clone();
    if of_kinds.resource_type.is_empty() {
        // Analyses too, which other commands leave out.
        of_kinds.resource_type.push("all".to_owned());
    }
    let selection = Selector::new(&workspace).with_state(state.as_ref()).select(&of_kinds, &kinds)?;
    for warning in &selection.warnings {
        context.printer.warning(warning);
    }
    let warehouse = LazyWarehouse::new(context, true);
    let defer = deferral(&args.selection, &workspace, state, false, |schemas| warehouse.existing(schemas))?;
    let resolver = Resolver::new(&workspace, selection.ids.clone(), false, defer);
    let compiler = Compiler::new(&workspace, &resolver, &SilentEvents);
    if !args.no_compile {
        let ids = only.unwrap_or(&selection.ids);
        compile::compile_and_write(&workspace, &compiler, &warehouse, ids, arguments, context)?;
    }
    // As dbt's: without compiling, the catalog is of everything.
    let given = !args.no_compile
        && (!args.selection.included().is_empty()
            || !args.selection.exclude.is_empty()
            || args.selection.selector.is_some());
    let selected: Option<BTreeSet<String>> = given.then(|| selection.ids.into_iter().collect());
    context.printer.line("Building catalog");
    let rows = if args.empty_catalog { Vec::new() } else { rows(&workspace, context)? };
    let catalog = catalog_json(&workspace.manifest, &rows, selected.as_ref(), &context.invocation);
    let path = write_catalog(&catalog, workspace.target_path())?;
    context.printer.line(&format!("Catalog written to {}", path.display()));
    Ok(ExitStatus::Success)
}

/// Asks the warehouse for all relations of the project's schemas at once.
fn rows(workspace: &Workspace, context: &Context) -> Result<Vec<CatalogRow>, Error> {
    let schemas = catalog_schemas(&workspace.manifest);
    if schemas.is_empty() {
        return Ok(Vec::new());
    }
    let opened = warehouse::open(context)?;
    let mut session = opened.session()?;
    let batches = engine::fetch(&mut *session, &catalog_query(&schemas), &QueryOptions::default())?;
    let rows = text_rows(&batches);
    Ok(rows.into_iter().filter_map(row).collect())
}

fn row(values: Vec<Option<String>>) -> Option<CatalogRow> {
    let number = |value: &Option<String>| value.as_ref().and_then(|value| value.parse().ok());
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let [schema, table, kind, comment, rows, bytes, column, data_type, column_comment, position] = values.as_slice()
    else {
        return None;
    };
    Some(CatalogRow {
        schema: text(schema),
        table: text(table),
        kind: text(kind),
        table_comment: text(comment),
        rows: number(rows),
        bytes: number(bytes),
        column: text(column),
        data_type: text(data_type),
        column_comment: text(column_comment),
        position: number(position).unwrap_or_default(),
    })
}
