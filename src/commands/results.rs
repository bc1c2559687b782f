//! run_results.json of the commands that run no graph: compile, docs generate, run-operation. In: results; out: the file.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::{
    Error,
    commands::Context,
    project::Workspace,
    schedule::{NodeResult, RunResults, write_run_results},
};

/// Writes run_results.json. `args` are those of [`arguments::common`](crate::commands::arguments::common) and the command's own.
pub(super) fn write(
    context: &Context,
    workspace: &Workspace,
    mut args: Map<String, Value>,
    results: &[NodeResult],
    started: Instant,
) -> Result<(), Error> {
    args.insert("target".into(), json!(workspace.target.name));
    let document =
        RunResults { invocation: &context.invocation, results, elapsed: started.elapsed().as_secs_f64(), args };
    let target_path = workspace.target_path();
    write_run_results(&document, target_path)
        .map(drop)
        .map_err(|source| Error::Io { path: target_path.join("run_results.json"), source })
}
