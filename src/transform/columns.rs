//! Typed columns that grow row by row: text in, Arrow arrays out. In: the text of a value and its column's definition;
//! out: arrays in any order of rows, and sort keys. It knows nothing of JSON.

use std::{cmp::Ordering, collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use arrow::{
    array::{ArrayRef, Date32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field},
};

use super::values;
use crate::extract::{Column as Definition, ColumnType, Parse};

/// The name of the values in a list column: what Parquet's specification says.
const LIST_ITEM: &str = "element";

/// What a column is made of, compiled from endpoints.yml.
#[derive(Debug, Clone)]
pub(super) struct ColumnSpec {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    parse: Parse,
    pub(super) nullable: bool,
    nulls: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    pub(super) is_key: bool,
}

impl ColumnSpec {
    pub(super) fn new(definition: &Definition, is_key: bool) -> Self {
        let nulls = definition.nulls.clone().unwrap_or_else(|| {
            let texts: &[&str] = match definition.kind {
                ColumnType::Utf8 | ColumnType::ListUtf8 => &[""],
                _ => &["", "None", "N"],
            };
            texts.iter().map(|&text| text.to_owned()).collect()
        });
        Self {
            name: definition.name.clone(),
            kind: definition.kind,
            parse: definition.parse,
            nullable: definition.nullable,
            nulls,
            min: definition.min,
            max: definition.max,
            is_key,
        }
    }

    pub(super) fn field(&self) -> Field {
        let kind = match self.kind {
            ColumnType::Int16 => DataType::Int16,
            ColumnType::Int32 => DataType::Int32,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Date32 => DataType::Date32,
            ColumnType::Utf8 => DataType::Utf8,
            ColumnType::ListUtf8 => DataType::List(Arc::new(Field::new(LIST_ITEM, DataType::Utf8, false))),
        };
        Field::new(&self.name, kind, self.nullable)
    }

    /// Whether the same values come again and again: ids, places, rounds; not times and not free text.
    pub(super) fn is_repetitive(&self) -> bool {
        match self.kind {
            ColumnType::Int16 | ColumnType::Int32 | ColumnType::Date32 | ColumnType::ListUtf8 => true,
            ColumnType::Utf8 => self.is_key,
            ColumnType::Int64 | ColumnType::Float64 => false,
        }
    }

    /// The text that counts: trimmed, `None` where it means null.
    #[inline]
    fn meaning<'a>(&self, text: Option<&'a str>) -> Option<&'a str> {
        let mut text = text?;
        let edges = (text.as_bytes().first(), text.as_bytes().last());
        // White space beyond ASCII begins with a byte above it.
        if let (Some(&first), Some(&last)) = edges
            && (first <= b' ' || last <= b' ' || first >= 0x80 || last >= 0x80)
        {
            text = text.trim();
        }
        let first = text.as_bytes().first();
        if self.nulls.iter().any(|null| null.as_bytes().first() == first && null == text) { None } else { Some(text) }
    }

    fn in_bounds(&self, value: f64) -> Result<(), String> {
        if self.min.is_some_and(|min| value < min) || self.max.is_some_and(|max| value > max) {
            let bound = |bound: Option<f64>| bound.map_or("any".to_owned(), |bound| bound.to_string());
            return Err(format!("outside of {} to {}", bound(self.min), bound(self.max)));
        }
        Ok(())
    }

    fn integer<T: TryFrom<i64>>(&self, text: &str, expected: Option<i64>) -> Result<T, String> {
        let value = match self.parse {
            Parse::Plain => values::integer(text).ok_or("not an integer")?,
            Parse::Millis => values::millis(text).ok_or("not a duration")?,
        };
        if self.min.is_some() || self.max.is_some() {
            self.in_bounds(value as f64)?;
        }
        if let Some(expected) = expected.filter(|&expected| expected != value) {
            return Err(format!("belongs to {} {value}, not to the partition's {expected}", self.name));
        }
        T::try_from(value).map_err(|_| format!("too large for {:?}", self.kind))
    }
}

/// A column under construction.
#[derive(Debug)]
pub(super) struct Column {
    data: Data,
    /// One flag a row, for nullable columns only.
    valid: Option<Vec<bool>>,
    /// The only value a row of this partition can have: its season, its round.
    expected: Option<i64>,
}

#[derive(Debug)]
enum Data {
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Date32(Vec<i32>),
    Text(Texts),
    /// Key texts: few, repeated, compared often.
    Interned {
        codes: Vec<u32>,
        pool: Pool,
    },
    List {
        /// End of each row's texts.
        ends: Vec<u32>,
        texts: Texts,
    },
}

/// Many texts in one buffer.
#[derive(Debug, Default)]
struct Texts {
    bytes: String,
    /// End of each text.
    ends: Vec<u32>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
    }

    fn reserve(&mut self, texts: usize) {
        // An eighth more, as later ones may be longer.
        let each = self.bytes.len() as f64 * 1.125 / self.len().max(1) as f64;
        self.bytes.reserve((each * texts as f64) as usize);
        self.ends.reserve(texts);
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[index] as usize]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }
}

/// Each distinct text once.
#[derive(Debug, Default)]
struct Pool {
    texts: Texts,
    codes: HashMap<Box<str>, u32, BuildHasherDefault<Fnv>>,
    /// Texts that were met, each at the place that its bytes choose: found without a hash of all of it.
    met: Vec<Met>,
}

/// A text of 8 to 16 bytes: its first and its last eight are all there is, given its length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Met {
    start: u64,
    end: u64,
    len: usize,
    code: u32,
}

/// Places for [`Met`] texts: more than a race has drivers.
const MET: usize = 128;

impl Pool {
    fn code(&mut self, text: &str) -> u32 {
        let bytes = text.as_bytes();
        let (Some(start), Some(end), 8..=16) = (bytes.first_chunk(), bytes.last_chunk(), bytes.len()) else {
            return self.code_by_hash(text);
        };
        let (start, end, len) = (u64::from_le_bytes(*start), u64::from_le_bytes(*end), bytes.len());
        // Ids differ in any of their bytes; a product carries all of them to its top.
        let place = ((start ^ end.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as usize;
        match self.met.get(place) {
            Some(met) if (met.start, met.end, met.len) == (start, end, len) => met.code,
            _ => {
                let code = self.code_by_hash(text);
                self.met.resize(MET, Met::default());
                self.met[place] = Met { start, end, len, code };
                code
            }
        }
    }

    fn code_by_hash(&mut self, text: &str) -> u32 {
        if let Some(&code) = self.codes.get(text) {
            return code;
        }
        let code = self.texts.len() as u32;
        self.texts.push(text);
        self.codes.insert(text.into(), code);
        code
    }

    /// The rank of each code in the order of the texts.
    fn ranks(&self) -> Vec<u32> {
        let mut codes: Vec<u32> = (0..self.texts.len() as u32).collect();
        codes.sort_unstable_by_key(|&code| self.texts.get(code as usize));
        let mut ranks = vec![0; codes.len()];
        for (rank, code) in codes.into_iter().enumerate() {
            ranks[code as usize] = rank as u32;
        }
        ranks
    }
}

/// FNV-1a: ids are short, and the default hasher costs more than the rest of a row.
#[derive(Debug, Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Column {
    pub(super) fn new(spec: &ColumnSpec, expected: Option<i64>) -> Self {
        let data = match spec.kind {
            ColumnType::Int16 => Data::Int16(Vec::new()),
            ColumnType::Int32 => Data::Int32(Vec::new()),
            ColumnType::Int64 => Data::Int64(Vec::new()),
            ColumnType::Float64 => Data::Float64(Vec::new()),
            ColumnType::Date32 => Data::Date32(Vec::new()),
            ColumnType::Utf8 if spec.is_key => Data::Interned { codes: Vec::new(), pool: Pool::default() },
            ColumnType::Utf8 => Data::Text(Texts::default()),
            ColumnType::ListUtf8 => Data::List { ends: Vec::new(), texts: Texts::default() },
        };
        Self { data, valid: spec.nullable.then(Vec::new), expected }
    }

    /// Makes room for `rows` more rows like those that are there.
    pub(super) fn reserve(&mut self, rows: usize) {
        match &mut self.data {
            Data::Int16(values) => values.reserve(rows),
            Data::Int32(values) | Data::Date32(values) => values.reserve(rows),
            Data::Int64(values) => values.reserve(rows),
            Data::Float64(values) => values.reserve(rows),
            Data::Text(texts) => texts.reserve(rows),
            Data::Interned { codes, .. } => codes.reserve(rows),
            Data::List { ends, .. } => ends.reserve(rows),
        }
        if let Some(valid) = &mut self.valid {
            valid.reserve(rows);
        }
    }

    /// Appends the value `times` times; nothing is appended where it is none.
    ///
    /// # Errors
    /// Why the value cannot stand in this column.
    pub(super) fn push(&mut self, spec: &ColumnSpec, text: Option<&str>, times: usize) -> Result<(), String> {
        let Some(text) = spec.meaning(text) else {
            let Some(valid) = &mut self.valid else {
                return Err("has no value".to_owned());
            };
            valid.extend(std::iter::repeat_n(false, times));
            match &mut self.data {
                Data::Int16(values) => extend(values, 0, times),
                Data::Int32(values) | Data::Date32(values) => extend(values, 0, times),
                Data::Int64(values) => extend(values, 0, times),
                Data::Float64(values) => extend(values, 0.0, times),
                Data::Text(texts) => (0..times).for_each(|_| texts.push("")),
                Data::Interned { codes, pool } => extend(codes, pool.code(""), times),
                Data::List { ends, texts } => extend(ends, texts.len() as u32, times),
            }
            return Ok(());
        };
        match &mut self.data {
            Data::Int16(values) => extend(values, spec.integer(text, self.expected)?, times),
            Data::Int32(values) => extend(values, spec.integer(text, self.expected)?, times),
            Data::Int64(values) => extend(values, spec.integer(text, self.expected)?, times),
            Data::Float64(values) => {
                let value = values::float(text).ok_or("not a number")?;
                spec.in_bounds(value)?;
                extend(values, value, times);
            }
            Data::Date32(values) => extend(values, values::date(text).ok_or("not a date (YYYY-MM-DD)")?, times),
            Data::Text(texts) => (0..times).for_each(|_| texts.push(text)),
            Data::Interned { codes, pool } => extend(codes, pool.code(text), times),
            Data::List { .. } => return Err("not a list".to_owned()),
        }
        if let Some(valid) = &mut self.valid {
            valid.extend(std::iter::repeat_n(true, times));
        }
        Ok(())
    }

    /// Appends a list, as [`Column::push`].
    pub(super) fn push_list<'t>(
        &mut self,
        spec: &ColumnSpec,
        items: Option<impl Iterator<Item = &'t str> + Clone>,
        times: usize,
    ) -> Result<(), String> {
        let Data::List { ends, texts } = &mut self.data else {
            return Err("a list".to_owned());
        };
        let Some(items) = items else {
            let Some(valid) = &mut self.valid else {
                return Err("has no value".to_owned());
            };
            valid.extend(std::iter::repeat_n(false, times));
            extend(ends, texts.len() as u32, times);
            return Ok(());
        };
        if items.clone().any(|item| spec.meaning(Some(item)).is_none()) {
            return Err("has an empty item".to_owned());
        }
        for _ in 0..times {
            for item in items.clone() {
                texts.push(item.trim());
            }
            ends.push(texts.len() as u32);
        }
        if let Some(valid) = &mut self.valid {
            valid.extend(std::iter::repeat_n(true, times));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Int16(values) => values.len(),
            Data::Int32(values) | Data::Date32(values) => values.len(),
            Data::Int64(values) => values.len(),
            Data::Float64(values) => values.len(),
            Data::Text(texts) => texts.len(),
            Data::Interned { codes, .. } => codes.len(),
            Data::List { ends, .. } => ends.len(),
        }
    }

    /// Drops the rows from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.data {
            Data::Int16(values) => values.truncate(len),
            Data::Int32(values) | Data::Date32(values) => values.truncate(len),
            Data::Int64(values) => values.truncate(len),
            Data::Float64(values) => values.truncate(len),
            Data::Text(texts) => texts.truncate(len),
            Data::Interned { codes, .. } => codes.truncate(len),
            Data::List { ends, texts } => {
                ends.truncate(len);
                texts.truncate(ends.last().map_or(0, |&end| end as usize));
            }
        }
        if let Some(valid) = &mut self.valid {
            valid.truncate(len);
        }
    }

    /// The values as unsigned numbers in the same order, null as -1 (text: before all), and how many bits they need.
    pub(super) fn sort_keys(&self) -> (u32, Vec<u32>) {
        let null = |index: usize| self.valid.as_ref().is_some_and(|valid| !valid[index]);
        let small = |value: i16| u32::from((value as u16) ^ 0x8000);
        let large = |value: i32| (value as u32) ^ 0x8000_0000;
        let mut keys: Vec<u32> = match &self.data {
            Data::Int16(values) => {
                values.iter().enumerate().map(|(i, &value)| small(if null(i) { -1 } else { value })).collect()
            }
            Data::Int32(values) | Data::Date32(values) => {
                values.iter().enumerate().map(|(i, &value)| large(if null(i) { -1 } else { value })).collect()
            }
            Data::Interned { codes, pool } => {
                let ranks = pool.ranks();
                let rank = |(i, &code): (usize, &u32)| if null(i) { 0 } else { ranks[code as usize] + 1 };
                codes.iter().enumerate().map(rank).collect()
            }
            Data::Int64(values) => {
                // Ranked, since a rank has 32 bits and a value 64.
                let value = |i: usize| if null(i) { -1 } else { values[i] };
                let mut distinct: Vec<i64> = (0..values.len()).map(value).collect();
                distinct.sort_unstable();
                distinct.dedup();
                (0..values.len()).map(|i| distinct.partition_point(|&other| other < value(i)) as u32).collect()
            }
            // endpoints.yml cannot name such a key.
            Data::Float64(_) | Data::Text(_) | Data::List { .. } => vec![0; self.len()],
        };
        let least = keys.iter().copied().min().unwrap_or(0);
        let most = keys.iter().copied().max().unwrap_or(0);
        keys.iter_mut().for_each(|key| *key -= least);
        (u32::BITS - (most - least).leading_zeros(), keys)
    }

    /// Whether two rows have the same value.
    pub(super) fn same(&self, a: usize, b: usize) -> bool {
        if let Some(valid) = &self.valid
            && (!valid[a] || !valid[b])
        {
            return valid[a] == valid[b];
        }
        match &self.data {
            Data::Int16(values) => values[a] == values[b],
            Data::Int32(values) | Data::Date32(values) => values[a] == values[b],
            Data::Int64(values) => values[a] == values[b],
            Data::Float64(values) => values[a].total_cmp(&values[b]) == Ordering::Equal,
            Data::Text(texts) => texts.get(a) == texts.get(b),
            Data::Interned { codes, .. } => codes[a] == codes[b],
            Data::List { ends, texts } => {
                let range = |row: usize| row.checked_sub(1).map_or(0, |before| ends[before])..ends[row];
                range(a).map(|i| texts.get(i as usize)).eq(range(b).map(|i| texts.get(i as usize)))
            }
        }
    }

    /// The rows `order` as an Arrow array.
    pub(super) fn array(&self, order: &[u32]) -> ArrayRef {
        let in_place = order.len() == self.len() && order.iter().enumerate().all(|(i, &row)| i == row as usize);
        let nulls =
            self.valid.as_ref().map(|valid| NullBuffer::from_iter(order.iter().map(|&row| valid[row as usize])));
        match &self.data {
            Data::Int16(values) => Arc::new(Int16Array::new(gather(values, order, in_place).into(), nulls)),
            Data::Int32(values) => Arc::new(Int32Array::new(gather(values, order, in_place).into(), nulls)),
            Data::Int64(values) => Arc::new(Int64Array::new(gather(values, order, in_place).into(), nulls)),
            Data::Float64(values) => Arc::new(Float64Array::new(gather(values, order, in_place).into(), nulls)),
            Data::Date32(values) => Arc::new(Date32Array::new(gather(values, order, in_place).into(), nulls)),
            Data::Text(texts) => Arc::new(strings(order.iter().map(|&row| texts.get(row as usize)), nulls)),
            Data::Interned { codes, pool } => {
                let text = |&row: &u32| pool.texts.get(codes[row as usize] as usize);
                Arc::new(strings(order.iter().map(text), nulls))
            }
            Data::List { ends, texts } => {
                let range = |row: u32| {
                    let row = row as usize;
                    row.checked_sub(1).map_or(0, |before| ends[before])..ends[row]
                };
                let offsets = OffsetBuffer::from_lengths(order.iter().map(|&row| range(row).len()));
                let items = order.iter().flat_map(|&row| range(row)).map(|item| texts.get(item as usize));
                let field = Arc::new(Field::new(LIST_ITEM, DataType::Utf8, false));
                Arc::new(ListArray::new(field, offsets, Arc::new(strings(items, None)), nulls))
            }
        }
    }
}

/// A text column from `Option`s, for `_extra`.
pub(super) fn optional_texts<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(texts.collect::<StringArray>())
}

fn strings<'a>(texts: impl Iterator<Item = &'a str> + Clone, nulls: Option<NullBuffer>) -> StringArray {
    let (count, length) = texts.clone().fold((0, 0), |(count, length), text| (count + 1, length + text.len()));
    let mut bytes = Vec::with_capacity(length);
    let mut offsets = Vec::with_capacity(count + 1);
    offsets.push(0i32);
    for text in texts {
        bytes.extend_from_slice(text.as_bytes());
        offsets.push(bytes.len() as i32);
    }
    StringArray::new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls)
}

fn gather<T: Copy>(values: &[T], order: &[u32], in_place: bool) -> Vec<T> {
    if in_place { values.to_vec() } else { order.iter().map(|&row| values[row as usize]).collect() }
}

fn extend<T: Clone>(values: &mut Vec<T>, value: T, times: usize) {
    if times == 1 {
        values.push(value);
    } else {
        values.extend(std::iter::repeat_n(value, times));
    }
}
