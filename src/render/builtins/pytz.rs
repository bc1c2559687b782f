//! `modules.pytz`: time zones by name.

use chrono_tz::Tz;

use super::{
    super::{RenderError, Value},
    datetime::{Zone, ZoneObject},
    module as module_of, native,
};

fn zone(zone: Zone) -> Value {
    Value::object(ZoneObject { zone })
}

pub(super) fn module() -> Value {
    let names = |filter: fn(&str) -> bool| {
        Value::list(
            chrono_tz::TZ_VARIANTS
                .iter()
                .map(|zone| zone.name())
                .filter(|name| filter(name))
                .map(Value::from)
                .collect(),
        )
    };
    module_of(vec![
        (
            "timezone",
            native("timezone", |_, arguments| {
                let [name] = arguments.bind("timezone", ["zone"], 1)?;
                let name = name.unwrap_or_default().text();
                if name.eq_ignore_ascii_case("utc") {
                    return Ok(zone(Zone::Utc));
                }
                let found = chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(&name));
                match found {
                    Some(found) => Ok(zone(Zone::Named(Tz::clone(found)))),
                    None => Err(RenderError::compilation(Value::Str(name).repr())),
                }
            }),
        ),
        ("utc", zone(Zone::Utc)),
        ("UTC", zone(Zone::Utc)),
        ("all_timezones", names(|_| true)),
        (
            "common_timezones",
            names(|name| {
                name == "UTC" || (name.contains('/') && !name.starts_with("Etc/") && !name.starts_with("SystemV"))
            }),
        ),
        (
            "FixedOffset",
            native("FixedOffset", |_, arguments| {
                let [minutes] = arguments.bind("FixedOffset", ["offset"], 1)?;
                let minutes = minutes.and_then(|minutes| minutes.as_int()).unwrap_or(0);
                let seconds = i32::try_from(minutes * 60).unwrap_or(0);
                match chrono::FixedOffset::east_opt(seconds) {
                    Some(offset) => Ok(zone(Zone::Fixed(offset))),
                    None => Err(RenderError::compilation("absolute offset is too large")),
                }
            }),
        ),
    ])
}
