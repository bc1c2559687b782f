//! Tables as values: ClickHouse types, columns, engines, keys; read from Parquet footers and from the server's own
//! CREATE text. In: bytes and text that others fetched; out: [`Table`]s. It performs no I/O and knows nothing of plans.

mod arrow_type;
mod clickhouse_type;
mod create_text;
mod footer;
mod renamed_query;
mod table;
mod tokens;

pub use arrow_type::{UnsupportedArrowType, from_arrow};
pub use clickhouse_type::{ClickHouseType, TypeError, widen};
pub use create_text::{CreateTextError, parse_create};
pub use footer::{FileColumn, FileSchema, FooterError, MergeError, MergedColumn, MergedSchema, merge, read_footer};
pub use renamed_query::{RenameError, rename_in_query};
pub(crate) use table::key_parts;
pub use table::{
    Column, ColumnDefault, Constraint, DefaultKind, Index, MaterializedView, NamedCollection, Projection, Relation,
    SchemaObject, Table, TableEngine, View, mentions, rename_in_expression, split_arguments,
};
pub use tokens::{keywords, split_statements};
