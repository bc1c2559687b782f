//! Parquet footers to schemas, and many files' schemas to the one that holds them all: the union of columns, widened
//! types, NULL where a file has none of a column. In: the last bytes of a file; it fetches nothing.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use parquet::{arrow::parquet_to_arrow_schema, file::metadata::ParquetMetaDataReader};

use super::{ClickHouseType, UnsupportedArrowType, from_arrow, widen};

/// The magic of a Parquet file's end, after the footer's length.
const MAGIC: &[u8] = b"PAR1";
/// Length and magic.
const TAIL: usize = 8;

/// What one Parquet file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileSchema {
    pub columns: Arc<Vec<FileColumn>>,
    /// Columns that no ClickHouse column holds: the file is of use only without them.
    #[serde(default)]
    pub unsupported: Vec<UnsupportedArrowType>,
    pub rows: u64,
    /// The key-value metadata that is not some library's own schema.
    pub metadata: BTreeMap<String, String>,
}

/// A column of a file, as ClickHouse would hold it; Nullable where the file allows NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct FileColumn {
    pub name: String,
    pub kind: ClickHouseType,
}

/// A file whose footer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    #[error("its footer needs the last {bytes} bytes")]
    NeedMore { bytes: u64 },
    #[error("it is no Parquet file: {reason}")]
    NotParquet { reason: String },
    /// ClickHouse refuses such a file whatever columns are asked for.
    #[error("two of its columns are named `{column}`")]
    TwoColumns { column: String },
}

/// Reads a footer from the last bytes of a file of `size` bytes.
///
/// # Errors
/// [`FooterError::NeedMore`] names how many last bytes to fetch; the rest cannot be mended by fetching.
pub fn read_footer(tail: &[u8], size: u64) -> Result<FileSchema, FooterError> {
    let not_parquet = |reason: String| FooterError::NotParquet { reason };
    if size < (TAIL + MAGIC.len()) as u64 {
        return Err(not_parquet(format!("{size} bytes are too few")));
    }
    if tail.len() < TAIL {
        return Err(FooterError::NeedMore { bytes: TAIL as u64 });
    }
    let (rest, end) = tail.split_at(tail.len() - TAIL);
    if &end[4..] != MAGIC {
        return Err(not_parquet("it does not end in PAR1".into()));
    }
    let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize;
    if (length + TAIL) as u64 > size {
        return Err(not_parquet(format!("its footer claims {length} bytes of {size}")));
    }
    if rest.len() < length {
        return Err(FooterError::NeedMore { bytes: (length + TAIL) as u64 });
    }
    let metadata = ParquetMetaDataReader::decode_metadata(&rest[rest.len() - length..])
        .map_err(|error| not_parquet(error.to_string()))?;
    let file = metadata.file_metadata();
    let pairs = file.key_value_metadata();
    // An Arrow schema beside Parquet's own may name types that are not Arrow's (128-bit integers): then Parquet's counts.
    let schema = parquet_to_arrow_schema(file.schema_descr(), pairs)
        .or_else(|_| parquet_to_arrow_schema(file.schema_descr(), None))
        .map_err(|error| not_parquet(error.to_string()))?;
    let mut columns: Vec<FileColumn> = Vec::with_capacity(schema.fields().len());
    let mut unsupported = Vec::new();
    let mut names = HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name()) {
            return Err(FooterError::TwoColumns { column: field.name().clone() });
        }
        match from_arrow(field) {
            Ok(kind) => columns.push(FileColumn { name: field.name().clone(), kind }),
            Err(column) => unsupported.push(column),
        }
    }
    let metadata = pairs
        .into_iter()
        .flatten()
        .filter(|pair| !matches!(pair.key.as_str(), "ARROW:schema" | "pandas"))
        .filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?)))
        .collect();
    let rows = u64::try_from(file.num_rows()).unwrap_or_default();
    Ok(FileSchema { columns: Arc::new(columns), unsupported, rows, metadata })
}

/// The schema that holds every row of many files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergedSchema {
    /// In the order of the first file, then of the files that brought new ones.
    pub columns: Vec<MergedColumn>,
    pub files: usize,
    pub rows: u64,
    /// Key-value metadata in which all files agree.
    pub metadata: BTreeMap<String, String>,
}

/// A column of the merged schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedColumn {
    pub name: String,
    pub kind: ClickHouseType,
    /// How many of the files with rows have the column.
    pub files: usize,
}

/// Two files whose columns no type holds without loss.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "column `{column}` is {first} in `{first_file}` and {second} in `{second_file}`, and no type holds both without loss"
)]
pub struct MergeError {
    pub column: String,
    pub first: String,
    pub first_file: String,
    pub second: String,
    pub second_file: String,
}

/// Merges files in the order given. `pinned` names columns whose type is decided elsewhere, so that a conflict in them is
/// none.
///
/// # Errors
/// A column has types in two files that nothing holds without loss.
pub fn merge<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a FileSchema)>,
    pinned: &dyn Fn(&str) -> bool,
) -> Result<MergedSchema, MergeError> {
    let mut merged = MergedSchema::default();
    let mut first_seen: Vec<&str> = Vec::new();
    let mut files_with_rows = 0;
    // Thousands of files share a handful of schemas: each is merged once and counted.
    let mut groups: Vec<(&'a str, &'a Arc<Vec<FileColumn>>, usize)> = Vec::new();
    let mut group_of: std::collections::HashMap<&'a Vec<FileColumn>, usize> = std::collections::HashMap::new();
    for (name, file) in files {
        merged.files += 1;
        merged.rows += file.rows;
        if merged.files == 1 {
            merged.metadata = file.metadata.clone();
        } else {
            merged.metadata.retain(|key, value| file.metadata.get(key) == Some(value));
        }
        let with_rows = usize::from(file.rows > 0);
        files_with_rows += with_rows;
        let group = *group_of.entry(&file.columns).or_insert_with(|| {
            groups.push((name, &file.columns, 0));
            groups.len() - 1
        });
        groups[group].2 += with_rows;
    }
    for (name, columns, count) in groups {
        for column in columns.iter() {
            let Some(index) = merged.columns.iter().position(|known| known.name == column.name) else {
                first_seen.push(name);
                merged.columns.push(MergedColumn {
                    name: column.name.clone(),
                    kind: column.kind.clone(),
                    files: count,
                });
                continue;
            };
            let known = &mut merged.columns[index];
            known.files += count;
            match widen(&known.kind, &column.kind) {
                Some(kind) => known.kind = kind,
                None if pinned(&column.name) => {}
                None => {
                    return Err(MergeError {
                        column: column.name.clone(),
                        first: known.kind.to_string(),
                        first_file: first_seen[index].to_owned(),
                        second: column.kind.to_string(),
                        second_file: name.to_owned(),
                    });
                }
            }
        }
    }
    for column in &mut merged.columns {
        if column.files < files_with_rows {
            column.kind = column.kind.clone().nullable();
        }
        // A column without any value has no type of its own; text holds whatever comes first.
        if *column.kind.inner() == ClickHouseType::Nothing {
            column.kind = ClickHouseType::String.nullable();
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(columns: &[(&str, &str)], rows: u64) -> FileSchema {
        let columns = columns
            .iter()
            .map(|(name, kind)| FileColumn { name: (*name).to_owned(), kind: ClickHouseType::parse(kind).unwrap() })
            .collect();
        FileSchema { columns: Arc::new(columns), unsupported: Vec::new(), rows, metadata: BTreeMap::new() }
    }

    #[test]
    fn columns_unite_types_widen_and_gaps_are_nullable() {
        let files =
            [file(&[("a", "Int16"), ("b", "String")], 1), file(&[("a", "Int32"), ("c", "Nothing")], 1), file(&[], 0)];
        let merged = merge([("1", &files[0]), ("2", &files[1]), ("3", &files[2])], &|_| false).unwrap();
        let columns: Vec<_> = merged.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
        assert_eq!(columns, ["a Int32", "b Nullable(String)", "c Nullable(String)"]);
    }

    #[test]
    fn a_conflict_names_both_files() {
        let files = [file(&[("a", "Int64")], 1), file(&[("a", "Float64")], 1)];
        let error = merge([("x", &files[0]), ("y", &files[1])], &|_| false).unwrap_err();
        assert_eq!((error.first_file.as_str(), error.second_file.as_str()), ("x", "y"));
        assert!(merge([("x", &files[0]), ("y", &files[1])], &|name| name == "a").is_ok());
    }
}
