//! `chpipe build`: seeds, models, snapshots and tests in graph order; what fails its tests is not built upon.

use crate::{
    Error,
    cli::BuildArgs,
    commands::{
        Context, ExitStatus,
        execute::{Plan, execute},
    },
    project::ResourceType,
};

/// Builds the selected nodes.
pub(super) fn build(args: &BuildArgs, context: &Context) -> Result<ExitStatus, Error> {
    let plan = Plan {
        tests_block: true,
        event_time: (args.event_time.start.as_deref(), args.event_time.end.as_deref()),
        ..Plan::new(
            "build",
            &[
                ResourceType::Model,
                ResourceType::Snapshot,
                ResourceType::Seed,
                ResourceType::Test,
                ResourceType::UnitTest,
                ResourceType::Exposure,
            ],
            &args.selection,
            &args.execution,
        )
    };
    execute(&plan, context)
}
