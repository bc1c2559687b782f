//! `chpipe migrate`: plan, show, apply; and what was applied.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    Error,
    cli::{MigrateArgs, MigrateCommand, PlanFormat},
    commands::{
        Context, ExitStatus,
        datasets::{self, DatasetFiles},
        lake_run,
        plan_memory::PlanMemory,
        warehouse::{self, SILVER_COLLECTION, Warehouse},
    },
    config::Secret,
    ddl::{Dataset, TableSpec, Templates, WantedOptions},
    engine::Capabilities,
    lake::{BucketAccess, Lake},
    migrate::{
        Action, FileOrder, Ledger, Lock, MigrateError, MigrateProgress, MigrationFile, MigrationState, Migrator, Plan,
        PlannedChange, Wanted, file_change, make_plan, pending_files, plan_json, plan_sql, plan_text, read_files,
    },
    printer::{Printer, human_bytes, human_count},
    schema::NamedCollection,
};

/// Plans, and does what the flags say with the plan.
pub(super) fn migrate(args: &MigrateArgs, context: &Context) -> Result<ExitStatus, Error> {
    match &args.command {
        Some(MigrateCommand::Apply(apply)) => return apply_file(&apply.plan, &apply.allow_destructive, context),
        Some(MigrateCommand::Status) => return status(context),
        Some(MigrateCommand::History) => return history(context),
        Some(MigrateCommand::Undo) => return undo(context),
        None => {}
    }
    let project = Project::read(context, args.queue || queue_mode(context))?;
    if args.dry_run || args.check || args.out.is_some() {
        // A plan file names the state of the tables, so it is always made from them.
        let memory = PlanMemory::of(&context.settings, &project.files, project.queue).filter(|_| args.out.is_none());
        if let Some(plan) = memory.as_ref().and_then(PlanMemory::recall) {
            show(&plan, args.format, &context.printer);
            return Ok(ExitStatus::Success);
        }
        let warehouse = warehouse::open(context)?;
        let metadata = memory.as_ref().and_then(PlanMemory::metadata);
        let (plan, _) = project.whole_plan(&warehouse, &args.allow_destructive)?;
        if let Some(memory) = memory {
            memory.remember(&plan, metadata);
        }
        show(&plan, args.format, &context.printer);
        if let Some(path) = &args.out {
            write_plan(&plan, path)?;
        }
        return Ok(if args.check && !plan.is_empty() { ExitStatus::Failure } else { ExitStatus::Success });
    }
    let warehouse = warehouse::open(context)?;
    let migrator = project.migrator(&warehouse)?;
    let progress = Progress { printer: &context.printer };
    let lock = migrator.lock("migrate", &progress)?;
    migrator.recover(&lock, &progress)?;
    let (plan, files) = project.whole_plan(&warehouse, &args.allow_destructive)?;
    show(&plan, args.format, &context.printer);
    if !plan.is_empty() {
        project.apply(&warehouse, &migrator, &plan, &files, &args.allow_destructive, &lock, &progress)?;
        say(args.format, &format!("Applied {}.", plan.id), context);
    }
    for line in migrator.drop_expired(&lock, context.settings.migrate.retention_days)? {
        say(args.format, &line, context);
    }
    Ok(ExitStatus::Success)
}

/// A line about what was done. A document of JSON or SQL on stdout stays one.
fn say(format: PlanFormat, line: &str, context: &Context) {
    match format {
        PlanFormat::Text => context.printer.line(line),
        PlanFormat::Json | PlanFormat::Sql => tracing::info!("{line}"),
    }
}

/// Everything of the project that a plan is made from.
pub(super) struct Project<'a> {
    pub(super) context: &'a Context,
    pub(super) files: Vec<DatasetFiles>,
    pub(super) templates: Templates,
    pub(super) queue: bool,
}

impl<'a> Project<'a> {
    /// Reads specs, templates and the footers of the lake.
    pub(super) fn read(context: &'a Context, queue: bool) -> Result<Self, Error> {
        let settings = &context.settings;
        let templates =
            Templates::load(Some(&settings.migrate.ddl_path.join("templates")), settings.migrate.cluster.as_deref())
                .map_err(MigrateError::from)?;
        let files = lake_run::runtime(context)?.block_on(async {
            let lake = Lake::open(settings).await?;
            datasets::read_datasets(settings, &lake).await
        })?;
        Ok(Self { context, files, templates, queue })
    }

    pub(super) fn wanted_options(&self, capabilities: &Capabilities) -> WantedOptions {
        wanted_options(&self.context.settings, capabilities.version, self.queue)
    }

    /// The plan for this warehouse; changes nothing.
    pub(super) fn plan(&self, warehouse: &Warehouse, allow_destructive: &[String]) -> Result<Plan, Error> {
        let capabilities = warehouse.engine.capabilities();
        let options = self.wanted_options(capabilities);
        let datasets: Vec<(Dataset, TableSpec)> =
            self.files.iter().map(|files| (files.dataset.clone(), files.spec.clone())).collect();
        let collections = collections(self.context, warehouse)?;
        let secrets = collections.iter().map(|(name, access)| (name.clone(), secrets(access))).collect();
        let named_collections = collections.into_iter().map(|(name, access)| named_collection(name, &access)).collect();
        let wanted = Wanted {
            datasets: &datasets,
            options: &options,
            templates: &self.templates,
            state_database: &self.context.settings.migrate.state_database,
            named_collections,
            secrets: &secrets,
            allow_destructive,
        };
        let mut session = warehouse.engine.connect()?;
        Ok(make_plan(&mut *session, capabilities, &wanted)?)
    }

    /// The plan with the migration files that are pending, in the order in which all of it runs.
    fn whole_plan(
        &self,
        warehouse: &Warehouse,
        allow_destructive: &[String],
    ) -> Result<(Plan, Vec<MigrationFile>), Error> {
        let mut plan = self.plan(warehouse, allow_destructive)?;
        let settings = &self.context.settings;
        let files = read_files(&settings.migrate.ddl_path.join("migrations"))?;
        let mut session = warehouse.engine.connect()?;
        let entries = Ledger::new(&settings.migrate.state_database).entries(&mut *session)?;
        let files = pending_files(&files, &entries)?;
        let (before, after): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.order == FileOrder::BeforeGenerated);
        plan.changes.splice(0..0, before.into_iter().map(file_change));
        plan.changes.extend(after.into_iter().map(file_change));
        Ok((plan.named(), files))
    }

    /// Applies a plan of [`Project::whole_plan`] and checks that nothing is left to do.
    #[expect(clippy::too_many_arguments, reason = "each is a part of one migration")]
    fn apply(
        &self,
        warehouse: &Warehouse,
        migrator: &Migrator,
        plan: &Plan,
        files: &[MigrationFile],
        allowed: &[String],
        lock: &Lock,
        progress: &Progress<'_>,
    ) -> Result<(), Error> {
        let (before, after): (Vec<MigrationFile>, Vec<MigrationFile>) =
            files.iter().cloned().partition(|file| file.order == FileOrder::BeforeGenerated);
        let mut generated = plan.clone();
        generated.changes.retain(|change| change.action != Action::Run);
        migrator.refuse_destructive(&generated, allowed)?;
        if !before.is_empty() {
            migrator.apply_files(&before, lock, progress)?;
            // What the files did may be what the generated part would have done, or need more of it.
            generated = self.plan(warehouse, allowed)?;
        }
        if !generated.is_empty() {
            migrator.apply(&generated, allowed, lock, progress)?;
        }
        let again = self.plan(warehouse, allowed)?;
        if let Some(change) = again.changes.first() {
            let difference = change.summary.join(", ");
            return Err(MigrateError::Drift { object: change.object.clone(), difference }.into());
        }
        migrator.apply_files(&after, lock, progress)?;
        Ok(())
    }

    pub(super) fn migrator(&self, warehouse: &Warehouse) -> Result<Migrator, Error> {
        let settings = &self.context.settings;
        let collections = collections(self.context, warehouse)?;
        Ok(Migrator {
            engine: Arc::clone(&warehouse.engine),
            templates: self.templates.clone(),
            ledger: Ledger::new(&settings.migrate.state_database),
            state_database: settings.migrate.state_database.clone(),
            cluster: settings.migrate.cluster.clone(),
            run_id: self.context.invocation.id.to_string(),
            secrets: collections.into_iter().map(|(name, access)| (name, secrets(&access))).collect(),
            lock_timeout: settings.lock_timeout,
        })
    }
}

/// How objects are written for this project and server.
pub(super) fn wanted_options(settings: &crate::config::Settings, version: (u32, u32), queue: bool) -> WantedOptions {
    WantedOptions {
        database: settings.migrate.raw_database.clone(),
        collection: SILVER_COLLECTION.into(),
        cluster: settings.migrate.cluster.clone(),
        hive_strategy: version >= (25, 8),
        independent_arrays: version >= (26, 5),
        queue,
        keeper_path: settings.load.keeper_path.clone(),
        bucket: settings.lake.silver.clone(),
        state_database: settings.migrate.state_database.clone(),
    }
}

/// Whether queues belong to what the project wants.
pub(super) fn queue_mode(context: &Context) -> bool {
    context.settings.load.mode == "queue"
}

/// The collections of Silver and of the buckets that specs name.
fn collections(context: &Context, warehouse: &Warehouse) -> Result<Vec<(String, BucketAccess)>, Error> {
    let mut collections = warehouse::other_collections(context, &warehouse.silver)?;
    collections.insert(0, (SILVER_COLLECTION.to_owned(), warehouse.silver.bucket.clone()));
    Ok(collections)
}

/// <https://clickhouse.com/docs/operations/named-collections#named-collections-for-accessing-s3>
fn named_collection(name: String, access: &BucketAccess) -> NamedCollection {
    let mut collection =
        NamedCollection { name, values: [("url".to_owned(), access.url.clone())].into(), secrets: Vec::new() };
    if access.access_key_id.is_some() {
        collection.secrets = vec!["access_key_id".into(), "secret_access_key".into()];
    } else if access.no_sign_request {
        collection.values.insert("no_sign_request".into(), "1".into());
    } else {
        collection.values.insert("use_environment_credentials".into(), "1".into());
    }
    collection
}

/// The secrets, in the order of the collection's hidden keys.
fn secrets(access: &BucketAccess) -> Vec<Secret> {
    match (&access.access_key_id, &access.secret_access_key) {
        (Some(id), Some(secret)) => vec![Secret::new(id.clone()), secret.clone()],
        _ => Vec::new(),
    }
}

fn show(plan: &Plan, format: PlanFormat, printer: &Printer) {
    match format {
        PlanFormat::Text => printer.line(plan_text(plan).trim_end()),
        PlanFormat::Json => printer.data(&plan_json(plan)),
        PlanFormat::Sql => printer.data(plan_sql(plan).trim_end()),
    }
}

fn write_plan(plan: &Plan, path: &Path) -> Result<(), Error> {
    fs_err::write(path, plan_json(plan)).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// `migrate apply plan.json`: the plan must be the one that would be made now.
fn apply_file(path: &Path, allowed: &[String], context: &Context) -> Result<ExitStatus, Error> {
    let text = fs_err::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let plan = Plan::parse(&text).map_err(|reason| MigrateError::Plan { path: path.to_owned(), reason })?;
    let project = Project::read(context, queue_mode(context) || plan.queue)?;
    let warehouse = warehouse::open(context)?;
    let migrator = project.migrator(&warehouse)?;
    let progress = Progress { printer: &context.printer };
    let lock = migrator.lock("migrate apply", &progress)?;
    migrator.recover(&lock, &progress)?;
    let (now, files) = project.whole_plan(&warehouse, allowed)?;
    let stale = |reason: &str| MigrateError::StalePlan { path: path.to_owned(), reason: reason.to_owned() };
    let entries = Ledger::new(&context.settings.migrate.state_database).entries(&mut *warehouse.engine.connect()?)?;
    if let Some(entry) = entries.iter().find(|entry| entry.id == plan.id && entry.state == MigrationState::Applied) {
        return Err(stale(&format!("it was applied at {}", entry.started_at)).into());
    }
    if now.fingerprint != plan.fingerprint {
        return Err(stale("a table or view has changed since the plan was made").into());
    }
    let state = &context.settings.migrate.state_database;
    if now.steps_checksum(state) != plan.steps_checksum(state) {
        return Err(
            stale("the files, the specs, chpipe or the plan itself have changed since the plan was made").into()
        );
    }
    // What it would lose was counted just now: a file says so only as long as nobody edits it.
    let plan = Plan { id: plan.id, ..now };
    project.apply(&warehouse, &migrator, &plan, &files, allowed, &lock, &progress)?;
    context.printer.line(&format!("Applied {}.", plan.id));
    Ok(ExitStatus::Success)
}

/// `migrate status`.
fn status(context: &Context) -> Result<ExitStatus, Error> {
    let project = Project::read(context, queue_mode(context))?;
    let warehouse = warehouse::open(context)?;
    let (plan, _) = project.whole_plan(&warehouse, &[])?;
    let mut session = warehouse.engine.connect()?;
    let entries = Ledger::new(&context.settings.migrate.state_database).entries(&mut *session)?;
    let applied = entries.iter().filter(|entry| entry.state == MigrationState::Applied);
    let printer = &context.printer;
    match applied.clone().next_back() {
        Some(last) => printer.line(&format!(
            "{} migrations applied, the last {} at {}",
            applied.count(),
            last.id,
            last.started_at
        )),
        None => printer.line("No migration was applied to this warehouse"),
    }
    if let Some(open) = entries.iter().rfind(|entry| entry.state == MigrationState::Started) {
        printer.line(&format!("Migration {} of {} is running or was interrupted", open.id, open.started_at));
    }
    let rows: Vec<Vec<String>> = plan
        .changes
        .iter()
        .map(|change| vec![change.object.clone(), change.action.to_string(), change.class.to_string()])
        .collect();
    if rows.is_empty() {
        printer.line("Nothing is pending");
    } else {
        printer.table(&["pending", "action", "class"], &rows, &[]);
    }
    let kept = project.migrator(&warehouse)?.kept(context.settings.migrate.retention_days)?;
    if !kept.is_empty() {
        let day = |until: chrono::DateTime<chrono::Utc>| until.format("%Y-%m-%d %H:%M UTC").to_string();
        let rows: Vec<Vec<String>> = kept
            .iter()
            .map(|kept| {
                let until = kept.until.map_or_else(|| "its migration ends".to_owned(), day);
                vec![kept.table.plain(), human_count(kept.rows), human_bytes(kept.bytes), until]
            })
            .collect();
        printer.table(&["kept for `migrate undo`", "rows", "bytes", "until"], &rows, &[1, 2]);
    }
    Ok(ExitStatus::Success)
}

/// `migrate history`.
fn history(context: &Context) -> Result<ExitStatus, Error> {
    let warehouse = warehouse::open(context)?;
    let mut session = warehouse.engine.connect()?;
    let entries = Ledger::new(&context.settings.migrate.state_database).entries(&mut *session)?;
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.id.clone(),
                entry.kind.clone(),
                entry.state.as_str().to_owned(),
                entry.name.clone(),
                entry.checksum.chars().take(12).collect(),
                entry.started_at.clone(),
                entry.error.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    context.printer.table(&["migration", "kind", "state", "what", "checksum", "started", "error"], &rows, &[]);
    Ok(ExitStatus::Success)
}

/// `migrate undo`.
fn undo(context: &Context) -> Result<ExitStatus, Error> {
    let project = Project { context, files: Vec::new(), templates: templates(context)?, queue: false };
    let warehouse = warehouse::open(context)?;
    let migrator = project.migrator(&warehouse)?;
    let progress = Progress { printer: &context.printer };
    let lock = migrator.lock("migrate undo", &progress)?;
    migrator.recover(&lock, &progress)?;
    for line in migrator.undo(&lock)? {
        context.printer.line(&line);
    }
    Ok(ExitStatus::Success)
}

pub(super) fn templates(context: &Context) -> Result<Templates, Error> {
    let migrate = &context.settings.migrate;
    Ok(Templates::load(Some(&migrate.ddl_path.join("templates")), migrate.cluster.as_deref())
        .map_err(MigrateError::from)?)
}

/// Progress on the terminal.
pub(super) struct Progress<'a> {
    pub(super) printer: &'a Printer,
}

impl MigrateProgress for Progress<'_> {
    fn waiting(&self, holder: &str) {
        self.printer.warning(&format!("waiting for {holder}"));
    }

    fn change_started(&self, change: &PlannedChange) {
        tracing::info!(object = change.object, action = %change.action, class = %change.class, "change started");
    }

    fn change_done(&self, change: &PlannedChange, elapsed: Duration) {
        tracing::info!(object = change.object, action = %change.action, seconds = elapsed.as_secs_f64(), "change done");
    }

    fn recovered(&self, what: &str) {
        self.printer.warning(what);
    }
}
