//! Materializations on libchdb: what a relation, its rows and its DDL are after a first run, a second one, a change.

mod defects;
mod external;
mod interrupt;
#[cfg(debug_assertions)]
mod kill;
#[cfg(debug_assertions)]
mod matrix;
mod node;
mod project;
mod recorded;
mod relations;
mod retry;
mod served;

pub(crate) use node::{adapter, node, rows, templates};
pub(crate) use project::{query, shop};
