//! What must hold for any bytes that the page parser is given; shared by the fuzz target and the tests.

use std::sync::LazyLock;

use chpipe::{
    extract::Endpoints,
    transform::{Provenance, Rows, Shape},
};

static SHAPES: LazyLock<Vec<Shape>> =
    LazyLock::new(|| Endpoints::load(None).expect("the built-in endpoints are valid").iter().map(Shape::new).collect());

/// It never panics, reads nothing that is not JSON, and what it reads becomes a table whose rows are no more than the page
/// had. The first byte chooses the endpoint, the rest is the page.
pub(crate) fn check(data: &[u8]) {
    let [choice, page @ ..] = data else { return };
    let shape = &SHAPES[usize::from(*choice) % SHAPES.len()];
    let mut rows = Rows::new(shape, Some(2023), Some(1));
    let Ok(info) = rows.add_page(page) else { return };
    let is_json = |json: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok();
    assert!(is_json(page), "read what is no JSON");
    assert_eq!(rows.len() + rows.refused().len(), info.rows as usize);
    assert!(rows.refused().iter().all(|row| is_json(row.json.as_bytes())));
    let (len, distinct) = (rows.len(), rows.distinct_keys());
    // The same page again: every row is a duplicate.
    rows.add_page(page).expect("a page that was read is read again");
    let table = rows.finish().expect("rows form a table");
    assert_eq!(table.rows.num_rows(), distinct);
    assert_eq!(table.rows.num_rows() + table.duplicates + table.conflicts.len(), 2 * len);
    table.to_parquet(shape, &Provenance::default()).expect("a table is written");
}
