//! `chpipe run-operation`: one macro, called by name.

use std::{path::Path, time::Instant};

use serde_json::{Map, Value as Json, json};

use crate::{
    Error,
    cli::RunOperationArgs,
    commands::{
        Context, ExitStatus, arguments,
        execute::{Lines, Prepared},
        parse, results, warehouse,
    },
    project::{CompiledNodes, LoadOptions, ProjectError, Resolver, write_manifest},
    render::{NodeContext, Phase, Relation, Renderer, Services, Value},
    schedule::{NodeResult, NodeStatus},
    yaml::Yaml,
};

/// Calls the macro with the arguments of `--args`; a macro that fails is a failure, not an error of chpipe's.
pub(super) fn run_operation(args: &RunOperationArgs, context: &Context) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    let given = given(args.args.as_deref())?;
    let keywords = given.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect();
    let mut arguments = arguments::common("run-operation", &context.settings);
    arguments.insert("macro".into(), json!(args.name));
    arguments.insert("args".into(), given.into());
    context.journal.set_arguments(json!({"which": "run-operation", "macro": args.name}));
    let options = LoadOptions { arguments: arguments.clone(), ..parse::options("run-operation", context) };
    let workspace = parse::load(context, &options)?;
    let (package, name) = args.name.split_once('.').unwrap_or(("", &args.name));
    let root = workspace.project.root.name.clone();
    let macros = &workspace.environment.macros;
    let is_there = if package.is_empty() {
        macros.find(&root, &root, name).is_some()
    } else {
        macros.find(&root, package, name).is_some()
    };
    if !is_there {
        // Before the warehouse is opened for nothing.
        return Err(ProjectError::runtime(format!("dbt could not find a macro with the name '{}' in any package", args.name))
            .hinting("macros are `{% macro name() %} … {% endmacro %}` in .sql files below the macro paths; one of a package is called PACKAGE.MACRO")
            .into());
    }
    let opened = warehouse::open(context)?;
    let prepared = Prepared::open(&opened, context)?;
    let lines = Lines::new(&context.printer, false);
    let resolver = Resolver::new(&workspace, Vec::new(), false, None);
    let node = NodeContext {
        unique_id: format!("operation.{root}.{}", args.name),
        name: args.name.clone(),
        package: root.clone(),
        resource_type: "operation".into(),
        path: args.name.clone(),
        this: Some(Relation::new(workspace.target.schema.clone(), args.name.clone())),
        ..NodeContext::default()
    };
    let services = Services { resolve: Some(&resolver), warehouse: Some(prepared.warehouse()), events: &lines };
    let mut renderer = Renderer::new(&workspace.environment, node, Phase::Operation, services);
    let called = renderer.call_macro(&args.name, Vec::new(), keywords);
    let (package, name) = args.name.split_once('.').unwrap_or((&root, &args.name));
    let status = if called.is_ok() { NodeStatus::Success } else { NodeStatus::Error };
    let mut result = NodeResult::new(format!("macro.{package}.{name}"), status);
    result.failures = Some(i64::from(called.is_err()));
    result.execution_time = started.elapsed().as_secs_f64();
    result.message = called.as_ref().err().map(|error| error.report());
    write_manifest(&workspace.manifest, &CompiledNodes::new(), &context.invocation, workspace.target_path())?;
    results::write(context, &workspace, arguments, &[result], started)?;
    match called {
        Ok(_) => Ok(ExitStatus::Success),
        Err(error) => {
            context.printer.error_text(&format!("Encountered an error while running operation: {}", error.report()));
            Ok(ExitStatus::Failure)
        }
    }
}

fn given(text: Option<&str>) -> Result<Map<String, Json>, Error> {
    let text = text.unwrap_or("{}");
    let yaml = Yaml::parse(text, Path::new("--args"))
        .map_err(|error| ProjectError::runtime(format!("--args is not valid YAML: {error}")))?;
    match yaml.to_json() {
        Json::Object(map) => Ok(map),
        Json::Null => Ok(Map::new()),
        _ => Err(ProjectError::runtime("--args is not a mapping").hinting("--args '{name: value}'").into()),
    }
}
