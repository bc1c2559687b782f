//! Materialized views are put to work: their targets are filled with what the sources held before, and no row that arrives
//! meanwhile is missed or counted twice. A process that ends in the middle leaves tables by which the next one goes on.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    ViewQuery, Views,
    arrivals::{Part, Sources, make_note, trigger_tables, with_merges_stopped},
    pattern,
    queues::{Attached, with_queues_detached},
    reads_stream, target_columns,
};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo},
    interrupt::interrupted,
    materialize::{
        MaterializeError, Model, TableSpec, build,
        build::{create_table, insert_query, is_temporary_name, temporary_relation},
        incremental::{copy_rows, link_partitions, move_partitions, takes_partitions},
    },
    project::{Relation, RelationKind},
};

/// How long a deployment is tried while rows arrive just in the moment of the switch. Merges of the sources are stopped
/// for so long, and every insert makes a part.
const PATIENCE: Duration = Duration::from_secs(30);

/// Attempts within [`PATIENCE`].
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn is_over(&self) -> bool {
        interrupted() || self.0.elapsed() > PATIENCE
    }
}

/// Ends the name of the table that is there while target and views are switched.
const SWITCHING: &str = "switching";
/// Ends the name of a complete table of rows for another model's table.
const COMPLETE: &str = "complete";

/// Finishes what an ended deployment left among `leftovers`: rows that were collected for another model's table go there.
/// Answers the marks of switches that have to be done again; they must stay until that is done.
///
/// # Errors
/// A statement failed.
pub fn recover(
    model: &Model<'_>,
    adapter: &mut Adapter,
    leftovers: &[Relation],
) -> Result<Vec<Relation>, MaterializeError> {
    let mut again = Vec::new();
    finish_deployment(model, adapter, leftovers)?;
    for leftover in leftovers {
        if leftover.identifier.ends_with(SWITCHING) {
            again.push(leftover.clone());
        } else if leftover.identifier.ends_with(COMPLETE) {
            // Without the view the rows are read anew.
            if let Some((_, target)) = view_with_target(model, adapter)?
                && adapter.relation(leftover)?.is_some()
            {
                put_rows(adapter, &target, leftover)?;
            }
        }
    }
    Ok(again)
}

/// The model's view, and the table that it writes into.
fn view_with_target(
    model: &Model<'_>,
    adapter: &mut Adapter,
) -> Result<Option<(RelationInfo, RelationInfo)>, MaterializeError> {
    let view = adapter.relation(model.relation)?.filter(|view| view.kind() == RelationKind::MaterializedView);
    let Some((view, target)) = view.and_then(|view| view.target().map(|target| (view, target))) else {
        return Ok(None);
    };
    Ok(adapter.relation(&target)?.map(|target| (view, target)))
}

/// Goes on with a deployment into another model's table that ended when the view proper was there already.
fn finish_deployment(model: &Model<'_>, adapter: &mut Adapter, leftovers: &[Relation]) -> Result<(), MaterializeError> {
    let noted = leftovers.iter().find(|leftover| leftover.identifier.ends_with(&format!("_{NOTED}")));
    let Some((_, invocation)) = noted.and_then(|noted| is_temporary_name(&noted.identifier)) else { return Ok(()) };
    let Some((view, target)) = view_with_target(model, adapter)? else { return Ok(()) };
    if let Some(from) = second_of(&view) {
        let sources = sources_of(adapter, &view.relation)?;
        Tables::of(model.relation, invocation).put_together(adapter, &sources, &target, from)?;
    }
    Ok(())
}

/// Rows of a table with the same columns; doing it again adds nothing where partitions can be moved.
fn put_rows(adapter: &mut Adapter, target: &RelationInfo, from: &Relation) -> Result<(), MaterializeError> {
    if takes_partitions(adapter, target)? {
        return move_partitions(adapter, &target.relation, from);
    }
    copy_rows(adapter, &target.relation, from, &[])?;
    adapter.drop_relation(from)?;
    Ok(())
}

fn never_quiet(sources: &Sources, target: &Relation) -> MaterializeError {
    MaterializeError::Unsupported(format!(
        "rows are inserted into {} all the time, so {target} could not be made without missing or doubling some; pause the inserts for a second",
        sources.tables().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    ))
}

/// Makes the target aside, with what the sources hold, and puts it in place; no row is missed and none counted twice.
///
/// The rows to read are named by the parts they are in, with merges stopped, so that what was read is known exactly. The
/// switch (target and views in place) is over in milliseconds; if a part arrived or an insert was under way meanwhile,
/// nobody can tell which views saw it, and the switch is done again, with another copy of what was collected: parts are
/// linked, so that only what is new has to be read. A process that ends within the switch leaves a mark, and the next run
/// does the whole again.
pub(super) fn deploy(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
    target: &Relation,
    existing: Option<&RelationInfo>,
    attached: Attached,
) -> Result<Option<u64>, MaterializeError> {
    let (catches_up, sources) = sources_to_read(model, adapter, views)?;
    let columns = target_columns(model, adapter, views)?;
    let spec = TableSpec::new(model.source(), &columns, adapter.options())?;
    let temporary = |purpose: &str| temporary_relation(model.relation, model.invocation, purpose);
    let (aside, collected, mark) = (temporary(""), temporary("collected"), temporary(SWITCHING));
    if catches_up {
        make_note(adapter, &mark, "'target and views are being switched'")?;
    }
    with_merges_stopped(model, adapter, sources, |adapter, sources| {
        let mut seen = BTreeSet::new();
        let mut rows = Some(0);
        let keeps_copy = !sources.is_empty() && spec.is_merge_tree() && !spec.engine.starts_with("Replicated");
        if keeps_copy {
            adapter.drop_relation(&collected)?;
            create_table(adapter, &collected, &spec)?;
            rows = read_new(adapter, views, sources, &[&collected], &mut seen)?;
        }
        let mut existing = existing.cloned();
        with_queues_detached(model, adapter, sources, attached, |adapter| {
            let patience = Patience::new();
            loop {
                adapter.drop_relation(&aside)?;
                create_table(adapter, &aside, &spec)?;
                let more = if !catches_up {
                    Some(0)
                } else if keeps_copy {
                    link_partitions(adapter, &aside, &collected)?;
                    collect(adapter, views, sources, &[&collected, &aside], &mut seen)?
                } else {
                    (seen, rows) = (BTreeSet::new(), Some(0));
                    collect(adapter, views, sources, &[&aside], &mut seen)?
                };
                rows = rows.zip(more).map(|(rows, more)| rows + more);
                switch(model, adapter, views, &aside, target, existing.as_ref())?;
                if !sources.have_more(adapter, &seen)? {
                    break;
                }
                if patience.is_over() {
                    return Err(never_quiet(sources, target));
                }
                existing = adapter.relation(target)?;
            }
            Ok(())
        })?;
        adapter.drop_relation(&collected)?;
        if catches_up {
            adapter.drop_relation(&mark)?;
        }
        Ok(rows)
    })
}

/// Whether there are rows to read that were there before the views, and the tables whose rows can be told apart by their
/// parts.
fn sources_to_read(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
) -> Result<(bool, Sources), MaterializeError> {
    if views.refresh.is_some() || !views.catchup || model.empty {
        return Ok((false, Sources::default()));
    }
    for query in &views.queries {
        // Nothing has been in a stream before, and a view that exists for a moment would take rows out of it.
        if reads_stream(adapter, &query.query)? {
            tracing::warn!(relation = %model.relation, "it holds what its stream hands out from now on");
            return Ok((false, Sources::default()));
        }
    }
    let tables = trigger_tables(model, adapter, views)?;
    Ok((true, Sources::of(adapter, tables)?))
}

/// Target and views in place: as few statements as possible, since what arrives between them has to be read again.
fn switch(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
    aside: &Relation,
    target: &Relation,
    existing: Option<&RelationInfo>,
) -> Result<(), MaterializeError> {
    build::put_in_place(model, adapter, aside, existing)?;
    for query in &views.queries {
        let relation = views.relation(target, query);
        match adapter.relation(&relation)? {
            Some(live) if is_same_kind(&live, views, target) => views.modify(adapter, &live, &query.query)?,
            other => {
                if let Some(other) = other {
                    adapter.drop_relation(&other.relation)?;
                }
                views.create(adapter, &relation, target, &query.query)?;
            }
        }
    }
    Ok(())
}

/// Makes a view that writes into a table which is there already, and adds what the sources held before.
///
/// What others write into that table cannot be told from what the view writes, so nothing of the view's may have to be taken
/// back. Therefore a second view begins alone, into a table of its own, which notes when each insert started; it is made
/// again until nothing arrived in that moment, and the rows that were there before are collected by their parts. The view
/// proper counts inserts that start from a second on which is yet to come; what the other one saw of earlier inserts is
/// added, and it goes. Where nobody else can write, where rows come from queues, which are detached meanwhile, or where the
/// server does not tell when an insert started, one view is enough.
pub(super) fn deploy_into(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
    relation: &Relation,
    existing: Option<&RelationInfo>,
    target: &RelationInfo,
    attached: Attached,
) -> Result<Option<u64>, MaterializeError> {
    let Some(ViewQuery { query, .. }) = views.queries.first() else { return Ok(Some(0)) };
    let (catches_up, sources) = sources_to_read(model, adapter, views)?;
    if let Some(existing) = existing.filter(|live| is_same_kind(live, views, &target.relation))
        && reads_stream(adapter, query)?
    {
        // While it is away, other views of the stream would go on taking rows out; and there is nothing to read anew.
        views.modify(adapter, existing, query)?;
        return Ok(Some(0));
    }
    if let Some(existing) = existing {
        adapter.drop_relation(&existing.relation)?;
    }
    let tables = Tables::of(model.relation, model.invocation);
    with_merges_stopped(model, adapter, sources, |adapter, sources| {
        if sources.is_empty() {
            views.create(adapter, relation, &target.relation, query)?;
            // What arrives from here on is in the view's hands; a source without parts is read as it is.
            return if catches_up { views.catch_up(adapter, &target.relation, query, &[]) } else { Ok(Some(0)) };
        }
        tables.create_collecting(adapter, target)?;
        let alone = adapter.capabilities().sole_writer;
        // Those of queues do not tell; they are not under way while these are detached.
        let apart = !alone && sources.queues().is_empty() && tells_when_inserts_started(adapter)?;
        let mut seen = BTreeSet::new();
        let mut rows = read_new(adapter, views, sources, &[&tables.collecting], &mut seen)?;
        with_queues_detached(model, adapter, sources, attached, |adapter| {
            let patience = Patience::new();
            loop {
                let more = collect(adapter, views, sources, &[&tables.collecting], &mut seen)?;
                rows = rows.zip(more).map(|(rows, more)| rows + more);
                if apart {
                    tables.create_noting(adapter, views, target, query)?;
                } else {
                    adapter.rename(&[(&tables.collecting, &tables.complete)])?;
                    views.create(adapter, relation, &target.relation, query)?;
                }
                if !sources.have_more(adapter, &seen)? {
                    break;
                }
                if apart {
                    tables.drop_noting(adapter)?;
                } else {
                    // The view may have seen what arrived just now; it is read again rather than missed.
                    tracing::warn!(%relation, "rows arrived while the view was made: some may be in {} twice", target.relation);
                    adapter.drop_relation(relation)?;
                    adapter.rename(&[(&tables.complete, &tables.collecting)])?;
                }
                if patience.is_over() {
                    adapter.drop_relation(&tables.collecting)?;
                    return Err(never_quiet(sources, relation));
                }
            }
            if apart {
                adapter.rename(&[(&tables.collecting, &tables.complete)])?;
                let from = create_from_a_second_on(adapter, views, relation, target, query)?;
                let noted = tables.put_together(adapter, sources, target, from)?;
                rows = rows.map(|rows| rows + noted);
                if let Some(view) = adapter.relation(relation)? {
                    views.modify(adapter, &view, query)?;
                }
            } else {
                put_rows(adapter, target, &tables.complete)?;
            }
            Ok(rows)
        })
    })
}

/// The column of the second at which an insert started.
const STARTED: &str = "__chpipe_started";
/// The second at which the insert that a view sees has started.
const START_OF_INSERT: &str = "toUnixTimestamp(initialQueryStartTime())";
/// Ends the name of the table of rows with the times of their inserts.
const NOTED: &str = "noted";

fn tells_when_inserts_started(adapter: &mut Adapter) -> Result<bool, MaterializeError> {
    Ok(adapter.number("SELECT count() FROM system.functions WHERE name = 'initialQueryStartTime'")? > 0)
}

fn server_time(adapter: &mut Adapter) -> Result<u64, MaterializeError> {
    Ok(adapter.number("SELECT toUnixTimestamp(now())")?)
}

/// The view proper, which passes over inserts that start before a second that is yet to come; answers that second.
fn create_from_a_second_on(
    adapter: &mut Adapter,
    views: &Views<'_>,
    relation: &Relation,
    target: &RelationInfo,
    query: &str,
) -> Result<u64, MaterializeError> {
    let mut ahead = 2;
    loop {
        let from = server_time(adapter)? + ahead;
        let gated = format!("SELECT * FROM (\n{}\n) WHERE {START_OF_INSERT} >= {from}", query.trim_end());
        views.create(adapter, relation, &target.relation, &gated)?;
        if server_time(adapter)? < from {
            return Ok(from);
        }
        tracing::warn!(%relation, "the server took {ahead} seconds to make the view: some rows may be in {} twice", target.relation);
        adapter.drop_relation(relation)?;
        ahead *= 4;
    }
}

/// The second that a view which was made by [`create_from_a_second_on`] waits for.
fn second_of(view: &RelationInfo) -> Option<u64> {
    let gate = pattern(&format!(r"WHERE {} >= (\d+)", regex::escape(START_OF_INSERT))).ok()?;
    gate.captures(&view.as_select)?.get(1)?.as_str().parse().ok()
}

/// The tables of a deployment into another model's table.
struct Tables {
    /// What the sources held, while it is read.
    collecting: Relation,
    /// The same when it is whole.
    complete: Relation,
    /// What the first view saw, with [`STARTED`].
    noted: Relation,
    noting_view: Relation,
    /// What of it the view proper does not see, while it is written and when it is whole.
    earlier: Relation,
    earlier_complete: Relation,
}

impl Tables {
    fn of(relation: &Relation, invocation: &str) -> Self {
        let temporary = |purpose: &str| temporary_relation(relation, invocation, purpose);
        let mut noting_view = temporary("noting_mv");
        noting_view.kind = Some(RelationKind::MaterializedView);
        Self {
            collecting: temporary("collecting"),
            complete: temporary(COMPLETE),
            noted: temporary(NOTED),
            noting_view,
            earlier: temporary("earlier"),
            earlier_complete: temporary(&format!("earlier_{COMPLETE}")),
        }
    }

    fn create_collecting(&self, adapter: &mut Adapter, target: &RelationInfo) -> Result<(), MaterializeError> {
        adapter.drop_relation(&self.complete)?;
        create_like(adapter, &self.collecting, target)
    }

    /// The first view, and the table it writes into: the columns that query and target have in common, and the time.
    fn create_noting(
        &self,
        adapter: &mut Adapter,
        views: &Views<'_>,
        target: &RelationInfo,
        query: &str,
    ) -> Result<(), MaterializeError> {
        let queried = adapter.query_columns(query, &[])?;
        let mut columns: Vec<ColumnInfo> = adapter.columns(&target.relation)?;
        columns.retain(|column| column.is_insertable() && queried.iter().any(|queried| queried.name == column.name));
        columns.push(ColumnInfo::new(STARTED, "UInt32"));
        adapter.drop_relation(&self.noted)?;
        create_table(adapter, &self.noted, &TableSpec::plain(&columns, "MergeTree"))?;
        let noting = format!("SELECT *, {START_OF_INSERT} AS {STARTED} FROM (\n{}\n)", query.trim_end());
        views.create(adapter, &self.noting_view, &self.noted, &noting)
    }

    /// The view first: an insert that has no target fails.
    fn drop_noting(&self, adapter: &mut Adapter) -> Result<(), MaterializeError> {
        adapter.drop_relation(&self.noting_view)?;
        Ok(adapter.drop_relation(&self.noted)?)
    }

    /// Adds to the target what it held before the view proper, which sees what starts `from` a second on. Doing it again adds
    /// nothing where partitions can be moved. Answers how many rows the first view had seen.
    fn put_together(
        &self,
        adapter: &mut Adapter,
        sources: &Sources,
        target: &RelationInfo,
        from: u64,
    ) -> Result<u64, MaterializeError> {
        let patience = Patience::new();
        while server_time(adapter)? <= from || sources.under_way(adapter, Some(from))? > 0 {
            if patience.is_over() {
                return Err(MaterializeError::Unsupported(format!(
                    "an insert into {} does not end; the next run of the model goes on from here",
                    sources.tables().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut rows = 0;
        if adapter.relation(&self.earlier_complete)?.is_none() {
            create_like(adapter, &self.earlier, target)?;
            let names: Vec<String> = adapter
                .columns(&self.noted)?
                .into_iter()
                .map(|column| column.name)
                .filter(|name| name != STARTED)
                .collect();
            let query = build::select_from(&format!("SELECT * FROM {} WHERE {STARTED} < {from}", self.noted), &names);
            insert_query(adapter, &self.earlier, &names, &query, &[])?;
            rows = adapter.count(&self.earlier)?;
            adapter.rename(&[(&self.earlier, &self.earlier_complete)])?;
        }
        self.drop_noting(adapter)?;
        for whole in [&self.complete, &self.earlier_complete] {
            put_rows(adapter, target, whole)?;
        }
        Ok(rows)
    }
}

/// An empty table of the target's columns, and of its layout where whole partitions can be moved into it.
fn create_like(adapter: &mut Adapter, relation: &Relation, target: &RelationInfo) -> Result<(), MaterializeError> {
    adapter.drop_relation(relation)?;
    let engine = if takes_partitions(adapter, target)? { None } else { Some("MergeTree ORDER BY tuple()") };
    let like = json!({"relation": relation.render(), "like": target.relation.render(), "engine": engine});
    adapter.run_ddl("materialize/create_table_as.sql", like)?;
    Ok(())
}

/// The tables that a view reads, by ClickHouse's own record.
fn sources_of(adapter: &mut Adapter, view: &Relation) -> Result<Sources, MaterializeError> {
    let tables = super::arrivals::tables_of(adapter, view)?;
    Sources::of(adapter, tables)
}

/// Reads into each of the tables what the sources hold and `seen` does not. Answers the rows of one table.
fn read_new(
    adapter: &mut Adapter,
    views: &Views<'_>,
    sources: &Sources,
    tables: &[&Relation],
    seen: &mut BTreeSet<Part>,
) -> Result<Option<u64>, MaterializeError> {
    let read = |adapter: &mut Adapter, filter: &[String]| -> Result<Option<u64>, MaterializeError> {
        let mut rows = Some(0);
        for table in tables {
            rows = Some(0);
            for query in &views.queries {
                let written = views.catch_up(adapter, table, &query.query, filter)?;
                rows = rows.zip(written).map(|(rows, written)| rows + written);
            }
        }
        Ok(rows)
    };
    if sources.is_empty() {
        return read(adapter, &[]);
    }
    let new: Vec<Part> = sources.parts(adapter)?.into_iter().filter(|part| !seen.contains(part)).collect();
    if new.is_empty() {
        return Ok(Some(0));
    }
    let rows = read(adapter, &sources.filter(&new))?;
    seen.extend(new);
    Ok(rows)
}

/// The same until nothing new comes and no insert is under way.
fn collect(
    adapter: &mut Adapter,
    views: &Views<'_>,
    sources: &Sources,
    tables: &[&Relation],
    seen: &mut BTreeSet<Part>,
) -> Result<Option<u64>, MaterializeError> {
    if sources.is_empty() {
        return read_new(adapter, views, sources, tables, seen);
    }
    let mut rows = Some(0);
    let patience = Patience::new();
    while !patience.is_over() {
        let known = seen.len();
        let more = read_new(adapter, views, sources, tables, seen)?;
        rows = rows.zip(more).map(|(rows, more)| rows + more);
        if seen.len() > known {
            continue;
        }
        if sources.under_way(adapter, None)? == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(rows)
}

/// Whether an existing view can become the wanted one by MODIFY QUERY and MODIFY REFRESH.
fn is_same_kind(live: &RelationInfo, views: &Views<'_>, target: &Relation) -> bool {
    let appends = views.refresh.as_deref().is_some_and(|clause| clause.ends_with(" APPEND"));
    live.kind() == RelationKind::MaterializedView
        && live.is_refreshable() == views.refresh.is_some()
        && live.refresh_appends() == appends
        && live.target().is_some_and(|live| live.render() == target.render())
}
