//! Python's `time` and `timedelta`.

use std::{cmp::Ordering, sync::Arc};

use chrono::{Duration, NaiveDate, NaiveTime, Timelike as _};

use super::{
    super::super::{Arguments, Interpreter, Object, RenderError, Value},
    strftime, time_numbers,
};

/// Python's `time`.
pub(super) struct TimeObject {
    pub(super) time: NaiveTime,
}

impl Object for TimeObject {
    fn type_name(&self) -> &str {
        "time"
    }

    fn text(&self) -> String {
        let micros = self.time.nanosecond() / 1000 % 1_000_000;
        let text = self.time.format("%H:%M:%S").to_string();
        if micros > 0 { format!("{text}.{micros:06}") } else { text }
    }

    fn repr(&self) -> String {
        let [hour, minute, second, micros] = time_numbers(self.time);
        match (second, micros) {
            (0, 0) => format!("datetime.time({hour}, {minute})"),
            (_, 0) => format!("datetime.time({hour}, {minute}, {second})"),
            _ => format!("datetime.time({hour}, {minute}, {second}, {micros})"),
        }
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        other.downcast::<Self>().map(|other| self.time == other.time)
    }

    fn compare(&self, other: &Value) -> Option<Ordering> {
        other.downcast::<Self>().map(|other| self.time.cmp(&other.time))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(Some(match name {
            "hour" => Value::Int(self.time.hour().into()),
            "minute" => Value::Int(self.time.minute().into()),
            "second" => Value::Int(self.time.second().into()),
            "microsecond" => Value::Int((self.time.nanosecond() / 1000).into()),
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
            "strftime" => {
                let [format] = arguments.clone().bind(name, ["format"], 1)?;
                let naive = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap_or_default().and_time(self.time);
                Value::str(strftime(&format.unwrap_or_default().text(), naive, None))
            }
            "isoformat" => Value::str(self.text()),
            _ => return Ok(None),
        }))
    }
}

/// Python's `timedelta`.
pub(super) struct DeltaObject {
    pub(super) delta: Duration,
}

pub(super) fn delta_value(delta: Duration) -> Value {
    Value::object(DeltaObject { delta })
}

impl DeltaObject {
    fn micros(&self) -> i64 {
        self.delta.num_microseconds().unwrap_or(i64::MAX)
    }

    /// Days, seconds and microseconds as Python normalizes them: only the days may be negative.
    pub(super) fn parts(&self) -> (i64, i64, i64) {
        const DAY: i64 = 86_400_000_000;
        let micros = self.micros();
        let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        (days, rest / 1_000_000, rest % 1_000_000)
    }
}

impl Object for DeltaObject {
    fn type_name(&self) -> &str {
        "timedelta"
    }

    fn text(&self) -> String {
        let (days, seconds, micros) = self.parts();
        let mut out = match days {
            0 => String::new(),
            1 | -1 => format!("{days} day, "),
            days => format!("{days} days, "),
        };
        out.push_str(&format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
        if micros > 0 {
            out.push_str(&format!(".{micros:06}"));
        }
        out
    }

    fn repr(&self) -> String {
        let (days, seconds, micros) = self.parts();
        let parts: Vec<String> = [("days", days), ("seconds", seconds), ("microseconds", micros)]
            .iter()
            .filter(|(_, number)| *number != 0)
            .map(|(name, number)| format!("{name}={number}"))
            .collect();
        format!("datetime.timedelta({})", if parts.is_empty() { "0".to_owned() } else { parts.join(", ") })
    }

    fn is_true(&self) -> bool {
        self.micros() != 0
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        other.downcast::<Self>().map(|other| self.delta == other.delta)
    }

    fn compare(&self, other: &Value) -> Option<Ordering> {
        other.downcast::<Self>().map(|other| self.delta.cmp(&other.delta))
    }

    fn arithmetic(&self, operator: &str, other: &Value, reflected: bool) -> Option<Result<Value, RenderError>> {
        if let Some(other) = other.downcast::<Self>() {
            let (left, right) = if reflected { (other, self) } else { (self, other) };
            return Some(Ok(match operator {
                "+" => delta_value(left.delta + right.delta),
                "-" => delta_value(left.delta - right.delta),
                "/" => Value::Float(left.micros() as f64 / right.micros() as f64),
                "//" if right.micros() != 0 => Value::from(left.micros().div_euclid(right.micros())),
                _ => return None,
            }));
        }
        let number = other.as_float()?;
        let micros = self.micros() as f64;
        Some(Ok(match (operator, reflected) {
            ("*", _) => delta_value(Duration::microseconds((micros * number).round() as i64)),
            ("/", false) => delta_value(Duration::microseconds((micros / number).round() as i64)),
            ("//", false) => delta_value(Duration::microseconds((micros / number).floor() as i64)),
            _ => return None,
        }))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let (days, seconds, micros) = self.parts();
        Ok(Some(match name {
            "days" => Value::from(days),
            "seconds" => Value::from(seconds),
            "microseconds" => Value::from(micros),
            _ => return Ok(None),
        }))
    }

    fn has_method(&self, name: &str) -> bool {
        name == "total_seconds"
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        _arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok((name == "total_seconds").then(|| Value::Float(self.micros() as f64 / 1e6)))
    }
}
