//! Every test that needs more than pure logic: one binary, real parts (libchdb, a real S3 server, the `chpipe` binary).
//!
//! The rules: a case folder is named for the behaviour it shows, and adding one needs no Rust where a driver globs the
//! folder; a golden's SQL is also executed; nothing is timed; a server test has a directory of its own and keeps it on
//! failure; what a machine cannot provide is skipped through [`harness::skip`], which `make test` counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what broke by panicking"
)]

mod changes;
mod cli;
mod collections;
mod ddl;
mod engine;
mod errors;
mod extract;
mod f1;
mod harness;
mod infer;
mod lake;
mod materialize;
mod parquet_files;
mod plans;
mod queue;
mod render;
mod replay;
mod scd2;
mod tidy;
mod torture;
mod zookeeper;
