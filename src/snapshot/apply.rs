//! Brings staged changes into the snapshot's table. Every step may be repeated: what is staged is the final form of a row,
//! and a row is known by its id, so a second attempt after a crash ends where an undisturbed one does.

use serde_json::{Map, Value, json};

use super::{
    SnapshotError,
    spec::ApplyVariant,
    stage::{Plan, staged_relation},
};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo},
    engine::quote_string,
    materialize::temporary_relation,
    project::Relation,
};

/// The partition of open rows, and what its id is: the key is 1 for them.
const OPEN_PARTITION: &str = "1";

/// One application of a complete staging table.
pub(super) struct Application<'a> {
    pub(super) plan: &'a Plan,
    pub(super) staged: Relation,
    pub(super) live: RelationInfo,
    /// An earlier attempt may have done part of it.
    pub(super) repeated: bool,
    pub(super) invocation: &'a str,
}

impl Application<'_> {
    /// Applies and drops the staging table.
    pub(super) fn run(&self, adapter: &mut Adapter) -> Result<(), SnapshotError> {
        adapter.alter(&self.plan.relation(), &self.plan.alter)?;
        match self.plan.variant {
            ApplyVariant::ReplacePartition => self.replace_partition(adapter)?,
            ApplyVariant::LightweightDelete => self.insert_and_delete(adapter)?,
            ApplyVariant::LightweightUpdate => self.insert_and_update(adapter)?,
            ApplyVariant::Rewrite => self.rewrite(adapter)?,
        }
        adapter.drop_relation(&self.staged)?;
        Ok(())
    }

    /// Readers of open rows see all changes in one step: the closed versions come first, beside the open ones of the same
    /// id, then the open partition is exchanged.
    fn replace_partition(&self, adapter: &mut Adapter) -> Result<(), SnapshotError> {
        self.insert_staged(adapter, CLOSES)?;
        let open = temporary_relation(&self.plan.relation(), self.invocation, "open");
        adapter.drop_relation(&open)?;
        let like = json!({"relation": open.render(), "like": self.plan.relation().render(), "engine": null});
        adapter.run_ddl("materialize/create_table_as.sql", like)?;
        self.insert_kept(adapter, &open, true)?;
        let columns = self.columns(adapter)?;
        let values = self.values(&[
            ("relation", json!(open.render())),
            ("columns", json!(columns)),
            ("which", json!(OPENS)),
            ("repeated", json!(false)),
        ]);
        adapter.run("snapshot/insert_staged.sql", &values)?;
        if adapter.count(&open)? == 0 {
            adapter.run_ddl("snapshot/drop_open.sql", self.values(&[]))?;
        } else {
            let values = self.values(&[
                ("aside", json!(open.render())),
                ("settings", json!([])),
                ("forget_replaced", json!(adapter.capabilities().keeps_replaced_parts())),
            ]);
            adapter.run_ddl("snapshot/replace_open.sql", values)?;
            adapter.forget_replaced_parts(&self.plan.relation())?;
        }
        adapter.drop_relation(&open)?;
        Ok(())
    }

    /// Between the two statements a changed key has its old and its new open row.
    fn insert_and_delete(&self, adapter: &mut Adapter) -> Result<(), SnapshotError> {
        self.insert_staged(adapter, ALL)?;
        let patch = adapter.capabilities().lightweight_update && self.has_block_columns(adapter)?;
        let settings: &[&str] = if patch { &["lightweight_delete_mode = 'lightweight_update'"] } else { &[] };
        adapter.run_ddl("snapshot/delete_closed.sql", self.values(&[("settings", json!(settings))]))?;
        if self.plan.removes {
            adapter.run_ddl("snapshot/delete_removed.sql", self.values(&[("settings", json!(settings))]))?;
        }
        Ok(())
    }

    /// Between the two statements a changed key has its old and its new open row.
    fn insert_and_update(&self, adapter: &mut Adapter) -> Result<(), SnapshotError> {
        self.has_block_columns(adapter)?;
        self.insert_staged(adapter, OPENS)?;
        let any_time = "CAST(0 AS DateTime64(6, 'UTC'))";
        adapter.run_ddl("snapshot/close_by_update.sql", self.values(&[("any_time", json!(any_time))]))?;
        Ok(())
    }

    /// A whole new table; readers see all changes in one step where EXCHANGE works.
    fn rewrite(&self, adapter: &mut Adapter) -> Result<(), SnapshotError> {
        let relation = self.plan.relation();
        let aside = temporary_relation(&relation, self.invocation, "all");
        adapter.drop_relation(&aside)?;
        let like = json!({"relation": aside.render(), "like": relation.render(), "engine": null});
        adapter.run_ddl("materialize/create_table_as.sql", like)?;
        self.insert_kept(adapter, &aside, false)?;
        let columns = self.columns(adapter)?;
        let values = self.values(&[
            ("relation", json!(aside.render())),
            ("columns", json!(columns)),
            ("which", json!(ALL)),
            ("repeated", json!(false)),
        ]);
        adapter.run("snapshot/insert_staged.sql", &values)?;
        if adapter.can_exchange(&self.live.database_engine) {
            adapter.exchange(&aside, &relation)?;
            adapter.drop_relation(&aside)?;
        } else {
            let backup = temporary_relation(&relation, self.invocation, "backup");
            adapter.rename(&[(&relation, &backup), (&aside, &relation)])?;
            adapter.drop_relation(&backup)?;
        }
        Ok(())
    }

    fn insert_staged(&self, adapter: &mut Adapter, which: &str) -> Result<(), SnapshotError> {
        let columns = self.columns(adapter)?;
        let values = self.values(&[
            ("relation", json!(self.plan.relation().render())),
            ("columns", json!(columns)),
            ("which", json!(which)),
            ("repeated", json!(self.repeated)),
        ]);
        adapter.run("snapshot/insert_staged.sql", &values)?;
        Ok(())
    }

    fn insert_kept(&self, adapter: &mut Adapter, aside: &Relation, only_open: bool) -> Result<(), SnapshotError> {
        let columns: Vec<String> = adapter
            .columns(&self.plan.relation())?
            .iter()
            .filter(|column| column.is_insertable())
            .map(ColumnInfo::quoted)
            .collect();
        let values = self.values(&[
            ("aside", json!(aside.render())),
            ("columns", json!(columns)),
            ("only_open", json!(only_open)),
        ]);
        adapter.run("snapshot/insert_kept.sql", &values)?;
        Ok(())
    }

    /// The columns of the staged rows, without the kind of change.
    fn columns(&self, adapter: &mut Adapter) -> Result<Vec<String>, SnapshotError> {
        let columns = adapter.columns(&self.staged)?;
        Ok(columns.iter().filter(|column| column.name != "__dbt_change").map(ColumnInfo::quoted).collect())
    }

    /// Lightweight UPDATE needs two columns that a setting switches on, also on a table that is there already.
    fn has_block_columns(&self, adapter: &mut Adapter) -> Result<bool, SnapshotError> {
        if self.live.engine_full.contains("enable_block_number_column = 1")
            && self.live.engine_full.contains("enable_block_offset_column = 1")
        {
            return Ok(true);
        }
        let setting = "MODIFY SETTING enable_block_number_column = 1, enable_block_offset_column = 1".to_owned();
        adapter.alter(&self.plan.relation(), &[setting])?;
        Ok(true)
    }

    /// The values that all templates share, and these.
    fn values(&self, more: &[(&str, Value)]) -> Value {
        let mut values = Map::new();
        values.insert("relation".into(), json!(self.plan.relation().render()));
        values.insert("staged".into(), json!(self.staged.render()));
        values.insert("names".into(), json!(self.plan.names.quoted()));
        values.insert("is_open".into(), json!(self.plan.is_open()));
        values.insert("match".into(), json!(self.plan.matching));
        values.insert("open_partition".into(), json!(quote_string(OPEN_PARTITION)));
        values.insert("change_closes".into(), json!(CLOSES));
        values.insert("change_removes".into(), json!(REMOVES));
        for (name, value) in more {
            values.insert((*name).to_owned(), value.clone());
        }
        Value::Object(values)
    }
}

const CLOSES: &str = "`__dbt_change` IN ('close', 'delete')";
const REMOVES: &str = "`__dbt_change` = 'remove'";
const OPENS: &str = "`__dbt_change` NOT IN ('close', 'delete', 'remove')";
const ALL: &str = "`__dbt_change` != 'remove'";

/// Applies a complete staging table that an earlier process left behind. `false` where it is none of ours.
pub(super) fn resume(staged: &RelationInfo, invocation: &str, adapter: &mut Adapter) -> Result<bool, SnapshotError> {
    let Ok(plan) = serde_json::from_str::<Plan>(&staged.comment) else { return Ok(false) };
    if staged_relation(&plan.relation()).render() != staged.relation.render() {
        return Ok(false);
    }
    let Some(live) = adapter.relation(&plan.relation())? else {
        // Its snapshot was dropped since.
        adapter.drop_relation(&staged.relation)?;
        return Ok(true);
    };
    let application = Application { plan: &plan, staged: staged.relation.clone(), live, repeated: true, invocation };
    application.run(adapter)?;
    Ok(true)
}
