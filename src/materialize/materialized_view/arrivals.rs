//! What arrives in the sources of materialized views while these are made: rows are named by the parts they are in, with
//! merges stopped, and inserts under way are looked for in the sources and in whatever writes into them. It makes no view that
//! stays and writes no row.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    Views,
    queues::{attach_queues, has_queues_detached, is_queue},
    target_columns,
};
use crate::{
    adapter::{Adapter, AdapterError},
    engine::quote_string,
    materialize::{
        MaterializeError, Model, TableSpec,
        build::{TEMPORARY_MARK, create_table, temporary_relation},
    },
    project::{Relation, RelationKind},
};

/// Ends the name of the table that is there while merges are stopped; its comment says of which tables.
const MERGES: &str = "merges";

/// A part of a source.
pub(super) type Part = (Relation, String);

/// The tables of the MergeTree family that the views of a model read, and those whose inserts reach them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    tables: Vec<Relation>,
    /// The tables, and those from which materialized views write into them.
    watched: Vec<Relation>,
    /// Those of them that are queues.
    queues: Vec<Relation>,
    /// One of those is an S3Queue, whose inserts are no queries.
    s3queue: bool,
}

impl Sources {
    /// Follows the materialized views of the warehouse from these tables to where their rows come from.
    pub(super) fn of(adapter: &mut Adapter, tables: Vec<Relation>) -> Result<Self, MaterializeError> {
        if tables.is_empty() {
            return Ok(Self::default());
        }
        let sql = "SELECT t.database, t.name, t.engine, d, v FROM system.tables AS t \
                   ARRAY JOIN dependencies_database AS d, dependencies_table AS v";
        let mut edges = Vec::new();
        for row in adapter.rows(sql)? {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            let mut next = || values.next().unwrap_or_default();
            let (from, engine, view) = (Relation::new(next(), next()), next(), Relation::new(next(), next()));
            let target = adapter.relation(&view)?.and_then(|view| view.target());
            edges.push((from, engine, view, target));
        }
        let (mut watched, mut queues, mut s3queue) = (tables.clone(), Vec::new(), false);
        let mut at = 0;
        while let Some(into) = watched.get(at).cloned() {
            at += 1;
            for (from, engine, view, target) in &edges {
                let same = |relation: &Relation| relation.render() == into.render();
                if (target.as_ref().is_some_and(same) || same(view)) && !watched.contains(from) {
                    s3queue |= engine == "S3Queue";
                    if is_queue(engine) {
                        queues.push(from.clone());
                    }
                    watched.push(from.clone());
                }
            }
        }
        Ok(Self { tables, watched, queues, s3queue })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn tables(&self) -> &[Relation] {
        &self.tables
    }

    /// The queues that rows reach the tables from, through other views.
    pub(super) fn queues(&self) -> &[Relation] {
        &self.queues
    }

    pub(super) fn parts(&self, adapter: &mut Adapter) -> Result<Vec<Part>, MaterializeError> {
        let mut parts = Vec::new();
        for table in &self.tables {
            let sql = format!(
                "SELECT name FROM system.parts WHERE active AND database = {} AND table = {}",
                quote_string(&table.schema),
                quote_string(&table.identifier)
            );
            parts.extend(adapter.rows(&sql)?.into_iter().flatten().flatten().map(|name| (table.clone(), name)));
        }
        Ok(parts)
    }

    /// Inserts that have not ended and whose rows may arrive here: those of queries, which name the table, and objects that a
    /// queue has taken up. What only reads the tables does not count. `before`: only those that began before this second.
    pub(super) fn under_way(&self, adapter: &mut Adapter, before: Option<u64>) -> Result<u64, MaterializeError> {
        if self.watched.is_empty() {
            return Ok(0);
        }
        let conditions: Vec<String> = self
            .watched
            .iter()
            .map(|table| {
                let (schema, identifier) = (regex::escape(&table.schema), regex::escape(&table.identifier));
                let pattern = format!(
                    "(?i)insert\\s+into\\s+(table\\s+)?([`\"]?{schema}[`\"]?\\.)?[`\"]?{identifier}[`\"]?(\\s|\\(|$)"
                );
                format!("match(query, {})", quote_string(&pattern))
            })
            .collect();
        // A statement is a moment older than its entry in the list says.
        let began = before.map(|time| format!(" AND toUnixTimestamp(now()) - elapsed < {}", time + 1));
        let sql = format!(
            "SELECT count() FROM system.processes WHERE query_kind IN ('Insert', 'AsyncInsertFlush') AND ({}){}",
            conditions.join(" OR "),
            began.unwrap_or_default()
        );
        let mut count = adapter.number(&sql)?;
        if self.s3queue {
            count += adapter.number("SELECT count() FROM system.s3queue_metadata_cache WHERE status = 'Processing'")?;
        }
        Ok(count)
    }

    /// Whether an insert is under way, or has left a part that was not read.
    pub(super) fn have_more(&self, adapter: &mut Adapter, seen: &BTreeSet<Part>) -> Result<bool, MaterializeError> {
        Ok(self.under_way(adapter, None)? > 0 || self.parts(adapter)?.iter().any(|part| !seen.contains(part)))
    }

    /// The setting that makes a query see these parts of the tables alone.
    pub(super) fn filter(&self, parts: &[Part]) -> Vec<String> {
        let filters: Vec<String> = self
            .tables
            .iter()
            .map(|table| {
                let names: Vec<String> =
                    parts.iter().filter(|(of, _)| of == table).map(|(_, name)| quote_string(name)).collect();
                let condition =
                    if names.is_empty() { "0".to_owned() } else { format!("_part IN ({})", names.join(", ")) };
                format!(
                    "{}: {}",
                    quote_string(&format!("{}.{}", table.schema, table.identifier)),
                    quote_string(&condition)
                )
            })
            .collect();
        vec![format!("additional_table_filters = {{{}}}", filters.join(", "))]
    }
}

/// An empty table of the invocation's own whose being there, and whose comment, tell the next one something.
pub(super) fn make_note(adapter: &mut Adapter, note: &Relation, comment: &str) -> Result<(), MaterializeError> {
    adapter.drop_relation(note)?;
    let cluster = adapter.on_cluster();
    adapter.execute(&format!("CREATE TABLE {note}{cluster} (note UInt8) ENGINE = Memory COMMENT {comment}"))?;
    Ok(())
}

/// Whether a leftover is the note of a process that ended while it had merges stopped or queues detached.
pub fn is_note_of_stops(leftover: &Relation) -> bool {
    leftover.identifier.ends_with(&format!("_{MERGES}")) || has_queues_detached(leftover)
}

/// Starts what a process stopped which has ended since: a server keeps merges stopped and queues detached until it is told
/// otherwise.
///
/// # Errors
/// The warehouse cannot be asked, a queue cannot be attached, or the note cannot be dropped.
pub fn start_stopped(adapter: &mut Adapter, note: &Relation) -> Result<(), AdapterError> {
    if has_queues_detached(note) {
        return attach_queues(adapter, note);
    }
    let stopped = adapter.relation(note)?.map(|info| noted_tables(&info.comment)).unwrap_or_default();
    start_again(adapter, note, &stopped)
}

pub(super) fn noted_tables(comment: &str) -> Vec<Relation> {
    let tables: Vec<(String, String)> = serde_json::from_str(comment).unwrap_or_default();
    tables.into_iter().map(|(schema, identifier)| Relation::new(schema, identifier)).collect()
}

/// Drops the note, and starts the merges of the tables that no other note names: who wrote that one needs them stopped, and
/// is the last.
fn start_again(adapter: &mut Adapter, note: &Relation, stopped: &[Relation]) -> Result<(), AdapterError> {
    adapter.drop_relation(note)?;
    for table in stopped {
        let mut started = false;
        // Another one may write its note just after the look at them.
        while is_needed(adapter, table)? == started {
            let verb = if started { "STOP" } else { "START" };
            if let Err(error) = adapter.execute(&format!("SYSTEM {verb} MERGES {table}")) {
                // It may be gone by now.
                tracing::warn!(%table, %error, "its merges could not be started");
                break;
            }
            started = !started;
        }
    }
    Ok(())
}

/// Whether a note says that the merges of a table have to be stopped.
fn is_needed(adapter: &mut Adapter, table: &Relation) -> Result<bool, AdapterError> {
    let sql = format!(
        "SELECT comment FROM system.tables WHERE position(name, {}) > 0 AND endsWith(name, {})",
        quote_string(TEMPORARY_MARK),
        quote_string(&format!("_{MERGES}"))
    );
    Ok(adapter.rows(&sql)?.into_iter().flatten().flatten().any(|comment| noted_tables(&comment).contains(table)))
}

/// Does the work with the merges of these tables stopped, so that parts keep their names. Without the right to stop them,
/// no table is passed on: what is there is then read as it is.
pub(super) fn with_merges_stopped<R>(
    model: &Model<'_>,
    adapter: &mut Adapter,
    mut sources: Sources,
    work: impl FnOnce(&mut Adapter, &Sources) -> Result<R, MaterializeError>,
) -> Result<R, MaterializeError> {
    let note = temporary_relation(model.relation, model.invocation, MERGES);
    let noted = !sources.is_empty();
    if noted {
        let tables: Vec<_> = sources.tables.iter().map(|source| [&source.schema, &source.identifier]).collect();
        make_note(adapter, &note, &quote_string(&json!(tables).to_string()))?;
    }
    let mut stopped = Vec::new();
    let mut failed = None;
    for source in &sources.tables {
        match adapter.execute(&format!("SYSTEM STOP MERGES {source}")) {
            Ok(_) => stopped.push(source.clone()),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let result = match failed {
        None => work(adapter, &sources),
        // ACCESS_DENIED.
        Some(error) if error.code() == Some(497) => {
            tracing::warn!("no right to stop merges: rows inserted during the deployment may be missed");
            sources = Sources::default();
            work(adapter, &sources)
        }
        Some(error) => Err(error.into()),
    };
    // The source's own merges must go on whatever became of the model.
    let started = if noted { start_again(adapter, &note, &stopped) } else { Ok(()) };
    let done = result?;
    started?;
    Ok(done)
}

/// The tables whose inserts the views see, as ClickHouse itself finds them: from views that exist for a moment. Only of the
/// MergeTree family, since others have no parts to name.
pub(super) fn trigger_tables(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
) -> Result<Vec<Relation>, MaterializeError> {
    let target = temporary_relation(model.relation, model.invocation, "probe");
    let mut probe = temporary_relation(model.relation, model.invocation, "probe_mv");
    probe.kind = Some(RelationKind::MaterializedView);
    adapter.drop_relation(&probe)?;
    adapter.drop_relation(&target)?;
    let columns = target_columns(model, adapter, views)?;
    create_table(adapter, &target, &TableSpec::plain(&columns, "Null"))?;
    let mut sources = BTreeSet::new();
    for query in &views.queries {
        views.create(adapter, &probe, &target, &query.query)?;
        sources.extend(tables_of(adapter, &probe)?);
        adapter.drop_relation(&probe)?;
    }
    adapter.drop_relation(&target)?;
    Ok(sources.into_iter().collect())
}

/// The tables of the MergeTree family that a materialized view sees the inserts of.
pub(super) fn tables_of(adapter: &mut Adapter, view: &Relation) -> Result<Vec<Relation>, MaterializeError> {
    let sql = format!(
        "SELECT database, name FROM system.tables WHERE arrayExists((d, t) -> d = {} AND t = {}, dependencies_database, \
         dependencies_table) AND engine LIKE '%MergeTree'",
        quote_string(&view.schema),
        quote_string(&view.identifier)
    );
    Ok(adapter
        .rows(&sql)?
        .into_iter()
        .map(|row| {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            Relation::new(values.next().unwrap_or_default(), values.next().unwrap_or_default())
        })
        .collect())
}
