//! What `modules.datetime` holds: the classes, which make values when they are called, and their class methods.

use std::sync::Arc;

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use super::{
    super::{
        super::{
            Arguments, Interpreter, Object, RenderError, Value,
            operators::{self, type_error},
        },
        module as module_of,
    },
    DateObject, DateTimeObject, FIELDS, TimeObject, Zone, datetime_value, delta_value, keyword_numbers, make_date,
    make_time, zone_argument,
};

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

pub(in crate::render::builtins) fn module(_interpreter: &Interpreter<'_>) -> Value {
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
