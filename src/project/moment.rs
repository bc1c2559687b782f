//! Times as dbt's configs and flags write them. In: text; out: UTC without a zone.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

/// `2024-01-31`, `2024-01-31 06:00`, `2024-01-31T06:00:00.5`, `2024-01-31T06:00:00+00:00`; one with an offset is turned into UTC.
pub fn parse_moment(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.naive_utc()).ok();
    let plain = || {
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
    };
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::default()));
    zoned.or_else(plain).or_else(day)
}
