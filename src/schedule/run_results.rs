//! run_results.json, version 6. <https://schemas.getdbt.com/dbt/run-results/v6.json>

use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::NodeResult;
use crate::{file::write_whole, observe::Invocation, project::DBT_VERSION};

/// What an invocation did.
#[derive(Debug, Clone)]
pub struct RunResults<'a> {
    pub invocation: &'a Invocation,
    pub results: &'a [NodeResult],
    /// Seconds.
    pub elapsed: f64,
    pub args: Map<String, Value>,
}

impl RunResults<'_> {
    /// The document.
    pub fn json(&self) -> Value {
        json!({
            "metadata": {
                "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
                "dbt_version": DBT_VERSION,
                "generated_at": timestamp(Utc::now()),
                "invocation_id": self.invocation.id.to_string(),
                "invocation_started_at": timestamp(self.invocation.started_at),
                "env": {},
            },
            "results": self.results.iter().map(result_json).collect::<Vec<_>>(),
            "elapsed_time": self.elapsed,
            "args": self.args,
        })
    }
}

fn timestamp(time: chrono::DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// One entry of `results`.
pub fn result_json(result: &NodeResult) -> Value {
    let timing: Vec<Value> = result
        .timing
        .iter()
        .map(|timing| {
            json!({
                "name": timing.name,
                "started_at": timestamp(timing.started_at),
                "completed_at": timestamp(timing.completed_at),
            })
        })
        .collect();
    json!({
        "status": result.status.as_str(),
        "timing": timing,
        "thread_id": format!("Thread-{} (worker)", result.thread),
        "execution_time": result.execution_time,
        "adapter_response": result.adapter_response,
        "message": result.message,
        "failures": result.failures,
        "unique_id": result.unique_id,
        "compiled": result.compiled_code.is_some(),
        "compiled_code": result.compiled_code,
        "relation_name": result.relation_name,
        "batch_results": result.batch_results,
    })
}

/// Writes run_results.json into the target folder; a reader never sees half of it.
///
/// # Errors
/// The file cannot be written; an earlier one stays as it was.
pub fn write_run_results(results: &RunResults<'_>, target_path: &Path) -> std::io::Result<PathBuf> {
    let path = target_path.join("run_results.json");
    let mut bytes = serde_json::to_vec(&results.json()).map_err(std::io::Error::other)?;
    bytes.push(b'\n');
    write_whole(&path, bytes)?;
    Ok(path)
}
