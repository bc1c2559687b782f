//! Materialized views over a table whose columns were renamed: a view that goes on reading the old name fails every insert
//! into the table. In: a session, the renames; out: the queries that the views have to have. It changes nothing.

use crate::{
    engine::{Session, quote_string},
    schema::{MaterializedView, Relation, SchemaObject, parse_create, rename_in_query},
};

use super::{
    MigrateError,
    plan::Renames,
    rows::{rows, text},
};

/// The view of this name; `None` where there is none, or something else.
pub(super) fn materialized_view(
    session: &mut dyn Session,
    name: &Relation,
) -> Result<Option<MaterializedView>, MigrateError> {
    let sql = format!(
        "SELECT create_table_query FROM system.tables WHERE database = {} AND name = {}",
        quote_string(&name.database),
        quote_string(&name.name)
    );
    let found = rows(session, &sql)?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(match parse_create(text(row, 0)) {
        Ok(SchemaObject::MaterializedView(view)) => Some(view),
        _ => None,
    })
}

/// The query of a view after renames; `None` where it reads none of the columns.
pub(super) fn query_after(view: &MaterializedView, renames: &[(String, String)]) -> Option<String> {
    let query = renames.iter().fold(view.query.clone(), |query, (from, to)| rename_in_query(&query, from, to));
    (query != view.query).then_some(query)
}

/// Views that still read the old names of those renames that have taken place, with the queries they have to have.
pub(super) fn left_behind(
    session: &mut dyn Session,
    renames: &Renames,
) -> Result<Vec<(Relation, String)>, MigrateError> {
    let (database, name) = (quote_string(&renames.table.database), quote_string(&renames.table.name));
    let sql = format!("SELECT name FROM system.columns WHERE database = {database} AND table = {name}");
    let columns: Vec<String> = rows(session, &sql)?.iter().map(|row| text(row, 0).to_owned()).collect();
    let done: Vec<(String, String)> =
        renames.columns.iter().filter(|(from, to)| columns.contains(to) && !columns.contains(from)).cloned().collect();
    if done.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT view_database, view_name FROM system.tables ARRAY JOIN dependencies_database AS view_database, \
         dependencies_table AS view_name WHERE database = {database} AND name = {name}"
    );
    let dependents: Vec<Relation> =
        rows(session, &sql)?.iter().map(|row| Relation::new(text(row, 0), text(row, 1))).collect();
    let mut views = Vec::new();
    for dependent in dependents {
        let Some(view) = materialized_view(session, &dependent)? else { continue };
        if let Some(query) = query_after(&view, &done) {
            views.push((dependent, query));
        }
    }
    Ok(views)
}
