//! `chpipe test`: data tests and unit tests are run.

use serde_json::Map;

use crate::{
    Error,
    cli::TestArgs,
    commands::{
        Context, ExitStatus,
        execute::{Plan, execute},
    },
    project::ResourceType,
};

/// Runs the selected tests.
pub(super) fn test(args: &TestArgs, context: &Context) -> Result<ExitStatus, Error> {
    let plan = Plan {
        command: "test",
        kinds: &[ResourceType::Test, ResourceType::UnitTest],
        selection: &args.selection,
        execution: &args.execution,
        tests_block: false,
        only: None,
        event_time: (None, None),
        arguments: Map::new(),
    };
    execute(&plan, context)
}
