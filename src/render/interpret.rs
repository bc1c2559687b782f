//! Runs parsed templates with Jinja2's scoping: loops, blocks and macros have scopes of their own, `if` has none, and
//! `caller` sees the scope it was written in. `return()` travels as an error that the macro call takes back.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    Arguments, ErrorKind, Frame, Key, Macro, Object, RenderError, Table, Undefined, Value,
    ast::{
        BinaryOperator, Call, CallArgument, Comparison, Expression, ForLoop, Function, Kind, Node, Origin, Place,
        Target, Template,
    },
    builtins,
    context::{Captured, Environment, NodeContext, Phase, Rendered, Services},
    filters, methods, operators,
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

    fn for_loop(&mut self, for_loop: &Arc<ForLoop>, iterable: &Value, depth: usize) -> Result<(), RenderError> {
        let place = for_loop.iterable.place;
        let mut items = operators::iterate(iterable).map_err(|error| self.located(error, place))?;
        if let Some(condition) = &for_loop.condition {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let outer = self.enter();
                let result = self.assign(&for_loop.target, item.clone()).and_then(|()| self.evaluate(condition));
                self.scope = outer;
                if result?.is_true() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            let outer = self.enter();
            let result = self.block(&for_loop.otherwise);
            self.scope = outer;
            return result.map(|_| ());
        }
        let state = for_loop.uses_loop.then(|| {
            Arc::new(Loop {
                items: items.clone(),
                index: AtomicUsize::new(0),
                depth,
                body: Arc::clone(for_loop),
                scope: Arc::clone(&self.scope),
                changed: Mutex::new(None),
            })
        });
        for (index, item) in items.into_iter().enumerate() {
            let outer = self.enter();
            if let Some(state) = &state {
                state.index.store(index, Ordering::Relaxed);
                self.scope.set("loop".into(), Value::Object(Arc::clone(state) as Arc<dyn Object>));
            }
            let result = self
                .assign(&for_loop.target, item)
                .map_err(|error| self.located(error, place))
                .and_then(|()| self.block(&for_loop.body));
            self.scope = outer;
            if result? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    // ---- expressions ------------------------------------------------------------------------------------------------

    pub(super) fn evaluate(&mut self, expression: &Expression) -> Result<Value, RenderError> {
        self.evaluate_kind(&expression.kind, expression.place).map_err(|error| self.located(error, expression.place))
    }

    fn evaluate_all(&mut self, expressions: &[Expression]) -> Result<Vec<Value>, RenderError> {
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    // Each kind has a function of its own, so that the frames of nested calls stay small.
    fn evaluate_kind(&mut self, kind: &Kind, place: Place) -> Result<Value, RenderError> {
        match kind {
            Kind::Constant(value) => Ok(value.clone()),
            Kind::Name(name) => self.name(name),
            Kind::Call(call) => self.call_expression(call, place, None),
            Kind::Attribute(object, name) => self.attribute_expression(object, name),
            Kind::Item(object, key) => self.item_expression(object, key),
            Kind::List(items) => Ok(Value::list(self.evaluate_all(items)?)),
            Kind::Tuple(items) => Ok(Value::tuple(self.evaluate_all(items)?)),
            Kind::Dict(entries) => self.dict_expression(entries),
            Kind::Slice(parts) => self.slice_expression(parts),
            Kind::Filter(subject, name, arguments) => self.filter_expression(subject.as_deref(), name, arguments),
            Kind::Test(subject, name, arguments) => self.test_expression(subject, name, arguments),
            Kind::Not(operand) => Ok(Value::Bool(!self.evaluate(operand)?.is_true())),
            Kind::Negative(operand) => operators::negative(&self.evaluate(operand)?),
            Kind::And(left, right) => self.shortcut(left, right, false),
            Kind::Or(left, right) => self.shortcut(left, right, true),
            Kind::Binary(operator, left, right) => self.binary_expression(*operator, left, right),
            Kind::Compare(first, rest) => self.comparison(first, rest),
            Kind::Choice(parts, otherwise) => self.choice(parts, otherwise.as_deref(), place),
            Kind::Concatenate(parts) => self.concatenation(parts),
        }
    }

    fn attribute_expression(&mut self, object: &Expression, name: &str) -> Result<Value, RenderError> {
        let object = self.evaluate(object)?;
        self.attribute(&object, name)
    }

    fn item_expression(&mut self, object: &Expression, key: &Expression) -> Result<Value, RenderError> {
        let object = self.evaluate(object)?;
        let key = self.evaluate(key)?;
        self.item(&object, &key)
    }

    fn dict_expression(&mut self, entries: &[(Expression, Expression)]) -> Result<Value, RenderError> {
        let mut map = super::Map::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.evaluate(key)?;
            operators::hashable(&key)?;
            map.insert(Key(key), self.evaluate(value)?);
        }
        Ok(Value::dict(map))
    }

    fn slice_expression(&mut self, parts: &[Option<Expression>; 4]) -> Result<Value, RenderError> {
        let [subject, start, stop, step] = parts;
        let mut part = |part: &Option<Expression>| part.as_ref().map(|part| self.evaluate(part)).transpose();
        let (subject, start, stop, step) = (part(subject)?, part(start)?, part(stop)?, part(step)?);
        let subject = subject.unwrap_or_default();
        operators::slice(&subject, start.as_ref(), stop.as_ref(), step.as_ref())
    }

    fn filter_expression(
        &mut self,
        subject: Option<&Expression>,
        name: &str,
        arguments: &[CallArgument],
    ) -> Result<Value, RenderError> {
        let subject = match subject {
            Some(subject) => self.evaluate(subject)?,
            None => Value::None,
        };
        let arguments = self.arguments(arguments)?;
        filters::apply(self, name, subject, arguments)
    }

    fn test_expression(
        &mut self,
        subject: &Expression,
        name: &str,
        arguments: &[CallArgument],
    ) -> Result<Value, RenderError> {
        let subject = self.evaluate(subject)?;
        let arguments = self.arguments(arguments)?;
        filters::test(self, name, &subject, arguments).map(Value::Bool)
    }

    /// `and`, `or`: the first operand that decides.
    fn shortcut(&mut self, left: &Expression, right: &Expression, decides: bool) -> Result<Value, RenderError> {
        let left = self.evaluate(left)?;
        if left.is_true() == decides { Ok(left) } else { self.evaluate(right) }
    }

    fn binary_expression(
        &mut self,
        operator: BinaryOperator,
        left: &Expression,
        right: &Expression,
    ) -> Result<Value, RenderError> {
        let left = self.evaluate(left)?;
        let right = self.evaluate(right)?;
        operators::binary(operator, &left, &right)
    }

    fn comparison(&mut self, first: &Expression, rest: &[(Comparison, Expression)]) -> Result<Value, RenderError> {
        let mut left = self.evaluate(first)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right)?;
            if !operators::compare(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn choice(
        &mut self,
        parts: &[Expression; 2],
        otherwise: Option<&Expression>,
        place: Place,
    ) -> Result<Value, RenderError> {
        let [condition, then] = parts;
        if self.evaluate(condition)?.is_true() {
            return self.evaluate(then);
        }
        if let Some(otherwise) = otherwise {
            return self.evaluate(otherwise);
        }
        let hint = format!(
            "the inline if-expression on line {} evaluated to false and no else section was defined.",
            place.line
        );
        Ok(Value::Undefined(Arc::new(Undefined { hint: Some(hint), lenient: self.lenient, ..Undefined::default() })))
    }

    fn concatenation(&mut self, parts: &[Expression]) -> Result<Value, RenderError> {
        let mut out = String::new();
        for part in parts {
            self.evaluate(part)?.write_text(&mut out);
        }
        Ok(Value::str(out))
    }

    /// A name: the scopes, then dbt's context.
    fn name(&mut self, name: &Arc<str>) -> Result<Value, RenderError> {
        if let Some(value) = self.scope.get(name) {
            return Ok(value);
        }
        Ok(match builtins::context_value(self, name)? {
            Some(value) => value,
            None => Value::Undefined(Arc::new(Undefined { name: name.to_string(), hint: None, lenient: self.lenient })),
        })
    }

    /// `value.name`: the attribute, or the item of that name.
    ///
    /// # Errors
    /// The value is undefined, or the object fails to compute it.
    pub fn attribute(&mut self, value: &Value, name: &str) -> Result<Value, RenderError> {
        match value {
            Value::Undefined(undefined) if undefined.lenient => return Ok(value.clone()),
            Value::Undefined(undefined) => return Err(operators::undefined_error(undefined)),
            Value::Object(object) => {
                if let Some(found) = object.attribute(name, self)? {
                    return Ok(found);
                }
                if object.has_method(name) {
                    return Ok(Value::object(Method { object: value.clone(), name: name.into() }));
                }
                if let Some(found) = object.item(&Value::str(name), self)? {
                    return Ok(found);
                }
            }
            other => {
                if methods::exists(other, name) {
                    return Ok(Value::object(Method { object: value.clone(), name: name.into() }));
                }
                if let Value::Dict(map) = other
                    && let Some(found) = methods::entry(map, name)
                {
                    return Ok(found);
                }
            }
        }
        Ok(operators::missing(value, &Value::str(name), self.lenient))
    }

    /// `value[key]`: the item, or for text the attribute of that name.
    ///
    /// # Errors
    /// As [`Interpreter::attribute`].
    pub fn item(&mut self, value: &Value, key: &Value) -> Result<Value, RenderError> {
        match value {
            Value::Undefined(undefined) if undefined.lenient => return Ok(value.clone()),
            Value::Undefined(undefined) => return Err(operators::undefined_error(undefined)),
            Value::Object(object) => {
                if let Some(found) = object.item(key, self)? {
                    return Ok(found);
                }
                if let Value::Str(name) = key {
                    if let Some(found) = object.attribute(name, self)? {
                        return Ok(found);
                    }
                    if object.has_method(name) {
                        return Ok(Value::object(Method { object: value.clone(), name: Arc::clone(name) }));
                    }
                }
            }
            other => {
                if let Some(found) = operators::item(other, key) {
                    return Ok(found);
                }
                if let Value::Str(name) = key
                    && methods::exists(other, name)
                {
                    return Ok(Value::object(Method { object: value.clone(), name: Arc::clone(name) }));
                }
            }
        }
        operators::defined(key)?;
        Ok(operators::missing(value, key, self.lenient))
    }

    // ---- calls ------------------------------------------------------------------------------------------------------

    fn arguments(&mut self, arguments: &[CallArgument]) -> Result<Arguments, RenderError> {
        let mut bound = Arguments::default();
        for argument in arguments {
            match argument {
                CallArgument::Positional(value) => {
                    let value = self.evaluate(value)?;
                    bound.positional.push(value);
                }
                CallArgument::Keyword(name, value) => {
                    let value = self.evaluate(value)?;
                    bound.keywords.push((Arc::clone(name), value));
                }
                CallArgument::Splat(value) => {
                    let value = self.evaluate(value)?;
                    bound.positional.extend(operators::iterate(&value)?);
                }
                CallArgument::KeywordSplat(value) => {
                    let value = self.evaluate(value)?;
                    let Value::Dict(map) = &value else {
                        return Err(operators::type_error(format!(
                            "argument after ** must be a mapping, not {}",
                            value.type_name()
                        )));
                    };
                    let entries = map.read_recursive();
                    bound.keywords.extend(entries.iter().map(|(key, value)| (key.0.text(), value.clone())));
                }
            }
        }
        Ok(bound)
    }

    fn call_expression(&mut self, call: &Call, place: Place, caller: Option<Value>) -> Result<Value, RenderError> {
        if let Kind::Attribute(object, name) = &call.callee.kind {
            let object = self.evaluate(object)?;
            let mut arguments = self.arguments(&call.arguments)?;
            if let Some(caller) = caller {
                arguments.keywords.push(("caller".into(), caller));
            }
            self.place = place;
            return self.call_method(&object, name, arguments);
        }
        let callee = self.evaluate(&call.callee)?;
        let mut arguments = self.arguments(&call.arguments)?;
        if let Some(caller) = caller {
            arguments.keywords.push(("caller".into(), caller));
        }
        self.place = place;
        self.call(&callee, arguments)
    }

    /// `value.name(…)`.
    ///
    /// # Errors
    /// There is no such method, or it fails.
    pub fn call_method(&mut self, value: &Value, name: &str, arguments: Arguments) -> Result<Value, RenderError> {
        match value {
            Value::Undefined(undefined) if undefined.lenient => return Ok(value.clone()),
            Value::Undefined(undefined) => return Err(operators::undefined_error(undefined)),
            Value::Object(object) => {
                if let Some(result) = Arc::clone(object).call_method(name, &arguments, self)? {
                    return Ok(result);
                }
            }
            other if methods::exists(other, name) => {
                if let Some(result) = methods::call(self, other, name, arguments)? {
                    return Ok(result);
                }
                return Err(operators::type_error(format!("'{}' object has no method '{name}'", other.type_name())));
            }
            _ => {}
        }
        let callee = self.attribute(value, name)?;
        self.call(&callee, arguments)
    }

    /// `callee(…)`.
    ///
    /// # Errors
    /// It cannot be called, or it fails.
    pub fn call(&mut self, callee: &Value, arguments: Arguments) -> Result<Value, RenderError> {
        match callee {
            Value::Object(object) => Arc::clone(object).call(arguments, self),
            Value::Undefined(undefined) if undefined.lenient => Ok(callee.clone()),
            Value::Undefined(undefined) => Err(operators::undefined_error(undefined)),
            other => Err(operators::type_error(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    /// Refuses to go deeper than the stack surely allows.
    fn check_depth(&mut self) -> Result<(), RenderError> {
        let marker = 0u8;
        let here = std::ptr::from_ref(&marker) as usize;
        if self.nesting == 0 {
            self.stack_base = here;
        }
        if self.nesting >= MAXIMUM_DEPTH || self.stack_base.abs_diff(here) > MAXIMUM_STACK {
            return Err(RenderError::compilation("maximum recursion depth exceeded"));
        }
        Ok(())
    }

    /// Ends the macro that is running with this value.
    pub(super) fn return_value(&mut self, value: Value) -> RenderError {
        self.returning = Some(value);
        RenderError::new(ErrorKind::Return, String::new())
    }

    /// Calls a macro of a file: what it writes, or what it returned.
    pub(super) fn call_registered(
        &mut self,
        definition: &Arc<Macro>,
        arguments: Arguments,
    ) -> Result<Value, RenderError> {
        if self.depth == 0 {
            let unique_id = definition.unique_id();
            if !self.captured.macros.contains(&unique_id) {
                self.captured.macros.push(unique_id);
            }
        }
        self.check_depth()?;
        let called_from = self.place;
        let function = definition.compiled()?;
        // dbt parses templates leniently, but never the bodies of macros.
        let lenient = std::mem::replace(&mut self.lenient, false);
        self.depth += 1;
        self.nesting += 1;
        // dbt's prefix, which shows in messages about arguments.
        let result = self.call_function(&function, Scope::root(), arguments, "dbt_macro__");
        self.depth -= 1;
        self.nesting -= 1;
        self.lenient = lenient;
        match result {
            Err(error) if error.kind == ErrorKind::Return => Ok(self.returning.take().unwrap_or_default()),
            Err(mut error) => {
                let line = if error.stack.is_empty() {
                    error.location.as_ref().and_then(|location| location.line)
                } else {
                    self.unwinding.map(|line| line as usize)
                };
                // The place that helps is in the user's files, not in a built-in macro.
                let inside =
                    error.location.as_ref().is_some_and(|location| location.path.as_os_str() == &*definition.path);
                if inside && builtins::is_internal(&definition.package) {
                    error.location = (called_from.line > 0).then(|| Box::new(location(&self.origin, called_from)));
                }
                error.stack.push(Frame { name: definition.name.clone(), path: definition.path.clone(), line });
                self.unwinding = Some(called_from.line);
                Err(error)
            }
            Ok(value) => Ok(value),
        }
    }

    /// Binds arguments as Jinja2's macros do and runs the body.
    fn call_function(
        &mut self,
        function: &Arc<Function>,
        parent: Arc<Scope>,
        arguments: Arguments,
        prefix: &str,
    ) -> Result<Value, RenderError> {
        let Arguments { positional, mut keywords } = arguments;
        let scope = parent.child();
        let outer_scope = std::mem::replace(&mut self.scope, scope);
        let outer_origin = std::mem::replace(&mut self.origin, Arc::clone(&function.origin));
        let outer_output = std::mem::take(&mut self.output);
        let outer_marks = self.marks.take();
        let result = self.bind(function, positional, &mut keywords, prefix).and_then(|()| self.block(&function.body));
        let text = std::mem::replace(&mut self.output, outer_output);
        self.marks = outer_marks;
        self.scope = outer_scope;
        self.origin = outer_origin;
        result?;
        Ok(Value::str(text))
    }

    fn bind(
        &mut self,
        function: &Function,
        positional: Vec<Value>,
        keywords: &mut Vec<(Arc<str>, Value)>,
        prefix: &str,
    ) -> Result<(), RenderError> {
        let name = &function.name;
        let count = function.parameters.len();
        let mut positional = positional.into_iter();
        let mut explicit_caller = false;
        for (parameter, default) in &function.parameters {
            let given = positional.next().or_else(|| {
                let index = keywords.iter().position(|(keyword, _)| keyword == parameter)?;
                Some(keywords.remove(index).1)
            });
            explicit_caller |= &**parameter == "caller";
            let value = match (given, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.evaluate(default)?,
                (None, None) => Value::Undefined(Arc::new(Undefined {
                    name: parameter.to_string(),
                    hint: Some(format!("parameter '{parameter}' was not provided")),
                    lenient: self.lenient,
                })),
            };
            self.scope.set(Arc::clone(parameter), value);
        }
        if function.uses_caller && !explicit_caller {
            let caller =
                keywords.iter().position(|(keyword, _)| &**keyword == "caller").map(|index| keywords.remove(index).1);
            let caller = caller.unwrap_or_else(|| {
                Value::Undefined(Arc::new(Undefined {
                    name: "caller".into(),
                    hint: Some("No caller defined".into()),
                    lenient: false,
                }))
            });
            self.scope.set("caller".into(), caller);
        }
        if function.uses_kwargs {
            self.scope.set("kwargs".into(), Value::record(std::mem::take(keywords)));
        } else if let Some((keyword, _)) = keywords.first() {
            let message = if keywords.iter().any(|(keyword, _)| &**keyword == "caller") {
                format!(
                    "macro '{prefix}{name}' was invoked with two values for the special caller argument. This is most likely a bug."
                )
            } else {
                format!("macro '{prefix}{name}' takes no keyword argument '{keyword}'")
            };
            return Err(operators::type_error(message));
        }
        let rest: Vec<_> = positional.collect();
        if function.uses_varargs {
            self.scope.set("varargs".into(), Value::tuple(rest));
        } else if !rest.is_empty() {
            return Err(operators::type_error(format!(
                "macro '{prefix}{name}' takes not more than {count} argument(s)"
            )));
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

/// A macro written inside a template, or the body of a call block.
struct Closure {
    function: Arc<Function>,
    scope: Arc<Scope>,
}

impl Object for Closure {
    fn type_name(&self) -> &str {
        "Macro"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn repr(&self) -> String {
        format!("<Macro '{}'>", self.function.name)
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(match name {
            "name" => Some(Value::str(Arc::clone(&self.function.name))),
            "arguments" => Some(Value::tuple(
                self.function.parameters.iter().map(|(name, _)| Value::str(Arc::clone(name))).collect(),
            )),
            _ => None,
        })
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        interpreter.check_depth()?;
        interpreter.nesting += 1;
        let result = interpreter.call_function(&self.function, Arc::clone(&self.scope), arguments, "");
        interpreter.nesting -= 1;
        result
    }
}

/// `x.method`, not yet called.
struct Method {
    object: Value,
    name: Arc<str>,
}

impl Object for Method {
    fn type_name(&self) -> &str {
        "method"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn repr(&self) -> String {
        format!("<bound method {} of {}>", self.name, self.object.repr())
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        interpreter.call_method(&self.object, &self.name, arguments)
    }
}

/// Jinja2's `loop`.
struct Loop {
    items: Vec<Value>,
    index: AtomicUsize,
    depth: usize,
    body: Arc<ForLoop>,
    scope: Arc<Scope>,
    changed: Mutex<Option<Vec<Value>>>,
}

impl Object for Loop {
    fn type_name(&self) -> &str {
        "LoopContext"
    }

    fn is_callable(&self) -> bool {
        self.body.recursive
    }

    fn length(&self) -> Option<usize> {
        Some(self.items.len())
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "cycle" | "changed")
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let index = self.index.load(Ordering::Relaxed);
        let length = self.items.len();
        let neighbour = |item: Option<&Value>, what: &str| {
            item.cloned().unwrap_or_else(|| {
                Value::Undefined(Arc::new(Undefined {
                    name: String::new(),
                    hint: Some(format!("there is no {what} item")),
                    lenient: interpreter.lenient,
                }))
            })
        };
        Ok(Some(match name {
            "index" => Value::from(index + 1),
            "index0" => Value::from(index),
            "revindex" => Value::from(length - index),
            "revindex0" => Value::from(length - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == length),
            "length" => Value::from(length),
            "depth" => Value::from(self.depth + 1),
            "depth0" => Value::from(self.depth),
            "previtem" => neighbour(index.checked_sub(1).and_then(|index| self.items.get(index)), "previous"),
            "nextitem" => neighbour(self.items.get(index + 1), "next"),
            _ => return Ok(None),
        }))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok(Some(match name {
            "cycle" => {
                if arguments.positional.is_empty() {
                    return Err(operators::type_error("no items for cycling given"));
                }
                let index = self.index.load(Ordering::Relaxed) % arguments.positional.len();
                arguments.positional[index].clone()
            }
            "changed" => {
                let mut last = self.changed.lock();
                let same = last.as_ref() == Some(&arguments.positional);
                *last = Some(arguments.positional.clone());
                Value::Bool(!same)
            }
            _ => return Ok(None),
        }))
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        if !self.body.recursive {
            return Err(operators::type_error("The loop must have the 'recursive' marker to be called recursively."));
        }
        interpreter.check_depth()?;
        let [items] = arguments.bind("loop", ["iterable"], 1)?;
        let outer_scope = std::mem::replace(&mut interpreter.scope, Arc::clone(&self.scope));
        let outer_output = std::mem::take(&mut interpreter.output);
        let marks = interpreter.marks.take();
        interpreter.nesting += 1;
        let result = interpreter.for_loop(&self.body, &items.unwrap_or_default(), self.depth + 1);
        interpreter.nesting -= 1;
        interpreter.marks = marks;
        let text = std::mem::replace(&mut interpreter.output, outer_output);
        interpreter.scope = outer_scope;
        result?;
        Ok(Value::str(text))
    }
}
