//! `chpipe snapshot`: snapshots take up what changed in their sources.

use serde_json::Map;

use crate::{
    Error,
    cli::SnapshotArgs,
    commands::{
        Context, ExitStatus,
        execute::{Plan, execute},
    },
    project::ResourceType,
};

/// Takes the selected snapshots.
pub(super) fn snapshot(args: &SnapshotArgs, context: &Context) -> Result<ExitStatus, Error> {
    let plan = Plan {
        command: "snapshot",
        kinds: &[ResourceType::Snapshot],
        selection: &args.selection,
        execution: &args.execution,
        tests_block: false,
        only: None,
        arguments: Map::new(),
    };
    execute(&plan, context)
}
