//! The rules of a snapshot's table, checked and, on request, restored: one open row a key, versions that neither overlap nor
//! leave gaps (unless deletes close keys), ids that are unique. Checking only reads.

use serde_json::{Value, json};

use super::{
    SnapshotError, SnapshotSpec, current_of,
    expressions::{is_open, matching},
};
use crate::{
    adapter::{Adapter, ColumnInfo},
    engine::quote_identifier,
    materialize::temporary_relation,
    project::HardDeletes,
};

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// How many keys, or ids, break it.
    pub count: u64,
    /// Some of them: `id = 7`.
    pub sample: Vec<String>,
}

/// What a snapshot's table has to fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    UniqueIds,
    OneOpenRow,
    EveryKeyOpen,
    PositiveLength,
    NoOverlap,
    NoGap,
}

impl Rule {
    /// What is wrong, for a report.
    pub fn text(self) -> &'static str {
        match self {
            Self::UniqueIds => "ids that occur more than once",
            Self::OneOpenRow => "keys with more than one open row",
            Self::EveryKeyOpen => "keys without an open row",
            Self::PositiveLength => "keys with a version that ends before or when it begins",
            Self::NoOverlap => "keys with versions that overlap",
            Self::NoGap => "keys with time between two versions",
        }
    }

    /// Whether [`repair`] restores it.
    pub fn is_repairable(self) -> bool {
        !matches!(self, Self::EveryKeyOpen | Self::NoGap)
    }
}

const RULES: [Rule; 6] =
    [Rule::UniqueIds, Rule::OneOpenRow, Rule::EveryKeyOpen, Rule::PositiveLength, Rule::NoOverlap, Rule::NoGap];

/// Looks for broken rules. `None` where the table does not exist.
///
/// # Errors
/// A statement failed, or the table is no snapshot.
pub fn verify(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<Option<Vec<Violation>>, SnapshotError> {
    if adapter.relation(&spec.relation)?.is_none() {
        return Ok(None);
    }
    let values = values(spec, adapter)?;
    // Where keys may be closed without a successor, gaps and closed keys are what happened.
    let may_close = spec.hard_deletes == HardDeletes::Invalidate || spec.history.is_some();
    let mut violations = Vec::new();
    for rule in RULES {
        if may_close && matches!(rule, Rule::EveryKeyOpen | Rule::NoGap) {
            continue;
        }
        let template = match rule {
            Rule::UniqueIds => "snapshot/verify_ids.sql",
            Rule::OneOpenRow | Rule::EveryKeyOpen => "snapshot/verify_open.sql",
            Rule::PositiveLength | Rule::NoOverlap | Rule::NoGap => "snapshot/verify_order.sql",
        };
        let mut values = values.clone();
        values["broken"] = json!(condition(rule));
        let sql = adapter.templates().render(template, &values)?;
        let rows = adapter.rows(&sql)?;
        let Some(first) = rows.first() else { continue };
        let count = first.last().and_then(Option::as_deref).and_then(|count| count.parse().ok()).unwrap_or(0);
        let names: Vec<String> =
            if rule == Rule::UniqueIds { vec![spec.names.scd_id.clone()] } else { spec.unique_key.clone() };
        let sample = rows
            .iter()
            .map(|row| {
                let parts: Vec<String> = names
                    .iter()
                    .zip(row)
                    .map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("NULL")))
                    .collect();
                parts.join(", ")
            })
            .collect();
        violations.push(Violation { rule, count, sample });
    }
    Ok(Some(violations))
}

fn condition(rule: Rule) -> &'static str {
    match rule {
        Rule::UniqueIds => "",
        Rule::OneOpenRow => "`__dbt_open_rows` > 1",
        Rule::EveryKeyOpen => "`__dbt_open_rows` = 0",
        Rule::PositiveLength => "`__dbt_until` <= `__dbt_from`",
        Rule::NoOverlap => "isNotNull(`__dbt_next`) AND `__dbt_until` > `__dbt_next`",
        Rule::NoGap => "isNotNull(`__dbt_next`) AND `__dbt_until` < `__dbt_next`",
    }
}

/// Writes a table in which every id occurs once, versions of no length are gone, and each version ends at the latest where
/// the next one of its key begins; then exchanges it with the broken one.
///
/// # Errors
/// A statement failed; the table is as it was.
pub fn repair(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<(), SnapshotError> {
    let Some(live) = adapter.relation(&spec.relation)? else { return Ok(()) };
    let aside = temporary_relation(&spec.relation, spec.invocation, "repaired");
    adapter.drop_relation(&aside)?;
    let like = json!({"relation": aside.render(), "like": spec.relation.render(), "engine": null});
    adapter.run_ddl("materialize/create_table_as.sql", like)?;
    let mut values = values(spec, adapter)?;
    values["aside"] = json!(aside.render());
    adapter.run("snapshot/repair.sql", &values)?;
    if adapter.can_exchange(&live.database_engine) {
        adapter.exchange(&aside, &spec.relation)?;
        adapter.drop_relation(&aside)?;
    } else {
        let backup = temporary_relation(&spec.relation, spec.invocation, "backup");
        adapter.rename(&[(&spec.relation, &backup), (&aside, &spec.relation)])?;
        adapter.drop_relation(&backup)?;
    }
    Ok(())
}

fn values(spec: &SnapshotSpec<'_>, adapter: &mut Adapter) -> Result<Value, SnapshotError> {
    let columns: Vec<ColumnInfo> =
        adapter.columns(&spec.relation)?.into_iter().filter(ColumnInfo::is_insertable).collect();
    let type_of = |name: &str| columns.iter().find(|column| column.name == name).map(|column| column.data_type.clone());
    for name in [&spec.names.scd_id, &spec.names.valid_from, &spec.names.valid_to] {
        if type_of(name).is_none() {
            return Err(SnapshotError::NotASnapshot { relation: spec.relation.clone(), column: name.clone() });
        }
    }
    let current = current_of(spec, &columns);
    let scd_id_type = type_of(&spec.names.scd_id).unwrap_or_default();
    let valid_to_type = type_of(&spec.names.valid_to).unwrap_or_default();
    let data: Vec<String> = columns
        .iter()
        .filter(|column| column.name != spec.names.valid_to)
        .map(|column| quote_identifier(&column.name))
        .collect();
    Ok(json!({
        "relation": spec.relation.render(),
        "names": spec.names.quoted(),
        "keys": spec.unique_key.iter().map(|key| format!("({key})")).collect::<Vec<_>>(),
        "is_open": is_open(&spec.names, current.as_deref()),
        "open_until": current.unwrap_or_else(|| format!("CAST(NULL AS {valid_to_type})")),
        "valid_to_type": valid_to_type,
        "match": matching(&spec.names, &scd_id_type),
        "columns": data,
    }))
}
