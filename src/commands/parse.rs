//! `chpipe parse`: the whole project is read, and manifest.json written.

use crate::{
    Error,
    cli::ParseArgs,
    commands::{Context, ExitStatus, arguments},
    project::{CompiledNodes, LoadOptions, Workspace, write_manifest},
};

/// Reads the project and writes manifest.json.
pub(super) fn parse(_args: &ParseArgs, context: &Context) -> Result<ExitStatus, Error> {
    let workspace = load(context, &options("parse", context))?;
    write_manifest(&workspace.manifest, &CompiledNodes::new(), &context.invocation, workspace.target_path())?;
    context.printer.line(&found(&workspace));
    Ok(ExitStatus::Success)
}

/// What the project is told of a command that has no flags but the common ones.
pub(super) fn options(command: &str, context: &Context) -> LoadOptions {
    LoadOptions {
        command: command.into(),
        quiet: context.printer.quiet(),
        warn_error: context.settings.warn_error,
        arguments: arguments::common(command, &context.settings),
        ..LoadOptions::default()
    }
}

/// Loads the workspace and shows what parsing had to say.
pub(super) fn load(context: &Context, options: &LoadOptions) -> Result<Workspace, Error> {
    let target = context.settings.target()?;
    let workspace = Workspace::load(&context.settings, &target, &context.invocation, options)?;
    for line in &workspace.lines {
        context.printer.line(line);
    }
    for warning in &workspace.warnings {
        context.printer.warning(warning);
    }
    Ok(workspace)
}

/// dbt's line: `Found 2 models, 1 snapshot, 5 data tests, 1 source, 547 macros`.
pub(super) fn found(workspace: &Workspace) -> String {
    use crate::project::ResourceType::{Analysis, Model, Operation, Seed, Snapshot, Test};
    let manifest = &workspace.manifest;
    let count = |kind| manifest.nodes.values().filter(|node| node.resource_type == kind).count();
    let parts: Vec<String> = [
        (count(Model), "model", "models"),
        (count(Seed), "seed", "seeds"),
        (count(Snapshot), "snapshot", "snapshots"),
        (count(Analysis), "analysis", "analyses"),
        (count(Operation), "operation", "operations"),
        (count(Test), "data test", "data tests"),
        (manifest.sources.len(), "source", "sources"),
        (manifest.exposures.len(), "exposure", "exposures"),
        (manifest.macros.len(), "macro", "macros"),
        (manifest.groups.len(), "group", "groups"),
        (manifest.unit_tests.len(), "unit test", "unit tests"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
    .collect();
    format!("Found {}", if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
}
