//! `materialized_view`: a target table of the model's name and one or more views `<name>_mv` that write into it, or a view
//! alone that writes into another model's table. Views are changed in place (MODIFY QUERY), so nothing inserted meanwhile
//! is missed; where one has to be made, it is made before the rows that are already there are read.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use regex::Regex;
use serde_json::{Value, json};

use super::{
    Materialization, MaterializeError, Model, Outcome, TableSpec, build,
    build::{create_table, insert_query, temporary_relation},
    in_place,
    incremental::{copy_rows, link_partitions, move_partitions, takes_partitions},
    schema_change, view,
};
use crate::{
    adapter::{Adapter, AdapterError, RelationInfo, settings_list},
    engine::quote_string,
    interrupt::interrupted,
    project::{Relation, RelationKind},
};

pub(super) struct MaterializedView;

impl Materialization for MaterializedView {
    fn name(&self) -> &'static str {
        "materialized_view"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        match external_target(model.sql)? {
            Some(target) => into_external_target(model, adapter, &target),
            None => into_own_target(model, adapter),
        }
    }
}

/// One view of the model: the suffix of its name and its query.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ViewQuery {
    suffix: String,
    query: String,
}

/// Splits `--name:begin … --name:end` sections; without any, the whole is the view `mv`.
fn view_queries(sql: &str) -> Result<Vec<ViewQuery>, MaterializeError> {
    let begin = pattern(r"--\s?([^:\s]+):begin")?;
    let mut queries = Vec::new();
    for found in begin.captures_iter(sql) {
        let (Some(whole), Some(name)) = (found.get(0), found.get(1)) else { continue };
        let end = pattern(&format!(r"--\s?{}:end", regex::escape(name.as_str())))?;
        let rest = &sql[whole.end()..];
        let Some(end) = end.find(rest) else {
            let reason = format!("`--{0}:begin` has no `--{0}:end`", name.as_str());
            return Err(MaterializeError::config("materialized_view", reason));
        };
        queries.push(ViewQuery { suffix: name.as_str().to_owned(), query: rest[..end.start()].trim().to_owned() });
    }
    if queries.is_empty() {
        queries.push(ViewQuery { suffix: "mv".to_owned(), query: sql.trim().to_owned() });
    }
    Ok(queries)
}

/// `-- materialization_target_table: db.table`, which the macro of that name writes.
fn external_target(sql: &str) -> Result<Option<Relation>, MaterializeError> {
    let marker = pattern(r"(?m)--\s*materialization_target_table:\s*(.+?)\s*$")?;
    let Some(name) = marker.captures(sql).and_then(|found| found.get(1)).map(|name| name.as_str()) else {
        return Ok(None);
    };
    let parts: Vec<&str> =
        name.split('.').map(|part| part.trim().trim_matches(|c| matches!(c, '`' | '"' | '\''))).collect();
    match parts.as_slice() {
        [schema, identifier] => Ok(Some(Relation::new(*schema, *identifier))),
        _ => Err(MaterializeError::config(
            "materialization_target_table",
            format!("`{name}` is not of the form schema.table"),
        )),
    }
}

fn pattern(text: &str) -> Result<Regex, MaterializeError> {
    Regex::new(text).map_err(|error| MaterializeError::Unsupported(error.to_string()))
}

/// `REFRESH … [RANDOMIZE FOR …] [DEPENDS ON …] [APPEND]`, where the model is refreshable.
fn refresh_clause(model: &Model<'_>, adapter: &mut Adapter) -> Result<Option<String>, MaterializeError> {
    let config = match model.config().get("refreshable") {
        None | Some(Value::Bool(false)) => return Ok(None),
        Some(Value::Object(config)) => config,
        Some(_) => return Err(MaterializeError::config("refreshable", "it is a mapping with `interval`")),
    };
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let interval = text("interval").ok_or_else(|| MaterializeError::config("refreshable", "`interval` is missing"))?;
    let mut clause = format!("REFRESH {interval}");
    if let Some(randomize) = text("randomize") {
        clause.push_str(&format!(" RANDOMIZE FOR {randomize}"));
    }
    let depends_on: Vec<String> = match config.get("depends_on") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) if many.iter().all(Value::is_string) => {
            many.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(_) => {
            return Err(MaterializeError::config("refreshable", "`depends_on` is a text or a list of texts"));
        }
    };
    if config.get("depends_on_validation").and_then(Value::as_bool) == Some(true) {
        for dependency in &depends_on {
            let (database, name) = dependency.split_once('.').unwrap_or(("default", dependency));
            let sql = format!(
                "SELECT count() FROM system.view_refreshes WHERE database = {} AND view = {}",
                quote_string(database),
                quote_string(name)
            );
            if adapter.number(&sql)? == 0 {
                let reason = format!("`depends_on`: there is no refreshable view {dependency}");
                return Err(MaterializeError::config("refreshable", reason));
            }
        }
    }
    if !depends_on.is_empty() {
        clause.push_str(&format!(" DEPENDS ON {}", depends_on.join(", ")));
    }
    if config.get("append").and_then(Value::as_bool) == Some(true) {
        clause.push_str(" APPEND");
    }
    Ok(Some(clause))
}

/// What the views of one model have in common.
struct Views<'a> {
    model: &'a Model<'a>,
    queries: Vec<ViewQuery>,
    refresh: Option<String>,
    security: Option<String>,
    catchup: bool,
}

impl Views<'_> {
    /// The view of a query, beside the target.
    fn relation(&self, target: &Relation, query: &ViewQuery) -> Relation {
        let mut relation = target.with_identifier(format!("{}_{}", target.identifier, query.suffix));
        relation.kind = Some(RelationKind::MaterializedView);
        relation
    }

    fn create(
        &self,
        adapter: &mut Adapter,
        relation: &Relation,
        target: &Relation,
        query: &str,
    ) -> Result<(), MaterializeError> {
        let settings = settings_list(self.model.config().query_settings());
        let values = json!({
            "relation": relation.render(),
            "if_not_exists": false,
            "refresh": self.refresh,
            "target": target.render(),
            "security": self.security,
            "query": with_settings(query, &settings),
        });
        adapter.run_ddl("materialize/create_materialized_view.sql", values)?;
        Ok(())
    }

    /// Reads what is already in the sources. A refreshable view does that itself.
    fn catch_up(
        &self,
        adapter: &mut Adapter,
        target: &Relation,
        query: &str,
        filter: &[String],
    ) -> Result<Option<u64>, MaterializeError> {
        if !self.catchup || self.model.empty {
            return Ok(Some(0));
        }
        let mut settings = settings_list(self.model.config().query_settings());
        let columns = adapter.query_columns(query, &settings)?;
        settings.extend_from_slice(filter);
        let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        Ok(insert_query(adapter, target, &names, query, &settings)?.written_rows)
    }

    /// Gives an existing view its query and refresh parameters in place.
    fn modify(&self, adapter: &mut Adapter, existing: &RelationInfo, query: &str) -> Result<(), MaterializeError> {
        self.modify_refresh(adapter, existing)?;
        let settings = settings_list(self.model.config().query_settings());
        let values = json!({"relation": existing.relation.render(), "query": with_settings(query, &settings)});
        adapter.run_ddl("materialize/modify_query.sql", values)?;
        Ok(())
    }

    fn modify_refresh(&self, adapter: &mut Adapter, existing: &RelationInfo) -> Result<(), MaterializeError> {
        let name = &existing.relation.identifier;
        let refused = |reason: String| Err(MaterializeError::config("refreshable", reason));
        match (&self.refresh, existing.is_refreshable()) {
            (None, false) => Ok(()),
            (None, true) => refused(format!("`{name}` is refreshable; only --full-refresh makes it a plain view")),
            (Some(_), false) => refused(format!("`{name}` is a plain view; only --full-refresh makes it refreshable")),
            (Some(clause), true) if clause.ends_with(" APPEND") != existing.refresh_appends() => {
                refused(format!("APPEND of `{name}` cannot be changed in place; use --full-refresh"))
            }
            (Some(clause), true) => Ok(adapter.alter(&existing.relation, &[format!("MODIFY {clause}")])?),
        }
    }
}

fn with_settings(query: &str, settings: &[String]) -> String {
    if settings.is_empty() {
        query.trim_end().to_owned()
    } else {
        format!("{}\nSETTINGS {}", query.trim_end(), settings.join(", "))
    }
}

fn views<'a>(
    model: &'a Model<'a>,
    adapter: &mut Adapter,
    queries: Vec<ViewQuery>,
) -> Result<Views<'a>, MaterializeError> {
    Ok(Views {
        model,
        queries,
        refresh: refresh_clause(model, adapter)?,
        security: view::sql_security(model)?,
        catchup: model.config().bool("catchup").unwrap_or(true),
    })
}

/// The view writes into a table that another model makes.
fn into_external_target(
    model: &Model<'_>,
    adapter: &mut Adapter,
    target: &Relation,
) -> Result<Outcome, MaterializeError> {
    let query = model.sql.trim();
    let views = views(model, adapter, vec![ViewQuery { suffix: String::new(), query: query.to_owned() }])?;
    let Some(target) = adapter.relation(target)? else {
        let reason = format!("{target} does not exist; the model that makes it has to run before this one");
        return Err(MaterializeError::config("materialization_target_table", reason));
    };
    let mut relation = model.relation.clone();
    relation.kind = Some(RelationKind::MaterializedView);
    let existing = adapter.relation(&relation)?;
    let mut rows = Some(0);
    match existing {
        Some(existing) if existing.kind() == RelationKind::MaterializedView && !model.full_refresh => {
            if existing.target().is_some_and(|live| live.render() != target.relation.render()) {
                return Err(MaterializeError::NeedsRebuild {
                    relation,
                    what: "the target",
                    live: existing.target().map(|live| live.render()).unwrap_or_default(),
                    wanted: target.relation.render(),
                });
            }
            views.modify(adapter, &existing, query)?;
        }
        existing => {
            rows = deploy_into(model, adapter, &views, &relation, existing.as_ref(), &target)?;
        }
    }
    Ok(Outcome::of(&relation, rows))
}

/// The model makes the target table too.
fn into_own_target(model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
    let views = views(model, adapter, view_queries(model.sql)?)?;
    let mut target = model.relation.clone();
    target.kind = Some(RelationKind::Table);
    let existing = adapter.relation(&target)?;
    let mut outcome = Outcome::of(&target, Some(0));
    match existing {
        Some(existing) if existing.is_table() && !model.full_refresh => {
            let columns = target_columns(model, adapter, &views)?;
            let policy = model.config().on_schema_change();
            outcome.notes = schema_change::apply(model, adapter, &existing, &columns, "on_schema_change", policy)?;
            outcome.notes.extend(in_place::apply(model, adapter, &existing)?);
            for query in &views.queries {
                let relation = views.relation(&target, query);
                match adapter.relation(&relation)? {
                    Some(live) if live.kind() == RelationKind::MaterializedView => {
                        views.modify(adapter, &live, &query.query)?;
                    }
                    other => {
                        if let Some(other) = other {
                            adapter.drop_relation(&other.relation)?;
                        }
                        views.create(adapter, &relation, &target, &query.query)?;
                    }
                }
                outcome.relations.push(relation);
            }
            for view in feeding_views(adapter, &target)? {
                if !outcome.relations.iter().any(|relation| relation.render() == view.relation.render()) {
                    outcome
                        .notes
                        .push(format!("{} also writes into it and is none of the model's views", view.relation));
                }
            }
        }
        existing => {
            outcome.rows = deploy(model, adapter, &views, &target, existing.as_ref())?;
            outcome.relations.extend(views.queries.iter().map(|query| views.relation(&target, query)));
        }
    }
    Ok(outcome)
}

/// The columns of the target: those of the first query.
fn target_columns(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
) -> Result<Vec<crate::adapter::ColumnInfo>, MaterializeError> {
    let Some(first) = views.queries.first() else { return Ok(Vec::new()) };
    let stream = if reads_stream(adapter, &first.query)? { &[FROM_STREAM][..] } else { &[] };
    let first = Model { sql: &first.query, ..*model };
    build::query_columns_with(&first, adapter, stream)
}

/// Lets a query name an S3Queue, Kafka or the like; to describe it reads nothing.
const FROM_STREAM: &str = "stream_like_engine_allow_direct_select = 1";

/// Whether the query reads a table that hands out each row once, to its views.
fn reads_stream(adapter: &mut Adapter, query: &str) -> Result<bool, MaterializeError> {
    match adapter.query_columns(query, &[]) {
        Ok(_) => Ok(false),
        // QUERY_NOT_ALLOWED.
        Err(error) if error.code() == Some(620) => Ok(true),
        // Whoever needs the columns says what is wrong with it.
        Err(error) if error.code().is_some() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

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

/// Ends the name of the table that is there while merges are stopped; its comment says of which tables.
const MERGES: &str = "merges";

/// A part of a source.
type Part = (Relation, String);

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
    for leftover in leftovers {
        if leftover.identifier.ends_with(SWITCHING) {
            again.push(leftover.clone());
        } else if leftover.identifier.ends_with(COMPLETE) {
            // Without the view the rows are read anew.
            let view = adapter.relation(model.relation)?.filter(|view| view.kind() == RelationKind::MaterializedView);
            let target = view.and_then(|view| view.target());
            let target = target.map(|target| adapter.relation(&target)).transpose()?.flatten();
            if let Some(target) = target {
                put_rows(adapter, &target, leftover)?;
            }
        }
    }
    Ok(again)
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

/// An empty table of the invocation's own whose being there, and whose comment, tell the next one something.
fn make_note(adapter: &mut Adapter, note: &Relation, comment: &str) -> Result<(), MaterializeError> {
    adapter.drop_relation(note)?;
    let cluster = adapter.on_cluster();
    adapter.execute(&format!("CREATE TABLE {note}{cluster} (note UInt8) ENGINE = Memory COMMENT {comment}"))?;
    Ok(())
}

/// Whether a leftover is the note of a process that ended while it had merges stopped.
pub fn has_merges_stopped(leftover: &Relation) -> bool {
    leftover.identifier.ends_with(MERGES)
}

/// Starts the merges that a process stopped which has ended since: a server keeps them stopped until it is told otherwise.
///
/// # Errors
/// The warehouse cannot be asked, or the note cannot be dropped.
pub fn start_merges(adapter: &mut Adapter, note: &Relation) -> Result<(), AdapterError> {
    if let Some(info) = adapter.relation(note)? {
        let tables: Vec<(String, String)> = serde_json::from_str(&info.comment).unwrap_or_default();
        for (schema, identifier) in tables {
            let table = Relation::new(schema, identifier);
            if let Err(error) = adapter.execute(&format!("SYSTEM START MERGES {table}")) {
                // It may be gone by now.
                tracing::warn!(%table, %error, "its merges could not be started");
            }
        }
    }
    adapter.drop_relation(note)
}

/// Does the work with the merges of these tables stopped, so that parts keep their names. Without the right to stop them,
/// no table is passed on: what is there is then read as it is.
fn with_merges_stopped<R>(
    model: &Model<'_>,
    adapter: &mut Adapter,
    mut sources: Vec<Relation>,
    work: impl FnOnce(&mut Adapter, &[Relation]) -> Result<R, MaterializeError>,
) -> Result<R, MaterializeError> {
    let note = temporary_relation(model.relation, model.invocation, MERGES);
    let noted = !sources.is_empty();
    if noted {
        let tables: Vec<_> = sources.iter().map(|source| [&source.schema, &source.identifier]).collect();
        make_note(adapter, &note, &quote_string(&json!(tables).to_string()))?;
    }
    let mut stopped = Vec::new();
    let mut failed = None;
    for source in &sources {
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
            sources.clear();
            work(adapter, &sources)
        }
        Some(error) => Err(error.into()),
    };
    for source in &stopped {
        // The source's own merges must go on whatever became of the model.
        let _ = adapter.execute(&format!("SYSTEM START MERGES {source}"));
    }
    if noted {
        adapter.drop_relation(&note)?;
    }
    result
}

fn never_quiet(sources: &[Relation], target: &Relation) -> MaterializeError {
    MaterializeError::Unsupported(format!(
        "rows are inserted into {} all the time, so {target} could not be made without missing or doubling some; pause the inserts for a second",
        sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    ))
}

/// Makes the target aside, with what the sources hold, and puts it in place; no row is missed and none counted twice.
///
/// The rows to read are named by the parts they are in, with merges stopped, so that what was read is known exactly. The
/// switch (target and views in place) is over in milliseconds; if a part arrived or an insert was under way meanwhile,
/// nobody can tell which views saw it, and the switch is done again, with another copy of what was collected: parts are
/// linked, so that only what is new has to be read. A process that ends within the switch leaves a mark, and the next run
/// does the whole again.
fn deploy(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
    target: &Relation,
    existing: Option<&RelationInfo>,
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
            rows = collect(adapter, views, sources, &[&collected], &mut seen)?;
        }
        let mut existing = existing.cloned();
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
            if !has_arrived(adapter, sources, &seen)? {
                break;
            }
            if patience.is_over() {
                return Err(never_quiet(sources, target));
            }
            existing = adapter.relation(target)?;
        }
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
) -> Result<(bool, Vec<Relation>), MaterializeError> {
    if views.refresh.is_some() || !views.catchup || model.empty {
        return Ok((false, Vec::new()));
    }
    for query in &views.queries {
        // Nothing has been in a stream before, and a view that exists for a moment would take rows out of it.
        if reads_stream(adapter, &query.query)? {
            tracing::warn!(relation = %model.relation, "it holds what its stream hands out from now on");
            return Ok((false, Vec::new()));
        }
    }
    Ok((true, trigger_tables(model, adapter, views)?))
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

/// Makes a view that writes into a table which is there already, and adds what the sources held before. The rows are
/// collected aside first, by the parts they are in; once the view is there they are moved in.
fn deploy_into(
    model: &Model<'_>,
    adapter: &mut Adapter,
    views: &Views<'_>,
    relation: &Relation,
    existing: Option<&RelationInfo>,
    target: &RelationInfo,
) -> Result<Option<u64>, MaterializeError> {
    let Some(view) = views.queries.first() else { return Ok(Some(0)) };
    let (catches_up, sources) = sources_to_read(model, adapter, views)?;
    if let Some(existing) = existing {
        adapter.drop_relation(&existing.relation)?;
    }
    let collecting = temporary_relation(model.relation, model.invocation, "collecting");
    let complete = temporary_relation(model.relation, model.invocation, COMPLETE);
    with_merges_stopped(model, adapter, sources, |adapter, sources| {
        if sources.is_empty() {
            views.create(adapter, relation, &target.relation, &view.query)?;
            // What arrives from here on is in the view's hands; a source without parts is read as it is.
            return if catches_up { views.catch_up(adapter, &target.relation, &view.query, &[]) } else { Ok(Some(0)) };
        }
        adapter.drop_relation(&collecting)?;
        adapter.drop_relation(&complete)?;
        let engine = if takes_partitions(adapter, target)? { None } else { Some("MergeTree ORDER BY tuple()") };
        let like = json!({"relation": collecting.render(), "like": target.relation.render(), "engine": engine});
        adapter.run_ddl("materialize/create_table_as.sql", like)?;
        let mut seen = BTreeSet::new();
        let mut rows = Some(0);
        let patience = Patience::new();
        loop {
            let more = collect(adapter, views, sources, &[&collecting], &mut seen)?;
            rows = rows.zip(more).map(|(rows, more)| rows + more);
            adapter.rename(&[(&collecting, &complete)])?;
            views.create(adapter, relation, &target.relation, &view.query)?;
            if !has_arrived(adapter, sources, &seen)? {
                put_rows(adapter, target, &complete)?;
                return Ok(rows);
            }
            // The view may have seen what arrived just now; it is read again rather than missed.
            tracing::warn!(%relation, "rows arrived while the view was made: some may be in {} twice", target.relation);
            adapter.drop_relation(relation)?;
            adapter.rename(&[(&complete, &collecting)])?;
            if patience.is_over() {
                adapter.drop_relation(&collecting)?;
                return Err(never_quiet(sources, relation));
            }
        }
    })
}

/// Reads into each of the tables what the sources hold and `seen` does not, until nothing new comes and no insert is under
/// way. Answers the rows of one table.
fn collect(
    adapter: &mut Adapter,
    views: &Views<'_>,
    sources: &[Relation],
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
    let mut rows = Some(0);
    for _ in 0..1_000 {
        let new: Vec<Part> = active_parts(adapter, sources)?.into_iter().filter(|part| !seen.contains(part)).collect();
        if new.is_empty() && inserts_under_way(adapter, sources)? == 0 {
            break;
        }
        if new.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(20));
            continue;
        }
        let more = read(adapter, &part_filter(sources, &new))?;
        rows = rows.zip(more).map(|(rows, more)| rows + more);
        seen.extend(new);
    }
    Ok(rows)
}

/// Whether an insert is under way, or has left a part that was not read.
fn has_arrived(adapter: &mut Adapter, sources: &[Relation], seen: &BTreeSet<Part>) -> Result<bool, MaterializeError> {
    Ok(inserts_under_way(adapter, sources)? > 0
        || active_parts(adapter, sources)?.iter().any(|part| !seen.contains(part)))
}

/// Whether an existing view can become the wanted one by MODIFY QUERY and MODIFY REFRESH.
fn is_same_kind(live: &RelationInfo, views: &Views<'_>, target: &Relation) -> bool {
    let appends = views.refresh.as_deref().is_some_and(|clause| clause.ends_with(" APPEND"));
    live.kind() == RelationKind::MaterializedView
        && live.is_refreshable() == views.refresh.is_some()
        && live.refresh_appends() == appends
        && live.target().is_some_and(|live| live.render() == target.render())
}

/// The tables whose inserts the views see, as ClickHouse itself finds them: from views that exist for a moment. Only of the
/// MergeTree family, since others have no parts to name.
fn trigger_tables(
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
    let spec = TableSpec {
        columns: columns
            .iter()
            .map(|column| super::ColumnSpec {
                name: column.quoted(),
                data_type: column.data_type.clone(),
                ..super::ColumnSpec::default()
            })
            .collect(),
        engine: "Null".to_owned(),
        ..TableSpec::default()
    };
    create_table(adapter, &target, &spec)?;
    let mut sources = BTreeSet::new();
    for query in &views.queries {
        views.create(adapter, &probe, &target, &query.query)?;
        let sql = format!(
            "SELECT database, name FROM system.tables WHERE arrayExists((d, t) -> d = {} AND t = {}, dependencies_database, \
             dependencies_table) AND engine LIKE '%MergeTree'",
            quote_string(&probe.schema),
            quote_string(&probe.identifier)
        );
        for row in adapter.rows(&sql)? {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            sources.insert(Relation::new(values.next().unwrap_or_default(), values.next().unwrap_or_default()));
        }
        adapter.drop_relation(&probe)?;
    }
    adapter.drop_relation(&target)?;
    Ok(sources.into_iter().collect())
}

fn active_parts(adapter: &mut Adapter, sources: &[Relation]) -> Result<Vec<Part>, MaterializeError> {
    let mut parts = Vec::new();
    for source in sources {
        let sql = format!(
            "SELECT name FROM system.parts WHERE active AND database = {} AND table = {}",
            quote_string(&source.schema),
            quote_string(&source.identifier)
        );
        parts.extend(adapter.rows(&sql)?.into_iter().flatten().flatten().map(|name| (source.clone(), name)));
    }
    Ok(parts)
}

/// Inserts into one of the tables that have not ended. What only reads them does not count.
fn inserts_under_way(adapter: &mut Adapter, sources: &[Relation]) -> Result<u64, MaterializeError> {
    if sources.is_empty() {
        return Ok(0);
    }
    let conditions: Vec<String> = sources
        .iter()
        .map(|source| {
            let (schema, identifier) = (regex::escape(&source.schema), regex::escape(&source.identifier));
            let pattern = format!(
                "(?i)insert\\s+into\\s+(table\\s+)?([`\"]?{schema}[`\"]?\\.)?[`\"]?{identifier}[`\"]?(\\s|\\(|$)"
            );
            format!("match(query, {})", quote_string(&pattern))
        })
        .collect();
    let sql = format!(
        "SELECT count() FROM system.processes WHERE query_kind IN ('Insert', 'AsyncInsertFlush') AND ({})",
        conditions.join(" OR ")
    );
    Ok(adapter.number(&sql)?)
}

/// The setting that makes a query see these parts of the tables alone.
fn part_filter(sources: &[Relation], parts: &[Part]) -> Vec<String> {
    let filters: Vec<String> = sources
        .iter()
        .map(|source| {
            let names: Vec<String> =
                parts.iter().filter(|(of, _)| of == source).map(|(_, name)| quote_string(name)).collect();
            let condition = if names.is_empty() { "0".to_owned() } else { format!("_part IN ({})", names.join(", ")) };
            format!(
                "{}: {}",
                quote_string(&format!("{}.{}", source.schema, source.identifier)),
                quote_string(&condition)
            )
        })
        .collect();
    vec![format!("additional_table_filters = {{{}}}", filters.join(", "))]
}

/// The views that write into a table, by ClickHouse's own record.
fn feeding_views(adapter: &mut Adapter, table: &Relation) -> Result<Vec<RelationInfo>, MaterializeError> {
    let sql = format!(
        "SELECT database, name FROM system.tables WHERE engine = 'MaterializedView' AND position(create_table_query, {}) > 0",
        quote_string(&table.identifier)
    );
    let mut views = Vec::new();
    for row in adapter.rows(&sql)? {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let relation = Relation::new(values.next().unwrap_or_default(), values.next().unwrap_or_default());
        if let Some(view) = adapter.relation(&relation)?
            && view.target().is_some_and(|target| target.render() == table.render())
        {
            views.push(view);
        }
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_split_the_model_into_views() {
        let one = view_queries("select 1 -- the end: begin\n").unwrap();
        assert_eq!(one, [ViewQuery { suffix: "mv".into(), query: "select 1 -- the end: begin".into() }]);
        let two = view_queries("--a:begin\nselect 1\n--a:end\nunion all\n-- b:begin\nselect 2\n-- b:end\n").unwrap();
        assert_eq!(
            two,
            [
                ViewQuery { suffix: "a".into(), query: "select 1".into() },
                ViewQuery { suffix: "b".into(), query: "select 2".into() }
            ]
        );
        assert!(view_queries("--a:begin\nselect 1").is_err());
    }

    #[test]
    fn the_target_stands_in_a_comment() {
        let sql = "-- materialization_target_table: `d`.`t`\nselect 1";
        assert_eq!(external_target(sql).unwrap(), Some(Relation::new("d", "t")));
        assert_eq!(external_target("select 1").unwrap(), None);
        assert!(external_target("-- materialization_target_table: t").is_err());
    }
}
