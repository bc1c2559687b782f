//! Reads ClickHouse's Native format, as it comes without a protocol revision (FORMAT Native, HTTP), into Arrow batches:
//! unlike ArrowStream it names each column's exact type. In: bytes; out: one batch a block.
//! <https://clickhouse.com/docs/interfaces/formats/Native>

use std::{io::BufRead, net::Ipv6Addr, sync::Arc};

use arrow::{
    array::{
        Array, ArrayData, ArrayRef, AsArray as _, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, NullArray,
        RecordBatch, StringArray, StringBuilder, StructArray, UInt64Array, make_array,
    },
    buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::take,
    datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef, i256},
};
use uuid::Uuid;

use super::{
    EngineError,
    column_type::{ColumnType, field},
};

/// Settings under which Native holds only what this reader knows.
pub(super) const SETTINGS: &[(&str, &str)] = &[("output_format_native_write_json_as_string", "1")];

/// No length in a sane block is above this; a larger one is a misread stream, not a reason to allocate.
const MAX_LENGTH: u64 = 1 << 40;

/// Blocks out of a stream of bytes.
pub(super) struct NativeReader<R> {
    input: R,
    /// Of the first block; all have the same columns.
    columns: Option<(SchemaRef, Vec<ColumnType>)>,
}

impl<R: BufRead> NativeReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, columns: None }
    }

    /// A reader of a stream whose columns are known already.
    pub(super) fn with_columns(input: R, columns: Columns) -> Self {
        Self { input, columns: Some((columns.schema, columns.types)) }
    }

    /// The columns, once a block was read.
    pub(super) fn columns(&self) -> Option<Columns> {
        self.columns.clone().map(|(schema, types)| Columns { schema, types })
    }

    /// The next block; `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<RecordBatch>, EngineError> {
        if self.input.fill_buf().map_err(read_error)?.is_empty() {
            return Ok(None);
        }
        let column_count = self.length()?;
        let row_count = self.length()?;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(column_count);
        let mut fresh = Vec::new();
        for index in 0..column_count {
            let name = self.text()?;
            let type_name = self.text()?;
            if self.columns.is_none() {
                fresh.push(column(&name, &type_name)?);
            }
            let column_type = match &self.columns {
                Some((_, types)) => types.get(index).cloned().ok_or_else(|| protocol("a block with other columns"))?,
                None => fresh[index].1.clone(),
            };
            // An empty block has no data, and no prefix either.
            if row_count == 0 {
                arrays.push(arrow::array::new_empty_array(&column_type.arrow()));
                continue;
            }
            self.prefix(&column_type)?;
            arrays.push(self.data(&column_type, row_count).map_err(|error| in_column(error, &name))?);
        }
        if self.columns.is_none() {
            let (fields, types): (Vec<FieldRef>, Vec<ColumnType>) = fresh.into_iter().unzip();
            self.columns = Some((Arc::new(Schema::new(fields)), types));
        }
        let Some((schema, _)) = &self.columns else { return Ok(None) };
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(row_count));
        RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map(Some).map_err(arrow_error)
    }

    /// What stands before the data of a column, for it and all that is nested in it.
    fn prefix(&mut self, column_type: &ColumnType) -> Result<(), EngineError> {
        match column_type {
            ColumnType::LowCardinality(_) => match self.u64()? {
                1 => Ok(()),
                version => Err(protocol(&format!("LowCardinality keys of version {version}"))),
            },
            // 1 says that the objects are text, as SETTINGS asks for.
            ColumnType::Json => match self.u64()? {
                1 => Ok(()),
                version => Err(protocol(&format!("JSON of version {version}"))),
            },
            ColumnType::Nullable(inner) | ColumnType::Array(inner) => self.prefix(inner),
            ColumnType::Map(key, value) => self.prefix(key).and_then(|()| self.prefix(value)),
            ColumnType::Tuple(elements) => elements.iter().try_for_each(|(_, element)| self.prefix(element)),
            _ => Ok(()),
        }
    }

    fn data(&mut self, column_type: &ColumnType, rows: usize) -> Result<ArrayRef, EngineError> {
        match column_type {
            ColumnType::Nullable(inner) => {
                let nulls = self.bytes(rows)?;
                let nulls = NullBuffer::from_iter(nulls.iter().map(|&null| null == 0));
                with_nulls(&self.data(inner, rows)?, nulls)
            }
            ColumnType::LowCardinality(inner) => self.low_cardinality(inner, rows),
            ColumnType::Array(inner) => {
                let offsets = self.offsets(rows)?;
                let values = self.data(inner, last(&offsets))?;
                let DataType::List(element) = column_type.arrow() else { return Err(protocol("a list")) };
                Ok(Arc::new(ListArray::try_new(element, offsets, values, None).map_err(arrow_error)?))
            }
            ColumnType::Map(key, value) => {
                let offsets = self.offsets(rows)?;
                let length = last(&offsets);
                let arrays = vec![self.data(key, length)?, self.data(value, length)?];
                let DataType::Map(entries, _) = column_type.arrow() else { return Err(protocol("a map")) };
                let DataType::Struct(fields) = entries.data_type().clone() else { return Err(protocol("a map")) };
                let structs = StructArray::try_new(fields, arrays, None).map_err(arrow_error)?;
                Ok(Arc::new(MapArray::try_new(entries, offsets, structs, None, false).map_err(arrow_error)?))
            }
            ColumnType::Tuple(elements) => {
                let arrays =
                    elements.iter().map(|(_, element)| self.data(element, rows)).collect::<Result<Vec<_>, _>>()?;
                let DataType::Struct(fields) = column_type.arrow() else { return Err(protocol("a tuple")) };
                if fields.is_empty() {
                    // `Tuple()` is one byte a row.
                    self.bytes(rows)?;
                    return Ok(Arc::new(StructArray::new_empty_fields(rows, None)));
                }
                Ok(Arc::new(StructArray::try_new(Fields::clone(&fields), arrays, None).map_err(arrow_error)?))
            }
            ColumnType::Nothing => {
                self.bytes(rows)?;
                Ok(Arc::new(NullArray::new(rows)))
            }
            _ => self.plain(column_type, rows),
        }
    }

    /// Types without others inside.
    fn plain(&mut self, column_type: &ColumnType, rows: usize) -> Result<ArrayRef, EngineError> {
        let array: ArrayRef = match column_type {
            ColumnType::String | ColumnType::Json => Arc::new(self.strings(rows)?),
            ColumnType::FixedString(width) => {
                let bytes = self.buffer(rows, usize::try_from(*width).unwrap_or(0))?;
                Arc::new(FixedSizeBinaryArray::try_new(*width, bytes, None).map_err(arrow_error)?)
            }
            ColumnType::Bool => {
                let bytes = self.bytes(rows)?;
                Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(rows, |index| bytes[index] != 0), None))
            }
            ColumnType::Enum(bits, names) => {
                let numbers: Vec<i16> = match bits {
                    8 => self.bytes(rows)?.iter().map(|&byte| i16::from(byte.cast_signed())).collect(),
                    _ => self.numbers::<2, _>(rows, i16::from_le_bytes)?,
                };
                let names = numbers.iter().map(|number| {
                    names.get(number).map(String::as_str).ok_or_else(|| protocol(&format!("Enum value {number}")))
                });
                Arc::new(StringArray::from_iter_values(names.collect::<Result<Vec<_>, _>>()?))
            }
            ColumnType::Uuid => Arc::new(texts(self.numbers::<16, _>(rows, |bytes| {
                // Two little-endian halves, the high one first.
                let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
                Uuid::from_u64_pair(half(0), half(8))
            })?)),
            ColumnType::Ipv4 => {
                Arc::new(texts(self.numbers::<4, _>(rows, |b| std::net::Ipv4Addr::from(u32::from_le_bytes(b)))?))
            }
            ColumnType::Ipv6 => Arc::new(texts(self.numbers::<16, _>(rows, Ipv6Addr::from)?)),
            ColumnType::Date => {
                let days = self.numbers::<2, _>(rows, |bytes| i32::from(u16::from_le_bytes(bytes)))?;
                primitive(column_type, rows, Buffer::from_vec(days))?
            }
            ColumnType::DateTime(_) => {
                let seconds = self.numbers::<4, _>(rows, |bytes| i64::from(u32::from_le_bytes(bytes)))?;
                primitive(column_type, rows, Buffer::from_vec(seconds))?
            }
            ColumnType::Time => {
                let seconds = self.numbers::<4, _>(rows, |bytes| i64::from(i32::from_le_bytes(bytes)))?;
                primitive(column_type, rows, Buffer::from_vec(seconds))?
            }
            ColumnType::DateTime64(precision, _) | ColumnType::Time64(precision) => {
                let factor = ColumnType::scale_up(*precision);
                if factor == 1 {
                    let buffer = self.buffer(rows, 8)?;
                    primitive(column_type, rows, buffer)?
                } else {
                    let ticks = self.numbers::<8, _>(rows, |bytes| i64::from_le_bytes(bytes).saturating_mul(factor))?;
                    primitive(column_type, rows, Buffer::from_vec(ticks))?
                }
            }
            ColumnType::BFloat16 => {
                let floats =
                    self.numbers::<2, _>(rows, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))?;
                primitive(column_type, rows, Buffer::from_vec(floats))?
            }
            ColumnType::Decimal(precision, _) if *precision <= 9 => {
                let numbers = self.numbers::<4, _>(rows, |bytes| i128::from(i32::from_le_bytes(bytes)))?;
                primitive(column_type, rows, Buffer::from_vec(numbers))?
            }
            ColumnType::Decimal(precision, _) if *precision <= 18 => {
                let numbers = self.numbers::<8, _>(rows, |bytes| i128::from(i64::from_le_bytes(bytes)))?;
                primitive(column_type, rows, Buffer::from_vec(numbers))?
            }
            ColumnType::Int(128) => {
                let numbers = self.numbers::<16, _>(rows, |bytes| i256::from_i128(i128::from_le_bytes(bytes)))?;
                primitive(column_type, rows, Buffer::from_vec(numbers))?
            }
            ColumnType::UInt(128) => {
                let numbers = self.numbers::<16, _>(rows, |bytes| i256::from_parts(u128::from_le_bytes(bytes), 0))?;
                primitive(column_type, rows, Buffer::from_vec(numbers))?
            }
            ColumnType::Int(256) | ColumnType::UInt(256) => {
                let numbers = self.numbers::<32, _>(rows, i256::from_le_bytes)?;
                let fits = |number: &i256| {
                    let negative = number.is_negative();
                    !(negative && *column_type == ColumnType::UInt(256)) && number.to_string().len() <= 76
                };
                if !numbers.iter().all(fits) {
                    return Err(protocol("a number of more than 76 digits: cast it to String"));
                }
                primitive(column_type, rows, Buffer::from_vec(numbers))?
            }
            // The rest are little-endian numbers of Arrow's own width.
            ColumnType::Int(bits) | ColumnType::UInt(bits) | ColumnType::Float(bits) => {
                let buffer = self.buffer(rows, usize::from(*bits) / 8)?;
                primitive(column_type, rows, buffer)?
            }
            ColumnType::Interval => {
                let buffer = self.buffer(rows, 8)?;
                primitive(column_type, rows, buffer)?
            }
            ColumnType::Date32 => {
                let buffer = self.buffer(rows, 4)?;
                primitive(column_type, rows, buffer)?
            }
            ColumnType::Decimal(precision, _) => {
                let buffer = self.buffer(rows, if *precision <= 38 { 16 } else { 32 })?;
                primitive(column_type, rows, buffer)?
            }
            ColumnType::Nullable(_)
            | ColumnType::LowCardinality(_)
            | ColumnType::Array(_)
            | ColumnType::Map(..)
            | ColumnType::Tuple(_)
            | ColumnType::Nothing => return Err(protocol("a nested type where a plain one stands")),
        };
        Ok(array)
    }

    /// Keys and the places of each row's value among them.
    /// ClickHouse: SerializationLowCardinality.cpp
    fn low_cardinality(&mut self, inner: &ColumnType, rows: usize) -> Result<ArrayRef, EngineError> {
        const ADDITIONAL_KEYS: u64 = 1 << 9;
        let flags = self.u64()?;
        if flags & ADDITIONAL_KEYS == 0 {
            return Err(protocol("LowCardinality with a shared dictionary"));
        }
        let (nullable, key_type) = match inner {
            ColumnType::Nullable(inner) => (true, &**inner),
            other => (false, other),
        };
        let key_count = self.length_u64()?;
        let mut keys = self.data(key_type, key_count)?;
        if nullable {
            // The first key stands for NULL.
            keys = with_nulls(&keys, NullBuffer::from_iter((0..key_count).map(|index| index > 0)))?;
        }
        let count = self.length_u64()?;
        if count != rows {
            return Err(protocol("LowCardinality with a part of its rows"));
        }
        let indexes: Vec<u64> = match flags & 0xff {
            0 => self.bytes(rows)?.iter().map(|&byte| u64::from(byte)).collect(),
            1 => self.numbers::<2, _>(rows, |bytes| u64::from(u16::from_le_bytes(bytes)))?,
            2 => self.numbers::<4, _>(rows, |bytes| u64::from(u32::from_le_bytes(bytes)))?,
            3 => self.numbers::<8, _>(rows, u64::from_le_bytes)?,
            other => return Err(protocol(&format!("LowCardinality indexes of kind {other}"))),
        };
        take(&keys, &UInt64Array::from(indexes), None).map_err(arrow_error)
    }

    fn strings(&mut self, rows: usize) -> Result<StringArray, EngineError> {
        let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
        let mut bytes: Vec<u8> = Vec::with_capacity(rows * 8);
        offsets.push(0);
        for _ in 0..rows {
            let length = self.length()?;
            self.extend(&mut bytes, length)?;
            let end = i32::try_from(bytes.len()).map_err(|_| protocol("a block with more than 2 GB of text"))?;
            offsets.push(end);
        }
        StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes), None)
            .map_err(|_| protocol("bytes that are no UTF-8 text: select hex() or base64Encode() of it"))
    }

    /// ClickHouse writes where each list ends; Arrow wants a zero before that.
    fn offsets(&mut self, rows: usize) -> Result<OffsetBuffer<i32>, EngineError> {
        let ends = self.numbers::<8, _>(rows, u64::from_le_bytes)?;
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0_i32);
        for end in ends {
            let end = i32::try_from(end).map_err(|_| protocol("a block with more than 2^31 list elements"))?;
            if offsets.last().is_some_and(|&previous| previous > end) {
                return Err(protocol("list offsets that go backwards"));
            }
            offsets.push(end);
        }
        Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
    }

    fn numbers<const WIDTH: usize, T>(
        &mut self,
        rows: usize,
        read: impl Fn([u8; WIDTH]) -> T,
    ) -> Result<Vec<T>, EngineError> {
        let bytes = self.bytes(rows.saturating_mul(WIDTH))?;
        Ok(bytes.as_chunks::<WIDTH>().0.iter().map(|chunk| read(*chunk)).collect())
    }

    /// `rows` values of `width` bytes, aligned as Arrow wants them.
    fn buffer(&mut self, rows: usize, width: usize) -> Result<Buffer, EngineError> {
        let mut buffer = MutableBuffer::from_len_zeroed(checked(rows.saturating_mul(width) as u64)?);
        self.input.read_exact(buffer.as_slice_mut()).map_err(read_error)?;
        Ok(buffer.into())
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, EngineError> {
        let mut bytes = vec![0; checked(length as u64)?];
        self.input.read_exact(&mut bytes).map_err(read_error)?;
        Ok(bytes)
    }

    fn extend(&mut self, to: &mut Vec<u8>, length: usize) -> Result<(), EngineError> {
        // The usual case: the whole value is in the reader's buffer.
        let available = self.input.fill_buf().map_err(read_error)?;
        if let Some(value) = available.get(..length) {
            to.extend_from_slice(value);
            self.input.consume(length);
            return Ok(());
        }
        let start = to.len();
        to.resize(start + length, 0);
        self.input.read_exact(&mut to[start..]).map_err(read_error)
    }

    fn text(&mut self) -> Result<String, EngineError> {
        let length = self.length()?;
        String::from_utf8(self.bytes(length)?).map_err(|_| protocol("a column's name is no text"))
    }

    fn u64(&mut self) -> Result<u64, EngineError> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes).map_err(read_error)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn length_u64(&mut self) -> Result<usize, EngineError> {
        checked(self.u64()?)
    }

    /// An unsigned LEB128 number.
    fn length(&mut self) -> Result<usize, EngineError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte).map_err(read_error)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return checked(value);
            }
        }
        Err(protocol("a length without an end"))
    }
}

/// The columns of a result.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    types: Vec<ColumnType>,
}

impl Columns {
    /// The columns of these names and types, as `DESCRIBE` lists them.
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, EngineError> {
        let columns =
            columns.into_iter().map(|(name, type_name)| column(name, type_name)).collect::<Result<Vec<_>, _>>()?;
        let (fields, types): (Vec<FieldRef>, Vec<ColumnType>) = columns.into_iter().unzip();
        Ok(Self { schema: Arc::new(Schema::new(fields)), types })
    }

    /// The columns that `DESCRIBE TABLE` lists, in Native format.
    pub(super) fn from_describe(bytes: &[u8]) -> Result<Self, EngineError> {
        let mut reader = NativeReader::new(bytes);
        let mut columns = Vec::new();
        while let Some(batch) = reader.next_block()? {
            let texts = |index: usize| batch.column(index).as_string_opt::<i32>();
            let (Some(names), Some(types)) = (texts(0), texts(1)) else {
                return Err(protocol("DESCRIBE without text"));
            };
            for (name, type_name) in names.iter().zip(types) {
                columns.push((name.unwrap_or_default().to_owned(), type_name.unwrap_or_default().to_owned()));
            }
        }
        Self::new(columns.iter().map(|(name, type_name)| (name.as_str(), type_name.as_str())))
    }

    /// The columns at the head of RowBinaryWithNamesAndTypes, which unlike Native is there without rows too.
    pub(super) fn from_binary_header(bytes: &[u8]) -> Result<Self, EngineError> {
        let mut reader = NativeReader::new(bytes);
        let count = reader.length()?;
        let mut texts = || (0..count).map(|_| reader.text()).collect::<Result<Vec<_>, _>>();
        let (names, types) = (texts()?, texts()?);
        Self::new(names.iter().map(String::as_str).zip(types.iter().map(String::as_str)))
    }
}

fn column(name: &str, type_name: &str) -> Result<(FieldRef, ColumnType), EngineError> {
    let column_type = ColumnType::parse(type_name).map_err(|part| EngineError::NoArrowType {
        column: name.to_owned(),
        type_name: type_name.to_owned(),
        part,
    })?;
    Ok((field(name, type_name, &column_type), column_type))
}

fn texts<T: std::fmt::Display>(values: Vec<T>) -> StringArray {
    let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 36);
    for value in values {
        builder.append_value(value.to_string());
    }
    builder.finish()
}

fn primitive(column_type: &ColumnType, rows: usize, buffer: Buffer) -> Result<ArrayRef, EngineError> {
    let data = ArrayData::builder(column_type.arrow()).len(rows).add_buffer(buffer).build().map_err(arrow_error)?;
    Ok(make_array(data))
}

fn with_nulls(array: &ArrayRef, nulls: NullBuffer) -> Result<ArrayRef, EngineError> {
    if *array.data_type() == DataType::Null {
        return Ok(Arc::clone(array));
    }
    let data = array.to_data().into_builder().nulls(Some(nulls)).build().map_err(arrow_error)?;
    Ok(make_array(data))
}

fn last(offsets: &OffsetBuffer<i32>) -> usize {
    usize::try_from(offsets.last()).unwrap_or(0)
}

fn checked(length: u64) -> Result<usize, EngineError> {
    if length > MAX_LENGTH {
        return Err(protocol("a length that cannot be"));
    }
    usize::try_from(length).map_err(|_| protocol("a length that cannot be"))
}

fn protocol(reason: &str) -> EngineError {
    EngineError::Protocol { reason: format!("Native format: {reason}") }
}

fn in_column(error: EngineError, name: &str) -> EngineError {
    match error {
        EngineError::Protocol { reason } => EngineError::Protocol { reason: format!("column `{name}`: {reason}") },
        error => error,
    }
}

fn arrow_error(error: arrow::error::ArrowError) -> EngineError {
    protocol(&error.to_string())
}

/// A reader over a server's answer hides the server's own error in an I/O error.
pub(super) fn read_error(error: std::io::Error) -> EngineError {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<EngineError>()) {
        Some(Ok(inner)) => *inner,
        _ => protocol(&text),
    }
}
