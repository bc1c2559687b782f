//! A dbt project as data: files to a manifest, the graph over it, selection. In: the project folder; out: nodes. It
//! never speaks to the warehouse.

mod config_rules;
mod error;
mod graph;
mod manifest;
mod node;
mod node_config;
mod package;
mod relation;
mod semver;
mod yaml;

pub use error::ProjectError;
pub use graph::Graph;
pub use manifest::{Disabled, Manifest, Metadata, Resource};
pub use node::{
    Access, Checksum, Column, Contract, DependsOn, Docs, Documentation, Exposure, Freshness, FreshnessThreshold, Group,
    Macro, MacroArgument, Node, Ref, ResourceType, Source, TestMetadata, UnitTest, UnitTestInput, UnitTestRows,
    version_text,
};
pub use node_config::{HardDeletes, Hook, NodeConfig};
pub use package::{DBT_VERSION, PROJECT_FILE, Package};
pub use relation::{Relation, RelationKind};
pub use yaml::{Yaml, YamlKind};
