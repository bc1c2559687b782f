//! The transformation without storage: how long parsing, sorting and writing take of a generated Bronze folder, one core.
//!
//! ```text
//! pages LAKE_DIR [BATCHES]
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool that prints what it measured")]

use std::{path::Path, time::Instant};

use chpipe::{
    extract::Endpoints,
    transform::{Provenance, Rows, Shape},
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(lake) = arguments.first() else { return println!("pages LAKE_DIR [BATCHES]") };
    let most = arguments.get(1).map_or(usize::MAX, |count| count.parse().unwrap());
    let endpoints = Endpoints::load(None).unwrap();
    for endpoint in ["laps", "results"] {
        let shape = Shape::new(endpoints.get(endpoint).unwrap());
        let folder = Path::new(lake).join("bronze/ergast").join(format!("endpoint={endpoint}"));
        let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
        for entry in walkdir::WalkDir::new(folder).min_depth(3).max_depth(3).sort_by_file_name() {
            let files =
                walkdir::WalkDir::new(entry.unwrap().path()).sort_by_file_name().into_iter().map(Result::unwrap);
            let files = files.filter(|file| file.file_type().is_file());
            batches.push(files.map(|file| fs_err::read(file.path()).unwrap()).collect());
            if batches.len() == most {
                break;
            }
        }
        let [mut parse, mut finish, mut write] = [0.0; 3];
        let (mut rows_read, mut bytes_in, mut bytes_out) = (0, 0, 0);
        for pages in &batches {
            let mut at = Instant::now();
            let mut lap = |sum: &mut f64| {
                *sum += at.elapsed().as_secs_f64();
                at = Instant::now();
            };
            let mut rows = Rows::new(&shape, None, None);
            for (index, page) in pages.iter().enumerate() {
                let info = rows.add_page(page).unwrap();
                if index == 0 {
                    rows.reserve(info.rows as usize * (pages.len() - 1));
                }
                bytes_in += page.len();
            }
            lap(&mut parse);
            let table = rows.finish().unwrap();
            rows_read += table.rows.num_rows();
            lap(&mut finish);
            bytes_out += table.to_parquet(&shape, &Provenance::default()).unwrap().len();
            lap(&mut write);
        }
        let rate = rows_read as f64 / (parse + finish + write);
        println!(
            "{endpoint}: {} batches, {rows_read} rows, {bytes_in} -> {bytes_out} bytes: parse {parse:.3} s, sort {finish:.3} s, \
             parquet {write:.3} s: {rate:.0} rows/s",
            batches.len()
        );
    }
}
