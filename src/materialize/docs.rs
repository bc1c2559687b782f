//! `persist_docs`: descriptions as comments of what exists already. In: the properties file; out: one ALTER of what differs.

use super::{MaterializeError, Model, table_spec};
use crate::{adapter::Adapter, engine::quote_string};

/// Makes the comments of the relation and of its columns what the properties file says; answers how many it changed.
/// Views got theirs when they were created.
///
/// # Errors
/// A statement failed.
pub fn persist_docs(model: &Model<'_>, adapter: &mut Adapter) -> Result<usize, MaterializeError> {
    let source = model.source();
    let relation_comment = table_spec::relation_comment(source);
    let documents_columns = model.node.columns.keys().any(|name| table_spec::column_comment(source, name).is_some());
    if relation_comment.is_none() && !documents_columns {
        return Ok(0);
    }
    let Some(live) = adapter.relation(model.relation)? else { return Ok(0) };
    let mut commands = Vec::new();
    if let Some(comment) = relation_comment.filter(|comment| *comment != quote_string(&live.comment)) {
        commands.push(format!("MODIFY COMMENT {comment}"));
    }
    if documents_columns && live.is_table() {
        for column in adapter.columns(model.relation)? {
            if let Some(comment) = table_spec::column_comment(source, &column.name)
                && comment != quote_string(&column.comment)
            {
                commands.push(format!("COMMENT COLUMN {} {comment}", column.quoted()));
            }
        }
    }
    adapter.alter(model.relation, &commands)?;
    Ok(commands.len())
}
