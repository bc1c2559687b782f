//! `chpipe source freshness`: how old the newest row of each source is, against what its properties allow.

use crate::{
    Error,
    cli::{ExecutionArgs, SourceArgs, SourceCommand},
    commands::{
        Context, ExitStatus,
        execute::{Plan, freshness},
    },
    project::ResourceType,
};

/// Checks the selected sources and writes sources.json.
pub(super) fn source(args: &SourceArgs, context: &Context) -> Result<ExitStatus, Error> {
    let SourceCommand::Freshness(args) = &args.command;
    let execution = ExecutionArgs::default();
    let plan = Plan::new("freshness", &[ResourceType::Source], &args.selection, &execution);
    freshness(&plan, args.output.as_deref(), context)
}
