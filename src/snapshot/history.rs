//! History in one pass: a relation with many observations per key over time says which versions there were. In: the spec and
//! that relation; out: the first table with its whole history, later the rows by which the table differs from what the
//! observations now say, staged like any other change. The versions are computed anew each time, so a late observation splits,
//! extends or removes what was there.

use serde_json::{Value, json};

use super::{
    SnapshotError,
    column_types::unwrap,
    expressions::{is_open, key_columns, matching, scd_id, time_literal},
    spec::{ApplyVariant, CheckColumns, HistorySpec, SnapshotSpec, Strategy},
    stage::{Plan, SourceColumns, Staged, count, staging_columns},
};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo},
    engine::quote_identifier,
    materialize::{TableSpec, create_table, insert_query, temporary_relation},
    project::Relation,
};

/// Stands for "still open" where NULL cannot be compared.
const NEVER: &str = "toDateTime64('2299-12-31 00:00:00', 6, 'UTC')";

/// What of the snapshot's columns the observations decide.
pub(super) struct History<'a> {
    spec: &'a SnapshotSpec<'a>,
    history: &'a HistorySpec,
    /// Checked columns that the observations have, with the snapshot's types.
    pub(super) attributes: Vec<ColumnInfo>,
}

impl<'a> History<'a> {
    /// Looks at the columns of the observations.
    pub(super) fn of(
        spec: &'a SnapshotSpec<'a>,
        history: &'a HistorySpec,
        adapter: &mut Adapter,
        columns: &[ColumnInfo],
    ) -> Result<Self, SnapshotError> {
        let observed = adapter.query_columns(&format!("SELECT * FROM {}", history.relation), &[])?;
        let has = |name: &str| observed.iter().any(|column| column.name == name);
        for (key, name) in [
            ("observed_at", Some(&history.observed_at)),
            ("close_when_absent_for", history.close_when_absent_for.as_ref()),
        ] {
            if let Some(name) = name
                && !has(name)
            {
                let reason = format!("`{key}`: {} has no column `{name}`", history.relation);
                return Err(SnapshotError::config("history", reason));
            }
        }
        let checked = match &spec.strategy {
            Strategy::Check { columns: CheckColumns::All, .. } => None,
            Strategy::Check { columns: CheckColumns::These(names), .. } => Some(names.clone()),
            _ => return Err(SnapshotError::config("history", "it needs the strategy `check`")),
        };
        let attributes: Vec<ColumnInfo> = columns
            .iter()
            .filter(|column| checked.as_ref().is_none_or(|checked| checked.contains(&column.name)))
            .filter(|column| has(&column.name) && !spec.unique_key.contains(&column.name))
            .cloned()
            .collect();
        if attributes.is_empty() {
            let reason = format!("{} has none of the checked columns", history.relation);
            return Err(SnapshotError::config("history", reason));
        }
        Ok(Self { spec, history, attributes })
    }

    pub(super) fn decides(&self, name: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute.name == name)
    }

    fn keys(&self) -> Vec<String> {
        self.spec.unique_key.iter().map(|key| format!("({key})")).collect()
    }

    fn key_list(&self) -> String {
        let keys: Vec<String> = (1..=self.spec.unique_key.len()).map(|index| format!("`__dbt_key_{index}`")).collect();
        keys.join(", ")
    }

    fn attribute_values(&self) -> Vec<Value> {
        self.attributes
            .iter()
            .map(|attribute| json!({"name": attribute.quoted(), "type": attribute.data_type}))
            .collect()
    }

    /// The observations as they are needed: keys, attributes, period, time.
    fn observations(&self, adapter: &Adapter) -> Result<String, SnapshotError> {
        let values = json!({
            "observed": self.history.relation,
            "keys": self.keys(),
            "attributes": self.attribute_values(),
            "period": self.period(),
            "observed_at": quote_identifier(&self.history.observed_at),
        });
        Ok(adapter.templates().render("snapshot/history_seen.sql", &values)?)
    }

    /// The versions that these observations say there were: keys, attributes, `__dbt_from`, `__dbt_until`.
    fn versions(&self, adapter: &Adapter, observations: &str) -> Result<String, SnapshotError> {
        let values = json!({
            "observations": observations.trim_end(),
            "key_list": self.key_list(),
            "attributes": self.attribute_values(),
            "period": self.period(),
        });
        Ok(adapter.templates().render("snapshot/history_versions.sql", &values)?)
    }

    fn period(&self) -> Option<String> {
        self.history.close_when_absent_for.as_deref().map(quote_identifier)
    }

    /// Keeps the rows of a query in memory: a statement that names it several times would run it as often.
    fn keep(&self, adapter: &mut Adapter, label: &str, query: &str) -> Result<Relation, SnapshotError> {
        let kept = temporary_relation(&self.spec.relation, self.spec.invocation, label);
        adapter.drop_relation(&kept)?;
        let values = json!({"relation": kept.render(), "query": query.trim_end()});
        adapter.run("snapshot/history_keep.sql", &values)?;
        Ok(kept)
    }

    /// A condition on the source's keys: they were observed at least once.
    pub(super) fn observed_condition(&self) -> String {
        let source = key_columns("source_data", self.spec.unique_key.len());
        format!("({}) IN (SELECT {} FROM {})", source.join(", "), self.keys().join(", "), self.history.relation)
    }

    /// The rows of the first table: every version that was observed, and the keys that never were, from now on.
    pub(super) fn first_query(
        &self,
        adapter: &Adapter,
        source: &SourceColumns,
        open_until: &str,
        is_deleted: bool,
    ) -> Result<String, SnapshotError> {
        let spec = self.spec;
        let run_at = time_literal(spec.run_at);
        let keys: Vec<String> = (1..=spec.unique_key.len())
            .map(|index| {
                format!("if(version.`__dbt_present` = 1, version.`__dbt_key_{index}`, source_data.`__dbt_key_{index}`)")
            })
            .collect();
        let columns: Vec<Value> = source
            .columns
            .iter()
            .map(|column| {
                let name = column.quoted();
                let key = spec.unique_key.iter().position(|key| *key == column.name);
                let value = match key {
                    Some(index) => keys[index].clone(),
                    None if self.decides(&column.name) => {
                        format!("if(version.`__dbt_present` = 1, version.{name}, source_data.{name})")
                    }
                    None => format!("source_data.{name}"),
                };
                json!({"name": name, "value": value})
            })
            .collect();
        let from = format!("if(version.`__dbt_present` = 1, version.`__dbt_from`, {run_at})");
        let values = json!({
            "columns": columns,
            "names": spec.names.quoted(),
            "keys": self.keys(),
            "versions": self.versions(adapter, &self.observations(adapter)?)?,
            "source": spec.sql.trim_end(),
            "settings": spec.query_settings,
            "run_at": run_at,
            "scd_id": scd_id(spec, "String", &keys, &from),
            "open_until": open_until,
            "is_deleted": is_deleted,
        });
        Ok(adapter.templates().render("snapshot/history_first.sql", &values)?)
    }

    /// Stages what the table lacks of the observed versions; `None` where nothing differs.
    pub(super) fn stage(
        &self,
        adapter: &mut Adapter,
        live: &RelationInfo,
        live_columns: &[ColumnInfo],
        source: &SourceColumns,
        current: Option<&str>,
    ) -> Result<Option<Staged>, SnapshotError> {
        let spec = self.spec;
        let names = spec.names.quoted();
        let type_of =
            |name: &str| live_columns.iter().find(|column| column.name == name).map(|column| column.data_type.clone());
        let scd_id_type = type_of(&spec.names.scd_id).unwrap_or_default();
        let valid_to_type = type_of(&spec.names.valid_to).unwrap_or_default();
        let is_deleted = type_of(&spec.names.is_deleted).is_some();
        let data: Vec<&ColumnInfo> = live_columns.iter().filter(|column| !spec.names.contains(&column.name)).collect();
        let is_key = |name: &str| spec.unique_key.iter().any(|key| key == name);
        let in_source = |name: &str| source.columns.iter().any(|column| column.name == name);
        // What the source has lost is carried on from the table alone, so only shared columns can be looked up in both.
        let carried: Vec<&ColumnInfo> = data
            .iter()
            .copied()
            .filter(|column| !is_key(&column.name) && !self.decides(&column.name) && in_source(&column.name))
            .collect();
        let checked = |name: &str| match &spec.strategy {
            Strategy::Check { columns: CheckColumns::These(these), .. } => these.iter().any(|checked| checked == name),
            _ => true,
        };
        let columns: Vec<Value> = data
            .iter()
            .map(|column| {
                let name = column.quoted();
                let value = match spec.unique_key.iter().position(|key| *key == column.name) {
                    Some(index) => format!(
                        "if(`__dbt_change` = 'update', source_data.`__dbt_key_{}`, snapshotted_data.{name})",
                        index + 1
                    ),
                    None if self.decides(&column.name) || in_source(&column.name) => {
                        format!("if(`__dbt_change` = 'update', source_data.{name}, snapshotted_data.{name})")
                    }
                    None => format!("snapshotted_data.{name}"),
                };
                json!({"name": name, "value": value})
            })
            .collect();
        let source_keys = key_columns("source_data", spec.unique_key.len());
        let open_until = match current {
            Some(current) => current.to_owned(),
            None if unwrap(&valid_to_type).1 => format!("CAST(NULL AS {valid_to_type})"),
            None => NEVER.to_owned(),
        };
        let quoted =
            |columns: &[&ColumnInfo]| -> Vec<String> { columns.iter().map(|column| column.quoted()).collect() };
        let carried_checked: Vec<&ColumnInfo> =
            carried.iter().copied().filter(|column| checked(&column.name)).collect();
        let observations = self.observations(adapter)?;
        let seen = self.keep(adapter, "seen", &observations)?;
        let versions = self.versions(adapter, &format!("SELECT * FROM {seen}"))?;
        let versions = self.keep(adapter, "versions", &versions)?;
        adapter.drop_relation(&seen)?;
        let values = json!({
            "columns": columns,
            "names": names,
            "keys": self.keys(),
            "key_list": self.key_list(),
            "attributes": self.attribute_values(),
            "carried": quoted(&carried),
            "carried_checked": quoted(&carried_checked),
            "versions": format!("SELECT * FROM {versions}"),
            // A key that the source lost is no longer the observations' business where deletes are followed.
            "only_present": spec.hard_deletes != crate::project::HardDeletes::Ignore,
            "source": spec.sql.trim_end(),
            "settings": spec.query_settings,
            "relation": spec.relation.render(),
            "live_columns": live_columns.iter().map(ColumnInfo::quoted).collect::<Vec<_>>(),
            "is_open": is_open(&spec.names, current),
            "never": NEVER,
            "open_until": open_until,
            "valid_to_type": valid_to_type,
            "scd_id": scd_id(spec, &scd_id_type, &source_keys, "source_data.`__dbt_from`"),
            "is_deleted": is_deleted,
        });
        let query = adapter.templates().render("snapshot/history_changes.sql", &values)?;
        let staged = self.fill(adapter, live, live_columns, &query, current);
        adapter.drop_relation(&versions)?;
        staged
    }

    fn fill(
        &self,
        adapter: &mut Adapter,
        live: &RelationInfo,
        live_columns: &[ColumnInfo],
        query: &str,
        current: Option<&str>,
    ) -> Result<Option<Staged>, SnapshotError> {
        let spec = self.spec;
        let filling = temporary_relation(&spec.relation, spec.invocation, "history");
        adapter.drop_relation(&filling)?;
        let mut names: Vec<String> = live_columns
            .iter()
            .filter(|column| !spec.names.contains(&column.name))
            .map(|column| column.name.clone())
            .collect();
        names.extend([
            spec.names.scd_id.clone(),
            spec.names.updated_at.clone(),
            spec.names.valid_from.clone(),
            spec.names.valid_to.clone(),
        ]);
        if live_columns.iter().any(|column| column.name == spec.names.is_deleted) {
            names.push(spec.names.is_deleted.clone());
        }
        let table = TableSpec {
            columns: staging_columns(names.iter().filter_map(|name| {
                let column = live_columns.iter().find(|column| column.name == *name)?;
                Some((name.as_str(), column.data_type.as_str()))
            })),
            engine: "MergeTree".to_owned(),
            order_by: Some("tuple()".to_owned()),
            ..TableSpec::default()
        };
        create_table(adapter, &filling, &table)?;
        names.push("__dbt_change".to_owned());
        insert_query(adapter, &filling, &names, query, &[])?;
        let counts = count(adapter, &filling)?;
        if counts.staged == 0 {
            adapter.drop_relation(&filling)?;
            return Ok(None);
        }
        let scd_id_type = live_columns
            .iter()
            .find(|column| column.name == spec.names.scd_id)
            .map(|column| column.data_type.clone())
            .unwrap_or_default();
        let plan = Plan {
            schema: spec.relation.schema.clone(),
            identifier: spec.relation.identifier.clone(),
            names: spec.names.clone(),
            current: current.map(str::to_owned),
            variant: variant(adapter, live, spec),
            alter: Vec::new(),
            matching: matching(&spec.names, &scd_id_type),
            removes: counts.removed > 0,
        };
        Ok(Some(Staged { relation: filling, plan, counts, open_rows: 0, columns_added: Vec::new() }))
    }
}

/// Rows of the past may change here, so the open partition alone is not enough.
fn variant(adapter: &Adapter, live: &RelationInfo, spec: &SnapshotSpec<'_>) -> ApplyVariant {
    if spec.apply != Some(ApplyVariant::Rewrite)
        && live.is_merge_tree()
        && super::stage::is_partitioned_by_open(live, &spec.names)
        && adapter.capabilities().lightweight_delete
    {
        ApplyVariant::LightweightDelete
    } else {
        ApplyVariant::Rewrite
    }
}
