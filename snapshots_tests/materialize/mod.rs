//! Materializations on libchdb: what a relation, its rows and its DDL are after a first run, a second one, a change.

mod interrupt;
#[cfg(debug_assertions)]
mod kill;
mod node;
mod project;
mod relations;
mod retry;

pub(crate) use node::{adapter, node, rows};
pub(crate) use project::{query, shop};
