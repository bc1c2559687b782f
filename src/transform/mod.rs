//! Bronze pages to Silver Parquet: typed, validated, de-duplicated rows, one object a batch. In: pages; out: Parquet
//! bytes and what was refused. The parser and the table are pure; [`stage`] reads and writes the lake. It never opens the
//! warehouse and never asks the API.

mod columns;
mod error;
mod json;
mod page;
mod parquet;
mod shape;
mod stage;
mod table;
mod values;

pub use self::parquet::Provenance;
pub use error::TransformError;
pub use json::SyntaxError;
pub use page::{Drift, PageError, PageInfo, Reason, Refused, Rows};
pub use shape::{EXTRA_COLUMN, Shape};
pub use stage::{
    BronzeBatch, DriftReport, EndpointReport, Options, Outcome, Plan, Progress, Report, Transform, Written,
};
pub use table::Table;
