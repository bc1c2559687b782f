//! chpipe takes an HTTP API to a ClickHouse warehouse.
//!
//! ```text
//! API -> extract -> bronze (JSON) -> transform -> silver (Parquet) -> migrate (DDL) -> load (raw.raw_*)
//!     -> run / snapshot / test (dbt models) -> gold tables
//! ```
//!
//! Code map: `cli` holds what was typed and [`config`] what it means; `commands` has one file a subcommand, each a
//! runbook over the stages ([`extract`], [`transform`], [`migrate`], [`load`], [`materialize`], [`snapshot`],
//! [`data_test`]). Stages stand on pure code ([`schema`], [`ddl`], [`project`], [`render`]) and on the edges:
//! [`engine`] is the only one that speaks to ClickHouse, [`lake`] the only one that speaks to S3, [`extract`] the only
//! one that speaks HTTP to the API, [`printer`] the only one that writes to the terminal, [`config`] the only one
//! that reads the environment.
//!
//! Invariants: stages do not call each other, a command hands one stage's value to the next; `render`, `schema`, `ddl`
//! and the graph are values in, values out; a reading command never writes.

pub mod adapter;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data_test;
pub mod ddl;
pub mod diagnostic;
pub mod engine;
mod error;
pub mod extract;
mod file;
pub mod interrupt;
pub mod lake;
pub mod load;
pub mod materialize;
pub mod migrate;
pub mod observe;
pub mod printer;
pub mod project;
pub mod render;
pub mod schedule;
pub mod schema;
pub mod serve;
pub mod simulate;
pub mod snapshot;
pub mod transform;
pub mod yaml;

pub use error::Error;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command line and answers its exit code: 0 done, 1 a model, test or migration failed, 2 chpipe could not do
/// its work (dbt's codes).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::of_line(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nothing is left to tell when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    interrupt::install();
    let printer = printer::Printer::new(&cli.global);
    match commands::dispatch(cli, &printer) {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            diagnostic::report(&error, &printer);
            ExitCode::from(error.exit_code())
        }
    }
}
