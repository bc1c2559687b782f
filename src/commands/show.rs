//! `chpipe show`: the first rows of a node, or of SQL with Jinja.

use serde_json::{Map, Value, json};

use crate::{
    Error,
    adapter::{Adapter, cell_json, cell_text},
    cli::{CompileOutput, ShowArgs},
    commands::{
        Context, ExitStatus,
        execute::{Lines, Prepared},
        parse, warehouse,
    },
    printer::table_text,
    project::{Compiler, LoadOptions, ProjectError, Resolver, ResourceType, Selector},
};

/// Runs what the node selects and prints its first rows.
pub(super) fn show(args: &ShowArgs, context: &Context) -> Result<ExitStatus, Error> {
    if args.inline.is_none() && args.selection.included().is_empty() && args.selection.selector.is_none() {
        return Err(ProjectError::runtime("Either --select or --inline must be passed to show").into());
    }
    let options = LoadOptions { command: "show".into(), quiet: context.printer.quiet(), ..LoadOptions::default() };
    let workspace = parse::load(context, &options)?;
    let kinds =
        [ResourceType::Model, ResourceType::Snapshot, ResourceType::Seed, ResourceType::Test, ResourceType::Analysis];
    let ids = match &args.inline {
        Some(_) => Vec::new(),
        None => Selector::new(&workspace).select(&args.selection, &kinds)?.ids,
    };
    let opened = warehouse::open(context)?;
    let prepared = Prepared::open(&opened, context)?;
    let lines = Lines::new(&context.printer, false);
    let resolver = Resolver::new(&workspace, ids.clone(), false, None);
    let compiler = Compiler::new(&workspace, &resolver, &lines);
    if let Some(sql) = &args.inline {
        let compiled = compiler.compile_inline(sql, Some(prepared.warehouse()))?;
        return preview(args, context, &prepared, "inline_query", &compiled.code);
    }
    let named = |id: &String| {
        let name = id.rsplit('.').next().unwrap_or(id);
        // Tests come along with a model; they are shown when they are what was asked for.
        !id.starts_with("test.") || args.selection.included().iter().any(|spec| spec.contains(name))
    };
    for id in ids.iter().filter(|id| named(id)) {
        let Some(node) = workspace.manifest.nodes.get(id) else { continue };
        let sql = if node.resource_type == ResourceType::Seed {
            format!("select * from {}", node.relation())
        } else {
            compiler.compile(id, Some(prepared.warehouse())).map_err(Error::SharedProject)?.code.clone()
        };
        preview(args, context, &prepared, &node.search_name(), &sql)?;
    }
    Ok(ExitStatus::Success)
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
                    CompileOutput::Json => cell_json(column, row),
                    CompileOutput::Text => Value::String(cell_text(column.as_ref(), row).unwrap_or_default()),
                };
                (name.clone(), value)
            });
            rows.push(Value::Object(values.collect::<Map<_, _>>()));
        }
    }
    Ok((columns, rows))
}
