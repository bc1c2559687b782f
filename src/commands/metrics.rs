//! `chpipe metrics`: the state of the pipeline for Prometheus, once or at each scrape.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, http::StatusCode, http::header, response::IntoResponse as _, routing::get};

use crate::{
    Error,
    cli::MetricsArgs,
    commands::{Context, ExitStatus, lake_run, warehouse},
    engine::Session,
    interrupt::interrupted,
    observe::{CollectOptions, Registry, collect, publish},
};

const POLL: Duration = Duration::from_millis(50);

/// Prints the metrics, publishes them, or answers scrapes until it is interrupted.
pub(super) fn metrics(args: &MetricsArgs, context: &Context) -> Result<ExitStatus, Error> {
    if let Some(address) = args.listen {
        return listen(address, context);
    }
    let registry = read(context)?;
    if args.publish {
        if !context.settings.metrics.is_on() {
            return Err(Error::Argument {
                argument: "--publish",
                reason: "`[metrics]` of chpipe.toml names no textfile, pushgateway or otlp".into(),
            });
        }
        publish(&registry, &context.settings.metrics, context.invocation.started_at)?;
        return Ok(ExitStatus::Success);
    }
    context.printer.data(registry.prometheus().trim_end());
    Ok(ExitStatus::Success)
}

/// Opens the warehouse, reads and closes it again: an embedded one is held only as long as that.
fn read(context: &Context) -> Result<Registry, Error> {
    let warehouse = warehouse::open(context)?;
    let mut session = warehouse.engine.connect()?;
    let registry = registry(&mut *session, context);
    drop(session);
    context.journal.take_engine();
    registry
}

/// The state as metrics.
///
/// # Errors
/// The warehouse cannot be asked.
pub(super) fn registry(session: &mut dyn Session, context: &Context) -> Result<Registry, Error> {
    let settings = &context.settings;
    let target = settings.target()?;
    let options = CollectOptions {
        state_database: settings.migrate.state_database.clone(),
        raw_database: settings.migrate.raw_database.clone(),
        schema: target.schema,
        target: target.name,
        quota: settings.source.requests_per_hour,
        now: chrono::Utc::now(),
    };
    Ok(collect(session, &options)?)
}

fn listen(address: SocketAddr, context: &Context) -> Result<ExitStatus, Error> {
    let failed = |source| Error::Io { path: format!("{address}").into(), source };
    lake_run::runtime(context)?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        context.printer.line(&format!("metrics on http://{address}/metrics"));
        let scraped = context.clone();
        let router = Router::new()
            .route("/health", get(|| async { "ok\n" }))
            .route("/metrics", get(move || scrape(scraped.clone())));
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

async fn scrape(context: Context) -> axum::response::Response {
    let read =
        tokio::task::spawn_blocking(move || read(&context).map_err(|error| crate::diagnostic::text(&error))).await;
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
