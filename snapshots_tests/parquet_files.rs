//! Parquet files for the tests, written with the columns a test names.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema},
};
use parquet::arrow::ArrowWriter;

/// Writes a file whole: a reader sees all of it or nothing.
pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), array.null_count() > 0))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    write_batch(path, &RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap());
}

/// Writes a batch as a file, whole.
pub(crate) fn write_batch(path: &Path, batch: &RecordBatch) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    let temporary = path.with_extension("tmp");
    let mut writer = ArrowWriter::try_new(fs_err::File::create(&temporary).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    fs_err::rename(temporary, path).unwrap();
}
