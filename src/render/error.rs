//! What can go wrong while rendering, in dbt's kinds, with the place in the template and the stack of macros.

use std::fmt::Write as _;

use crate::error::Location;

/// dbt's names for what failed; tools read them in the first line of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    Compilation,
    Parsing,
    Runtime,
    Database,
    Dependency,
    Validation,
    Contract,
    FailFast,
    Internal,
    /// A feature that chpipe leaves out.
    NotSupported,
    /// Not an error: `return()` on its way to the macro that it ends.
    Return,
}

impl ErrorKind {
    /// As dbt writes it: `Compilation Error`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Compilation | Self::Contract => "Compilation Error",
            Self::Parsing => "Parsing Error",
            Self::Runtime | Self::NotSupported => "Runtime Error",
            Self::Database => "Database Error",
            Self::Dependency => "Dependency Error",
            Self::Validation => "Validation Error",
            Self::FailFast => "FailFast Error",
            Self::Internal | Self::Return => "Internal Error",
        }
    }
}

/// One macro that was running when the error happened, innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub name: String,
    /// As in the manifest: relative to its package.
    pub path: String,
    /// The line in that file that was being executed.
    pub line: Option<usize>,
}

/// A template that cannot be rendered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    pub kind: ErrorKind,
    pub message: String,
    /// What was rendered: `model stg_results (models/staging/stg_results.sql)`.
    pub node: Option<String>,
    /// Boxed, since errors travel through every expression.
    pub location: Option<Box<Location>>,
    pub stack: Vec<Frame>,
    /// The statement that the database refused.
    pub sql: Option<String>,
    /// An undefined name or attribute was used.
    pub(super) undefined: bool,
}

impl RenderError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            node: None,
            location: None,
            stack: Vec::new(),
            sql: None,
            undefined: false,
        }
    }

    /// dbt's `Compilation Error`.
    pub fn compilation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Compilation, message)
    }

    pub fn parsing(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Parsing, message)
    }

    pub fn runtime(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Runtime, message)
    }

    pub fn database(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Database, message)
    }

    /// A feature of dbt's that chpipe leaves out, by name.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotSupported, message)
    }

    /// Where in the user's files it happened: the innermost place.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_deref()
    }

    /// The stack of macros, innermost first; of a deep one, which repeats itself, the ends.
    pub fn stack_lines(&self) -> impl Iterator<Item = String> {
        let deep = self.stack.len() > 30;
        self.stack.iter().enumerate().filter_map(move |(index, frame)| {
            if deep && (10..self.stack.len() - 5).contains(&index) {
                return (index == 10).then(|| "> …".to_owned());
            }
            let verb = if index == 0 { "in" } else { "called by" };
            Some(format!("> {verb} macro {} ({})", frame.name, frame.path))
        })
    }

    /// The whole text in dbt's layout: kind and node, the message indented by two, then the stack of macros.
    pub fn report(&self) -> String {
        let mut out = String::from(self.kind.label());
        if let Some(node) = &self.node {
            let _ = write!(out, " in {node}");
        }
        for line in self.message.lines() {
            let _ = write!(out, "\n  {line}");
        }
        if let Some(location) = &self.location
            && let Some(line) = location.line
        {
            let _ = write!(out, "\n    line {line}");
            if let Some(column) = location.column {
                let _ = write!(out, ", column {column}");
            }
            if let Some(source) = &location.source_line {
                let _ = write!(out, "\n      {}", source.trim());
            }
        }
        if !self.stack.is_empty() {
            out.push_str("\n  ");
        }
        for line in self.stack_lines() {
            let _ = write!(out, "\n  {line}");
        }
        if !self.stack.is_empty()
            && let Some(node) = &self.node
        {
            let _ = write!(out, "\n  > called by {node}");
        }
        out
    }
}
