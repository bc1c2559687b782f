//! What the renderer asks of the project: which relation a `ref()` or `source()` is. `project` implements it, so that
//! this module never sees a manifest.

use super::{Relation, RenderError, Value};

/// The version argument of `ref('m', v=2)`, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Version {
    Number(i64),
    Text(String),
    /// A YAML float such as 1.5.
    Float(f64),
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Float(number) => write!(f, "{number}"),
        }
    }
}

/// One `ref()` call as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct RefCall {
    pub package: Option<String>,
    pub name: String,
    pub version: Option<Version>,
}

/// One `source()` call as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceCall {
    pub source: String,
    pub table: String,
}

/// What a `ref()` or `source()` stands for.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub unique_id: String,
    /// For an ephemeral node: [`Relation::ephemeral`].
    pub relation: Relation,
    /// The node has no relation of its own: its SQL becomes a CTE, and the call is noted in [`super::Captured::ctes`].
    pub ephemeral: bool,
}

/// The project, as far as templates can see it. Only asked in the compile and run phases, except for `doc`.
pub trait Resolve: Send + Sync {
    /// # Errors
    /// dbt's texts: the node does not exist, is disabled, is private, or is not among the node's dependencies.
    fn resolve_ref(&self, from: &super::NodeContext, call: &RefCall) -> Result<Resolved, RenderError>;

    /// # Errors
    /// The source does not exist or is disabled.
    fn resolve_source(&self, from: &super::NodeContext, call: &SourceCall) -> Result<Resolved, RenderError>;

    /// The text of a docs block: `package` where two arguments were given. `from_package` is searched first.
    fn doc(&self, from_package: &str, package: Option<&str>, name: &str) -> Option<String>;

    /// `graph`: nodes, sources, exposures, … as dbt's flat graph. Build it once; this is a cheap clone.
    fn graph(&self) -> Value;

    /// `selected_resources`: unique ids of this invocation.
    fn selected_resources(&self) -> Vec<String>;
}
