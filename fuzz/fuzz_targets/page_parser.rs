//! The page parser on any bytes: it never panics, reads nothing that is not JSON, and what it reads becomes a table whose
//! rows are no more than the page had. The first byte chooses the endpoint, the second a cut: the rest comes as two pages.
#![no_main]

use std::sync::LazyLock;

use chpipe::{
    extract::Endpoints,
    transform::{Provenance, Rows, Shape},
};
use libfuzzer_sys::fuzz_target;

static SHAPES: LazyLock<Vec<Shape>> =
    LazyLock::new(|| Endpoints::load(None).expect("the built-in endpoints are valid").iter().map(Shape::new).collect());

fuzz_target!(|data: &[u8]| {
    let [choice, page @ ..] = data else { return };
    let shape = &SHAPES[usize::from(*choice) % SHAPES.len()];
    let mut rows = Rows::new(shape, Some(2023), Some(1));
    let Ok(info) = rows.add_page(page) else { return };
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(page).is_ok(), "read what is no JSON");
    let read = rows.len() + rows.refused().len();
    assert_eq!(read, info.rows as usize);
    assert!(rows.refused().iter().all(|row| serde_json::from_str::<serde::de::IgnoredAny>(&row.json).is_ok()));
    let distinct = rows.distinct_keys();
    let len = rows.len();
    // The same page again: every row is a duplicate.
    rows.add_page(page).expect("a page that was read is read again");
    let table = rows.finish().expect("rows form a table");
    assert_eq!(table.rows.num_rows(), distinct);
    assert_eq!(table.rows.num_rows() + table.duplicates + table.conflicts.len(), 2 * len);
    table.to_parquet(shape, &Provenance::default()).expect("a table is written");
});
