//! `chpipe run`: models become relations.

use serde_json::Map;

use crate::{
    Error,
    cli::RunArgs,
    commands::{
        Context, ExitStatus,
        execute::{Plan, execute},
    },
    project::ResourceType,
};

/// Runs the selected models.
pub(super) fn run(args: &RunArgs, context: &Context) -> Result<ExitStatus, Error> {
    let plan = Plan {
        command: "run",
        kinds: &[ResourceType::Model],
        selection: &args.selection,
        execution: &args.execution,
        tests_block: false,
        only: None,
        event_time: (args.event_time.start.as_deref(), args.event_time.end.as_deref()),
        arguments: Map::new(),
    };
    execute(&plan, context)
}
