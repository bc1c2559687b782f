//! What can be wrong with a project, in dbt's kinds and, where dbt has one, in dbt's words: tools read them.

use std::path::PathBuf;

use crate::{error::Location, render::RenderError, yaml::YamlError};

/// A project that cannot be read, parsed or compiled.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A file that is no valid YAML.
    #[error("Parsing Error\n  {reason}")]
    Yaml { reason: String, location: Location },
    /// dbt's `Parsing Error`: a file or an entry of a properties file that cannot be used.
    #[error("Parsing Error{}", body(subject, message))]
    Parsing { subject: Option<String>, message: String, location: Option<Location>, hint: Option<String> },
    /// dbt's `Compilation Error`: refs, sources, duplicates, Jinja.
    #[error("Compilation Error{}", body(subject, message))]
    Compilation { subject: Option<String>, message: String, location: Option<Location>, hint: Option<String> },
    /// dbt's `Runtime Error`: dbt_project.yml, packages, selection.
    #[error("Runtime Error{}", body(subject, message))]
    Runtime { subject: Option<String>, message: String, location: Option<Location>, hint: Option<String> },
    /// What `deps` cannot fetch or agree on; dbt calls it a `Runtime Error` too.
    #[error("Runtime Error{}", body(&None, message))]
    Dependency { message: String, hint: Option<String> },
    /// A part of dbt that chpipe leaves out.
    #[error("Runtime Error\n  chpipe does not support {feature}")]
    NotSupported { feature: String, location: Option<Location> },
    /// A template that cannot be rendered.
    #[error("{}", render_text(.0))]
    Render(Box<RenderError>),
    #[error("cannot read or write `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// dbt's layout: the subject in the first line, the message indented by two.
fn body(subject: &Option<String>, message: &str) -> String {
    let mut out = subject.as_ref().map_or_else(String::new, |subject| format!(" in {subject}"));
    for line in message.lines() {
        out.push_str("\n  ");
        out.push_str(line);
    }
    out
}

fn render_text(error: &RenderError) -> String {
    let mut out = format!("{}{}", error.kind.label(), body(&error.node, &error.message));
    for line in error.stack_lines() {
        out.push_str(&format!("\n  {line}"));
    }
    if let (Some(node), false) = (&error.node, error.stack.is_empty()) {
        out.push_str(&format!("\n  > called by {node}"));
    }
    out
}

impl From<RenderError> for ProjectError {
    fn from(error: RenderError) -> Self {
        Self::Render(Box::new(error))
    }
}

impl From<YamlError> for ProjectError {
    fn from(error: YamlError) -> Self {
        Self::Yaml { reason: error.reason, location: error.location }
    }
}

impl ProjectError {
    pub fn parsing(message: impl Into<String>) -> Self {
        Self::Parsing { subject: None, message: message.into(), location: None, hint: None }
    }

    pub fn compilation(message: impl Into<String>) -> Self {
        Self::Compilation { subject: None, message: message.into(), location: None, hint: None }
    }

    pub fn runtime(message: impl Into<String>) -> Self {
        Self::Runtime { subject: None, message: message.into(), location: None, hint: None }
    }

    pub fn dependency(message: impl Into<String>) -> Self {
        Self::Dependency { message: message.into(), hint: None }
    }

    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// What it is about, as dbt names it: `model a (models/a.sql)`.
    #[must_use]
    pub fn in_subject(mut self, text: impl Into<String>) -> Self {
        if let Self::Parsing { subject, .. } | Self::Compilation { subject, .. } | Self::Runtime { subject, .. } =
            &mut self
        {
            *subject = Some(text.into());
        }
        self
    }

    #[must_use]
    pub fn at(mut self, place: Location) -> Self {
        match &mut self {
            Self::Yaml { location, .. } => *location = place,
            Self::Parsing { location, .. }
            | Self::Compilation { location, .. }
            | Self::Runtime { location, .. }
            | Self::NotSupported { location, .. } => *location = Some(place),
            Self::Render(error) => error.location = Some(Box::new(place)),
            Self::Dependency { .. } | Self::Io { .. } => {}
        }
        self
    }

    /// The same, unless a place is known already.
    #[must_use]
    pub fn at_least(self, place: Location) -> Self {
        if self.location().is_some() { self } else { self.at(place) }
    }

    #[must_use]
    pub fn hinting(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Parsing { hint, .. }
            | Self::Compilation { hint, .. }
            | Self::Runtime { hint, .. }
            | Self::Dependency { hint, .. } => *hint = Some(text.into()),
            Self::Yaml { .. } | Self::NotSupported { .. } | Self::Render(_) | Self::Io { .. } => {}
        }
        self
    }

    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Yaml { location, .. } => Some(location.clone()),
            Self::Parsing { location, .. }
            | Self::Compilation { location, .. }
            | Self::Runtime { location, .. }
            | Self::NotSupported { location, .. } => location.clone(),
            Self::Render(error) => error.location().cloned(),
            Self::Dependency { .. } | Self::Io { .. } => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Parsing { hint, .. }
            | Self::Compilation { hint, .. }
            | Self::Runtime { hint, .. }
            | Self::Dependency { hint, .. } => hint.clone(),
            Self::Yaml { .. } | Self::NotSupported { .. } | Self::Render(_) | Self::Io { .. } => None,
        }
    }
}
