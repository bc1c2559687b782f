//! Finds what changed. In: the spec and the live table; out: a complete staging table with the final form of every row that
//! changes, and the plan by which it is applied, in that table's comment. The snapshot's own table is only read.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    SnapshotError,
    column_types::{differs, holds, nullable, unwrap},
    expressions::{current_value, is_open, key_columns, matching, scd_id, time_literal},
    history::History,
    spec::{ApplyVariant, CheckColumns, MetaColumns, SnapshotSpec, Strategy},
};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo},
    engine::{quote_identifier, quote_string},
    materialize::{ColumnSpec, TableSpec, create_table, insert_query, temporary_relation},
    project::{HardDeletes, Relation, RelationKind},
};

/// The name of a complete staging table ends so; one that is still being filled has a temporary name.
pub(super) const STAGED_SUFFIX: &str = "__dbt_staged";

/// The column that says what a staged row is.
const CHANGE: &str = "__dbt_change";

/// The rows of a staging table by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    /// Keys that were not there.
    pub inserted: u64,
    /// Keys with a new version.
    pub changed: u64,
    /// Keys that vanished and are closed.
    pub deleted: u64,
    /// Open rows that got the values of a new column.
    pub amended: u64,
    /// Rows that will be open.
    pub opened: u64,
    /// All staged rows.
    pub staged: u64,
    /// Rows that go away: observations say that these versions never were.
    pub removed: u64,
}

/// All that applying needs beside the staged rows; kept as JSON in the comment of their table, so that any later command can
/// do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) schema: String,
    pub(super) identifier: String,
    pub(super) names: MetaColumns,
    /// The value of `valid_to` in open rows, as SQL; NULL where `None`.
    pub(super) current: Option<String>,
    pub(super) variant: ApplyVariant,
    /// ALTER commands that come first; each may be repeated.
    pub(super) alter: Vec<String>,
    pub(super) matching: String,
    /// Whether rows go away for good.
    #[serde(default)]
    pub(super) removes: bool,
}

impl Plan {
    pub(super) fn relation(&self) -> Relation {
        let mut relation = Relation::new(&self.schema, &self.identifier);
        relation.kind = Some(RelationKind::Table);
        relation
    }

    pub(super) fn is_open(&self) -> String {
        is_open(&self.names, self.current.as_deref())
    }
}

/// What there is to apply.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) relation: Relation,
    pub(super) plan: Plan,
    pub(super) counts: ChangeCounts,
    /// Open rows before.
    pub(super) open_rows: u64,
    pub(super) columns_added: Vec<String>,
}

/// Where a complete staging table of a snapshot is.
pub(super) fn staged_relation(relation: &Relation) -> Relation {
    let mut staged = relation.with_identifier(format!("{}{STAGED_SUFFIX}", relation.identifier));
    staged.kind = Some(RelationKind::Table);
    staged
}

/// One column of the table after this run.
struct FinalColumn {
    name: String,
    data_type: String,
    /// In the table now, and in the source.
    live: Option<ColumnInfo>,
    source: Option<ColumnInfo>,
}

/// Fills the staging table; `None` where nothing changed.
pub(super) fn stage(
    spec: &SnapshotSpec<'_>,
    adapter: &mut Adapter,
    live: &RelationInfo,
    source: &SourceColumns,
    history: Option<&History<'_>>,
) -> Result<Staged, SnapshotError> {
    let live_columns: Vec<ColumnInfo> =
        adapter.columns(&spec.relation)?.into_iter().filter(ColumnInfo::is_insertable).collect();
    let mut changes = Changes::new(spec, adapter, live, &live_columns, source)?;
    changes.history = history;
    let open = changes.is_open();
    let open_rows = adapter.number(&format!("SELECT count() FROM {} WHERE {open}", spec.relation))?;

    let filling = temporary_relation(&spec.relation, spec.invocation, "staged");
    adapter.drop_relation(&filling)?;
    create_table(adapter, &filling, &changes.staging_table())?;
    let query = changes.query(adapter)?;
    let mut names: Vec<String> = changes.columns.iter().map(|column| column.name.clone()).collect();
    names.extend(changes.meta_names());
    names.push(CHANGE.to_owned());
    insert_query(adapter, &filling, &names, &query, &[])?;
    let counts = count(adapter, &filling)?;
    if counts.inserted > 0
        && spec.hard_deletes == HardDeletes::Invalidate
        && source_updated_at(&spec.strategy).is_some()
    {
        changes.move_returned_keys(adapter, &filling)?;
    }
    let columns_added: Vec<String> = changes.added().map(|column| column.name.clone()).collect();
    let plan = Plan {
        schema: spec.relation.schema.clone(),
        identifier: spec.relation.identifier.clone(),
        names: spec.names.clone(),
        current: changes.current.clone(),
        variant: choose(spec, adapter, live, &live_columns, counts, open_rows)?,
        alter: changes.alter(),
        matching: matching(&spec.names, &changes.scd_id_type),
        removes: false,
    };
    Ok(Staged { relation: filling, plan, counts, open_rows, columns_added })
}

/// Makes the staging table complete: from here on the run will be finished, by this process or by another.
pub(super) fn commit(staged: &mut Staged, adapter: &mut Adapter) -> Result<(), SnapshotError> {
    let plan = serde_json::to_string(&staged.plan)
        .map_err(|error| SnapshotError::config("snapshot", format!("the plan cannot be written: {error}")))?;
    adapter.alter(&staged.relation, &[format!("MODIFY COMMENT {}", quote_string(&plan))])?;
    let complete = staged_relation(&staged.plan.relation());
    match adapter.rename(&[(&staged.relation, &complete)]) {
        Ok(()) => {
            staged.relation = complete;
            Ok(())
        }
        // TABLE_ALREADY_EXISTS: somebody else was faster.
        Err(error) if error.code() == Some(57) => {
            adapter.drop_relation(&staged.relation)?;
            Err(SnapshotError::Busy { relation: staged.plan.relation(), holder: None })
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn count(adapter: &mut Adapter, staged: &Relation) -> Result<ChangeCounts, SnapshotError> {
    let sql = adapter.templates().render("snapshot/counts.sql", &json!({"staged": staged.render()}))?;
    let numbers: Vec<u64> = adapter
        .rows(&sql)?
        .into_iter()
        .flatten()
        .map(|value| value.and_then(|value| value.parse().ok()).unwrap_or(0))
        .collect();
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
    Ok(ChangeCounts {
        inserted: number(0),
        changed: number(1),
        deleted: number(2),
        amended: number(3),
        opened: number(4),
        staged: number(5),
        removed: number(6),
    })
}

/// The columns of the source with what the spec computes from them.
#[derive(Debug, Clone)]
pub(super) struct SourceColumns {
    pub(super) columns: Vec<ColumnInfo>,
    /// Of `updated_at`, where the source says it.
    pub(super) updated_at_type: Option<String>,
    pub(super) key_types: Vec<String>,
}

impl SourceColumns {
    /// Asks ClickHouse, without running the query.
    pub(super) fn of(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<Self, SnapshotError> {
        let mut select = String::from("SELECT *");
        for (index, key) in spec.unique_key.iter().enumerate() {
            _ = write!(select, ", ({key}) AS `__dbt_key_{}`", index + 1);
        }
        if let Some(updated_at) = source_updated_at(&spec.strategy) {
            _ = write!(select, ", ({updated_at}) AS `__dbt_updated_at`");
        }
        let settings = settings_clause(&spec.query_settings);
        let query = format!("{select}\nFROM (\n{}{settings}\n) AS source_data", spec.sql.trim_end());
        let mut columns = adapter.query_columns(&query, &[])?;
        let mut take = |name: &str| {
            let index = columns.iter().position(|column| column.name == name)?;
            Some(columns.remove(index).data_type)
        };
        let updated_at_type = take("__dbt_updated_at");
        let key_types = (1..=spec.unique_key.len()).filter_map(|index| take(&format!("__dbt_key_{index}"))).collect();
        columns.retain(|column| !spec.names.contains(&column.name));
        Ok(Self { columns, updated_at_type, key_types })
    }
}

pub(super) fn settings_clause(settings: &[String]) -> String {
    if settings.is_empty() { String::new() } else { format!("\nSETTINGS {}", settings.join(", ")) }
}

/// The source's expression of when a row changed; `None` where the run's time is meant.
pub(super) fn source_updated_at(strategy: &Strategy) -> Option<&str> {
    match strategy {
        Strategy::Timestamp { updated_at } | Strategy::Check { updated_at: Some(updated_at), .. } => Some(updated_at),
        Strategy::Custom { updated_at, .. } if !is_run_time(updated_at) => Some(updated_at),
        Strategy::Check { updated_at: None, .. } | Strategy::Custom { .. } => None,
    }
}

/// The same as a further column of the source; a custom strategy's may already name the source's alias.
pub(super) fn source_time(strategy: &Strategy) -> Option<String> {
    source_updated_at(strategy)
        .filter(|expression| !names_alias(expression))
        .map(|expression| format!("({expression})"))
}

/// The same where the source is `source_data`.
pub(super) fn source_time_value(strategy: &Strategy) -> Option<String> {
    let expression = source_updated_at(strategy)?;
    Some(if names_alias(expression) { format!("({expression})") } else { "source_data.`__dbt_updated_at`".to_owned() })
}

fn names_alias(expression: &str) -> bool {
    expression.contains("source_data.")
}

/// What `snapshot_get_time()` renders to.
fn is_run_time(expression: &str) -> bool {
    let text = expression.trim().to_ascii_lowercase();
    text.is_empty() || text.starts_with("now(") || text.starts_with("now64(") || text == "current_timestamp"
}

/// Everything that the statement of changes is made of.
struct Changes<'a> {
    spec: &'a SnapshotSpec<'a>,
    columns: Vec<FinalColumn>,
    live_columns: &'a [ColumnInfo],
    current: Option<String>,
    scd_id_type: String,
    updated_at_type: String,
    valid_from_type: String,
    valid_to_type: String,
    /// The type of `is_deleted`, where the table has or gets it.
    is_deleted_type: Option<String>,
    keys_can_be_null: bool,
    /// MODIFY commands for columns that got wider.
    widened: Vec<String>,
    history: Option<&'a History<'a>>,
}

impl<'a> Changes<'a> {
    fn new(
        spec: &'a SnapshotSpec<'a>,
        adapter: &mut Adapter,
        live: &RelationInfo,
        live_columns: &'a [ColumnInfo],
        source: &SourceColumns,
    ) -> Result<Self, SnapshotError> {
        let type_of = |name: &str| live_columns.iter().find(|column| column.name == name).map(|c| c.data_type.clone());
        let required = |name: &str| {
            type_of(name)
                .ok_or_else(|| SnapshotError::NotASnapshot { relation: spec.relation.clone(), column: name.to_owned() })
        };
        let valid_to_type = required(&spec.names.valid_to)?;
        let is_deleted_type = type_of(&spec.names.is_deleted)
            .or_else(|| (spec.hard_deletes == HardDeletes::NewRecord).then(|| "LowCardinality(String)".to_owned()));
        let mut changes = Self {
            spec,
            columns: Vec::new(),
            live_columns,
            current: spec.valid_to_current.as_deref().map(|current| current_value(current, &valid_to_type)),
            scd_id_type: required(&spec.names.scd_id)?,
            updated_at_type: required(&spec.names.updated_at)?,
            valid_from_type: required(&spec.names.valid_from)?,
            valid_to_type,
            is_deleted_type,
            keys_can_be_null: source.key_types.iter().any(|key| unwrap(key).1),
            widened: Vec::new(),
            history: None,
        };
        changes.find_columns(adapter, live, source)?;
        if let Strategy::Check { columns: CheckColumns::These(names), .. } = &spec.strategy {
            for name in names {
                if !source.columns.iter().any(|column| column.name == *name) {
                    let reason = format!("the source has no column `{name}`");
                    return Err(SnapshotError::config("check_cols", reason));
                }
            }
        }
        Ok(changes)
    }

    /// Live and source columns by name, live order first; a column only one of them has stays, with room for NULL.
    fn find_columns(
        &mut self,
        adapter: &mut Adapter,
        live: &RelationInfo,
        source: &SourceColumns,
    ) -> Result<(), SnapshotError> {
        for column in self.live_columns.iter().filter(|column| !self.spec.names.contains(&column.name)) {
            let wanted = source.columns.iter().find(|source| source.name == column.name);
            let data_type = match wanted {
                Some(wanted) if holds(&column.data_type, &wanted.data_type) => column.data_type.clone(),
                Some(wanted) => common_type(adapter, column, &wanted.data_type)?,
                // New versions have no value for a column that is gone.
                None if column.in_sorting_key || column.in_partition_key => column.data_type.clone(),
                None => nullable(&column.data_type).unwrap_or_else(|| column.data_type.clone()),
            };
            if data_type != column.data_type {
                if column.in_sorting_key || column.in_partition_key {
                    return Err(SnapshotError::Retyped {
                        column: column.name.clone(),
                        live: column.data_type.clone(),
                        wanted: data_type,
                        reason: format!("it is in the key of {} and cannot be changed in place", live.relation),
                    });
                }
                self.widened.push(format!("MODIFY COLUMN {} {data_type}", column.quoted()));
            }
            self.columns.push(FinalColumn {
                name: column.name.clone(),
                data_type,
                live: Some(column.clone()),
                source: wanted.cloned(),
            });
        }
        for column in &source.columns {
            if self.live_columns.iter().any(|live| live.name == column.name) {
                continue;
            }
            self.columns.push(FinalColumn {
                name: column.name.clone(),
                data_type: nullable(&column.data_type).unwrap_or_else(|| column.data_type.clone()),
                live: None,
                source: Some(column.clone()),
            });
        }
        Ok(())
    }

    fn added(&self) -> impl Iterator<Item = &FinalColumn> {
        self.columns.iter().filter(|column| column.live.is_none())
    }

    fn is_open(&self) -> String {
        is_open(&self.spec.names, self.current.as_deref())
    }

    fn meta_names(&self) -> Vec<String> {
        let names = &self.spec.names;
        let mut columns =
            vec![names.scd_id.clone(), names.updated_at.clone(), names.valid_from.clone(), names.valid_to.clone()];
        if self.is_deleted_type.is_some() {
            columns.push(names.is_deleted.clone());
        }
        columns
    }

    /// The table of staged rows: the snapshot's columns as they will be, and the kind of change.
    fn staging_table(&self) -> TableSpec {
        let names = &self.spec.names;
        let data = self.columns.iter().map(|column| (column.name.as_str(), column.data_type.as_str()));
        let meta = [
            (names.scd_id.as_str(), self.scd_id_type.as_str()),
            (&names.updated_at, &self.updated_at_type),
            (&names.valid_from, &self.valid_from_type),
            (&names.valid_to, &self.valid_to_type),
        ];
        let is_deleted = self.is_deleted_type.as_deref().map(|data_type| (names.is_deleted.as_str(), data_type));
        TableSpec {
            columns: staging_columns(data.chain(meta).chain(is_deleted)),
            engine: "MergeTree".to_owned(),
            order_by: Some("tuple()".to_owned()),
            ..TableSpec::default()
        }
    }

    /// What the snapshot's table needs before the staged rows fit.
    fn alter(&self) -> Vec<String> {
        let mut commands = self.widened.clone();
        for column in self.added() {
            let name = quote_identifier(&column.name);
            commands.push(format!("ADD COLUMN IF NOT EXISTS {name} {}", column.data_type));
        }
        let has_is_deleted = self.live_columns.iter().any(|column| column.name == self.spec.names.is_deleted);
        if let Some(data_type) = &self.is_deleted_type
            && !has_is_deleted
        {
            let name = quote_identifier(&self.spec.names.is_deleted);
            commands.push(format!("ADD COLUMN IF NOT EXISTS {name} {data_type} DEFAULT 'False'"));
        }
        commands
    }

    /// The statement that finds every change in one pass over the source and the open rows.
    fn query(&self, adapter: &Adapter) -> Result<String, SnapshotError> {
        let spec = self.spec;
        let names = spec.names.quoted();
        let run_at = time_literal(spec.run_at);
        let old = |column: &str| format!("snapshotted_data.{column}");
        let updated_at = source_time_value(&spec.strategy).unwrap_or_else(|| run_at.clone());
        // A version must begin after the one it replaces, also when a deleted key comes back with its old time.
        let valid_from = if source_updated_at(&spec.strategy).is_some() {
            let previous = old(&names.valid_from);
            format!(
                "if(snapshotted_data.`__dbt_present` = 1 AND NOT ifNull({previous} < {updated_at}, 1), {run_at}, {updated_at})"
            )
        } else {
            run_at.clone()
        };
        let source_keys = key_columns("source_data", spec.unique_key.len());
        let old_keys = key_columns("snapshotted_data", spec.unique_key.len());
        let open_until = match &self.current {
            Some(current) => current.clone(),
            None => format!("CAST(NULL AS {})", self.nullable_valid_to()),
        };
        let columns: Vec<Value> = self
            .columns
            .iter()
            .map(|column| json!({"name": quote_identifier(&column.name), "value": value(column)}))
            .collect();
        let keys: Vec<String> = spec.unique_key.iter().map(|key| format!("({key})")).collect();
        let values = json!({
            "columns": columns,
            "names": names,
            "keys": keys,
            "source_time": source_time(&spec.strategy),
            "source": spec.sql.trim_end(),
            "settings": spec.query_settings,
            "relation": spec.relation.render(),
            "live_columns": self.live_select(),
            "is_open": self.is_open(),
            "key_operator": if self.keys_can_be_null { "<=>" } else { "=" },
            "scd_id": scd_id(spec, &self.scd_id_type, &source_keys, &valid_from),
            "deleted_scd_id": scd_id(&without_custom_id(spec), &self.scd_id_type, &old_keys, &run_at),
            "updated_at": updated_at,
            "valid_from": valid_from,
            "run_at": run_at,
            "run_at_as_updated": run_at,
            "run_at_as_valid_to": self.as_valid_to(&run_at),
            "closed_at": self.as_valid_to(&valid_from),
            "open_until": open_until,
            "is_deleted": self.is_deleted_type.is_some(),
            "when_new": self.when_new(),
            "has_changed": self.has_changed(&updated_at),
            "when_vanished": self.when_vanished(&names),
            "when_unchanged": if self.added().next().is_some() { "['amend']" } else { "CAST([] AS Array(String))" },
        });
        Ok(adapter.templates().render("snapshot/changes.sql", &values)?)
    }

    /// A key that was closed as deleted may come back with the time it had before; its new version must not reach into the
    /// old one, so it begins with this run.
    fn move_returned_keys(&self, adapter: &mut Adapter, staged: &Relation) -> Result<(), SnapshotError> {
        let keys: Vec<String> = self.spec.unique_key.iter().map(|key| format!("({key})")).collect();
        let values = json!({
            "staged": staged.render(),
            "relation": self.spec.relation.render(),
            "names": self.spec.names.quoted(),
            "keys": keys,
            "is_open": self.is_open(),
            "run_at": time_literal(self.spec.run_at),
        });
        let count = adapter.templates().render("snapshot/returned_count.sql", &values)?;
        if adapter.number(&count)? > 0 {
            adapter.run("snapshot/returned_move.sql", &values)?;
        }
        Ok(())
    }

    /// A version ends where the next begins: not finer than that column knows it, where this one does.
    fn as_valid_to(&self, time: &str) -> String {
        let valid_from = self.live_columns.iter().find(|column| column.name == self.spec.names.valid_from);
        let begin =
            valid_from.map_or_else(|| time.to_owned(), |column| format!("CAST({time} AS {})", column.data_type));
        format!("CAST({begin} AS {})", self.nullable_valid_to())
    }

    fn nullable_valid_to(&self) -> String {
        nullable(&self.valid_to_type).unwrap_or_else(|| self.valid_to_type.clone())
    }

    /// The columns of the table as the query reads them; `is_deleted` stands for itself before the table has it.
    fn live_select(&self) -> Vec<String> {
        let mut columns: Vec<String> = self.live_columns.iter().map(ColumnInfo::quoted).collect();
        let missing = !self.live_columns.iter().any(|column| column.name == self.spec.names.is_deleted);
        if self.is_deleted_type.is_some() && missing {
            columns.push(format!("'False' AS {}", quote_identifier(&self.spec.names.is_deleted)));
        }
        columns
    }

    /// A key that was observed is open or closed because of its observations.
    fn when_new(&self) -> String {
        match self.history {
            Some(history) => {
                format!("if({}, CAST([] AS Array(String)), ['insert'])", history.observed_condition())
            }
            None => "['insert']".to_owned(),
        }
    }

    fn when_vanished(&self, names: &MetaColumns) -> String {
        let nothing = "CAST([] AS Array(String))";
        let kinds = match self.spec.hard_deletes {
            HardDeletes::Ignore => return nothing.to_owned(),
            HardDeletes::Invalidate => "['delete']",
            HardDeletes::NewRecord => "['delete', 'deleted']",
        };
        if self.is_deleted_type.is_some() {
            format!("if(snapshotted_data.{} = 'True', {nothing}, {kinds})", names.is_deleted)
        } else {
            kinds.to_owned()
        }
    }

    fn has_changed(&self, updated_at: &str) -> String {
        let names = self.spec.names.quoted();
        let changed = match &self.spec.strategy {
            Strategy::Timestamp { .. } => {
                format!("ifNull(snapshotted_data.{} < {updated_at}, 0)", names.valid_from)
            }
            Strategy::Custom { row_changed, .. } => format!("ifNull(({row_changed}), 0)"),
            Strategy::Check { columns, .. } => {
                let compared: Vec<String> = self
                    .columns
                    .iter()
                    // What the observations decide is compared with them, not with the source's latest.
                    .filter(|column| !self.history.is_some_and(|history| history.decides(&column.name)))
                    .filter(|column| match columns {
                        CheckColumns::All => true,
                        CheckColumns::These(these) => these.contains(&column.name),
                    })
                    .filter_map(|column| {
                        let (live, source) = (column.live.as_ref()?, column.source.as_ref()?);
                        let quoted = quote_identifier(&column.name);
                        Some(differs(
                            &format!("source_data.{quoted}"),
                            &source.data_type,
                            &format!("snapshotted_data.{quoted}"),
                            &live.data_type,
                        ))
                    })
                    .collect();
                if compared.is_empty() { "0".to_owned() } else { compared.join("\n        OR ") }
            }
        };
        if self.is_deleted_type.is_some() {
            format!("snapshotted_data.{} = 'True'\n        OR {changed}", names.is_deleted)
        } else {
            changed
        }
    }
}

/// The deletion record's id is ours also where a custom strategy names its own, since that one is about source rows.
fn without_custom_id<'a>(spec: &SnapshotSpec<'a>) -> SnapshotSpec<'a> {
    let mut spec = spec.clone();
    if let Strategy::Custom { scd_id, .. } = &mut spec.strategy {
        *scd_id = None;
    }
    spec
}

/// The columns of a staging table: these, and the kind of change.
pub(super) fn staging_columns<'c>(columns: impl Iterator<Item = (&'c str, &'c str)>) -> Vec<ColumnSpec> {
    columns
        .chain(std::iter::once((CHANGE, "LowCardinality(String)")))
        .map(|(name, data_type)| ColumnSpec {
            name: quote_identifier(name),
            data_type: data_type.to_owned(),
            ..ColumnSpec::default()
        })
        .collect()
}

/// What a final column's value is, for each kind of change.
fn value(column: &FinalColumn) -> String {
    let name = quote_identifier(&column.name);
    let data_type = &column.data_type;
    let nothing = if unwrap(data_type).1 {
        format!("CAST(NULL AS {data_type})")
    } else {
        format!("defaultValueOfTypeName({})", quote_string(data_type))
    };
    match (&column.live, &column.source) {
        (Some(_), Some(_)) => {
            format!("if(`{CHANGE}` IN ('insert', 'update'), source_data.{name}, snapshotted_data.{name})")
        }
        (None, _) => format!("if(`{CHANGE}` IN ('insert', 'update', 'amend'), source_data.{name}, {nothing})"),
        (Some(_), None) => format!("if(`{CHANGE}` IN ('insert', 'update'), {nothing}, snapshotted_data.{name})"),
    }
}

/// The type that holds the values of both, or an error: a narrower one would silently change them.
fn common_type(adapter: &mut Adapter, live: &ColumnInfo, wanted: &str) -> Result<String, SnapshotError> {
    let both_enums = unwrap(&live.data_type).0.starts_with("Enum") && unwrap(wanted).0.starts_with("Enum");
    if both_enums {
        return Ok(wanted.to_owned());
    }
    let low_cardinality = live.data_type.starts_with("LowCardinality(");
    let plain = |data_type: &str| {
        let (inner, is_nullable) = unwrap(data_type);
        if is_nullable { format!("Nullable({inner})") } else { inner.to_owned() }
    };
    let query = format!(
        "SELECT [defaultValueOfTypeName({}), defaultValueOfTypeName({})] AS common",
        quote_string(&plain(&live.data_type)),
        quote_string(&plain(wanted))
    );
    let retyped = |reason: String| SnapshotError::Retyped {
        column: live.name.clone(),
        live: live.data_type.clone(),
        wanted: wanted.to_owned(),
        reason,
    };
    let none = "no type holds the values of both; cast it in the snapshot's SELECT".to_owned();
    let columns = adapter.query_columns(&query, &[]).map_err(|_| retyped(none.clone()))?;
    let common = columns
        .first()
        .and_then(|column| column.data_type.strip_prefix("Array(")?.strip_suffix(')').map(str::to_owned))
        .filter(|common| !common.starts_with("Variant("))
        .ok_or_else(|| retyped(none))?;
    if low_cardinality && unwrap(&common).0 == "String" {
        return Ok(format!("LowCardinality({common})"));
    }
    Ok(common)
}

/// Below this many open rows, replacing the open partition is quicker than it is to say, and no reader sees a step of it.
const REPLACE_PARTITION_ROWS: u64 = 200_000;
/// Above this many closed rows an UPDATE by lists of ids is no longer light.
const LIGHTWEIGHT_CHANGES: u64 = 1_000_000;

/// The variant by which the changes are applied.
fn choose(
    spec: &SnapshotSpec<'_>,
    adapter: &Adapter,
    live: &RelationInfo,
    columns: &[ColumnInfo],
    counts: ChangeCounts,
    open_rows: u64,
) -> Result<ApplyVariant, SnapshotError> {
    let partitioned = is_partitioned_by_open(live, &spec.names);
    let capabilities = adapter.capabilities();
    let closing = counts.changed + counts.deleted;
    let valid_to_is_key = columns
        .iter()
        .any(|column| column.name == spec.names.valid_to && (column.in_partition_key || column.in_sorting_key));
    let possible = |variant: ApplyVariant| match variant {
        ApplyVariant::ReplacePartition => live.is_merge_tree() && partitioned,
        ApplyVariant::LightweightDelete => {
            live.is_merge_tree() && partitioned && capabilities.lightweight_delete && counts.amended == 0
        }
        ApplyVariant::LightweightUpdate => {
            live.is_merge_tree()
                && !valid_to_is_key
                && capabilities.lightweight_update
                && counts.amended == 0
                && closing <= LIGHTWEIGHT_CHANGES
        }
        ApplyVariant::Rewrite => true,
    };
    if let Some(wanted) = spec.apply {
        // New columns need more than a light variant can do; the next run is as configured again.
        if possible(wanted) {
            return Ok(wanted);
        }
        if counts.amended == 0 {
            let reason = format!("{} cannot be changed by `{}`", spec.relation, wanted.as_str());
            return Err(SnapshotError::config("snapshot_apply", reason));
        }
    }
    let small = open_rows <= REPLACE_PARTITION_ROWS || counts.staged > open_rows / 2;
    let order = if small {
        [ApplyVariant::ReplacePartition, ApplyVariant::LightweightDelete, ApplyVariant::LightweightUpdate]
    } else {
        [ApplyVariant::LightweightDelete, ApplyVariant::ReplacePartition, ApplyVariant::LightweightUpdate]
    };
    Ok(order.into_iter().find(|variant| possible(*variant)).unwrap_or(ApplyVariant::Rewrite))
}

/// Whether the table has one partition of open rows and one of closed ones.
pub(super) fn is_partitioned_by_open(live: &RelationInfo, names: &MetaColumns) -> bool {
    let key = live.partition_key.replace('`', "");
    key == format!("isNull({})", names.valid_to) || key.starts_with(&format!("ifNull({} = ", names.valid_to))
}
