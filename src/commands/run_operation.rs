//! `chpipe run-operation`: one macro, called by name.

use serde_json::Value as Json;

use crate::{
    Error,
    cli::RunOperationArgs,
    commands::{
        Context, ExitStatus,
        execute::{Lines, Prepared},
        parse, warehouse,
    },
    project::{LoadOptions, ProjectError, Resolver},
    render::{NodeContext, Phase, Relation, Renderer, Services, Value},
};

/// Calls the macro with the arguments of `--args`; a macro that fails is a failure, not an error of chpipe's.
pub(super) fn run_operation(args: &RunOperationArgs, context: &Context) -> Result<ExitStatus, Error> {
    let keywords = keywords(args.args.as_deref())?;
    let options =
        LoadOptions { command: "run-operation".into(), quiet: context.printer.quiet(), ..LoadOptions::default() };
    context.journal.set_arguments(serde_json::json!({"which": "run-operation", "macro": args.name}));
    let workspace = parse::load(context, &options)?;
    let opened = warehouse::open(context)?;
    let prepared = Prepared::open(&opened, context)?;
    let lines = Lines::new(&context.printer, false);
    let resolver = Resolver::new(&workspace, Vec::new(), false, None);
    let root = workspace.project.root.name.clone();
    let node = NodeContext {
        unique_id: format!("operation.{root}.{}", args.name),
        name: args.name.clone(),
        package: root,
        resource_type: "operation".into(),
        path: args.name.clone(),
        this: Some(Relation::new(workspace.target.schema.clone(), args.name.clone())),
        ..NodeContext::default()
    };
    let services = Services { resolve: Some(&resolver), warehouse: Some(prepared.warehouse()), events: &lines };
    let mut renderer = Renderer::new(&workspace.environment, node, Phase::Operation, services);
    match renderer.call_macro(&args.name, Vec::new(), keywords) {
        Ok(_) => Ok(ExitStatus::Success),
        Err(error) => {
            context.printer.error_text(&format!("Encountered an error while running operation: {}", error.report()));
            Ok(ExitStatus::Failure)
        }
    }
}

fn keywords(text: Option<&str>) -> Result<Vec<(String, Value)>, Error> {
    let text = text.unwrap_or("{}");
    let yaml: Json = serde_yaml_ng::from_str(text)
        .map_err(|error| ProjectError::runtime(format!("--args is not valid YAML: {error}")))?;
    match yaml {
        Json::Object(map) => Ok(map.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect()),
        Json::Null => Ok(Vec::new()),
        _ => Err(ProjectError::runtime("--args is not a mapping").hinting("--args '{name: value}'").into()),
    }
}
