//! dbt's templates: Jinja with Python's values, dbt's context and macros. In: text, an [`Environment`] shared by all
//! nodes of an invocation, and a [`NodeContext`]; out: text and [`Captured`], the calls it saw. It reads no file, no
//! clock and no environment variable, and never sees a manifest: `ref()` asks [`Resolve`], `adapter` asks [`Warehouse`],
//! and what is to be shown goes to [`Events`].
//!
//! minijinja parses (`parse`), our own interpreter runs what it parsed (`interpret`): dbt's macros need mutable lists and
//! dicts, `varargs`, `caller`, `return()` of any value and Python's methods and printing, which minijinja's own values
//! do not have.

mod ast;
mod blocks;
mod builtins;
mod context;
mod error;
mod filters;
mod format;
mod interpret;
mod macros;
mod methods;
mod operators;
mod parse;
mod relation;
mod resolve;
mod table;
mod value;
mod warehouse;

pub use blocks::{Argument, Block, BlockKind, split_blocks};
pub use builtins::dataclass;
pub(crate) use builtins::json_text;
pub use context::{
    AdapterConfig, Captured, Environment, Events, Invocation, NodeContext, Phase, Rendered, Renderer, Services,
    SilentEvents, Source, YamlContext, inject_ctes, render_yaml,
};
pub use error::{ErrorKind, Frame, RenderError};
pub use interpret::Interpreter;
pub use macros::{BuiltinMaterialization, Macro, MacroSource, Macros};
pub use relation::{Column, EventTimeFilter, Relation, RelationKind};
pub use resolve::{RefCall, Resolve, Resolved, SourceCall, Version};
pub use table::{Table, TableColumn};
pub use value::{Arguments, DictRef, Key, ListRef, Map, Object, SetRef, TextKey, Undefined, Value};
pub use warehouse::{Response, Warehouse, WarehouseError};
