//! What each command that changes the warehouse leaves behind: its row in the audit trail, the runs of extract and
//! transform that the lake has kept since, and the warehouse's metrics. It never fails a command: what cannot be written
//! is a warning.

use serde_json::{Map, Value};

use crate::{
    Error,
    cli::{Command, LoadCommand, MigrateCommand},
    commands::{Context, ExitStatus, lake_run, metrics},
    lake::Lake,
    observe::{Audit, Event, Outcome, Part, RunRecord, audit::lake_events},
};

/// dbt's name of a command that changes the warehouse; none for one that reads.
pub(super) fn audited(command: &Command) -> Option<&'static str> {
    match command {
        Command::Migrate(args) if args.dry_run || args.check || args.out.is_some() => None,
        Command::Migrate(args) if matches!(args.command, Some(MigrateCommand::Status | MigrateCommand::History)) => {
            None
        }
        Command::Migrate(_) => Some("migrate"),
        Command::Load(args) if args.dry_run || matches!(args.command, Some(LoadCommand::Status)) => None,
        Command::Load(_) => Some("load"),
        Command::Run(_) => Some("run"),
        Command::Test(_) => Some("test"),
        Command::Seed(_) => Some("seed"),
        Command::Snapshot(_) => Some("snapshot"),
        Command::Build(_) => Some("build"),
        Command::Retry(_) => Some("retry"),
        Command::Clone(_) => Some("clone"),
        Command::RunOperation(_) => Some("run-operation"),
        // Where its statement is no SELECT.
        Command::Query(_) => Some("query"),
        Command::Backfill(args) if args.dry_run || args.no_load => None,
        Command::Backfill(_) => Some("backfill"),
        // The first two leave their records in the lake.
        Command::Extract(_)
        | Command::Transform(_)
        | Command::Engine(_)
        | Command::Ddl(_)
        | Command::Completions(_)
        | Command::Simulate(_)
        | Command::Parse(_)
        | Command::Ls(_)
        | Command::Compile(_)
        | Command::Deps(_)
        | Command::Show(_)
        | Command::Source(_)
        | Command::Docs(_)
        | Command::Debug(_)
        | Command::Clean(_)
        | Command::Init(_)
        | Command::Metrics(_)
        | Command::Lineage(_)
        | Command::Serve(_) => None,
    }
}

/// Writes the audit rows of a command that has ended, and sends the metrics.
pub(super) fn leave(command: &'static str, context: &Context, result: &Result<ExitStatus, Error>) {
    // No warehouse was opened, so nothing was changed; and what could not be reached cannot be written to.
    let Some(engine) = context.journal.take_engine() else { return };
    if context.journal.is_reading() {
        return;
    }
    let left = (|| {
        let mut session = engine.connect()?;
        let database = &context.settings.migrate.state_database;
        let Some(mut audit) = Audit::open(&mut *session, database)? else { return Ok(()) };
        let record = record(command, context, result);
        let mut events = context.journal.events(&context.invocation.id.to_string());
        events.extend(audit.ledger_events(&context.invocation.id.to_string())?);
        let mut runs = take_over(&mut audit, context)?;
        runs.push((record, events));
        audit.write(&runs)?;
        if context.settings.metrics.is_on() {
            let sent = metrics::registry(&mut *session, context)
                .and_then(|registry| metrics::send(&registry, Part::Warehouse, context));
            metrics::warn_unsent(sent, context);
        }
        Ok::<(), Error>(())
    })();
    if let Err(error) = left {
        context.printer.warning(&format!("this run is not in the audit trail: {}", crate::diagnostic::text(&error)));
    }
}

/// What of a run's arguments belongs into the audit trail: all but the variables' values, which can be secrets.
pub(super) fn selected(args: &Map<String, Value>) -> Value {
    let mut args = args.clone();
    // The command line has them too.
    args.remove("invocation_command");
    if let Some(Value::Object(variables)) = args.remove("vars") {
        args.insert("vars".to_owned(), variables.keys().cloned().collect());
    }
    args.into()
}

fn record(command: &'static str, context: &Context, result: &Result<ExitStatus, Error>) -> RunRecord {
    let mut record = RunRecord::new(command, &context.invocation, &context.settings.project_dir);
    record.arguments = context.journal.arguments();
    match result {
        Ok(ExitStatus::Success) => {}
        Ok(ExitStatus::Failure) => record.outcome = Outcome::Failed,
        Err(error) => {
            record.outcome = if error.exit_code() == 130 { Outcome::Interrupted } else { Outcome::Failed };
            record.error = Some(crate::diagnostic::text(error));
        }
    }
    record
}

/// The runs of extract and transform in the lake that the trail does not have yet.
fn take_over(audit: &mut Audit<'_>, context: &Context) -> Result<Vec<(RunRecord, Vec<Event>)>, Error> {
    let known = audit.known()?;
    lake_run::runtime(context)?.block_on(async {
        let lake = Lake::open(&context.settings).await?;
        let runs = lake_run::records(&lake, |id| known.contains(id)).await?;
        let with_events = |record: RunRecord| {
            let events = lake_events(&record);
            (record, events)
        };
        Ok(runs.into_iter().map(with_events).collect())
    })
}
