//! Runs parsed templates with Jinja2's scoping: loops, blocks and macros have scopes of their own, `if` has none, and
//! `caller` sees the scope it was written in. `return()` travels as an error that the macro call takes back.

mod calls;
mod expressions;
mod loops;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use self::calls::Closure;
use super::{
    ErrorKind, RenderError, Table, Value,
    ast::{Call, Expression, ForLoop, Function, Kind, Node, Origin, Place, Target, Template},
    builtins,
    context::{Captured, Environment, NodeContext, Phase, Rendered, Services},
    filters, operators,
    parse::location,
    warehouse::Response,
};

/// Macros may call each other this deep; Python stops at about as many.
const MAXIMUM_DEPTH: usize = 220;
/// Nor may they use more stack than this, since threads have 2 MiB and unoptimized frames are large.
const MAXIMUM_STACK: usize = 1_200_000;

/// Names of one block; inner blocks look outwards.
pub(super) struct Scope {
    names: Mutex<Vec<(Arc<str>, Value)>>,
    parent: Option<Arc<Scope>>,
}

impl Scope {
    fn root() -> Arc<Self> {
        Arc::new(Self { names: Mutex::new(Vec::new()), parent: None })
    }

    fn child(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { names: Mutex::new(Vec::new()), parent: Some(Arc::clone(self)) })
    }

    fn get(&self, name: &str) -> Option<Value> {
        let mut scope = Some(self);
        while let Some(current) = scope {
            if let Some((_, value)) = current.names.lock().iter().rev().find(|(known, _)| **known == *name) {
                return Some(value.clone());
            }
            scope = current.parent.as_deref();
        }
        None
    }

    fn set(&self, name: Arc<str>, value: Value) {
        let mut names = self.names.lock();
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = value,
            None => names.push((name, value)),
        }
    }
}

/// How a block ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// Where a piece of the main template's output came from.
struct Mark {
    offset: usize,
    line: u32,
    /// The text is the file's own, so that lines advance with it.
    verbatim: bool,
}

/// What `statement` and `store_result` keep.
#[derive(Clone)]
pub(super) struct StoredResult {
    pub(super) response: Response,
    pub(super) table: Arc<Table>,
    /// The object that `load_result` hands out.
    pub(super) value: Value,
}

/// A rendering in progress: what functions and objects of the context are given.
pub struct Interpreter<'a> {
    pub(super) environment: &'a Environment,
    pub(super) services: Services<'a>,
    pub(super) node: NodeContext,
    pub(super) phase: Phase,
    pub(super) captured: Captured,
    /// `None`: stored and already loaded.
    pub(super) results: HashMap<String, Option<StoredResult>>,
    /// A result that outlives its `load_result`, for the caller of the renderer.
    pub(super) kept: HashMap<String, StoredResult>,
    /// Undefined values swallow attributes and calls, as dbt's do in templates (not macros) while parsing.
    pub(super) lenient: bool,
    /// The filters `as_number` and the like convert.
    pub(super) native: bool,
    /// A context without a project: only what YAML files may use.
    pub(super) yaml: Option<super::context::YamlContext>,
    scope: Arc<Scope>,
    origin: Arc<Origin>,
    place: Place,
    output: String,
    marks: Option<Vec<Mark>>,
    /// How many registered macros are running; only those called at 0 are dependencies of the node.
    pub(super) depth: usize,
    /// How deep calls of any kind are nested.
    nesting: usize,
    /// An address on the stack where the rendering began.
    stack_base: usize,
    returning: Option<Value>,
    unwinding: Option<u32>,
    /// Values built once a rendering (`modules`, `adapter`, …).
    pub(super) cache: HashMap<&'static str, Value>,
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(environment: &'a Environment, services: Services<'a>, node: NodeContext, phase: Phase) -> Self {
        Self {
            environment,
            services,
            node,
            phase,
            captured: Captured::default(),
            results: HashMap::new(),
            kept: HashMap::new(),
            lenient: phase == Phase::Parse,
            native: false,
            yaml: None,
            scope: Scope::root(),
            origin: Arc::new(Origin { path: String::new(), text: String::new(), first_line: 1 }),
            place: Place::default(),
            output: String::new(),
            marks: None,
            depth: 0,
            nesting: 0,
            stack_base: 0,
            returning: None,
            unwinding: None,
            cache: HashMap::new(),
        }
    }

    /// Renders a template to text, with the line of the file behind each line of it.
    pub(super) fn render(&mut self, template: &Template) -> Result<Rendered, RenderError> {
        self.begin(template);
        let outer = std::mem::take(&mut self.output);
        let outer_marks = self.marks.replace(Vec::new());
        let result = self.block(&template.body);
        let text = std::mem::replace(&mut self.output, outer);
        let marks = std::mem::replace(&mut self.marks, outer_marks).unwrap_or_default();
        self.end_of_template(result)?;
        Ok(Rendered { lines: line_map(&text, &marks), text })
    }

    /// Renders a template and keeps the type of a single expression (Jinja2's native environment, dbt's variant of it).
    pub(super) fn render_native(&mut self, template: &Template) -> Result<Value, RenderError> {
        if let [Node::Text(text, _)] = &template.body[..] {
            return Ok(Value::str(&**text));
        }
        let outer = std::mem::replace(&mut self.native, true);
        let result = if let [Node::Emit(expression)] = &template.body[..] {
            self.begin(template);
            let result = self.evaluate(expression);
            self.end_of_template(result)
        } else {
            self.render(template).map(|rendered| Value::str(rendered.text))
        };
        self.native = outer;
        result
    }

    fn begin(&mut self, template: &Template) {
        self.origin = Arc::clone(&template.origin);
        self.scope = Scope::root();
        self.unwinding = None;
    }

    pub(super) fn end_of_template<T>(&mut self, result: Result<T, RenderError>) -> Result<T, RenderError> {
        result.map_err(|mut error| {
            if error.kind == ErrorKind::Return {
                self.returning = None;
                error = RenderError::compilation("return() was called outside of a macro");
            }
            if error.undefined && error.stack.is_empty() {
                // dbt's advice, which it gives only outside of macros.
                error.message.push_str(
                    ". This can happen when calling a macro that does not exist. Check for typos and/or install package \
                     dependencies with \"dbt deps\".",
                );
            }
            self.named(error)
        })
    }

    /// The error with the node that was rendered.
    pub(super) fn named(&self, mut error: RenderError) -> RenderError {
        if error.node.is_none() && !self.node.resource_type.is_empty() {
            error.node = Some(format!("{} {} ({})", self.node.resource_type, self.node.name, self.node.path));
        }
        error
    }

    /// Renders a template inside of this rendering, with none of its local names.
    pub(super) fn render_inner(&mut self, template: &Template) -> Result<String, RenderError> {
        let origin = std::mem::replace(&mut self.origin, Arc::clone(&template.origin));
        let scope = std::mem::replace(&mut self.scope, Scope::root());
        let output = std::mem::take(&mut self.output);
        let marks = self.marks.take();
        let result = self.block(&template.body);
        self.marks = marks;
        let text = std::mem::replace(&mut self.output, output);
        self.scope = scope;
        self.origin = origin;
        result?;
        Ok(text)
    }

    fn located(&self, mut error: RenderError, place: Place) -> RenderError {
        if error.location.is_none() && error.kind != ErrorKind::Return && place.line > 0 {
            error.location = Some(Box::new(location(&self.origin, place)));
        }
        error
    }

    // ---- statements -------------------------------------------------------------------------------------------------

    fn block(&mut self, nodes: &[Node]) -> Result<Flow, RenderError> {
        for node in nodes {
            match self.node(node)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn mark(&mut self, line: u32, verbatim: bool) {
        let offset = self.output.len();
        if let Some(marks) = &mut self.marks {
            marks.push(Mark { offset, line, verbatim });
        }
    }

    fn node(&mut self, node: &Node) -> Result<Flow, RenderError> {
        match node {
            Node::Text(text, place) => {
                self.mark(place.line, true);
                self.output.push_str(text);
            }
            Node::Emit(expression) => self.emit(expression)?,
            Node::If { condition, then, otherwise } => {
                return if self.is_true(condition)? { self.block(then) } else { self.block(otherwise) };
            }
            Node::For(for_loop) => self.for_statement(for_loop)?,
            Node::Set { target, value } => self.set_statement(target, value)?,
            Node::SetBlock { target, filters, body } => {
                let value = self.captured_value(body, filters.as_ref())?;
                self.assign(target, value)?;
            }
            Node::With { assignments, body } => return self.with_statement(assignments, body),
            Node::Filter { filters, body } => {
                let value = self.captured_value(body, Some(filters))?;
                self.mark(filters.place.line, false);
                value.write_text(&mut self.output);
            }
            Node::Macro(function) => {
                let closure = self.closure(function);
                self.scope.set(Arc::clone(&function.name), closure);
            }
            Node::CallBlock { call, place, caller } => self.call_block(call, *place, caller)?,
            Node::Do(expression) => {
                self.evaluate(expression)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn emit(&mut self, expression: &Expression) -> Result<(), RenderError> {
        let value = self.evaluate(expression)?;
        self.mark(expression.place.line, false);
        value.write_text(&mut self.output);
        Ok(())
    }

    fn is_true(&mut self, condition: &Expression) -> Result<bool, RenderError> {
        self.evaluate(condition).map(|value| value.is_true())
    }

    fn for_statement(&mut self, for_loop: &Arc<ForLoop>) -> Result<(), RenderError> {
        let items = self.evaluate(&for_loop.iterable)?;
        self.for_loop(for_loop, &items, 0)
    }

    fn set_statement(&mut self, target: &Target, value: &Expression) -> Result<(), RenderError> {
        let value = self.evaluate(value)?;
        self.assign(target, value)
    }

    fn captured_value(&mut self, body: &[Node], filters: Option<&Expression>) -> Result<Value, RenderError> {
        let text = self.captured_block(body)?;
        self.filtered(filters, Value::str(text))
    }

    fn with_statement(&mut self, assignments: &[(Target, Expression)], body: &[Node]) -> Result<Flow, RenderError> {
        let mut values = Vec::with_capacity(assignments.len());
        for (target, value) in assignments {
            values.push((target, self.evaluate(value)?));
        }
        let outer = self.enter();
        let result = values
            .into_iter()
            .try_for_each(|(target, value)| self.assign(target, value))
            .and_then(|()| self.block(body));
        self.scope = outer;
        result
    }

    fn call_block(&mut self, call: &Call, place: Place, caller: &Arc<Function>) -> Result<(), RenderError> {
        let caller = self.closure(caller);
        let value = self.call_expression(call, place, Some(caller)).map_err(|error| self.located(error, place))?;
        self.mark(place.line, false);
        value.write_text(&mut self.output);
        Ok(())
    }

    fn enter(&mut self) -> Arc<Scope> {
        let child = self.scope.child();
        std::mem::replace(&mut self.scope, child)
    }

    fn closure(&self, function: &Arc<Function>) -> Value {
        Value::object(Closure { function: Arc::clone(function), scope: Arc::clone(&self.scope) })
    }

    /// The text a block writes, in a scope of its own.
    fn captured_block(&mut self, body: &[Node]) -> Result<String, RenderError> {
        let outer_scope = self.enter();
        let outer = std::mem::take(&mut self.output);
        let marks = self.marks.take();
        let result = self.block(body);
        self.marks = marks;
        let text = std::mem::replace(&mut self.output, outer);
        self.scope = outer_scope;
        result?;
        Ok(text)
    }

    fn filtered(&mut self, filters: Option<&Expression>, value: Value) -> Result<Value, RenderError> {
        let Some(filters) = filters else { return Ok(value) };
        let Kind::Filter(inner, name, arguments) = &filters.kind else { return Ok(value) };
        let value = self.filtered(inner.as_deref(), value)?;
        let arguments = self.arguments(arguments)?;
        filters::apply(self, name, value, arguments).map_err(|error| self.located(error, filters.place))
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<(), RenderError> {
        match target {
            Target::Name(name) => self.scope.set(Arc::clone(name), value),
            Target::Attribute(object, name) => {
                let object_value = self.evaluate(object)?;
                let Some(namespace) = object_value.downcast::<builtins::Namespace>() else {
                    let error = RenderError::compilation("cannot assign attribute on non-namespace object");
                    return Err(self.located(error, object.place));
                };
                namespace.set(name, value);
            }
            Target::Several(targets) => {
                operators::defined(&value)?;
                let values = operators::iterate(&value)?;
                if values.len() < targets.len() {
                    return Err(RenderError::compilation(format!(
                        "not enough values to unpack (expected {}, got {})",
                        targets.len(),
                        values.len()
                    )));
                }
                if values.len() > targets.len() {
                    return Err(RenderError::compilation(format!(
                        "too many values to unpack (expected {})",
                        targets.len()
                    )));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value)?;
                }
            }
        }
        Ok(())
    }
}

/// For each line of the output, the line of the file its first visible character came from.
fn line_map(text: &str, marks: &[Mark]) -> Vec<u32> {
    let mut lines = Vec::new();
    let mut offset = 0;
    let mut index = 0;
    for line in text.split('\n') {
        let visible = offset + (line.len() - line.trim_start().len());
        let at = if visible >= offset + line.len() { offset } else { visible };
        while index + 1 < marks.len() && marks[index + 1].offset <= at {
            index += 1;
        }
        lines.push(match marks.get(index) {
            Some(mark) if mark.verbatim => {
                let passed = text.get(mark.offset..at).unwrap_or_default().matches('\n').count();
                mark.line + u32::try_from(passed).unwrap_or(0)
            }
            Some(mark) => mark.line,
            None => 0,
        });
        offset += line.len() + 1;
    }
    lines
}
