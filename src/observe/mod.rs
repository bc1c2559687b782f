//! What an invocation leaves to look at: its id, log lines and run records. In: events of the stages; out: lines on
//! stderr, records in the lake and the warehouse. It never decides anything.

pub mod audit;
mod collect;
mod lake_metrics;
mod log;
pub mod metrics;
mod publish;
mod run_record;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use audit::{Audit, Event, Journal};
pub use collect::{CollectOptions, collect};
pub use lake_metrics::of_lake;
pub use log::{json_line, start_log};
pub use metrics::Registry;
pub use publish::{Part, PublishError, publish};
pub use run_record::{Outcome, RunRecord};

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
