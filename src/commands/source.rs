//! `chpipe source freshness`: how old the newest row of each source is, against what its properties allow.

use std::{path::Path, time::Instant};

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::{
    Error,
    adapter::{Adapter, AdapterError},
    cli::{SourceArgs, SourceCommand},
    commands::{
        Context, ExitStatus,
        execute::{Lines, Prepared},
        parse, warehouse,
    },
    engine::quote_string,
    interrupt::interrupted,
    project::{
        CompiledNodes, Compiler, DBT_VERSION, Freshness, FreshnessThreshold, LoadOptions, ProjectError, Resolver,
        ResourceType, Selector, Source, Workspace, write_manifest,
    },
};

/// One source's age.
struct Checked<'a> {
    source: &'a Source,
    age: Result<Age, String>,
    status: &'static str,
    seconds: f64,
}

struct Age {
    max_loaded_at: DateTime<Utc>,
    snapshotted_at: DateTime<Utc>,
}

impl Age {
    /// Seconds.
    fn seconds(&self) -> f64 {
        (self.snapshotted_at - self.max_loaded_at).num_milliseconds() as f64 / 1000.0
    }
}

/// Checks the selected sources and writes sources.json.
pub(super) fn source(args: &SourceArgs, context: &Context) -> Result<ExitStatus, Error> {
    let SourceCommand::Freshness(args) = &args.command;
    let started = Instant::now();
    let options = LoadOptions { command: "freshness".into(), quiet: context.printer.quiet(), ..LoadOptions::default() };
    let workspace = parse::load(context, &options)?;
    let ids = Selector::new(&workspace).select(&args.selection, &[ResourceType::Source])?.ids;
    let sources: Vec<&Source> = ids
        .iter()
        .filter_map(|id| workspace.manifest.sources.get(id))
        .filter(|source| source.freshness.as_ref().is_some_and(is_bounded))
        .collect();
    let lines = Lines::new(&context.printer, false);
    if sources.is_empty() {
        lines.warning("Nothing to do. No selected source has a freshness with warn_after or error_after");
    }
    let opened = warehouse::open(context)?;
    let prepared = Prepared::open(&opened, context)?;
    let resolver = Resolver::new(&workspace, Vec::new(), false, None);
    let compiler = Compiler::new(&workspace, &resolver, &lines);
    let total = sources.len();
    let mut checked = Vec::new();
    for (index, source) in sources.into_iter().enumerate() {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let name = format!("{}.{}", source.source_name, source.name);
        lines.note(&format!("{} of {total} START freshness of {name} [RUN]", index + 1));
        let began = Instant::now();
        let age = age(source, &compiler, &prepared);
        let status = match (&age, &source.freshness) {
            (Ok(age), Some(freshness)) => verdict(freshness, age),
            (Ok(_), None) => "pass",
            (Err(_), _) => "runtime error",
        };
        let seconds = began.elapsed().as_secs_f64();
        let word = match status {
            "error" => "ERROR STALE",
            "warn" => "WARN",
            "pass" => "PASS",
            _ => "ERROR",
        };
        lines.note(&format!("{} of {total} {word} freshness of {name} [{word} in {seconds:.2}s]", index + 1));
        if let Err(reason) = &age {
            lines.note(&format!("  {reason}"));
        }
        checked.push(Checked { source, age, status, seconds });
    }
    let path = args.output.clone().unwrap_or_else(|| workspace.target_path().join("sources.json"));
    write(&path, context, &workspace, &checked, started)?;
    write_manifest(&workspace.manifest, &CompiledNodes::new(), &context.invocation, workspace.target_path())?;
    lines.note("Done.");
    let failed = checked.iter().any(|checked| matches!(checked.status, "error" | "runtime error"));
    Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
}

fn is_bounded(freshness: &Freshness) -> bool {
    freshness.warn_after.count.is_some() || freshness.error_after.count.is_some()
}

fn verdict(freshness: &Freshness, age: &Age) -> &'static str {
    let exceeded = |bound: &FreshnessThreshold| {
        let seconds = match bound.period.as_deref() {
            Some("minute") => 60.0,
            Some("hour") => 3_600.0,
            _ => 86_400.0,
        };
        bound.count.is_some_and(|count| age.seconds() > count as f64 * seconds)
    };
    if exceeded(&freshness.error_after) {
        "error"
    } else if exceeded(&freshness.warn_after) {
        "warn"
    } else {
        "pass"
    }
}

/// When the newest row came: by the source's own field or query, else by what ClickHouse or S3 knows of the table.
fn age(source: &Source, compiler: &Compiler<'_>, prepared: &Prepared) -> Result<Age, String> {
    let relation = source.relation();
    let query = match (&source.loaded_at_query, &source.loaded_at_field) {
        (Some(query), _) => {
            let compiled = compiler
                .compile_inline(query, Some(prepared.warehouse()))
                .map_err(|error: ProjectError| error.to_string())?;
            format!("SELECT * FROM (\n{}\n)", compiled.code.trim_end())
        }
        (None, Some(field)) => {
            let filter = source.freshness.as_ref().and_then(|freshness| freshness.filter.clone());
            let filter = filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
            format!("SELECT max({field}) FROM {relation}{filter}")
        }
        (None, None) => metadata_query(source, prepared)?,
    };
    let mut adapter = prepared.warehouse().adapter();
    newest(&mut adapter, &query).map_err(|error| error.to_string())
}

/// The newest part of a MergeTree table, or the newest object behind an S3 table.
fn metadata_query(source: &Source, prepared: &Prepared) -> Result<String, String> {
    let relation = source.relation();
    let mut adapter = prepared.warehouse().adapter();
    let info = adapter.relation(&relation).map_err(|error| error.to_string())?;
    let Some(info) = info else { return Err(format!("{relation} does not exist")) };
    if info.is_merge_tree() {
        return Ok(format!(
            "SELECT max(modification_time) FROM system.parts WHERE active AND database = {} AND table = {}",
            quote_string(&relation.schema),
            quote_string(&relation.identifier)
        ));
    }
    if info.engine.contains("S3") {
        return Ok(format!("SELECT max(_time) FROM {relation}"));
    }
    Err(format!(
        "source {} has no loaded_at_field, and a table of engine {} does not say when it was changed",
        source.name, info.engine
    ))
}

/// Both times in UTC; dates and times of any type become microseconds first.
fn newest(adapter: &mut Adapter, query: &str) -> Result<Age, AdapterError> {
    let columns = adapter.query_columns(query, &[])?;
    let column = columns.first().map(crate::adapter::ColumnInfo::quoted).unwrap_or_default();
    let sql =
        format!("SELECT toString(toDateTime64({column}, 6), 'UTC'), toString(now64(6), 'UTC') FROM (\n{query}\n)");
    let row = adapter.rows(&sql)?.into_iter().next().unwrap_or_default();
    let time = |index: usize| {
        row.get(index)
            .and_then(Option::as_deref)
            .and_then(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok())
            .map(|time| time.and_utc())
    };
    let snapshotted_at = time(1).unwrap_or_else(Utc::now);
    // An empty table is as old as can be, as in dbt.
    let max_loaded_at = time(0).unwrap_or(DateTime::UNIX_EPOCH);
    Ok(Age { max_loaded_at, snapshotted_at })
}

/// sources.json, version 3. <https://schemas.getdbt.com/dbt/sources/v3.json>
fn write(
    path: &Path,
    context: &Context,
    workspace: &Workspace,
    checked: &[Checked<'_>],
    started: Instant,
) -> Result<(), Error> {
    let timestamp = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let results: Vec<Value> = checked
        .iter()
        .map(|checked| match &checked.age {
            Err(reason) => {
                json!({"unique_id": checked.source.unique_id, "error": reason, "status": "runtime error"})
            }
            Ok(age) => json!({
                "unique_id": checked.source.unique_id,
                "max_loaded_at": timestamp(age.max_loaded_at),
                "snapshotted_at": timestamp(age.snapshotted_at),
                "max_loaded_at_time_ago_in_s": age.seconds(),
                "status": checked.status,
                "criteria": checked.source.freshness,
                "adapter_response": {},
                "timing": [],
                "thread_id": "Thread-1 (worker)",
                "execution_time": checked.seconds,
            }),
        })
        .collect();
    let document = json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/sources/v3.json",
            "dbt_version": DBT_VERSION,
            "generated_at": timestamp(Utc::now()),
            "invocation_id": context.invocation.id.to_string(),
            "invocation_started_at": timestamp(context.invocation.started_at),
            "env": {},
        },
        "results": results,
        "elapsed_time": started.elapsed().as_secs_f64(),
    });
    let write = || -> std::io::Result<()> {
        fs_err::create_dir_all(workspace.target_path())?;
        fs_err::write(path, serde_json::to_vec(&document).map_err(std::io::Error::other)?)
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}
