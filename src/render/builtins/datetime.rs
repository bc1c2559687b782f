//! `modules.datetime`: dates, times, datetimes and durations that print, compare and calculate as Python's. The clock is
//! the invocation's.

use std::{cmp::Ordering, sync::Arc};

use chrono::{
    DateTime, Datelike as _, Days, Duration, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset as _,
    TimeZone as _, Timelike as _, Utc,
};
use chrono_tz::Tz;

use super::{
    super::{
        Arguments, Interpreter, Object, RenderError, Value,
        operators::{self, type_error},
    },
    module as module_of,
};

/// A time zone of a datetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Utc,
    Named(Tz),
    Fixed(FixedOffset),
}

impl Zone {
    fn offset(self, naive: NaiveDateTime) -> FixedOffset {
        match self {
            Self::Utc => Utc.fix(),
            Self::Fixed(offset) => offset,
            Self::Named(zone) => {
                zone.offset_from_local_datetime(&naive).earliest().map_or_else(|| Utc.fix(), |offset| offset.fix())
            }
        }
    }

    fn to_utc(self, naive: NaiveDateTime) -> NaiveDateTime {
        naive - Duration::seconds(self.offset(naive).local_minus_utc().into())
    }

    pub(super) fn local(self, utc: NaiveDateTime) -> NaiveDateTime {
        match self {
            Self::Utc => utc,
            Self::Fixed(offset) => offset.from_utc_datetime(&utc).naive_local(),
            Self::Named(zone) => zone.from_utc_datetime(&utc).naive_local(),
        }
    }

    fn name(self, naive: NaiveDateTime) -> String {
        match self {
            Self::Utc => "UTC".into(),
            Self::Fixed(offset) => format!("UTC{offset}"),
            Self::Named(zone) => zone
                .from_local_datetime(&naive)
                .earliest()
                .map_or_else(String::new, |moment| moment.format("%Z").to_string()),
        }
    }
}

/// A time zone as a value.
pub(super) struct ZoneObject {
    pub(super) zone: Zone,
}

impl Object for ZoneObject {
    fn type_name(&self) -> &str {
        "tzinfo"
    }

    fn text(&self) -> String {
        match self.zone {
            Zone::Utc => "UTC".into(),
            Zone::Named(zone) => zone.name().into(),
            Zone::Fixed(offset) => format!("UTC{offset}"),
        }
    }

    fn repr(&self) -> String {
        match self.zone {
            Zone::Utc => "<UTC>".into(),
            _ => format!("<DstTzInfo '{}'>", self.text()),
        }
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        Some(other.downcast::<Self>().is_some_and(|other| other.zone == self.zone))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok((name == "zone").then(|| Value::str(self.text())))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "localize" | "normalize")
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let argument = || {
            let value = arguments.positional.first().cloned().unwrap_or_default();
            value
                .downcast::<DateTimeObject>()
                .map(|value| (value.naive, value.zone))
                .ok_or_else(|| type_error(format!("{name}() takes a datetime, not '{}'", value.type_name())))
        };
        Ok(Some(match name {
            "localize" => {
                let (naive, zone) = argument()?;
                if zone.is_some() {
                    return Err(RenderError::compilation("Not naive datetime (tzinfo is already set)"));
                }
                datetime_value(naive, Some(self.zone))
            }
            "normalize" => {
                let (naive, zone) = argument()?;
                let zone = zone.ok_or_else(|| RenderError::compilation("Naive time - no tzinfo set"))?;
                datetime_value(self.zone.local(zone.to_utc(naive)), Some(self.zone))
            }
            _ => return Ok(None),
        }))
    }
}

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
            let days = delta.delta.num_days();
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

// ---- time and timedelta ----------------------------------------------------------------------------------------------

/// Python's `time`.
struct TimeObject {
    time: NaiveTime,
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
struct DeltaObject {
    delta: Duration,
}

fn delta_value(delta: Duration) -> Value {
    Value::object(DeltaObject { delta })
}

impl DeltaObject {
    fn micros(&self) -> i64 {
        self.delta.num_microseconds().unwrap_or(i64::MAX)
    }

    /// Days, seconds and microseconds as Python normalizes them: only the days may be negative.
    fn parts(&self) -> (i64, i64, i64) {
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

// ---- the classes -----------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    DateTime,
    Date,
    Time,
    Delta,
    ZoneInfo,
}

struct ClassObject {
    class: Class,
}

pub(super) fn module(_interpreter: &Interpreter<'_>) -> Value {
    let class = |class| Value::object(ClassObject { class });
    module_of(vec![
        ("datetime", class(Class::DateTime)),
        ("date", class(Class::Date)),
        ("time", class(Class::Time)),
        ("timedelta", class(Class::Delta)),
        ("tzinfo", class(Class::ZoneInfo)),
    ])
}

fn timedelta(arguments: &Arguments) -> Result<Value, RenderError> {
    const NAMES: [(&str, f64); 7] = [
        ("days", 86_400e6),
        ("seconds", 1e6),
        ("microseconds", 1.0),
        ("milliseconds", 1e3),
        ("minutes", 60e6),
        ("hours", 3_600e6),
        ("weeks", 604_800e6),
    ];
    let mut micros = 0.0;
    let mut add = |value: &Value, unit: f64| {
        operators::defined(value)?;
        let Some(number) = value.as_float() else {
            return Err(type_error(format!("unsupported type for timedelta days component: {}", value.type_name())));
        };
        micros += number * unit;
        Ok(())
    };
    for (value, (_, unit)) in arguments.positional.iter().zip(NAMES) {
        add(value, unit)?;
    }
    for (keyword, value) in &arguments.keywords {
        let Some((_, unit)) = NAMES.iter().find(|(name, _)| *name == &**keyword) else {
            return Err(type_error(format!("'{keyword}' is an invalid keyword argument for __new__()")));
        };
        add(value, *unit)?;
    }
    Ok(delta_value(Duration::microseconds(f64::round(micros) as i64)))
}

/// Python's `strptime` for the directives that templates use.
fn strptime(text: &str, format: &str) -> Result<Value, RenderError> {
    let mismatch = || {
        RenderError::compilation(format!(
            "time data {} does not match format {}",
            Value::str(text).repr(),
            Value::str(format).repr()
        ))
    };
    let chrono_format = format.replace("%f", "%6f").replace(".%6f", "%.f");
    if format.contains("%z") {
        let moment = DateTime::parse_from_str(text, &chrono_format).map_err(|_| mismatch())?;
        return Ok(datetime_value(moment.naive_local(), Some(Zone::Fixed(*moment.offset()))));
    }
    if let Ok(naive) = NaiveDateTime::parse_from_str(text, &chrono_format) {
        return Ok(datetime_value(naive, None));
    }
    // chrono wants minutes with hours and days with months; Python has defaults for what the format leaves out.
    let (text_more, format_more) = complete(text, &chrono_format);
    NaiveDateTime::parse_from_str(&text_more, &format_more)
        .map(|naive| datetime_value(naive, None))
        .map_err(|_| mismatch())
}

fn complete(text: &str, format: &str) -> (String, String) {
    let (mut text, mut format) = (text.to_owned(), format.to_owned());
    let has = |format: &str, directives: &[&str]| directives.iter().any(|directive| format.contains(directive));
    let mut add = |directives: &[&str], value: &str, directive: &str| {
        if !has(&format, directives) {
            text.push_str(&format!(" {value}"));
            format.push_str(&format!(" {directive}"));
        }
    };
    add(&["%Y", "%y", "%D", "%F"], "1900", "%Y");
    add(&["%m", "%b", "%B", "%j", "%D", "%F"], "1", "%m");
    add(&["%d", "%j", "%D", "%F", "%e"], "1", "%d");
    add(&["%H", "%I", "%T", "%R"], "0", "%H");
    add(&["%M", "%T", "%R"], "0", "%M");
    add(&["%S", "%T"], "0", "%S");
    (text, format)
}

fn from_iso(text: &str) -> Result<Value, RenderError> {
    let fail = || RenderError::compilation(format!("Invalid isoformat string: {}", Value::str(text).repr()));
    if let Ok(moment) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
        let zone = if moment.offset().local_minus_utc() == 0 { Zone::Utc } else { Zone::Fixed(*moment.offset()) };
        return Ok(datetime_value(moment.naive_local(), Some(zone)));
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(naive) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(datetime_value(naive, None));
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map(|date| datetime_value(date.and_time(NaiveTime::MIN), None))
        .map_err(|_| fail())
}

impl Object for ClassObject {
    fn type_name(&self) -> &str {
        "type"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn repr(&self) -> String {
        let name = match self.class {
            Class::DateTime => "datetime",
            Class::Date => "date",
            Class::Time => "time",
            Class::Delta => "timedelta",
            Class::ZoneInfo => "tzinfo",
        };
        format!("<class 'datetime.{name}'>")
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "now"
                | "utcnow"
                | "today"
                | "strptime"
                | "fromisoformat"
                | "fromtimestamp"
                | "utcfromtimestamp"
                | "combine"
        )
    }

    fn call(self: Arc<Self>, arguments: Arguments, _interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        match self.class {
            Class::DateTime => {
                let required = arguments.positional.len()
                    + arguments.keywords.iter().filter(|(name, _)| FIELDS[..3].contains(&&**name)).count();
                if required < 3 {
                    return Err(type_error("function missing required argument 'day' (pos 3)"));
                }
                let numbers = keyword_numbers(&arguments, &FIELDS, &[1, 1, 1, 0, 0, 0, 0])?;
                let naive = make_date(&numbers)?.and_time(make_time(&numbers[3..])?);
                Ok(datetime_value(naive, zone_argument(&arguments, 7)))
            }
            Class::Date => {
                let numbers = keyword_numbers(&arguments, &FIELDS[..3], &[1, 1, 1])?;
                Ok(Value::date(make_date(&numbers)?))
            }
            Class::Time => {
                let numbers = keyword_numbers(&arguments, &FIELDS[3..], &[0, 0, 0, 0])?;
                Ok(Value::object(TimeObject { time: make_time(&numbers)? }))
            }
            Class::Delta => timedelta(&arguments),
            Class::ZoneInfo => Err(RenderError::not_supported("modules.datetime.tzinfo()")),
        }
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let (date, time) = match name {
            "min" => (NaiveDate::from_ymd_opt(1, 1, 1), NaiveTime::MIN),
            "max" => (NaiveDate::from_ymd_opt(9999, 12, 31), make_time(&[23, 59, 59, 999_999])?),
            _ => return Ok(None),
        };
        let date = date.unwrap_or_default();
        Ok(match self.class {
            Class::DateTime => Some(datetime_value(date.and_time(time), None)),
            Class::Date => Some(Value::date(date)),
            _ => None,
        })
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let now = || (interpreter.environment.invocation.clock)();
        let first_text = || arguments.positional.first().map(|value| value.text().to_string()).unwrap_or_default();
        let seconds = || {
            let number = arguments.positional.first().and_then(Value::as_float).unwrap_or(0.0);
            DateTime::<Utc>::from_timestamp_micros((number * 1e6).round() as i64).unwrap_or_default()
        };
        Ok(Some(match (self.class, name) {
            (Class::DateTime, "now" | "fromtimestamp") => {
                let (moment, position) = if name == "now" { (now(), 0) } else { (seconds(), 1) };
                match zone_argument(arguments, position) {
                    Some(zone) => datetime_value(zone.local(moment.naive_utc()), Some(zone)),
                    None => datetime_value(moment.naive_utc(), None),
                }
            }
            (Class::DateTime, "utcnow" | "today") => datetime_value(now().naive_utc(), None),
            (Class::DateTime, "utcfromtimestamp") => datetime_value(seconds().naive_utc(), None),
            (Class::DateTime, "strptime") => {
                let [text, format] = arguments.clone().bind(name, ["date_string", "format"], 2)?;
                strptime(&text.unwrap_or_default().text(), &format.unwrap_or_default().text())?
            }
            (Class::DateTime, "fromisoformat") => from_iso(&first_text())?,
            (Class::DateTime, "combine") => {
                let date = arguments.positional.first().and_then(|date| {
                    date.downcast::<DateObject>()
                        .map(|date| date.date)
                        .or_else(|| date.downcast::<DateTimeObject>().map(|date| date.naive.date()))
                });
                let time =
                    arguments.positional.get(1).and_then(|time| time.downcast::<TimeObject>().map(|time| time.time));
                match (date, time) {
                    (Some(date), Some(time)) => datetime_value(date.and_time(time), zone_argument(arguments, 2)),
                    _ => return Err(type_error("combine() takes a date and a time")),
                }
            }
            (Class::Date, "today") => Value::date(now().date_naive()),
            (Class::Date, "fromtimestamp") => Value::date(seconds().date_naive()),
            (Class::Date, "fromisoformat") => {
                let text = first_text();
                match NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
                    Ok(date) => Value::date(date),
                    Err(_) => {
                        return Err(RenderError::compilation(format!(
                            "Invalid isoformat string: {}",
                            Value::str(text).repr()
                        )));
                    }
                }
            }
            (Class::Date | Class::DateTime, "fromordinal") => {
                let day = arguments.positional.first().and_then(Value::as_int).unwrap_or(1);
                let date = NaiveDate::from_num_days_from_ce_opt(i32::try_from(day).unwrap_or(1)).unwrap_or_default();
                if self.class == Class::Date {
                    Value::date(date)
                } else {
                    datetime_value(date.and_time(NaiveTime::MIN), None)
                }
            }
            _ => return Ok(None),
        }))
    }
}
