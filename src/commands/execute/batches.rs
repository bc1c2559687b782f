//! Microbatch: an incremental model over time, one interval after another or several at once. Each interval is compiled with
//! its own window on the refs that have an `event_time`, and replaces what the table holds of it.

use chrono::{Datelike as _, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike as _, Utc};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::node::{Done, Failure, NodeWorker, Running, response};
use crate::{
    adapter::{Adapter, NodeWarehouse},
    engine::quote_string,
    interrupt::interrupted,
    materialize::{Batch, MaterializeError, Model, Outcome, apply_grants, materialization, persist_docs},
    project::{Node, Relation, RelationKind, parse_moment},
    render::{
        EventTimeFilter, NodeContext, Phase, RefCall, RenderError, Renderer, Resolve, Resolved, Services, Source,
        SourceCall, Value, inject_ctes,
    },
    schedule::NodeStatus,
};

/// From and until.
type Interval = (NaiveDateTime, NaiveDateTime);

fn batch_size(node: &Node) -> Result<BatchSize, MaterializeError> {
    node.config.str("batch_size").and_then(BatchSize::parse).ok_or_else(|| {
        MaterializeError::config("batch_size", "a microbatch model needs `hour`, `day`, `month` or `year`")
    })
}

/// `batch_results` of run_results.json: what a microbatch model did, and what is left.
#[derive(Debug, Default)]
pub(in crate::commands) struct Batches {
    pub(in crate::commands) successful: Vec<Interval>,
    pub(in crate::commands) failed: Vec<Interval>,
}

impl Batches {
    /// Reads what an earlier invocation wrote, chpipe's or dbt's.
    pub(in crate::commands) fn of(value: &Json) -> Self {
        let intervals = |name: &str| {
            let times = |pair: &Json| Some((parse_moment(pair[0].as_str()?)?, parse_moment(pair[1].as_str()?)?));
            value[name].as_array().into_iter().flatten().filter_map(times).collect()
        };
        Self { successful: intervals("successful"), failed: intervals("failed") }
    }

    fn json(&self) -> Json {
        let written = |intervals: &[Interval]| -> Vec<[String; 2]> {
            let text = |time: &NaiveDateTime| time.format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
            intervals.iter().map(|(start, end)| [text(start), text(end)]).collect()
        };
        json!({"successful": written(&self.successful), "failed": written(&self.failed)})
    }
}

/// `batch_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchSize {
    Hour,
    Day,
    Month,
    Year,
}

impl BatchSize {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// The beginning of the interval that a moment is in.
    fn truncate(self, time: NaiveDateTime) -> NaiveDateTime {
        let date = match self {
            Self::Hour | Self::Day => time.date(),
            Self::Month => time.date().with_day(1).unwrap_or(time.date()),
            Self::Year => NaiveDate::from_ymd_opt(time.year(), 1, 1).unwrap_or(time.date()),
        };
        let hour = if self == Self::Hour { time.hour() } else { 0 };
        date.and_time(NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or_default())
    }

    /// So many intervals later, or earlier.
    fn offset(self, time: NaiveDateTime, count: i64) -> NaiveDateTime {
        let start = self.truncate(time);
        let months = |count: i64| {
            let number = Months::new(u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX));
            if count >= 0 { start.checked_add_months(number) } else { start.checked_sub_months(number) }
        };
        let moved = match self {
            Self::Hour => start.checked_add_signed(TimeDelta::hours(count)),
            Self::Day => start.checked_add_signed(TimeDelta::days(count)),
            Self::Month => months(count),
            Self::Year => months(count * 12),
        };
        moved.unwrap_or(start)
    }

    /// dbt's name of the interval that begins then.
    fn name(self, start: NaiveDateTime) -> String {
        let format = match self {
            Self::Hour => "%Y-%m-%dT%H",
            Self::Day => "%Y-%m-%d",
            Self::Month => "%Y-%m",
            Self::Year => "%Y",
        };
        start.format(format).to_string()
    }

    /// The beginning of the next interval, unless the moment is one.
    fn ceiling(self, time: NaiveDateTime) -> NaiveDateTime {
        let start = self.truncate(time);
        if start == time { start } else { self.offset(time, 1) }
    }
}

/// The intervals of a run, oldest first. dbt's rules: from `--event-time-start`, from `begin` where the table is new, else
/// `lookback` intervals back; up to `--event-time-end`, else to the end of the current interval.
fn intervals(
    size: BatchSize,
    begin: Option<NaiveDateTime>,
    lookback: i64,
    window: (Option<NaiveDateTime>, Option<NaiveDateTime>),
    is_new: bool,
    now: NaiveDateTime,
) -> Option<Vec<(NaiveDateTime, NaiveDateTime)>> {
    let end = size.ceiling(window.1.unwrap_or(now));
    let start = match window.0 {
        Some(start) => size.truncate(start),
        None if is_new => size.truncate(begin?),
        // `end` is the boundary after the current interval.
        None => size.offset(end, -(lookback + 1)),
    };
    let mut intervals = Vec::new();
    let mut current = start;
    while current < end {
        let next = size.offset(current, 1);
        intervals.push((current, next.min(end)));
        current = next;
    }
    Some(intervals)
}

impl NodeWorker<'_> {
    pub(super) fn is_microbatch(&self, node: &Node) -> bool {
        node.materialized() == "incremental" && node.config.incremental_strategy() == Some("microbatch")
    }

    /// Runs every interval; some may fail, and then the rest is there all the same.
    pub(super) fn run_batches(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        let failed = |error: MaterializeError| Failure::materialize(node, &error);
        let event_time = node
            .config
            .str("event_time")
            .ok_or_else(|| failed(MaterializeError::config("event_time", "a microbatch model needs it")))?;
        let existing = running.warehouse.adapter().relation(&node.relation()).map_err(|error| failed(error.into()))?;
        let again = self.plan.again.and_then(|again| again.batches.get(&node.unique_id));
        // A table with some of its intervals is gone on with, even where the first attempt was a full refresh.
        let is_new =
            !existing.is_some_and(|existing| existing.is_table()) || (again.is_none() && self.full_refresh(node));
        let mut intervals = match again {
            Some(batches) if !is_new => batches.failed.clone(),
            _ => self.batch_intervals(node, is_new).map_err(failed)?,
        };
        let pending = Pending::of(&node.relation());
        let left = if is_new { Vec::new() } else { pending.read(&mut running.warehouse.adapter()).map_err(failed)? };
        if self.plan.event_time == (None, None) {
            intervals.extend(&left);
            intervals.sort_unstable();
            intervals.dedup();
        }
        let total = intervals.len();
        let mut to_do = intervals.clone();
        to_do.extend(left.iter().filter(|interval| !intervals.contains(interval)));
        pending.begin(&mut running.warehouse.adapter(), to_do).map_err(failed)?;
        let batches: Vec<Batch> = intervals
            .iter()
            .map(|(start, end)| Batch {
                name: format!("b{}", start.format("%Y%m%d%H")),
                event_time: event_time.to_owned(),
                start: start.format("%Y-%m-%d %H:%M:%S").to_string(),
                end: end.format("%Y-%m-%d %H:%M:%S").to_string(),
            })
            .collect();
        let size = batch_size(node).map_err(failed)?;
        let run = |index: usize, warehouse: &NodeWarehouse| {
            let batch = &batches[index];
            let name = size.name(intervals[index].0);
            let label = format!("batch {name} of {}", node.relation());
            self.lines.note(&format!("Batch {} of {total} START {label} [RUN]", index + 1));
            let outcome = self.run_batch(node, warehouse, (batch, &name), is_new && index == 0);
            let outcome = outcome.and_then(|outcome| {
                pending.done(&mut warehouse.adapter(), intervals[index]).map_err(failed)?;
                Ok(outcome)
            });
            match &outcome {
                Ok(_) => self.lines.note(&format!("Batch {} of {total} OK {label} [OK]", index + 1)),
                Err(failure) => {
                    self.lines.note(&format!("Batch {} of {total} ERROR {label} [ERROR]", index + 1));
                    self.lines.note(&failure.message);
                }
            }
            outcome
        };
        let mut outcomes: Vec<Option<Result<Outcome, Failure>>> = (0..total).map(|_| None).collect();
        let mut next = 0;
        let concurrent = node.config.bool("concurrent_batches") == Some(true);
        if (is_new || concurrent) && total > 0 {
            // The first one makes the table that the others need, or changes it as the configuration has changed.
            outcomes[0] = Some(run(0, running.warehouse));
            next = 1;
            if is_new && matches!(&outcomes[0], Some(Err(_))) {
                next = total;
            }
        }
        if concurrent && next < total {
            self.run_concurrently(&run, next, &mut outcomes);
        } else {
            for (index, outcome) in outcomes.iter_mut().enumerate().skip(next) {
                if interrupted() {
                    break;
                }
                *outcome = Some(run(index, running.warehouse));
            }
        }
        let nothing_made = is_new && !matches!(outcomes.first(), Some(Some(Ok(_))));
        pending.end(&mut running.warehouse.adapter(), nothing_made).map_err(failed)?;
        let before = again.filter(|_| !is_new).map(|batches| batches.successful.as_slice()).unwrap_or_default();
        self.batches_done(running, &intervals, before, outcomes)
    }

    /// Batches on sessions of their own, as many at once as the target has threads.
    fn run_concurrently(
        &self,
        run: &(impl Fn(usize, &NodeWarehouse) -> Result<Outcome, Failure> + Sync),
        first: usize,
        outcomes: &mut [Option<Result<Outcome, Failure>>],
    ) {
        let total = outcomes.len();
        let next = Mutex::new(first);
        let done = Mutex::new(outcomes);
        let threads = self.workspace.target.threads.clamp(1, total - first);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let work = || {
                    let Ok(warehouse) = self.prepared.connect() else { return };
                    loop {
                        let index = {
                            let mut next = next.lock();
                            *next += 1;
                            *next - 1
                        };
                        if index >= total || interrupted() {
                            return;
                        }
                        let outcome = run(index, &warehouse);
                        done.lock()[index] = Some(outcome);
                    }
                };
                // What no thread takes is missing from the outcomes, and counted as failed.
                let _ = std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, work);
            }
        });
    }

    fn batches_done(
        &self,
        running: &Running<'_>,
        intervals: &[Interval],
        before: &[Interval],
        outcomes: Vec<Option<Result<Outcome, Failure>>>,
    ) -> Result<Done, Failure> {
        let node = running.node;
        let mut successful = Vec::new();
        let mut failed_batches = Vec::new();
        let mut rows = Some(0);
        let mut messages = Vec::new();
        let mut notes = Vec::new();
        for (&interval, outcome) in intervals.iter().zip(outcomes) {
            match outcome {
                Some(Ok(outcome)) => {
                    successful.push(interval);
                    rows = rows.zip(outcome.rows).map(|(rows, more)| rows + more);
                    notes.extend(outcome.notes);
                }
                Some(Err(failure)) => {
                    failed_batches.push(interval);
                    messages.push(failure.message);
                }
                None => failed_batches.push(interval),
            }
        }
        if successful.is_empty() && !failed_batches.is_empty() {
            let message = messages.into_iter().next().unwrap_or_else(|| "no batch was run".to_owned());
            return Err(Failure { message, details: Vec::new() });
        }
        let relation = node.relation();
        let model = self.model(node, &relation, "", &[]);
        let mut adapter = running.warehouse.adapter();
        let failed = |error: MaterializeError| Failure::materialize(node, &error);
        apply_grants(&model, &mut adapter).map_err(failed)?;
        persist_docs(&model, &mut adapter).map_err(failed)?;
        let (status, message) = if failed_batches.is_empty() {
            // What the first of them changed in place is as wanted for the others.
            let changed = std::iter::once("OK".to_owned()).chain(notes).collect::<Vec<_>>();
            (NodeStatus::Success, changed.join(", "))
        } else {
            let text = format!("PARTIAL SUCCESS ({}/{})", successful.len(), intervals.len());
            (NodeStatus::PartialSuccess, text)
        };
        Ok(Done {
            status: Some(status),
            response: response(&message, rows, adapter.query_prefix()),
            message: Some(message),
            failures: Some(0),
            details: messages,
            batch_results: Some(Batches { successful: [&successful, before].concat(), failed: failed_batches }.json()),
        })
    }

    fn batch_intervals(&self, node: &Node, is_new: bool) -> Result<Vec<Interval>, MaterializeError> {
        let config = &node.config;
        let size = batch_size(node)?;
        let time = |key: &'static str, text: Option<&str>| match text {
            None => Ok(None),
            Some(text) => parse_moment(text)
                .map(Some)
                .ok_or_else(|| MaterializeError::config(key, format!("`{text}` is no date or time"))),
        };
        let begin = time("begin", config.str("begin"))?;
        let mut window =
            (time("--event-time-start", self.plan.event_time.0)?, time("--event-time-end", self.plan.event_time.1)?);
        if let Some(sample) = self.resolver.sample() {
            let (start, end) = sample.bounds();
            window = (Some(start.naive_utc()), Some(end.naive_utc()));
        }
        let lookback = config.i64("lookback").unwrap_or(1);
        let now = self.plan.again.and_then(|again| again.began).unwrap_or_else(Utc::now);
        intervals(size, begin, lookback, window, is_new, now.naive_utc())
            .ok_or_else(|| MaterializeError::config("begin", "a microbatch model needs it for its first run"))
    }

    fn run_batch(
        &self,
        node: &Node,
        warehouse: &NodeWarehouse,
        (batch, name): (&Batch, &str),
        full_refresh: bool,
    ) -> Result<Outcome, Failure> {
        let sql = self.compile_batch(node, warehouse, batch, name)?;
        let write = |folder: &str, sql: &str| {
            self.compiler.write_batch(folder, node, name, sql).map_err(|error| Failure::project(&error))
        };
        write("compiled", &sql)?;
        let relation = node.relation();
        let model = Model { sql: &sql, full_refresh, batch: Some(batch), ..self.model(node, &relation, &sql, &[]) };
        let mut adapter = warehouse.adapter();
        let outcome = materialization("incremental")
            .and_then(|materialization| materialization.materialize(&model, &mut adapter))
            .map_err(|error| Failure::materialize(node, &error));
        let statements = adapter.take_statements();
        let sent: Vec<&str> = statements.iter().map(|statement| statement.sql.as_str()).collect();
        write("run", &sent.join(";\n\n"))?;
        outcome
    }

    /// The model's SQL with its window on every ref and source that has an `event_time`.
    fn compile_batch(
        &self,
        node: &Node,
        warehouse: &NodeWarehouse,
        batch: &Batch,
        name: &str,
    ) -> Result<String, Failure> {
        let window = Windowed { worker: self, batch };
        let mut context = self.compiler.context(node);
        context.model = with_batch(&context.model, batch, name);
        let services = Services { resolve: Some(&window), warehouse: Some(warehouse), events: self.lines };
        let mut renderer = Renderer::new(&self.workspace.environment, context, Phase::Compile, services);
        let source = Source { text: &node.raw_code, path: &node.original_file_path, first_line: node.raw_code_line };
        let rendered = renderer.render(source).map_err(|error| Failure::render(node, &error))?;
        self.with_ephemeral(node, rendered.text, &renderer.take_captured().ctes, warehouse)
    }

    /// Puts ephemeral models in front of SQL that was rendered outside of the compiler.
    pub(super) fn with_ephemeral(
        &self,
        node: &Node,
        sql: String,
        ids: &[String],
        warehouse: &NodeWarehouse,
    ) -> Result<String, Failure> {
        let mut ctes = Vec::new();
        for id in ids {
            let Some(ephemeral) = self.workspace.manifest.nodes.get(id) else { continue };
            let compiled = self.compiler.compile(id, Some(warehouse)).map_err(|error| Failure::project(&error))?;
            ctes.push((format!("__dbt__cte__{}", ephemeral.name), compiled.code.clone()));
        }
        debug_assert!(!node.is_ephemeral());
        Ok(inject_ctes(&sql, &ctes))
    }
}

/// The intervals that a run has yet to do, in the comment of a table beside the model's: what a run that ended in the
/// middle, or failed for some of them, leaves for the next one.
struct Pending {
    relation: Relation,
    left: Mutex<Vec<Interval>>,
}

impl Pending {
    fn of(relation: &Relation) -> Self {
        let mut relation = relation.with_identifier(format!("{}__dbt_batches", relation.identifier));
        relation.kind = Some(RelationKind::Table);
        Self { relation, left: Mutex::default() }
    }

    fn read(&self, adapter: &mut Adapter) -> Result<Vec<Interval>, MaterializeError> {
        let Some(info) = adapter.relation(&self.relation)? else { return Ok(Vec::new()) };
        let left: Vec<(String, String)> = serde_json::from_str(&info.comment).unwrap_or_default();
        Ok(left.iter().filter_map(|(start, end)| Some((parse_moment(start)?, parse_moment(end)?))).collect())
    }

    fn begin(&self, adapter: &mut Adapter, intervals: Vec<Interval>) -> Result<(), MaterializeError> {
        let mut left = self.left.lock();
        *left = intervals;
        let comment = comment(&left);
        if adapter.relation(&self.relation)?.is_some() {
            adapter.alter(&self.relation, &[format!("MODIFY COMMENT {comment}")])?;
        } else if !left.is_empty() {
            let (relation, cluster) = (&self.relation, adapter.on_cluster());
            adapter.execute(&format!(
                "CREATE TABLE {relation}{cluster} (to_do UInt8) ENGINE = Memory COMMENT {comment}"
            ))?;
        }
        Ok(())
    }

    fn done(&self, adapter: &mut Adapter, interval: Interval) -> Result<(), MaterializeError> {
        let mut left = self.left.lock();
        left.retain(|other| *other != interval);
        adapter.alter(&self.relation, &[format!("MODIFY COMMENT {}", comment(&left))])?;
        Ok(())
    }

    /// `forget`: what is left is none of the next run's business.
    fn end(&self, adapter: &mut Adapter, forget: bool) -> Result<(), MaterializeError> {
        if forget || self.left.lock().is_empty() {
            adapter.drop_relation(&self.relation)?;
        }
        Ok(())
    }
}

fn comment(left: &[Interval]) -> String {
    let left: Vec<_> = left.iter().map(|(start, end)| [start.to_string(), end.to_string()]).collect();
    quote_string(&json!(left).to_string())
}

/// `model.batch` of dbt.
fn with_batch(model: &Value, batch: &Batch, name: &str) -> Value {
    let time = |text: &str| parse_moment(text).map_or(Value::None, |time| Value::datetime_utc(time.and_utc()));
    let (start, end) = (time(&batch.start), time(&batch.end));
    let entries = |json: &Json| -> Vec<(String, Value)> {
        let fields = json.as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.clone(), Value::from_json(value))).collect()
    };
    let json = model.to_json();
    let mut config = entries(&json["config"]);
    config.push(("__dbt_internal_microbatch_event_time_start".into(), start.clone()));
    config.push(("__dbt_internal_microbatch_event_time_end".into(), end.clone()));
    let mut fields = entries(&json);
    fields.push(("config".into(), Value::record(config)));
    let id = Value::str(name.replace('-', ""));
    let batch = [("id", id), ("event_time_start", start), ("event_time_end", end)];
    fields.push(("batch".into(), Value::record(batch)));
    Value::record(fields)
}

/// Refs and sources seen through the interval.
struct Windowed<'a> {
    worker: &'a NodeWorker<'a>,
    batch: &'a Batch,
}

impl Windowed<'_> {
    fn window(&self, mut resolved: Resolved) -> Resolved {
        let event_time = self
            .worker
            .workspace
            .manifest
            .resource(&resolved.unique_id)
            .and_then(|resource| resource.config().str("event_time").map(str::to_owned));
        if let Some(field_name) = event_time
            && !resolved.ephemeral
        {
            let own = (self.batch.start.clone(), self.batch.end.clone());
            let sample = self.worker.resolver.sample();
            let (start, end) =
                sample.map_or(own, |sample| sample.within(Some(&self.batch.start), Some(&self.batch.end)));
            resolved.relation.event_time_filter =
                Some(EventTimeFilter { field_name, start: Some(start), end: Some(end) });
        }
        resolved
    }
}

impl Resolve for Windowed<'_> {
    fn resolve_ref(&self, from: &NodeContext, call: &RefCall) -> Result<Resolved, RenderError> {
        self.worker.resolver.resolve_ref(from, call).map(|resolved| self.window(resolved))
    }

    fn resolve_source(&self, from: &NodeContext, call: &SourceCall) -> Result<Resolved, RenderError> {
        self.worker.resolver.resolve_source(from, call).map(|resolved| self.window(resolved))
    }

    fn doc(&self, from_package: &str, package: Option<&str>, name: &str) -> Option<String> {
        self.worker.resolver.doc(from_package, package, name)
    }

    fn graph(&self) -> Value {
        self.worker.resolver.graph()
    }

    fn selected_resources(&self) -> Vec<String> {
        self.worker.resolver.selected_resources()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        parse_moment(text).unwrap()
    }

    fn starts(size: BatchSize, begin: &str, lookback: i64, is_new: bool, now: &str) -> Vec<String> {
        intervals(size, Some(at(begin)), lookback, (None, None), is_new, at(now))
            .unwrap()
            .into_iter()
            .map(|(start, _)| start.format("%Y-%m-%d %H").to_string())
            .collect()
    }

    #[test]
    fn a_first_run_begins_at_the_beginning() {
        assert_eq!(
            starts(BatchSize::Day, "2024-02-28 12:00", 1, true, "2024-03-01 05:00"),
            ["2024-02-28 00", "2024-02-29 00", "2024-03-01 00"]
        );
        assert_eq!(starts(BatchSize::Year, "2022-05-01", 1, true, "2023-01-01"), ["2022-01-01 00"]);
    }

    #[test]
    fn a_later_run_looks_back() {
        assert_eq!(
            starts(BatchSize::Day, "2020-01-01", 1, false, "2024-03-01 05:00"),
            ["2024-02-29 00", "2024-03-01 00"]
        );
        assert_eq!(starts(BatchSize::Day, "2020-01-01", 0, false, "2024-03-01 05:00"), ["2024-03-01 00"]);
        assert_eq!(
            starts(BatchSize::Month, "2020-01-01", 1, false, "2024-03-01 05:00"),
            ["2024-02-01 00", "2024-03-01 00"]
        );
        assert_eq!(
            starts(BatchSize::Hour, "2020-01-01", 1, false, "2024-03-01 05:30"),
            ["2024-03-01 04", "2024-03-01 05"]
        );
    }

    #[test]
    fn a_window_can_be_given() {
        let window = (Some(at("2024-01-01")), Some(at("2024-01-03")));
        let found = intervals(BatchSize::Day, None, 1, window, false, at("2030-01-01")).unwrap();
        assert_eq!(found.len(), 2);
    }
}
