//! `chpipe deps`: the packages of packages.yml or dependencies.yml into dbt_packages.

use crate::{
    Error,
    cli::{DepsArgs, PackageKind},
    commands::{Context, ExitStatus},
    project::{Deps, DepsOptions, Project, ProjectError, deps_context},
};

/// Resolves and installs packages.
pub(super) fn deps(args: &DepsArgs, context: &Context) -> Result<ExitStatus, Error> {
    let settings = &context.settings;
    let target = settings.target()?;
    let project = Project::load_root(settings, &target)?;
    if let Some(package) = &args.add_package {
        add(&project, package, args.source)?;
    }
    let yaml = deps_context(settings.environment(), settings.vars.clone());
    let options = DepsOptions { lock_only: args.lock, upgrade: args.upgrade, hub_url: settings.package_hub_url() };
    let say = |line: &str| context.printer.line(line);
    Deps::new(&project.root, &yaml, options, &say)?.run()?;
    Ok(ExitStatus::Success)
}

/// Appends an entry to packages.yml; `name@version`.
fn add(project: &Project, package: &str, kind: PackageKind) -> Result<(), ProjectError> {
    // An address has an `@` of its own, so the last one counts.
    let (name, version) = match package.rsplit_once('@') {
        Some((name, version)) if !name.is_empty() && !version.contains('/') => (name, Some(version)),
        _ => (package, None),
    };
    let entry = match (kind, version) {
        (PackageKind::Local, _) => format!("  - local: {package}\n"),
        (PackageKind::Git, Some(version)) => format!("  - git: {name}\n    revision: {version}\n"),
        (PackageKind::Git, None) => format!("  - git: {name}\n"),
        (PackageKind::Hub, Some(version)) => {
            let versions: Vec<String> = version.split(',').map(|part| format!("\"{}\"", part.trim())).collect();
            format!("  - package: {name}\n    version: [{}]\n", versions.join(", "))
        }
        (PackageKind::Hub, None) => {
            return Err(ProjectError::runtime(format!("`{package}` has no version"))
                .hinting("write --add-package dbt-labs/dbt_utils@1.3.0"));
        }
    };
    let path = project.root.root.join("packages.yml");
    let mut text = match fs_err::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "packages:\n".into(),
        Err(source) => return Err(ProjectError::io(path, source)),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&entry);
    fs_err::write(&path, text).map_err(|source| ProjectError::io(path, source))
}
