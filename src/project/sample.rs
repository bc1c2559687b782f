//! `--sample`: the window of time that refs and sources with an `event_time` are read through. In: what was typed, and
//! the present; out: a [`Sample`].

use chrono::{DateTime, Days, Months, TimeDelta, Utc};

use super::{ProjectError, moment::parse_moment};

/// A window of time, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Sample {
    /// `3 days` before `now`, or `{start: 2024-12-01, end: 2024-12-31}`: dbt's two forms.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str, now: DateTime<Utc>) -> Result<Self, ProjectError> {
        let text = text.trim();
        let sample = if text.starts_with('{') { fixed(text) } else { relative(text, now) };
        sample.ok_or_else(|| {
            ProjectError::runtime(format!("Cannot load SAMPLE_WINDOW from '{text}'")).hinting(
                "--sample '3 days' (hours, days, months, years), or --sample '{start: 2024-12-01, end: 2024-12-31}'",
            )
        })
    }

    /// From and until.
    pub fn bounds(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        (self.start, self.end)
    }

    /// The part of another interval that it leaves, both as `YYYY-MM-DD HH:MM:SS`.
    pub fn within(&self, start: Option<&str>, end: Option<&str>) -> (String, String) {
        let shown = |time: &DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S").to_string();
        let own = (shown(&self.start), shown(&self.end));
        (
            start.map_or(own.0.clone(), |start| own.0.max(start.to_owned())),
            end.map_or(own.1.clone(), |end| own.1.min(end.to_owned())),
        )
    }
}

fn relative(text: &str, now: DateTime<Utc>) -> Option<Sample> {
    let mut words = text.split_whitespace();
    let (count, grain) = (words.next()?.parse::<u32>().ok()?, words.next()?.to_lowercase());
    if words.next().is_some() {
        return None;
    }
    let start = match grain.trim_end_matches('s') {
        "hour" => now.checked_sub_signed(TimeDelta::try_hours(count.into())?)?,
        "day" => now.checked_sub_days(Days::new(count.into()))?,
        "month" => now.checked_sub_months(Months::new(count))?,
        "year" => now.checked_sub_months(Months::new(count.checked_mul(12)?))?,
        _ => return None,
    };
    Some(Sample { start, end: now })
}

fn fixed(text: &str) -> Option<Sample> {
    let given: serde_json::Value = serde_yaml_ng::from_str(text).ok()?;
    let time = |key: &str| Some(parse_moment(given.get(key)?.as_str()?)?.and_utc());
    let sample = Sample { start: time("start")?, end: time("end")? };
    (sample.start < sample.end).then_some(sample)
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let now =
            NaiveDate::from_ymd_opt(2024, 3, 31).and_then(|day| day.and_hms_opt(12, 0, 0)).expect("a day").and_utc();
        let window = |text: &str| Sample::parse(text, now).map(|sample| sample.within(None, None)).ok();
        let pair = |start: &str, end: &str| Some((start.to_owned(), end.to_owned()));
        assert_eq!(window("3 days"), pair("2024-03-28 12:00:00", "2024-03-31 12:00:00"));
        assert_eq!(window("1 month"), pair("2024-02-29 12:00:00", "2024-03-31 12:00:00"));
        assert_eq!(window("1 year"), pair("2023-03-31 12:00:00", "2024-03-31 12:00:00"));
        assert_eq!(
            window("{'start': '2024-01-01', 'end': '2024-01-02T06:00:00'}"),
            pair("2024-01-01 00:00:00", "2024-01-02 06:00:00")
        );
        for wrong in ["", "3", "3 weeks", "three days", "3 days ago", "{start: 2024-01-02, end: 2024-01-01}", "{}"] {
            assert_eq!(window(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_batch_keeps_its_own_bounds_where_they_are_narrower() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(10);
        let sample = Sample::parse("2 days", now).expect("a sample");
        assert_eq!(
            sample.within(Some("1970-01-10 00:00:00"), Some("1970-01-12 00:00:00")),
            ("1970-01-10 00:00:00".to_owned(), "1970-01-11 00:00:00".to_owned())
        );
    }
}
