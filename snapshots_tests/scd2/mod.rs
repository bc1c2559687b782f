//! Snapshots on libchdb.

mod failing;
mod history;
mod kill;
mod model;
mod random;
mod take;
mod takeover;
mod verify;
