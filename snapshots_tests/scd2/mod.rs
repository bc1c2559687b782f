//! Snapshots on libchdb.

mod history;
mod kill;
mod model;
mod random;
mod take;
mod takeover;
mod verify;
