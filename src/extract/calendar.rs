//! The rounds of a season, read from the stored pages of the endpoint that lists them. In: pages; out: [`Round`]s. Pure.

use std::collections::BTreeSet;

use arrow::{
    array::{Array as _, Date32Array, Int16Array, StringArray},
    temporal_conversions::date32_to_datetime,
};
use bytes::Bytes;
use chrono::{DateTime, NaiveTime, Utc};

use super::{Endpoints, ExtractError};
use crate::transform::{Rows, Shape};

/// One round of a season.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) number: u8,
    /// When it begins; midnight UTC of its day where no time is known.
    pub(super) begins: Option<DateTime<Utc>>,
    /// Columns that have a value: a round with `sprint_date` has a sprint.
    has: BTreeSet<String>,
}

impl Round {
    /// Whether it has begun.
    pub(super) fn is_held(&self, now: DateTime<Utc>) -> bool {
        self.begins.is_none_or(|begins| begins <= now)
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.has.contains(column)
    }
}

/// The rounds that these pages list, ascending.
///
/// # Errors
/// The pages are not of the shape that endpoints.yml describes.
pub(super) fn rounds(endpoints: &Endpoints, season: u16, pages: &[Bytes]) -> Result<Vec<Round>, ExtractError> {
    let endpoint = endpoints.rounds_endpoint();
    let shape = Shape::new(endpoint);
    let mut rows = Rows::new(&shape, Some(season), None);
    for page in pages {
        rows.add_page(page).map_err(|source| ExtractError::Page { url: endpoint.path(Some(season), None), source })?;
    }
    let unreadable = |reason: String| ExtractError::Bronze { key: endpoint.path(Some(season), None), reason };
    let table = rows.finish().map_err(|error| unreadable(error.to_string()))?.rows;
    let names = &endpoints.rounds;
    let wrong =
        |name: &str| unreadable(format!("column `{name}` of endpoints.yml has another type than `rounds` needs"));
    let column = |name: &str| table.column_by_name(name).ok_or_else(|| wrong(name));
    let numbers = column(&names.round)?.as_any().downcast_ref::<Int16Array>().ok_or_else(|| wrong(&names.round))?;
    let dates = column(&names.date)?.as_any().downcast_ref::<Date32Array>().ok_or_else(|| wrong(&names.date))?;
    let times = column(&names.time)?.as_any().downcast_ref::<StringArray>().ok_or_else(|| wrong(&names.time))?;
    let mut rounds = Vec::with_capacity(table.num_rows());
    let schema = table.schema();
    for row in 0..table.num_rows() {
        let Ok(number) = u8::try_from(numbers.value(row)) else {
            return Err(unreadable(format!("round {} is no round", numbers.value(row))));
        };
        let time = (!times.is_null(row)).then(|| times.value(row));
        let time = time.and_then(|time| NaiveTime::parse_from_str(time.trim_end_matches('Z'), "%H:%M:%S").ok());
        let date = (!dates.is_null(row)).then(|| date32_to_datetime(dates.value(row))).flatten();
        let begins = date.map(|date| date.date().and_time(time.unwrap_or(NaiveTime::MIN)).and_utc());
        let columns = schema.fields().iter().zip(table.columns());
        let has = columns.filter(|(_, column)| !column.is_null(row)).map(|(field, _)| field.name().clone());
        rounds.push(Round { number, begins, has: has.collect() });
    }
    Ok(rounds)
}
