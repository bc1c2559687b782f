//! A dbt project as data: files to a manifest, the graph over it, selection. In: the project folder; out: nodes. It
//! never speaks to the warehouse.

mod relation;

pub use relation::{Relation, RelationKind};
