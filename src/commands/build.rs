//! `chpipe build`: seeds, models, snapshots and tests in graph order; what fails its tests is not built upon.

use serde_json::Map;

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
        command: "build",
        kinds: &[
            ResourceType::Model,
            ResourceType::Snapshot,
            ResourceType::Seed,
            ResourceType::Test,
            ResourceType::UnitTest,
            ResourceType::Exposure,
        ],
        selection: &args.selection,
        execution: &args.execution,
        tests_block: true,
        only: None,
        event_time: (args.event_time.start.as_deref(), args.event_time.end.as_deref()),
        arguments: Map::new(),
    };
    execute(&plan, context)
}
