//! The HTTP API to Bronze: what to ask for, how fast, and how to keep what came. In: selectors and settings; out: Bronze
//! objects and a run record. It is the only module that speaks HTTP to the API; it never reads Silver and never opens the
//! warehouse.

mod bronze;
mod calendar;
mod client;
mod endpoints;
mod envelope;
mod error;
mod rate_limit;
mod selectors;
mod stage;

pub use client::{Client, Counters, Durations, Page};
pub use endpoints::{Column, ColumnType, Endpoint, Endpoints, Level, Parse, Paths, Rounds};
pub use envelope::{Metadata, wrap};
pub use error::ExtractError;
pub use rate_limit::{Limits, RateLimiter, Sent};
pub use selectors::{Rounds as RoundSelector, SeasonSelector, Seasons, Selectors};
use stage::MAX_FAILURES;
pub use stage::{EndpointReport, Extract, Mode, Options, Part, Plan, Progress, Report, Step};
