//! A table filled anew beside the live one: copied part by part with merges stopped, caught up with what arrived
//! meanwhile, verified partition by partition, exchanged, and the old one kept. In: a [`RebuildStep`]; out: the new table
//! under the old name. Killed anywhere, [`Rebuilder::recover`] takes it back before the exchange and completes it after.

use std::collections::BTreeSet;

use crate::{
    ddl::Templates,
    engine::{QueryOptions, Session, quote_identifier, quote_string},
    schema::Relation,
};

use super::{
    MigrateError,
    ledger::Ledger,
    lock::Lock,
    plan::RebuildStep,
    rows::{rows, text},
};

/// Steps of a rebuild are journalled from here on, apart from the statements of their migration.
const JOURNAL_BASE: usize = 1_000_000;

pub(crate) struct Rebuilder<'a> {
    pub(crate) session: &'a mut dyn Session,
    pub(crate) ledger: &'a Ledger,
    pub(crate) migration: &'a str,
    pub(crate) lock: &'a Lock,
}

impl Rebuilder<'_> {
    /// Runs the whole rebuild.
    pub(crate) fn run(&mut self, step: &RebuildStep) -> Result<(), MigrateError> {
        self.execute(&drop_table(&step.shadow))?;
        self.execute(&step.create)?;
        // Parts are the unit of the copy: a merge would make one of copied and new rows.
        self.merges(step, "STOP")?;
        let copied = self.copy_and_exchange(step);
        if copied.is_err() {
            // The live table is as it was; the copy is worthless.
            let _ = self.merges(step, "START");
        }
        copied?;
        // Until then, every insert into the table fails.
        for view in &step.views {
            self.execute(view)?;
        }
        self.complete(step)
    }

    fn copy_and_exchange(&mut self, step: &RebuildStep) -> Result<(), MigrateError> {
        let mut copied: BTreeSet<String> = BTreeSet::new();
        loop {
            let missing: Vec<String> =
                self.active_parts(&step.live)?.into_iter().filter(|part| !copied.contains(part)).collect();
            if missing.is_empty() {
                break;
            }
            for part in missing {
                self.lock.check()?;
                if crate::interrupt::interrupted() {
                    return Err(MigrateError::Interrupted);
                }
                self.copy_part(step, &step.live, &step.shadow, &part)?;
                copied.insert(part);
            }
        }
        self.verify(step, &copied)?;
        self.journal(step, "parts", &copied.iter().cloned().collect::<Vec<_>>().join("\n"))?;
        let identity = self.uuid(&step.shadow)?;
        // From here on the recovery tells by the identity whether the exchange took place.
        self.journal(step, "exchange", &identity)?;
        self.execute(&step.exchange)?;
        Ok(())
    }

    /// After the exchange the shadow's name holds the old table: what arrived in it too late is moved, then it is kept.
    fn complete(&mut self, step: &RebuildStep) -> Result<(), MigrateError> {
        let copied: BTreeSet<String> = self.journalled(step, "parts")?.lines().map(str::to_owned).collect();
        let mut late: BTreeSet<String> = self.journalled(step, "late")?.lines().map(str::to_owned).collect();
        self.wait_for_inserts(&step.shadow)?;
        let staging = Relation::new(&step.live.database, format!("{}__chp_late", step.live.name));
        self.move_staged(step, &staging)?;
        loop {
            let missing: Vec<String> = self
                .active_parts(&step.shadow)?
                .into_iter()
                .filter(|part| !copied.contains(part) && !late.contains(part))
                .collect();
            let Some(part) = missing.into_iter().next() else { break };
            // Through a table without views: the views of the live one have seen these rows. Moving a partition is atomic,
            // so a crash in between leaves the rows in exactly one of the two.
            self.execute(&drop_table(&staging))?;
            self.execute(&format!("CREATE TABLE {staging} AS {}", step.live))?;
            self.copy_part(step, &step.shadow, &staging, &part)?;
            late.insert(part);
            self.journal(step, "late", &late.iter().cloned().collect::<Vec<_>>().join("\n"))?;
            self.move_staged(step, &staging)?;
        }
        self.execute(&drop_table(&staging))?;
        self.execute(&format!("SYSTEM START MERGES {}", step.live))?;
        if self.exists(&step.shadow)? {
            self.execute(&format!("SYSTEM START MERGES {}", step.shadow))?;
            self.execute(&format!("RENAME TABLE {} TO {}", step.shadow, step.old))?;
        }
        self.journal(step, "complete", "")
    }

    /// Moves the partitions of rows that were copied late into the live table.
    fn move_staged(&mut self, step: &RebuildStep, staging: &Relation) -> Result<(), MigrateError> {
        if !self.exists(staging)? {
            return Ok(());
        }
        // Rows staged for a part that the journal does not name were not copied whole: they are staged again.
        let sql = format!(
            "SELECT DISTINCT partition_id FROM system.parts WHERE active AND database = {} AND table = {}",
            quote_string(&staging.database),
            quote_string(&staging.name)
        );
        if self.journalled(step, "late")?.is_empty() {
            return Ok(());
        }
        for row in rows(self.session, &sql)? {
            self.execute(&format!(
                "ALTER TABLE {staging} MOVE PARTITION ID {} TO TABLE {}",
                quote_string(text(&row, 0)),
                step.live
            ))?;
        }
        Ok(())
    }

    /// Puts right what an interrupted rebuild left. Answers what was done, `None` where there was nothing.
    pub(crate) fn recover(&mut self, step: &RebuildStep) -> Result<Option<String>, MigrateError> {
        if !self.exists(&step.shadow)? {
            return Ok(None);
        }
        let identity = self.journalled(step, "exchange")?;
        let complete = self.was_journalled(step, "complete")?;
        if !complete && !identity.is_empty() && self.uuid(&step.live)? == identity {
            self.merges(step, "STOP")?;
            self.complete(step)?;
            return Ok(Some(format!("the rebuild of {} was completed", step.live.plain())));
        }
        if complete {
            return Ok(None);
        }
        self.execute(&format!("SYSTEM START MERGES {}", step.live))?;
        self.execute(&drop_table(&step.shadow))?;
        Ok(Some(format!("the unfinished copy of {} was dropped; the table itself was not touched", step.live.plain())))
    }

    /// Exchanges the table with its old version, which stays under the old version's name. Rows that arrived since the
    /// rebuild are looked for first: they would be left behind.
    pub(crate) fn undo(&mut self, step: &RebuildStep, templates: &Templates) -> Result<String, MigrateError> {
        if !self.exists(&step.old)? {
            return Err(MigrateError::NothingToUndo {
                reason: format!("the old version of {}, {}, is gone", step.live.plain(), step.old.plain()),
            });
        }
        let message =
            format!("{} is its old version again; the undone one is kept as {}", step.live.plain(), step.old.plain());
        // An undo that was killed after its exchange is not to be undone by the next.
        if self.uuid(&step.old)? == self.journalled(step, "exchange")? {
            return Ok(message);
        }
        let count = |this: &mut Self, table: &Relation| -> Result<u64, MigrateError> {
            Ok(rows(this.session, &format!("SELECT count() FROM {table} FINAL"))
                .or_else(|_| rows(this.session, &format!("SELECT count() FROM {table}")))?
                .first()
                .map_or(0, |row| super::rows::number(row, 0)))
        };
        let (new, old) = (count(self, &step.live)?, count(self, &step.old)?);
        if new > old {
            return Err(MigrateError::Unsafe {
                object: step.live.plain(),
                reason: format!("it has {} rows that its old version {} has not", new - old, step.old.plain()),
                hint: Some(format!(
                    "put the spec back and run `chpipe migrate`: that rebuild keeps all rows; or load the objects again afterwards with `chpipe load --reload {}`",
                    step.live.name.trim_start_matches("raw_")
                )),
            });
        }
        self.execute(&templates.exchange(&step.live, &step.old)?)?;
        Ok(message)
    }

    fn copy_part(
        &mut self,
        step: &RebuildStep,
        from: &Relation,
        to: &Relation,
        part: &str,
    ) -> Result<(), MigrateError> {
        let names: Vec<String> = step.columns.iter().map(|(name, _)| quote_identifier(name)).collect();
        let expressions: Vec<&str> = step.columns.iter().map(|(_, expression)| expression.as_str()).collect();
        let sql = format!(
            "INSERT INTO {to} ({}) SELECT {} FROM {from} WHERE _part = {}",
            names.join(", "),
            expressions.join(", "),
            quote_string(part)
        );
        let options = QueryOptions::default()
            // Every row arrives as it is; what the engine merges, it merges later.
            .setting("optimize_on_insert", "0")
            .setting("insert_deduplicate", "0")
            .setting("max_partitions_per_insert_block", "0")
            .setting("apply_deleted_mask", "1");
        self.session.execute(&sql, &options)?;
        Ok(())
    }

    /// Compares count and checksum of every partition of the new table with the same rows of the old one.
    fn verify(&mut self, step: &RebuildStep, copied: &BTreeSet<String>) -> Result<(), MigrateError> {
        let free = free_prefix(&step.columns);
        let hash = row_hash(step.columns.iter().map(|(name, _)| quote_identifier(name)));
        let partition = step.partition_by.as_deref().unwrap_or("''");
        let parts: Vec<String> = copied.iter().map(|part| quote_string(part)).collect();
        let parts = if parts.is_empty() { "''".to_owned() } else { parts.join(", ") };
        let renamed = renamed_select(&step.columns, &format!("{} WHERE _part IN ({parts})", step.live), &free);
        let summary = format!("toString(tuple({partition})) AS {free}p, count(), sum({hash})");
        let grouped = format!("GROUP BY {free}p ORDER BY {free}p");
        let old = format!("SELECT {summary} FROM ({renamed}) {grouped}");
        let names: Vec<String> = step.columns.iter().map(|(name, _)| quote_identifier(name)).collect();
        let new = format!("SELECT {summary} FROM (SELECT {} FROM {}) {grouped}", names.join(", "), step.shadow);
        let (old, new) = (rows(self.session, &old)?, rows(self.session, &new)?);
        let show = |row: Option<&super::rows::Row>| {
            row.map_or_else(|| "nothing".to_owned(), |row| format!("{} rows, checksum {}", text(row, 1), text(row, 2)))
        };
        for (index, row) in old.iter().enumerate() {
            if new.get(index) != Some(row) {
                return Err(MigrateError::Verification {
                    object: step.live.plain(),
                    partition: text(row, 0).to_owned(),
                    old: show(Some(row)),
                    new: show(new.get(index)),
                });
            }
        }
        if new.len() > old.len() {
            return Err(MigrateError::Verification {
                object: step.live.plain(),
                partition: text(&new[old.len()], 0).to_owned(),
                old: show(None),
                new: show(new.get(old.len())),
            });
        }
        Ok(())
    }

    /// Inserts that began before the exchange still write into the old table.
    fn wait_for_inserts(&mut self, table: &Relation) -> Result<(), MigrateError> {
        let sql = format!(
            "SELECT count() FROM system.processes WHERE query_kind IN ('Insert', 'AsyncInsertFlush') AND \
             position(query, {}) > 0 AND query_id != queryID()",
            quote_string(table.name.trim_end_matches("__chp_new"))
        );
        for _ in 0..600 {
            let running = match rows(self.session, &sql) {
                Ok(found) => found.first().map_or_else(String::new, |row| text(row, 0).to_owned()),
                // A server that does not show its processes cannot be waited for; the parts are compared anyway.
                Err(error) if error.code().is_some() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if running == "0" {
                return Ok(());
            }
            self.lock.check()?;
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(())
    }

    fn active_parts(&mut self, table: &Relation) -> Result<Vec<String>, MigrateError> {
        let sql = format!(
            "SELECT name FROM system.parts WHERE active AND database = {} AND table = {} ORDER BY partition_id, \
             min_block_number",
            quote_string(&table.database),
            quote_string(&table.name)
        );
        Ok(rows(self.session, &sql)?.iter().map(|row| text(row, 0).to_owned()).collect())
    }

    fn merges(&mut self, step: &RebuildStep, verb: &str) -> Result<(), MigrateError> {
        self.execute(&format!("SYSTEM {verb} MERGES {}", step.live))?;
        if self.exists(&step.shadow)? {
            self.execute(&format!("SYSTEM {verb} MERGES {}", step.shadow))?;
        }
        Ok(())
    }

    fn exists(&mut self, table: &Relation) -> Result<bool, MigrateError> {
        Ok(!self.uuid(table)?.is_empty())
    }

    fn uuid(&mut self, table: &Relation) -> Result<String, MigrateError> {
        let sql = format!(
            "SELECT toString(uuid) FROM system.tables WHERE database = {} AND name = {}",
            quote_string(&table.database),
            quote_string(&table.name)
        );
        Ok(rows(self.session, &sql)?.first().map(|row| text(row, 0).to_owned()).unwrap_or_default())
    }

    fn execute(&mut self, sql: &str) -> Result<(), MigrateError> {
        self.session.execute(sql, &QueryOptions::default())?;
        Ok(())
    }

    /// Notes a fact of this rebuild; a later note of the same kind replaces it.
    fn journal(&mut self, step: &RebuildStep, what: &str, value: &str) -> Result<(), MigrateError> {
        let number =
            JOURNAL_BASE + ["parts", "exchange", "late", "complete"].iter().position(|k| *k == what).unwrap_or(9);
        let object = format!("{}:{what}", step.live.plain());
        // One table may be rebuilt once in a migration, several tables each: the object tells them apart.
        let number = number + 10 * (crc32fast::hash(step.live.plain().as_bytes()) % 1_000_000) as usize;
        self.ledger.record_step(self.session, self.migration, number, &object, value, "done")
    }

    fn journalled(&mut self, step: &RebuildStep, what: &str) -> Result<String, MigrateError> {
        self.ledger
            .step_statement(self.session, self.migration, &format!("{}:{what}", step.live.plain()))
            .map(Option::unwrap_or_default)
    }

    fn was_journalled(&mut self, step: &RebuildStep, what: &str) -> Result<bool, MigrateError> {
        let object = format!("{}:{what}", step.live.plain());
        Ok(self.ledger.step_statement(self.session, self.migration, &object)?.is_some())
    }
}

fn drop_table(table: &Relation) -> String {
    format!("DROP TABLE IF EXISTS {table} SETTINGS max_table_size_to_drop = 0, max_partition_size_to_drop = 0")
}

/// A prefix for aliases that no column has: an alias with a column's name would take its place in every expression.
pub(crate) fn free_prefix(columns: &[(String, String)]) -> String {
    let mut prefix = "__chpipe_".to_owned();
    while columns.iter().any(|(name, expression)| name.contains(&prefix) || expression.contains(&prefix)) {
        prefix.push('_');
    }
    prefix
}

/// SELECT of the new columns under their names over a source of the old ones. In two steps: an expression may read an old
/// column that has the name of another new one.
pub(crate) fn renamed_select(columns: &[(String, String)], source: &str, free: &str) -> String {
    let (mut aliased, mut named) = (Vec::new(), Vec::new());
    for (index, (name, expression)) in columns.iter().enumerate() {
        aliased.push(format!("{expression} AS {free}{index}"));
        named.push(format!("{free}{index} AS {}", quote_identifier(name)));
    }
    format!("SELECT {} FROM (SELECT {} FROM {source})", named.join(", "), aliased.join(", "))
}

/// A number that differs where any column of a row differs. Hashes of NULL are NULL and would be left out of a sum, so each
/// column is hashed with whether it is NULL.
pub(crate) fn row_hash(columns: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> =
        columns.map(|column| format!("isNull({column}), ifNull(cityHash64({column}), 0)")).collect();
    format!("cityHash64({})", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_never_have_the_name_of_a_column() {
        let column = |name: &str, expression: &str| (name.to_owned(), expression.to_owned());
        assert_eq!(free_prefix(&[column("c0", "`c1`")]), "__chpipe_");
        assert_eq!(free_prefix(&[column("a", "`__chpipe_0`"), column("__chpipe__1", "`b`")]), "__chpipe___");
        assert_eq!(
            renamed_select(&[column("c1", "`c0`"), column("c0", "`c1`")], "t", "x"),
            "SELECT x0 AS `c1`, x1 AS `c0` FROM (SELECT `c0` AS x0, `c1` AS x1 FROM t)"
        );
    }
}
