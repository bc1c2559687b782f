//! How a node ended: the facts of one entry of run_results.json.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// dbt's statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeStatus {
    Success,
    Error,
    Skipped,
    /// Some batches of a microbatch model failed.
    PartialSuccess,
    NoOp,
    Pass,
    Warn,
    Fail,
}

impl NodeStatus {
    /// As run_results.json has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::PartialSuccess => "partial success",
            Self::NoOp => "no-op",
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// Whether the invocation failed because of it.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Fail | Self::PartialSuccess)
    }

    /// Whether what depends on it is skipped.
    pub fn blocks_children(self) -> bool {
        matches!(self, Self::Error | Self::Fail | Self::Skipped | Self::PartialSuccess)
    }
}

/// When a phase of a node began and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `compile` or `execute`.
    pub name: &'static str,
    pub started_at: DateTime<Utc>,
    pub completed_at: DateTime<Utc>,
}

/// One node's result.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeResult {
    pub unique_id: String,
    pub status: NodeStatus,
    pub timing: Vec<Timing>,
    /// From 1.
    pub thread: usize,
    /// Seconds.
    pub execution_time: f64,
    pub adapter_response: Map<String, Value>,
    /// What went wrong, or what the node has to say.
    pub message: Option<String>,
    /// Tests: how many rows.
    pub failures: Option<i64>,
    pub compiled_code: Option<String>,
    pub compiled_path: Option<String>,
    pub relation_name: Option<String>,
    /// Microbatch: `{"successful": [[start, end]], "failed": […]}`.
    pub batch_results: Option<Value>,
    /// More lines to show below the message: failing rows, a hint.
    pub details: Vec<String>,
}

impl NodeResult {
    /// A result with nothing but its status.
    pub fn new(unique_id: impl Into<String>, status: NodeStatus) -> Self {
        Self {
            unique_id: unique_id.into(),
            status,
            timing: Vec::new(),
            thread: 1,
            execution_time: 0.0,
            adapter_response: Map::new(),
            message: None,
            failures: None,
            compiled_code: None,
            compiled_path: None,
            relation_name: None,
            batch_results: None,
            details: Vec::new(),
        }
    }
}
