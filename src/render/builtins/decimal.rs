//! Python's `Decimal`: exact digits when printed, added, subtracted and multiplied; a float in other calculations. ClickHouse's
//! Decimal columns come as these.

use std::cmp::Ordering;

use super::super::{Object, RenderError, Value, ast::BinaryOperator, operators};

struct Decimal {
    text: String,
    number: f64,
}

impl Value {
    /// Python's `Decimal` from its digits (`1.50`); text where it is not a number.
    pub fn decimal(text: &str) -> Self {
        match text.trim().parse::<f64>() {
            Ok(number) => Self::object(Decimal { text: text.trim().to_owned(), number }),
            Err(_) => Self::str(text),
        }
    }
}

impl Object for Decimal {
    fn type_name(&self) -> &str {
        "Decimal"
    }

    fn text(&self) -> String {
        self.text.clone()
    }

    fn repr(&self) -> String {
        format!("Decimal('{}')", self.text)
    }

    fn is_true(&self) -> bool {
        self.number != 0.0
    }

    fn number(&self) -> Option<f64> {
        Some(self.number)
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        other.as_float().map(|other| other == self.number)
    }

    fn compare(&self, other: &Value) -> Option<Ordering> {
        self.number.partial_cmp(&other.as_float()?)
    }

    fn to_json(&self) -> Option<serde_json::Value> {
        serde_json::Number::from_f64(self.number).map(serde_json::Value::Number)
    }

    fn arithmetic(&self, operator: &str, other: &Value, reflected: bool) -> Option<Result<Value, RenderError>> {
        if let Some(exact) = exact(operator, &self.text, other, reflected) {
            return Some(Ok(exact));
        }
        let other = Value::Float(other.as_float()?);
        let own = Value::Float(self.number);
        let operator = [
            BinaryOperator::Add,
            BinaryOperator::Subtract,
            BinaryOperator::Multiply,
            BinaryOperator::Divide,
            BinaryOperator::FloorDivide,
            BinaryOperator::Remainder,
            BinaryOperator::Power,
        ]
        .into_iter()
        .find(|known| known.symbol() == operator)?;
        let (left, right) = if reflected { (&other, &own) } else { (&own, &other) };
        Some(operators::binary(operator, left, right))
    }
}

/// Sums, differences and products of decimals and integers with all their digits; `None` where they do not fit in 38.
fn exact(operator: &str, own: &str, other: &Value, reflected: bool) -> Option<Value> {
    let other = match other {
        Value::Int(number) => (*number, 0),
        _ => scaled(&other.downcast::<Decimal>()?.text)?,
    };
    let own = scaled(own)?;
    let (left, right) = if reflected { (other, own) } else { (own, other) };
    let scale = left.1.max(right.1);
    let aligned = |(digits, at): (i128, u32)| digits.checked_mul(10i128.checked_pow(scale - at)?);
    let (digits, scale) = match operator {
        "+" => (aligned(left)?.checked_add(aligned(right)?)?, scale),
        "-" => (aligned(left)?.checked_sub(aligned(right)?)?, scale),
        "*" => (left.0.checked_mul(right.0)?, left.1 + right.1),
        _ => return None,
    };
    let sign = if digits < 0 { "-" } else { "" };
    let written = format!("{:0>width$}", digits.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = written.split_at(written.len() - scale as usize);
    let point = if scale > 0 { "." } else { "" };
    Some(Value::decimal(&format!("{sign}{whole}{point}{fraction}")))
}

/// `-1.50` as -150 and 2.
fn scaled(text: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    Some((format!("{whole}{fraction}").parse().ok()?, u32::try_from(fraction.len()).ok()?))
}
