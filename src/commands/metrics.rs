//! `chpipe metrics`: the state of the pipeline for Prometheus, once or at each scrape.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, http::StatusCode, http::header, response::IntoResponse as _, routing::get};
use parking_lot::Mutex;

use crate::{
    Error,
    cli::MetricsArgs,
    commands::{Context, ExitStatus, datasets, lake_run, warehouse},
    config::Connection,
    engine::{Session, holder, lock_path},
    interrupt::interrupted,
    lake::{
        Lake, ObjectMeta,
        layout::{SilverKey, endpoint_prefix},
    },
    load::{LoadError, LoadLedger, LoadState},
    observe::{CollectOptions, Part, Registry, RunRecord, collect, of_lake, publish},
};

const POLL: Duration = Duration::from_millis(50);

/// Figures of an unchanged warehouse are read again after this long: some of them depend on the date.
const REREAD: Duration = Duration::from_secs(600);

/// Prints the metrics, publishes them, or answers scrapes until it is interrupted.
pub(super) fn metrics(args: &MetricsArgs, context: &Context) -> Result<ExitStatus, Error> {
    if let Some(address) = args.listen {
        return listen(address, context);
    }
    // The warehouse's figures are as good without the lake's.
    let lake = State::default().lake(context).inspect_err(|error| {
        let text = crate::diagnostic::text(error);
        let missing = "what extract and transform did is missing, since the lake cannot be read";
        context.printer.warning(&format!("{missing}: {}", text.trim_start_matches("error: ")));
    });
    let mut registry = read(context)?;
    if args.publish {
        if !context.settings.metrics.is_on() {
            return Err(Error::Argument {
                argument: "--publish",
                reason: "`[metrics]` of chpipe.toml names no textfile, pushgateway or otlp".into(),
            });
        }
        send(&registry, Part::Warehouse, context)?;
        if let Ok(lake) = &lake {
            send(lake, Part::Lake, context)?;
        }
        return Ok(ExitStatus::Success);
    }
    lake.into_iter().for_each(|lake| registry.merge(lake));
    context.printer.data(registry.prometheus().trim_end());
    Ok(ExitStatus::Success)
}

/// Opens the warehouse, reads its part of the metrics and closes it again: an embedded one is held only as long as that.
fn read(context: &Context) -> Result<Registry, Error> {
    let warehouse = warehouse::open(context)?;
    let mut session = warehouse.engine.connect()?;
    let registry = registry(&mut *session, context);
    drop((session, warehouse));
    context.journal.take_engine();
    warehouse::close(context);
    registry
}

/// The warehouse's part of the metrics.
///
/// # Errors
/// The warehouse cannot be asked.
pub(super) fn registry(session: &mut dyn Session, context: &Context) -> Result<Registry, Error> {
    let settings = &context.settings;
    let target = settings.target()?;
    let pending = pending(session, context).inspect_err(|error| {
        tracing::warn!(error = crate::diagnostic::text(error), "batches that are not loaded cannot be counted");
    });
    let options = CollectOptions {
        state_database: settings.migrate.state_database.clone(),
        raw_database: settings.migrate.raw_database.clone(),
        schema: target.schema,
        target: target.name,
        now: chrono::Utc::now(),
        pending: pending.ok(),
    };
    Ok(collect(session, &options)?)
}

/// How many batches of each endpoint are in Silver and not loaded as they are there.
fn pending(session: &mut dyn Session, context: &Context) -> Result<BTreeMap<String, u64>, Error> {
    let settings = &context.settings;
    let Some(endpoints) = datasets::endpoints(settings)? else { return Ok(BTreeMap::new()) };
    let ledger = LoadLedger::new(&settings.migrate.state_database, &settings.migrate.raw_database, "");
    let records = match ledger.records(session) {
        Err(LoadError::NoTable { .. }) => HashMap::new(),
        records => records?,
    };
    let names: Vec<String> = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    lake_run::runtime(context)?.block_on(async {
        let lake = Lake::open(settings).await?;
        let mut pending = BTreeMap::new();
        for name in names {
            let mut objects = lake.silver.list(&endpoint_prefix(&name), None).await?;
            objects.retain(|object| object.key.parse::<SilverKey>().is_ok());
            if objects.is_empty() {
                continue;
            }
            let is_loaded = |object: &ObjectMeta| {
                let record = records.get(&(name.clone(), object.key.clone()));
                record.is_some_and(|record| record.state == LoadState::Loaded && record.etag == object.etag)
            };
            let count = objects.iter().filter(|object| !is_loaded(object)).count() as u64;
            pending.insert(name, count);
        }
        Ok(pending)
    })
}

/// Sends a part of the metrics where `[metrics]` says. Not to be called on a thread of a runtime.
///
/// # Errors
/// A place cannot be reached or refuses.
pub(super) fn send(registry: &Registry, part: Part, context: &Context) -> Result<(), Error> {
    Ok(publish(registry, part, &context.settings.metrics, context.invocation.started_at)?)
}

/// Reads the lake's part of the metrics and sends it.
///
/// # Errors
/// The lake cannot be read, or a place cannot be reached or refuses.
pub(super) async fn send_lake(context: &Context, lake: &Lake) -> Result<(), Error> {
    let records = lake_run::all_records(context, lake).await?;
    let silver = lake_run::silver_bytes(lake).await?;
    let registry = of_lake(&records, context.settings.source.requests_per_hour, silver, chrono::Utc::now());
    let context = context.clone();
    match tokio::task::spawn_blocking(move || send(&registry, Part::Lake, &context)).await {
        Ok(sent) => sent,
        // A panic there is a bug and goes on as one.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A run is as good without its metrics.
pub(super) fn warn_unsent(sent: Result<(), Error>, context: &Context) {
    if let Err(error) = sent {
        let text = crate::diagnostic::text(&error);
        context
            .printer
            .warning(&format!("the metrics of this run were not sent: {}", text.trim_start_matches("error: ")));
    }
}

/// What a scrape leaves for the next one.
#[derive(Debug, Default)]
struct State {
    /// All run records of the lake so far; none ever changes.
    records: Vec<RunRecord>,
    /// Bytes in Silver.
    silver: u64,
    warehouse: Option<Kept>,
}

/// The warehouse's part, and what tells whether it still holds.
#[derive(Debug)]
struct Kept {
    registry: Registry,
    read: Instant,
    touched: Option<SystemTime>,
}

impl State {
    /// The lake's part.
    fn lake(&mut self, context: &Context) -> Result<Registry, Error> {
        let known: HashSet<String> = self.records.iter().map(|record| record.run_id.to_string()).collect();
        let new = lake_run::runtime(context)?.block_on(async {
            let lake = Lake::open(&context.settings).await?;
            let records = match known.is_empty() {
                true => lake_run::all_records(context, &lake).await?,
                false => lake_run::records(&lake, |id| known.contains(id)).await?,
            };
            Ok((records, lake_run::silver_bytes(&lake).await?))
        });
        match new {
            Ok((new, silver)) => {
                self.records.extend(new);
                self.silver = silver;
            }
            // The warehouse's figures are as good without it.
            Err(error) if !self.records.is_empty() => {
                tracing::warn!(
                    error = crate::diagnostic::text(&error),
                    "the lake cannot be read; its figures are those of before"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(of_lake(&self.records, context.settings.source.requests_per_hour, self.silver, chrono::Utc::now()))
    }

    /// The warehouse's part. An embedded warehouse is one process's at a time: it is opened only when somebody had it since
    /// the last time, and while somebody has it, the figures are those of the last time.
    fn warehouse(&mut self, context: &Context) -> Result<Registry, Error> {
        let target = context.settings.target()?;
        let directory = match &target.connection {
            Connection::Embedded { path } => Some(path.as_path()),
            Connection::Http(_) | Connection::Native(_) => None,
        };
        if let (Some(kept), Some(directory)) = (&self.warehouse, directory) {
            let still_holds = match holder(directory) {
                // It answers others.
                Some(holder) if holder.command.ends_with(" serve") => false,
                Some(_) => true,
                None => kept.touched == touched(directory) && kept.read.elapsed() < REREAD,
            };
            if still_holds {
                return Ok(kept.registry.clone());
            }
        }
        let registry = read(context)?;
        let touched = directory.and_then(touched);
        self.warehouse = Some(Kept { registry: registry.clone(), read: Instant::now(), touched });
        Ok(registry)
    }
}

/// When a process last took or left an embedded warehouse.
fn touched(directory: &Path) -> Option<SystemTime> {
    fs_err::metadata(lock_path(directory)).ok()?.modified().ok()
}

fn listen(address: SocketAddr, context: &Context) -> Result<ExitStatus, Error> {
    let failed = |source| Error::Io { path: format!("{address}").into(), source };
    lake_run::runtime(context)?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        context.printer.line(&format!("metrics on http://{address}/metrics"));
        let (scraped, state) = (context.clone(), Arc::new(Mutex::new(State::default())));
        let router = Router::new()
            .route("/health", get(|| async { "ok\n" }))
            .route("/metrics", get(move || scrape(scraped.clone(), Arc::clone(&state))));
        let ended = async {
            while !interrupted() {
                tokio::time::sleep(POLL).await;
            }
        };
        // A scraper keeps its connection, so waiting for open ones would never end.
        tokio::select! {
            served = async { axum::serve(listener, router).await } => served.map_err(failed),
            () = ended => Ok(()),
        }
    })?;
    Ok(ExitStatus::Success)
}

async fn scrape(context: Context, state: Arc<Mutex<State>>) -> axum::response::Response {
    let read = move || {
        let mut state = state.lock();
        let mut registry = state.warehouse(&context)?;
        match state.lake(&context) {
            Ok(lake) => registry.merge(lake),
            Err(error) => tracing::warn!(error = crate::diagnostic::text(&error), "the lake cannot be read"),
        }
        Ok::<_, Error>(registry)
    };
    let read = tokio::task::spawn_blocking(move || read().map_err(|error| crate::diagnostic::text(&error))).await;
    match read {
        Ok(Ok(registry)) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], registry.prometheus())
                .into_response()
        }
        Ok(Err(reason)) => {
            tracing::error!(reason, "the metrics cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
