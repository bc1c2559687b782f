//! klickhouse's blocks to Arrow batches and back. Its values go through the bytes of the Native format, so that the one
//! reader of that decides what every type becomes in Arrow.

use std::collections::HashMap;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use klickhouse::{DateTime, DynDateTime64, IndexMap, Type, Value, block::Block};

use super::{EngineError, native_writer::varint, quote_identifier, quote_string};

/// The bytes of a block in the Native format.
///
/// # Errors
/// A value that is not of its column's type.
pub(super) fn native_bytes(block: &Block) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    varint(&mut bytes, block.column_types.len());
    varint(&mut bytes, usize::try_from(block.rows).unwrap_or(0));
    for (name, column_type) in &block.column_types {
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, type_name(column_type).as_bytes());
        let values = block.column_data.get(name).map(Vec::as_slice).unwrap_or_default();
        if block.rows > 0 {
            encode(&mut bytes, column_type, &values.iter().collect::<Vec<_>>())?;
        }
    }
    Ok(bytes)
}

/// The type as ClickHouse names it, without LowCardinality: klickhouse has resolved that.
fn type_name(column_type: &Type) -> String {
    fn names<T: std::fmt::Display>(items: &[(String, T)]) -> String {
        items.iter().map(|(name, value)| format!("{} = {value}", quote_string(name))).collect::<Vec<_>>().join(", ")
    }
    match column_type {
        Type::LowCardinality(inner) => type_name(inner),
        Type::Nullable(inner) => format!("Nullable({})", type_name(inner)),
        Type::Array(inner) => format!("Array({})", type_name(inner)),
        Type::Map(key, value) => format!("Map({}, {})", type_name(key), type_name(value)),
        Type::Tuple(items) => format!("Tuple({})", items.iter().map(type_name).collect::<Vec<_>>().join(", ")),
        Type::Enum8(items) => format!("Enum8({})", names(items)),
        Type::Enum16(items) => format!("Enum16({})", names(items)),
        other => other.to_string(),
    }
}

fn encode(bytes: &mut Vec<u8>, column_type: &Type, values: &[&Value]) -> Result<(), EngineError> {
    let unexpected = || EngineError::Protocol { reason: format!("a value that is no {column_type}") };
    match column_type {
        Type::LowCardinality(inner) => return encode(bytes, inner, values),
        Type::Nullable(inner) => {
            let default = inner.default_value();
            bytes.extend(values.iter().map(|value| u8::from(matches!(value, Value::Null))));
            let inner_values: Vec<&Value> =
                values.iter().map(|value| if matches!(value, Value::Null) { &default } else { *value }).collect();
            return encode(bytes, inner, &inner_values);
        }
        Type::Array(inner) => {
            let lists = values.iter().map(|value| match value {
                Value::Array(items) => Ok(items.as_slice()),
                _ => Err(unexpected()),
            });
            let lists = lists.collect::<Result<Vec<_>, _>>()?;
            ends(bytes, lists.iter().map(|items| items.len()));
            return encode(bytes, inner, &lists.into_iter().flatten().collect::<Vec<_>>());
        }
        Type::Map(key, value_type) => {
            let maps = values.iter().map(|value| match value {
                Value::Map(keys, items) => Ok((keys.as_slice(), items.as_slice())),
                _ => Err(unexpected()),
            });
            let maps = maps.collect::<Result<Vec<_>, _>>()?;
            ends(bytes, maps.iter().map(|(keys, _)| keys.len()));
            encode(bytes, key, &maps.iter().flat_map(|(keys, _)| *keys).collect::<Vec<_>>())?;
            return encode(bytes, value_type, &maps.iter().flat_map(|(_, items)| *items).collect::<Vec<_>>());
        }
        Type::Tuple(items) => {
            for (index, item) in items.iter().enumerate() {
                let column = values.iter().map(|value| match value {
                    Value::Tuple(items) => items.get(index).ok_or_else(unexpected),
                    _ => Err(unexpected()),
                });
                encode(bytes, item, &column.collect::<Result<Vec<_>, _>>()?)?;
            }
            return Ok(());
        }
        _ => {}
    }
    for value in values {
        match (column_type, value) {
            (Type::FixedString(width), Value::String(value)) => {
                bytes.extend_from_slice(value);
                bytes.resize(bytes.len() + width.saturating_sub(value.len()), 0);
            }
            (_, Value::String(value)) => text(bytes, value),
            (_, Value::Int8(value) | Value::Enum8(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Int16(value) | Value::Enum16(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Int32(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Int64(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Int128(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::UInt8(value)) => bytes.push(*value),
            (_, Value::UInt16(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::UInt32(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::UInt64(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::UInt128(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Float32(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Float64(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::BFloat16(value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Decimal32(_, value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Decimal64(_, value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Decimal128(_, value)) => bytes.extend_from_slice(&value.to_le_bytes()),
            // klickhouse keeps these with the highest byte first.
            (_, Value::Decimal256(_, value) | Value::Int256(value)) => bytes.extend(value.0.iter().rev()),
            (_, Value::UInt256(value)) => bytes.extend(value.0.iter().rev()),
            (_, Value::Date(value)) => bytes.extend_from_slice(&value.0.to_le_bytes()),
            (_, Value::DateTime(value)) => bytes.extend_from_slice(&value.1.to_le_bytes()),
            (_, Value::DateTime64(value)) => bytes.extend_from_slice(&value.1.to_le_bytes()),
            (_, Value::Uuid(value)) => {
                let (high, low) = value.as_u64_pair();
                bytes.extend_from_slice(&high.to_le_bytes());
                bytes.extend_from_slice(&low.to_le_bytes());
            }
            (_, Value::Ipv4(value)) => bytes.extend_from_slice(&u32::from(value.0).to_le_bytes()),
            (_, Value::Ipv6(value)) => bytes.extend_from_slice(&value.0.octets()),
            _ => return Err(unexpected()),
        }
    }
    Ok(())
}

fn ends(bytes: &mut Vec<u8>, lengths: impl Iterator<Item = usize>) {
    let mut end = 0_u64;
    for length in lengths {
        end += length as u64;
        bytes.extend_from_slice(&end.to_le_bytes());
    }
}

fn text(bytes: &mut Vec<u8>, value: &[u8]) {
    varint(bytes, value.len());
    bytes.extend_from_slice(value);
}

/// A block to insert: the batch's columns by name, as values of the table's types. A server of the native protocol does
/// not cast.
///
/// # Errors
/// A column that the table does not have, or whose type nothing can be made of.
pub(super) fn block_to_insert(
    batch: &RecordBatch,
    schema: &SchemaRef,
    types: &HashMap<String, Type>,
) -> Result<Block, EngineError> {
    let mut block = Block {
        info: klickhouse::block::BlockInfo::default(),
        rows: batch.num_rows() as u64,
        column_types: IndexMap::new(),
        column_data: IndexMap::new(),
    };
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let name = field.name();
        let column_type = types.get(name).ok_or_else(|| EngineError::Server {
            code: 16,
            name: "NO_SUCH_COLUMN_IN_TABLE".into(),
            message: format!("There is no column {} in the table", quote_identifier(name)),
            query_id: String::new(),
        })?;
        let values = values(array, column_type).map_err(|reason| EngineError::Protocol {
            reason: format!(
                "column `{name}` of Arrow type {} cannot be inserted as {column_type}: {reason}",
                array.data_type()
            ),
        })?;
        block.column_types.insert(name.clone(), column_type.clone());
        block.column_data.insert(name.clone(), values);
    }
    Ok(block)
}

fn values(array: &ArrayRef, column_type: &Type) -> Result<Vec<Value>, String> {
    match column_type {
        Type::LowCardinality(inner) => return values(array, inner),
        Type::Nullable(inner) => {
            let nulls = array.logical_nulls();
            let found = values(array, inner)?;
            let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            return Ok(found
                .into_iter()
                .enumerate()
                .map(|(row, value)| if is_null(row) { Value::Null } else { value })
                .collect());
        }
        Type::Array(inner) => {
            let list = array.as_list_opt::<i32>().ok_or("it is no list")?;
            return (0..list.len()).map(|row| values(&list.value(row), inner).map(Value::Array)).collect();
        }
        _ => {}
    }
    let cast = |to: DataType| cast(array, &to).map_err(|error| error.to_string());
    macro_rules! numbers {
        ($arrow:ty, $data_type:expr, $value:expr) => {
            cast($data_type)?.as_primitive::<$arrow>().values().iter().map(|number| $value(*number)).collect()
        };
    }
    macro_rules! parsed {
        ($value:expr) => {{
            let texts = cast(DataType::Utf8)?;
            // What stands under a NULL is never sent.
            let parse = |text: Option<&str>| text.map_or_else(|| Ok(column_type.default_value()), $value);
            texts.as_string::<i32>().iter().map(parse).collect::<Result<Vec<_>, String>>()?
        }};
    }
    Ok(match column_type {
        Type::Int8 => numbers!(Int8Type, DataType::Int8, Value::Int8),
        Type::Int16 => numbers!(Int16Type, DataType::Int16, Value::Int16),
        Type::Int32 => numbers!(Int32Type, DataType::Int32, Value::Int32),
        Type::Int64 => numbers!(Int64Type, DataType::Int64, Value::Int64),
        Type::UInt8 => numbers!(UInt8Type, DataType::UInt8, Value::UInt8),
        Type::UInt16 => numbers!(UInt16Type, DataType::UInt16, Value::UInt16),
        Type::UInt32 => numbers!(UInt32Type, DataType::UInt32, Value::UInt32),
        Type::UInt64 => numbers!(UInt64Type, DataType::UInt64, Value::UInt64),
        Type::Float32 => numbers!(Float32Type, DataType::Float32, Value::Float32),
        Type::Float64 => numbers!(Float64Type, DataType::Float64, Value::Float64),
        Type::Decimal32(scale) => {
            let narrow = |number: i128| Value::Decimal32(*scale, number as i32);
            numbers!(Decimal128Type, decimal128(9, *scale)?, narrow)
        }
        Type::Decimal64(scale) => {
            let narrow = |number: i128| Value::Decimal64(*scale, number as i64);
            numbers!(Decimal128Type, decimal128(18, *scale)?, narrow)
        }
        Type::Decimal128(scale) => {
            numbers!(Decimal128Type, decimal128(38, *scale)?, |number| Value::Decimal128(*scale, number))
        }
        Type::Decimal256(scale) => {
            let to = DataType::Decimal256(76, i8::try_from(*scale).map_err(|error| error.to_string())?);
            let wide = |number: arrow::datatypes::i256| {
                let mut bytes = number.to_le_bytes();
                bytes.reverse();
                Value::Decimal256(*scale, klickhouse::i256(bytes))
            };
            numbers!(Decimal256Type, to, wide)
        }
        Type::String | Type::FixedString(_) => strings(array)?,
        Type::Uuid => parsed!(|text: &str| text.parse().map(Value::Uuid).map_err(|_| format!("`{text}` is no UUID"))),
        Type::Ipv4 => {
            parsed!(|text: &str| text
                .parse()
                .map(|ip| Value::Ipv4(klickhouse::Ipv4(ip)))
                .map_err(|_| format!("`{text}` is no IPv4")))
        }
        Type::Ipv6 => {
            parsed!(|text: &str| text
                .parse()
                .map(|ip| Value::Ipv6(klickhouse::Ipv6(ip)))
                .map_err(|_| format!("`{text}` is no IPv6")))
        }
        Type::Enum8(names) => {
            let number =
                |text: &str| names.iter().find(|(name, _)| name == text).map(|(_, value)| Value::Enum8(*value));
            parsed!(|text: &str| number(text).ok_or_else(|| format!("`{text}` is not in the Enum")))
        }
        Type::Enum16(names) => {
            let number =
                |text: &str| names.iter().find(|(name, _)| name == text).map(|(_, value)| Value::Enum16(*value));
            parsed!(|text: &str| number(text).ok_or_else(|| format!("`{text}` is not in the Enum")))
        }
        Type::Date => {
            let days = cast(DataType::Date32)?;
            let day = |days: &i32| {
                u16::try_from(*days)
                    .map(|days| Value::Date(klickhouse::Date(days)))
                    .map_err(|_| "a day before 1970 or after 2149".to_owned())
            };
            days.as_primitive::<Date32Type>().values().iter().map(day).collect::<Result<_, _>>()?
        }
        Type::DateTime(zone) => {
            let seconds = cast(DataType::Timestamp(TimeUnit::Second, None))?;
            let second = |seconds: &i64| {
                u32::try_from(*seconds)
                    .map(|seconds| Value::DateTime(DateTime(*zone, seconds)))
                    .map_err(|_| "a time before 1970 or after 2106".to_owned())
            };
            seconds.as_primitive::<TimestampSecondType>().values().iter().map(second).collect::<Result<_, _>>()?
        }
        Type::DateTime64(precision, zone) => ticks(array, *precision)?
            .into_iter()
            .map(|ticks| Value::DateTime64(DynDateTime64(*zone, ticks.cast_unsigned(), *precision)))
            .collect(),
        _ => return Err("the native engine cannot send this type".into()),
    })
}

fn decimal128(precision: u8, scale: usize) -> Result<DataType, String> {
    Ok(DataType::Decimal128(precision, i8::try_from(scale).map_err(|error| error.to_string())?))
}

fn strings(array: &ArrayRef) -> Result<Vec<Value>, String> {
    let bytes = |value: Option<&[u8]>| Value::String(value.unwrap_or_default().to_vec());
    if let DataType::FixedSizeBinary(_) = array.data_type() {
        let array = array.as_fixed_size_binary();
        return Ok((0..array.len()).map(|row| bytes(Some(array.value(row)))).collect());
    }
    if matches!(array.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView) {
        let array = cast(array, &DataType::Binary).map_err(|error| error.to_string())?;
        return Ok(array.as_binary::<i32>().iter().map(bytes).collect());
    }
    let array = cast(array, &DataType::Utf8).map_err(|error| error.to_string())?;
    Ok(array.as_string::<i32>().iter().map(|value| bytes(value.map(str::as_bytes))).collect())
}

/// Times as numbers of this precision.
fn ticks(array: &ArrayRef, precision: usize) -> Result<Vec<i64>, String> {
    macro_rules! ticks {
        ($unit:expr, $arrow:ty) => {{
            let array = cast(array, &DataType::Timestamp($unit, None)).map_err(|error| error.to_string())?;
            array.as_primitive::<$arrow>().values().to_vec()
        }};
    }
    let (ticks, finer) = match precision {
        0 => (ticks!(TimeUnit::Second, TimestampSecondType), 0),
        1..=3 => (ticks!(TimeUnit::Millisecond, TimestampMillisecondType), 3),
        4..=6 => (ticks!(TimeUnit::Microsecond, TimestampMicrosecondType), 6),
        7..=9 => (ticks!(TimeUnit::Nanosecond, TimestampNanosecondType), 9),
        _ => return Err("DateTime64 has at most nine digits".into()),
    };
    let divisor = 10_i64.pow(u32::try_from(finer - precision).unwrap_or(0));
    Ok(ticks.into_iter().map(|tick| tick.div_euclid(divisor)).collect())
}
