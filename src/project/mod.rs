//! A dbt project as data: files to a manifest, the graph over it, selection. In: the project folder; out: nodes. It
//! never speaks to the warehouse.

mod artifact;
mod catalog;
mod compile;
mod config_rules;

mod error;
mod graph;
mod lookup;
mod manifest;
mod moment;
mod node;
mod node_config;
mod package;
mod packages;
mod parallel;
mod parse;
mod relation;
mod sample;
mod selector;
mod semver;
mod state;
mod workspace;

pub use crate::yaml::{Yaml, YamlKind};
pub use artifact::{CompiledNodes, manifest_json, node_json, resource_json, source_json, write_manifest};
pub use catalog::{CatalogRow, catalog_json, catalog_query, catalog_schemas, write_catalog};
pub use compile::{Compiled, Compiler, Cte, Defer, Resolver};
pub use error::ProjectError;
pub use graph::Graph;
pub use manifest::{Disabled, Manifest, Metadata, Resource};
pub use moment::parse_moment;
pub use node::{
    Access, Checksum, Column, Contract, DependsOn, Docs, Documentation, Exposure, Freshness, FreshnessThreshold, Group,
    Macro, MacroArgument, Node, Ref, ResourceType, Source, TestMetadata, UnitTest, UnitTestInput, UnitTestRows,
    version_text,
};
pub use node_config::{HardDeletes, Hook, NodeConfig};
pub use package::{DBT_VERSION, PROJECT_FILE, Package};
pub use packages::{Deps, DepsOptions, deps_context};
pub use relation::{Relation, RelationKind};
pub use sample::Sample;
pub use selector::{Selection, Selector};
pub use state::PreviousState;
pub use workspace::{LoadOptions, Project, Workspace};
