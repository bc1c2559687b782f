//! Data tests: SQL that finds rows that should not be. In: compiled SQL and the test's configuration; out: how many rows,
//! whether that is a failure, and the first of them. It never changes anything but the table of kept failures.

mod unit;

use serde_json::json;

use crate::{
    adapter::{Adapter, AdapterError, RelationInfo, cell_text},
    materialize::{MaterializeError, TableSource, TableSpec, create_table, insert_query, temporary_relation},
    project::{NodeConfig, Relation, RelationKind},
};

pub use unit::{Fixture, compare};

/// How many failing rows are shown.
pub const SAMPLE_ROWS: usize = 10;

/// A test that is ready to be run.
#[derive(Debug, Clone, Copy)]
pub struct DataTest<'a> {
    pub sql: &'a str,
    pub config: &'a NodeConfig,
    /// Where the failing rows are kept, and as what (`table` or `view`), where they are.
    pub store: Option<(&'a Relation, &'a str)>,
    /// Eight hexadecimal digits of the invocation.
    pub invocation: &'a str,
}

/// What a test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    pub verdict: Verdict,
    pub failures: i64,
    /// dbt's message: `Got 3 results, configured to fail if != 0`.
    pub message: Option<String>,
    /// The first failing rows, with their columns' names; empty where it passed.
    pub sample: Sample,
    /// Shows all failing rows.
    pub query: String,
}

/// Rows to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub columns: Vec<String>,
    /// At most [`SAMPLE_ROWS`].
    pub rows: Vec<Vec<String>>,
    /// There are others.
    pub has_more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// Runs a test.
///
/// # Errors
/// Its SQL fails, or does not answer with one row of `failures`, `should_warn`, `should_error`.
pub fn run(test: &DataTest<'_>, adapter: &mut Adapter) -> Result<TestOutcome, MaterializeError> {
    let source = match test.store {
        Some((relation, kind)) => {
            keep_failures(test, adapter, relation, kind)?;
            format!("SELECT * FROM {relation}")
        }
        None => test.sql.trim_end().to_owned(),
    };
    let (failures, should_warn, should_error) = evaluate(test.config, &source, adapter)?;
    let error_severity = test.config.severity() == "ERROR";
    let results = format!("Got {failures} result{}", if failures == 1 { "" } else { "s" });
    let (verdict, message) = if error_severity && should_error {
        (Verdict::Fail, Some(format!("{results}, configured to fail if {}", test.config.error_if())))
    } else if should_warn {
        (Verdict::Warn, Some(format!("{results}, configured to warn if {}", test.config.warn_if())))
    } else {
        (Verdict::Pass, None)
    };
    let query = source.clone();
    let sample = if verdict == Verdict::Pass { Sample::default() } else { sample(&source, adapter) };
    Ok(TestOutcome { verdict, failures, message, sample, query })
}

/// The statement that dbt runs, as one row of numbers.
fn evaluate(config: &NodeConfig, source: &str, adapter: &mut Adapter) -> Result<(i64, bool, bool), MaterializeError> {
    let values = json!({
        "query": source,
        "limit": config.limit(),
        "fail_calc": config.fail_calc(),
        "warn_if": config.warn_if(),
        "error_if": config.error_if(),
    });
    let sql = adapter.templates().render("data_test/evaluate.sql", &values)?;
    let row = adapter.rows(&sql)?.into_iter().next().unwrap_or_default();
    let answer = |reason: String| AdapterError::Answer { about: "a test".to_owned(), reason };
    let [failures, warn, error] = row.as_slice() else {
        return Err(answer("it answers with no row".to_owned()).into());
    };
    // A sum over no rows is NULL: nothing failed.
    let failures = failures.as_deref().unwrap_or("0");
    let failures = failures
        .parse::<i64>()
        .or_else(|_| failures.parse::<f64>().map(|number| number as i64))
        .map_err(|_| answer(format!("`fail_calc` is `{failures}`, which is no number")))?;
    let flag = |value: &Option<String>| matches!(value.as_deref(), Some("1" | "true"));
    Ok((failures, flag(warn), flag(error)))
}

/// The first rows; a test that fails is not told less because they cannot be shown.
fn sample(source: &str, adapter: &mut Adapter) -> Sample {
    let sql = format!("SELECT *\nFROM (\n{source}\n)\nLIMIT {}", SAMPLE_ROWS + 1);
    let Ok(batches) = adapter.fetch(&sql) else { return Sample::default() };
    let Some(first) = batches.first() else { return Sample::default() };
    let columns = first.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let values = batch
                .columns()
                .iter()
                .map(|column| cell_text(column.as_ref(), row).unwrap_or_else(|| "NULL".to_owned()));
            rows.push(values.collect());
        }
    }
    let has_more = rows.len() > SAMPLE_ROWS;
    rows.truncate(SAMPLE_ROWS);
    Sample { columns, rows, has_more }
}

/// Puts the failing rows where they are to be kept.
fn keep_failures(
    test: &DataTest<'_>,
    adapter: &mut Adapter,
    relation: &Relation,
    kind: &str,
) -> Result<(), MaterializeError> {
    let existing = adapter.relation(relation)?;
    let query = match test.config.limit() {
        Some(limit) => format!("SELECT * FROM (\n{}\n) LIMIT {limit}", test.sql.trim_end()),
        None => test.sql.trim_end().to_owned(),
    };
    if kind == "view" {
        drop_unless(adapter, existing.as_ref(), RelationKind::View)?;
        let values = json!({
            "relation": relation.render(), "columns": null, "security": null, "query": query,
            "settings": [], "comment": null,
        });
        adapter.run_ddl("materialize/create_view.sql", values)?;
        return Ok(());
    }
    let aside = temporary_relation(relation, test.invocation, "");
    adapter.drop_relation(&aside)?;
    let columns = adapter.query_columns(&query, &[])?;
    let empty = NodeConfig::default();
    let documented = indexmap::IndexMap::new();
    let source = TableSource { config: &empty, documented: &documented, description: "", constraints: &[] };
    let spec = TableSpec::new(source, &columns, adapter.options())?;
    create_table(adapter, &aside, &spec)?;
    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    insert_query(adapter, &aside, &names, &query, &[])?;
    match existing {
        Some(existing) if existing.is_table() && adapter.can_exchange(&existing.database_engine) => {
            adapter.exchange(&aside, relation)?;
            adapter.drop_relation(&aside)?;
        }
        existing => {
            if let Some(existing) = existing {
                adapter.drop_relation(&existing.relation)?;
            }
            adapter.rename(&[(&aside, relation)])?;
        }
    }
    Ok(())
}

fn drop_unless(
    adapter: &mut Adapter,
    existing: Option<&RelationInfo>,
    kind: RelationKind,
) -> Result<(), MaterializeError> {
    if let Some(existing) = existing.filter(|existing| existing.kind() != kind) {
        adapter.drop_relation(&existing.relation)?;
    }
    Ok(())
}
