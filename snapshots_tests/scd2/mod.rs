//! Snapshots on libchdb.

mod failing;
mod kill;
mod model;
mod random;
mod take;
mod takeover;
mod verify;
