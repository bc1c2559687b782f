//! Arrow's types to ClickHouse's: one table. Out: a type that holds every value of the Parquet column, as ClickHouse's
//! own Parquet reader fills it (each line was tried against it).

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::ClickHouseType;

/// An Arrow type that no ClickHouse column can hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("column `{column}`: {}", self.unheld())]
pub struct UnsupportedArrowType {
    pub column: String,
    pub arrow_type: String,
    pub reason: String,
}

impl UnsupportedArrowType {
    /// What is wrong, without the column's name.
    pub fn unheld(&self) -> String {
        format!("no ClickHouse column holds its Arrow type {}: {}", self.arrow_type, self.reason)
    }

    /// The same of the column that the field is a part of.
    fn within(self, column: &str) -> Self {
        if self.column == column {
            return self;
        }
        let arrow_type = format!("{} in `{}`", self.arrow_type, self.column);
        Self { column: column.to_owned(), arrow_type, ..self }
    }
}

/// The ClickHouse type of an Arrow field, Nullable where the field is.
///
/// # Errors
/// The type, or one inside of it, cannot be stored; the message names the outermost field and the type.
pub fn from_arrow(field: &Field) -> Result<ClickHouseType, UnsupportedArrowType> {
    let kind = map(field.name(), field.data_type()).map_err(|error| error.within(field.name()))?;
    // Arrays, maps and tuples have no NULL in ClickHouse: a missing one is read as empty.
    Ok(if field.is_nullable() { kind.nullable() } else { kind })
}

#[rustfmt::skip]
fn map(column: &str, arrow: &DataType) -> Result<ClickHouseType, UnsupportedArrowType> {
    use ClickHouseType as T;
    let unsupported = |reason: &str| {
        Err(UnsupportedArrowType { column: column.to_owned(), arrow_type: arrow.to_string(), reason: reason.to_owned() })
    };
    let array = |item: &Field| Ok(T::Array(Box::new(from_arrow(&item.clone().with_name(column))?)));
    Ok(match arrow {
        DataType::Null                                     => T::Nothing,
        DataType::Boolean                                  => T::Bool,
        DataType::Int8                                     => T::Int(8),
        DataType::Int16                                    => T::Int(16),
        DataType::Int32                                    => T::Int(32),
        DataType::Int64                                    => T::Int(64),
        DataType::UInt8                                    => T::UInt(8),
        DataType::UInt16                                   => T::UInt(16),
        DataType::UInt32                                   => T::UInt(32),
        DataType::UInt64                                   => T::UInt(64),
        DataType::Float16 | DataType::Float32              => T::Float(32),
        DataType::Float64                                  => T::Float(64),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => match u8::try_from(*scale) {
            Ok(scale) if scale <= *precision               => T::Decimal { precision: *precision, scale },
            _ => return unsupported("a Decimal's scale is between 0 and its digits"),
        },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => T::String,
        DataType::FixedSizeBinary(length) => match u32::try_from(*length) {
            Ok(length) if length > 0                       => T::FixedString(length),
            _ => return unsupported("a FixedString has at least one byte"),
        },
        // Date has no day before 1970.
        DataType::Date32 | DataType::Date64                => T::Date32,
        DataType::Timestamp(unit, zone)                    => T::DateTime64 {
            // Parquet has no seconds: they are written as milliseconds.
            precision: digits(*unit).max(3),
            // Without a zone it is wall-clock text, which UTC shows unchanged.
            timezone: Some(zone.as_deref().map_or_else(|| "UTC".to_owned(), time_zone)),
        },
        DataType::Time32(unit) | DataType::Time64(unit)    => T::Time64(digits(*unit).max(3)),
        DataType::Duration(_)                              => T::Int(64),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
        | DataType::ListView(item) | DataType::LargeListView(item) => array(item)?,
        DataType::Struct(fields) if fields.is_empty()      => return unsupported("a Tuple has at least one element"),
        DataType::Struct(fields)                           => T::Tuple(
            fields.iter().map(|field| Ok((Some(field.name().clone()), from_arrow(field)?))).collect::<Result<_, _>>()?,
        ),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2  => T::Map(
                Box::new(map(column, fields[0].data_type())?.not_nullable()),
                Box::new(from_arrow(&fields[1])?),
            ),
            _ => return unsupported("its entries are not pairs"),
        },
        DataType::Dictionary(_, value)                     => map(column, value)?.low_cardinality(),
        DataType::RunEndEncoded(_, values)                 => map(column, values.data_type())?,
        DataType::Interval(_) => return unsupported("it mixes months, days and nanoseconds"),
        DataType::Union(..)   => return unsupported("Parquet has no union; split it into columns"),
    })
}

fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// A zone ClickHouse knows: names as they are, offsets in its own spelling.
fn time_zone(zone: &str) -> String {
    let offset =
        zone.strip_prefix('+').map(|rest| ('+', rest)).or_else(|| zone.strip_prefix('-').map(|rest| ('-', rest)));
    match (zone, offset) {
        ("Z" | "z" | "+00:00" | "-00:00" | "+0000" | "", _) => "UTC".to_owned(),
        (_, Some((sign, rest))) => {
            let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
            match digits.len() {
                4 => format!("Fixed/UTC{sign}{}:{}:00", &digits[..2], &digits[2..]),
                2 => format!("Fixed/UTC{sign}{digits}:00:00"),
                _ => "UTC".to_owned(),
            }
        }
        (name, None) if name.parse::<chrono_tz::Tz>().is_ok() => name.to_owned(),
        // The instant is the same in any zone; only its display differs.
        _ => "UTC".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Fields, IntervalUnit};

    use super::*;

    fn mapped(arrow: DataType, nullable: bool) -> String {
        from_arrow(&Field::new("c", arrow, nullable)).unwrap().to_string()
    }

    #[test]
    fn nested_types_keep_names_and_nulls() {
        let fields =
            Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("a b", DataType::Utf8, false)]);
        assert_eq!(mapped(DataType::Struct(fields.clone()), true), "Tuple(x Nullable(Int32), `a b` String)");
        let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
        assert_eq!(mapped(DataType::List(item), true), "Array(Tuple(x Nullable(Int32), `a b` String))");
        let entries =
            Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int64, true)]);
        let entries = Arc::new(Field::new("entries", DataType::Struct(entries), false));
        assert_eq!(mapped(DataType::Map(entries, false), false), "Map(String, Nullable(Int64))");
    }

    #[test]
    fn dictionaries_of_text_are_low_cardinality() {
        let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        assert_eq!(mapped(text, true), "LowCardinality(Nullable(String))");
        let number = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64));
        assert_eq!(mapped(number, false), "Int64");
    }

    #[test]
    fn time_zones_are_spelled_as_clickhouse_does() {
        for (zone, expected) in [
            (None, "DateTime64(6, 'UTC')"),
            (Some("+02:00"), "DateTime64(6, 'Fixed/UTC+02:00:00')"),
            (Some("Europe/Paris"), "DateTime64(6, 'Europe/Paris')"),
            (Some("Nowhere/Land"), "DateTime64(6, 'UTC')"),
        ] {
            assert_eq!(mapped(DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into)), false), expected);
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_name() {
        let error = from_arrow(&Field::new("gap", DataType::Interval(IntervalUnit::MonthDayNano), true)).unwrap_err();
        assert!(error.to_string().contains("`gap`"), "{error}");
        let inner = Fields::from(vec![Field::new("gap", DataType::Interval(IntervalUnit::DayTime), true)]);
        let inner = Fields::from(vec![Field::new("inner", DataType::Struct(inner), true)]);
        let error = from_arrow(&Field::new("outer", DataType::Struct(inner), true)).unwrap_err();
        assert!(error.to_string().contains("Arrow type Interval(DayTime) in `gap` in `inner`"), "{error}");
    }
}
