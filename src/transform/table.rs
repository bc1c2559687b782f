//! Rows to a table: duplicates removed, sorted by the natural key, unknown fields gathered. In: [`Rows`]; out: [`Table`].
//! Pure, and the same for the same rows whatever pages they came in.

use std::{collections::BTreeMap, sync::Arc};

use ::parquet::errors::ParquetError;
use arrow::array::{Array as _, ArrayRef, RecordBatch};

use super::{
    Provenance, Shape, columns,
    page::{Drift, Extra, Refused, Rows},
    parquet,
    shape::EXTRA_COLUMN,
};

/// The finished rows of a batch.
#[derive(Debug)]
pub struct Table {
    pub rows: RecordBatch,
    /// Rows that came twice, the same to the last value.
    pub duplicates: usize,
    /// Rows whose key came again with other values: the later one of the listing stayed. Each as JSON.
    pub conflicts: Vec<String>,
    pub refused: Vec<Refused>,
    pub drift: BTreeMap<String, Drift>,
}

impl Rows<'_> {
    /// How many different keys the rows have, and how many rows were refused: what a listing's `total` adds up to.
    pub fn distinct_keys(&self) -> usize {
        let (_, mut keys) = self.sort_keys();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    /// Sorts by key, drops duplicates and builds the Arrow arrays.
    ///
    /// # Errors
    /// Arrow refuses the columns; that would be a bug.
    pub fn finish(self) -> Result<Table, arrow::error::ArrowError> {
        let (bits, keys) = self.sort_keys();
        let mut order: Vec<u32> = (0..self.len as u32).collect();
        if keys.is_sorted() {
            // As the API sends most listings.
        } else if bits <= u32::BITS {
            // One number with the row in its lower half sorts fastest.
            let mut rows: Vec<u64> =
                keys.iter().zip(&order).map(|(&key, &row)| ((key as u64) << 32) | u64::from(row)).collect();
            rows.sort_unstable();
            order = rows.into_iter().map(|row| row as u32).collect();
        } else {
            order.sort_by_key(|&row| keys[row as usize]);
        }
        if !self.pages.is_sorted_by_key(|&(_, offset)| offset) {
            // Of equal keys the later row of the listing comes last, in whatever order its pages came.
            for equal in order.chunk_by_mut(|&a, &b| keys[a as usize] == keys[b as usize]) {
                equal.sort_by_key(|&row| self.position(row));
            }
        }
        let extras = self.extras_by_row();
        let mut kept: Vec<u32> = Vec::with_capacity(order.len());
        let (mut duplicates, mut conflicts) = (0, Vec::new());
        for row in order {
            if let Some(last) = kept.last_mut()
                && keys[*last as usize] == keys[row as usize]
            {
                let (a, b) = (*last as usize, row as usize);
                let same = self.columns.iter().all(|column| column.same(a, b)) && extras.get(last) == extras.get(&row);
                if same {
                    duplicates += 1;
                } else {
                    conflicts.push(self.row_json(*last, &extras)?);
                    *last = row;
                }
            } else {
                kept.push(row);
            }
        }
        let rows = self.record_batch(&kept, &extras)?;
        Ok(Table { rows, duplicates, conflicts, refused: self.refused, drift: self.drift })
    }

    /// The offset of a row's page in the listing, and the row's place behind it.
    fn position(&self, row: u32) -> (u32, u32) {
        let page = self.pages.partition_point(|&(first, _)| first <= row).saturating_sub(1);
        (self.pages.get(page).map_or(0, |&(_, offset)| offset), row)
    }

    fn record_batch(
        &self,
        order: &[u32],
        extras: &BTreeMap<u32, String>,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let mut arrays: Vec<ArrayRef> = self.columns.iter().map(|column| column.array(order)).collect();
        arrays.push(columns::optional_texts(order.iter().map(|row| extras.get(row).map(String::as_str))));
        RecordBatch::try_new(Arc::new(self.shape.schema()), arrays)
    }

    /// A row as JSON, for the quarantine.
    fn row_json(&self, row: u32, extras: &BTreeMap<u32, String>) -> Result<String, arrow::error::ArrowError> {
        let batch = self.record_batch(&[row], extras)?;
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&batch)?;
        writer.finish()?;
        Ok(String::from_utf8_lossy(&writer.into_inner()).trim_end().to_owned())
    }

    /// The natural key of each row as one number that sorts like it, and how many bits the numbers need.
    fn sort_keys(&self) -> (u32, Vec<u128>) {
        let mut keys = vec![0u128; self.len];
        let mut used = 0;
        for &index in &self.shape.key {
            let (bits, parts) = self.columns[index].sort_keys();
            if bits == 0 {
                continue;
            }
            if used + bits > u128::BITS {
                // Ranks take the place of a key that has grown too wide; there are fewer than 2^32 rows.
                let mut distinct = keys.clone();
                distinct.sort_unstable();
                distinct.dedup();
                for key in &mut keys {
                    *key = distinct.partition_point(|other| other < key) as u128;
                }
                used = u32::BITS;
            }
            for (key, part) in keys.iter_mut().zip(parts) {
                *key = (*key << bits) | u128::from(part);
            }
            used += bits;
        }
        (used, keys)
    }

    /// The unknown fields of each row as a JSON object, fields in order of their paths.
    fn extras_by_row(&self) -> BTreeMap<u32, String> {
        let mut by_row: BTreeMap<u32, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
        for Extra { row, path, json } in &self.extras {
            by_row.entry(*row).or_default().entry(path).or_default().push(json);
        }
        by_row.into_iter().map(|(row, fields)| (row, self.extra_json(&fields))).collect()
    }

    fn extra_json(&self, fields: &BTreeMap<&str, Vec<&str>>) -> String {
        let members = fields.iter().map(|(path, values)| {
            // A field of a list inside the row has as many values as the list has items.
            let is_enclosing = self.shape.lists.iter().any(|list| {
                path.strip_prefix(list.as_str())
                    .is_some_and(|rest| rest.starts_with("[].") && !rest[3..].contains("[]"))
            });
            let value = if path.contains("[]") && !is_enclosing {
                format!("[{}]", values.join(","))
            } else {
                values.last().copied().unwrap_or("null").to_owned()
            };
            format!("{}:{value}", serde_json::Value::from(*path))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

impl Table {
    /// The rows as a Parquet object: the same bytes for the same rows and provenance.
    ///
    /// # Errors
    /// The Parquet writer refuses the table; that would be a bug.
    pub fn to_parquet(&self, shape: &Shape, provenance: &Provenance) -> Result<Vec<u8>, ParquetError> {
        parquet::write(shape, &self.rows, provenance)
    }

    /// Rows whose `_extra` holds something.
    pub fn rows_with_extra(&self) -> usize {
        self.rows.column_by_name(EXTRA_COLUMN).map_or(0, |column| column.len() - column.null_count())
    }
}
