//! Expressions: operators, filters, tests, names, attributes and items. In: a parsed expression; out: its value, or an error
//! with the place of the innermost expression that failed.

use std::sync::Arc;

use super::{
    super::{
        Key, Map, RenderError, Undefined, Value,
        ast::{BinaryOperator, CallArgument, Comparison, Expression, Kind, Place},
        builtins, filters, methods, operators,
    },
    Interpreter,
    calls::Method,
};

impl Interpreter<'_> {
    pub(in crate::render) fn evaluate(&mut self, expression: &Expression) -> Result<Value, RenderError> {
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
        let mut map = Map::with_capacity(entries.len());
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
}
