//! `chpipe clone`: the relations of another environment under this target's names, without copying their data.

use crate::{
    Error,
    cli::{CloneArgs, ExecutionArgs},
    commands::{
        Context, ExitStatus,
        execute::{Plan, clone as execute_clone},
    },
    project::ResourceType,
};

/// What has a relation that can be cloned.
pub(super) const KINDS: &[ResourceType] = &[ResourceType::Model, ResourceType::Seed, ResourceType::Snapshot];

/// Clones each selected relation of `--state`.
pub(super) fn clone(args: &CloneArgs, context: &Context) -> Result<ExitStatus, Error> {
    let execution = ExecutionArgs { full_refresh: args.full_refresh, ..ExecutionArgs::default() };
    let plan = Plan::new("clone", KINDS, &args.selection, &execution);
    execute_clone(&plan, context)
}
