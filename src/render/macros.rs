//! The macros of all packages, found by dbt's rules. Bodies are compiled when they are first called.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

use indexmap::IndexMap;

use super::{
    Argument, Block, BlockKind, RenderError,
    ast::{Call, CallArgument, Expression, Function, Kind, Node, Origin},
    blocks::split_commas,
    parse::{parse_expression, parse_part},
    split_blocks,
};

/// A file of macros as it is given to [`Macros::add_file`].
#[derive(Debug, Clone, Copy)]
pub struct MacroSource<'a> {
    pub package: &'a str,
    /// Relative to the package: `macros/x.sql`.
    pub path: &'a str,
    pub text: &'a str,
}

/// One macro, test or materialization.
#[derive(Debug)]
pub struct Macro {
    pub package: String,
    /// The registered name: `test_unique`, `materialization_view_clickhouse`, `my_macro`.
    pub name: String,
    pub kind: BlockKind,
    pub path: String,
    /// The whole block (`macro_sql` in the manifest).
    pub source: String,
    pub arguments: Vec<Argument>,
    pub languages: Vec<String>,
    /// The line of the opening tag in the file, from 1.
    pub line: usize,
    source_line: usize,
    /// Where in `source` the body is.
    body: Range<usize>,
    body_line: usize,
    compiled: OnceLock<Result<Arc<Function>, RenderError>>,
}

impl Macro {
    fn new(package: &str, path: &str, block: &Block<'_>) -> Self {
        let start = block.body_offset - block.offset;
        Self {
            package: package.to_owned(),
            name: block.macro_name(),
            kind: block.kind,
            path: path.to_owned(),
            source: block.source.to_owned(),
            arguments: block.arguments.clone(),
            languages: block.languages.clone(),
            line: block.line,
            source_line: block.source_line,
            body: start..start + block.body.len(),
            body_line: block.body_line,
            compiled: OnceLock::new(),
        }
    }

    /// `macro.package.name`.
    pub fn unique_id(&self) -> String {
        format!("macro.{}.{}", self.package, self.name)
    }

    /// Parses the body, once.
    ///
    /// # Errors
    /// It does not parse.
    pub fn check(&self) -> Result<(), RenderError> {
        self.compiled().map(|_| ())
    }

    pub(super) fn compiled(&self) -> Result<Arc<Function>, RenderError> {
        self.compiled
            .get_or_init(|| {
                self.compile().map(Arc::new).map_err(|mut error| {
                    error.node = Some(format!("macro {} ({})", self.name, self.path));
                    error
                })
            })
            .clone()
    }

    fn compile(&self) -> Result<Function, RenderError> {
        let origin =
            Arc::new(Origin { path: self.path.clone(), text: self.source.clone(), first_line: self.source_line });
        let before = &self.source[..self.body.start];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let body = &self.source[self.body.clone()];
        let template = parse_part(body, &origin, self.body_line, column)?;
        let mut parameters = Vec::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            let default = match &argument.default {
                Some(default) => Some(parse_expression(default, &origin, self.line, 0)?),
                None => None,
            };
            parameters.push((Arc::from(argument.name.as_str()), default));
        }
        let uses = |word: &str| body.contains(word) && !self.arguments.iter().any(|argument| argument.name == word);
        Ok(Function {
            name: self.name.as_str().into(),
            parameters,
            uses_varargs: uses("varargs"),
            uses_kwargs: uses("kwargs"),
            uses_caller: uses("caller"),
            body: template.body,
            origin,
        })
    }
}

/// Whether chpipe has a materialization of its own by a name, and for which adapter it counts in dbt's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltinMaterialization {
    /// None.
    No,
    /// dbt's own, for any adapter (`seed`, `snapshot`, `test`, `clone`).
    Default,
    /// dbt-clickhouse's (`view`, `table`, `incremental`, …), which beats a project's `default` one.
    ClickHouse,
}

/// Every macro of an invocation.
#[derive(Debug, Default)]
pub struct Macros {
    packages: HashMap<String, IndexMap<String, Arc<Macro>>>,
}

/// The built-in macros, as files: package, path, text.
const BUILTINS: [(&str, &str, &str); 7] = [
    ("dbt", "macros/names.sql", include_str!("macros/names.sql")),
    ("dbt", "macros/statement.sql", include_str!("macros/statement.sql")),
    ("dbt", "macros/utils.sql", include_str!("macros/utils.sql")),
    ("dbt", "macros/tests.sql", include_str!("macros/tests.sql")),
    ("dbt", "macros/snapshots.sql", include_str!("macros/snapshots.sql")),
    ("dbt", "macros/relations.sql", include_str!("macros/relations.sql")),
    ("dbt_clickhouse", "macros/clickhouse.sql", include_str!("macros/clickhouse.sql")),
];

/// Macros of `dbt` that only look up the adapter's version of themselves.
const DISPATCHED: &str = include_str!("macros/signatures.txt");

/// `name(a, b=1)` as a macro that dispatches to `clickhouse__name` or `default__name`.
fn dispatching_macro(signature: &str) -> String {
    let (name, parameters) = signature.split_once('(').unwrap_or((signature, ")"));
    let parameters = parameters.strip_suffix(')').unwrap_or(parameters);
    let names: Vec<&str> = split_commas(parameters)
        .into_iter()
        .map(|parameter| parameter.split_once('=').map_or(parameter, |(name, _)| name))
        .collect();
    format!(
        "{{% macro {name}({parameters}) %}}{{{{ return(adapter.dispatch('{name}', 'dbt')({})) }}}}{{% endmacro %}}\n",
        names.join(", ")
    )
}

impl Macros {
    /// With the built-in packages `dbt` and `dbt_clickhouse`.
    ///
    /// # Errors
    /// Never for the built-ins as they ship; a test parses them all.
    pub fn with_builtins() -> Result<Self, RenderError> {
        let mut macros = Self::default();
        for (package, path, text) in BUILTINS {
            macros.add_file(MacroSource { package, path, text })?;
        }
        let dispatched: String = DISPATCHED.lines().map(dispatching_macro).collect();
        macros.add_file(MacroSource { package: "dbt", path: "macros/dispatched.sql", text: &dispatched })?;
        Ok(macros)
    }

    /// Adds the macros, tests and materializations of a file and answers them in order. Snapshot and docs blocks are
    /// left out: those are the project's.
    ///
    /// # Errors
    /// The file cannot be split into blocks, or a name occurs twice in its package.
    pub fn add_file(&mut self, source: MacroSource<'_>) -> Result<Vec<Arc<Macro>>, RenderError> {
        let blocks = split_blocks(source.text, source.path)?;
        let package = self.packages.entry(source.package.to_owned()).or_default();
        let mut added = Vec::with_capacity(blocks.len());
        for block in blocks {
            if matches!(block.kind, BlockKind::Snapshot | BlockKind::Docs) {
                continue;
            }
            let definition = Arc::new(Macro::new(source.package, source.path, &block));
            if let Some(known) = package.get(&definition.name) {
                return Err(RenderError::compilation(format!(
                    "dbt found two macros named \"{}\" in the project \"{}\".\n To fix this error, rename or remove one of \
                     the following macros:\n    - {}\n    - {}",
                    definition.name, source.package, known.path, definition.path
                )));
            }
            package.insert(definition.name.clone(), Arc::clone(&definition));
            added.push(definition);
        }
        Ok(added)
    }

    /// All macros: by package, in order of their files.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Macro>> {
        self.packages.values().flat_map(IndexMap::values)
    }

    pub fn by_unique_id(&self, unique_id: &str) -> Option<&Arc<Macro>> {
        let (package, name) = unique_id.strip_prefix("macro.")?.split_once('.')?;
        self.in_package(package, name)
    }

    /// A package that has macros.
    pub fn has_package(&self, package: &str) -> bool {
        self.packages.contains_key(package)
    }

    /// Exactly `package.name`.
    pub fn in_package(&self, package: &str, name: &str) -> Option<&Arc<Macro>> {
        self.packages.get(package)?.get(name)
    }

    /// What an unqualified `name` means in a node of `package`: that package, the root project, the adapter's built-ins,
    /// dbt's.
    pub fn find(&self, root: &str, package: &str, name: &str) -> Option<&Arc<Macro>> {
        [package, root, "dbt_clickhouse", "dbt"].iter().find_map(|package| self.in_package(package, name))
    }

    /// The project's materialization of that name, where it wins over the one that chpipe has itself: a macro for this
    /// adapter before a `default` one, the root project before packages; packages never replace a built-in one.
    pub fn materialization(&self, root: &str, name: &str, builtin: BuiltinMaterialization) -> Option<&Arc<Macro>> {
        let from =
            |package: &str, adapter: &str| self.in_package(package, &format!("materialization_{name}_{adapter}"));
        for adapter in ["clickhouse", "default"] {
            if adapter == "default" && builtin == BuiltinMaterialization::ClickHouse {
                return None;
            }
            if let Some(found) = from(root, adapter) {
                return Some(found);
            }
            if builtin == BuiltinMaterialization::No {
                let packages = self.packages.keys().filter(|package| *package != root);
                if let Some(found) = packages.filter_map(|package| from(package, adapter)).next() {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The generic test `name` (`unique`, `dbt_utils.expression_is_true`) for a properties file of `package`.
    pub fn generic_test(&self, root: &str, package: &str, name: &str) -> Option<&Arc<Macro>> {
        match name.split_once('.') {
            Some(("dbt", name)) => {
                let name = format!("test_{name}");
                self.in_package("dbt_clickhouse", &name).or_else(|| self.in_package("dbt", &name))
            }
            Some((package, name)) => self.in_package(package, &format!("test_{name}")),
            None => self.find(root, package, &format!("test_{name}")),
        }
    }

    /// The unique ids of the macros that this one names in its source (`depends_on.macros` of the manifest), without
    /// running it. Dispatched names count with every prefix that exists.
    pub fn dependencies(&self, root: &str, dispatch: &HashMap<String, Vec<String>>, of: &Macro) -> Vec<String> {
        let Ok(function) = of.compiled() else { return Vec::new() };
        let mut found = Vec::new();
        let mut add = |definition: Option<&Arc<Macro>>| {
            if let Some(definition) = definition {
                let id = definition.unique_id();
                if !found.contains(&id) {
                    found.push(id);
                }
            }
        };
        for call in calls_in(&function.body) {
            match call {
                Named::Plain(name) => add(self.find(root, &of.package, &name)),
                Named::Qualified(package, name) if package == "dbt" => {
                    add(self.in_package("dbt_clickhouse", &name).or_else(|| self.in_package("dbt", &name)));
                }
                Named::Qualified(package, name) => add(self.in_package(&package, &name)),
                Named::Dispatched(name, namespace) => {
                    let prefixes = ["clickhouse", "default"].map(|prefix| format!("{prefix}__{name}"));
                    match namespace {
                        None => add(prefixes.iter().find_map(|name| self.find(root, &of.package, name))),
                        Some(namespace) => {
                            let order =
                                dispatch.get(&namespace).cloned().unwrap_or_else(|| vec![root.to_owned(), namespace]);
                            let in_order = order.iter().find_map(|package| {
                                prefixes.iter().find_map(|name| {
                                    let adapter =
                                        (package == "dbt").then(|| self.in_package("dbt_clickhouse", name)).flatten();
                                    adapter.or_else(|| self.in_package(package, name))
                                })
                            });
                            add(in_order);
                        }
                    }
                }
            }
        }
        found
    }
}

/// A call in a template by how it names its macro.
enum Named {
    Plain(String),
    Qualified(String, String),
    Dispatched(String, Option<String>),
}

fn calls_in(nodes: &[Node]) -> Vec<Named> {
    let mut found = Vec::new();
    visit_nodes(nodes, &mut |call| {
        let constant = |argument: &CallArgument| match argument {
            CallArgument::Positional(value) | CallArgument::Keyword(_, value) => match &value.kind {
                Kind::Constant(value) => value.as_str().map(str::to_owned),
                _ => None,
            },
            _ => None,
        };
        match &call.callee.kind {
            Kind::Name(name) => found.push(Named::Plain(name.to_string())),
            Kind::Attribute(object, name) => {
                let Kind::Name(package) = &object.kind else { return };
                if &**package == "adapter" && &**name == "dispatch" {
                    let Some(name) = call.arguments.first().and_then(constant) else { return };
                    found.push(Named::Dispatched(name, call.arguments.get(1).and_then(constant)));
                } else {
                    found.push(Named::Qualified(package.to_string(), name.to_string()));
                }
            }
            _ => {}
        }
    });
    found
}

fn visit_nodes(nodes: &[Node], visit: &mut dyn FnMut(&Call)) {
    for node in nodes {
        match node {
            Node::Text(..) | Node::Break | Node::Continue => {}
            Node::Emit(expression) | Node::Do(expression) => visit_expression(expression, visit),
            Node::If { condition, then, otherwise } => {
                visit_expression(condition, visit);
                visit_nodes(then, visit);
                visit_nodes(otherwise, visit);
            }
            Node::For(for_loop) => {
                visit_expression(&for_loop.iterable, visit);
                for_loop.condition.iter().for_each(|condition| visit_expression(condition, visit));
                visit_nodes(&for_loop.body, visit);
                visit_nodes(&for_loop.otherwise, visit);
            }
            Node::Set { value, .. } => visit_expression(value, visit),
            Node::SetBlock { filters, body, .. } => {
                filters.iter().for_each(|filters| visit_expression(filters, visit));
                visit_nodes(body, visit);
            }
            Node::With { assignments, body } => {
                assignments.iter().for_each(|(_, value)| visit_expression(value, visit));
                visit_nodes(body, visit);
            }
            Node::Filter { filters, body } => {
                visit_expression(filters, visit);
                visit_nodes(body, visit);
            }
            Node::Macro(function) => visit_nodes(&function.body, visit),
            Node::CallBlock { call, caller, .. } => {
                visit_call(call, visit);
                visit_nodes(&caller.body, visit);
            }
        }
    }
}

fn visit_call(call: &Call, visit: &mut dyn FnMut(&Call)) {
    visit(call);
    visit_expression(&call.callee, visit);
    visit_arguments(&call.arguments, visit);
}

fn visit_arguments(arguments: &[CallArgument], visit: &mut dyn FnMut(&Call)) {
    for argument in arguments {
        match argument {
            CallArgument::Positional(value)
            | CallArgument::Keyword(_, value)
            | CallArgument::Splat(value)
            | CallArgument::KeywordSplat(value) => visit_expression(value, visit),
        }
    }
}

fn visit_expression(expression: &Expression, visit: &mut dyn FnMut(&Call)) {
    match &expression.kind {
        Kind::Constant(_) | Kind::Name(_) => {}
        Kind::List(items) | Kind::Tuple(items) | Kind::Concatenate(items) => {
            items.iter().for_each(|item| visit_expression(item, visit));
        }
        Kind::Dict(entries) => entries.iter().for_each(|(key, value)| {
            visit_expression(key, visit);
            visit_expression(value, visit);
        }),
        Kind::Attribute(object, _) | Kind::Not(object) | Kind::Negative(object) => visit_expression(object, visit),
        Kind::Item(left, right) | Kind::And(left, right) | Kind::Or(left, right) | Kind::Binary(_, left, right) => {
            visit_expression(left, visit);
            visit_expression(right, visit);
        }
        Kind::Slice(parts) => parts.iter().flatten().for_each(|part| visit_expression(part, visit)),
        Kind::Call(call) => visit_call(call, visit),
        Kind::Filter(subject, _, arguments) => {
            subject.iter().for_each(|subject| visit_expression(subject, visit));
            visit_arguments(arguments, visit);
        }
        Kind::Test(subject, _, arguments) => {
            visit_expression(subject, visit);
            visit_arguments(arguments, visit);
        }
        Kind::Compare(first, rest) => {
            visit_expression(first, visit);
            rest.iter().for_each(|(_, value)| visit_expression(value, visit));
        }
        Kind::Choice(parts, otherwise) => {
            parts.iter().for_each(|part| visit_expression(part, visit));
            otherwise.iter().for_each(|otherwise| visit_expression(otherwise, visit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every built-in macro parses.
    #[test]
    fn builtins_parse() {
        let macros = Macros::with_builtins().unwrap();
        for definition in macros.all() {
            definition.check().unwrap_or_else(|error| panic!("{}: {}", definition.name, error.report()));
        }
        assert!(macros.all().count() > 250);
    }

    /// What is dispatched has something to dispatch to, except for hooks that only projects fill.
    #[test]
    fn dispatched_macros_have_a_body() {
        let macros = Macros::with_builtins().unwrap();
        let missing: Vec<_> = DISPATCHED
            .lines()
            .map(|line| line.split('(').next().unwrap_or_default())
            .filter(|name| {
                macros.in_package("dbt", &format!("default__{name}")).is_none()
                    && macros.in_package("dbt_clickhouse", &format!("clickhouse__{name}")).is_none()
            })
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
