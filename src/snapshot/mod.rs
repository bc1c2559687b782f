//! SCD2 snapshots: a table with every version that the rows of a source had. In: the compiled SELECT, the configuration, an
//! adapter, the time; out: changed rows and how many. Work is proportional to what changed: one statement compares the
//! source with the open rows and stages the changes, then they are applied ([`ApplyVariant`]). From the moment the staging
//! table is complete, whatever command comes next finishes the run ([`recover`]). It never reads the clock.

mod apply;
mod column_types;
mod error;
mod expressions;
mod history;
mod preview;
mod spec;
mod stage;
mod verify;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{
    adapter::{Adapter, ColumnInfo, LeaseError, LeaseHolder, RelationInfo},
    engine::quote_string,
    materialize::{TableSpec, create_table, insert_query, temporary_relation},
    project::{HardDeletes, Relation},
};

use apply::Application;
use column_types::{nullable, unwrap};
use expressions::{RUN_TIME_TYPE, current_value, key_columns, open_partition_key, scd_id, time_literal};
use history::History;
use stage::{SourceColumns, Staged, source_time, source_time_value};

pub use error::SnapshotError;
pub use preview::{SampledChange, SnapshotPreview, preview};
pub use spec::{ApplyVariant, CheckColumns, HistorySpec, MetaColumns, SnapshotConfig, SnapshotSpec, Strategy};
pub use stage::ChangeCounts;
pub use verify::{Rule, Violation, repair, verify};

/// What a run of a snapshot did.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotOutcome {
    pub relation: Relation,
    pub inserted: u64,
    pub changed: u64,
    pub deleted: u64,
    pub unchanged: u64,
    /// `None` on the first run, and where nothing changed.
    pub variant: Option<ApplyVariant>,
    pub columns_added: Vec<String>,
    pub created: bool,
    /// Rows that late observations added, changed or removed.
    pub history_rows: u64,
}

impl SnapshotOutcome {
    /// For `adapter_response` of run_results.json.
    pub fn response(&self) -> Map<String, Value> {
        let mut response = Map::new();
        response.insert("rows_inserted".into(), json!(self.inserted));
        response.insert("rows_changed".into(), json!(self.changed));
        response.insert("rows_deleted".into(), json!(self.deleted));
        // Versions that were open before and are not any more.
        response.insert("rows_closed".into(), json!(self.changed + self.deleted));
        response.insert("rows_unchanged".into(), json!(self.unchanged));
        if self.history_rows > 0 {
            response.insert("rows_history".into(), json!(self.history_rows));
        }
        let variant = self.variant.map_or(if self.created { "create" } else { "none" }, ApplyVariant::as_str);
        response.insert("snapshot_apply".into(), json!(variant));
        response
    }
}

/// Takes the snapshot: makes the table on the first run, later adds what changed.
///
/// # Errors
/// The source has several rows for a key (nothing is written then), the configuration cannot be followed, or a statement
/// failed; staged changes that are complete by then are applied by the next command.
pub fn take(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<SnapshotOutcome, SnapshotError> {
    finish(&spec.relation, spec.invocation, adapter)?;
    let live = adapter.relation(&spec.relation)?;
    if let Some(live) = &live
        && !live.is_table()
    {
        return Err(SnapshotError::NotATable { relation: spec.relation.clone(), found: live.engine.clone() });
    }
    let source = SourceColumns::of(spec, adapter)?;
    refuse_duplicates(spec, adapter)?;
    match live {
        None => first_run(spec, adapter, &source),
        Some(live) => next_run(spec, adapter, live, &source),
    }
}

fn next_run(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    live: RelationInfo,
    source: &SourceColumns,
) -> Result<SnapshotOutcome, SnapshotError> {
    let history = match &spec.history {
        Some(history) => {
            widen_times(spec, adapter)?;
            let columns: Vec<ColumnInfo> =
                adapter.columns(&spec.relation)?.into_iter().filter(ColumnInfo::is_insertable).collect();
            Some((History::of(spec, history, adapter, &columns)?, columns))
        }
        None => None,
    };
    let mut history_rows = 0;
    if let Some((history, columns)) = &history {
        let current = current_of(spec, columns);
        if let Some(mut staged) = history.stage(adapter, &live, columns, source, current.as_deref())? {
            history_rows = staged.counts.staged;
            stage::commit(&mut staged, adapter)?;
            apply_staged(&staged, live.clone(), spec, adapter)?;
        }
    }
    let mut staged = stage::stage(spec, adapter, &live, source, history.as_ref().map(|(history, _)| history))?;
    let counts = staged.counts;
    let mut outcome = SnapshotOutcome {
        relation: spec.relation.clone(),
        inserted: counts.inserted,
        changed: counts.changed,
        deleted: counts.deleted,
        unchanged: staged.open_rows.saturating_sub(counts.changed + counts.deleted),
        variant: None,
        columns_added: std::mem::take(&mut staged.columns_added),
        created: false,
        history_rows,
    };
    if counts.staged == 0 && staged.plan.alter.is_empty() {
        adapter.drop_relation(&staged.relation)?;
        return Ok(outcome);
    }
    stage::commit(&mut staged, adapter)?;
    outcome.variant = Some(staged.plan.variant);
    apply_staged(&staged, live, spec, adapter)?;
    Ok(outcome)
}

/// A DateTime, as dbt-clickhouse makes it, begins in 1970: observations may be older.
fn widen_times(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<(), SnapshotError> {
    let names = &spec.names;
    let wider: Vec<String> = adapter
        .columns(&spec.relation)?
        .iter()
        .filter(|column| [&names.updated_at, &names.valid_from, &names.valid_to].contains(&&column.name))
        .filter_map(|column| {
            let (inner, is_nullable) = unwrap(&column.data_type);
            let narrow = inner == "DateTime" || inner.starts_with("DateTime(");
            let wide = if is_nullable { format!("Nullable({RUN_TIME_TYPE})") } else { RUN_TIME_TYPE.to_owned() };
            narrow.then(|| format!("MODIFY COLUMN {} {wide}", column.quoted()))
        })
        .collect();
    if !wider.is_empty() {
        adapter.alter(&spec.relation, &wider)?;
    }
    Ok(())
}

fn apply_staged(
    staged: &Staged,
    live: RelationInfo,
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
) -> Result<(), SnapshotError> {
    let application = Application {
        plan: &staged.plan,
        staged: staged.relation.clone(),
        live,
        repeated: false,
        invocation: spec.invocation,
    };
    application.run(adapter)
}

/// The value of `valid_to` in open rows, as SQL; NULL where `None`.
fn current_of(spec: &SnapshotSpec<'_>, columns: &[ColumnInfo]) -> Option<String> {
    let column = columns.iter().find(|column| column.name == spec.names.valid_to)?;
    spec.valid_to_current.as_deref().map(|current| current_value(current, &column.data_type))
}

/// Builds the table aside and gives it its name when it is complete.
fn first_run(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    source: &SourceColumns,
) -> Result<SnapshotOutcome, SnapshotError> {
    let table = first_table(spec, adapter, source)?;
    let aside = temporary_relation(&spec.relation, spec.invocation, "");
    adapter.drop_relation(&aside)?;
    create_table(adapter, &aside, &table.spec)?;
    let query = match &spec.history {
        None => first_query(spec, adapter, source, &table)?,
        Some(history) => {
            let history = History::of(spec, history, adapter, &source.columns)?;
            let open_until = open_until(&table);
            history.first_query(adapter, source, &open_until, spec.hard_deletes == HardDeletes::NewRecord)?
        }
    };
    let mut names: Vec<String> = source.columns.iter().map(|column| column.name.clone()).collect();
    names.extend([
        spec.names.scd_id.clone(),
        spec.names.updated_at.clone(),
        spec.names.valid_from.clone(),
        spec.names.valid_to.clone(),
    ]);
    if spec.hard_deletes == HardDeletes::NewRecord {
        names.push(spec.names.is_deleted.clone());
    }
    insert_query(adapter, &aside, &names, &query, &[])?;
    let inserted = adapter.count(&aside)?;
    match adapter.rename(&[(&aside, &spec.relation)]) {
        Ok(()) => {}
        Err(error) if error.code() == Some(57) => {
            adapter.drop_relation(&aside)?;
            return Err(SnapshotError::Busy { relation: spec.relation.clone(), holder: None });
        }
        Err(error) => return Err(error.into()),
    }
    Ok(SnapshotOutcome {
        relation: spec.relation.clone(),
        inserted,
        changed: 0,
        deleted: 0,
        unchanged: 0,
        variant: None,
        columns_added: Vec::new(),
        created: true,
        history_rows: 0,
    })
}

/// The table of a new snapshot.
struct FirstTable {
    spec: TableSpec,
    valid_to_type: String,
    /// The value of `valid_to` in open rows.
    current: Option<String>,
}

fn first_table(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    source: &SourceColumns,
) -> Result<FirstTable, SnapshotError> {
    let valid_from_type = match &spec.history {
        // A history's times are moments, whatever the observations' own type is.
        Some(_) => RUN_TIME_TYPE.to_owned(),
        None => source.updated_at_type.clone().unwrap_or_else(|| RUN_TIME_TYPE.to_owned()),
    };
    let bare_type = unwrap(&valid_from_type).0.to_owned();
    let valid_to_type = match &spec.valid_to_current {
        None => format!("Nullable({bare_type})"),
        Some(current) => {
            // The current value may need a wider type than the times: a Date32 for 9999-12-31.
            let query = format!("SELECT [defaultValueOfTypeName({}), ({current})] AS common", quote_string(&bare_type));
            let common = adapter.query_columns(&query, &[]).ok().and_then(|columns| {
                let first = columns.into_iter().next()?.data_type;
                let inner = first.strip_prefix("Array(")?.strip_suffix(')')?.to_owned();
                (!inner.starts_with("Variant(")).then_some(inner)
            });
            nullable(&common.unwrap_or(bare_type)).unwrap_or_else(|| format!("Nullable({RUN_TIME_TYPE})"))
        }
    };
    let mut columns = source.columns.clone();
    columns.push(ColumnInfo::new(&spec.names.scd_id, "String"));
    columns.push(ColumnInfo::new(&spec.names.updated_at, &valid_from_type));
    columns.push(ColumnInfo::new(&spec.names.valid_from, &valid_from_type));
    columns.push(ColumnInfo::new(&spec.names.valid_to, &valid_to_type));
    if spec.hard_deletes == HardDeletes::NewRecord {
        columns.push(ColumnInfo::new(&spec.names.is_deleted, "LowCardinality(String)"));
    }
    let current = spec.valid_to_current.as_deref().map(|current| current_value(current, &valid_to_type));
    let mut table = TableSpec::new(spec.table, &columns, adapter.options())?;
    if table.is_merge_tree() {
        if table.partition_by.is_none() {
            table.partition_by = Some(open_partition_key(&spec.names, current.as_deref()));
        }
        if spec.table.config.order_by().is_empty()
            && let Some(keys) = sortable_keys(spec, source)
        {
            table.order_by = Some(keys);
        }
        if adapter.capabilities().lightweight_update {
            for setting in ["enable_block_number_column", "enable_block_offset_column"] {
                if !table.settings.iter().any(|given| given.starts_with(setting)) {
                    table.settings.push(format!("{setting} = 1"));
                }
            }
        }
    }
    Ok(FirstTable { spec: table, valid_to_type, current })
}

/// The keys as a sorting key, where they are plain columns that cannot be NULL.
fn sortable_keys(spec: &SnapshotSpec<'_>, source: &SourceColumns) -> Option<String> {
    let plain = spec.unique_key.iter().zip(&source.key_types).all(|(key, data_type)| {
        let column = source.columns.iter().any(|column| column.name == *key);
        column && !unwrap(data_type).1 && column_types::comparison(data_type) != column_types::Comparison::Text
    });
    let quoted: Vec<String> = spec.unique_key.iter().map(|key| crate::engine::quote_identifier(key)).collect();
    (plain && source.key_types.len() == spec.unique_key.len()).then(|| format!("({})", quoted.join(", ")))
}

fn open_until(table: &FirstTable) -> String {
    table.current.clone().unwrap_or_else(|| format!("CAST(NULL AS {})", table.valid_to_type))
}

fn first_query(
    spec: &SnapshotSpec<'_>,
    adapter: &Adapter,
    source: &SourceColumns,
    table: &FirstTable,
) -> Result<String, SnapshotError> {
    let run_at = time_literal(spec.run_at);
    let keys = key_columns("source_data", spec.unique_key.len());
    let valid_from = source_time_value(&spec.strategy).unwrap_or(run_at);
    let columns: Vec<Value> = source.columns.iter().map(|column| json!({"name": column.quoted()})).collect();
    let values = json!({
        "columns": columns,
        "names": spec.names.quoted(),
        "keys": source_keys(spec),
        "source_time": source_time(&spec.strategy),
        "source": spec.sql.trim_end(),
        "settings": spec.query_settings,
        "scd_id": scd_id(spec, "String", &keys, &valid_from),
        "updated_at": valid_from,
        "valid_from": valid_from,
        "valid_to": open_until(table),
        "is_deleted": spec.hard_deletes == HardDeletes::NewRecord,
    });
    Ok(adapter.templates().render("snapshot/first.sql", &values)?)
}

/// The expressions that the source gets as further columns.
fn source_keys(spec: &SnapshotSpec<'_>) -> Vec<String> {
    spec.unique_key.iter().map(|key| format!("({key})")).collect()
}

fn refuse_duplicates(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<(), SnapshotError> {
    let values = json!({
        "keys": source_keys(spec),
        "source": spec.sql.trim_end(),
        "settings": spec.query_settings,
    });
    let sql = adapter.templates().render("snapshot/duplicates.sql", &values)?;
    let rows = adapter.rows(&sql)?;
    if rows.is_empty() {
        return Ok(());
    }
    let sample: Vec<String> = rows
        .into_iter()
        .map(|row| {
            let values: Vec<String> = row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect();
            match values.split_last() {
                Some((count, keys)) => {
                    let keys: Vec<String> =
                        spec.unique_key.iter().zip(keys).map(|(name, value)| format!("{name} = {value}")).collect();
                    format!("  {}: {count} rows", keys.join(", "))
                }
                None => String::new(),
            }
        })
        .collect();
    Err(SnapshotError::DuplicateKeys { sample: sample.join("\n") })
}

/// Finishes the run of one snapshot that an earlier process left in the middle; the caller holds the snapshot's lease.
///
/// # Errors
/// A statement failed; the staging table stays for the next attempt.
pub fn finish(relation: &Relation, invocation: &str, adapter: &mut Adapter) -> Result<(), SnapshotError> {
    if let Some(staged) = adapter.relation(&stage::staged_relation(relation))? {
        apply::resume(&staged, invocation, adapter)?;
    }
    Ok(())
}

/// Finishes every snapshot run that an earlier process left in the middle; answers the snapshots' relations. The first
/// thing that a command does with a warehouse.
///
/// # Errors
/// A statement failed; the staging table stays for the next attempt.
pub fn recover(holder: &LeaseHolder, adapter: &mut Adapter) -> Result<Vec<Relation>, SnapshotError> {
    let sql = format!(
        "SELECT database, name FROM system.tables WHERE endsWith(name, {}) AND comment != '' ORDER BY database, name",
        quote_string(stage::STAGED_SUFFIX)
    );
    let mut finished = Vec::new();
    for row in adapter.rows(&sql)? {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let staged = Relation::new(values.next().unwrap_or_default(), values.next().unwrap_or_default());
        let identifier = staged.identifier.trim_end_matches(stage::STAGED_SUFFIX).to_owned();
        let snapshot = staged.with_identifier(identifier);
        let _lease = match adapter.lease(&snapshot, holder, Duration::ZERO) {
            Ok(lease) => lease,
            // Whoever staged it is still at work.
            Err(LeaseError::Held(_)) => continue,
            Err(LeaseError::Adapter(error)) => return Err(error.into()),
        };
        if let Some(staged) = adapter.relation(&staged)?
            && apply::resume(&staged, &holder.invocation, adapter)?
        {
            finished.push(snapshot);
        }
    }
    Ok(finished)
}
