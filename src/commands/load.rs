//! `chpipe load`: Silver objects into the raw tables, each exactly once.

use indicatif::ProgressBar;

use crate::{
    Error,
    cli::{LoadArgs, LoadCommand, LoadMode},
    commands::{
        Context, ExitStatus,
        datasets::DatasetFiles,
        migrate::{Progress, Project},
        warehouse::{self, Warehouse},
    },
    config::Connection,
    engine::holder,
    load::{
        DatasetLoad, LoadError, LoadLedger, LoadObject, LoadProgress, LoadRecord, LoadReport, LoadState, Loader,
        release_dead_consumers,
    },
    migrate::Lock,
    printer::{Printer, human_bytes, human_count},
};

/// Compares Silver with the ledger and loads what is missing.
pub(super) fn load(args: &LoadArgs, context: &Context) -> Result<ExitStatus, Error> {
    let mode = mode(args, context)?;
    if let Some(LoadCommand::Status) = args.command {
        return status(context);
    }
    let project = Project::read(context, false)?;
    let datasets = selected(&project.files, &args.endpoint)?;
    for key in &args.reload {
        if !datasets.iter().any(|load| load.objects.iter().any(|object| object.key.contains(key.as_str()))) {
            return Err(LoadError::NoObject { key: key.clone() }.into());
        }
    }
    if mode == LoadMode::Queue && !args.dry_run {
        release_dead(context)?;
    }
    let warehouse = warehouse::open(context)?;
    let loader = loader(&project, &warehouse);
    if args.dry_run {
        return dry_run(&loader, &datasets, args, context);
    }
    let migrator = project.migrator(&warehouse)?;
    let lock = migrator.lock("load", &Progress { printer: &context.printer })?;
    let mut session = warehouse.engine.connect()?;
    let mut records = loader.ledger.records(&mut *session).map_err(Error::from)?;
    // A queue takes no object a second time, whatever is forgotten here.
    let queued = records.clone();
    for name in loader.forget_emptied(&mut *session, &datasets, &mut records)? {
        let what = match mode {
            LoadMode::Batch => "all of them are loaded again",
            LoadMode::Queue => "`chpipe load --mode batch` loads them again, a queue does not",
        };
        let emptied = format!("the ledger has objects of `{name}` as loaded, and its raw table is empty");
        context.printer.warning(&format!("{emptied}: {what}"));
    }
    let records = if mode == LoadMode::Queue { queued } else { records };
    drop(session);
    // A queue reads no path twice: what is named is inserted by chpipe, in either mode, and nothing else is.
    let only_named = mode == LoadMode::Queue && !args.reload.is_empty();
    let datasets = if only_named { named(datasets, &args.reload) } else { datasets };
    let total: usize = datasets.iter().map(|load| Loader::pending(load, &records, &args.reload).len()).sum();
    let bar = context.printer.bar("load", total as u64);
    let progress = Bar { bar: bar.clone(), printer: &context.printer };
    if mode == LoadMode::Queue && args.reload.is_empty() {
        bar.finish_and_clear();
        return follow(&project, &warehouse, &loader, &datasets, &records, args, &lock, context);
    }
    let mut reports = Vec::new();
    for load in &datasets {
        let report = loader.load(load, &records, &args.reload, &lock, &progress);
        reports.push(report.inspect_err(|_| bar.finish_and_clear())?);
    }
    bar.finish_and_clear();
    summary(&reports, &context.printer);
    let failed = reports.iter().any(|report| !report.failed.is_empty());
    Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
}

/// What a killed process was reading is free to be read again, before the queues of an embedded warehouse begin.
fn release_dead(context: &Context) -> Result<(), Error> {
    let settings = &context.settings;
    let (Some(address), Connection::Embedded { path }) = (&settings.engine.zookeeper, settings.target()?.connection)
    else {
        return Ok(());
    };
    if holder(&path).is_none() {
        let database = &settings.migrate.raw_database;
        let released = release_dead_consumers(address, &settings.load.keeper_path, database)?;
        tracing::debug!("{released} objects were being read by a process that is gone");
    }
    Ok(())
}

/// The datasets with those of their objects alone that `--reload` names.
fn named<'a>(datasets: Vec<DatasetLoad<'a>>, reload: &[String]) -> Vec<DatasetLoad<'a>> {
    let mut datasets = datasets;
    for load in &mut datasets {
        load.objects.retain(|object| reload.iter().any(|key| object.key.contains(key.as_str())));
    }
    datasets.retain(|load| !load.objects.is_empty());
    datasets
}

/// `load --mode queue`: ClickHouse takes the objects, this waits for it.
#[expect(clippy::too_many_arguments, reason = "each is a part of one load")]
fn follow(
    project: &Project<'_>,
    warehouse: &Warehouse,
    loader: &Loader,
    datasets: &[DatasetLoad<'_>],
    records: &std::collections::HashMap<(String, String), LoadRecord>,
    args: &LoadArgs,
    lock: &Lock,
    context: &Context,
) -> Result<ExitStatus, Error> {
    let total: usize = datasets.iter().map(|load| Loader::pending(load, records, &[]).len()).sum();
    let bar = context.printer.bar("queue", total as u64);
    let progress = Bar { bar: bar.clone(), printer: &context.printer };
    let patience = std::time::Duration::from_secs(args.patience);
    let wanted = project.wanted_options(warehouse.engine.capabilities());
    let outcome = loader.follow_queues(datasets, records, &wanted, patience, lock, &progress);
    bar.finish_and_clear();
    let outcome = outcome?;
    summary(&outcome.reports, &context.printer);
    if !outcome.waiting.is_empty() {
        context.printer.warning(&format!(
            "{} objects were not taken by ClickHouse, and nothing moved for {} s; the first is `{}`",
            outcome.waiting.len(),
            args.patience,
            outcome.waiting[0]
        ));
    }
    for key in outcome.reports.iter().flat_map(|report| &report.changed) {
        let hint =
            format!("`{key}` is not what was loaded under its key; `chpipe load --reload {key}` replaces its rows");
        context.printer.warning(&hint);
    }
    let failed = !outcome.waiting.is_empty() || outcome.reports.iter().any(|report| !report.failed.is_empty());
    Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
}

fn mode(args: &LoadArgs, context: &Context) -> Result<LoadMode, Error> {
    match (args.mode, context.settings.load.mode.as_str()) {
        (Some(mode), _) => Ok(mode),
        (None, "batch") => Ok(LoadMode::Batch),
        (None, "queue") => Ok(LoadMode::Queue),
        (None, other) => Err(LoadError::Mode { mode: other.to_owned() }.into()),
    }
}

fn loader(project: &Project<'_>, warehouse: &Warehouse) -> Loader {
    let settings = &project.context.settings;
    Loader {
        engine: std::sync::Arc::clone(&warehouse.engine),
        templates: project.templates.clone(),
        ledger: LoadLedger::new(
            &settings.migrate.state_database,
            &settings.migrate.raw_database,
            &project.context.invocation.id.to_string(),
        ),
        raw_database: settings.migrate.raw_database.clone(),
        bucket: settings.lake.silver.clone(),
        keeper: settings.engine.zookeeper.clone(),
    }
}

/// The datasets named, or all.
fn selected<'a>(files: &'a [DatasetFiles], names: &[String]) -> Result<Vec<DatasetLoad<'a>>, Error> {
    if let Some(name) = names.iter().find(|name| !files.iter().any(|files| files.dataset.name == **name)) {
        return Err(LoadError::NoDataset { name: name.clone() }.into());
    }
    Ok(files
        .iter()
        .filter(|files| names.is_empty() || names.contains(&files.dataset.name))
        .map(|files| DatasetLoad {
            dataset: &files.dataset,
            spec: &files.spec,
            objects: files
                .objects
                .iter()
                .zip(&files.footers)
                .map(|(object, footer)| LoadObject {
                    key: object.key.clone(),
                    etag: object.etag.clone(),
                    bytes: object.size,
                    rows: footer.rows,
                })
                .collect(),
        })
        .collect())
}

fn dry_run(
    loader: &Loader,
    datasets: &[DatasetLoad<'_>],
    args: &LoadArgs,
    context: &Context,
) -> Result<ExitStatus, Error> {
    let mut session = loader.engine.connect()?;
    let mut records = loader.ledger.records(&mut *session)?;
    loader.forget_emptied(&mut *session, datasets, &mut records)?;
    let rows: Vec<Vec<String>> = datasets
        .iter()
        .map(|load| {
            let pending = Loader::pending(load, &records, &args.reload);
            let (rows, bytes) =
                pending.iter().fold((0, 0), |(rows, bytes), (object, _)| (rows + object.rows, bytes + object.bytes));
            vec![
                load.dataset.name.clone(),
                human_count(pending.len() as u64),
                human_count(rows),
                human_bytes(bytes),
                human_count((load.objects.len() - pending.len()) as u64),
            ]
        })
        .collect();
    context.printer.table(&["endpoint", "to load", "rows", "bytes", "loaded already"], &rows, &[1, 2, 3, 4]);
    Ok(ExitStatus::Success)
}

fn summary(reports: &[LoadReport], printer: &Printer) {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            vec![
                report.dataset.clone(),
                human_count(report.objects),
                human_count(report.rows),
                human_bytes(report.bytes),
                human_count(report.skipped),
                human_count(report.replaced),
                human_count(report.failed.len() as u64),
                format!("{:.1}", report.elapsed.as_secs_f64()),
            ]
        })
        .collect();
    let header = ["endpoint", "objects", "rows", "bytes", "there already", "replaced", "failed", "seconds"];
    printer.table(&header, &rows, &[1, 2, 3, 4, 5, 6, 7]);
    for report in reports {
        for (key, reason) in &report.failed {
            printer.warning(&format!("`{key}` was not loaded: {}", reason.lines().next().unwrap_or_default()));
        }
    }
}

/// `load status`.
fn status(context: &Context) -> Result<ExitStatus, Error> {
    let project = Project::read(context, false)?;
    let datasets = selected(&project.files, &[])?;
    let warehouse = warehouse::open(context)?;
    let loader = loader(&project, &warehouse);
    let mut session = warehouse.engine.connect()?;
    let mut records = match loader.ledger.records(&mut *session) {
        Err(LoadError::NoTable { .. }) => std::collections::HashMap::new(),
        records => records?,
    };
    loader.forget_emptied(&mut *session, &datasets, &mut records)?;
    let mut failed = Vec::new();
    let mut rows = Vec::new();
    for load in &datasets {
        let pending = Loader::pending(load, &records, &[]);
        let count = |state: Option<LoadState>| pending.iter().filter(|(_, found)| *found == state).count() as u64;
        let changed = count(Some(LoadState::Loaded));
        for (object, state) in &pending {
            if *state == Some(LoadState::Failed)
                && let Some(record) = records.get(&(load.dataset.name.clone(), object.key.clone()))
            {
                let reason = record.reason.lines().next().unwrap_or_default().to_owned();
                failed.push(vec![object.key.clone(), reason, record.recorded_at.clone()]);
            }
        }
        rows.push(vec![
            load.dataset.name.clone(),
            human_count((load.objects.len() - pending.len()) as u64),
            human_count(count(None)),
            human_count(count(Some(LoadState::Loading))),
            human_count(changed),
            human_count(count(Some(LoadState::Failed))),
        ]);
    }
    let header = ["endpoint", "loaded", "pending", "interrupted", "changed", "failed"];
    context.printer.table(&header, &rows, &[1, 2, 3, 4, 5]);
    if !failed.is_empty() {
        context.printer.table(&["failed object", "why", "when"], &failed, &[]);
    }
    Ok(ExitStatus::Success)
}

struct Bar<'a> {
    bar: ProgressBar,
    printer: &'a Printer,
}

impl LoadProgress for Bar<'_> {
    fn loaded(&self, dataset: &str, objects: u64, rows: u64) {
        self.bar.inc(objects);
        tracing::info!(dataset, objects, rows, "objects loaded");
    }

    fn failed(&self, dataset: &str, key: &str, reason: &str) {
        self.bar.inc(1);
        // The summary names it too; a log reader wants it now.
        let _ = self.printer;
        tracing::error!(dataset, key, reason, "object failed");
    }
}
