//! `chpipe extract`: the API to Bronze.

use std::{
    convert::Infallible,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    Error,
    cli::ExtractArgs,
    commands::{Context, ExitStatus, lake_run},
    extract::{
        Client, EndpointReport, Endpoints, Extract, ExtractError, Mode, Options, Plan, Progress, Report, Selectors,
    },
    lake::Lake,
    observe::RunRecord,
    printer::{Printer, human_bytes, human_count},
};

/// Plans, shows the plan or works it off, and leaves a run record.
pub(super) fn extract(args: &ExtractArgs, context: &Context) -> Result<ExitStatus, Error> {
    let selectors = lake_run::selectors(&args.listings);
    lake_run::runtime(context)?.block_on(async {
        let lake = Lake::open(&context.settings).await?;
        let extraction = Extraction::new(selectors, args.mode, args.fresh, &lake, context)?;
        if args.dry_run {
            return extraction.show_plan().await;
        }
        let work = async {
            let plan = extraction.plan().await?;
            Ok(extraction.stage.run(&plan).await?)
        };
        let result = extraction.until_interrupted(work).await;
        extraction.end(result).await
    })?;
    Ok(ExitStatus::Success)
}

/// How often the bar's times are worked out anew while nothing comes in.
const REFRESH: Duration = Duration::from_secs(1);
/// How often the log says how far it is.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// An extraction with everything that is printed and kept of it.
pub(super) struct Extraction<'c> {
    pub(super) stage: Extract,
    client: Arc<Client>,
    progress: Arc<Bar>,
    selectors: Selectors,
    lake: Lake,
    context: &'c Context,
}

impl<'c> Extraction<'c> {
    pub(super) fn new(
        selectors: Selectors,
        mode: Mode,
        fresh: bool,
        lake: &Lake,
        context: &'c Context,
    ) -> Result<Self, Error> {
        let Context { settings, printer, invocation, .. } = context;
        let endpoints = Endpoints::load(settings.source.endpoints.as_deref())?;
        let client = Arc::new(Client::new(&settings.source, settings.state_dir())?);
        let options = Options {
            selectors: selectors.clone(),
            mode,
            fresh,
            concurrency: settings.threads.unwrap_or(settings.source.concurrency),
            page_size: settings.source.page_size,
            now: invocation.started_at,
        };
        let bar = printer.bar("extract", 0);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {elapsed} {msg}") {
            // What is left follows from the limits and not from how fast it was so far.
            bar.set_style(style.progress_chars("=> "));
        }
        let progress = Arc::new(Bar { bar, client: Arc::clone(&client) });
        let stage = Extract::new(Arc::clone(&client), lake, endpoints, options, Arc::clone(&progress) as _);
        Ok(Self { stage, client, progress, selectors, lake: lake.clone(), context })
    }

    /// Plans and says so.
    pub(super) async fn plan(&self) -> Result<Plan, Error> {
        let plan = self.stage.plan(false).await?;
        self.context.printer.line(&format!(
            "Extracting batch {}{}: about {} requests, {} at the limits",
            plan.batch_id,
            if plan.is_resumed { " (resumed)" } else { "" },
            human_count(plan.requests()),
            human_duration(self.stage.expected(&plan)?),
        ));
        Ok(plan)
    }

    /// `--dry-run`.
    pub(super) async fn show_plan(&self) -> Result<(), Error> {
        self.progress.bar.finish_and_clear();
        let plan = self.stage.plan(true).await?;
        show(&plan, &self.stage, &self.client, &self.context.printer)
    }

    pub(super) async fn until_interrupted<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let interrupted = || {
            let stored = self.stage.report().endpoints.values().map(|endpoint| endpoint.pages).sum();
            Error::Extract(ExtractError::Interrupted { stored })
        };
        tokio::select! {
            result = lake_run::until_interrupted(work, interrupted) => result,
            never = self.progress.keep_fresh() => match never {},
        }
    }

    /// Shows what was done and leaves the run record.
    pub(super) async fn end(&self, result: Result<(), Error>) -> Result<(), Error> {
        self.progress.bar.finish_and_clear();
        let report = self.stage.report();
        summary(&report, &self.context.printer);
        let record = record(&self.selectors, &report, &self.client, self.context);
        let (lake, ended) = (&self.lake, result.as_ref().map(|&()| ()));
        let kept = lake_run::leave_record(self.context, lake, lake.bronze.as_ref(), record, ended).await;
        // The run's own error says more than the record's.
        result.and(kept)
    }
}

/// `--dry-run`: a table of the plan and nothing else.
fn show(plan: &Plan, stage: &Extract, client: &Client, printer: &Printer) -> Result<(), Error> {
    let number =
        |value: u64, is_estimate: bool| format!("{}{}", if is_estimate { "~" } else { "" }, human_count(value));
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .map(|step| {
            let estimate = step.is_estimate;
            vec![
                step.endpoint.clone(),
                step.level.to_owned(),
                number(step.listings, estimate),
                number(step.requests, estimate),
            ]
        })
        .collect();
    printer.table(&["endpoint", "level", "listings", "requests"], &rows, &[2, 3]);
    let requests = plan.requests();
    printer.line(&format!(
        "\nbatch {}{}: about {} requests to {}, {} at the limits ({} of this hour's requests are left)",
        plan.batch_id,
        if plan.is_resumed { " (resumed; what it has is not asked for again)" } else { "" },
        human_count(requests),
        client.base(),
        human_duration(stage.expected(plan)?),
        human_count(u64::from(client.limiter().remaining()?)),
    ));
    Ok(())
}

fn summary(report: &Report, printer: &Printer) {
    let rows: Vec<Vec<String>> = report
        .endpoints
        .iter()
        .filter(|(_, endpoint)| **endpoint != EndpointReport::default())
        .map(|(name, endpoint)| {
            vec![
                name.clone(),
                human_count(endpoint.batches),
                human_count(endpoint.skipped),
                human_count(endpoint.failed),
                human_count(endpoint.pages),
                human_count(endpoint.rows),
                human_bytes(endpoint.bytes),
                format!("{:.1}", endpoint.seconds),
            ]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    printer.table(
        &["endpoint", "batches", "there already", "failed", "pages", "rows", "bytes", "seconds"],
        &rows,
        &[1, 2, 3, 4, 5, 6, 7],
    );
}

fn record(selectors: &Selectors, report: &Report, client: &Client, context: &Context) -> RunRecord {
    let mut record = RunRecord::new("extract", &context.invocation, &context.settings.project_dir);
    record.arguments = lake_run::arguments(selectors);
    let ids = report.endpoints.values().flat_map(|endpoint| endpoint.batch_ids.iter().cloned());
    record.batch_ids = ids.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    record.endpoints = serde_json::to_value(&report.endpoints).unwrap_or_default();
    let (mut requests, mut durations) = (serde_json::Map::new(), serde_json::Map::new());
    let counters = client.counters();
    for ((endpoint, outcome), count) in counters.requests {
        let of_endpoint = requests.entry(endpoint).or_insert_with(|| serde_json::json!({}));
        of_endpoint[outcome] = count.into();
    }
    for ((endpoint, outcome), taken) in counters.durations {
        let of_endpoint = durations.entry(endpoint).or_insert_with(|| serde_json::json!({}));
        of_endpoint[outcome] = serde_json::json!(taken);
    }
    record.requests = requests.into();
    record.durations = durations.into();
    record.quota_remaining = client.limiter().remaining().ok();
    record
}

/// The bar of an extraction: requests done and left, what is left of the hour, and how long it will take at the limits.
struct Bar {
    bar: ProgressBar,
    client: Arc<Client>,
}

impl Bar {
    /// Requests left, requests left in this hour, and how long it takes: as it is now.
    fn left(&self) -> Option<(u64, u32, Duration)> {
        let left = self.bar.length().unwrap_or_default().saturating_sub(self.bar.position());
        let limiter = self.client.limiter();
        Some((left, limiter.remaining().ok()?, limiter.expected(left).ok()?))
    }

    fn refresh(&self) {
        if let Some((left, quota, time)) = self.left() {
            self.bar.set_message(format!(
                "about {} requests left, {} allowed in this hour, {}",
                human_count(left),
                human_count(u64::from(quota)),
                human_duration(time),
            ));
        }
    }

    /// The hour goes on while the limiter waits for it.
    async fn keep_fresh(&self) -> Infallible {
        let mut logged = Instant::now();
        loop {
            tokio::time::sleep(REFRESH).await;
            self.refresh();
            if logged.elapsed() >= LOG_EVERY
                && let Some((left, quota, time)) = self.left()
            {
                logged = Instant::now();
                tracing::info!(
                    requests_done = self.bar.position(),
                    requests_left = left,
                    quota_left = quota,
                    seconds_left = time.as_secs(),
                    "progress"
                );
            }
        }
    }
}

impl Progress for Bar {
    fn planned(&self, requests: u64) {
        self.bar.set_length(requests);
        self.refresh();
    }

    fn advanced(&self, requests: u64) {
        self.bar.inc(requests);
        self.refresh();
    }
}

/// `19 h 5 min`, `2 min 3 s`, `12 s`.
pub(super) fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        for (seconds, text) in [(0.2, "1 s"), (125.0, "2 min 5 s"), (68_700.0, "19 h 5 min")] {
            assert_eq!(human_duration(Duration::from_secs_f64(seconds)), text);
        }
    }
}
