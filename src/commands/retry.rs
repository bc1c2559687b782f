//! `chpipe retry`: the last command again, with its flags, for what failed or was skipped then.

use serde_json::Value;

use crate::{
    Error,
    cli::{CompileArgs, DocsGenerateArgs, RetryArgs, RunOperationArgs},
    commands::{
        Context, ExitStatus,
        arguments::Previous,
        clone, compile, docs,
        execute::{Again, Batches, Plan, clone as execute_clone, execute},
        run_operation,
    },
    project::{Project, ProjectError, ResourceType},
};

/// dbt's statuses that are worth another attempt.
const RETRYABLE: [&str; 5] = ["error", "fail", "skipped", "runtime error", "partial success"];

/// Reads run_results.json and runs what did not succeed.
pub(super) fn retry(args: &RetryArgs, context: &Context) -> Result<ExitStatus, Error> {
    let folder = match &args.state {
        Some(folder) => folder.clone(),
        None => Project::load_root(&context.settings, &context.settings.target()?)?.target_path,
    };
    let path = folder.join("run_results.json");
    let text = fs_err::read_to_string(&path).map_err(|_| {
        ProjectError::runtime(format!("Could not find previous run in '{}' target directory", folder.display()))
            .hinting("run a command first, or name the folder of its artifacts: --state DIR")
    })?;
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| ProjectError::runtime(format!("{} is not valid: {error}", path.display())))?;
    let previous = Previous(&document["args"]);
    let context = &Context { settings: previous.settings(&context.settings), ..context.clone() };
    let again = again(&document, args.execution.warn_error);
    let selection = previous.selection();
    let execution = previous.execution(&args.execution);
    let event_time = (previous.text("event_time_start"), previous.text("event_time_end"));
    let plan = |command, kinds| Plan {
        again: Some(&again),
        event_time: (event_time.0.as_deref(), event_time.1.as_deref()),
        tests_block: command == "build",
        ..Plan::new(command, kinds, &selection, &execution)
    };
    match previous.text("which").unwrap_or_default().as_str() {
        "run" => execute(&plan("run", &[ResourceType::Model]), context),
        "test" => execute(&plan("test", &[ResourceType::Test, ResourceType::UnitTest]), context),
        "seed" => execute(&plan("seed", &[ResourceType::Seed]), context),
        "snapshot" => execute(&plan("snapshot", &[ResourceType::Snapshot]), context),
        "build" => execute(&plan("build", &[]), context),
        "clone" => execute_clone(&plan("clone", clone::KINDS), context),
        "compile" => {
            let (full_refresh, empty) = (execution.full_refresh, execution.empty);
            let no_introspect = previous.0["introspect"] == Value::Bool(false);
            let args = CompileArgs { selection, full_refresh, empty, no_introspect, ..CompileArgs::default() };
            compile::compile(&args, Some(&again.ids), context)
        }
        "generate" => {
            let empty_catalog = previous.flag("empty_catalog");
            let args = DocsGenerateArgs { selection, empty_catalog, ..DocsGenerateArgs::default() };
            docs::generate(&args, Some(&again.ids), context)
        }
        // A macro that came to its end is not called again.
        "run-operation" if again.ids.is_empty() => Ok(ExitStatus::Success),
        "run-operation" => {
            let given = &previous.0["args"];
            let given = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
            let name = previous.text("macro").unwrap_or_default();
            run_operation::run_operation(&RunOperationArgs { name, args: Some(given) }, context)
        }
        other => {
            let message = format!("The command `{other}` of the last run cannot be retried");
            Err(ProjectError::runtime(message).into())
        }
    }
}

/// What did not succeed. Hooks are not among it: they are run by whatever is run again.
fn again(document: &Value, warnings: bool) -> Again {
    let mut again = Again { began: began(document), ..Again::default() };
    for result in document["results"].as_array().into_iter().flatten() {
        let (Some(id), Some(status)) = (result["unique_id"].as_str(), result["status"].as_str()) else { continue };
        let retried = RETRYABLE.contains(&status) || (warnings && status == "warn");
        if !retried || id.starts_with("operation.") {
            continue;
        }
        again.ids.push(id.to_owned());
        let batches = Batches::of(&result["batch_results"]);
        if !batches.successful.is_empty() && !batches.failed.is_empty() {
            again.batches.insert(id.to_owned(), batches);
        }
    }
    again
}

/// When that invocation began. Of a retry of a retry it is the time of the first one that counts, but neither dbt nor chpipe
/// keeps it.
fn began(document: &Value) -> Option<chrono::DateTime<chrono::Utc>> {
    let metadata = &document["metadata"];
    let text = metadata["invocation_started_at"].as_str().or(metadata["generated_at"].as_str())?;
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}
