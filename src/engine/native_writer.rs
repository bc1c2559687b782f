//! Writes Arrow batches as blocks of ClickHouse's Native format, for inserts. Native and not ArrowStream: ClickHouse's
//! Arrow reader puts '' for NULL into a `LowCardinality(Nullable(String))` column (26.5), and ends in other types than the
//! table's where they differ. ClickHouse matches the columns by name and casts to the table's types
//! (`input_format_native_allow_types_conversion`, on by default).

use std::io::Write;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
        DurationNanosecondType, DurationSecondType, Field, SchemaRef, TimeUnit,
    },
};

use super::EngineError;

/// Writes batches of one schema.
pub(super) struct NativeWriter<W> {
    output: W,
    columns: Vec<(String, String)>,
}

impl<W: Write> NativeWriter<W> {
    /// # Errors
    /// A field whose type ClickHouse has no counterpart of.
    pub(super) fn new(output: W, schema: &SchemaRef) -> Result<Self, EngineError> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| Ok((field.name().clone(), type_name(field)?)))
            .collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Self { output, columns })
    }

    /// Writes a batch as one block; an empty one as nothing.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), EngineError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        // Columns are written piece by piece, so a small buffer of bytes goes before the output.
        let mut block = Vec::with_capacity(batch.get_array_memory_size());
        varint(&mut block, batch.num_columns());
        varint(&mut block, batch.num_rows());
        for (index, (name, type_name)) in self.columns.iter().enumerate() {
            text(&mut block, name.as_bytes());
            text(&mut block, type_name.as_bytes());
            column(&mut block, batch.schema_ref().field(index), batch.column(index))?;
        }
        self.output.write_all(&block).map_err(|source| EngineError::Output { source })
    }

    pub(super) fn output(&mut self) -> &mut W {
        &mut self.output
    }

    pub(super) fn into_inner(self) -> W {
        self.output
    }
}

/// ClickHouse's name of a field's type.
fn type_name(field: &Field) -> Result<String, EngineError> {
    let name = match field.data_type() {
        DataType::Null => return Ok("Nullable(Nothing)".into()),
        DataType::Boolean => "Bool".into(),
        DataType::Int8 => "Int8".into(),
        DataType::Int16 => "Int16".into(),
        DataType::Int32 => "Int32".into(),
        DataType::Int64 => "Int64".into(),
        DataType::UInt8 => "UInt8".into(),
        DataType::UInt16 => "UInt16".into(),
        DataType::UInt32 => "UInt32".into(),
        DataType::UInt64 => "UInt64".into(),
        DataType::Float16 | DataType::Float32 => "Float32".into(),
        DataType::Float64 => "Float64".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "String".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "String".into(),
        DataType::FixedSizeBinary(width) => format!("FixedString({width})"),
        DataType::Date32 => "Date32".into(),
        DataType::Timestamp(unit, zone) => {
            format!("DateTime64({}, '{}')", digits(unit), zone.as_deref().unwrap_or("UTC").replace('\'', ""))
        }
        DataType::Duration(unit) => format!("Time64({})", digits(unit)),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) if *scale >= 0 => {
            format!("Decimal({precision}, {scale})")
        }
        DataType::Dictionary(_, value) => return type_name(&Field::new("", (**value).clone(), field.is_nullable())),
        DataType::List(inner) | DataType::LargeList(inner) => return Ok(format!("Array({})", type_name(inner)?)),
        DataType::Struct(fields) => {
            let elements = fields
                .iter()
                .map(|field| Ok(format!("{} {}", super::quote_identifier(field.name()), type_name(field)?)))
                .collect::<Result<Vec<_>, EngineError>>()?;
            return Ok(format!("Tuple({})", elements.join(", ")));
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = type_name(&fields[0].as_ref().clone().with_nullable(false))?;
                return Ok(format!("Map({key}, {})", type_name(&fields[1])?));
            }
            _ => return Err(unsupported(field)),
        },
        _ => return Err(unsupported(field)),
    };
    Ok(if field.is_nullable() { format!("Nullable({name})") } else { name })
}

fn digits(unit: &TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn column(block: &mut Vec<u8>, field: &Field, array: &ArrayRef) -> Result<(), EngineError> {
    let failed = |error: arrow::error::ArrowError| EngineError::Protocol { reason: error.to_string() };
    if let DataType::Dictionary(_, value) = array.data_type() {
        let plain = cast(array, value).map_err(failed)?;
        return column(block, &Field::new(field.name(), (**value).clone(), field.is_nullable()), &plain);
    }
    let nested = matches!(
        array.data_type(),
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) | DataType::Map(..)
    );
    // ClickHouse has no nullable lists: a missing one is an empty one.
    if field.is_nullable() && !nested {
        match array.logical_nulls() {
            Some(nulls) => block.extend(nulls.iter().map(|valid| u8::from(!valid))),
            None => block.resize(block.len() + array.len(), 0),
        }
    }
    match array.data_type() {
        DataType::Null => block.resize(block.len() + array.len(), b'0'),
        DataType::Boolean => block.extend(array.as_boolean().values().iter().map(u8::from)),
        DataType::Float16 => return column(block, field, &cast(array, &DataType::Float32).map_err(failed)?),
        DataType::LargeUtf8 | DataType::Utf8View => {
            return values(block, field, &cast(array, &DataType::Utf8).map_err(failed)?);
        }
        DataType::LargeBinary | DataType::BinaryView => {
            return values(block, field, &cast(array, &DataType::Binary).map_err(failed)?);
        }
        _ => return values(block, field, array),
    }
    Ok(())
}

/// The values themselves; those below a NULL are whatever the array holds there.
fn values(block: &mut Vec<u8>, field: &Field, array: &ArrayRef) -> Result<(), EngineError> {
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            (0..array.len())
                .for_each(|row| text(block, if array.is_null(row) { b"" } else { array.value(row).as_bytes() }));
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            (0..array.len()).for_each(|row| text(block, if array.is_null(row) { b"" } else { array.value(row) }));
        }
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary();
            (0..array.len()).for_each(|row| block.extend_from_slice(array.value(row)));
        }
        DataType::Decimal128(precision, _) => {
            for number in array.as_primitive::<Decimal128Type>().values() {
                // The lower bytes of a number that fits are the narrower number.
                block.extend_from_slice(&number.to_le_bytes()[..decimal_width(*precision)]);
            }
        }
        DataType::Decimal256(precision, _) => {
            for number in array.as_primitive::<Decimal256Type>().values() {
                block.extend_from_slice(&number.to_le_bytes()[..decimal_width(*precision)]);
            }
        }
        DataType::List(inner) => {
            let array = array.as_list::<i32>();
            let (offsets, items) = (array.offsets(), array.values());
            let first = i64::from(offsets[0]);
            ends(block, offsets.iter().skip(1).map(|&end| i64::from(end) - first));
            let items = items.slice(offsets[0] as usize, (offsets[array.len()] - offsets[0]) as usize);
            column(block, inner, &items)?;
        }
        DataType::LargeList(inner) => {
            let array = array.as_list::<i64>();
            let (offsets, items) = (array.offsets(), array.values());
            ends(block, offsets.iter().skip(1).map(|&end| end - offsets[0]));
            let items = items.slice(offsets[0] as usize, (offsets[array.len()] - offsets[0]) as usize);
            column(block, inner, &items)?;
        }
        DataType::Map(entries, _) => {
            let array = array.as_map();
            let (offsets, items) = (array.offsets(), array.entries());
            let first = i64::from(offsets[0]);
            ends(block, offsets.iter().skip(1).map(|&end| i64::from(end) - first));
            let items = items.slice(offsets[0] as usize, (offsets[array.len()] - offsets[0]) as usize);
            let DataType::Struct(fields) = entries.data_type() else { return Err(unsupported(field)) };
            column(block, &fields[0].as_ref().clone().with_nullable(false), items.column(0))?;
            column(block, &fields[1], items.column(1))?;
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            for (field, element) in fields.iter().zip(array.columns()) {
                column(block, field, element)?;
            }
        }
        DataType::Duration(unit) => {
            let values: &[i64] = match unit {
                TimeUnit::Second => array.as_primitive::<DurationSecondType>().values(),
                TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().values(),
                TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().values(),
                TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().values(),
            };
            values.iter().for_each(|value| block.extend_from_slice(&value.to_le_bytes()));
        }
        // Little-endian numbers, in Arrow's memory as on ClickHouse's wire.
        data_type => {
            let Some(width) = data_type.primitive_width() else { return Err(unsupported(field)) };
            let data = array.to_data();
            let Some(buffer) = data.buffers().first() else { return Err(unsupported(field)) };
            let start = data.offset() * width;
            block.extend_from_slice(&buffer.as_slice()[start..start + data.len() * width]);
        }
    }
    Ok(())
}

fn decimal_width(precision: u8) -> usize {
    match precision {
        0..=9 => 4,
        10..=18 => 8,
        19..=38 => 16,
        _ => 32,
    }
}

fn ends(block: &mut Vec<u8>, ends: impl Iterator<Item = i64>) {
    ends.for_each(|end| block.extend_from_slice(&end.cast_unsigned().to_le_bytes()));
}

fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    varint(block, bytes.len());
    block.extend_from_slice(bytes);
}

pub(super) fn varint(block: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        block.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    block.push(value as u8);
}

fn unsupported(field: &Field) -> EngineError {
    EngineError::Protocol {
        reason: format!(
            "column `{}` of Arrow type {} has no ClickHouse type to insert",
            field.name(),
            field.data_type()
        ),
    }
}
