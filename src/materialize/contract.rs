//! Contracts: the columns of the properties file against the columns of the query. It runs one DESCRIBE to learn how
//! ClickHouse writes the declared types.

use std::fmt::Write as _;

use super::{MaterializeError, Model};
use crate::{
    adapter::{Adapter, ColumnInfo},
    engine::{quote_identifier, quote_string},
};

/// The query's columns in the order of the properties file, with its types; an error that shows each difference.
pub(super) fn check(
    model: &Model<'_>,
    found: Vec<ColumnInfo>,
    adapter: &mut Adapter,
) -> Result<Vec<ColumnInfo>, MaterializeError> {
    let declared = declared_columns(model, adapter)?;
    let mut difference = String::new();
    for column in &declared {
        match found.iter().find(|found| found.name == column.name) {
            None => _ = writeln!(difference, "  `{}` {}: not in the query", column.name, column.data_type),
            Some(found) if found.data_type != column.data_type => {
                _ = writeln!(
                    difference,
                    "  `{}`: declared {}, found {}",
                    column.name, column.data_type, found.data_type
                );
            }
            Some(_) => {}
        }
    }
    for column in &found {
        if !declared.iter().any(|declared| declared.name == column.name) {
            _ = writeln!(difference, "  `{}` {}: not in the contract", column.name, column.data_type);
        }
    }
    if difference.is_empty() {
        Ok(declared)
    } else {
        Err(MaterializeError::Contract { difference: difference.trim_end().to_owned() })
    }
}

/// The declared columns with types as ClickHouse writes them: `decimal(9,2)` is `Decimal(9, 2)`.
fn declared_columns(model: &Model<'_>, adapter: &mut Adapter) -> Result<Vec<ColumnInfo>, MaterializeError> {
    if model.node.columns.is_empty() {
        return Err(MaterializeError::Contract { difference: "  the properties file names no columns".to_owned() });
    }
    let mut casts = Vec::with_capacity(model.node.columns.len());
    for column in model.node.columns.values() {
        let Some(data_type) = &column.data_type else {
            let difference = format!("  `{}` has no `data_type`", column.name);
            return Err(MaterializeError::Contract { difference });
        };
        casts.push(format!(
            "defaultValueOfTypeName({}) AS {}",
            quote_string(data_type.trim()),
            quote_identifier(&column.name)
        ));
    }
    let mut columns = adapter.query_columns(&format!("SELECT {}", casts.join(", ")), &[])?;
    for column in &mut columns {
        // Some types lose themselves in an expression; then the declaration stands as written.
        if let Some(declared) = model.node.columns.get(&column.name).and_then(|column| column.data_type.as_deref())
            && declared.starts_with("LowCardinality")
            && !column.data_type.starts_with("LowCardinality")
        {
            column.data_type = declared.to_owned();
        }
    }
    Ok(columns)
}
