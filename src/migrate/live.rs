//! The warehouse as it is: databases, tables and views of the databases chpipe works in, read from the system tables. In:
//! a session; out: [`LiveObject`]s. It changes nothing.

use std::collections::BTreeMap;

use crate::{
    engine::{EngineError, QueryOptions, Session, quote_string},
    schema::{Relation, SchemaObject, parse_create},
};

use super::{
    MigrateError,
    collections::LiveCollection,
    rows::{number, rows, rows_with, text},
};

/// Everything a plan compares with.
#[derive(Debug, Clone, Default)]
pub struct Live {
    pub databases: Vec<String>,
    pub objects: BTreeMap<Relation, LiveObject>,
    /// The collections that DDL or configuration made; `None` where nobody asked or the server does not tell.
    pub named_collections: Option<BTreeMap<String, LiveCollection>>,
}

/// A table or view as the server describes it.
#[derive(Debug, Clone)]
pub struct LiveObject {
    pub object: SchemaObject,
    /// `create_table_query`, for the fingerprint.
    pub create_text: String,
    pub rows: u64,
    pub bytes: u64,
    /// Views that read from it.
    pub dependents: Vec<Relation>,
}

impl Live {
    /// Reads the objects of these databases.
    ///
    /// # Errors
    /// The server cannot be asked, or describes an object in a way that chpipe cannot read.
    pub fn read(session: &mut dyn Session, databases: &[&str]) -> Result<Self, MigrateError> {
        let list: Vec<String> = databases.iter().map(|name| quote_string(name)).collect();
        let list = list.join(", ");
        let mut live = Self {
            databases: rows(session, &format!("SELECT name FROM system.databases WHERE name IN ({list})"))?
                .iter()
                .map(|row| text(row, 0).to_owned())
                .collect(),
            ..Self::default()
        };
        let sql = format!(
            "SELECT database, name, create_table_query, ifNull(total_rows, 0), ifNull(total_bytes, 0), \
             arrayStringConcat(arrayMap((d, t) -> concat(d, '\\t', t), dependencies_database, dependencies_table), '\\n') \
             FROM system.tables WHERE database IN ({list}) AND NOT is_temporary AND name NOT LIKE '.inner%' \
             ORDER BY database, name"
        );
        for row in rows(session, &sql)? {
            let relation = Relation::new(text(&row, 0), text(&row, 1));
            let create_text = text(&row, 2).to_owned();
            // Dictionaries and whatever else people keep there are not chpipe's to read.
            let Ok(object) = parse_create(&create_text) else {
                tracing::debug!("`{}` is not of a kind that chpipe makes", relation.plain());
                continue;
            };
            let dependents = text(&row, 5)
                .lines()
                .filter_map(|line| line.split_once('\t'))
                .map(|(database, name)| Relation::new(database, name))
                .collect();
            let object = LiveObject { object, create_text, rows: number(&row, 3), bytes: number(&row, 4), dependents };
            live.objects.insert(relation, object);
        }
        Ok(live)
    }
}

/// Statements as the server formats them, so that two ways of writing one thing are one text.
///
/// # Errors
/// [`MigrateError::Invalid`] names the object whose statement the server cannot read.
pub fn normalise(session: &mut dyn Session, statements: &[(String, String)]) -> Result<Vec<String>, MigrateError> {
    // Many short queries cost more than a long one; a very long one costs memory.
    const CHUNK: usize = 64;
    let options = QueryOptions::default().setting("max_query_size", "100000000").setting("max_ast_elements", "1000000");
    let mut out = Vec::with_capacity(statements.len());
    for chunk in statements.chunks(CHUNK) {
        let list: Vec<String> = chunk.iter().map(|(_, sql)| quote_string(sql)).collect();
        let sql = format!(
            "SELECT formatQuerySingleLineOrNull(statement) FROM (SELECT arrayJoin(arrayEnumerate([{list}] AS list)) AS i, \
             list[i] AS statement) ORDER BY i",
            list = list.join(", ")
        );
        for (row, (object, statement)) in rows_with(session, &sql, &options)?.into_iter().zip(chunk) {
            match row.into_iter().next().flatten() {
                Some(formatted) => out.push(formatted),
                None => return Err(invalid(session, object, statement)),
            }
        }
    }
    Ok(out)
}

/// Asks the server what is wrong with a statement.
fn invalid(session: &mut dyn Session, object: &str, statement: &str) -> MigrateError {
    let sql = format!("SELECT formatQuerySingleLine({})", quote_string(statement));
    let source = match rows(session, &sql) {
        Err(source) => source,
        Ok(_) => EngineError::Protocol { reason: "the server formats the statement and does not format it".into() },
    };
    MigrateError::Invalid { object: object.to_owned(), sql: statement.to_owned(), source, location: None }
}
