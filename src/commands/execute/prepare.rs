//! What an invocation does with the warehouse before its first node: finishes what an earlier one left in the middle, makes
//! the databases, lists leftovers.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Lines, Plan};
use crate::{
    Error,
    adapter::{Adapter, AdapterOptions, NodeWarehouse, Templates, load_templates},
    commands::{Context, warehouse::Warehouse},
    engine::{Engine, quote_string},
    materialize::is_temporary_name,
    project::{Relation, RelationKind, ResourceType, Workspace},
    snapshot,
};

/// The opened warehouse with what all nodes share.
pub(in crate::commands) struct Prepared {
    engine: Arc<dyn Engine>,
    options: AdapterOptions,
    templates: Arc<Templates>,
    /// `<invocation>`, in front of every query id.
    invocation: String,
    /// Eight hexadecimal digits of it, in the names of temporary relations.
    pub(super) mark: String,
    /// The session of the invocation itself: hooks, recovery.
    pub(super) main: NodeWarehouse,
    /// Relations beside a node's that an earlier invocation left, by `schema.identifier`.
    leftovers: Mutex<BTreeMap<(String, String), Vec<Relation>>>,
}

impl Prepared {
    /// The warehouse without a run of nodes: for `show`, `run-operation` and their like.
    pub(in crate::commands) fn open(opened: &Warehouse, context: &Context) -> Result<Self, Error> {
        let templates = load_templates(&context.settings.migrate.ddl_path)?;
        let mut prepared = Self::new(opened, AdapterOptions::of(&opened.target), templates, context)?;
        prepared.recover(&Lines::new(&context.printer, false))?;
        Ok(prepared)
    }

    /// The session of the invocation itself.
    pub(in crate::commands) fn warehouse(&self) -> &NodeWarehouse {
        &self.main
    }

    fn new(
        opened: &Warehouse,
        options: AdapterOptions,
        templates: Arc<Templates>,
        context: &Context,
    ) -> Result<Self, Error> {
        let invocation = context.invocation.id.to_string();
        let main = Adapter::connect(&*opened.engine, &options, &templates, invocation.clone())?;
        Ok(Self {
            engine: Arc::clone(&opened.engine),
            options,
            templates,
            mark: invocation.chars().take(8).collect(),
            invocation,
            main: NodeWarehouse::new(main),
            leftovers: Mutex::default(),
        })
    }

    /// A session for a thread of nodes.
    pub(super) fn connect(&self) -> Result<NodeWarehouse, Error> {
        let adapter = Adapter::connect(&*self.engine, &self.options, &self.templates, self.invocation.clone())?;
        Ok(NodeWarehouse::new(adapter))
    }

    /// Query ids of a node begin with this.
    pub(super) fn query_prefix(&self, node: &str) -> String {
        format!("{}-{node}", self.invocation)
    }

    /// Finishes snapshots that an earlier process left staged.
    fn recover(&mut self, lines: &Lines<'_>) -> Result<(), Error> {
        let finished = snapshot::recover(&self.mark, &mut self.main.adapter())?;
        for relation in finished {
            lines.note(&format!("Finished an interrupted run of snapshot {relation}"));
        }
        Ok(())
    }

    /// Creates the databases of the selected nodes and finds what earlier invocations left in them.
    pub(super) fn schemas(&mut self, workspace: &Workspace, ids: &[String], plan: &Plan<'_>) -> Result<(), Error> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        for node in ids.iter().filter_map(|id| workspace.manifest.nodes.get(id)) {
            let stored = plan.execution.store_failures || node.config.store_failures() == Some(true);
            let makes_relation = match node.resource_type {
                ResourceType::Test => stored,
                ResourceType::Model | ResourceType::Seed | ResourceType::Snapshot => true,
                _ => false,
            };
            if makes_relation && !node.schema.is_empty() {
                wanted.insert(&node.schema);
            }
        }
        let mut adapter = self.main.adapter();
        let existing: HashSet<String> = adapter.schemas()?.into_iter().collect();
        for schema in &wanted {
            if !existing.contains(*schema) {
                adapter.create_schema(schema)?;
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = wanted.iter().map(|schema| quote_string(schema)).collect();
        let sql = format!(
            "SELECT database, name, engine FROM system.tables WHERE database IN ({}) AND position(name, '__dbt_') > 0",
            list.join(", ")
        );
        let mut leftovers = self.leftovers.lock();
        for row in adapter.rows(&sql)? {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            let mut next = || values.next().unwrap_or_default();
            let mut relation = Relation::new(next(), next());
            relation.kind = Some(match next().as_str() {
                "View" => RelationKind::View,
                "MaterializedView" => RelationKind::MaterializedView,
                "Dictionary" => RelationKind::Dictionary,
                _ => RelationKind::Table,
            });
            if let Some(owner) = leftover_of(&relation.identifier, &self.mark) {
                leftovers.entry((relation.schema.clone(), owner)).or_default().push(relation);
            }
        }
        Ok(())
    }

    /// What an earlier invocation left beside a relation; handed out once.
    pub(super) fn take_leftovers(&self, relation: &Relation) -> Vec<Relation> {
        let key = (relation.schema.clone(), relation.identifier.clone());
        self.leftovers.lock().remove(&key).unwrap_or_default()
    }

    /// All relations of these databases, as (schema, identifier).
    pub(super) fn existing(&mut self, schemas: &BTreeSet<&str>) -> Result<HashSet<(String, String)>, Error> {
        let mut existing = HashSet::new();
        let mut adapter = self.main.adapter();
        for schema in schemas {
            for info in adapter.relations(schema)? {
                existing.insert((info.relation.schema, info.relation.identifier));
            }
        }
        Ok(existing)
    }
}

/// The identifier that a leftover belongs to.
fn leftover_of(name: &str, own_mark: &str) -> Option<String> {
    if let Some((identifier, mark)) = is_temporary_name(name) {
        return (mark != own_mark).then(|| identifier.to_owned());
    }
    let (identifier, mark) = name.split_once("__dbt_new_data_")?;
    (mark.len() == 8 && mark != own_mark).then(|| identifier.to_owned())
}
