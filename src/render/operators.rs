//! Python's operators, subscripts, slices and membership over [`Value`].

use std::{cmp::Ordering, sync::Arc};

use super::{
    Key, RenderError, TextKey, Undefined, Value,
    ast::{BinaryOperator, Comparison},
    format::percent,
};

/// The error of an undefined value that is used.
pub(super) fn undefined_error(undefined: &Undefined) -> RenderError {
    let mut error = RenderError::compilation(undefined.message());
    error.undefined = true;
    error
}

/// Fails for an undefined value, as Jinja2's `Undefined` does in any operation.
pub(super) fn defined(value: &Value) -> Result<(), RenderError> {
    match value {
        Value::Undefined(undefined) => Err(undefined_error(undefined)),
        _ => Ok(()),
    }
}

pub(super) fn type_error(message: impl Into<String>) -> RenderError {
    RenderError::compilation(message)
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> RenderError {
    type_error(format!(
        "unsupported operand type(s) for {operator}: '{}' and '{}'",
        left.type_name(),
        right.type_name()
    ))
}

fn overflow() -> RenderError {
    RenderError::compilation("integer too large")
}

/// `left operator right`.
pub(super) fn binary(operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value, RenderError> {
    defined(left)?;
    if !(operator == BinaryOperator::Remainder && matches!(left, Value::Str(_))) {
        defined(right)?;
    }
    let symbol = operator.symbol();
    if let Value::Object(object) = left
        && let Some(result) = object.arithmetic(symbol, right, false)
    {
        return result;
    }
    if let Value::Object(object) = right
        && let Some(result) = object.arithmetic(symbol, left, true)
    {
        return result;
    }
    match (operator, left, right) {
        (BinaryOperator::Add, Value::Str(a), Value::Str(b)) => {
            let mut out = String::with_capacity(a.len() + b.len());
            out.push_str(a);
            out.push_str(b);
            return Ok(Value::str(out));
        }
        (BinaryOperator::Add, Value::Str(_), other) => {
            return Err(type_error(format!("can only concatenate str (not \"{}\") to str", other.type_name())));
        }
        (BinaryOperator::Add, Value::List(a), Value::List(b)) => {
            let mut items = a.read_recursive().clone();
            items.extend(b.read_recursive().iter().cloned());
            return Ok(Value::list(items));
        }
        (BinaryOperator::Add, Value::List(_), other) => {
            return Err(type_error(format!("can only concatenate list (not \"{}\") to list", other.type_name())));
        }
        (BinaryOperator::Add, Value::Tuple(a), Value::Tuple(b)) => {
            return Ok(Value::tuple(a.iter().chain(b.iter()).cloned().collect()));
        }
        (BinaryOperator::Multiply, sequence @ (Value::Str(_) | Value::List(_) | Value::Tuple(_)), count)
        | (BinaryOperator::Multiply, count, sequence @ (Value::Str(_) | Value::List(_) | Value::Tuple(_))) => {
            let Some(count) = count.as_int() else {
                return Err(type_error(format!("can't multiply sequence by non-int of type '{}'", count.type_name())));
            };
            return repeat(sequence, usize::try_from(count.max(0)).unwrap_or(usize::MAX));
        }
        (BinaryOperator::Remainder, Value::Str(format), arguments) => {
            return Ok(Value::str(percent(format, arguments)?));
        }
        (BinaryOperator::Subtract, Value::Set(a), Value::Set(b)) => {
            let b = b.read_recursive();
            return Ok(Value::set(a.read_recursive().iter().filter(|key| !b.contains(*key)).map(|key| key.0.clone())));
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return integers(operator, a, b);
    }
    let (Some(a), Some(b)) = (left.as_float(), right.as_float()) else {
        return Err(unsupported(symbol, left, right));
    };
    let zero = |what: &str| RenderError::compilation(what.to_owned());
    Ok(Value::Float(match operator {
        BinaryOperator::Add => a + b,
        BinaryOperator::Subtract => a - b,
        BinaryOperator::Multiply => a * b,
        BinaryOperator::Divide if b == 0.0 => return Err(zero("float division by zero")),
        BinaryOperator::Divide => a / b,
        BinaryOperator::FloorDivide if b == 0.0 => return Err(zero("float floor division by zero")),
        BinaryOperator::FloorDivide => (a / b).floor(),
        BinaryOperator::Remainder if b == 0.0 => return Err(zero("float modulo")),
        BinaryOperator::Remainder => a - b * (a / b).floor(),
        BinaryOperator::Power => a.powf(b),
    }))
}

fn integers(operator: BinaryOperator, a: i128, b: i128) -> Result<Value, RenderError> {
    let checked = |result: Option<i128>| result.map(Value::Int).ok_or_else(overflow);
    match operator {
        BinaryOperator::Add => checked(a.checked_add(b)),
        BinaryOperator::Subtract => checked(a.checked_sub(b)),
        BinaryOperator::Multiply => checked(a.checked_mul(b)),
        BinaryOperator::Divide if b == 0 => Err(RenderError::compilation("division by zero")),
        BinaryOperator::Divide => Ok(Value::Float(a as f64 / b as f64)),
        BinaryOperator::FloorDivide | BinaryOperator::Remainder if b == 0 => {
            Err(RenderError::compilation("integer division or modulo by zero"))
        }
        BinaryOperator::FloorDivide => {
            let quotient = a.checked_div(b).ok_or_else(overflow)?;
            Ok(Value::Int(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }))
        }
        BinaryOperator::Remainder => {
            let remainder = a.checked_rem(b).ok_or_else(overflow)?;
            Ok(Value::Int(if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder }))
        }
        BinaryOperator::Power => match u32::try_from(b) {
            Ok(exponent) => checked(a.checked_pow(exponent)),
            Err(_) => Ok(Value::Float((a as f64).powf(b as f64))),
        },
    }
}

fn repeat(sequence: &Value, count: usize) -> Result<Value, RenderError> {
    // Python would run out of memory; a template that asks for this is broken.
    if sequence.length().unwrap_or(0).saturating_mul(count) > 50_000_000 {
        return Err(RenderError::compilation("repeated sequence is too long"));
    }
    Ok(match sequence {
        Value::Str(text) => Value::str(text.repeat(count)),
        Value::Tuple(items) => Value::tuple(repeated(items, count)),
        Value::List(items) => Value::list(repeated(&items.read_recursive(), count)),
        other => other.clone(),
    })
}

fn repeated(items: &[Value], count: usize) -> Vec<Value> {
    std::iter::repeat_n(items, count).flatten().cloned().collect()
}

/// `-x`.
pub(super) fn negative(value: &Value) -> Result<Value, RenderError> {
    defined(value)?;
    match value {
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Object(object) => object
            .arithmetic("*", &Value::Int(-1), false)
            .unwrap_or_else(|| Err(type_error(format!("bad operand type for unary -: '{}'", value.type_name())))),
        _ => match value.as_int() {
            Some(number) => Ok(Value::Int(-number)),
            None => Err(type_error(format!("bad operand type for unary -: '{}'", value.type_name()))),
        },
    }
}

/// One comparison of a chain.
pub(super) fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool, RenderError> {
    let ordered = |symbol: &str, test: fn(Ordering) -> bool| {
        defined(left)?;
        defined(right)?;
        // NaN is comparable and never in order.
        if let (Some(a), Some(b)) = (left.as_float(), right.as_float())
            && (a.is_nan() || b.is_nan())
        {
            return Ok(false);
        }
        left.compare(right).map(test).ok_or_else(|| {
            type_error(format!(
                "'{symbol}' not supported between instances of '{}' and '{}'",
                left.type_name(),
                right.type_name()
            ))
        })
    };
    match comparison {
        Comparison::Equal => Ok(left == right),
        Comparison::NotEqual => Ok(left != right),
        Comparison::Less => ordered("<", Ordering::is_lt),
        Comparison::LessOrEqual => ordered("<=", Ordering::is_le),
        Comparison::Greater => ordered(">", Ordering::is_gt),
        Comparison::GreaterOrEqual => ordered(">=", Ordering::is_ge),
        Comparison::In => contains(right, left),
        Comparison::NotIn => contains(right, left).map(|found| !found),
    }
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool, RenderError> {
    match container {
        Value::Str(text) => match item {
            Value::Str(part) => Ok(text.contains(&**part)),
            other => {
                defined(other)?;
                Err(type_error(format!("'in <string>' requires string as left operand, not {}", other.type_name())))
            }
        },
        Value::Dict(map) => {
            hashable(item)?;
            Ok(match item {
                Value::Str(text) => map.read_recursive().contains_key(&TextKey(text)),
                other => map.read_recursive().contains_key(&Key(other.clone())),
            })
        }
        Value::Set(items) => {
            hashable(item)?;
            Ok(items.read_recursive().contains(&Key(item.clone())))
        }
        other => match other.iterate() {
            Some(items) => Ok(items.contains(item)),
            None => Err(type_error(format!("argument of type '{}' is not iterable", other.type_name()))),
        },
    }
}

pub(super) fn hashable(value: &Value) -> Result<(), RenderError> {
    if value.is_hashable() { Ok(()) } else { Err(type_error(format!("unhashable type: '{}'", value.type_name()))) }
}

/// A Python index into something of that length.
pub(super) fn index(index: i128, length: usize) -> Option<usize> {
    let length = length as i128;
    let index = if index < 0 { index + length } else { index };
    (0..length).contains(&index).then(|| usize::try_from(index).unwrap_or(0))
}

/// `x[key]` of the plain types; `None` where there is no such item. Objects are the interpreter's.
pub(super) fn item(value: &Value, key: &Value) -> Option<Value> {
    match value {
        Value::Dict(map) => match key {
            Value::Str(text) => map.read_recursive().get(&TextKey(text)).cloned(),
            other if other.is_hashable() => map.read_recursive().get(&Key(other.clone())).cloned(),
            _ => None,
        },
        Value::List(items) => {
            let items = items.read_recursive();
            items.get(index(key.as_int()?, items.len())?).cloned()
        }
        Value::Tuple(items) => items.get(index(key.as_int()?, items.len())?).cloned(),
        Value::Str(text) => {
            let position = index(key.as_int()?, text.chars().count())?;
            text.chars().nth(position).map(|c| Value::str(c.to_string()))
        }
        _ => None,
    }
}

/// `x[start:stop:step]`.
pub(super) fn slice(
    value: &Value,
    start: Option<&Value>,
    stop: Option<&Value>,
    step: Option<&Value>,
) -> Result<Value, RenderError> {
    let bound = |part: Option<&Value>| match part {
        None | Some(Value::None) => Ok(None),
        Some(part) => part
            .as_int()
            .map(Some)
            .ok_or_else(|| type_error("slice indices must be integers or None or have an __index__ method")),
    };
    let (start, stop) = (bound(start)?, bound(stop)?);
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(RenderError::compilation("slice step cannot be zero"));
    }
    let items = match value {
        Value::Str(text) => text.chars().map(|c| Value::str(c.to_string())).collect(),
        Value::List(_) | Value::Tuple(_) => value.iterate().unwrap_or_default(),
        Value::Object(object) if object.iterate().is_some() => object.iterate().unwrap_or_default(),
        other => {
            defined(other)?;
            return Err(type_error(format!("'{}' object is not subscriptable", other.type_name())));
        }
    };
    let length = items.len() as i128;
    let clamp = |position: i128, low: i128, high: i128| {
        let position = if position < 0 { position + length } else { position };
        position.clamp(low, high)
    };
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let first = start.map_or(if step > 0 { 0 } else { length - 1 }, |start| clamp(start, low, high));
    let last = stop.map_or(if step > 0 { length } else { -1 }, |stop| clamp(stop, low, high));
    let mut picked = Vec::new();
    let mut position = first;
    while if step > 0 { position < last } else { position > last } {
        if let Some(item) = usize::try_from(position).ok().and_then(|position| items.get(position)) {
            picked.push(item.clone());
        }
        position += step;
    }
    Ok(match value {
        Value::Str(_) => Value::str(picked.iter().map(|item| item.text().to_string()).collect::<String>()),
        Value::Tuple(_) => Value::tuple(picked),
        _ => Value::list(picked),
    })
}

/// The items of something a template iterates over, or Python's TypeError.
pub(super) fn iterate(value: &Value) -> Result<Vec<Value>, RenderError> {
    value.iterate().ok_or_else(|| type_error(format!("'{}' object is not iterable", value.type_name())))
}

/// Jinja2's text for an attribute or item that is not there.
pub(super) fn missing(value: &Value, key: &Value, lenient: bool) -> Value {
    let what = match value {
        Value::None => "None".to_owned(),
        Value::Object(object) => format!("{} object", object.type_name()),
        other => format!("{} object", other.type_name()),
    };
    let hint = match key {
        Value::Str(name) => {
            let mut quoted = String::new();
            super::value::write_string_repr(&what, &mut quoted);
            format!("{quoted} has no attribute {}", Value::str(Arc::clone(name)).repr())
        }
        other => format!("{what} has no element {}", other.repr()),
    };
    Value::Undefined(Arc::new(Undefined { name: key.text().to_string(), hint: Some(hint), lenient }))
}
