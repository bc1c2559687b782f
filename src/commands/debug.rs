//! `chpipe debug`: the project, the target, and whether what they name is there.

use serde_json::Value;

use crate::{
    Error,
    adapter::text_rows,
    cli::DebugArgs,
    commands::{
        Context, ExitStatus,
        warehouse::{self, Warehouse},
    },
    config::{Connection, Target},
    engine::{self, QueryOptions},
    project::{DBT_VERSION, Project},
};

/// Shows the configuration and answers [`ExitStatus::Failure`] where something of it cannot be used.
pub(super) fn debug(args: &DebugArgs, context: &Context) -> Result<ExitStatus, Error> {
    let printer = &context.printer;
    let settings = &context.settings;
    if args.config_dir {
        let folders = [settings.profiles_dir.clone(), Some(settings.project_dir.clone())];
        for folder in folders.into_iter().flatten() {
            printer.data(&folder.display().to_string());
        }
        return Ok(ExitStatus::Success);
    }
    printer.line(&format!("chpipe version: {} (dbt {DBT_VERSION})", env!("CARGO_PKG_VERSION")));
    printer.line(&format!("project: {}", settings.project_dir.display()));
    let target = match settings.target() {
        Ok(target) => target,
        Err(error) => {
            printer.line("Configuration:\n  profiles.yml [ERROR invalid]");
            return Err(error.into());
        }
    };
    let mut fine = true;
    if !args.connection {
        let project = Project::load_root(settings, &target);
        let state = |ok: bool| if ok { "[OK found and valid]" } else { "[ERROR invalid]" };
        printer.line(&format!(
            "Configuration:\n  profiles.yml {}\n  dbt_project.yml {}",
            state(true),
            state(project.is_ok())
        ));
        fine = project.is_ok();
        let git = std::process::Command::new("git").arg("--version").output().is_ok_and(|out| out.status.success());
        printer.line(&format!("Required dependencies:\n - git [{}]", if git { "OK found" } else { "ERROR not found" }));
        if let Err(error) = project {
            crate::diagnostic::report(&error.into(), printer);
        }
    }
    printer.line(&format!("Connection:\n{}", connection(&target)));
    match warehouse::open(context).and_then(|warehouse| answer(&warehouse)) {
        Ok(version) => printer.line(&format!("  Connection test: [OK connection ok] ClickHouse {version}\n")),
        Err(error) => {
            printer.line("  Connection test: [ERROR]\n");
            crate::diagnostic::report(&error, printer);
            fine = false;
        }
    }
    if fine {
        printer.line("All checks passed!");
    }
    Ok(if fine { ExitStatus::Success } else { ExitStatus::Failure })
}

/// The version of the ClickHouse that answers.
fn answer(warehouse: &Warehouse) -> Result<String, Error> {
    let mut session = warehouse.session()?;
    let batches = engine::fetch(&mut *session, "SELECT version()", &QueryOptions::default())?;
    let first = text_rows(&batches).into_iter().flatten().next();
    Ok(first.flatten().unwrap_or_default())
}

/// The connection's keys, as dbt lists them; the password is not among them.
fn connection(target: &Target) -> String {
    let mut lines = vec![format!("  profile: {}", target.profile_name), format!("  target: {}", target.name)];
    if let Connection::Embedded { path } = &target.connection {
        lines.push(format!("  driver: embedded\n  path: {}", path.display()));
        lines.push(format!("  schema: {}", target.schema));
        return lines.join("\n");
    }
    for (key, value) in &target.fields {
        if matches!(key.as_str(), "name" | "target_name" | "profile_name" | "type" | "database") {
            continue;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => "None".into(),
            other => other.to_string(),
        };
        lines.push(format!("  {key}: {text}"));
    }
    lines.join("\n")
}
