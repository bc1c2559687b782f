//! A dry run: the changes are staged as in a run, counted, sampled, and dropped. The snapshot's table is only read.

use serde_json::json;

use super::{
    SnapshotError, SnapshotSpec, current_of,
    expressions::RUN_TIME_TYPE,
    finish,
    history::History,
    refuse_duplicates,
    stage::{self, SourceColumns, Staged},
};
use crate::{
    adapter::{Adapter, ColumnInfo},
    project::Relation,
};

/// How many rows of each kind are shown.
const SAMPLE: usize = 5;

/// What a run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotPreview {
    /// The table does not exist yet.
    pub creates: bool,
    pub inserted: u64,
    pub changed: u64,
    pub deleted: u64,
    pub unchanged: u64,
    pub columns_added: Vec<String>,
    /// Rows of the past that observations add, change or remove.
    pub history_rows: u64,
    pub sample: Vec<SampledChange>,
}

/// One value of one row that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledChange {
    /// `new`, `changed` or `deleted`.
    pub kind: &'static str,
    /// `id = 7`.
    pub key: String,
    /// Empty for a new or deleted row.
    pub column: String,
    pub old: String,
    pub new: String,
}

/// Finds what a run would do, and does nothing.
///
/// # Errors
/// As [`super::take`].
pub fn preview(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<SnapshotPreview, SnapshotError> {
    finish(&spec.relation, spec.invocation, adapter)?;
    let live = adapter.relation(&spec.relation)?;
    let source = SourceColumns::of(spec, adapter)?;
    refuse_duplicates(spec, adapter)?;
    let Some(live) = live else {
        let query = match &spec.history {
            None => spec.sql.trim_end().to_owned(),
            Some(history) => {
                let never = format!("CAST(NULL AS Nullable({RUN_TIME_TYPE}))");
                History::of(spec, history, adapter, &source.columns)?.first_query(adapter, &source, &never, false)?
            }
        };
        let rows = adapter.number(&format!("SELECT count() FROM (\n{query}\n)"))?;
        return Ok(SnapshotPreview { creates: true, inserted: rows, ..SnapshotPreview::default() });
    };
    let columns: Vec<ColumnInfo> =
        adapter.columns(&spec.relation)?.into_iter().filter(ColumnInfo::is_insertable).collect();
    let history = match &spec.history {
        Some(history) => Some(History::of(spec, history, adapter, &columns)?),
        None => None,
    };
    let mut history_rows = 0;
    if let Some(history) = &history {
        let current = current_of(spec, &columns);
        if let Some(staged) = history.stage(adapter, &live, &columns, &source, current.as_deref())? {
            history_rows = staged.counts.staged;
            adapter.drop_relation(&staged.relation)?;
        }
    }
    let staged = stage::stage(spec, adapter, &live, &source, history.as_ref())?;
    let sample = sample(spec, adapter, &staged);
    adapter.drop_relation(&staged.relation)?;
    let counts = staged.counts;
    Ok(SnapshotPreview {
        creates: false,
        inserted: counts.inserted,
        changed: counts.changed,
        deleted: counts.deleted,
        unchanged: staged.open_rows.saturating_sub(counts.changed + counts.deleted),
        columns_added: staged.columns_added,
        history_rows,
        sample: sample?,
    })
}

fn sample(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    staged: &Staged,
) -> Result<Vec<SampledChange>, SnapshotError> {
    let mut sample = Vec::new();
    for (kind, change) in [("new", "insert"), ("deleted", "delete")] {
        for key in keys(spec, adapter, &staged.relation, change)? {
            sample.push(SampledChange { kind, key, column: String::new(), old: String::new(), new: String::new() });
        }
    }
    sample.extend(changed_values(spec, adapter, staged)?);
    Ok(sample)
}

fn keys(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    staged: &Relation,
    change: &str,
) -> Result<Vec<String>, SnapshotError> {
    let keys: Vec<String> = spec.unique_key.iter().map(|key| format!("toString({key})")).collect();
    let sql = format!(
        "SELECT {} FROM {staged} WHERE `__dbt_change` = '{change}' ORDER BY ALL LIMIT {SAMPLE}",
        keys.join(", ")
    );
    let rows = adapter.rows(&sql)?;
    Ok(rows.into_iter().map(|row| key_text(spec, &row)).collect())
}

fn key_text(spec: &SnapshotSpec<'_>, values: &[Option<String>]) -> String {
    let parts: Vec<String> = spec
        .unique_key
        .iter()
        .zip(values)
        .map(|(key, value)| format!("{key} = {}", value.as_deref().unwrap_or("NULL")))
        .collect();
    parts.join(", ")
}

/// Old and new value side by side, of the columns that differ.
fn changed_values(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    staged: &Staged,
) -> Result<Vec<SampledChange>, SnapshotError> {
    let columns: Vec<ColumnInfo> = adapter
        .columns(&staged.relation)?
        .into_iter()
        .filter(|column| !spec.names.contains(&column.name) && column.name != "__dbt_change")
        .collect();
    let keys: Vec<String> = spec.unique_key.iter().map(|key| format!("({key})")).collect();
    let values = json!({
        "staged": staged.relation.render(),
        "keys": keys,
        "columns": columns.iter().map(ColumnInfo::quoted).collect::<Vec<_>>(),
        "limit": SAMPLE,
    });
    let sql = adapter.templates().render("snapshot/sample.sql", &values)?;
    let mut sample = Vec::new();
    for row in adapter.rows(&sql)? {
        let (key, values) = row.split_at(keys.len().min(row.len()));
        let key = key_text(spec, key);
        for (column, pair) in columns.iter().zip(values.chunks_exact(2)) {
            if pair[0] != pair[1] {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
                sample.push(SampledChange {
                    kind: "changed",
                    key: key.clone(),
                    column: column.name.clone(),
                    old: text(&pair[0]),
                    new: text(&pair[1]),
                });
            }
        }
    }
    Ok(sample)
}
