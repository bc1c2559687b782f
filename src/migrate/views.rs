//! Views over a table whose columns were renamed: a materialized view that goes on reading the old name fails every insert
//! into the table, a plain one every SELECT from it. In: a session, the renames; out: the statements after which the views
//! read the new names and have the columns they had. It changes nothing.

use crate::{
    ddl::Templates,
    engine::{Session, quote_string},
    schema::{Relation, SchemaObject, View, keywords, parse_create, rename_in_query},
};

use super::{
    MigrateError,
    plan::Renames,
    rows::{rows, text},
};

/// A view that has to follow a rename.
pub(super) struct ViewChange {
    pub(super) view: Relation,
    pub(super) sql: String,
}

/// The statement that gives a materialized view another query.
pub(super) fn modify_query(templates: &Templates, view: &Relation, query: &str) -> Result<String, MigrateError> {
    Ok(templates.alter(view, &[format!("MODIFY QUERY {query}")])?)
}

/// What follows these renames, materialized views first: until they are changed inserts fail. All views of the server are
/// looked at, whoever made them.
///
/// # Errors
/// A view that reads a renamed column cannot be changed by itself.
pub(super) fn that_follow(
    session: &mut dyn Session,
    templates: &Templates,
    renames: &Renames,
) -> Result<Vec<ViewChange>, MigrateError> {
    let mut changes = Vec::new();
    if renames.columns.is_empty() {
        return Ok(changes);
    }
    let sql = "SELECT create_table_query FROM system.tables WHERE engine IN ('View', 'MaterializedView') AND database NOT \
               IN ('system', 'INFORMATION_SCHEMA', 'information_schema') ORDER BY engine = 'View', database, name";
    for row in rows(session, sql)? {
        let create = text(&row, 0);
        // Whatever chpipe cannot read it cannot have made; it may read the table all the same, which nobody can tell.
        let (name, query) = match parse_create(create) {
            Ok(SchemaObject::MaterializedView(view)) => (view.name, view.query),
            Ok(SchemaObject::View(view)) => (view.name, view.query),
            _ => continue,
        };
        let by_hand = |reason: String| MigrateError::Unsafe {
            object: renames.table.plain(),
            reason: format!("the view {} reads a renamed column, and {reason}", name.plain()),
            hint: Some(format!("drop {} or write it without that column, then run again", name.plain())),
        };
        let Some(query) =
            rename_in_query(&query, &renames.table, &renames.columns).map_err(|error| by_hand(error.reason))?
        else {
            continue;
        };
        let sql = match parse_create(create) {
            Ok(SchemaObject::View(view)) => {
                let head: Vec<String> =
                    keywords(create, usize::MAX).into_iter().take_while(|word| word != "AS").collect();
                if head.windows(2).any(|words| words == ["SQL", "SECURITY"]) {
                    return Err(by_hand("whose rights it has would be lost if it were made anew".into()));
                }
                templates.create(&SchemaObject::View(View { query, ..view }))?
            }
            _ => modify_query(templates, &name, &query)?,
        };
        changes.push(ViewChange { view: name, sql });
    }
    Ok(changes)
}

/// Of these renames those that have taken place.
pub(super) fn that_took_place(session: &mut dyn Session, renames: &Renames) -> Result<Renames, MigrateError> {
    let (database, name) = (quote_string(&renames.table.database), quote_string(&renames.table.name));
    let sql = format!("SELECT name FROM system.columns WHERE database = {database} AND table = {name}");
    let found = rows(session, &sql)?;
    let has = |column: &String| found.iter().any(|row| text(row, 0) == column);
    let columns = renames.columns.iter().filter(|(from, to)| has(to) && !has(from)).cloned().collect();
    Ok(Renames { table: renames.table.clone(), columns })
}
