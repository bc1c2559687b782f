//! What stood in the databases of a run when it began: one listing for all nodes in place of a question for each. dbt keeps
//! such a cache too. It is believed once a relation, as the node that asks is about to change it, and no more after a
//! statement of the project's own that may have made or dropped relations. It asks nothing by itself.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::RelationInfo;
use crate::project::Relation;

/// A listing of databases.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The engine of each database that was listed.
    databases: HashMap<String, String>,
    /// By schema and identifier.
    relations: HashMap<(String, String), RelationInfo>,
    looked_at: Mutex<HashSet<(String, String)>>,
    outdated: AtomicBool,
}

impl Catalog {
    /// A listing of these databases (name and engine) with all that is in them.
    pub fn new(databases: HashMap<String, String>, relations: Vec<RelationInfo>) -> Self {
        let relations = relations.into_iter().map(|info| (key(&info.relation), info)).collect();
        Self { databases, relations, ..Self::default() }
    }

    /// What the listing says of a relation: that it is this, or that there is none (`Some(None)`); `None` where it must be
    /// asked for.
    pub fn first_look(&self, relation: &Relation) -> Option<Option<RelationInfo>> {
        let listed = self.databases.contains_key(&relation.schema) && !self.outdated.load(Ordering::Acquire);
        (listed && self.looked_at.lock().insert(key(relation))).then(|| self.relations.get(&key(relation)).cloned())
    }

    /// Everything is asked for from here on.
    pub fn distrust(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    /// The engine of a database, `Atomic`; it does not change while the database exists.
    pub fn database_engine(&self, schema: &str) -> Option<&str> {
        self.databases.get(schema).map(String::as_str).filter(|_| !self.outdated.load(Ordering::Acquire))
    }
}

fn key(relation: &Relation) -> (String, String) {
    (relation.schema.clone(), relation.identifier.clone())
}
