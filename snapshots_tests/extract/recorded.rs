//! Every page that was recorded from the API's own code, where the recordings are on this machine (`CHPIPE_TEST_ERGAST`,
//! or `shared/ergast` beside the repository).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use chpipe::{
    extract::{Endpoints, Level},
    transform::{Provenance, Rows, Shape},
};

use crate::{
    harness::skip,
    replay::{self, ergast},
};

/// One recorded body.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) endpoint: String,
    pub(super) season: Option<u16>,
    pub(super) round: Option<u8>,
    pub(super) limit: u32,
    pub(super) offset: u32,
    pub(super) body: PathBuf,
}

/// All recorded pages, unpacked once.
fn pages() -> Option<&'static [Page]> {
    static PAGES: OnceLock<Option<(tempfile::TempDir, Vec<Page>)>> = OnceLock::new();
    let unpacked = PAGES.get_or_init(|| {
        let archive = ergast()?.join("recorded_responses.tar.zst");
        let dir = tempfile::tempdir().unwrap();
        let mut zstd = Command::new("zstd").arg("-dcq").arg(archive).stdout(Stdio::piped()).spawn().ok()?;
        let tar = Command::new("tar").arg("x").arg("-C").arg(dir.path()).stdin(zstd.stdout.take()?).status().unwrap();
        assert!(tar.success() && zstd.wait().unwrap().success());
        let root = dir.path().join("responses");
        let index = fs_err::read_to_string(root.join("index.jsonl")).unwrap();
        let pages = index.lines().map(|line| page(&root, &serde_json::from_str(line).unwrap())).collect();
        Some((dir, pages))
    });
    unpacked.as_ref().map(|(_, pages)| pages.as_slice())
}

fn page(root: &Path, entry: &serde_json::Value) -> Page {
    let (path, query) = entry["path"].as_str().unwrap().split_once('?').unwrap();
    let number = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap().parse().unwrap();
    let mut parts: Vec<&str> = path.trim_start_matches("/ergast/f1/").trim_end_matches(".json").split('/').collect();
    let endpoint = parts.pop().unwrap().to_owned();
    Page {
        endpoint,
        season: parts.first().map(|season| season.parse().unwrap()),
        round: parts.get(1).map(|round| round.parse().unwrap()),
        limit: number("limit="),
        offset: number("offset="),
        body: root.join(entry["file"].as_str().unwrap()),
    }
}

/// Every listing that was recorded passes whole: as many rows as its `total`, each key once, none refused, nothing unknown.
#[test]
fn recorded_listings_are_read_without_loss() {
    let Some(pages) = pages() else {
        return skip("extract::recorded::recorded_listings_are_read_without_loss", replay::MISSING);
    };
    let endpoints = Endpoints::load(None).unwrap();
    type Listing = (String, Option<u16>, Option<u8>, u32);
    let mut listings: BTreeMap<Listing, Vec<&Page>> = BTreeMap::new();
    for page in pages {
        let key = (page.endpoint.clone(), page.season, page.round, page.limit);
        listings.entry(key).or_default().push(page);
    }
    let mut by_round: BTreeMap<String, usize> = BTreeMap::new();
    let mut tables = BTreeMap::new();
    let mut sizes = 0;
    for ((endpoint, season, round, limit), mut pages) in listings {
        let listing = format!("{endpoint} {season:?} {round:?} limit {limit}");
        let shape = Shape::new(endpoints.get(&endpoint).unwrap());
        // The level of the listing decides what its rows may be of.
        let mut rows = Rows::new(&shape, season, round);
        pages.sort_by_key(|page| page.offset);
        let mut total = 0;
        for page in &pages {
            let body = fs_err::read(&page.body).unwrap();
            let info = rows.add_page(&body).unwrap_or_else(|error| panic!("{listing}: {error}"));
            assert_eq!(info.offset, page.offset);
            total = info.total as usize;
        }
        assert_eq!(rows.refused(), [], "{listing}");
        assert!(rows.drift().is_empty(), "{listing}: {:?}", rows.drift());
        if pages.len() as u32 * limit < total as u32 {
            // Only some pages of it were recorded.
            continue;
        }
        // By season and over all seasons, drivers and constructors stand there once; so do they all.
        assert_eq!((rows.len(), rows.distinct_keys()), (total, total), "{listing}");
        let table = rows.finish().unwrap();
        assert_eq!((table.rows.num_rows(), table.duplicates, table.conflicts.len()), (total, 0, 0), "{listing}");
        // Neither the size of the pages nor their order is to be seen in the Parquet.
        let parquet = table.to_parquet(&shape, &Provenance::default()).unwrap();
        let mut backwards = Rows::new(&shape, season, round);
        for page in pages.iter().rev() {
            backwards.add_page(&fs_err::read(&page.body).unwrap()).unwrap();
        }
        assert!(
            backwards.finish().unwrap().to_parquet(&shape, &Provenance::default()).unwrap() == parquet,
            "{listing}"
        );
        sizes += usize::from(tables.contains_key(&(endpoint.clone(), season, round)));
        let known = tables.entry((endpoint.clone(), season, round)).or_insert_with(|| parquet.clone());
        assert!(*known == parquet, "{listing}: another page size gave another table");
        let level = endpoints.get(&endpoint).unwrap().level;
        if limit == 100 && (level.has_rounds() == round.is_some()) && (season.is_some() || !level.has_rounds()) {
            let of_season = if season.is_none() { "all " } else { "" };
            *by_round.entry(format!("{of_season}{endpoint}")).or_default() += total;
        } else if limit == 100 && level == Level::Standings && season.is_some() {
            *by_round.entry(format!("{endpoint} at the end")).or_default() += total;
        }
    }
    assert!(sizes > 0, "no listing was recorded with two page sizes");
    let expected = [
        ("all circuits", 77),
        ("all constructors", 212),
        ("all drivers", 864),
        ("all races", 1149),
        ("all seasons", 76),
        ("all status", 74),
        ("constructorstandings", 1654),
        ("constructorstandings at the end", 104),
        ("driverstandings", 3838),
        ("driverstandings at the end", 291),
        ("laps", 4196),
        ("pitstops", 147),
        ("qualifying", 2082),
        ("races", 1149),
        ("results", 3160),
        ("sprint", 120),
    ];
    for (name, rows) in expected {
        assert_eq!(by_round[name], rows, "{name}");
    }
}
