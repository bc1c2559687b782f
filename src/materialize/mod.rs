//! Models and seeds become relations. In: compiled SQL, the node's configuration, an adapter; out: relations and what was
//! done. The statements are Tera templates (`ddl/templates/materialize/`), the decisions are here. It never selects,
//! orders or renders nodes.

mod build;
mod contract;
mod dictionary;
mod distributed;
mod docs;
mod error;
mod external;
mod grants;
mod in_place;
mod incremental;
mod materialized_view;
mod schema_change;
mod seed;
mod table;
mod table_spec;
mod view;

use serde_json::{Map, Value};

use crate::{
    adapter::Adapter,
    project::{Node, NodeConfig, Relation, RelationKind},
};

pub use build::{TEMPORARY_MARK, create_table, drop_leftovers, insert_query, is_temporary_name, temporary_relation};
pub use distributed::local_relation;
pub use docs::persist_docs;
pub use error::MaterializeError;
pub use grants::apply_grants;
pub use materialized_view::{is_note_of_stops, recover as recover_views, start_stopped};
pub use seed::{Seed, SeedColumn, load as load_seed};
pub use table_spec::{ColumnSpec, TableSource, TableSpec};

/// How a node becomes a relation.
pub trait Materialization: Sync {
    /// dbt's name of it.
    fn name(&self) -> &'static str;

    /// Makes or updates the relation. If it fails, or the process ends in the middle, the relation is what it was before
    /// or what it was to become, except where the materialization says otherwise; temporary relations may be left behind,
    /// and the next run of the node removes them or finishes what they hold.
    ///
    /// # Errors
    /// A statement failed, or the configuration cannot be followed.
    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError>;
}

/// A node that is ready to be materialized.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    pub node: &'a Node,
    /// Where it goes; the kind is the wanted one.
    pub relation: &'a Relation,
    /// The compiled SQL; empty for seeds.
    pub sql: &'a str,
    /// `--full-refresh`, as the node's own config leaves it.
    pub full_refresh: bool,
    /// `--empty`: no rows are wanted.
    pub empty: bool,
    /// Eight hexadecimal digits of the invocation, in the names of its temporary relations.
    pub invocation: &'a str,
    /// Microbatch: the interval of `event_time` that this call is about.
    pub batch: Option<&'a Batch>,
    /// Materialized views of the project that write into this table.
    pub feeding_views: &'a [Relation],
    /// Those of them that this invocation makes anew after the table, with all rows of their sources.
    pub replaced_views: &'a [Relation],
}

impl<'a> Model<'a> {
    pub fn config(&self) -> &'a NodeConfig {
        &self.node.config
    }

    /// What decides the table.
    pub fn source(&self) -> TableSource<'a> {
        TableSource {
            config: &self.node.config,
            documented: &self.node.columns,
            description: &self.node.description,
            constraints: &self.node.constraints,
        }
    }
}

/// One interval of a microbatch model, as ClickHouse reads times: `2024-03-02 00:00:00`, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Digits, for the names of temporary relations.
    pub name: String,
    pub event_time: String,
    pub start: String,
    pub end: String,
}

impl Batch {
    /// The conditions that a row is of this interval.
    fn predicates(&self) -> [String; 2] {
        let Self { event_time, start, end, .. } = self;
        [
            format!("{event_time} >= toDateTime64('{start}', 6, 'UTC')"),
            format!("{event_time} < toDateTime64('{end}', 6, 'UTC')"),
        ]
    }
}

/// What a materialization did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What exists now because of it.
    pub relations: Vec<Relation>,
    /// Rows it wrote, where the engine says.
    pub rows: Option<u64>,
    /// What was changed in place, for the node's message: `1 column added`.
    pub notes: Vec<String>,
    /// More for `adapter_response` in run_results.json.
    pub response: Map<String, Value>,
}

impl Outcome {
    /// One relation, so many rows.
    pub fn of(relation: &Relation, rows: Option<u64>) -> Self {
        Self { relations: vec![relation.clone()], rows, ..Self::default() }
    }
}

/// The built-in materialization of that name.
///
/// # Errors
/// There is none.
pub fn materialization(name: &str) -> Result<&'static dyn Materialization, MaterializeError> {
    Ok(match name {
        "view" => &view::View,
        "table" => &table::Table,
        "incremental" => &incremental::Incremental,
        "materialized_view" => &materialized_view::MaterializedView,
        "dictionary" => &dictionary::Dictionary,
        "distributed_table" => &distributed::DistributedTable,
        "distributed_incremental" => &distributed::DistributedIncremental,
        "s3" | "s3queue" => &external::External,
        _ => return Err(MaterializeError::UnknownMaterialization { name: name.to_owned() }),
    })
}

/// Finishes what an ended run left behind: `leftovers` are the relations beside `model.relation` that bear its marks. It
/// comes before the model is compiled, since its SQL may look at the table. Answers whether there was something to finish.
///
/// # Errors
/// A statement failed; the leftovers stay for the next attempt.
pub fn recover(model: &Model<'_>, adapter: &mut Adapter, leftovers: &[Relation]) -> Result<bool, MaterializeError> {
    match model.node.materialized() {
        "incremental" if !model.full_refresh => incremental::recover(model, adapter, leftovers),
        "distributed_incremental" if !model.full_refresh => distributed::recover(model, adapter, leftovers),
        _ => Ok(false),
    }
}

/// The kind of relation that a materialization makes.
pub fn relation_kind(materialized: &str) -> RelationKind {
    match materialized {
        "view" => RelationKind::View,
        "ephemeral" => RelationKind::Ephemeral,
        "dictionary" => RelationKind::Dictionary,
        _ => RelationKind::Table,
    }
}
