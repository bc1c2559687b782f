//! `materialized_view`: a target table of the model's name and one or more views `<name>_mv` that write into it, or a view
//! alone that writes into another model's table. Views are changed in place (MODIFY QUERY), so nothing inserted meanwhile
//! is missed; where one has to be made, it is made before the rows that are already there are read.

mod arrivals;
mod deploy;
mod queues;

use regex::Regex;
use serde_json::{Value, json};

pub use arrivals::{is_note_of_stops, start_stopped};
pub use deploy::recover;

use super::{
    Materialization, MaterializeError, Model, Outcome, build, build::insert_query, in_place, schema_change, view,
};
use crate::{
    adapter::{Adapter, RelationInfo, settings_list},
    engine::quote_string,
    project::{Relation, RelationKind},
};
use deploy::{deploy, deploy_into};
use queues::{Attached, attached};

pub(super) struct MaterializedView;

impl Materialization for MaterializedView {
    fn name(&self) -> &'static str {
        "materialized_view"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let attached = attached();
        match external_target(model.sql)? {
            Some(target) => into_external_target(model, adapter, &target, attached),
            None => into_own_target(model, adapter, attached),
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
    attached: Attached,
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
            rows = deploy_into(model, adapter, &views, &relation, existing.as_ref(), &target, attached)?;
        }
    }
    Ok(Outcome::of(&relation, rows))
}

/// The model makes the target table too.
fn into_own_target(model: &Model<'_>, adapter: &mut Adapter, attached: Attached) -> Result<Outcome, MaterializeError> {
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
            outcome.rows = deploy(model, adapter, &views, &target, existing.as_ref(), attached)?;
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
pub(super) fn reads_stream(adapter: &mut Adapter, query: &str) -> Result<bool, MaterializeError> {
    match adapter.query_columns(query, &[]) {
        Ok(_) => Ok(false),
        // QUERY_NOT_ALLOWED.
        Err(error) if error.code() == Some(620) => Ok(true),
        // Whoever needs the columns says what is wrong with it.
        Err(error) if error.code().is_some() => Ok(false),
        Err(error) => Err(error.into()),
    }
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
