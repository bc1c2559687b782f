//! Splits a file into its top-level blocks: `{% macro %}`, `{% test %}`, `{% materialization %}`, `{% snapshot %}`,
//! `{% docs %}` and the text between them.

use super::RenderError;

/// What kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    Macro,
    /// `{% test %}` and `{% data_test %}`.
    Test,
    Materialization,
    Snapshot,
    Docs,
}

/// A parameter of a macro or test as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    /// The type annotation, where there is one: `name: string`.
    pub annotation: Option<String>,
    /// The source of its default.
    pub default: Option<String>,
}

/// One top-level block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'a> {
    pub kind: BlockKind,
    pub name: String,
    pub arguments: Vec<Argument>,
    /// Materializations: the adapter, `default` where none is named.
    pub adapter: Option<String>,
    /// Materializations: `supported_languages`.
    pub languages: Vec<String>,
    /// From the opening tag to the closing one, both included.
    pub source: &'a str,
    /// What is between the tags, before whitespace control.
    pub body: &'a str,
    /// Byte offset of `source` and of `body` in the file.
    pub offset: usize,
    pub body_offset: usize,
    /// The lines of the opening tag and of the body's first byte, from 1.
    pub line: usize,
    pub body_line: usize,
}

impl Block<'_> {
    /// The name under which dbt registers it: `test_unique`, `materialization_view_clickhouse`, otherwise the name.
    pub fn macro_name(&self) -> String {
        match self.kind {
            BlockKind::Test => format!("test_{}", self.name),
            BlockKind::Materialization => {
                format!("materialization_{}_{}", self.name, self.adapter.as_deref().unwrap_or("default"))
            }
            BlockKind::Macro | BlockKind::Snapshot | BlockKind::Docs => self.name.clone(),
        }
    }
}

/// The top-level blocks of a file, in order.
///
/// # Errors
/// A block is not closed, closed by another's end tag, or its opening tag is malformed; with the place.
pub fn split_blocks<'a>(_text: &'a str, _path: &str) -> Result<Vec<Block<'a>>, RenderError> {
    Err(RenderError::not_supported("blocks"))
}
