//! `chpipe retry`: the last command again, for what failed or was skipped then.

use serde_json::{Map, Value};

use crate::{
    Error,
    cli::{ExecutionArgs, RetryArgs, SelectionArgs},
    commands::{
        Context, ExitStatus,
        execute::{Plan, execute},
    },
    config::Settings,
    project::{Project, ProjectError, ResourceType},
};

/// dbt's statuses that are worth another attempt.
const RETRYABLE: [&str; 5] = ["error", "fail", "skipped", "runtime error", "partial success"];

/// Reads run_results.json and runs what did not succeed.
pub(super) fn retry(args: &RetryArgs, context: &Context) -> Result<ExitStatus, Error> {
    let folder = match &args.state {
        Some(folder) => folder.clone(),
        None => target_path(&context.settings)?,
    };
    let path = folder.join("run_results.json");
    let text = fs_err::read_to_string(&path).map_err(|_| {
        ProjectError::runtime(format!("Could not find previous run in '{}' target directory", folder.display()))
            .hinting("run a command first, or name the folder of its artifacts: --state DIR")
    })?;
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| ProjectError::runtime(format!("{} is not valid: {error}", path.display())))?;
    let ids: Vec<String> = document["results"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|result| result["status"].as_str().is_some_and(|status| RETRYABLE.contains(&status)))
        .filter_map(|result| result["unique_id"].as_str())
        .filter(|id| !id.starts_with("operation."))
        .map(str::to_owned)
        .collect();
    if ids.is_empty() {
        context.printer.warning("Nothing to retry!");
        return Ok(ExitStatus::Success);
    }
    let previous = &document["args"];
    let flag = |name: &str| previous[name].as_bool().unwrap_or(false);
    let execution = ExecutionArgs {
        full_refresh: args.execution.full_refresh || flag("full_refresh"),
        fail_fast: args.execution.fail_fast || flag("fail_fast"),
        sample: args.execution.sample.clone().or_else(|| previous["sample"].as_str().map(str::to_owned)),
        empty: args.execution.empty || flag("empty"),
        store_failures: args.execution.store_failures || flag("store_failures"),
        warn_error: args.execution.warn_error || flag("warn_error"),
    };
    let which = previous["which"].as_str().unwrap_or_default();
    let (command, kinds): (&'static str, &'static [ResourceType]) = match which {
        "run" => ("run", &[ResourceType::Model]),
        "test" => ("test", &[ResourceType::Test, ResourceType::UnitTest]),
        "seed" => ("seed", &[ResourceType::Seed]),
        "snapshot" => ("snapshot", &[ResourceType::Snapshot]),
        "build" => ("build", &[]),
        other => {
            let message = format!("The command `{other}` of the last run cannot be retried");
            return Err(ProjectError::runtime(message).into());
        }
    };
    let plan = Plan {
        command,
        kinds,
        selection: &SelectionArgs::default(),
        execution: &execution,
        tests_block: command == "build",
        only: Some(ids),
        event_time: (None, None),
        arguments: Map::new(),
    };
    // The variables of then, unless there are new ones.
    let mut settings = context.settings.clone();
    if settings.vars.is_empty()
        && let Some(vars) = previous["vars"].as_object()
    {
        settings.vars = vars.clone();
    }
    let context = Context {
        settings,
        printer: context.printer.clone(),
        invocation: context.invocation.clone(),
        journal: context.journal.clone(),
        open_warehouse: context.open_warehouse.clone(),
    };
    execute(&plan, &context)
}

fn target_path(settings: &Settings) -> Result<std::path::PathBuf, Error> {
    Ok(Project::load_root(settings, &settings.target()?)?.target_path)
}
