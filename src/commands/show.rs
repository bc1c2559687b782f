//! `chpipe show`: the first rows of a node, or of SQL with Jinja.

use serde_json::{Map, Value, json};

use crate::{
    Error,
    adapter::{Adapter, cell_text, shown_json},
    cli::{CompileOutput, SelectionArgs, ShowArgs},
    commands::{
        Context, ExitStatus,
        compile::named,
        execute::{Lines, Prepared, deferral, previous_state},
        parse, warehouse,
    },
    printer::table_text,
    project::{Compiler, LoadOptions, Node, ProjectError, Resolver, ResourceType, Selection, Selector, Workspace},
};

/// Runs what the node selects and prints its first rows.
pub(super) fn show(args: &ShowArgs, context: &Context) -> Result<ExitStatus, Error> {
    if args.inline.is_none() && args.selection.included().is_empty() && args.selection.selector.is_none() {
        return Err(ProjectError::runtime("Either --select or --inline must be passed to show").into());
    }
    let options = LoadOptions { full_refresh: args.full_refresh, ..parse::options("show", context) };
    let workspace = parse::load(context, &options)?;
    let kinds =
        [ResourceType::Model, ResourceType::Snapshot, ResourceType::Seed, ResourceType::Test, ResourceType::Analysis];
    let state = previous_state(&args.selection, &workspace, &context.printer)?;
    let selection = match &args.inline {
        Some(_) => Selection::default(),
        None => Selector::new(&workspace).with_state(state.as_ref()).select(&args.selection, &kinds)?,
    };
    for warning in &selection.warnings {
        context.printer.warning(warning);
    }
    if args.inline.is_none() && selection.ids.is_empty() {
        context.printer.warning("Nothing to do. Try checking your model configs and model specification args");
        return Ok(ExitStatus::Success);
    }
    let opened = warehouse::open(context)?;
    let mut prepared = Prepared::open(&opened, context)?;
    let lines = Lines::new(&context.printer, false);
    let defer = deferral(&args.selection, &workspace, state, false, |schemas| prepared.existing(schemas))?;
    let resolver = Resolver::new(&workspace, selection.ids.clone(), false, defer);
    let compiler = Compiler::new(&workspace, &resolver, &lines);
    if let Some(sql) = &args.inline {
        let compiled = compiler.compile_inline(sql, Some(prepared.warehouse()))?;
        return preview(args, context, &prepared, "inline_query", &compiled.code);
    }
    for node in shown(&workspace, &args.selection, &selection.ids) {
        let sql = if node.resource_type == ResourceType::Seed {
            let relation = node.relation();
            if prepared.warehouse().adapter().relation(&relation).map_err(Error::from)?.is_none() {
                let error =
                    ProjectError::runtime(format!("the seed {} is not loaded: {relation} does not exist", node.name));
                return Err(error.hinting(format!("chpipe seed -s {}", node.name)).into());
            }
            format!("select * from {relation}")
        } else {
            let warehouse = prepared.warehouse();
            compiler.compile(&node.unique_id, Some(warehouse)).map_err(Error::SharedProject)?.code.clone()
        };
        preview(args, context, &prepared, &node.search_name(), &sql)?;
    }
    Ok(ExitStatus::Success)
}

/// What was named; where the selection names nothing (`tag:x`), all of it but the tests that came along.
fn shown<'w>(workspace: &'w Workspace, selection: &SelectionArgs, ids: &[String]) -> Vec<&'w Node> {
    let named = named(workspace, selection, ids);
    if !named.is_empty() {
        return named;
    }
    let nodes = ids.iter().filter_map(|id| workspace.manifest.nodes.get(id));
    nodes.filter(|node| node.resource_type != ResourceType::Test).collect()
}

fn preview(
    args: &ShowArgs,
    context: &Context,
    prepared: &Prepared,
    name: &str,
    sql: &str,
) -> Result<ExitStatus, Error> {
    let sql = match args.limit {
        limit if limit >= 0 => format!("SELECT *\nFROM (\n{}\n)\nLIMIT {limit}", sql.trim_end()),
        _ => sql.to_owned(),
    };
    let mut adapter = prepared.warehouse().adapter();
    let (columns, rows) = fetch(&mut adapter, &sql, args.output)?;
    match args.output {
        CompileOutput::Json => {
            let mut document = json!({"node": name, "show": rows});
            if args.inline.is_some() {
                document = json!({"show": document["show"].take()});
            }
            context.printer.data(&serde_json::to_string_pretty(&document).unwrap_or_default());
        }
        CompileOutput::Text => {
            context.printer.line(&format!("Previewing node '{name}':"));
            let header: Vec<&str> = columns.iter().map(String::as_str).collect();
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    let Value::Object(row) = row else { return Vec::new() };
                    row.into_iter().map(|(_, value)| value.as_str().unwrap_or_default().to_owned()).collect()
                })
                .collect();
            context.printer.data(&table_text(&header, &rows, &[]));
        }
    }
    Ok(ExitStatus::Success)
}

/// Names of the columns, and a row as an object each: JSON values, or texts for a table.
fn fetch(adapter: &mut Adapter, sql: &str, output: CompileOutput) -> Result<(Vec<String>, Vec<Value>), Error> {
    let options = adapter.next_options();
    let mut stream = adapter.session().query(sql, &options)?;
    let columns: Vec<String> = stream.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut rows = Vec::new();
    for batch in &mut stream {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().zip(batch.columns()).map(|(name, column)| {
                let value = match output {
                    CompileOutput::Json => shown_json(column, row),
                    CompileOutput::Text => Value::String(cell_text(column.as_ref(), row).unwrap_or_default()),
                };
                (name.clone(), value)
            });
            rows.push(Value::Object(values.collect::<Map<_, _>>()));
        }
    }
    Ok((columns, rows))
}
