//! `chpipe seed`: CSV files become tables.

use serde_json::Map;

use crate::{
    Error,
    cli::SeedArgs,
    commands::{
        Context, ExitStatus,
        execute::{Plan, execute},
    },
    project::ResourceType,
};

/// Loads the selected seeds.
pub(super) fn seed(args: &SeedArgs, context: &Context) -> Result<ExitStatus, Error> {
    let plan = Plan {
        command: "seed",
        kinds: &[ResourceType::Seed],
        selection: &args.selection,
        execution: &args.execution,
        tests_block: false,
        only: None,
        event_time: (None, None),
        arguments: Map::new(),
    };
    execute(&plan, context)
}
