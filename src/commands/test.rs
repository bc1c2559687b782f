//! `chpipe test`: data tests and unit tests are run.

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
    let plan = Plan::new("test", &[ResourceType::Test, ResourceType::UnitTest], &args.selection, &args.execution);
    execute(&plan, context)
}
