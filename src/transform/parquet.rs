//! A table as the bytes of a Parquet object: zstd, statistics, page index, metadata. In: a [`Table`] and where it came
//! from; out: bytes, the same for the same input.

use arrow::array::RecordBatch;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use super::shape::Shape;

/// Rows a row group: a round's laps fit into one.
const ROW_GROUP_ROWS: usize = 1_000_000;

/// Columns with fewer rows have no dictionary: its page would cost more than it saves.
const DICTIONARY_ROWS: usize = 256;

/// Where a Parquet object came from; written into its metadata under `chpipe.*`.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    pub batch_id: String,
    pub season: Option<u16>,
    pub round: Option<u8>,
    /// One URL a page.
    pub source_urls: Vec<String>,
    pub schema_version: u32,
}

impl Provenance {
    fn metadata(&self, shape: &Shape) -> Vec<KeyValue> {
        let mut pairs = vec![
            ("chpipe.endpoint", shape.endpoint.clone()),
            ("chpipe.batch_id", self.batch_id.clone()),
            ("chpipe.source_urls", serde_json::Value::from(self.source_urls.clone()).to_string()),
            ("chpipe.schema_version", self.schema_version.to_string()),
            ("chpipe.tool_version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        pairs.extend(self.season.map(|season| ("chpipe.season", season.to_string())));
        pairs.extend(self.round.map(|round| ("chpipe.round", round.to_string())));
        pairs.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
    }
}

/// Writes the rows.
///
/// # Errors
/// The Parquet writer refuses the table; that would be a bug.
pub(super) fn write(shape: &Shape, rows: &RecordBatch, provenance: &Provenance) -> Result<Vec<u8>, ParquetError> {
    // Leaf numbers equal column numbers: the only list stands behind every key.
    let sorting = shape
        .key
        .iter()
        .map(|&index| SortingColumn { column_idx: index as i32, descending: false, nulls_first: true })
        .collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(Some(sorting))
        .set_key_value_metadata(Some(provenance.metadata(shape)));
    let is_small = rows.num_rows() < DICTIONARY_ROWS;
    for column in shape.columns.iter().filter(|column| is_small || !column.is_repetitive()) {
        // A dictionary of values that hardly repeat costs time and space.
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column.name.as_str()), false);
    }
    let properties = properties.build();
    // Parquet's own types say all there is; the Arrow schema would repeat it in every small file.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), rows.schema(), options)?;
    if rows.num_rows() > 0 {
        writer.write(rows)?;
    }
    writer.into_inner()
}
