//! The lines of an invocation as dbt users and tools know them: progress, results, the summary that ends in
//! `Done. PASS=…`. Text gets dbt's time of day in front; JSON lines get dbt's event names.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Map, Value, json};

use crate::{
    interrupt::interrupted,
    printer::{Printer, table_text},
    project::{Node, ResourceType, Source, Workspace},
    render::{Events, NodeContext, RenderError},
    schedule::{NodeResult, NodeStatus, Position},
};

/// dbt's printer width.
const WIDTH: usize = 80;

/// Where lines go.
pub(in crate::commands) struct Lines<'a> {
    printer: &'a Printer,
    warn_error: bool,
}

impl<'a> Lines<'a> {
    pub(in crate::commands) fn new(printer: &'a Printer, warn_error: bool) -> Self {
        Self { printer, warn_error }
    }

    fn event(&self, name: &str, code: &str, text: &str, data: Map<String, Value>) {
        if self.printer.json() {
            self.printer.event(name, code, text, data);
        } else {
            let time = Utc::now().format("%H:%M:%S");
            for line in text.split('\n') {
                self.printer.event(name, code, format!("{time}  {line}").trim_end(), Map::new());
            }
        }
    }

    /// A line without further meaning.
    pub(in crate::commands) fn note(&self, text: &str) {
        self.event("Note", "Z050", text, Map::new());
    }

    pub(in crate::commands) fn warning(&self, text: &str) {
        self.printer.warning(text);
    }

    /// A table of results, with a line above it.
    pub(in crate::commands) fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        self.note(&table_text(header, rows, &[]));
    }

    pub(super) fn concurrency(&self, threads: usize, target: &str) {
        self.note("");
        let plural = if threads == 1 { "thread" } else { "threads" };
        self.event(
            "ConcurrencyLine",
            "Q026",
            &format!("Concurrency: {threads} {plural} (target='{target}')"),
            Map::new(),
        );
        self.note("");
    }

    pub(super) fn start(&self, node: &NodeName, position: Position) {
        let text = fancy(&format!("START {}", node.description), "RUN", position, None);
        self.event("LogStartLine", "Q011", &text, node.data(position, None));
    }

    /// The line of a finished node.
    pub(super) fn result(&self, node: &NodeName, result: &NodeResult, position: Position) {
        let (message, status) = match result.status {
            NodeStatus::Skipped => {
                let kind = if node.is_test { "" } else { "relation " };
                let text = fancy(&format!("SKIP {kind}{}", node.short), "SKIP", position, None);
                self.event("SkippingDetails", "Q033", &text, node.data(position, Some(result)));
                return;
            }
            NodeStatus::Error => (format!("ERROR {}{}", node.verbs.failed, node.description), "ERROR".to_owned()),
            NodeStatus::Fail => {
                let failures = result.failures.unwrap_or(0);
                (format!("FAIL {failures} {}", node.short), format!("FAIL {failures}"))
            }
            NodeStatus::Warn if node.is_test => {
                let failures = result.failures.unwrap_or(0);
                (format!("WARN {failures} {}", node.short), format!("WARN {failures}"))
            }
            NodeStatus::Pass => (format!("PASS {}", node.short), "PASS".to_owned()),
            NodeStatus::NoOp => (format!("NO-OP {}", node.description), "NO-OP".to_owned()),
            NodeStatus::PartialSuccess => {
                (format!("PARTIAL SUCCESS {}{}", node.verbs.failed, node.description), "PARTIAL SUCCESS".to_owned())
            }
            NodeStatus::Success | NodeStatus::Warn => {
                let status = result.message.clone().unwrap_or_else(|| "OK".to_owned());
                (format!("OK {}{}", node.verbs.done, node.description), status)
            }
        };
        let text = fancy(&message, &status, position, Some(result.execution_time));
        self.event(node.verbs.event.0, node.verbs.event.1, &text, node.data(position, Some(result)));
    }

    /// How old a source was found to be.
    pub(super) fn freshness(&self, source: &NodeName, status: &'static str, position: Position, seconds: f64) {
        let word = match status {
            "error" => "ERROR STALE",
            "warn" => "WARN",
            "pass" => "PASS",
            _ => "ERROR",
        };
        let text = fancy(&format!("{word} {}", source.description), word, position, Some(seconds));
        let mut data = source.data(position, None);
        data.insert("status".into(), json!(status));
        data.insert("execution_time".into(), json!(seconds));
        let (schema, table) = source.short.split_once('.').unwrap_or_default();
        data.insert("source_name".into(), json!(schema));
        data.insert("table_name".into(), json!(table));
        self.event("LogFreshnessResult", "Q018", &text, data);
    }

    /// What finished, what went wrong, and dbt's last line, which tools read.
    pub(super) fn summary(&self, workspace: &Workspace, results: &[NodeResult], elapsed: Duration) {
        let counted: Vec<&NodeResult> =
            results.iter().filter(|result| !result.unique_id.starts_with("operation.")).collect();
        self.note("");
        let seconds = elapsed.as_secs_f64();
        let whole = elapsed.as_secs();
        self.event(
            "FinishedRunningStats",
            "E047",
            &format!(
                "Finished running {} in {} hours {} minutes and {:.2} seconds ({seconds:.2}s).",
                kinds(workspace, &counted),
                whole / 3600,
                whole / 60 % 60,
                seconds - (whole / 60 * 60) as f64
            ),
            Map::new(),
        );
        let count = |wanted: &[NodeStatus]| results.iter().filter(|result| wanted.contains(&result.status)).count();
        let passed = count(&[NodeStatus::Success, NodeStatus::Pass]);
        let warned = count(&[NodeStatus::Warn]);
        let errors = count(&[NodeStatus::Error, NodeStatus::Fail]);
        let partial = count(&[NodeStatus::PartialSuccess]);
        let skipped = count(&[NodeStatus::Skipped]);
        let no_op = count(&[NodeStatus::NoOp]);
        self.note("");
        if interrupted() {
            self.event("EndOfRunSummary", "Z030", "Exited because of keyboard interrupt", Map::new());
        } else if errors + warned + partial == 0 {
            self.event("EndOfRunSummary", "Z030", "Completed successfully", Map::new());
        } else {
            let plural = |count: usize, word: &str| {
                format!(
                    "{count} {word}{}",
                    if count == 1 {
                        ""
                    } else if word.ends_with("success") {
                        "es"
                    } else {
                        "s"
                    }
                )
            };
            let text = format!(
                "Completed with {}, {}, and {}:",
                plural(errors, "error"),
                plural(partial, "partial success"),
                plural(warned, "warning")
            );
            self.event("EndOfRunSummary", "Z030", &text, Map::new());
            // As dbt's: what failed is said in --quiet too.
            let loud = self.printer.loud();
            let failures = Lines { printer: &loud, warn_error: self.warn_error };
            for result in results {
                let lines = if result.status.is_failure() { &failures } else { self };
                lines.problem(workspace, result);
            }
        }
        self.note("");
        let text = format!(
            "Done. PASS={passed} WARN={warned} ERROR={} SKIP={skipped} NO-OP={no_op} TOTAL={}",
            errors + partial,
            passed + warned + errors + partial + skipped + no_op
        );
        self.event("StatsLine", "Z023", &text, Map::new());
    }

    fn problem(&self, workspace: &Workspace, result: &NodeResult) {
        if !(result.status.is_failure() || result.status == NodeStatus::Warn) {
            return;
        }
        self.note("");
        let (name, path, kind) = match workspace.manifest.resource(&result.unique_id) {
            Some(resource) => (
                resource.name().to_owned(),
                resource.original_file_path().to_owned(),
                resource.resource_type().as_str(),
            ),
            None => (result.unique_id.clone(), String::new(), "operation"),
        };
        let word = if result.status == NodeStatus::Warn { "Warning" } else { "Failure" };
        self.event("RunResultFailure", "Z024", &format!("{word} in {kind} {name} ({path})"), Map::new());
        for line in result.message.as_deref().unwrap_or("no message").lines() {
            self.event("RunResultError", "Z024", &format!("  {line}"), Map::new());
        }
        for detail in &result.details {
            self.note("");
            for line in detail.lines() {
                self.note(&format!("  {line}"));
            }
        }
        if let Some(path) = &result.compiled_path {
            self.note("");
            self.event("SQLCompiledPath", "Z026", &format!("  compiled code at {path}"), Map::new());
        }
    }
}

impl Events for Lines<'_> {
    fn log(&self, _node: &NodeContext, message: &str, info: bool) {
        if info {
            self.event("JinjaLogInfo", "I062", message, Map::new());
        } else {
            tracing::debug!("{message}");
        }
    }

    fn print(&self, _node: &NodeContext, message: &str) {
        if self.printer.json() {
            self.event("PrintEvent", "Z052", message, Map::new());
        } else {
            self.printer.data(message);
        }
    }

    fn warn(&self, _node: &NodeContext, message: &str) -> Result<(), RenderError> {
        if self.warn_error {
            return Err(RenderError::compilation(message));
        }
        self.printer.warning(message);
        Ok(())
    }
}

/// How dbt speaks of a node.
pub(super) struct NodeName {
    unique_id: String,
    kind: &'static str,
    materialized: String,
    /// `sql view model f1.stg_drivers`, `test unique_x`, `seed file f1.x`.
    description: String,
    /// `f1.stg_drivers`, or a test's name.
    short: String,
    is_test: bool,
    verbs: Verbs,
}

struct Verbs {
    done: &'static str,
    failed: &'static str,
    event: (&'static str, &'static str),
}

impl NodeName {
    pub(super) fn of(node: &Node) -> Self {
        let relation = format!("{}.{}", node.schema, node.alias);
        let (description, short, verbs) = match node.resource_type {
            ResourceType::Seed => (
                format!("seed file {relation}"),
                relation,
                Verbs { done: "loaded ", failed: "loading ", event: ("LogSeedResult", "Q016") },
            ),
            ResourceType::Snapshot => (
                format!("snapshot {relation}"),
                relation,
                Verbs { done: "snapshotted ", failed: "snapshotting ", event: ("LogSnapshotResult", "Q015") },
            ),
            ResourceType::Test => (
                format!("test {}", node.name),
                node.name.clone(),
                Verbs { done: "", failed: "", event: ("LogTestResult", "Q007") },
            ),
            ResourceType::Operation => (
                format!("hook: {}", node.name),
                node.name.clone(),
                Verbs { done: "", failed: "", event: ("LogHookEndLine", "Q033") },
            ),
            _ => (
                format!("{} {} model {relation}", node.language, node.materialized()),
                relation,
                Verbs { done: "created ", failed: "creating ", event: ("LogModelResult", "Q012") },
            ),
        };
        Self {
            unique_id: node.unique_id.clone(),
            kind: node.resource_type.as_str(),
            materialized: node.materialized().to_owned(),
            description,
            short,
            is_test: node.resource_type == ResourceType::Test,
            verbs,
        }
    }

    /// A node of `clone`.
    pub(super) fn of_clone(node: &Node) -> Self {
        let mut name = Self::of(node);
        name.verbs = Verbs { done: "cloned ", failed: "cloning ", event: ("LogModelResult", "Q012") };
        name
    }

    /// A source, whose freshness is checked.
    pub(super) fn of_source(source: &Source) -> Self {
        let name = format!("{}.{}", source.source_name, source.name);
        Self {
            unique_id: source.unique_id.clone(),
            kind: "source",
            materialized: String::new(),
            description: format!("freshness of {name}"),
            short: name,
            is_test: false,
            verbs: Verbs { done: "", failed: "", event: ("LogFreshnessResult", "Q018") },
        }
    }

    /// An exposure, which nothing is done for.
    pub(super) fn of_exposure(unique_id: &str) -> Self {
        let name = unique_id.rsplit('.').next().unwrap_or(unique_id);
        Self {
            unique_id: unique_id.to_owned(),
            kind: "exposure",
            materialized: String::new(),
            description: format!("exposure {name}"),
            short: format!("exposure {name}"),
            is_test: false,
            verbs: Verbs { done: "", failed: "", event: ("LogNodeNoOpResult", "Q019") },
        }
    }

    /// A unit test: `model::name`.
    pub(super) fn of_unit_test(unique_id: &str, model: &str, name: &str) -> Self {
        Self {
            unique_id: unique_id.to_owned(),
            kind: "unit_test",
            materialized: "unit".to_owned(),
            description: format!("unit_test {model}::{name}"),
            short: format!("{model}::{name}"),
            is_test: true,
            verbs: Verbs { done: "", failed: "", event: ("LogTestResult", "Q007") },
        }
    }

    /// The fields of dbt's structured log that tools read.
    fn data(&self, position: Position, result: Option<&NodeResult>) -> Map<String, Value> {
        let status = result.map_or("started", |result| result.status.as_str());
        let data = json!({
            "description": self.description,
            "index": position.index,
            "total": position.total,
            "status": result.and_then(|result| result.message.clone()),
            "execution_time": result.map(|result| result.execution_time),
            "query_id": result.and_then(|result| result.adapter_response.get("query_id")),
            "node_info": {
                "unique_id": self.unique_id,
                "node_name": self.short,
                "resource_type": self.kind,
                "materialized": self.materialized,
                "node_status": status,
            },
        });
        match data {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// dbt's `3 of 42 OK created … [OK in 0.12s]`, filled with dots to 80 columns.
fn fancy(message: &str, status: &str, position: Position, seconds: Option<f64>) -> String {
    let prefix = format!("{} of {} {message} ", position.index, position.total);
    let time = seconds.map(|seconds| format!(" in {seconds:.2}s")).unwrap_or_default();
    format!("{prefix:.<WIDTH$} [{status}{time}]")
}

/// `2 table models, 1 seed, 3 data tests`.
fn kinds(workspace: &Workspace, results: &[&NodeResult]) -> String {
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for result in results {
        let kind = match workspace.manifest.nodes.get(&result.unique_id) {
            Some(node) => match node.resource_type {
                ResourceType::Model => format!("{} model", node.materialized().replace('_', " ")),
                ResourceType::Test => "data test".to_owned(),
                other => other.as_str().to_owned(),
            },
            None if workspace.manifest.exposures.contains_key(&result.unique_id) => "exposure".to_owned(),
            None => "unit test".to_owned(),
        };
        *counts.entry(kind).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(kind, count)| format!("{count} {kind}{}", if count == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dbts() {
        let position = Position { index: 1, total: 42, thread: 1 };
        assert_eq!(
            fancy("START sql view model f1.stg_drivers", "RUN", position, None),
            "1 of 42 START sql view model f1.stg_drivers .................................... [RUN]"
        );
        assert!(fancy("OK created x", "OK", position, Some(0.123)).ends_with(" [OK in 0.12s]"));
    }
}
