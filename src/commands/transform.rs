//! `chpipe transform`: Bronze to Silver.

use std::sync::Arc;

use indicatif::ProgressBar;

use crate::{
    Error,
    cli::TransformArgs,
    commands::{Context, ExitStatus, lake_run},
    extract::{Endpoints, Selectors},
    interrupt,
    lake::Lake,
    observe::RunRecord,
    printer::{Printer, human_bytes, human_count},
    transform::{BronzeBatch, EndpointReport, Options, Outcome, Plan, Progress, Report, Transform, TransformError},
};

/// Finds what is to be done, does it, and leaves a run record.
pub(super) fn transform(args: &TransformArgs, context: &Context) -> Result<ExitStatus, Error> {
    let request =
        Request { selectors: lake_run::selectors(&args.listings), force: args.all, dry_run: args.dry_run, brief: None };
    lake_run::runtime(context)?.block_on(async {
        let lake = Lake::open(&context.settings).await?;
        run(&request, context, &lake).await?;
        Ok(ExitStatus::Success)
    })
}

/// What to transform.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) selectors: Selectors,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    /// A line instead of a table, with this name of what was transformed.
    pub(super) brief: Option<String>,
}

/// One transformation with everything that is printed and kept of it.
pub(super) async fn run(request: &Request, context: &Context, lake: &Lake) -> Result<(), Error> {
    let Context { settings, printer, .. } = context;
    let endpoints = Endpoints::load(settings.source.endpoints.as_deref())?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let options = Options {
        selectors: request.selectors.clone(),
        force: request.force,
        quarantine_threshold: settings.transform.quarantine_threshold,
        // Some a core: one computes while others wait for the store. Each takes some megabytes.
        concurrency: settings.threads.unwrap_or((4 * cores).min(64)),
    };
    let stage = Arc::new(Transform::new(lake.clone(), &endpoints, options)?);
    let plan = stage.plan().await?;
    if request.dry_run {
        show(&plan, printer);
        return Ok(());
    }
    let bar = printer.bar("transform", plan.batches.len() as u64);
    let progress = Arc::new(Bar(bar.clone()));
    let mut report = Report::default();
    let started_at = chrono::Utc::now();
    let result = stage.run(plan, progress, &mut report).await.map_err(Error::from);
    bar.finish_and_clear();
    summary(&report, request.brief.as_deref(), printer);
    let mut record = RunRecord::new("transform", &context.invocation, &settings.project_dir);
    record.arguments = lake_run::arguments(&request.selectors);
    if request.brief.is_some() {
        // A backfill transforms many times, and each of them has a record of its own.
        record.arguments["backfill"] = context.invocation.id.to_string().into();
        record.run_id = uuid::Uuid::new_v4();
        record.started_at = started_at;
    }
    let ids = report.endpoints.values().flat_map(|endpoint| endpoint.batch_ids.iter().cloned());
    record.batch_ids = ids.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    record.endpoints = serde_json::to_value(&report.endpoints).unwrap_or_default();
    record.drift = serde_json::to_value(&report.drift).unwrap_or_default();
    let ended = result.as_ref().map(|&()| ());
    let kept = lake_run::leave_record(context, lake, lake.silver.as_ref(), record, ended).await;
    result.and(kept)
}

/// `--dry-run`.
fn show(plan: &Plan, printer: &Printer) {
    let rows: Vec<Vec<String>> = plan
        .skipped
        .iter()
        .map(|(endpoint, skipped)| {
            let batches = plan.batches.iter().filter(|batch| batch.partition.endpoint() == endpoint);
            let (batches, pages) = batches.fold((0, 0), |(n, pages), batch| (n + 1, pages + batch.files.len() as u64));
            vec![endpoint.clone(), human_count(batches), human_count(pages), human_count(*skipped)]
        })
        .collect();
    printer.table(&["endpoint", "to do", "pages", "done"], &rows, &[1, 2, 3]);
}

fn summary(report: &Report, brief: Option<&str>, printer: &Printer) {
    match brief {
        None => table(report, printer),
        Some(name) => {
            let sum = |value: fn(&EndpointReport) -> u64| report.endpoints.values().map(value).sum::<u64>();
            printer.line(&format!(
                "{name}: {} batches, {} rows, {} to Silver",
                human_count(sum(|endpoint| endpoint.batches)),
                human_count(sum(|endpoint| endpoint.rows)),
                human_bytes(sum(|endpoint| endpoint.bytes_out)),
            ));
        }
    }
    for (name, endpoint) in &report.endpoints {
        if endpoint.superseded > 0 {
            printer.warning(&format!(
                "{} batches of `{name}` are incomplete or cannot be read; newer ones have taken their place",
                endpoint.superseded
            ));
        }
        if endpoint.conflicts > 0 {
            printer.warning(&format!(
                "{} rows of `{name}` came twice with different values; the later ones were taken, the others are in \
                 ergast/_quarantine/",
                endpoint.conflicts
            ));
        }
    }
    for drift in &report.drift {
        printer.warning(&format!(
            "`{}` has an unknown field `{}` ({} times, first value {}); it is kept in `_extra`",
            drift.endpoint, drift.path, drift.count, drift.example
        ));
    }
}

fn table(report: &Report, printer: &Printer) {
    let rows: Vec<Vec<String>> = report
        .endpoints
        .iter()
        .map(|(name, endpoint)| {
            vec![
                name.clone(),
                human_count(endpoint.batches),
                human_count(endpoint.skipped),
                human_count(endpoint.incomplete),
                human_count(endpoint.failed),
                human_count(endpoint.pages),
                human_count(endpoint.rows),
                human_count(endpoint.quarantined),
                human_bytes(endpoint.bytes_out),
                format!("{:.1}", endpoint.seconds),
            ]
        })
        .collect();
    let header = [
        "endpoint",
        "batches",
        "there already",
        "incomplete",
        "failed",
        "pages",
        "rows",
        "quarantined",
        "bytes",
        "seconds",
    ];
    printer.table(&header, &rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn batch_done(&self, batch: &BronzeBatch, outcome: &Result<Outcome, TransformError>) {
        self.0.inc(1);
        let partition = &batch.partition;
        let (endpoint, season, round) = (partition.endpoint(), partition.season(), partition.round());
        let batch_id = batch.batch_id;
        match outcome {
            Ok(Outcome::Incomplete) => {
                tracing::info!(endpoint, season, round, %batch_id, "batch is incomplete");
            }
            Ok(Outcome::Written(written)) => tracing::info!(
                endpoint, season, round, %batch_id, pages = written.pages, rows = written.rows,
                quarantined = written.refused, bytes = written.bytes_out, seconds = written.elapsed.as_secs_f64(),
                "batch transformed"
            ),
            Err(error) => tracing::error!(endpoint, season, round, %batch_id, %error, "batch failed"),
        }
    }

    fn interrupted(&self) -> bool {
        interrupt::interrupted()
    }
}
