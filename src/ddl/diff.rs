//! The typed difference between a live table and the wanted one, and which way it can be made: ALTER of metadata, a
//! mutation, a rebuild, or CREATE OR REPLACE. In: two [`Table`]s in the server's own formatting; out: a [`TableDiff`].
//! What ALTER can and cannot do is ClickHouse's matrix, tried on 26.5; what it would silently corrupt becomes a rebuild.
//! One file: the steps and the rules that choose among them are the two sides of that matrix.

use indexmap::IndexMap;

use crate::{
    engine::{quote_identifier, quote_string},
    schema::{
        ClickHouseType, Column, ColumnDefault, Constraint, DefaultKind, Index, MaterializedView, Projection, Relation,
        Table, mentions, rename_in_expression,
    },
};

/// How much a change costs and risks; later ones are dearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeClass {
    /// No row is touched.
    MetadataOnly,
    /// The table holds no data of its own and is made anew.
    Replace,
    /// Parts are rewritten in place, in the background.
    Mutation,
    /// A new table is filled beside the old one and takes its place.
    Rebuild,
    /// Statements of somebody's own: nobody but them knows what they cost and lose.
    ByHand,
}

impl std::fmt::Display for ChangeClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MetadataOnly => "metadata only",
            Self::Replace => "replace",
            Self::Mutation => "mutation",
            Self::Rebuild => "rebuild",
            Self::ByHand => "by hand",
        })
    }
}

/// One step from the live table to the wanted one.
#[derive(Debug, Clone, PartialEq)]
pub enum Alteration {
    RenameColumn {
        from: String,
        to: String,
    },
    AddColumn {
        column: Column,
        after: Option<String>,
    },
    DropColumn {
        name: String,
    },
    /// To a type that holds every value of `from`.
    ModifyType {
        name: String,
        from: ClickHouseType,
        to: ClickHouseType,
    },
    /// Rows that have no stored value yet keep what the old default gave them: it is stored first.
    MaterializeColumn {
        name: String,
    },
    ModifyDefault {
        name: String,
        default: ColumnDefault,
    },
    RemoveDefault {
        name: String,
        kind: DefaultKind,
    },
    ModifyCodec {
        name: String,
        codec: Option<String>,
    },
    ModifyColumnTtl {
        name: String,
        ttl: Option<String>,
    },
    CommentColumn {
        name: String,
        comment: String,
    },
    AddIndex(Index),
    DropIndex {
        name: String,
    },
    MaterializeIndex {
        name: String,
    },
    AddProjection(Projection),
    DropProjection {
        name: String,
    },
    MaterializeProjection {
        name: String,
    },
    AddConstraint(Constraint),
    DropConstraint {
        name: String,
    },
    ModifyTtl {
        ttl: Option<String>,
    },
    ModifySetting {
        name: String,
        value: String,
    },
    ResetSetting {
        name: String,
    },
    /// Appends expressions over columns added by the same statement.
    ModifyOrderBy {
        key: String,
    },
    CommentTable {
        comment: String,
    },
}

impl Alteration {
    /// What stands after `ALTER TABLE name`.
    pub fn command(&self) -> String {
        let quote = quote_identifier;
        match self {
            Self::RenameColumn { from, to } => format!("RENAME COLUMN {} TO {}", quote(from), quote(to)),
            Self::AddColumn { column, after } => {
                let place =
                    after.as_ref().map_or_else(|| " FIRST".to_owned(), |name| format!(" AFTER {}", quote(name)));
                format!("ADD COLUMN {}{place}", column.declaration())
            }
            Self::DropColumn { name } => format!("DROP COLUMN {}", quote(name)),
            Self::ModifyType { name, to, .. } => format!("MODIFY COLUMN {} {to}", quote(name)),
            Self::MaterializeColumn { name } => format!("MATERIALIZE COLUMN {}", quote(name)),
            Self::ModifyDefault { name, default } => {
                format!("MODIFY COLUMN {} {} {}", quote(name), default.kind.keyword(), default.expression)
            }
            Self::RemoveDefault { name, kind } => format!("MODIFY COLUMN {} REMOVE {}", quote(name), kind.keyword()),
            Self::ModifyCodec { name, codec: Some(codec) } => format!("MODIFY COLUMN {} CODEC({codec})", quote(name)),
            Self::ModifyCodec { name, codec: None } => format!("MODIFY COLUMN {} REMOVE CODEC", quote(name)),
            Self::ModifyColumnTtl { name, ttl: Some(ttl) } => format!("MODIFY COLUMN {} TTL {ttl}", quote(name)),
            Self::ModifyColumnTtl { name, ttl: None } => format!("MODIFY COLUMN {} REMOVE TTL", quote(name)),
            Self::CommentColumn { name, comment } => {
                format!("COMMENT COLUMN {} {}", quote(name), quote_string(comment))
            }
            Self::AddIndex(index) => format!("ADD INDEX {}", index.declaration()),
            Self::DropIndex { name } => format!("DROP INDEX {}", quote(name)),
            Self::MaterializeIndex { name } => format!("MATERIALIZE INDEX {}", quote(name)),
            Self::AddProjection(projection) => {
                format!("ADD PROJECTION {} ({})", quote(&projection.name), projection.query)
            }
            Self::DropProjection { name } => format!("DROP PROJECTION {}", quote(name)),
            Self::MaterializeProjection { name } => format!("MATERIALIZE PROJECTION {}", quote(name)),
            Self::AddConstraint(constraint) => {
                format!("ADD CONSTRAINT {} {} {}", quote(&constraint.name), constraint.kind, constraint.expression)
            }
            Self::DropConstraint { name } => format!("DROP CONSTRAINT {}", quote(name)),
            Self::ModifyTtl { ttl: Some(ttl) } => format!("MODIFY TTL {ttl}"),
            Self::ModifyTtl { ttl: None } => "REMOVE TTL".to_owned(),
            Self::ModifySetting { name, value } => format!("MODIFY SETTING {name} = {value}"),
            Self::ResetSetting { name } => format!("RESET SETTING {name}"),
            Self::ModifyOrderBy { key } => format!("MODIFY ORDER BY {key}"),
            Self::CommentTable { comment } => format!("MODIFY COMMENT {}", quote_string(comment)),
        }
    }

    /// What it costs.
    pub fn class(&self) -> ChangeClass {
        match self {
            // An Enum that only grows is the same bytes under more names.
            Self::ModifyType { from, to, .. } if is_enum_growth(from, to) => ChangeClass::MetadataOnly,
            Self::ModifyType { .. }
            | Self::MaterializeColumn { .. }
            | Self::MaterializeIndex { .. }
            | Self::MaterializeProjection { .. }
            | Self::DropColumn { .. }
            | Self::ModifyTtl { ttl: Some(_) }
            | Self::ModifyColumnTtl { ttl: Some(_), .. } => ChangeClass::Mutation,
            _ => ChangeClass::MetadataOnly,
        }
    }

    /// The column whose stored bytes are rewritten.
    pub fn rewritten_column(&self) -> Option<&str> {
        match self {
            Self::ModifyType { name, .. } | Self::MaterializeColumn { name } => Some(name),
            _ => None,
        }
    }

    /// One line for a reader.
    pub fn summary(&self) -> String {
        match self {
            Self::RenameColumn { from, to } => format!("~ column {from} is renamed to {to}, with its data"),
            Self::AddColumn { column, .. } => format!("+ column {} {}", column.name, column.kind),
            Self::DropColumn { name } => format!("- column {name}"),
            Self::ModifyType { name, from, to } => format!("~ column {name}: {from} -> {to}"),
            Self::MaterializeColumn { name } => format!("~ column {name}: values of the old default are stored"),
            Self::ModifyDefault { name, default } => {
                format!("~ column {name}: {} {}", default.kind.keyword(), default.expression)
            }
            Self::RemoveDefault { name, kind } => format!("~ column {name}: no {} any more", kind.keyword()),
            Self::ModifyCodec { name, codec: Some(codec) } => format!("~ column {name}: CODEC({codec})"),
            Self::ModifyCodec { name, codec: None } => format!("~ column {name}: default codec"),
            Self::ModifyColumnTtl { name, ttl: Some(ttl) } => format!("~ column {name}: TTL {ttl}"),
            Self::ModifyColumnTtl { name, ttl: None } => format!("~ column {name}: no TTL any more"),
            Self::CommentColumn { name, .. } => format!("~ column {name}: comment"),
            Self::AddIndex(index) => format!("+ index {} on {} ({})", index.name, index.expression, index.kind),
            Self::DropIndex { name } => format!("- index {name}"),
            Self::MaterializeIndex { name } => format!("~ index {name} is built for the rows there are"),
            Self::AddProjection(projection) => format!("+ projection {}", projection.name),
            Self::DropProjection { name } => format!("- projection {name}"),
            Self::MaterializeProjection { name } => format!("~ projection {name} is built for the rows there are"),
            Self::AddConstraint(constraint) => format!("+ constraint {}: {}", constraint.name, constraint.expression),
            Self::DropConstraint { name } => format!("- constraint {name}"),
            Self::ModifyTtl { ttl: Some(ttl) } => format!("~ TTL {ttl}"),
            Self::ModifyTtl { ttl: None } => "- TTL".to_owned(),
            Self::ModifySetting { name, value } => format!("~ setting {name} = {value}"),
            Self::ResetSetting { name } => format!("- setting {name}"),
            Self::ModifyOrderBy { key } => format!("~ ORDER BY {key}"),
            Self::CommentTable { .. } => "~ comment".to_owned(),
        }
    }

    /// Whether data can be lost, so that the object must be named in `--allow-destructive`.
    pub fn is_destructive(&self) -> bool {
        matches!(self, Self::DropColumn { .. })
    }
}

/// The way from a live table to the wanted one.
#[derive(Debug, Clone, PartialEq)]
pub enum TableDiff {
    Same,
    /// `ALTER TABLE`, in this order.
    Alter(Vec<Alteration>),
    /// `CREATE OR REPLACE TABLE`: the table holds no rows of its own.
    Replace {
        reasons: Vec<String>,
    },
    Rebuild(Box<Rebuild>),
}

/// A table that is filled anew beside the live one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuild {
    /// Why ALTER cannot do it.
    pub reasons: Vec<String>,
    /// What it will be: the wanted table, with the live columns that nobody asked to drop.
    pub table: Table,
    /// Stored column of the new table and the expression over the old one that fills it.
    pub columns: Vec<(String, String)>,
    /// Type changes that some value may not survive.
    pub conversions: Vec<Conversion>,
    /// Columns that are left behind.
    pub dropped: Vec<String>,
    /// Old name and new name of the columns that go on under another one.
    pub renames: Vec<(String, String)>,
}

/// A change to a type that does not hold every value of the old one.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// The column in the live table.
    pub column: String,
    pub from: ClickHouseType,
    pub to: ClickHouseType,
}

impl Conversion {
    /// A condition that holds for the values that would be lost or changed.
    pub fn lossy_condition(&self) -> String {
        lossy_condition(&quote_identifier(&self.column), &self.from, &self.to)
    }

    /// The expression that converts values which all survive.
    pub fn expression(&self) -> String {
        let column = self.readable();
        let target = quote_string(&self.to.to_string());
        if self.from.is_nullable() && !self.to.is_nullable() {
            format!("CAST(assumeNotNull({column}), {target})")
        } else {
            format!("CAST({column}, {target})")
        }
    }

    /// The column as CAST takes it: an Enum's names are kept, where CAST to another Enum refuses a name with another number.
    fn readable(&self) -> String {
        let column = quote_identifier(&self.column);
        let is_enum = |kind: &ClickHouseType| matches!(kind.inner(), ClickHouseType::Enum { .. });
        match is_enum(&self.from) && is_enum(&self.to) {
            true if self.from.is_nullable() => format!("CAST({column}, 'Nullable(String)')"),
            true => format!("CAST({column}, 'String')"),
            false => column,
        }
    }

    /// The expression that also takes values which do not survive: they become NULL, or the type's default.
    pub fn lossy_expression(&self) -> String {
        let column = quote_identifier(&self.column);
        let bare = self.to.clone().not_low_cardinality().not_nullable();
        let value = match &bare {
            ClickHouseType::Enum { .. } => format!("if({}, NULL, {})", self.lossy_condition(), self.readable()),
            // accurateCast alone makes 2129 of a day in 1950.
            _ => format!(
                "if({}, NULL, accurateCastOrNull({column}, {}))",
                self.lossy_condition(),
                quote_string(&bare.to_string())
            ),
        };
        if self.to.is_nullable() {
            format!("CAST({value}, {})", quote_string(&self.to.to_string()))
        } else {
            let kind = quote_string(&bare.to_string());
            format!("CAST(ifNull({value}, defaultValueOfTypeName({kind})), {})", quote_string(&self.to.to_string()))
        }
    }
}

/// A condition that holds where `value` of the type `from` would be lost or changed as `to`. Both halves are needed: each alone
/// lets something through (`accurateCast` lets Date32 into Date, the round trip lets 4000000000 into Int32).
pub(super) fn lossy_condition(value: &str, from: &ClickHouseType, to: &ClickHouseType) -> String {
    let bare = to.clone().not_low_cardinality().not_nullable();
    let target = quote_string(&bare.to_string());
    let back = quote_string(&from.clone().not_low_cardinality().nullable().to_string());
    let mut parts = Vec::new();
    if from.is_nullable() && !to.is_nullable() {
        parts.push(format!("isNull({value})"));
    }
    if let ClickHouseType::Enum { values, .. } = &bare {
        // accurateCast throws on an Enum it does not know; its names can be asked.
        let names: Vec<String> = values.iter().map(|(name, _)| quote_string(name)).collect();
        parts.push(format!("isNotNull({value}) AND (CAST({value}, 'Nullable(String)') NOT IN ({}))", names.join(", ")));
    } else if !from.clone().not_nullable().not_low_cardinality().widens_to(&bare) {
        let cast = format!("accurateCastOrNull({value}, {target})");
        parts.push(format!("isNotNull({value}) AND isNull({cast})"));
        let back = format!("CAST({cast}, {back})");
        parts.push(match bare {
            // NULL in a tuple makes a comparison NULL, which counts as equal.
            ClickHouseType::Tuple(_) => format!("toString({back}) != toString({value})"),
            _ => format!("isNotNull({value}) AND ({back} != {value})"),
        });
    }
    if parts.is_empty() {
        return "0".to_owned();
    }
    parts.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(" OR ")
}

/// What the spec says about the way.
#[derive(Debug, Clone, Default)]
pub struct DiffHints {
    /// Old column name to new.
    pub renames: IndexMap<String, String>,
    /// Columns to drop; no other column is ever dropped.
    pub drop: Vec<String>,
}

/// Settings that the server writes by itself, or that only say where data lies.
const SERVER_SETTINGS: [&str; 5] =
    ["index_granularity", "index_granularity_bytes", "storage_policy", "disk", "table_disk"];

/// Settings that ALTER refuses: `index_granularity` and what else is fixed with the first part.
/// <https://github.com/ClickHouse/ClickHouse/blob/master/src/Storages/MergeTree/MergeTreeSettings.cpp>
const READONLY_SETTINGS: [&str; 11] = [
    "index_granularity",
    "index_granularity_bytes",
    "enable_mixed_granularity_parts",
    "add_minmax_index_for_numeric_columns",
    "add_minmax_index_for_string_columns",
    "add_minmax_index_for_temporal_columns",
    "table_disk",
    "share_granularity",
    "share_nested_offsets",
    "allow_experimental_reverse_key",
    "allow_nullable_key",
];

/// How `live` becomes `wanted`.
pub fn diff_table(live: &Table, wanted: &Table, hints: &DiffHints) -> TableDiff {
    if live.engine.is_merge_tree() && wanted.engine.is_merge_tree() {
        return diff_merge_tree(live, wanted, hints);
    }
    let reasons = definition_differences(live, wanted);
    if reasons.is_empty() {
        if live.comment == wanted.comment {
            return TableDiff::Same;
        }
        return TableDiff::Alter(vec![Alteration::CommentTable { comment: wanted.comment.clone() }]);
    }
    if live.engine.is_s3_queue()
        && wanted.engine.is_s3_queue()
        && live.columns == wanted.columns
        && same_engine(live, wanted)
    {
        let alterations = setting_changes(live, wanted);
        if alterations
            .iter()
            .all(|change| matches!(change, Alteration::ModifySetting { name, .. } if is_queue_alterable(name)))
        {
            return TableDiff::Alter(alterations);
        }
    }
    TableDiff::Replace { reasons }
}

/// Settings of an unordered S3Queue that ALTER takes.
/// <https://github.com/ClickHouse/ClickHouse/blob/master/src/Storages/ObjectStorageQueue/StorageObjectStorageQueue.cpp>
fn is_queue_alterable(name: &str) -> bool {
    matches!(
        name,
        "processing_threads_num"
            | "loading_retries"
            | "after_processing"
            | "tracked_files_limit"
            | "tracked_file_ttl_sec"
            | "polling_min_timeout_ms"
            | "polling_max_timeout_ms"
            | "polling_backoff_ms"
            | "max_processed_files_before_commit"
            | "max_processed_rows_before_commit"
            | "max_processed_bytes_before_commit"
            | "max_processing_time_sec_before_commit"
            | "enable_hash_ring_filtering"
            | "list_objects_batch_size"
            | "min_insert_block_size_rows_for_materialized_views"
            | "min_insert_block_size_bytes_for_materialized_views"
            | "cleanup_interval_min_ms"
            | "cleanup_interval_max_ms"
            | "use_persistent_processing_nodes"
            | "persistent_processing_node_ttl_seconds"
            | "commit_on_select"
            | "deduplication_v2"
            | "metadata_cache_size_bytes"
            | "metadata_cache_size_elements"
    )
}

fn diff_merge_tree(live: &Table, wanted: &Table, hints: &DiffHints) -> TableDiff {
    let mut reasons = Vec::new();
    let mut alterations = Vec::new();

    // What the live table is called after the renames, so that all later comparison is by the new names.
    let mut renamed = live.clone();
    let mut old_name: IndexMap<String, String> = IndexMap::new();
    for (from, to) in &hints.renames {
        if live.column(from).is_none() || live.column(to).is_some() || wanted.column(to).is_none() {
            continue;
        }
        old_name.insert(to.clone(), from.clone());
        rename_everywhere(&mut renamed, from, to);
        if is_in_key(live, from) {
            reasons.push(format!("column {from} is part of the key and cannot be renamed in place"));
        } else {
            alterations.push(Alteration::RenameColumn { from: from.clone(), to: to.clone() });
        }
    }

    if !same_engine(live, wanted) {
        reasons.push(format!("the engine is {} and is to be {}", live.engine, wanted.engine));
    }
    if live.partition_by != wanted.partition_by {
        reasons.push(format!(
            "it is partitioned by {} and is to be by {}",
            live.partition_by.as_deref().unwrap_or("nothing"),
            wanted.partition_by.as_deref().unwrap_or("nothing")
        ));
    }
    if live.sample_by != wanted.sample_by {
        reasons.push("the sampling key changes".to_owned());
    }
    let order_by = diff_order_by(live, wanted, &mut reasons);
    diff_columns(&renamed, wanted, hints, &old_name, &mut alterations, &mut reasons);
    alterations.extend(order_by);
    diff_secondary(live, &renamed, wanted, &mut alterations);
    if renamed.ttl != wanted.ttl {
        alterations.push(Alteration::ModifyTtl { ttl: wanted.ttl.clone() });
    }
    for change in setting_changes(live, wanted) {
        match &change {
            Alteration::ModifySetting { name, value } if READONLY_SETTINGS.contains(&name.as_str()) => {
                reasons.push(format!("the setting {name} = {value} is fixed when a table is created"));
            }
            _ => alterations.push(change),
        }
    }
    if live.comment != wanted.comment {
        alterations.push(Alteration::CommentTable { comment: wanted.comment.clone() });
    }
    if !reasons.is_empty() {
        return TableDiff::Rebuild(Box::new(rebuild(live, wanted, hints, &old_name, reasons)));
    }
    if alterations.is_empty() { TableDiff::Same } else { TableDiff::Alter(alterations) }
}

/// The table after a rename: the server follows it in defaults, indexes, constraints and TTLs.
fn rename_everywhere(table: &mut Table, from: &str, to: &str) {
    let rename = |text: &mut String| *text = rename_in_expression(text, from, to);
    for column in &mut table.columns {
        if column.name == *from {
            to.clone_into(&mut column.name);
        }
        if let Some(default) = &mut column.default {
            rename(&mut default.expression);
        }
        column.ttl.iter_mut().for_each(rename);
    }
    table.indexes.iter_mut().for_each(|index| rename(&mut index.expression));
    table.constraints.iter_mut().for_each(|constraint| rename(&mut constraint.expression));
    table.ttl.iter_mut().for_each(rename);
}

/// An appended sorting key over new columns is metadata; anything else is a reason to rebuild.
fn diff_order_by(live: &Table, wanted: &Table, reasons: &mut Vec<String>) -> Option<Alteration> {
    let (from, to) = (live.sorting_key(), wanted.sorting_key());
    // Without one in the spec, whatever prefix the server keeps: MODIFY ORDER BY leaves the old key as the primary one.
    let same_primary = wanted.primary_key.is_none() || live.primary_key_parts() == wanted.primary_key_parts();
    if from == to {
        if !same_primary {
            reasons.push(format!(
                "the primary key is ({}) and is to be ({})",
                live.primary_key_parts().join(", "),
                wanted.primary_key_parts().join(", ")
            ));
        }
        return None;
    }
    let appended = to.strip_prefix(from.as_slice()).unwrap_or_default();
    // Only a column that the same ALTER adds, and without DEFAULT, may be appended: its old rows are all equal.
    let new_columns = !appended.is_empty()
        && appended.iter().all(|part| {
            live.column(part).is_none()
                && wanted.column(part).is_some_and(|column| column.default.is_none() && column.is_stored())
        });
    let explicit_primary = wanted.primary_key.is_none() || wanted.primary_key_parts() == live.primary_key_parts();
    if new_columns && explicit_primary {
        return Some(Alteration::ModifyOrderBy { key: format!("({})", to.join(", ")) });
    }
    reasons.push(format!("it is sorted by ({}) and is to be by ({})", from.join(", "), to.join(", ")));
    None
}

fn diff_columns(
    live: &Table,
    wanted: &Table,
    hints: &DiffHints,
    old_name: &IndexMap<String, String>,
    alterations: &mut Vec<Alteration>,
    reasons: &mut Vec<String>,
) {
    let mut previous: Option<String> = None;
    for column in &wanted.columns {
        match live.column(&column.name) {
            None => {
                let after = previous.clone();
                alterations.push(Alteration::AddColumn { column: column.clone(), after });
            }
            Some(current) => diff_column(live, wanted, current, column, old_name, alterations, reasons),
        }
        previous = Some(column.name.clone());
    }
    for name in &hints.drop {
        if live.column(name).is_some() && wanted.column(name).is_none() {
            if is_in_key(live, name) {
                reasons.push(format!("column {name} is part of the key and cannot be dropped in place"));
            } else {
                alterations.push(Alteration::DropColumn { name: name.clone() });
            }
        }
    }
}

fn diff_column(
    live: &Table,
    wanted: &Table,
    current: &Column,
    column: &Column,
    old_name: &IndexMap<String, String>,
    alterations: &mut Vec<Alteration>,
    reasons: &mut Vec<String>,
) {
    let name = &column.name;
    let key_name = old_name.get(name).unwrap_or(name);
    if current.kind != column.kind {
        let change = format!("{} -> {}", current.kind, column.kind);
        let in_key = is_in_key(live, name) || is_in_key(live, key_name) || is_in_key(wanted, name);
        if in_key && !is_safe_in_key(live, name, &current.kind, &column.kind) {
            reasons.push(format!("column {name} is part of the key, so its type cannot change in place: {change}"));
        } else if !current.kind.widens_to(&column.kind) {
            reasons.push(format!("column {name} would not keep every value in place: {change}"));
        } else {
            alterations.push(Alteration::ModifyType {
                name: name.clone(),
                from: current.kind.clone(),
                to: column.kind.clone(),
            });
        }
    }
    if current.default != column.default {
        let stored_before = current.is_stored();
        if stored_before != column.is_stored() {
            reasons.push(format!("column {name} changes between stored and computed"));
        } else {
            let old_values = matches!(&current.default, Some(default) if default.kind == DefaultKind::Default);
            if old_values && stored_before {
                alterations.push(Alteration::MaterializeColumn { name: name.clone() });
            }
            match (&column.default, &current.default) {
                (Some(default), _) => {
                    alterations.push(Alteration::ModifyDefault { name: name.clone(), default: default.clone() });
                }
                (None, Some(old)) => alterations.push(Alteration::RemoveDefault { name: name.clone(), kind: old.kind }),
                (None, None) => {}
            }
        }
    }
    if !same_codec(current.codec.as_deref(), column.codec.as_deref()) {
        alterations.push(Alteration::ModifyCodec { name: name.clone(), codec: column.codec.clone() });
    }
    if current.ttl != column.ttl {
        alterations.push(Alteration::ModifyColumnTtl { name: name.clone(), ttl: column.ttl.clone() });
    }
    if current.comment != column.comment {
        alterations.push(Alteration::CommentColumn { name: name.clone(), comment: column.comment.clone() });
    }
}

/// Indexes, projections and constraints: changed ones are dropped and added, since none can be modified.
fn diff_secondary(live: &Table, renamed: &Table, wanted: &Table, alterations: &mut Vec<Alteration>) {
    // The server refuses a rename or a new type under a projection: such a one is dropped first and made again.
    let touched: Vec<String> = alterations
        .iter()
        .filter_map(|alteration| match alteration {
            Alteration::RenameColumn { from, .. } => Some(from.clone()),
            Alteration::ModifyType { name, .. } | Alteration::DropColumn { name } => Some(name.clone()),
            _ => None,
        })
        .collect();
    let is_touched = |projection: &Projection| touched.iter().any(|column| mentions(&projection.query, column));
    for index in &renamed.indexes {
        if !wanted.indexes.contains(index) {
            alterations.push(Alteration::DropIndex { name: index.name.clone() });
        }
    }
    for index in &wanted.indexes {
        if !renamed.indexes.contains(index) {
            alterations.push(Alteration::AddIndex(index.clone()));
            alterations.push(Alteration::MaterializeIndex { name: index.name.clone() });
        }
    }
    for projection in &live.projections {
        if !wanted.projections.contains(projection) || is_touched(projection) {
            alterations.push(Alteration::DropProjection { name: projection.name.clone() });
        }
    }
    for projection in &wanted.projections {
        let kept = live.projections.iter().any(|live| live == projection && !is_touched(live));
        if !kept {
            alterations.push(Alteration::AddProjection(projection.clone()));
            alterations.push(Alteration::MaterializeProjection { name: projection.name.clone() });
        }
    }
    for constraint in &renamed.constraints {
        if !wanted.constraints.contains(constraint) {
            alterations.push(Alteration::DropConstraint { name: constraint.name.clone() });
        }
    }
    for constraint in &wanted.constraints {
        if !renamed.constraints.contains(constraint) {
            alterations.push(Alteration::AddConstraint(constraint.clone()));
        }
    }
}

fn setting_changes(live: &Table, wanted: &Table) -> Vec<Alteration> {
    let mut changes = Vec::new();
    for (name, value) in &wanted.settings {
        if live.settings.get(name).is_none_or(|current| setting_value(current) != setting_value(value)) {
            changes.push(Alteration::ModifySetting { name: name.clone(), value: value.clone() });
        }
    }
    for name in live.settings.keys() {
        if !wanted.settings.contains_key(name) && !SERVER_SETTINGS.contains(&name.as_str()) {
            changes.push(Alteration::ResetSetting { name: name.clone() });
        }
    }
    changes
}

fn rebuild(
    live: &Table,
    wanted: &Table,
    hints: &DiffHints,
    old_name: &IndexMap<String, String>,
    reasons: Vec<String>,
) -> Rebuild {
    let mut table = wanted.clone();
    // Nothing is dropped that nobody asked to drop: such columns go on at the end.
    for column in &live.columns {
        let renamed = old_name.values().any(|old| *old == column.name);
        if table.column(&column.name).is_none() && !renamed && !hints.drop.contains(&column.name) {
            table.columns.push(column.clone());
        }
    }
    let mut columns = Vec::new();
    let mut conversions = Vec::new();
    for column in table.columns.iter().filter(|column| column.is_stored()) {
        let source = old_name.get(&column.name).unwrap_or(&column.name);
        let Some(current) = live.column(source) else { continue };
        let quoted = quote_identifier(source);
        let expression = if current.kind == column.kind {
            quoted
        } else if current.kind.widens_to(&column.kind) {
            format!("CAST({quoted}, {})", quote_string(&column.kind.to_string()))
        } else {
            let conversion = Conversion { column: source.clone(), from: current.kind.clone(), to: column.kind.clone() };
            let expression = conversion.expression();
            conversions.push(conversion);
            expression
        };
        columns.push((column.name.clone(), expression));
    }
    let dropped = hints.drop.iter().filter(|name| live.column(name).is_some()).cloned().collect();
    let renames = old_name.iter().map(|(to, from)| (from.clone(), to.clone())).collect();
    Rebuild { reasons, table, columns, conversions, dropped, renames }
}

/// Why a table without rows of its own is not as wanted; the comment aside.
fn definition_differences(live: &Table, wanted: &Table) -> Vec<String> {
    let mut reasons = Vec::new();
    for column in &wanted.columns {
        match live.column(&column.name) {
            None => reasons.push(format!("+ column {} {}", column.name, column.kind)),
            Some(current) if current.kind != column.kind => {
                reasons.push(format!("~ column {}: {} -> {}", column.name, current.kind, column.kind));
            }
            Some(current) if current.default != column.default => {
                reasons.push(format!("~ column {}: default", column.name));
            }
            Some(_) => {}
        }
    }
    for column in &live.columns {
        if wanted.column(&column.name).is_none() {
            reasons.push(format!("- column {}", column.name));
        }
    }
    if !same_engine(live, wanted) {
        reasons.push(format!("~ engine {} -> {}", live.engine, wanted.engine));
    }
    if live.partition_by != wanted.partition_by {
        reasons.push(format!("~ PARTITION BY {}", wanted.partition_by.as_deref().unwrap_or("nothing")));
    }
    for change in setting_changes(live, wanted) {
        // The server leaves out of a definition what is a default.
        if let Alteration::ModifySetting { name, value } = change {
            reasons.push(format!("~ setting {name} = {value}"));
        }
    }
    reasons
}

/// The same engine, whatever a cluster or ClickHouse Cloud made of its name.
fn same_engine(live: &Table, wanted: &Table) -> bool {
    let family =
        |name: &str| name.strip_prefix("Replicated").or_else(|| name.strip_prefix("Shared")).unwrap_or(name).to_owned();
    // Where a replicated table keeps its state is the server's business: macros may stand resolved in the live one.
    let arguments = |table: &Table| {
        let skip = if table.engine.is_replicated() {
            table.engine.arguments.iter().take(2).filter(|argument| argument.starts_with('\'')).count()
        } else {
            0
        };
        table.engine.arguments[skip..].to_vec()
    };
    let compatible = live.engine.name == wanted.engine.name
        || (live.engine.name.starts_with("Shared") && !wanted.engine.name.starts_with("Shared"));
    compatible && family(&live.engine.name) == family(&wanted.engine.name) && arguments(live) == arguments(wanted)
}

/// Codecs as the server completes them: `ZSTD` is `ZSTD(1)`, `Delta` gets the type's width.
fn same_codec(live: Option<&str>, wanted: Option<&str>) -> bool {
    let parts = |codec: Option<&str>| -> Vec<String> {
        codec
            .map(crate::schema::split_arguments)
            .unwrap_or_default()
            .into_iter()
            .map(|part| if part == "ZSTD" { "ZSTD(1)".to_owned() } else { part })
            .filter(|part| part != "Default")
            .collect()
    };
    let (live, wanted) = (parts(live), parts(wanted));
    live.len() == wanted.len()
        && live.iter().zip(&wanted).all(|(live, wanted)| {
            // Without an argument, whatever the server filled in.
            live == wanted || (!wanted.contains('(') && live.split('(').next() == Some(wanted))
        })
}

/// A setting's value without its spelling: `'1'`, `1` and `true` are one.
fn setting_value(literal: &str) -> String {
    let bare = literal.trim().trim_matches('\'');
    match bare {
        "true" => "1".to_owned(),
        "false" => "0".to_owned(),
        bare => bare.to_owned(),
    }
}

/// Whether a column stands in a key, or is what the engine replaces by.
fn is_in_key(table: &Table, column: &str) -> bool {
    [&table.order_by, &table.partition_by, &table.primary_key, &table.sample_by]
        .into_iter()
        .flatten()
        .chain(&table.engine.arguments)
        .any(|expression| mentions(expression, column))
}

/// Whether the server takes a type change of a key column in place: the order of its values stays.
fn is_safe_in_key(table: &Table, column: &str, from: &ClickHouseType, to: &ClickHouseType) -> bool {
    let only_version = [&table.order_by, &table.partition_by, &table.primary_key, &table.sample_by]
        .into_iter()
        .flatten()
        .all(|expression| !mentions(expression, column));
    match (from, to) {
        _ if is_enum_growth(from, to) => true,
        (ClickHouseType::DateTime64 { precision: a, .. }, ClickHouseType::DateTime64 { precision: b, .. }) => a == b,
        (ClickHouseType::DateTime(_), ClickHouseType::DateTime(_)) => true,
        (ClickHouseType::UInt(from), ClickHouseType::UInt(to)) => only_version && from <= to,
        _ => false,
    }
}

fn is_enum_growth(from: &ClickHouseType, to: &ClickHouseType) -> bool {
    match (from, to) {
        (ClickHouseType::Enum { bits: a, .. }, ClickHouseType::Enum { bits: b, .. }) => a == b && from.widens_to(to),
        (ClickHouseType::Nullable(from), ClickHouseType::Nullable(to)) => is_enum_growth(from, to),
        _ => false,
    }
}

/// The way from a live materialized view to the wanted one.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewDiff {
    Same,
    /// `ALTER TABLE … MODIFY QUERY`: nothing inserted meanwhile is missed.
    ModifyQuery,
    /// DROP and CREATE: the target changes.
    Recreate {
        reason: String,
    },
}

/// How a materialized view becomes the wanted one.
pub fn diff_view(live: &MaterializedView, wanted: &MaterializedView) -> ViewDiff {
    if live.to != wanted.to {
        let name = |to: &Option<Relation>| to.as_ref().map_or_else(|| "its own table".to_owned(), Relation::plain);
        return ViewDiff::Recreate {
            reason: format!("it writes into {} and is to write into {}", name(&live.to), name(&wanted.to)),
        };
    }
    if live.query == wanted.query { ViewDiff::Same } else { ViewDiff::ModifyQuery }
}

#[cfg(test)]
mod tests {
    use crate::schema::{SchemaObject, parse_create};

    use super::*;

    fn table(text: &str) -> Table {
        match parse_create(&format!("CREATE TABLE raw.t {text}")).unwrap() {
            SchemaObject::Table(table) => table,
            other => panic!("{other:?}"),
        }
    }

    fn commands(live: &str, wanted: &str) -> Vec<String> {
        match diff_table(&table(live), &table(wanted), &DiffHints::default()) {
            TableDiff::Alter(alterations) => alterations.iter().map(Alteration::command).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn server_made_details_are_no_difference() {
        let live = table(
            "(`a` Int32, `b` Float64 CODEC(Gorilla(8), ZSTD(1))) ENGINE = ReplacingMergeTree(a) ORDER BY a SETTINGS \
             x = 1, index_granularity = 8192",
        );
        let wanted = table(
            "(`b` Float64 CODEC(Gorilla, ZSTD), `a` Int32) ENGINE = ReplacingMergeTree(a) ORDER BY a SETTINGS x = true",
        );
        assert_eq!(diff_table(&live, &wanted, &DiffHints::default()), TableDiff::Same);
    }

    #[test]
    fn new_and_wider_columns_are_altered_in_place() {
        assert_eq!(
            commands(
                "(`k` Int8, `a` Int16) ENGINE = MergeTree ORDER BY k",
                "(`k` Int8, `n` String, `a` Int32) ENGINE = MergeTree ORDER BY k",
            ),
            ["ADD COLUMN `n` String AFTER `k`", "MODIFY COLUMN `a` Int32"]
        );
    }

    #[test]
    fn a_column_that_is_no_longer_wanted_stays() {
        let live = table("(`k` Int8, `a` Int16) ENGINE = MergeTree ORDER BY k");
        let wanted = table("(`k` Int8) ENGINE = MergeTree ORDER BY k");
        assert_eq!(diff_table(&live, &wanted, &DiffHints::default()), TableDiff::Same);
        let hints = DiffHints { drop: vec!["a".into()], ..DiffHints::default() };
        let TableDiff::Alter(alterations) = diff_table(&live, &wanted, &hints) else { panic!("no alteration") };
        assert!(alterations[0].is_destructive());
    }

    #[test]
    fn narrowing_and_keys_are_rebuilt() {
        for (live, wanted) in [
            (
                "(`k` Int8, `a` Int32) ENGINE = MergeTree ORDER BY k",
                "(`k` Int8, `a` Int8) ENGINE = MergeTree ORDER BY k",
            ),
            ("(`k` Int8) ENGINE = MergeTree ORDER BY k", "(`k` Int16) ENGINE = MergeTree ORDER BY k"),
            ("(`k` Int8) ENGINE = MergeTree ORDER BY k", "(`k` Int8) ENGINE = ReplacingMergeTree ORDER BY k"),
            (
                "(`k` Int8, `b` Int8) ENGINE = MergeTree ORDER BY k",
                "(`k` Int8, `b` Int8) ENGINE = MergeTree ORDER BY (b, k)",
            ),
            ("(`k` Int8) ENGINE = MergeTree ORDER BY k", "(`k` Int8) ENGINE = MergeTree PARTITION BY k ORDER BY k"),
        ] {
            let diff = diff_table(&table(live), &table(wanted), &DiffHints::default());
            assert!(matches!(diff, TableDiff::Rebuild(_)), "{live} to {wanted}: {diff:?}");
        }
    }

    #[test]
    fn a_new_column_is_appended_to_the_key_in_place() {
        assert_eq!(
            commands(
                "(`k` Int8) ENGINE = MergeTree ORDER BY k",
                "(`k` Int8, `n` String) ENGINE = MergeTree ORDER BY (k, n)",
            ),
            ["ADD COLUMN `n` String AFTER `k`", "MODIFY ORDER BY (k, n)"]
        );
    }

    #[test]
    fn a_rename_keeps_the_data() {
        let live = table("(`k` Int8, `old` Int16) ENGINE = MergeTree ORDER BY k");
        let wanted = table("(`k` Int8, `new` Int32) ENGINE = MergeTree ORDER BY k");
        let hints = DiffHints { renames: [("old".to_owned(), "new".to_owned())].into(), ..DiffHints::default() };
        let TableDiff::Alter(alterations) = diff_table(&live, &wanted, &hints) else { panic!("no alteration") };
        let commands: Vec<_> = alterations.iter().map(Alteration::command).collect();
        assert_eq!(commands, ["RENAME COLUMN `old` TO `new`", "MODIFY COLUMN `new` Int32"]);
    }

    #[test]
    fn a_column_that_reads_like_a_word_of_the_key_is_not_in_it() {
        let table = table("(`k` Int8, `if` Int8) ENGINE = MergeTree ORDER BY ifNull(k, 1)");
        assert!(is_in_key(&table, "k"));
        assert!(!is_in_key(&table, "if"));
    }
}
