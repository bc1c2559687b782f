//! ClickHouse's type names, read, and the Arrow type that each arrives as. One table for every engine.
//!
//! | ClickHouse | Arrow |
//! |---|---|
//! | `Int*`, `UInt*` to 64 bits, `Float*`, `Bool` | the same; `BFloat16` as Float32 |
//! | `Int128`, `UInt128` | Decimal256(39, 0); the 256-bit ones Decimal256(76, 0) |
//! | `Decimal(P, S)` | Decimal128(P, S), above 38 digits Decimal256 |
//! | `String`, `JSON`, `Enum*`, `UUID`, `IPv4`, `IPv6` | Utf8: the text ClickHouse prints |
//! | `FixedString(N)` | FixedSizeBinary(N) |
//! | `Date`, `Date32` | Date32 |
//! | `DateTime` | Timestamp(Second) in UTC: Native names no time zone of a DateTime; that of a DateTime64 it does |
//! | `DateTime64(P)` | Timestamp in seconds, milli-, micro- or nanoseconds, the first that is fine enough |
//! | `Nullable(T)`, `LowCardinality(T)`, `SimpleAggregateFunction(f, T)` | T; nullable or not |
//! | `Array`, `Map`, `Tuple`, `Nested`, geo types | List, Map, Struct |
//! | `Interval*` | Int64; `Time` Time32(Second) has no room for 999 hours, so it is Duration(Second), `Time64` likewise |
//! | `Nothing` | Null |
//!
//! Every Arrow field carries ClickHouse's own name of the type in its metadata, under [`TYPE_KEY`]. `Variant`,
//! `Dynamic` and aggregate states have no Arrow form: the error names the column, and a cast in the query helps.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

/// The key of a field's metadata that holds ClickHouse's name of its type: `LowCardinality(String)`.
pub const TYPE_KEY: &str = "clickhouse.type";

/// A type as ClickHouse names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ColumnType {
    Int(u16),
    UInt(u16),
    Float(u16),
    BFloat16,
    Bool,
    /// Precision, scale.
    Decimal(u8, i8),
    String,
    /// Sent as a string: `output_format_native_write_json_as_string`.
    Json,
    FixedString(i32),
    /// The number's width in bits, and the names.
    Enum(u16, HashMap<i16, String>),
    Uuid,
    Ipv4,
    Ipv6,
    Date,
    Date32,
    DateTime(Option<String>),
    DateTime64(u32, Option<String>),
    Time,
    Time64(u32),
    Interval,
    Nothing,
    Nullable(Box<ColumnType>),
    LowCardinality(Box<ColumnType>),
    Array(Box<ColumnType>),
    Map(Box<ColumnType>, Box<ColumnType>),
    Tuple(Vec<(String, ColumnType)>),
}

impl ColumnType {
    /// Reads a type's name; the error is the part that is not known.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let name = name.trim();
        let (head, arguments) = match name.find('(') {
            Some(at) if name.ends_with(')') => (&name[..at], split_arguments(&name[at + 1..name.len() - 1])),
            _ => (name, Vec::new()),
        };
        let unknown = || name.to_owned();
        let argument = |index: usize| arguments.get(index).copied().ok_or_else(unknown);
        let nested = |index: usize| argument(index).and_then(Self::parse).map(Box::new);
        let number = |index: usize| argument(index)?.parse::<u32>().map_err(|_| unknown());
        let zone = |index: usize| arguments.get(index).map(|text| unquote(text));
        let decimal = |precision: u8, index: usize| -> Result<Self, String> {
            Ok(Self::Decimal(precision, i8::try_from(number(index)?).map_err(|_| unknown())?))
        };
        Ok(match head {
            "Int8" => Self::Int(8),
            "Int16" => Self::Int(16),
            "Int32" => Self::Int(32),
            "Int64" => Self::Int(64),
            "Int128" => Self::Int(128),
            "Int256" => Self::Int(256),
            "UInt8" => Self::UInt(8),
            "UInt16" => Self::UInt(16),
            "UInt32" => Self::UInt(32),
            "UInt64" => Self::UInt(64),
            "UInt128" => Self::UInt(128),
            "UInt256" => Self::UInt(256),
            "Float32" => Self::Float(32),
            "Float64" => Self::Float(64),
            "BFloat16" => Self::BFloat16,
            "Bool" => Self::Bool,
            "Decimal" => decimal(u8::try_from(number(0)?).map_err(|_| unknown())?, 1)?,
            "Decimal32" => decimal(9, 0)?,
            "Decimal64" => decimal(18, 0)?,
            "Decimal128" => decimal(38, 0)?,
            "Decimal256" => decimal(76, 0)?,
            "String" => Self::String,
            "JSON" => Self::Json,
            "FixedString" => Self::FixedString(i32::try_from(number(0)?).map_err(|_| unknown())?),
            "Enum8" => Self::Enum(8, enum_names(&arguments).ok_or_else(unknown)?),
            "Enum16" => Self::Enum(16, enum_names(&arguments).ok_or_else(unknown)?),
            "UUID" => Self::Uuid,
            "IPv4" => Self::Ipv4,
            "IPv6" => Self::Ipv6,
            "Date" => Self::Date,
            "Date32" => Self::Date32,
            "DateTime" => Self::DateTime(zone(0)),
            "DateTime64" => Self::DateTime64(number(0)?, zone(1)),
            "Time" => Self::Time,
            "Time64" => Self::Time64(number(0)?),
            "Nothing" => Self::Nothing,
            "Nullable" => Self::Nullable(nested(0)?),
            "LowCardinality" => Self::LowCardinality(nested(0)?),
            "SimpleAggregateFunction" => return Self::parse(argument(1)?),
            "Array" => Self::Array(nested(0)?),
            "Map" => Self::Map(nested(0)?, nested(1)?),
            "Tuple" => Self::Tuple(elements(&arguments)?),
            "Nested" => Self::Array(Box::new(Self::Tuple(elements(&arguments)?))),
            "Point" => Self::parse("Tuple(Float64, Float64)")?,
            "Ring" | "LineString" => Self::parse("Array(Point)")?,
            "Polygon" | "MultiLineString" => Self::parse("Array(Array(Point))")?,
            "MultiPolygon" => Self::parse("Array(Array(Array(Point)))")?,
            _ if head.starts_with("Interval") => Self::Interval,
            _ => return Err(unknown()),
        })
    }

    /// The Arrow type.
    pub(super) fn arrow(&self) -> DataType {
        let zone = |zone: &Option<String>| Some(Arc::from(zone.as_deref().unwrap_or("UTC")));
        match self {
            Self::Int(8) => DataType::Int8,
            Self::Int(16) => DataType::Int16,
            Self::Int(32) => DataType::Int32,
            Self::Int(64) | Self::Interval => DataType::Int64,
            Self::UInt(8) => DataType::UInt8,
            Self::UInt(16) => DataType::UInt16,
            Self::UInt(32) => DataType::UInt32,
            Self::UInt(64) => DataType::UInt64,
            Self::Int(128) | Self::UInt(128) => DataType::Decimal256(39, 0),
            Self::Int(_) | Self::UInt(_) => DataType::Decimal256(76, 0),
            Self::Float(32) | Self::BFloat16 => DataType::Float32,
            Self::Float(_) => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Decimal(precision, scale) if *precision <= 38 => DataType::Decimal128(*precision, *scale),
            Self::Decimal(precision, scale) => DataType::Decimal256(*precision, *scale),
            Self::String | Self::Json | Self::Enum(..) | Self::Uuid | Self::Ipv4 | Self::Ipv6 => DataType::Utf8,
            Self::FixedString(width) => DataType::FixedSizeBinary(*width),
            Self::Date | Self::Date32 => DataType::Date32,
            Self::DateTime(name) => DataType::Timestamp(TimeUnit::Second, zone(name)),
            Self::DateTime64(precision, name) => DataType::Timestamp(time_unit(*precision), zone(name)),
            Self::Time => DataType::Duration(TimeUnit::Second),
            Self::Time64(precision) => DataType::Duration(time_unit(*precision)),
            Self::Nothing => DataType::Null,
            Self::Nullable(inner) | Self::LowCardinality(inner) => inner.arrow(),
            Self::Array(inner) => DataType::List(Arc::new(inner.element("item"))),
            Self::Map(key, value) => {
                let entries = Fields::from(vec![key.element("keys"), value.element("values")]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
            }
            Self::Tuple(elements) => {
                DataType::Struct(elements.iter().map(|(name, element)| element.element(name)).collect())
            }
        }
    }

    /// The unit's factor: what a ClickHouse number of this precision is multiplied by.
    pub(super) fn scale_up(precision: u32) -> i64 {
        match precision {
            0 | 3 | 6 | 9 => 1,
            1 | 4 | 7 => 100,
            _ => 10,
        }
    }

    pub(super) fn is_nullable(&self) -> bool {
        match self {
            Self::Nullable(_) | Self::Nothing => true,
            Self::LowCardinality(inner) => inner.is_nullable(),
            _ => false,
        }
    }

    fn element(&self, name: &str) -> Field {
        Field::new(name, self.arrow(), self.is_nullable())
    }
}

/// The Arrow field of a column.
pub(super) fn field(name: &str, type_name: &str, column_type: &ColumnType) -> FieldRef {
    let metadata = HashMap::from([(TYPE_KEY.to_owned(), type_name.to_owned())]);
    Arc::new(Field::new(name, column_type.arrow(), column_type.is_nullable()).with_metadata(metadata))
}

fn time_unit(precision: u32) -> TimeUnit {
    match precision {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

/// Splits at the commas that stand outside parentheses and quotes.
fn split_arguments(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start, mut quote, mut escaped) = (0_usize, 0, None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '`' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

/// `a Int8` or `Int8`; an element without a name is called by its place, from 1.
fn elements(arguments: &[&str]) -> Result<Vec<(String, ColumnType)>, String> {
    arguments
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let named = match text.chars().next() {
                Some('`') => text[1..].find('`').map(|end| (unquote(&text[..end + 2]), text[end + 2..].trim())),
                // A type's own arguments hold spaces; a name stands before the first parenthesis.
                _ => text
                    .split_once(' ')
                    .filter(|(name, _)| !name.contains('('))
                    .map(|(name, rest)| (name.to_owned(), rest)),
            };
            match named {
                Some((name, rest)) => Ok((name, ColumnType::parse(rest)?)),
                None => Ok(((index + 1).to_string(), ColumnType::parse(text)?)),
            }
        })
        .collect()
}

/// `'a' = 1, 'b' = 2`
fn enum_names(arguments: &[&str]) -> Option<HashMap<i16, String>> {
    arguments
        .iter()
        .map(|text| {
            let (name, number) = text.rsplit_once('=')?;
            Some((number.trim().parse().ok()?, unquote(name.trim())))
        })
        .collect()
}

/// The content of a quoted name or string.
fn unquote(text: &str) -> String {
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some(c) => out.push(c),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let cases = [
            ("Array(Nullable(String))", "List(nullable Utf8)"),
            ("DateTime64(6, 'Europe/Madrid')", "Timestamp(µs, \"Europe/Madrid\")"),
            ("Map(LowCardinality(String), Array(Int8))", "Map(\"entries\""),
            ("SimpleAggregateFunction(max, UInt64)", "UInt64"),
            ("Enum8('a, (b' = 1, 'it\\'s' = -2)", "Utf8"),
            ("Decimal(76, 10)", "Decimal256(76, 10)"),
        ];
        for (name, arrow) in cases {
            let found = ColumnType::parse(name).unwrap().arrow().to_string();
            assert!(found.contains(arrow.split('(').next().unwrap()), "{name}: {found}");
        }
        let ColumnType::Enum(8, names) = ColumnType::parse("Enum8('a, (b' = 1, 'it\\'s' = -2)").unwrap() else {
            panic!("no enum");
        };
        assert_eq!((names[&1].as_str(), names[&-2].as_str()), ("a, (b", "it's"));
        let ColumnType::Tuple(elements) =
            ColumnType::parse("Tuple(a Int8, `b c` Array(Tuple(String, x UInt8)), Int8)").unwrap()
        else {
            panic!("no tuple");
        };
        let names: Vec<&str> = elements.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b c", "3"]);
    }

    #[test]
    fn what_has_no_arrow_form_is_named() {
        assert_eq!(ColumnType::parse("Array(Variant(Int8, String))"), Err("Variant(Int8, String)".into()));
        assert_eq!(ColumnType::parse("AggregateFunction(sum, UInt64)"), Err("AggregateFunction(sum, UInt64)".into()));
    }
}
