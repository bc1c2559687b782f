//! `chpipe snapshot`: snapshots take up what changed in their sources; `--dry-run` shows it, `verify` checks their tables.

use crate::{
    Error,
    cli::{SnapshotArgs, SnapshotCommand},
    commands::{
        Context, ExitStatus,
        execute::{Plan, dry_run, execute, verify},
    },
    project::ResourceType,
};

/// Takes, previews or verifies the selected snapshots.
pub(super) fn snapshot(args: &SnapshotArgs, context: &Context) -> Result<ExitStatus, Error> {
    let selection = match &args.command {
        Some(SnapshotCommand::Verify(verify)) => &verify.selection,
        None => &args.selection,
    };
    let mut plan = Plan::new("snapshot", &[ResourceType::Snapshot], selection, &args.execution);
    plan.makes_schemas = args.command.is_none() && !args.dry_run;
    if args.execution.full_refresh {
        // dbt has no such flag for snapshots; whoever gives it must not believe that history was rebuilt.
        context
            .printer
            .warning("a snapshot keeps its history: --full-refresh does nothing here; to begin anew, drop its table");
    }
    match &args.command {
        Some(SnapshotCommand::Verify(args)) => verify(&plan, context, args.repair),
        None if args.dry_run => dry_run(&plan, context),
        None => execute(&plan, context),
    }
}
