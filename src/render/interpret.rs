//! Runs templates.

use super::context::{Environment, NodeContext, Phase, Services};

/// A rendering in progress: what functions and objects of the context are given.
pub struct Interpreter<'a> {
    pub(super) environment: &'a Environment,
    pub(super) services: Services<'a>,
    pub(super) node: NodeContext,
    pub(super) phase: Phase,
}
