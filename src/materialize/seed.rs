//! Seeds: a CSV file becomes a table. In: the file; out: types that hold every value as it is written, and batches of text
//! that ClickHouse casts to them, so that a large file streams. It is read twice: for the types, then for the rows.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringBuilder},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use serde_json::{Map, Value};

use super::{MaterializeError, Model, Outcome, TableSpec, build};
use crate::{
    adapter::{Adapter, AdapterError, ColumnInfo},
    engine::{EngineError, quote_identifier},
};

const ROWS_PER_BATCH: usize = 65_536;

/// In memory; what is smaller becomes one part.
const BYTES_PER_PART: usize = 16 << 20;

/// A CSV file with the types of its columns.
#[derive(Debug, Clone)]
pub struct Seed {
    path: PathBuf,
    delimiter: u8,
    pub columns: Vec<SeedColumn>,
    pub rows: u64,
}

/// One column of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedColumn {
    pub name: String,
    /// ClickHouse's type, from `column_types` or from the values.
    pub data_type: String,
    /// An empty field is NULL and not an empty text.
    nullable: bool,
    /// `2024-03-02T15:00:00Z` has to be rewritten before ClickHouse casts it.
    is_time: bool,
}

impl Seed {
    /// Reads the file once and finds the narrowest of Int64 (or wider), Float64 (or Decimal), Date32, DateTime64, Bool and
    /// String that holds each column. Numbers, dates, times and booleans with empty fields (or `null`, dbt's rule) are
    /// Nullable.
    ///
    /// # Errors
    /// The file cannot be read, has no header, a row of another length, or two columns of one name.
    pub fn open(
        path: &Path,
        delimiter: Option<&str>,
        column_types: Option<&Map<String, Value>>,
    ) -> Result<Self, MaterializeError> {
        let failed = |reason: String| MaterializeError::Seed { path: path.to_owned(), reason };
        let delimiter = match delimiter {
            None => b',',
            Some("\\t") => b'\t',
            Some(text) => match text.as_bytes() {
                [one] => *one,
                _ => return Err(failed(format!("the delimiter `{text}` is not one character"))),
            },
        };
        let mut reader = reader(path, delimiter).map_err(failed)?;
        let names: Vec<String> = reader
            .headers()
            .map_err(|error| failed(error.to_string()))?
            .iter()
            .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        if names.is_empty() || names.iter().all(String::is_empty) {
            return Err(failed("it has no header".to_owned()));
        }
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(failed(format!("column {} has no name", index + 1)));
            }
            if names[..index].contains(name) {
                return Err(failed(format!("two columns are named `{name}`")));
            }
        }
        let mut seen = vec![Seen::default(); names.len()];
        let mut record = csv::StringRecord::new();
        let mut rows = 0;
        while reader.read_record(&mut record).map_err(|error| failed(error.to_string()))? {
            rows += 1;
            for (seen, value) in seen.iter_mut().zip(&record) {
                seen.look_at(value);
            }
        }
        let columns = names
            .into_iter()
            .zip(seen)
            .map(|(name, seen)| match declared_type(column_types, &name) {
                Some(data_type) => SeedColumn {
                    nullable: data_type.contains("Nullable(") || !data_type.ends_with("String"),
                    is_time: is_time(&data_type),
                    data_type,
                    name,
                },
                None => {
                    let (data_type, is_time) = seen.data_type();
                    SeedColumn { nullable: data_type != "String", is_time, data_type, name }
                }
            })
            .collect();
        Ok(Self { path: path.to_owned(), delimiter, columns, rows })
    }

    /// The rows in batches of text.
    fn batches(
        &self,
        failure: &RefCell<Option<String>>,
    ) -> Result<impl Iterator<Item = RecordBatch>, MaterializeError> {
        let failed = |reason: String| MaterializeError::Seed { path: self.path.clone(), reason };
        let mut reader = reader(&self.path, self.delimiter).map_err(failed)?;
        let schema = self.schema();
        Ok(std::iter::from_fn(move || match self.next_batch(&mut reader, &schema) {
            Ok(batch) => batch,
            Err(reason) => {
                *failure.borrow_mut() = Some(reason);
                None
            }
        }))
    }

    fn next_batch(
        &self,
        reader: &mut csv::Reader<fs_err::File>,
        schema: &SchemaRef,
    ) -> Result<Option<RecordBatch>, String> {
        let mut builders: Vec<StringBuilder> = self.columns.iter().map(|_| StringBuilder::new()).collect();
        let mut record = csv::StringRecord::new();
        let mut rows = 0;
        while rows < ROWS_PER_BATCH && reader.read_record(&mut record).map_err(|error| error.to_string())? {
            rows += 1;
            for ((builder, column), value) in builders.iter_mut().zip(&self.columns).zip(&record) {
                match column.field(value) {
                    Some(text) => builder.append_value(text),
                    None => builder.append_null(),
                }
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let arrays = builders.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        RecordBatch::try_new(Arc::clone(schema), arrays).map(Some).map_err(|error| error.to_string())
    }

    /// Where the value is that the engine could not cast, if it says which: `Cannot parse string 'x' as …: while converting
    /// column "c" …`.
    fn explained(&self, error: EngineError) -> MaterializeError {
        let text = error.to_string();
        let between = |before: &str, after: char| {
            let (_, rest) = text.split_once(before)?;
            rest.split_once(after).map(|(found, _)| found)
        };
        let line = || {
            let (value, name) = (between("Cannot parse string '", '\'')?, between("column \"", '"')?);
            let index = self.columns.iter().position(|column| column.name == name)?;
            let column = self.columns.get(index)?;
            let mut reader = reader(&self.path, self.delimiter).ok()?;
            let mut record = csv::StringRecord::new();
            while reader.read_record(&mut record).ok()? {
                if column.field(record.get(index)?).is_some_and(|field| field == value) {
                    let line = record.position().map(csv::Position::line).unwrap_or_default();
                    return Some(format!("line {line}: `{name}` is `{value}`, which is no {}", column.data_type));
                }
            }
            None
        };
        match line() {
            Some(reason) => MaterializeError::Seed { path: self.path.clone(), reason },
            None => AdapterError::from(error).into(),
        }
    }

    fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|column| Field::new(&column.name, DataType::Utf8, column.nullable)).collect();
        Arc::new(Schema::new(fields))
    }
}

impl SeedColumn {
    /// The text that ClickHouse casts; `None` for NULL.
    fn field<'v>(&self, value: &'v str) -> Option<std::borrow::Cow<'v, str>> {
        if is_null(value) {
            return if self.nullable { None } else { Some("".into()) };
        }
        if self.data_type.ends_with("String") || self.data_type.ends_with("String)") {
            return Some(value.into());
        }
        let value = value.trim();
        if self.is_time
            && let Some((text, _)) = time(value)
        {
            return Some(text.into());
        }
        Some(value.into())
    }
}

/// Loads the seed into a table aside and exchanges it with the old one: readers never see it empty.
pub fn load(model: &Model<'_>, adapter: &mut Adapter, seed: &Seed) -> Result<Outcome, MaterializeError> {
    let existing = adapter.relation(model.relation)?;
    let aside = build::temporary_relation(model.relation, model.invocation, "");
    adapter.drop_relation(&aside)?;
    let columns: Vec<ColumnInfo> =
        seed.columns.iter().map(|column| ColumnInfo::new(&column.name, &column.data_type)).collect();
    let spec = TableSpec::new(model.source(), &columns, adapter.options())?;
    build::create_table(adapter, &aside, &spec)?;
    if seed.rows > 0 && !model.empty {
        let names: Vec<String> = seed.columns.iter().map(|column| quote_identifier(&column.name)).collect();
        let statement = format!("INSERT INTO {aside} ({})", names.join(", "));
        let failure = RefCell::new(None);
        // By default the engine gathers a million rows, or 256 MiB, for each of its threads before it writes the first.
        let options = adapter
            .next_options()
            .setting("min_insert_block_size_bytes", BYTES_PER_PART.to_string())
            .setting("max_threads", "1");
        let mut batches = seed.batches(&failure)?;
        let inserted = adapter.session().insert(&statement, seed.schema(), &mut batches, &options);
        drop(batches);
        let filled = match (failure.take(), inserted) {
            (Some(reason), _) => Err(MaterializeError::Seed { path: seed.path.clone(), reason }),
            (None, Err(error)) => Err(seed.explained(error)),
            (None, Ok(_)) => Ok(()),
        };
        build::or_drop(adapter, &aside, filled)?;
    }
    build::put_in_place(model, adapter, &aside, existing.as_ref())?;
    Ok(Outcome::of(model.relation, Some(if model.empty { 0 } else { seed.rows })))
}

fn reader(path: &Path, delimiter: u8) -> Result<csv::Reader<fs_err::File>, String> {
    let file = fs_err::File::open(path).map_err(|error| error.to_string())?;
    Ok(csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file))
}

/// `column_types` of the config; names are compared without case, as dbt does.
fn declared_type(column_types: Option<&Map<String, Value>>, name: &str) -> Option<String> {
    column_types?
        .iter()
        .find(|(declared, _)| declared.eq_ignore_ascii_case(name))
        .and_then(|(_, data_type)| data_type.as_str())
        .map(str::to_owned)
}

/// DateTime and DateTime64, also by their aliases, which are written in any case.
fn is_time(data_type: &str) -> bool {
    data_type.contains("DateTime")
        || ["datetime", "timestamp"].iter().any(|name| data_type.to_lowercase().contains(name))
}

/// dbt reads these as NULL.
fn is_null(value: &str) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case("null")
}

/// What the values of a column have been so far; each kind stays possible until a value contradicts it.
#[derive(Debug, Clone)]
struct Seen {
    any: bool,
    null: bool,
    integer: bool,
    smallest: i128,
    largest: i128,
    /// An integer beyond 128 bits.
    huge: bool,
    number: bool,
    /// Most digits after and before the point.
    scale: usize,
    whole: usize,
    exponent: bool,
    date: bool,
    time: bool,
    /// Digits of a second's fraction.
    precision: usize,
    boolean: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            any: false,
            null: false,
            integer: true,
            smallest: 0,
            largest: 0,
            huge: false,
            number: true,
            scale: 0,
            whole: 0,
            exponent: false,
            date: true,
            time: true,
            precision: 0,
            boolean: true,
        }
    }
}

impl Seen {
    fn look_at(&mut self, value: &str) {
        if is_null(value) {
            self.null = true;
            return;
        }
        self.any = true;
        let value = value.trim();
        if self.integer {
            self.look_at_integer(value);
        }
        if self.number {
            self.look_at_number(value);
        }
        self.date = self.date && is_date(value);
        if self.time {
            match time(value) {
                Some((_, precision)) => self.precision = self.precision.max(precision),
                None => self.time = false,
            }
        }
        self.boolean = self.boolean && (value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"));
    }

    fn look_at_integer(&mut self, value: &str) {
        let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            self.integer = false;
        } else if let Ok(number) = value.parse::<i128>() {
            self.smallest = self.smallest.min(number);
            self.largest = self.largest.max(number);
        } else {
            self.huge = true;
        }
    }

    fn look_at_number(&mut self, value: &str) {
        let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let exponent_holds = exponent.is_none_or(|exponent| exponent.parse::<i32>().is_ok());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || !exponent_holds {
            self.number = false;
            return;
        }
        self.exponent |= exponent.is_some();
        self.whole = self.whole.max(whole.trim_start_matches('0').len());
        self.scale = self.scale.max(fraction.len());
    }

    /// The type, and whether its values are times.
    fn data_type(&self) -> (String, bool) {
        if !self.any {
            // Nothing but empty fields says nothing; dbt-clickhouse makes such a column a number, which no later value fits.
            return ("String".to_owned(), false);
        }
        let (data_type, is_time) = if self.boolean {
            ("Bool".to_owned(), false)
        } else if self.integer {
            (self.integer_type().to_owned(), false)
        } else if self.number {
            (self.number_type(), false)
        } else if self.date {
            ("Date32".to_owned(), false)
        } else if self.time {
            let precision = match self.precision {
                0..=3 => 3,
                4..=6 => 6,
                _ => 9,
            };
            (format!("DateTime64({precision}, 'UTC')"), true)
        } else {
            return ("String".to_owned(), false);
        };
        if self.null { (format!("Nullable({data_type})"), is_time) } else { (data_type, is_time) }
    }

    fn integer_type(&self) -> &'static str {
        if self.huge {
            "Int256"
        } else if self.smallest >= i128::from(i64::MIN) && self.largest <= i128::from(i64::MAX) {
            "Int64"
        } else if self.smallest >= 0 && self.largest <= i128::from(u64::MAX) {
            "UInt64"
        } else {
            "Int128"
        }
    }

    /// Float64 holds 15 digits exactly; what has more is a Decimal.
    fn number_type(&self) -> String {
        let digits = self.whole + self.scale;
        if self.exponent || digits <= 15 || digits > 76 {
            "Float64".to_owned()
        } else if digits <= 38 {
            format!("Decimal(38, {})", self.scale)
        } else {
            format!("Decimal(76, {})", self.scale)
        }
    }
}

fn is_date(value: &str) -> bool {
    value.len() == 10 && chrono::NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok()
}

/// A time with or without zone as ClickHouse's cast reads it, in UTC, and the digits of its fraction.
fn time(value: &str) -> Option<(String, usize)> {
    // Dates alone are dates.
    if value.len() < 16 || !value.as_bytes()[0].is_ascii_digit() {
        return None;
    }
    let zone_free = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let fraction = value.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    let naive = zone_free
        .iter()
        .find_map(|format| chrono::NaiveDateTime::parse_from_str(value, format).ok())
        .or_else(|| chrono::DateTime::parse_from_rfc3339(value).ok().map(|time| time.naive_utc()))
        .or_else(|| {
            chrono::DateTime::parse_from_str(value, "%Y-%m-%d %H:%M:%S%.f%#z").ok().map(|time| time.naive_utc())
        })?;
    Some((naive.format("%Y-%m-%d %H:%M:%S%.f").to_string(), fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(csv: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seed.csv");
        fs_err::write(&path, csv).unwrap();
        Seed::open(&path, None, None).unwrap().columns.into_iter().map(|column| column.data_type).collect()
    }

    #[test]
    fn every_value_arrives_as_written() {
        assert_eq!(types("a\n1950-05-13\n"), ["Date32"]);
        assert_eq!(types("a\n3000000000\n"), ["Int64"]);
        assert_eq!(types("a\n18446744073709551615\n"), ["UInt64"]);
        assert_eq!(types("a\n-1\n18446744073709551615\n"), ["Int128"]);
        assert_eq!(types("a\n1.5\n2\n"), ["Float64"]);
        assert_eq!(types("a\n1234567890.123456789\n"), ["Decimal(38, 9)"]);
        assert_eq!(types("a\n1e300\n"), ["Float64"]);
        assert_eq!(types("a\ntrue\nFALSE\n"), ["Bool"]);
        assert_eq!(types("a\n2024-03-02 15:00:00\n"), ["DateTime64(3, 'UTC')"]);
        assert_eq!(types("a\n2024-03-02T15:00:00.123456Z\n"), ["DateTime64(6, 'UTC')"]);
        assert_eq!(types("a\n15:00:00\n"), ["String"]);
    }

    #[test]
    fn empty_fields_are_null_except_in_texts() {
        assert_eq!(types("a,b\n1,x\n,\n"), ["Nullable(Int64)", "String"]);
        assert_eq!(types("a,b\nnull,2024-01-01\n1,\n"), ["Nullable(Int64)", "Nullable(Date32)"]);
        assert_eq!(types("a,b\n,1\n"), ["String", "Int64"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seed.csv");
        fs_err::write(&path, "\u{feff}a;b\n1;\"x;y\"\n").unwrap();
        let seed = Seed::open(&path, Some(";"), None).unwrap();
        assert_eq!(seed.columns[0].name, "a");
        assert_eq!(seed.rows, 1);
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(time("2024-03-02T16:00:00+01:00"), Some(("2024-03-02 15:00:00".into(), 0)));
        assert_eq!(time("1950-05-13 14:30:00.5"), Some(("1950-05-13 14:30:00.500".into(), 1)));
        assert_eq!(time("2024-03-02"), None);
    }
}
