//! run_results.json of the commands that run no graph: compile, docs generate, run-operation. In: results; out: the file.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::{
    Error,
    commands::Context,
    project::Workspace,
    schedule::{NodeResult, RunResults, write_run_results},
};

/// Writes run_results.json. `which` is dbt's name of the command; `arguments` are its own, beside those that all have.
pub(super) fn write(
    context: &Context,
    workspace: &Workspace,
    which: &str,
    arguments: Map<String, Value>,
    results: &[NodeResult],
    started: Instant,
) -> Result<(), Error> {
    let mut args = arguments;
    args.insert("which".into(), json!(which));
    args.insert("target".into(), json!(workspace.target.name));
    args.insert("project_dir".into(), json!(context.settings.project_dir.display().to_string()));
    args.insert("vars".into(), json!(context.settings.vars));
    args.insert("invocation_command".into(), json!(format!("chpipe {which}")));
    let document =
        RunResults { invocation: &context.invocation, results, elapsed: started.elapsed().as_secs_f64(), args };
    let target_path = workspace.target_path();
    write_run_results(&document, target_path)
        .map(drop)
        .map_err(|source| Error::Io { path: target_path.join("run_results.json"), source })
}
