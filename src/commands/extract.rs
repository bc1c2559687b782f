//! `chpipe extract`: the API to Bronze.

use std::{sync::Arc, time::Duration};

use indicatif::ProgressBar;

use crate::{
    Error,
    cli::ExtractArgs,
    commands::{
        Context, ExitStatus,
        lake_run::{self, Stop},
    },
    extract::{Client, Endpoints, Extract, ExtractError, Mode, Options, Plan, Progress, Report, Selectors},
    lake::Lake,
    observe::RunRecord,
    printer::{Printer, human_bytes, human_count},
};

/// Plans, shows the plan or works it off, and leaves a run record.
pub(super) fn extract(args: &ExtractArgs, context: &Context) -> Result<ExitStatus, Error> {
    let request = Request {
        selectors: lake_run::selectors(&args.listings),
        mode: args.mode,
        fresh: args.fresh,
        dry_run: args.dry_run,
    };
    lake_run::block_on(context, async |stop| {
        let lake = Lake::open(&context.settings).await?;
        run(&request, context, &lake, &stop).await?;
        Ok(ExitStatus::Success)
    })
}

/// What to extract.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) selectors: Selectors,
    pub(super) mode: Mode,
    pub(super) fresh: bool,
    pub(super) dry_run: bool,
}

/// One extraction with everything that is printed and kept of it.
pub(super) async fn run(request: &Request, context: &Context, lake: &Lake, stop: &Stop) -> Result<(), Error> {
    let Context { settings, printer, invocation } = context;
    let endpoints = Endpoints::load(settings.source.endpoints.as_deref())?;
    let client = Arc::new(Client::new(&settings.source, settings.state_dir())?);
    let options = Options {
        selectors: request.selectors.clone(),
        mode: request.mode,
        fresh: request.fresh,
        concurrency: settings.threads.unwrap_or(settings.source.concurrency),
        page_size: settings.source.page_size,
        now: invocation.started_at,
    };
    let bar = Bar { bar: printer.bar("extract", 0), client: Arc::clone(&client) };
    let stage = Extract::new(Arc::clone(&client), lake, endpoints, options, &bar);
    let work = async {
        let plan = stage.plan(request.dry_run).await?;
        if request.dry_run {
            return show(&plan, &stage, &client, printer);
        }
        announce(&plan, &stage, printer)?;
        Ok(stage.run(&plan).await?)
    };
    let interrupted = || {
        let stored = stage.report().endpoints.values().map(|endpoint| endpoint.pages).sum();
        Error::Extract(ExtractError::Interrupted { stored })
    };
    let result = lake_run::until_stopped(stop, work, interrupted).await;
    bar.bar.finish_and_clear();
    if request.dry_run {
        return result;
    }
    let report = stage.report();
    summary(&report, printer);
    let record = record(&request.selectors, &report, &client, context);
    let kept = lake_run::leave_record(lake.bronze.as_ref(), record, result.as_ref().map(|&()| ())).await;
    // The run's own error says more than the record's.
    result.and(kept)
}

/// `--dry-run`: a table of the plan and nothing else.
fn show(plan: &Plan, stage: &Extract<'_>, client: &Client, printer: &Printer) -> Result<(), Error> {
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

fn announce(plan: &Plan, stage: &Extract<'_>, printer: &Printer) -> Result<(), Error> {
    printer.line(&format!(
        "Extracting batch {}{}: about {} requests, {} at the limits",
        plan.batch_id,
        if plan.is_resumed { " (resumed)" } else { "" },
        human_count(plan.requests()),
        human_duration(stage.expected(plan)?),
    ));
    Ok(())
}

fn summary(report: &Report, printer: &Printer) {
    let rows: Vec<Vec<String>> = report
        .endpoints
        .iter()
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
    let mut requests = serde_json::Map::new();
    for ((endpoint, outcome), count) in client.counters().requests {
        let of_endpoint = requests.entry(endpoint).or_insert_with(|| serde_json::json!({}));
        of_endpoint[outcome] = count.into();
    }
    record.requests = requests.into();
    record.quota_remaining = client.limiter().remaining().ok();
    record
}

/// The bar of an extraction: requests, and what is left of the hour.
struct Bar {
    bar: ProgressBar,
    client: Arc<Client>,
}

impl Progress for Bar {
    fn planned(&self, requests: u64) {
        self.bar.set_length(requests);
    }

    fn advanced(&self, requests: u64) {
        self.bar.inc(requests);
        if let Ok(remaining) = self.client.limiter().remaining() {
            self.bar.set_message(format!("{} requests left this hour", human_count(u64::from(remaining))));
        }
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
