//! The manifest: every resource of the project and its packages, by unique id, in dbt's order.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{Documentation, Exposure, Group, Macro, Node, NodeConfig, Relation, ResourceType, Source, UnitTest};

/// All resources, keyed by `unique_id`.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    pub metadata: Metadata,
    /// Models, seeds, snapshots, tests, analyses and operations (hooks of dbt_project.yml).
    pub nodes: IndexMap<String, Node>,
    pub sources: IndexMap<String, Source>,
    pub macros: IndexMap<String, Macro>,
    pub docs: IndexMap<String, Documentation>,
    pub exposures: IndexMap<String, Exposure>,
    pub groups: IndexMap<String, Group>,
    pub unit_tests: IndexMap<String, UnitTest>,
    /// selectors.yml as manifest.json shows it.
    pub selectors: IndexMap<String, Value>,
    /// What `enabled: false` takes out, by id; several where packages disagree.
    pub disabled: IndexMap<String, Vec<Disabled>>,
    /// Of every node, source, exposure and unit test: the ids it depends on.
    pub parent_map: IndexMap<String, Vec<String>>,
    /// The other direction.
    pub child_map: IndexMap<String, Vec<String>>,
}

/// What manifest.json says about itself.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    pub project_name: String,
    /// md5 of the project's name.
    pub project_id: String,
    pub adapter_type: String,
    /// As dbt_project.yml has it.
    pub quoting: Map<String, Value>,
}

/// A disabled resource.
#[derive(Debug, Clone)]
pub enum Disabled {
    Node(Box<Node>),
    Source(Box<Source>),
    Exposure(Box<Exposure>),
    UnitTest(Box<UnitTest>),
}

/// Any resource of the graph, for what they have in common.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    Node(&'a Node),
    Source(&'a Source),
    Exposure(&'a Exposure),
    UnitTest(&'a UnitTest),
}

impl Manifest {
    /// The resource of an id: node, source, exposure or unit test.
    pub fn resource(&self, unique_id: &str) -> Option<Resource<'_>> {
        if let Some(node) = self.nodes.get(unique_id) {
            return Some(Resource::Node(node));
        }
        if let Some(source) = self.sources.get(unique_id) {
            return Some(Resource::Source(source));
        }
        if let Some(exposure) = self.exposures.get(unique_id) {
            return Some(Resource::Exposure(exposure));
        }
        self.unit_tests.get(unique_id).map(Resource::UnitTest)
    }

    /// All of the graph, in dbt's order: nodes, sources, exposures, unit tests.
    pub fn resources(&self) -> impl Iterator<Item = Resource<'_>> {
        self.nodes
            .values()
            .map(Resource::Node)
            .chain(self.sources.values().map(Resource::Source))
            .chain(self.exposures.values().map(Resource::Exposure))
            .chain(self.unit_tests.values().map(Resource::UnitTest))
    }

    /// Where a node or source is in the warehouse.
    pub fn relation(&self, unique_id: &str) -> Option<Relation> {
        match self.resource(unique_id)? {
            Resource::Node(node) => Some(node.relation()),
            Resource::Source(source) => Some(source.relation()),
            Resource::Exposure(_) | Resource::UnitTest(_) => None,
        }
    }
}

impl<'a> Resource<'a> {
    pub fn unique_id(self) -> &'a str {
        match self {
            Self::Node(node) => &node.unique_id,
            Self::Source(source) => &source.unique_id,
            Self::Exposure(exposure) => &exposure.unique_id,
            Self::UnitTest(test) => &test.unique_id,
        }
    }

    pub fn resource_type(self) -> ResourceType {
        match self {
            Self::Node(node) => node.resource_type,
            Self::Source(_) => ResourceType::Source,
            Self::Exposure(_) => ResourceType::Exposure,
            Self::UnitTest(_) => ResourceType::UnitTest,
        }
    }

    pub fn name(self) -> &'a str {
        match self {
            Self::Node(node) => &node.name,
            Self::Source(source) => &source.name,
            Self::Exposure(exposure) => &exposure.name,
            Self::UnitTest(test) => &test.name,
        }
    }

    pub fn package_name(self) -> &'a str {
        match self {
            Self::Node(node) => &node.package_name,
            Self::Source(source) => &source.package_name,
            Self::Exposure(exposure) => &exposure.package_name,
            Self::UnitTest(test) => &test.package_name,
        }
    }

    pub fn fqn(self) -> &'a [String] {
        match self {
            Self::Node(node) => &node.fqn,
            Self::Source(source) => &source.fqn,
            Self::Exposure(exposure) => &exposure.fqn,
            Self::UnitTest(test) => &test.fqn,
        }
    }

    pub fn original_file_path(self) -> &'a str {
        match self {
            Self::Node(node) => &node.original_file_path,
            Self::Source(source) => &source.original_file_path,
            Self::Exposure(exposure) => &exposure.original_file_path,
            Self::UnitTest(test) => &test.original_file_path,
        }
    }

    pub fn config(self) -> &'a NodeConfig {
        match self {
            Self::Node(node) => &node.config,
            Self::Source(source) => &source.config,
            Self::Exposure(exposure) => &exposure.config,
            Self::UnitTest(test) => &test.config,
        }
    }

    pub fn tags(self) -> Vec<String> {
        match self {
            Self::Node(node) => node.tags.clone(),
            Self::Source(source) => source.tags.clone(),
            Self::Exposure(exposure) => exposure.tags.clone(),
            Self::UnitTest(test) => test.config.tags(),
        }
    }

    pub fn meta(self) -> Option<&'a Map<String, Value>> {
        match self {
            Self::Node(node) => Some(&node.meta),
            Self::Source(source) => Some(&source.meta),
            Self::Exposure(exposure) => Some(&exposure.meta),
            Self::UnitTest(_) => None,
        }
    }

    /// The ids it depends on, without macros.
    pub fn depends_on(self) -> &'a [String] {
        match self {
            Self::Node(node) => &node.depends_on.nodes,
            Self::Source(_) => &[],
            Self::Exposure(exposure) => &exposure.depends_on.nodes,
            Self::UnitTest(test) => &test.depends_on.nodes,
        }
    }
}
