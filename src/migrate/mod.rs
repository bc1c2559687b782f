//! Migrations: what should be, what is, the plan between them, and its application with lock, ledger and journal. In: Silver
//! footers, specs, an engine; out: a warehouse as wanted, exactly once, whatever interrupts it. It loads no rows.

mod collections;
mod error;
mod files;
mod footers;
mod ledger;
mod live;
mod lock;
mod migrator;
mod plan;
mod planner;
mod rebuild;
pub(crate) mod rows;
mod show;
pub(crate) mod state;
mod views;

pub use error::MigrateError;
pub use files::{FileOrder, MigrationFile, pending_files, read_files};
pub use footers::FooterCache;
pub use ledger::{Ledger, LedgerEntry, MigrationState};
pub use live::{Live, LiveObject, normalise};
pub(crate) use lock::LEASE;
pub use lock::Lock;
pub use migrator::{KeptTable, MigrateProgress, Migrator, file_change};
pub use plan::{Action, Plan, PlannedChange, RebuildStep, Renames, Step};
pub use planner::{Wanted, make_plan};
pub use show::{plan_json, plan_sql, plan_text};
