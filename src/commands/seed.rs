//! `chpipe seed`: CSV files become tables.

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
    let plan = Plan::new("seed", &[ResourceType::Seed], &args.selection, &args.execution);
    execute(&plan, context)
}
