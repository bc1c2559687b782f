//! Calls: of methods, of macros of files, of macros and call blocks inside a template. In: a callee and its arguments; out: what
//! it returned, or wrote.

use std::sync::Arc;

use super::{
    super::{
        Arguments, ErrorKind, Frame, Macro, Object, RenderError, Undefined, Value,
        ast::{Call, CallArgument, Function, Kind, Place},
        builtins, methods, operators,
        parse::location,
    },
    Interpreter, MAXIMUM_DEPTH, MAXIMUM_STACK, Scope,
};

impl Interpreter<'_> {
    pub(super) fn arguments(&mut self, arguments: &[CallArgument]) -> Result<Arguments, RenderError> {
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

    pub(super) fn call_expression(
        &mut self,
        call: &Call,
        place: Place,
        caller: Option<Value>,
    ) -> Result<Value, RenderError> {
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
    pub(super) fn check_depth(&mut self) -> Result<(), RenderError> {
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
    pub(in crate::render) fn return_value(&mut self, value: Value) -> RenderError {
        self.returning = Some(value);
        RenderError::new(ErrorKind::Return, String::new())
    }

    /// Calls a macro of a file: what it writes, or what it returned.
    pub(in crate::render) fn call_registered(
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
    pub(super) fn call_function(
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

/// A macro written inside a template, or the body of a call block.
pub(super) struct Closure {
    pub(super) function: Arc<Function>,
    pub(super) scope: Arc<Scope>,
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
pub(super) struct Method {
    pub(super) object: Value,
    pub(super) name: Arc<str>,
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
