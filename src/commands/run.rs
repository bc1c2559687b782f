//! `chpipe run`: models become relations.

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
        event_time: (args.event_time.start.as_deref(), args.event_time.end.as_deref()),
        ..Plan::new("run", &[ResourceType::Model], &args.selection, &args.execution)
    };
    execute(&plan, context)
}
