//! The HTTP API to Bronze: what to ask for, how fast, and how to keep what came. In: selectors and settings; out: Bronze
//! objects and a run record. It is the only module that speaks HTTP to the API; it never reads Silver and never opens the
//! warehouse.

mod endpoints;
mod envelope;
mod error;
mod selectors;

pub use endpoints::{Column, ColumnType, Endpoint, Endpoints, Level, Parse, Paths, Rounds};
pub use envelope::{Metadata, wrap};
pub use error::ExtractError;
pub use selectors::{Rounds as RoundSelector, SeasonSelector, Seasons, Selectors};
