//! Time zones: UTC, a fixed offset, or a name of the tz database.

use std::sync::Arc;

use chrono::{Duration, FixedOffset, NaiveDateTime, Offset as _, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::{
    super::super::{Arguments, Interpreter, Object, RenderError, Value, operators::type_error},
    DateTimeObject, datetime_value,
};

/// A time zone of a datetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::render::builtins) enum Zone {
    Utc,
    Named(Tz),
    Fixed(FixedOffset),
}

impl Zone {
    pub(super) fn offset(self, naive: NaiveDateTime) -> FixedOffset {
        match self {
            Self::Utc => Utc.fix(),
            Self::Fixed(offset) => offset,
            Self::Named(zone) => {
                zone.offset_from_local_datetime(&naive).earliest().map_or_else(|| Utc.fix(), |offset| offset.fix())
            }
        }
    }

    pub(super) fn to_utc(self, naive: NaiveDateTime) -> NaiveDateTime {
        naive - Duration::seconds(self.offset(naive).local_minus_utc().into())
    }

    pub(in crate::render::builtins) fn local(self, utc: NaiveDateTime) -> NaiveDateTime {
        match self {
            Self::Utc => utc,
            Self::Fixed(offset) => offset.from_utc_datetime(&utc).naive_local(),
            Self::Named(zone) => zone.from_utc_datetime(&utc).naive_local(),
        }
    }

    pub(super) fn name(self, naive: NaiveDateTime) -> String {
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
pub(in crate::render::builtins) struct ZoneObject {
    pub(in crate::render::builtins) zone: Zone,
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
