//! DDL as values: the wanted objects from Parquet schemas and specs, CREATE text from Tera templates, and the typed
//! difference between what is live and what is wanted. In: schemas, specs; out: SQL text and changes. It never runs a
//! statement.

mod diff;
mod error;
mod reading;
mod source;
mod spec;
mod templates;
mod wanted;

pub use diff::{Alteration, ChangeClass, Conversion, DiffHints, Rebuild, TableDiff, ViewDiff, diff_table, diff_view};
pub use error::DdlError;
pub use source::Source;
pub use spec::{ColumnSpec, IndexSpec, TableSpec, read_specs, specs_of_buckets};
pub use templates::{HIDDEN, Templates};
pub(crate) use wanted::{BATCH_ID, PATH};
pub use wanted::{
    Dataset, HiveColumn, WantedOptions, collection_of_bucket, file_kind, hive_columns, load_select, reserved,
    wanted_objects,
};
