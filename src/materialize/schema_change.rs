//! `on_schema_change`: the columns of a query against those of the table it goes into. In: both; out: ALTER commands or an
//! error that shows each difference. dbt-clickhouse's rules, for every strategy.

use std::fmt::Write as _;

use super::{MaterializeError, Model, table_spec};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo},
    engine::quote_identifier,
};

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) added: Vec<ColumnInfo>,
    pub(super) removed: Vec<ColumnInfo>,
    /// Live column and wanted column.
    pub(super) retyped: Vec<(ColumnInfo, ColumnInfo)>,
}

impl Difference {
    /// Between the live columns and the wanted ones, by name.
    pub(super) fn between(live: &[ColumnInfo], wanted: &[ColumnInfo]) -> Self {
        let find = |columns: &[ColumnInfo], name: &str| columns.iter().find(|column| column.name == name).cloned();
        Self {
            added: wanted.iter().filter(|column| find(live, &column.name).is_none()).cloned().collect(),
            removed: live
                .iter()
                .filter(|column| column.is_insertable() && find(wanted, &column.name).is_none())
                .cloned()
                .collect(),
            retyped: wanted
                .iter()
                .filter_map(|column| Some((find(live, &column.name)?, column.clone())))
                .filter(|(live, wanted)| live.data_type != wanted.data_type)
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.retyped.is_empty()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for column in &self.added {
            _ = writeln!(text, "  `{}` {}: in the query only", column.name, column.data_type);
        }
        for column in &self.removed {
            _ = writeln!(text, "  `{}` {}: in the table only", column.name, column.data_type);
        }
        for (live, wanted) in &self.retyped {
            _ = writeln!(text, "  `{}`: {} in the table, {} in the query", live.name, live.data_type, wanted.data_type);
        }
        text.trim_end().to_owned()
    }
}

/// Makes the table's columns follow the query's, as the policy allows; answers what was done.
pub(super) fn apply(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
    wanted: &[ColumnInfo],
    key: &'static str,
    policy: &str,
) -> Result<Vec<String>, MaterializeError> {
    if !matches!(policy, "ignore" | "fail" | "append_new_columns" | "sync_all_columns") {
        let reason = format!("`{policy}` is none of `ignore`, `fail`, `append_new_columns`, `sync_all_columns`");
        return Err(MaterializeError::config(key, reason));
    }
    if policy == "ignore" {
        return Ok(Vec::new());
    }
    let live = adapter.columns(&existing.relation)?;
    let difference = Difference::between(&live, wanted);
    if difference.is_empty() {
        return Ok(Vec::new());
    }
    let beyond_adding = !difference.removed.is_empty() || !difference.retyped.is_empty();
    if policy == "fail" || (policy == "append_new_columns" && beyond_adding) {
        return Err(MaterializeError::SchemaChange {
            relation: existing.relation.clone(),
            key,
            value: policy.to_owned(),
            difference: difference.text(),
        });
    }
    let commands = commands(model, &difference);
    adapter.alter(&existing.relation, &commands)?;
    let mut notes = Vec::new();
    for (count, verb) in [
        (difference.added.len(), "added"),
        (difference.removed.len(), "dropped"),
        (difference.retyped.len(), "retyped"),
    ] {
        if count > 0 {
            notes.push(format!("{count} column{} {verb}", if count == 1 { "" } else { "s" }));
        }
    }
    Ok(notes)
}

fn commands(model: &Model<'_>, difference: &Difference) -> Vec<String> {
    let mut commands = Vec::new();
    for column in &difference.removed {
        commands.push(format!("DROP COLUMN IF EXISTS {}", column.quoted()));
    }
    for column in &difference.added {
        let documented = model.node.columns.get(&column.name);
        let mut command = format!("ADD COLUMN IF NOT EXISTS {} {}", quote_identifier(&column.name), column.data_type);
        if let Some(comment) = table_spec::column_comment(model.source(), &column.name) {
            _ = write!(command, " COMMENT {comment}");
        }
        if let Some(codec) = documented.and_then(|column| table_spec::extra_text(column, "codec")) {
            _ = write!(command, " CODEC({codec})");
        }
        if let Some(ttl) = documented.and_then(|column| table_spec::extra_text(column, "ttl")) {
            _ = write!(command, " TTL {ttl}");
        }
        commands.push(command);
    }
    for (live, wanted) in &difference.retyped {
        commands.push(format!("MODIFY COLUMN IF EXISTS {} {}", live.quoted(), wanted.data_type));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_compared_by_name() {
        let live = [ColumnInfo::new("a", "Int32"), ColumnInfo::new("b", "String"), ColumnInfo::new("c", "Int8")];
        let wanted = [ColumnInfo::new("d", "Int32"), ColumnInfo::new("c", "Int8"), ColumnInfo::new("a", "Int64")];
        let difference = Difference::between(&live, &wanted);
        assert_eq!(difference.added, [ColumnInfo::new("d", "Int32")]);
        assert_eq!(difference.removed, [ColumnInfo::new("b", "String")]);
        assert_eq!(difference.retyped, [(ColumnInfo::new("a", "Int32"), ColumnInfo::new("a", "Int64"))]);
        assert_eq!(
            difference.text(),
            "  `d` Int32: in the query only\n  `b` String: in the table only\n  `a`: Int32 in the table, Int64 in the query"
        );
    }
}
