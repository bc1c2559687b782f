//! Snapshots on libchdb.

mod take;
