//! What an invocation does with the warehouse before its first node: finishes what an earlier one left in the middle, makes
//! the databases, lists leftovers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{Lines, Plan};
use crate::{
    Error,
    adapter::{
        Adapter, AdapterError, AdapterOptions, Catalog, Lease, LeaseError, LeaseHolder, NodeWarehouse, Templates,
        is_held, load_templates,
    },
    commands::{Context, warehouse::Warehouse},
    engine::{Engine, quote_string},
    materialize::{is_note_of_stops, is_temporary_name, local_relation, start_stopped},
    project::{Node, Relation, RelationKind, ResourceType, Workspace},
    snapshot::{self, SnapshotError},
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
    /// Says to others that the temporary relations of this invocation are in use.
    lease: Option<Lease>,
    /// What stood in the databases of the nodes before the first of them ran.
    catalog: Arc<Catalog>,
    state_database: String,
    pub(super) patience: Duration,
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
        let main = Adapter::connect(&opened.engine, &options, &templates, invocation.clone())?;
        Ok(Self {
            engine: Arc::clone(&opened.engine),
            options,
            templates,
            mark: invocation.chars().take(8).collect(),
            invocation,
            main: NodeWarehouse::new(main),
            leftovers: Mutex::default(),
            lease: None,
            catalog: Arc::default(),
            state_database: context.settings.migrate.state_database.clone(),
            patience: context.settings.lock_timeout,
        })
    }

    /// A session for a thread of nodes.
    pub(super) fn connect(&self) -> Result<NodeWarehouse, Error> {
        let mut adapter = Adapter::connect(&self.engine, &self.options, &self.templates, self.invocation.clone())?;
        adapter.set_catalog(Arc::clone(&self.catalog));
        Ok(NodeWarehouse::new(adapter))
    }

    /// Query ids of a node begin with this.
    pub(super) fn query_prefix(&self, node: &str) -> String {
        format!("{}-{node}", self.invocation)
    }

    /// Finishes snapshots that an earlier process left staged.
    fn recover(&mut self, lines: &Lines<'_>) -> Result<(), Error> {
        let finished = snapshot::recover(&self.holder(), &mut self.main.adapter())?;
        for relation in finished {
            lines.note(&format!("Finished an interrupted run of snapshot {relation}"));
        }
        Ok(())
    }

    /// Takes the invocation's own lease: from here on it may leave temporary relations behind.
    pub(super) fn hold(&mut self) -> Result<(), Error> {
        self.main.adapter().ensure_schema(&self.state_database)?;
        let name = self.invocation_lease(&self.mark);
        let lease = Lease::acquire(&self.engine, &name, &self.holder(), self.patience);
        self.lease = Some(lease.map_err(|error| match error {
            LeaseError::Adapter(error) => Error::from(error),
            LeaseError::Held(holder) => {
                Error::from(SnapshotError::Busy { relation: name, holder: Some(holder.invocation) })
            }
        })?);
        Ok(())
    }

    /// This process, as others see it.
    pub(super) fn holder(&self) -> LeaseHolder {
        LeaseHolder::this(&self.mark)
    }

    fn invocation_lease(&self, mark: &str) -> Relation {
        Relation::new(&self.state_database, format!("invocation_{mark}"))
    }

    /// Creates the databases of the selected nodes, where the plan says so, and finds what earlier invocations left in them.
    pub(super) fn schemas(&mut self, workspace: &Workspace, ids: &[String], plan: &Plan<'_>) -> Result<(), Error> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut of_shards: BTreeSet<String> = BTreeSet::new();
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
            if is_distributed(node) {
                of_shards.insert(local_relation(&node.relation(), &self.options).schema);
            }
        }
        let mut adapter = self.main.adapter();
        let mut databases = adapter.databases()?;
        let mut missing: Vec<&str> = wanted.iter().copied().filter(|schema| !databases.contains_key(*schema)).collect();
        if !plan.makes_schemas {
            missing.clear();
        }
        for schema in &missing {
            adapter.create_schema(schema)?;
        }
        if !missing.is_empty() {
            databases = adapter.databases()?;
        }
        databases.retain(|name, _| wanted.contains(name.as_str()) || of_shards.contains(name));
        let listed = adapter.relations_in(&databases)?;
        let elsewhere = if of_shards.is_empty() { Vec::new() } else { temporary_elsewhere(&mut adapter, &databases)? };
        let elsewhere = elsewhere.iter().filter(|relation| !listed.iter().any(|info| info.relation == **relation));
        let mut leftovers = self.leftovers.lock();
        let mut alive: BTreeMap<String, bool> = BTreeMap::new();
        for relation in listed.iter().map(|info| &info.relation).chain(elsewhere) {
            if let Some((owner, mark)) = leftover_of(&relation.identifier) {
                let in_use = match alive.get(&mark) {
                    Some(in_use) => *in_use,
                    None => {
                        let in_use = mark == self.mark || is_held(adapter.session(), &self.invocation_lease(&mark))?;
                        alive.insert(mark, in_use);
                        in_use
                    }
                };
                if in_use {
                    continue;
                }
                if is_note_of_stops(relation) {
                    // Whether or not its model is run now.
                    start_stopped(&mut adapter, relation)?;
                    continue;
                }
                leftovers.entry((relation.schema.clone(), owner)).or_default().push(relation.clone());
            }
        }
        self.catalog = Arc::new(Catalog::new(databases, listed));
        adapter.set_catalog(Arc::clone(&self.catalog));
        Ok(())
    }

    /// What an earlier invocation left beside a node's relation, or its tables on the shards; handed out once.
    pub(super) fn take_leftovers(&self, node: &Node) -> Vec<Relation> {
        let relation = node.relation();
        let mut schemas = vec![relation.schema.clone()];
        if is_distributed(node) {
            schemas.push(local_relation(&relation, &self.options).schema);
        }
        let mut leftovers = self.leftovers.lock();
        schemas
            .into_iter()
            .filter_map(|schema| leftovers.remove(&(schema, relation.identifier.clone())))
            .flatten()
            .collect()
    }

    /// All relations of these databases, as (schema, identifier).
    pub(in crate::commands) fn existing(
        &mut self,
        schemas: &BTreeSet<&str>,
    ) -> Result<HashSet<(String, String)>, Error> {
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

fn is_distributed(node: &Node) -> bool {
    matches!(node.materialized(), "distributed_table" | "distributed_incremental")
}

/// Temporary tables in these databases on any replica of the cluster: a run can end when some of them have carried out a
/// statement and others have not. A replica that cannot be asked is one on which nothing can be dropped either.
fn temporary_elsewhere(
    adapter: &mut Adapter,
    databases: &HashMap<String, String>,
) -> Result<Vec<Relation>, AdapterError> {
    // The function is of 20.3.
    let Some(cluster) = adapter.options().cluster.clone().filter(|_| adapter.capabilities().version >= (20, 3)) else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = databases.keys().map(|name| quote_string(name)).collect();
    let sql = format!(
        "SELECT DISTINCT database, name FROM clusterAllReplicas({}, system.tables) \
         WHERE database IN ({}) AND (name LIKE '%\\_\\_dbt\\_tmp\\_%' OR name LIKE '%\\_\\_dbt\\_new\\_data\\_%') \
         ORDER BY database, name SETTINGS skip_unavailable_shards = 1",
        quote_string(&cluster),
        names.join(", ")
    );
    let rows = adapter.rows(&sql)?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let mut values = row.into_iter().flatten();
            let mut relation = Relation::new(values.next()?, values.next()?);
            relation.kind = Some(RelationKind::Table);
            Some(relation)
        })
        .collect())
}

/// The invocation that made a temporary relation of this name.
pub(super) fn invocation_of(name: &str) -> Option<String> {
    leftover_of(name).map(|(_, mark)| mark)
}

/// The identifier that a leftover belongs to, and the invocation that made it.
fn leftover_of(name: &str) -> Option<(String, String)> {
    if let Some((identifier, mark)) = is_temporary_name(name) {
        return Some((identifier.to_owned(), mark.to_owned()));
    }
    // The second is a dead holder's lease that somebody was about to drop.
    let (identifier, rest) = name.split_once("__dbt_new_data_").or_else(|| name.split_once("__dbt_lock_"))?;
    // A batch has its interval after the invocation.
    let mark = rest.split('_').next()?;
    (mark.len() == 8).then(|| (identifier.to_owned(), mark.to_owned()))
}
