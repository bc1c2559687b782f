//! `modules.datetime`: dates, times, datetimes and durations that print, compare and calculate as Python's. The clock is
//! the invocation's.

mod classes;
mod duration;
mod zone;

use std::{cmp::Ordering, sync::Arc};

use chrono::{DateTime, Datelike as _, Days, Duration, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _, Utc};

use self::duration::{DeltaObject, TimeObject, delta_value};
use super::super::{
    Arguments, Interpreter, Object, RenderError, Value,
    operators::{self, type_error},
};

pub(super) use self::{
    classes::module,
    zone::{Zone, ZoneObject},
};

/// `strftime`, by Python's directives.
fn strftime(format: &str, naive: NaiveDateTime, zone: Option<Zone>) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(mut directive) = chars.next() else {
            out.push('%');
            break;
        };
        let mut flag = String::new();
        if matches!(directive, '-' | '_' | '0' | '^' | '#') {
            flag.push(directive);
            match chars.next() {
                Some(next) => directive = next,
                None => break,
            }
        }
        match directive {
            '%' => out.push('%'),
            'f' => out.push_str(&format!("{:06}", naive.nanosecond() / 1000 % 1_000_000)),
            'z' => {
                if let Some(zone) = zone {
                    out.push_str(&zone.offset(naive).to_string().replace(':', ""));
                }
            }
            'Z' => {
                if let Some(zone) = zone {
                    out.push_str(&zone.name(naive));
                }
            }
            's' => {
                let utc = zone.map_or(naive, |zone| zone.to_utc(naive));
                out.push_str(&utc.and_utc().timestamp().to_string());
            }
            'a' | 'A' | 'w' | 'd' | 'b' | 'B' | 'm' | 'y' | 'Y' | 'H' | 'I' | 'p' | 'M' | 'S' | 'j' | 'U' | 'W'
            | 'c' | 'x' | 'X' | 'e' | 'D' | 'F' | 'T' | 'R' | 'G' | 'g' | 'V' | 'u' | 'h' | 'k' | 'l' | 'n' | 't'
            | 'C' => {
                let flag = if matches!(flag.as_str(), "-" | "_" | "0") { flag.as_str() } else { "" };
                out.push_str(&naive.format(&format!("%{flag}{directive}")).to_string());
            }
            other => {
                out.push('%');
                out.push_str(&flag);
                out.push(other);
            }
        }
    }
    out
}

fn iso(naive: NaiveDateTime, zone: Option<Zone>, separator: &str) -> String {
    let mut out = format!("{}{separator}{}", naive.format("%Y-%m-%d"), naive.format("%H:%M:%S"));
    let micros = naive.nanosecond() / 1000 % 1_000_000;
    if micros > 0 {
        out.push_str(&format!(".{micros:06}"));
    }
    if let Some(zone) = zone {
        out.push_str(&zone.offset(naive).to_string());
    }
    out
}

// ---- datetime --------------------------------------------------------------------------------------------------------

/// Python's `datetime`.
pub(super) struct DateTimeObject {
    pub(super) naive: NaiveDateTime,
    pub(super) zone: Option<Zone>,
}

pub(super) fn datetime_value(naive: NaiveDateTime, zone: Option<Zone>) -> Value {
    Value::object(DateTimeObject { naive, zone })
}

/// A moment in UTC.
pub(super) fn utc_value(moment: DateTime<Utc>) -> Value {
    datetime_value(moment.naive_utc(), Some(Zone::Utc))
}

impl Value {
    /// Python's `datetime`, without a time zone.
    pub fn datetime(naive: NaiveDateTime) -> Self {
        datetime_value(naive, None)
    }

    /// Python's `datetime` in UTC.
    pub fn datetime_utc(moment: DateTime<Utc>) -> Self {
        utc_value(moment)
    }

    /// Python's `date`.
    pub fn date(date: NaiveDate) -> Self {
        Self::object(DateObject { date })
    }

    /// The moment behind a `datetime` (naive ones count as UTC) or the first of a `date`.
    pub fn as_datetime(&self) -> Option<DateTime<Utc>> {
        if let Some(value) = self.downcast::<DateTimeObject>() {
            return Some(value.utc().and_utc());
        }
        self.downcast::<DateObject>().map(|value| value.date.and_time(NaiveTime::MIN).and_utc())
    }
}

impl DateTimeObject {
    fn utc(&self) -> NaiveDateTime {
        self.zone.map_or(self.naive, |zone| zone.to_utc(self.naive))
    }
}

/// The methods `date` and `datetime` share.
fn date_attribute(date: NaiveDate, name: &str) -> Option<Value> {
    Some(match name {
        "year" => Value::Int(date.year().into()),
        "month" => Value::Int(date.month().into()),
        "day" => Value::Int(date.day().into()),
        _ => return None,
    })
}

fn date_method(date: NaiveDate, name: &str) -> Option<Value> {
    Some(match name {
        "weekday" => Value::Int(date.weekday().num_days_from_monday().into()),
        "isoweekday" => Value::Int(date.weekday().number_from_monday().into()),
        "toordinal" => Value::Int(date.num_days_from_ce().into()),
        "isocalendar" => {
            let week = date.iso_week();
            Value::tuple(vec![
                Value::Int(week.year().into()),
                Value::Int(week.week().into()),
                Value::Int(date.weekday().number_from_monday().into()),
            ])
        }
        _ => return None,
    })
}

fn keyword_numbers(arguments: &Arguments, names: &[&str], defaults: &[i64]) -> Result<Vec<i64>, RenderError> {
    let mut numbers = defaults.to_vec();
    let set = |slot: &mut i64, value: &Value| {
        operators::defined(value)?;
        *slot = value
            .as_int()
            .and_then(|number| i64::try_from(number).ok())
            .ok_or_else(|| type_error(format!("'{}' object cannot be interpreted as an integer", value.type_name())))?;
        Ok::<_, RenderError>(())
    };
    for (slot, value) in numbers.iter_mut().zip(&arguments.positional) {
        set(slot, value)?;
    }
    for (keyword, value) in &arguments.keywords {
        if let Some(index) = names.iter().position(|name| *name == &**keyword) {
            set(&mut numbers[index], value)?;
        }
    }
    Ok(numbers)
}

fn make_date(numbers: &[i64]) -> Result<NaiveDate, RenderError> {
    let small = |number: i64| u32::try_from(number).unwrap_or(0);
    let year = i32::try_from(numbers[0]).unwrap_or(0);
    if !(1..=12).contains(&numbers[1]) {
        return Err(RenderError::compilation("month must be in 1..12"));
    }
    NaiveDate::from_ymd_opt(year, small(numbers[1]), small(numbers[2]))
        .ok_or_else(|| RenderError::compilation("day is out of range for month"))
}

fn make_time(numbers: &[i64]) -> Result<NaiveTime, RenderError> {
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    NaiveTime::from_hms_micro_opt(small(numbers[0]), small(numbers[1]), small(numbers[2]), small(numbers[3]))
        .ok_or_else(|| RenderError::compilation("hour must be in 0..23"))
}

const FIELDS: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "microsecond"];

fn date_numbers(date: NaiveDate) -> [i64; 3] {
    [date.year().into(), date.month().into(), date.day().into()]
}

fn time_numbers(time: NaiveTime) -> [i64; 4] {
    [time.hour().into(), time.minute().into(), time.second().into(), (time.nanosecond() / 1000).into()]
}

fn zone_argument(arguments: &Arguments, position: usize) -> Option<Zone> {
    let keyword =
        arguments.keywords.iter().find(|(name, _)| matches!(&**name, "tzinfo" | "tz")).map(|(_, value)| value);
    keyword.or_else(|| arguments.positional.get(position))?.downcast::<ZoneObject>().map(|zone| zone.zone)
}

impl Object for DateTimeObject {
    fn type_name(&self) -> &str {
        "datetime"
    }

    fn text(&self) -> String {
        iso(self.naive, self.zone, " ")
    }

    fn repr(&self) -> String {
        let date = date_numbers(self.naive.date());
        let time = time_numbers(self.naive.time());
        let mut parts: Vec<i64> = date.iter().chain(&time[..2]).copied().collect();
        if time[2] != 0 || time[3] != 0 {
            parts.push(time[2]);
        }
        if time[3] != 0 {
            parts.push(time[3]);
        }
        let parts: Vec<String> = parts.iter().map(i64::to_string).collect();
        let zone = self.zone.map(|zone| format!(", tzinfo={}", ZoneObject { zone }.repr())).unwrap_or_default();
        format!("datetime.datetime({}{zone})", parts.join(", "))
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        other.downcast::<Self>().map(|other| self.zone.is_some() == other.zone.is_some() && self.utc() == other.utc())
    }

    fn compare(&self, other: &Value) -> Option<Ordering> {
        let other = other.downcast::<Self>()?;
        (self.zone.is_some() == other.zone.is_some()).then(|| self.utc().cmp(&other.utc()))
    }

    fn arithmetic(&self, operator: &str, other: &Value, reflected: bool) -> Option<Result<Value, RenderError>> {
        if let Some(delta) = other.downcast::<DeltaObject>() {
            let moved = match (operator, reflected) {
                ("+", _) => self.naive.checked_add_signed(delta.delta),
                ("-", false) => self.naive.checked_sub_signed(delta.delta),
                _ => return None,
            };
            return Some(
                moved
                    .map(|naive| datetime_value(naive, self.zone))
                    .ok_or_else(|| RenderError::compilation("date value out of range")),
            );
        }
        let other = other.downcast::<Self>()?;
        if operator != "-" {
            return None;
        }
        if self.zone.is_some() != other.zone.is_some() {
            return Some(Err(type_error("can't subtract offset-naive and offset-aware datetimes")));
        }
        let difference = self.utc() - other.utc();
        Some(Ok(delta_value(if reflected { -difference } else { difference })))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(Some(match name {
            "hour" => Value::Int(self.naive.hour().into()),
            "minute" => Value::Int(self.naive.minute().into()),
            "second" => Value::Int(self.naive.second().into()),
            "microsecond" => Value::Int((self.naive.nanosecond() / 1000).into()),
            "tzinfo" => self.zone.map_or(Value::None, |zone| Value::object(ZoneObject { zone })),
            "fold" => Value::Int(0),
            other => return Ok(date_attribute(self.naive.date(), other)),
        }))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "strftime"
                | "isoformat"
                | "date"
                | "time"
                | "timetz"
                | "timestamp"
                | "replace"
                | "astimezone"
                | "utcoffset"
                | "tzname"
                | "weekday"
                | "isoweekday"
                | "isocalendar"
                | "toordinal"
                | "ctime"
        )
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
                Value::str(strftime(&format.unwrap_or_default().text(), self.naive, self.zone))
            }
            "isoformat" => {
                let [separator, precision] = arguments.clone().bind(name, ["sep", "timespec"], 0)?;
                let separator = separator.map_or_else(|| "T".into(), |separator| separator.text());
                let naive = match precision.as_ref().and_then(Value::as_str) {
                    Some("seconds") => self.naive.with_nanosecond(0).unwrap_or(self.naive),
                    _ => self.naive,
                };
                Value::str(iso(naive, self.zone, &separator))
            }
            "ctime" => Value::str(self.naive.format("%a %b %e %H:%M:%S %Y").to_string()),
            "date" => Value::date(self.naive.date()),
            "time" | "timetz" => Value::object(TimeObject { time: self.naive.time() }),
            "timestamp" => {
                let utc = self.utc().and_utc();
                Value::Float(utc.timestamp() as f64 + f64::from(utc.timestamp_subsec_micros()) / 1e6)
            }
            "replace" => {
                let date = date_numbers(self.naive.date());
                let time = time_numbers(self.naive.time());
                let defaults: Vec<i64> = date.into_iter().chain(time).collect();
                let numbers = keyword_numbers(arguments, &FIELDS, &defaults)?;
                let naive = make_date(&numbers)?.and_time(make_time(&numbers[3..])?);
                let cleared = arguments.keywords.iter().any(|(name, value)| &**name == "tzinfo" && value.is_none());
                let zone = if cleared { None } else { zone_argument(arguments, 7).or(self.zone) };
                datetime_value(naive, zone)
            }
            "astimezone" => {
                let zone = zone_argument(arguments, 0).unwrap_or(Zone::Utc);
                datetime_value(zone.local(self.utc()), Some(zone))
            }
            "utcoffset" => self.zone.map_or(Value::None, |zone| {
                delta_value(Duration::seconds(zone.offset(self.naive).local_minus_utc().into()))
            }),
            "tzname" => self.zone.map_or(Value::None, |zone| Value::str(zone.name(self.naive))),
            other => return Ok(date_method(self.naive.date(), other)),
        }))
    }
}

// ---- date ------------------------------------------------------------------------------------------------------------

/// Python's `date`.
pub(super) struct DateObject {
    pub(super) date: NaiveDate,
}

impl Object for DateObject {
    fn type_name(&self) -> &str {
        "date"
    }

    fn text(&self) -> String {
        self.date.format("%Y-%m-%d").to_string()
    }

    fn repr(&self) -> String {
        let [year, month, day] = date_numbers(self.date);
        format!("datetime.date({year}, {month}, {day})")
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        other.downcast::<Self>().map(|other| self.date == other.date)
    }

    fn compare(&self, other: &Value) -> Option<Ordering> {
        other.downcast::<Self>().map(|other| self.date.cmp(&other.date))
    }

    fn arithmetic(&self, operator: &str, other: &Value, reflected: bool) -> Option<Result<Value, RenderError>> {
        if let Some(delta) = other.downcast::<DeltaObject>() {
            // As Python, which takes the days of its normal form: an hour less is a day less.
            let (days, ..) = delta.parts();
            let days = match (operator, reflected) {
                ("+", _) => days,
                ("-", false) => -days,
                _ => return None,
            };
            let count = Days::new(days.unsigned_abs());
            let moved = if days < 0 { self.date.checked_sub_days(count) } else { self.date.checked_add_days(count) };
            return Some(moved.map(Value::date).ok_or_else(|| RenderError::compilation("date value out of range")));
        }
        let other = other.downcast::<Self>()?;
        (operator == "-").then(|| {
            let difference = self.date - other.date;
            Ok(delta_value(if reflected { -difference } else { difference }))
        })
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(date_attribute(self.date, name))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "strftime" | "isoformat" | "replace" | "weekday" | "isoweekday" | "isocalendar" | "toordinal" | "ctime"
        )
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
                Value::str(strftime(&format.unwrap_or_default().text(), self.date.and_time(NaiveTime::MIN), None))
            }
            "isoformat" => Value::str(self.text()),
            "ctime" => Value::str(self.date.format("%a %b %e 00:00:00 %Y").to_string()),
            "replace" => {
                let numbers = keyword_numbers(arguments, &FIELDS[..3], &date_numbers(self.date))?;
                Value::date(make_date(&numbers)?)
            }
            other => return Ok(date_method(self.date, other)),
        }))
    }
}
