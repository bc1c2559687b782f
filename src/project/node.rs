//! The resources of a manifest: what a file or a properties entry became. Plain data with dbt's field names; how it is
//! written into manifest.json is decided in `super::artifact`.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{NodeConfig, Relation, RelationKind};
use crate::error::Location;

/// dbt's kinds of resources, by dbt's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceType {
    Model,
    Analysis,
    Test,
    Snapshot,
    Operation,
    Seed,
    Source,
    Exposure,
    UnitTest,
}

impl ResourceType {
    /// As it stands in `unique_id` and in `--resource-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Analysis => "analysis",
            Self::Test => "test",
            Self::Snapshot => "snapshot",
            Self::Operation => "operation",
            Self::Seed => "seed",
            Self::Source => "source",
            Self::Exposure => "exposure",
            Self::UnitTest => "unit_test",
        }
    }

    /// Whether `ref()` can point at it.
    pub fn is_refable(self) -> bool {
        matches!(self, Self::Model | Self::Seed | Self::Snapshot)
    }
}

impl std::fmt::Display for ResourceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One `ref()` as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ref {
    pub name: String,
    pub package: Option<String>,
    /// A number or a text.
    pub version: Option<Value>,
}

/// What a node was found to use; `nodes` holds sources too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DependsOn {
    #[serde(default)]
    pub macros: Vec<String>,
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// dbt's checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// `sha256`, `path` (a seed above 1 MiB) or `none`.
    pub name: String,
    pub checksum: String,
}

/// A column of a properties file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub description: String,
    pub meta: Map<String, Value>,
    pub data_type: Option<String>,
    pub constraints: Vec<Value>,
    pub quote: Option<bool>,
    pub config: Map<String, Value>,
    pub tags: Vec<String>,
    pub granularity: Option<String>,
    pub doc_blocks: Vec<String>,
    /// Keys that dbt itself does not know; dbt-clickhouse reads `codec` and `ttl` here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Which generic test a test node is, and with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestMetadata {
    pub name: String,
    /// As manifest.json shows them: `model` and `column_name` beside the written arguments.
    pub kwargs: Map<String, Value>,
    pub namespace: Option<String>,
}

/// How the docs site shows a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docs {
    pub show: bool,
    pub node_color: Option<String>,
}

impl Default for Docs {
    fn default() -> Self {
        Self { show: true, node_color: None }
    }
}

/// A model contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    pub enforced: bool,
    pub alias_types: bool,
    pub checksum: Option<String>,
}

impl Default for Contract {
    fn default() -> Self {
        Self { enforced: false, alias_types: true, checksum: None }
    }
}

/// Who may `ref()` a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Private,
    #[default]
    Protected,
    Public,
}

impl Access {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Protected => "protected",
            Self::Public => "public",
        }
    }
}

/// Something in the graph with a file of its own (or a test that a properties file declares): model, seed, snapshot, test,
/// analysis, operation (a hook of dbt_project.yml).
#[derive(Debug, Clone)]
pub struct Node {
    pub unique_id: String,
    pub resource_type: ResourceType,
    pub name: String,
    pub package_name: String,
    /// Relative to its resource folder: `staging/stg_laps.sql`.
    pub path: String,
    /// Relative to its package's folder: `models/staging/stg_laps.sql`.
    pub original_file_path: String,
    /// The package's folder, absolute.
    pub root_path: PathBuf,
    pub fqn: Vec<String>,
    pub alias: String,
    /// The ClickHouse database.
    pub schema: String,
    /// Always empty with ClickHouse.
    pub database: String,
    /// `` `schema`.`alias` ``; none for what makes no relation (ephemeral models, most tests, analyses).
    pub relation_name: Option<String>,
    /// `sql`, or `python` (refused when it is to be run).
    pub language: String,
    /// The file's text; of a snapshot block its inside; of a generic test the call of its macro. Empty for seeds.
    pub raw_code: String,
    /// The line of `original_file_path` on which `raw_code` begins, from 1.
    pub raw_code_line: usize,
    pub checksum: Checksum,
    pub config: NodeConfig,
    /// What was written, before defaults: for `state:modified.configs`.
    pub unrendered_config: Map<String, Value>,
    pub tags: Vec<String>,
    pub meta: Map<String, Value>,
    pub group: Option<String>,
    pub docs: Docs,
    pub description: String,
    pub doc_blocks: Vec<String>,
    pub columns: IndexMap<String, Column>,
    /// `package://models/schema.yml`, of the properties entry.
    pub patch_path: Option<String>,
    /// When it was parsed, seconds since 1970.
    pub created_at: f64,
    pub refs: Vec<Ref>,
    /// `[source, table]` each.
    pub sources: Vec<[String; 2]>,
    pub depends_on: DependsOn,
    pub contract: Contract,
    pub access: Access,
    pub constraints: Vec<Value>,
    /// A number or a text.
    pub version: Option<Value>,
    pub latest_version: Option<Value>,
    pub deprecation_date: Option<String>,
    pub primary_key: Vec<String>,
    /// Tests: the column a generic test stands at.
    pub column_name: Option<String>,
    /// Tests: `models.stg_laps`, the properties entry.
    pub file_key_name: Option<String>,
    /// Tests: the id of the node the test stands at.
    pub attached_node: Option<String>,
    pub test_metadata: Option<TestMetadata>,
    /// Generic tests: the call's arguments, Jinja unrendered, for `_dbt_generic_test_kwargs`.
    pub test_kwargs: Map<String, Value>,
    /// Operations: the index within `on-run-start` or `on-run-end`.
    pub hook_index: Option<usize>,
}

impl Node {
    /// The relation this node makes, or would make.
    pub fn relation(&self) -> Relation {
        let mut relation = Relation::new(&self.schema, &self.alias);
        relation.kind = match self.config.materialized() {
            "view" => Some(RelationKind::View),
            "ephemeral" => Some(RelationKind::Ephemeral),
            "materialized_view" => Some(RelationKind::MaterializedView),
            "dictionary" => Some(RelationKind::Dictionary),
            _ => Some(RelationKind::Table),
        };
        relation
    }

    /// `config.materialized`.
    pub fn materialized(&self) -> &str {
        self.config.materialized()
    }

    /// Whether it is inlined into those that use it.
    pub fn is_ephemeral(&self) -> bool {
        self.resource_type == ResourceType::Model && self.config.materialized() == "ephemeral"
    }

    /// The file, absolute.
    pub fn file(&self) -> PathBuf {
        self.root_path.join(self.original_file_path.trim_start_matches("./"))
    }

    /// Where it is declared: its file, or the line of the properties file or of dbt_project.yml that its code comes from.
    pub(super) fn place(&self) -> Location {
        let file = self.file();
        if !self.is_declared_elsewhere() {
            return Location::file(file);
        }
        let text = fs_err::read_to_string(&file).unwrap_or_default();
        let source_line = text.lines().nth(self.raw_code_line.saturating_sub(1)).map(str::to_owned);
        Location { source_line, ..Location::line(file, self.raw_code_line, None) }
    }

    /// Whether `raw_code` is not a part of the file, word by word.
    pub(super) fn is_declared_elsewhere(&self) -> bool {
        self.test_metadata.is_some()
            || self.resource_type == ResourceType::Operation
            || matches!(self.original_file_path.rsplit_once('.'), Some((_, "yml" | "yaml")))
    }

    /// How `ref()` would name it: `dim`, or `dim.v2`.
    pub fn search_name(&self) -> String {
        match &self.version {
            Some(version) => format!("{}.v{}", self.name, version_text(version)),
            None => self.name.clone(),
        }
    }

    /// Below `target/compiled` and `target/run`: `f1/models/staging/stg_laps.sql`; where a file has many nodes it is the folder:
    /// `f1/models/schema.yml/unique_a_id.sql`.
    pub fn target_path(&self) -> PathBuf {
        let original = self.original_file_path.trim_start_matches("./");
        let path = PathBuf::from(&self.package_name).join(original);
        if path.file_name() == std::path::Path::new(&self.path).file_name() { path } else { path.join(&self.path) }
    }
}

/// A version without quotes: `2`, `beta`.
pub fn version_text(version: &Value) -> String {
    match version {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A table of `sources:`.
#[derive(Debug, Clone)]
pub struct Source {
    pub unique_id: String,
    pub package_name: String,
    pub path: String,
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub source_name: String,
    pub name: String,
    /// Of the table; `name` where none is written.
    pub identifier: String,
    /// The ClickHouse database; the source's name where none is written.
    pub schema: String,
    pub database: String,
    pub relation_name: String,
    pub source_description: String,
    pub loader: String,
    pub quoting: Map<String, Value>,
    pub loaded_at_field: Option<String>,
    pub loaded_at_query: Option<String>,
    /// `None` where freshness is switched off.
    pub freshness: Option<Freshness>,
    pub external: Option<Value>,
    pub description: String,
    pub doc_blocks: Vec<String>,
    pub columns: IndexMap<String, Column>,
    pub meta: Map<String, Value>,
    pub source_meta: Map<String, Value>,
    pub tags: Vec<String>,
    pub config: NodeConfig,
    pub unrendered_config: Map<String, Value>,
    pub unrendered_schema: Option<String>,
    pub unrendered_database: Option<String>,
    pub created_at: f64,
}

impl Source {
    /// Where its rows are. As dbt-clickhouse's: a source that names a `database` and no schema of its own means that database.
    pub fn relation(&self) -> Relation {
        let means_database = self.schema == self.source_name && !self.database.is_empty();
        Relation::new(if means_database { &self.database } else { &self.schema }, &self.identifier)
    }
}

/// How old a source may be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    pub warn_after: FreshnessThreshold,
    pub error_after: FreshnessThreshold,
    pub filter: Option<String>,
}

/// One bound of [`Freshness`]; unset when both are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshnessThreshold {
    pub count: Option<i64>,
    /// `minute`, `hour` or `day`.
    pub period: Option<String>,
}

/// A use of the data outside: a dashboard, an application.
#[derive(Debug, Clone)]
pub struct Exposure {
    pub unique_id: String,
    pub name: String,
    pub package_name: String,
    pub path: String,
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub exposure_type: String,
    pub owner: Map<String, Value>,
    pub description: String,
    pub label: Option<String>,
    pub maturity: Option<String>,
    pub meta: Map<String, Value>,
    pub tags: Vec<String>,
    pub config: NodeConfig,
    pub unrendered_config: Map<String, Value>,
    pub url: Option<String>,
    pub depends_on: DependsOn,
    pub refs: Vec<Ref>,
    pub sources: Vec<[String; 2]>,
    pub created_at: f64,
}

/// A unit test of a model.
#[derive(Debug, Clone)]
pub struct UnitTest {
    pub unique_id: String,
    pub name: String,
    pub package_name: String,
    pub path: String,
    pub original_file_path: String,
    pub fqn: Vec<String>,
    pub description: String,
    /// The model's name as written.
    pub model: String,
    pub given: Vec<UnitTestInput>,
    pub expect: UnitTestRows,
    /// `macros`, `vars`, `env_vars` to replace.
    pub overrides: Option<Map<String, Value>>,
    pub depends_on: DependsOn,
    pub config: NodeConfig,
    pub checksum: String,
    pub schema: String,
    pub versions: Option<Value>,
    pub version: Option<Value>,
    pub created_at: f64,
}

/// One input of a unit test.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitTestInput {
    /// `ref('a')`, `source('raw', 'r')` or `this`.
    pub input: String,
    pub rows: UnitTestRows,
}

/// Rows of a unit test.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitTestRows {
    /// A list of mappings (`dict`), or a text (`csv`, `sql`); none where a fixture file holds them.
    pub rows: Option<Value>,
    /// `dict`, `csv` or `sql`.
    pub format: String,
    pub fixture: Option<String>,
}

/// A macro, generic test macro or materialization.
#[derive(Debug, Clone)]
pub struct Macro {
    /// `macro.package.name`.
    pub unique_id: String,
    pub name: String,
    pub package_name: String,
    pub path: String,
    pub original_file_path: String,
    /// The whole block.
    pub macro_sql: String,
    pub depends_on: DependsOn,
    pub description: String,
    pub meta: Map<String, Value>,
    pub docs: Docs,
    pub config: Map<String, Value>,
    pub patch_path: Option<String>,
    pub arguments: Vec<MacroArgument>,
    pub created_at: f64,
    /// Materializations only: `["sql"]`.
    pub supported_languages: Option<Vec<String>>,
}

/// A documented argument of a macro.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacroArgument {
    pub name: String,
    #[serde(rename = "type")]
    pub argument_type: Option<String>,
    pub description: String,
}

/// A `{% docs %}` block.
#[derive(Debug, Clone)]
pub struct Documentation {
    pub unique_id: String,
    pub name: String,
    pub package_name: String,
    pub path: String,
    pub original_file_path: String,
    pub block_contents: String,
}

/// A group of models with an owner.
#[derive(Debug, Clone)]
pub struct Group {
    pub unique_id: String,
    pub name: String,
    pub package_name: String,
    pub path: String,
    pub original_file_path: String,
    pub owner: Map<String, Value>,
    pub description: Option<String>,
    pub config: Map<String, Value>,
}
