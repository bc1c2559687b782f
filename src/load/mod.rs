//! Silver objects to raw tables, each exactly once: chpipe inserts what its ledger does not know (batch), or ClickHouse's
//! S3Queue does (queue). In: listings and footers, an engine; out: rows, the ledger `loads` and `raw.batches`. It makes no
//! tables and changes no schema.

mod batch;
mod error;
mod keeper;
mod ledger;
mod queue;

pub use batch::{DatasetLoad, LoadObject, LoadProgress, LoadReport, Loader};
pub use error::LoadError;
pub use ledger::{LoadLedger, LoadRecord, LoadState, Note};
pub use queue::{QueueOutcome, release_dead_consumers};
