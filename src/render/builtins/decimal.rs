//! Python's `Decimal`: exact digits when printed, a float when calculated with. ClickHouse's Decimal columns come as these.

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
