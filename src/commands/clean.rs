//! `chpipe clean`: deletes the folders of `clean-targets`.

use std::path::{Component, Path, PathBuf};

use crate::{
    Error,
    cli::CleanArgs,
    commands::{Context, ExitStatus},
    project::{Project, ProjectError},
};

/// Deletes what dbt_project.yml calls clean targets; never a folder of sources, never Cargo's.
pub(super) fn clean(args: &CleanArgs, context: &Context) -> Result<ExitStatus, Error> {
    let target = context.settings.target()?;
    let project = Project::load_root(&context.settings, &target)?;
    let root = &project.root.root;
    let targets: Vec<PathBuf> = match &project.root.clean_targets {
        Some(paths) => paths.iter().map(|path| normal(&root.join(path))).collect(),
        None => vec![normal(&project.target_path)],
    };
    let inside_only = !args.no_clean_project_files_only;
    let sources: Vec<PathBuf> = [
        &project.root.model_paths,
        &project.root.seed_paths,
        &project.root.test_paths,
        &project.root.macro_paths,
        &project.root.snapshot_paths,
        &project.root.analysis_paths,
    ]
    .into_iter()
    .flatten()
    .map(|path| normal(&root.join(path)))
    .collect();
    for target in &targets {
        let refuse =
            |reason: &str| ProjectError::runtime(format!("chpipe will not clean `{}`: {reason}", target.display()));
        if inside_only && !target.starts_with(root) {
            return Err(refuse("it is outside of the project folder")
                .hinting("`--no-clean-project-files-only` deletes it all the same")
                .into());
        }
        if root.starts_with(target) {
            return Err(refuse("it holds the project itself").into());
        }
        if sources.iter().any(|source| source.starts_with(target)) {
            return Err(refuse("it holds files of the project").into());
        }
        // Cargo marks its folder; a Rust project next to dbt's keeps its builds.
        if target.join("CACHEDIR.TAG").is_file() && root.join("Cargo.toml").is_file() {
            return Err(refuse("it is Cargo's build folder")
                .hinting("set `target-path` and `clean-targets` in dbt_project.yml to another folder")
                .into());
        }
    }
    for target in &targets {
        let shown = target.strip_prefix(root).unwrap_or(target).display();
        context.printer.line(&format!("Checking {shown}/*"));
        if target.is_dir() {
            fs_err::remove_dir_all(target).map_err(|source| ProjectError::io(target, source))?;
        }
        context.printer.line(&format!("Cleaned {shown}/*"));
    }
    context.printer.line("Finished cleaning all paths.");
    Ok(ExitStatus::Success)
}

/// Without `.` and `..`, whether the path exists or not.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = out.pop(),
            part => out.push(part),
        }
    }
    out
}
