//! What an invocation leaves to look at: its id, log lines and run records. In: events of the stages; out: lines on
//! stderr, records in the lake and the warehouse. It never decides anything.

use chrono::{DateTime, Utc};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use uuid::Uuid;

use crate::cli::{GlobalArgs, LogFormat, LogLevel};

/// One run of the binary: dbt's `invocation_id` and `run_started_at`; the run id on every log line and record.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub id: Uuid,
    pub started_at: DateTime<Utc>,
}

impl Invocation {
    /// Starts now, under a new id.
    pub fn start() -> Self {
        Self { id: Uuid::new_v4(), started_at: Utc::now() }
    }
}

/// Starts the log of this process on stderr, with the run id on every line. A second call changes nothing (tests start
/// it often).
pub fn start_log(global: &GlobalArgs, invocation: &Invocation) {
    let level = match (global.debug, global.log_level) {
        (true, _) | (false, LogLevel::Debug) => "debug",
        // A JSON log is how machines follow the progress.
        (false, LogLevel::Warn) if global.log_format == LogFormat::Json => "info",
        (false, LogLevel::Info) => "info",
        (false, LogLevel::Warn) => "warn",
        (false, LogLevel::Error) => "error",
        (false, LogLevel::None) => "off",
    };
    let filter = EnvFilter::new(format!("warn,chpipe={level}"));
    let json = global.log_format == LogFormat::Json;
    let started = tracing_subscriber::registry()
        .with(filter)
        .with((!json).then(|| fmt::layer().with_writer(std::io::stderr).with_target(false)))
        .with(
            json.then(|| fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_current_span(true)),
        )
        .try_init();
    if started.is_ok() {
        // Entered for the life of the process, so that every line carries it.
        let span = tracing::error_span!("run", run_id = %invocation.id);
        std::mem::forget(span.entered());
    }
}
