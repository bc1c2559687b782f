//! ClickHouse's data types: text to value and back, and which change loses nothing. One file because it is a type table.

use std::fmt;

use crate::engine::{quote_identifier, quote_string};

use super::tokens::{Token, Tokens};

/// A data type. What has no variant of its own (`JSON`, `AggregateFunction(…)`) is kept as [`ClickHouseType::Other`].
/// <https://clickhouse.com/docs/sql-reference/data-types>
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClickHouseType {
    Bool,
    /// Bits: 8 to 256.
    Int(u16),
    /// Bits: 8 to 256.
    UInt(u16),
    /// Bits: 32 or 64.
    Float(u8),
    BFloat16,
    Decimal {
        precision: u8,
        scale: u8,
    },
    String,
    FixedString(u32),
    Uuid,
    Ipv4,
    Ipv6,
    Date,
    Date32,
    /// Seconds, with a time zone where one is given.
    DateTime(Option<String>),
    DateTime64 {
        precision: u8,
        timezone: Option<String>,
    },
    Time,
    /// Digits below the second.
    Time64(u8),
    /// 8 or 16 bits; names in order of their values.
    Enum {
        bits: u8,
        values: Vec<(String, i16)>,
    },
    Array(Box<ClickHouseType>),
    Nullable(Box<ClickHouseType>),
    LowCardinality(Box<ClickHouseType>),
    Map(Box<ClickHouseType>, Box<ClickHouseType>),
    /// Elements, with names where they have them.
    Tuple(Vec<(Option<String>, ClickHouseType)>),
    /// No value but NULL: a column that no file has given a type.
    Nothing,
    /// A type that chpipe does not look into, as the server writes it.
    Other(String),
}

/// Text that is not a ClickHouse type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a ClickHouse type: {reason}")]
pub struct TypeError {
    pub text: String,
    pub reason: String,
}

impl ClickHouseType {
    /// Reads a type as ClickHouse or a user writes it; SQL aliases (`INT`, `TEXT`) become the type they stand for.
    ///
    /// # Errors
    /// Unbalanced parentheses, a wrong number of arguments, a number out of range.
    pub fn parse(text: &str) -> Result<Self, TypeError> {
        let fail = |reason: String| TypeError { text: text.to_owned(), reason };
        let tokens = Tokens::of(text).map_err(|error| fail(error.to_string()))?;
        let mut parser = Parser { text, tokens: &tokens.list, position: 0 };
        let parsed = parser.type_name().map_err(&fail)?;
        match parser.peek() {
            None => Ok(parsed),
            Some(token) => Err(fail(format!("unexpected `{}`", token.source(text)))),
        }
    }

    /// The type without Nullable and LowCardinality around it.
    pub fn inner(&self) -> &Self {
        match self {
            Self::Nullable(inner) | Self::LowCardinality(inner) => inner.inner(),
            other => other,
        }
    }

    /// Whether NULL is a value of it.
    pub fn is_nullable(&self) -> bool {
        match self {
            Self::Nullable(_) => true,
            Self::LowCardinality(inner) => inner.is_nullable(),
            _ => false,
        }
    }

    pub fn is_low_cardinality(&self) -> bool {
        matches!(self, Self::LowCardinality(_))
    }

    /// The same type that takes NULL; arrays, maps and tuples cannot, and stay (their missing value is the empty one).
    #[must_use]
    pub fn nullable(self) -> Self {
        match self {
            Self::Nullable(_) | Self::Array(_) | Self::Map(..) | Self::Tuple(_) | Self::Other(_) => self,
            Self::LowCardinality(inner) => Self::LowCardinality(Box::new(inner.nullable())),
            other => Self::Nullable(Box::new(other)),
        }
    }

    /// The same type without NULL.
    #[must_use]
    pub fn not_nullable(self) -> Self {
        match self {
            Self::Nullable(inner) => *inner,
            Self::LowCardinality(inner) => Self::LowCardinality(Box::new(inner.not_nullable())),
            other => other,
        }
    }

    /// The same type as LowCardinality, where that type can be.
    #[must_use]
    pub fn low_cardinality(self) -> Self {
        match self.inner() {
            Self::String | Self::FixedString(_) if !self.is_low_cardinality() => Self::LowCardinality(Box::new(self)),
            _ => self,
        }
    }

    /// The same type without LowCardinality.
    #[must_use]
    pub fn not_low_cardinality(self) -> Self {
        match self {
            Self::LowCardinality(inner) => *inner,
            other => other,
        }
    }

    /// A literal that stands for NULL in a sorting key: no value of real data.
    pub fn null_key_literal(&self) -> Option<String> {
        match self.inner() {
            Self::Int(_) | Self::Float(_) | Self::Decimal { .. } => Some("-1".into()),
            // An unsigned column has no -1; ifNull then gives the signed supertype.
            Self::UInt(8 | 16 | 32) => Some("-1".into()),
            Self::UInt(bits) => Some(format!("toInt{}(-1)", (*bits * 2).min(256))),
            Self::String | Self::FixedString(_) => Some("''".into()),
            Self::Bool => Some("2".into()),
            Self::Date | Self::Date32 => Some("toDate32('1900-01-01')".into()),
            Self::DateTime(_) | Self::DateTime64 { .. } => Some("toDateTime64('1900-01-01 00:00:00', 0, 'UTC')".into()),
            Self::Uuid => Some("toUUID('00000000-0000-0000-0000-000000000000')".into()),
            _ => None,
        }
    }

    /// Whether every value of `self` is a value of `to` and keeps its meaning, so that `MODIFY COLUMN` needs no look at
    /// the data.
    pub fn widens_to(&self, to: &Self) -> bool {
        if self == to {
            return true;
        }
        match (self, to) {
            (Self::LowCardinality(from), to) => from.widens_to(to),
            (from, Self::LowCardinality(to)) => from.widens_to(to),
            (Self::Nullable(from), Self::Nullable(to)) => from.widens_to(to),
            (from, Self::Nullable(to)) => from.widens_to(to),
            (Self::Nothing, _) => true,
            (Self::Int(from), Self::Int(to)) | (Self::UInt(from), Self::UInt(to)) => from <= to,
            (Self::UInt(from), Self::Int(to)) => from < to,
            (Self::Bool, Self::UInt(_)) => true,
            (Self::Bool, Self::Int(_)) => true,
            (Self::Float(from), Self::Float(to)) => from <= to,
            (Self::BFloat16, Self::Float(_)) => true,
            (Self::Int(bits) | Self::UInt(bits), Self::Float(64)) => *bits <= 32,
            (Self::Int(bits) | Self::UInt(bits), Self::Float(32)) => *bits <= 16,
            (Self::Int(bits) | Self::UInt(bits), Self::Decimal { precision, scale }) => {
                integer_digits(*bits) <= precision.saturating_sub(*scale)
            }
            (
                Self::Decimal { precision: from_precision, scale: from_scale },
                Self::Decimal { precision: to_precision, scale: to_scale },
            ) => {
                from_scale <= to_scale
                    && from_precision.saturating_sub(*from_scale) <= to_precision.saturating_sub(*to_scale)
            }
            (Self::FixedString(from), Self::FixedString(to)) => from == to,
            (Self::Enum { values: from, .. }, Self::Enum { values: to, .. }) => from.iter().all(|v| to.contains(v)),
            (Self::Enum { .. } | Self::Uuid, Self::String) => true,
            (Self::Date, Self::Date32) => true,
            (Self::Date, Self::DateTime64 { .. }) => true,
            (
                Self::DateTime64 { precision: from, timezone: a },
                Self::DateTime64 { precision: to, timezone: b },
                // A nanosecond value ends in 2262, so 9 digits can lose what fewer digits hold.
            ) => same_zone(a, b) && from <= to && (*to < 9 || from == to),
            (Self::DateTime(a), Self::DateTime64 { timezone: b, .. }) => same_zone(a, b),
            (Self::Time, Self::Time64(_)) => true,
            (Self::Time64(from), Self::Time64(to)) => from <= to,
            (Self::Array(from), Self::Array(to)) => from.widens_to(to),
            (Self::Map(from_key, from_value), Self::Map(to_key, to_value)) => {
                from_key.widens_to(to_key) && from_value.widens_to(to_value)
            }
            (Self::Tuple(from), Self::Tuple(to)) => {
                from.len() == to.len() && from.iter().zip(to).all(|((a, from), (b, to))| a == b && from.widens_to(to))
            }
            _ => false,
        }
    }
}

/// A time zone changes how a value is shown, never the instant.
fn same_zone(_a: &Option<String>, _b: &Option<String>) -> bool {
    true
}

/// Decimal digits that any integer of so many bits fits in.
fn integer_digits(bits: u16) -> u8 {
    match bits {
        8 => 3,
        16 => 5,
        32 => 10,
        64 => 20,
        128 => 39,
        _ => 78,
    }
}

/// The narrowest type that holds every value of both, where there is one that loses nothing.
pub fn widen(a: &ClickHouseType, b: &ClickHouseType) -> Option<ClickHouseType> {
    use ClickHouseType as T;
    // Some file is dictionary-encoded and some is not: the plain type holds both.
    match (a, b) {
        (T::LowCardinality(_), T::LowCardinality(_)) => {}
        (T::LowCardinality(plain), other) | (other, T::LowCardinality(plain)) => return widen(plain, other),
        _ => {}
    }
    if a.widens_to(b) {
        return Some(if a.is_nullable() { b.clone().nullable() } else { b.clone() });
    }
    if b.widens_to(a) {
        return Some(if b.is_nullable() { a.clone().nullable() } else { a.clone() });
    }
    if a.is_nullable() || b.is_nullable() {
        return widen(&a.clone().not_nullable(), &b.clone().not_nullable()).map(T::nullable);
    }
    match (a, b) {
        (T::UInt(unsigned), T::Int(signed)) | (T::Int(signed), T::UInt(unsigned)) => {
            let bits = signed.max(&(unsigned * 2)).to_owned();
            (bits <= 256).then_some(T::Int(bits))
        }
        (T::Int(bits) | T::UInt(bits), T::Float(_)) | (T::Float(_), T::Int(bits) | T::UInt(bits)) => {
            (*bits <= 32).then_some(T::Float(64))
        }
        (T::Decimal { precision, scale }, T::Int(bits) | T::UInt(bits))
        | (T::Int(bits) | T::UInt(bits), T::Decimal { precision, scale }) => {
            decimal(precision.saturating_sub(*scale).max(integer_digits(*bits)), *scale)
        }
        (T::Decimal { precision: ap, scale: a_scale }, T::Decimal { precision: bp, scale: b_scale }) => {
            decimal(ap.saturating_sub(*a_scale).max(bp.saturating_sub(*b_scale)), *a_scale.max(b_scale))
        }
        (T::FixedString(_) | T::String, T::FixedString(_) | T::String) => Some(T::String),
        (T::Date32 | T::Date, T::DateTime64 { precision, timezone })
        | (T::DateTime64 { precision, timezone }, T::Date32 | T::Date) => {
            Some(T::DateTime64 { precision: *precision, timezone: timezone.clone() })
        }
        (T::DateTime64 { precision: a, timezone }, T::DateTime64 { precision: b, .. }) => {
            Some(T::DateTime64 { precision: *a.max(b), timezone: timezone.clone() })
        }
        (T::Array(a), T::Array(b)) => widen(a, b).map(|inner| T::Array(Box::new(inner))),
        (T::Map(ak, av), T::Map(bk, bv)) => Some(T::Map(Box::new(widen(ak, bk)?), Box::new(widen(av, bv)?))),
        (T::Tuple(a), T::Tuple(b)) => widen_tuple(a, b),
        _ => None,
    }
}

type Element = (Option<String>, ClickHouseType);

/// Elements by name: those of one side only take NULL on the other.
fn widen_tuple(a: &[Element], b: &[Element]) -> Option<ClickHouseType> {
    let mut elements: Vec<Element> = Vec::new();
    for (name, kind) in a {
        name.as_ref()?;
        let merged = match b.iter().find(|(other, _)| other == name) {
            Some((_, other)) => widen(kind, other)?,
            None => kind.clone().nullable(),
        };
        elements.push((name.clone(), merged));
    }
    for (name, kind) in b {
        name.as_ref()?;
        if !a.iter().any(|(other, _)| other == name) {
            elements.push((name.clone(), kind.clone().nullable()));
        }
    }
    Some(ClickHouseType::Tuple(elements))
}

fn decimal(integer_digits: u8, scale: u8) -> Option<ClickHouseType> {
    let precision = integer_digits.checked_add(scale)?;
    (precision <= 76).then_some(ClickHouseType::Decimal { precision, scale })
}

impl fmt::Display for ClickHouseType {
    /// Writes the type as the server does in `system.columns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("Bool"),
            Self::Int(bits) => write!(f, "Int{bits}"),
            Self::UInt(bits) => write!(f, "UInt{bits}"),
            Self::Float(bits) => write!(f, "Float{bits}"),
            Self::BFloat16 => f.write_str("BFloat16"),
            Self::Decimal { precision, scale } => write!(f, "Decimal({precision}, {scale})"),
            Self::String => f.write_str("String"),
            Self::FixedString(length) => write!(f, "FixedString({length})"),
            Self::Uuid => f.write_str("UUID"),
            Self::Ipv4 => f.write_str("IPv4"),
            Self::Ipv6 => f.write_str("IPv6"),
            Self::Date => f.write_str("Date"),
            Self::Date32 => f.write_str("Date32"),
            Self::DateTime(None) => f.write_str("DateTime"),
            Self::DateTime(Some(zone)) => write!(f, "DateTime({})", quote_string(zone)),
            Self::DateTime64 { precision, timezone: None } => write!(f, "DateTime64({precision})"),
            Self::DateTime64 { precision, timezone: Some(zone) } => {
                write!(f, "DateTime64({precision}, {})", quote_string(zone))
            }
            Self::Time => f.write_str("Time"),
            Self::Time64(precision) => write!(f, "Time64({precision})"),
            Self::Enum { bits, values } => {
                write!(f, "Enum{bits}(")?;
                for (index, (name, value)) in values.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{} = {value}", quote_string(name))?;
                }
                f.write_str(")")
            }
            Self::Array(inner) => write!(f, "Array({inner})"),
            Self::Nullable(inner) => write!(f, "Nullable({inner})"),
            Self::LowCardinality(inner) => write!(f, "LowCardinality({inner})"),
            Self::Map(key, value) => write!(f, "Map({key}, {value})"),
            Self::Tuple(elements) => {
                f.write_str("Tuple(")?;
                for (index, (name, kind)) in elements.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    match name {
                        Some(name) => write!(f, "{separator}{} {kind}", quote_element(name))?,
                        None => write!(f, "{separator}{kind}")?,
                    }
                }
                f.write_str(")")
            }
            Self::Nothing => f.write_str("Nothing"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A tuple element's name: the server quotes it only where it must.
fn quote_element(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !matches!(
            name.to_ascii_lowercase().as_str(),
            "null" | "distinct" | "all" | "table" | "select" | "from" | "date" | "timestamp"
        );
    if plain { name.to_owned() } else { quote_identifier(name) }
}

impl serde::Serialize for ClickHouseType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ClickHouseType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    position: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position)
    }

    fn is(&self, symbol: &str) -> bool {
        self.peek().is_some_and(|token| token.source(self.text) == symbol)
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.is(symbol) {
            self.position += 1;
            Ok(())
        } else {
            Err(match self.peek() {
                Some(token) => format!("`{symbol}` expected before `{}`", token.source(self.text)),
                None => format!("`{symbol}` expected at its end"),
            })
        }
    }

    fn word(&mut self) -> Result<String, String> {
        let token = self.peek().ok_or("it is empty")?;
        let word = token.identifier(self.text).ok_or_else(|| format!("unexpected `{}`", token.source(self.text)))?;
        self.position += 1;
        Ok(word)
    }

    fn type_name(&mut self) -> Result<ClickHouseType, String> {
        use ClickHouseType as T;
        let start = self.position;
        let name = self.word()?;
        // `DOUBLE PRECISION`, `INT UNSIGNED` and their like are words of standard SQL.
        let second = self.peek().and_then(|token| token.identifier(self.text)).map(|word| word.to_ascii_uppercase());
        let lower = name.to_ascii_lowercase();
        if let Some(second) = second {
            match (lower.as_str(), second.as_str()) {
                ("double", "PRECISION") => {
                    self.position += 1;
                    return Ok(T::Float(64));
                }
                ("int" | "integer" | "bigint" | "smallint" | "tinyint", "UNSIGNED") => {
                    self.position += 1;
                    return Ok(match lower.as_str() {
                        "tinyint" => T::UInt(8),
                        "smallint" => T::UInt(16),
                        "bigint" => T::UInt(64),
                        _ => T::UInt(32),
                    });
                }
                _ => {}
            }
        }
        let plain = match name.as_str() {
            "Bool" => Some(T::Bool),
            "Int8" => Some(T::Int(8)),
            "Int16" => Some(T::Int(16)),
            "Int32" => Some(T::Int(32)),
            "Int64" => Some(T::Int(64)),
            "Int128" => Some(T::Int(128)),
            "Int256" => Some(T::Int(256)),
            "UInt8" => Some(T::UInt(8)),
            "UInt16" => Some(T::UInt(16)),
            "UInt32" => Some(T::UInt(32)),
            "UInt64" => Some(T::UInt(64)),
            "UInt128" => Some(T::UInt(128)),
            "UInt256" => Some(T::UInt(256)),
            "Float32" => Some(T::Float(32)),
            "Float64" => Some(T::Float(64)),
            "BFloat16" => Some(T::BFloat16),
            "String" => Some(T::String),
            "UUID" => Some(T::Uuid),
            "IPv4" => Some(T::Ipv4),
            "IPv6" => Some(T::Ipv6),
            "Date32" => Some(T::Date32),
            "Time" => Some(T::Time),
            "Nothing" => Some(T::Nothing),
            _ => match lower.as_str() {
                "date" => Some(T::Date),
                "bool" | "boolean" => Some(T::Bool),
                "tinyint" | "int1" => Some(T::Int(8)),
                "smallint" => Some(T::Int(16)),
                "int" | "integer" | "mediumint" => Some(T::Int(32)),
                "bigint" | "signed" => Some(T::Int(64)),
                "float" | "real" => Some(T::Float(32)),
                "double" => Some(T::Float(64)),
                "text" | "varchar" | "char" | "blob" | "longtext" | "varbinary" | "clob" => Some(T::String),
                "uuid" => Some(T::Uuid),
                _ => None,
            },
        };
        if let Some(plain) = plain {
            // `VARCHAR(20)`: ClickHouse takes the length and forgets it.
            if matches!(plain, T::String) && self.is("(") {
                self.skip_arguments()?;
            }
            return Ok(plain);
        }
        match lower.as_str() {
            "nullable" => self.single().map(|inner| T::Nullable(Box::new(inner))),
            "array" => self.single().map(|inner| T::Array(Box::new(inner))),
            "lowcardinality" => self.single().map(|inner| T::LowCardinality(Box::new(inner))),
            "map" => {
                self.expect("(")?;
                let key = self.type_name()?;
                self.expect(",")?;
                let value = self.type_name()?;
                self.expect(")")?;
                Ok(T::Map(Box::new(key), Box::new(value)))
            }
            "tuple" => self.tuple(),
            "fixedstring" => {
                let numbers = self.numbers(1, 1)?;
                Ok(T::FixedString(u32::try_from(numbers[0]).map_err(|_| "its length is out of range")?))
            }
            "decimal" | "numeric" | "dec" => {
                let numbers = if self.is("(") { self.numbers(1, 2)? } else { vec![10] };
                decimal_of(numbers[0], numbers.get(1).copied().unwrap_or(0))
            }
            "decimal32" => self.numbers(1, 1).and_then(|n| decimal_of(9, n[0])),
            "decimal64" => self.numbers(1, 1).and_then(|n| decimal_of(18, n[0])),
            "decimal128" => self.numbers(1, 1).and_then(|n| decimal_of(38, n[0])),
            "decimal256" => self.numbers(1, 1).and_then(|n| decimal_of(76, n[0])),
            "datetime" | "datetime32" | "timestamp" => {
                if !self.is("(") {
                    return Ok(T::DateTime(None));
                }
                self.expect("(")?;
                let zone = self.string()?;
                self.expect(")")?;
                Ok(T::DateTime(Some(zone)))
            }
            "datetime64" => self.datetime64(),
            "time64" => {
                let numbers = self.numbers(1, 1)?;
                Ok(T::Time64(sub_second(numbers[0])?))
            }
            "enum" | "enum8" | "enum16" => self.enumeration(&lower),
            _ => {
                // Not a type chpipe looks into: kept as written, with ClickHouse's spacing left alone.
                if self.is("(") {
                    self.skip_arguments()?;
                }
                let from = self.tokens[start].start;
                let to = self.tokens[self.position - 1].end;
                Ok(T::Other(self.text[from..to].to_owned()))
            }
        }
    }

    fn single(&mut self) -> Result<ClickHouseType, String> {
        self.expect("(")?;
        let inner = self.type_name()?;
        self.expect(")")?;
        Ok(inner)
    }

    fn tuple(&mut self) -> Result<ClickHouseType, String> {
        let mut elements = Vec::new();
        self.expect("(")?;
        while !self.is(")") {
            if !elements.is_empty() {
                self.expect(",")?;
            }
            let named = self.tokens.get(self.position + 1).is_some_and(|next| next.identifier(self.text).is_some());
            let name = if named { Some(self.word()?) } else { None };
            elements.push((name, self.type_name()?));
        }
        self.expect(")")?;
        Ok(ClickHouseType::Tuple(elements))
    }

    fn datetime64(&mut self) -> Result<ClickHouseType, String> {
        if !self.is("(") {
            return Ok(ClickHouseType::DateTime64 { precision: 3, timezone: None });
        }
        self.expect("(")?;
        let precision = sub_second(self.number()?)?;
        let mut timezone = None;
        if self.is(",") {
            self.position += 1;
            timezone = Some(self.string()?);
        }
        self.expect(")")?;
        Ok(ClickHouseType::DateTime64 { precision, timezone })
    }

    fn enumeration(&mut self, name: &str) -> Result<ClickHouseType, String> {
        let mut values: Vec<(String, i16)> = Vec::new();
        self.expect("(")?;
        loop {
            let label = self.string()?;
            let value = if self.is("=") {
                self.position += 1;
                i16::try_from(self.number()?).map_err(|_| format!("the value of {label:?} is out of range"))?
            } else {
                values.last().map_or(1, |(_, last)| last.saturating_add(1))
            };
            values.push((label, value));
            if !self.is(",") {
                break;
            }
            self.position += 1;
        }
        self.expect(")")?;
        values.sort_by_key(|(_, value)| *value);
        let small = values.iter().all(|(_, value)| i8::try_from(*value).is_ok());
        let bits = if name == "enum16" || !small { 16 } else { 8 };
        Ok(ClickHouseType::Enum { bits, values })
    }

    fn numbers(&mut self, least: usize, most: usize) -> Result<Vec<i64>, String> {
        self.expect("(")?;
        let mut numbers = vec![self.number()?];
        while self.is(",") {
            self.position += 1;
            numbers.push(self.number()?);
        }
        self.expect(")")?;
        if (least..=most).contains(&numbers.len()) {
            Ok(numbers)
        } else {
            Err(format!("{} arguments where {least} to {most} are allowed", numbers.len()))
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let negative = self.is("-");
        if negative {
            self.position += 1;
        }
        let token = self.peek().ok_or("a number is missing at its end")?;
        let source = token.source(self.text);
        let number: i64 = source.parse().map_err(|_| format!("`{source}` is not a number"))?;
        self.position += 1;
        Ok(if negative { -number } else { number })
    }

    fn string(&mut self) -> Result<String, String> {
        let token = self.peek().ok_or("a string is missing at its end")?;
        let value = token.string(self.text).ok_or_else(|| format!("`{}` is not a string", token.source(self.text)))?;
        self.position += 1;
        Ok(value)
    }

    fn skip_arguments(&mut self) -> Result<(), String> {
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token.source(self.text) {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            self.position += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err("a parenthesis is not closed".into())
    }
}

fn decimal_of(precision: i64, scale: i64) -> Result<ClickHouseType, String> {
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=76), Ok(scale)) if scale <= precision => Ok(ClickHouseType::Decimal { precision, scale }),
        _ => Err(format!("Decimal({precision}, {scale}) is out of range: 76 digits, scale at most the digits")),
    }
}

fn sub_second(digits: i64) -> Result<u8, String> {
    match u8::try_from(digits) {
        Ok(digits @ 0..=9) => Ok(digits),
        _ => Err(format!("{digits} digits below the second; 0 to 9 are allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ClickHouseType {
        ClickHouseType::parse(text).unwrap()
    }

    #[test]
    fn types_are_written_as_the_server_writes_them() {
        for text in [
            "Bool",
            "Int16",
            "UInt256",
            "Float64",
            "BFloat16",
            "Decimal(38, 10)",
            "String",
            "FixedString(4)",
            "UUID",
            "IPv4",
            "Date",
            "Date32",
            "DateTime",
            "DateTime('UTC')",
            "DateTime64(3, 'Europe/Paris')",
            "DateTime64(9)",
            "Time",
            "Time64(6)",
            "Enum8('c' = -2, 'a\\'b' = 1)",
            "Enum16('x' = 1, 'y' = 300)",
            "Array(Nullable(Int32))",
            "LowCardinality(Nullable(String))",
            "Map(LowCardinality(String), Array(Int8))",
            "Tuple(Int32, String)",
            "Tuple(`a b` Int32, `c\\`d` String, e Int8)",
            "AggregateFunction(sum, Int64)",
            "JSON",
            "Variant(Int32, String)",
            "SimpleAggregateFunction(max, Int64)",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn aliases_become_the_type_they_stand_for() {
        for (alias, canonical) in [
            ("INT", "Int32"),
            ("int unsigned", "UInt32"),
            ("double precision", "Float64"),
            ("varchar(20)", "String"),
            ("Decimal32(4)", "Decimal(9, 4)"),
            ("numeric(5,2)", "Decimal(5, 2)"),
            ("DateTime64", "DateTime64(3)"),
            ("boolean", "Bool"),
            ("Enum('a', 'b')", "Enum8('a' = 1, 'b' = 2)"),
            ("timestamp", "DateTime"),
        ] {
            assert_eq!(parse(alias).to_string(), canonical);
        }
    }

    #[test]
    fn text_that_is_no_type_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "it is empty"),
            ("Array(Int8", "`)` expected at its end"),
            ("Decimal(80, 2)", "out of range"),
            ("Int8 Int8", "unexpected `Int8`"),
            ("DateTime64(12)", "12 digits below the second"),
            ("FixedString('a')", "is not a number"),
        ] {
            let error = ClickHouseType::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn widening_keeps_every_value() {
        for (from, to, keeps) in [
            ("Int16", "Int32", true),
            ("Int32", "Int16", false),
            ("UInt32", "Int32", false),
            ("UInt32", "Int64", true),
            ("Int32", "Float64", true),
            ("Int64", "Float64", false),
            ("String", "LowCardinality(Nullable(String))", true),
            ("Nullable(String)", "String", false),
            ("Date32", "Date", false),
            ("Date", "Date32", true),
            ("DateTime64(3, 'UTC')", "DateTime('UTC')", false),
            ("Decimal(9, 2)", "Decimal(18, 2)", true),
            ("Decimal(9, 2)", "Decimal(9, 4)", false),
            ("Array(Int8)", "Array(Int16)", true),
            ("Enum8('a' = 1)", "Enum8('a' = 1, 'b' = 2)", true),
            ("Enum8('a' = 1, 'b' = 2)", "Enum8('a' = 1)", false),
            ("Float64", "Int64", false),
            ("DateTime64(3)", "DateTime64(9)", false),
        ] {
            assert_eq!(parse(from).widens_to(&parse(to)), keeps, "{from} to {to}");
        }
    }

    #[test]
    fn two_files_meet_in_the_narrowest_common_type() {
        for (a, b, common) in [
            ("Int16", "Int64", Some("Int64")),
            ("UInt32", "Int32", Some("Int64")),
            ("UInt64", "Int8", Some("Int128")),
            ("Int32", "Float32", Some("Float64")),
            ("Int64", "Float64", None),
            ("Nothing", "Int8", Some("Int8")),
            ("Nullable(Int8)", "Int16", Some("Nullable(Int16)")),
            ("String", "Int8", None),
            ("Decimal(9, 2)", "Decimal(10, 5)", Some("Decimal(12, 5)")),
            ("LowCardinality(String)", "String", Some("String")),
            ("FixedString(2)", "FixedString(3)", Some("String")),
            ("Tuple(a Int8)", "Tuple(a Int16, b String)", Some("Tuple(a Int16, b Nullable(String))")),
            ("Date32", "DateTime64(6, 'UTC')", Some("DateTime64(6, 'UTC')")),
            ("Array(Int8)", "Array(Nullable(Int8))", Some("Array(Nullable(Int8))")),
        ] {
            let merged = widen(&parse(a), &parse(b)).map(|kind| kind.to_string());
            assert_eq!(merged.as_deref(), common, "{a} with {b}");
            let merged = widen(&parse(b), &parse(a)).map(|kind| kind.to_string());
            assert_eq!(merged.as_deref(), common, "{b} with {a}");
        }
    }
}
