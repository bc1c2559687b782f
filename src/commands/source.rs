//! `chpipe source freshness`: how old the newest row of each source is, against what its properties allow.

use serde_json::Map;

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
    let plan = Plan {
        command: "freshness",
        kinds: &[ResourceType::Source],
        selection: &args.selection,
        execution: &ExecutionArgs::default(),
        tests_block: false,
        only: None,
        event_time: (None, None),
        arguments: Map::new(),
    };
    freshness(&plan, args.output.as_deref(), context)
}
