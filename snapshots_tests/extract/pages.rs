//! The page parser on hand-written pages of the API's shapes: what is joined, refused, kept beside, and what is an error.

use arrow::{
    array::{Array, Int16Array, Int64Array, ListArray, RecordBatch, StringArray},
    util::display::array_value_to_string,
};
use chpipe::{
    extract::Endpoints,
    transform::{PageError, Provenance, Rows, Shape, Table},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn shape(endpoint: &str) -> Shape {
    Shape::new(Endpoints::load(None).unwrap().get(endpoint).unwrap())
}

/// A body around the races, as the API writes it: every scalar is a text.
pub(super) fn body(limit: usize, offset: usize, total: usize, races: &[Value]) -> Vec<u8> {
    json!({"MRData": {
        "xmlns": "", "series": "f1", "url": "http://example.com/ergast/f1/2023/1/x.json",
        "limit": limit.to_string(), "offset": offset.to_string(), "total": total.to_string(),
        "RaceTable": {"season": "2023", "round": "1", "Races": races},
    }})
    .to_string()
    .into_bytes()
}

fn race(key: &str, rows: Value) -> Value {
    let mut race = json!({
        "season": "2023", "round": "1", "url": "http://example.com", "raceName": "Example Grand Prix",
        "Circuit": {"circuitId": "example", "url": "u", "circuitName": "n",
                    "Location": {"lat": "1.5", "long": "2.5", "locality": "São Paulo", "country": "c"}},
        "date": "2023-03-05", "time": "15:00:00Z",
    });
    race[key] = rows;
    race
}

fn timing(driver: &str, time: &str, position: &str) -> Value {
    json!({"driverId": driver, "time": time, "position": position})
}

fn result(driver: &str) -> Value {
    json!({
        "number": "1", "position": "1", "positionText": "1", "points": "25",
        "Driver": {"driverId": driver, "url": "u", "givenName": "g", "familyName": "f", "dateOfBirth": "1990-01-01", "nationality": "n"},
        "Constructor": {"constructorId": "team", "url": "u", "name": "n", "nationality": "n"},
        "grid": "1", "laps": "57", "status": "Finished",
    })
}

fn read(endpoint: &str, pages: &[Vec<u8>]) -> Table {
    let shape = shape(endpoint);
    let mut rows = Rows::new(&shape, Some(2023), Some(1));
    for page in pages {
        rows.add_page(page).unwrap();
    }
    rows.finish().unwrap()
}

fn column<'b, T: 'static>(batch: &'b RecordBatch, name: &str) -> &'b T {
    batch.column_by_name(name).unwrap().as_any().downcast_ref().unwrap()
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    let row = |row| {
        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        cells.collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(row).collect()
}

/// A lap that is cut between two pages comes back on the second with the rest of its timings.
#[test]
fn a_lap_cut_between_pages_is_joined() {
    let first = race("Laps", json!([{"number": "1", "Timings": [timing("b", "1:30.5", "1")]}]));
    let second = race(
        "Laps",
        json!([{"number": "1", "Timings": [timing("a", "1:31.000", "2")]}, {"number": "2", "Timings": [timing("a", "2:05:05.152", "1")]}]),
    );
    let table = read("laps", &[body(1, 0, 3, &[first]), body(2, 1, 3, &[second])]);
    assert_eq!(
        shown(&table.rows),
        ["2023|1|1|a|2|1:31.000|91000|", "2023|1|1|b|1|1:30.5|90500|", "2023|1|2|a|1|2:05:05.152|7505152|"]
    );
}

/// JSON objects have no order: the values of an enclosing object count for its rows wherever they stand.
#[test]
fn fields_may_come_in_any_order() {
    let text = r#"{"MRData":{"RaceTable":{"Races":[{"Laps":[{"Timings":[{"position":"1","time":"1:00.001","driverId":"a"}],
        "number":"7"}],"round":"1","season":"2023"}]},"total":"1","offset":"0","limit":"30"}}"#;
    let table = read("laps", &[text.as_bytes().to_vec()]);
    assert_eq!(shown(&table.rows), ["2023|1|7|a|1|1:00.001|60001|"]);
}

/// What the API writes for "no value" is null, in every way it writes it.
#[test]
fn the_words_for_nothing_are_null() {
    let stop = |stop: &str, lap: Value, duration: &str| json!({"driverId": "a", "lap": lap, "stop": stop, "time": "17:00:00", "duration": duration});
    let stops = json!([stop("1", json!("10"), ""), stop("2", Value::Null, "N"), stop("3", json!(" 30 "), "16:44.718")]);
    let table = read("pitstops", &[body(100, 0, 3, &[race("PitStops", stops)])]);
    assert_eq!(
        shown(&table.rows),
        ["2023|1|a|1|10|17:00:00|||", "2023|1|a|2||17:00:00|||", "2023|1|a|3|30|17:00:00|16:44.718|1004718|"]
    );
    let mut row = result("a");
    row["number"] = json!("None");
    let table = read("results", &[body(100, 0, 1, &[race("Results", json!([row, result("a")]))])]);
    // Not a duplicate of the other car of the same driver, and before it: null counts as -1.
    assert!(column::<Int16Array>(&table.rows, "car_number").is_null(0));
    assert_eq!(table.rows.num_rows(), 2);
}

/// A row that fails goes whole, with every reason and what stood around it; the others stay.
#[test]
fn a_row_that_fails_is_refused_with_its_reasons() {
    let mut bad = result("b");
    bad["points"] = json!("many");
    bad["position"] = json!("0");
    bad.as_object_mut().unwrap().remove("status");
    let mut huge = result("c");
    huge["grid"] = json!("40000");
    let table = read("results", &[body(100, 0, 3, &[race("Results", json!([result("a"), bad, huge]))])]);
    assert_eq!(table.rows.num_rows(), 1);
    let [bad_row, huge_row] = table.refused.as_slice() else { panic!("{:?}", table.refused) };
    let reasons: Vec<String> =
        bad_row.reasons.iter().map(|r| format!("{} {} {:?} {}", r.column, r.path, r.value, r.reason)).collect();
    assert_eq!(
        reasons,
        [
            "position position Some(\"0\") outside of 1 to any",
            "points points Some(\"many\") not a number",
            "status status None has no value"
        ]
    );
    assert_eq!(bad_row.context["Races[].season"].as_deref(), Some("2023"));
    assert_eq!(serde_json::from_str::<Value>(&bad_row.json).unwrap(), bad);
    assert_eq!(huge_row.reasons[0].reason, "too large for Int16");
}

/// An enclosing object that fails takes its rows along, and only those.
#[test]
fn a_lap_without_a_number_takes_its_timings_along() {
    let laps = json!([
        {"number": "1", "Timings": [timing("a", "1:30.000", "1")]},
        {"number": "x", "Timings": [timing("a", "1:31.000", "1"), timing("b", "1:31.500", "2")]},
        {"number": "3", "Timings": [timing("a", "1:32.000", "1")]},
    ]);
    let table = read("laps", &[body(100, 0, 4, &[race("Laps", laps)])]);
    assert_eq!(column::<Int16Array>(&table.rows, "lap").values(), &[1, 3]);
    assert_eq!(table.refused.len(), 2);
    assert_eq!(table.refused[1].context["Laps[].number"].as_deref(), Some("x"));
    assert_eq!(table.refused[1].context["Races[].round"].as_deref(), Some("1"));
}

/// Rows of another round do not belong into the partition.
#[test]
fn rows_of_another_round_are_refused() {
    let mut other = race("Results", json!([result("a")]));
    other["round"] = json!("2");
    let table = read("results", &[body(100, 0, 2, &[race("Results", json!([result("a")])), other])]);
    assert_eq!((table.rows.num_rows(), table.refused.len()), (1, 1));
    assert!(table.refused[0].reasons[0].reason.contains("belongs to round 2"), "{:?}", table.refused);
}

/// A field that nobody knows is reported and kept, of the row and of what encloses it.
#[test]
fn unknown_fields_are_kept() {
    let mut row = result("a");
    row["tyre"] = json!({"compound": "soft", "age": 3});
    row["Driver"]["height"] = json!("1.80");
    let mut race = race("Results", json!([row, result("b")]));
    race["weather"] = json!("dry");
    let table = read("results", &[body(100, 0, 2, &[race])]);
    let extra: &StringArray = column(&table.rows, "_extra");
    assert_eq!(
        serde_json::from_str::<Value>(extra.value(0)).unwrap(),
        json!({"Driver.height": "1.80", "Races[].weather": "dry", "tyre": {"compound": "soft", "age": 3}})
    );
    assert_eq!(extra.value(1), r#"{"Races[].weather":"dry"}"#);
    let drift: Vec<_> = table.drift.iter().map(|(path, drift)| (path.as_str(), drift.count)).collect();
    assert_eq!(
        drift,
        [
            ("RaceTable.Races[].Results[].Driver.height", 1),
            ("RaceTable.Races[].Results[].tyre", 1),
            ("RaceTable.Races[].weather", 1)
        ]
    );
}

/// A missing optional object is null, column by column.
#[test]
fn missing_optional_fields_are_null() {
    let table = read("results", &[body(100, 0, 1, &[race("Results", json!([result("a")]))])]);
    for name in
        ["time_text", "time_millis", "fastest_lap_rank", "fastest_lap_millis", "fastest_lap_avg_speed_kph", "_extra"]
    {
        assert!(table.rows.column_by_name(name).unwrap().is_null(0), "{name}");
    }
}

/// A field whose JSON type changed is an error that names endpoint, path and value.
#[test]
fn a_type_change_names_endpoint_path_and_value() {
    let cases: [(Value, &str); 4] = [
        (
            json!({"points": 25}),
            "`RaceTable.Races[].Results[].points` of endpoint `results` was a text and is a number: 25",
        ),
        (
            json!({"Driver": "max"}),
            "`RaceTable.Races[].Results[].Driver` of endpoint `results` was an object and is a text: \"max\"",
        ),
        (
            json!({"status": ["a"]}),
            "`RaceTable.Races[].Results[].status` of endpoint `results` was a text and is a list: [\"a\"]",
        ),
        (
            json!({"laps": true}),
            "`RaceTable.Races[].Results[].laps` of endpoint `results` was a text and is true or false: true",
        ),
    ];
    for (change, message) in cases {
        let mut row = result("a");
        row.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let shape = shape("results");
        let error =
            Rows::new(&shape, None, None).add_page(&body(100, 0, 1, &[race("Results", json!([row]))])).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let shape = shape("results");
    let error = Rows::new(&shape, None, None).add_page(&body(1, 0, 1, &[json!("race")])).unwrap_err();
    assert_eq!(error.to_string(), "`RaceTable.Races[]` of endpoint `results` was an object and is a text: \"race\"");
    let error =
        Rows::new(&shape, None, None).add_page(b"{\"MRData\":{\"limit\":\"1\",\"offset\":\"0\",\"total\":\"0\"}}");
    assert!(matches!(error, Err(PageError::Missing { .. })), "{error:?}");
}

/// The same row twice is one row; another row with the same key takes the earlier one's place, which is kept aside.
#[test]
fn duplicates_and_conflicts() {
    let mut changed = result("a");
    changed["points"] = json!("18");
    let first = body(2, 0, 3, &[race("Results", json!([result("a"), result("a")]))]);
    let second = body(2, 2, 3, &[race("Results", json!([changed]))]);
    for pages in [[first.clone(), second.clone()], [second, first]] {
        let table = read("results", &pages);
        assert_eq!(table.rows.num_rows(), 1);
        assert_eq!(array_value_to_string(table.rows.column_by_name("points").unwrap(), 0).unwrap(), "18.0");
        assert_eq!((table.duplicates, table.conflicts.len()), (1, 1));
        assert!(table.conflicts[0].contains("\"points\":25.0"), "{}", table.conflicts[0]);
    }
}

/// Shared drives: one driver in two cars, one car with two drivers.
#[test]
fn shared_drives_stay_rows_of_their_own() {
    let car = |driver: &str, number: &str, position: &str| {
        let mut row = result(driver);
        row["number"] = json!(number);
        row["position"] = json!(position);
        row
    };
    let rows =
        json!([car("fangio", "34", "1"), car("musso", "34", "1"), car("brooks", "12", "7"), car("brooks", "10", "8")]);
    let table = read("results", &[body(100, 0, 4, &[race("Results", rows)])]);
    assert_eq!((table.rows.num_rows(), table.duplicates, table.conflicts.len()), (4, 0, 0));
    assert_eq!(column::<Int16Array>(&table.rows, "car_number").values(), &[10, 12, 34, 34]);
}

/// Standings keep their teams in order, and stay without a position.
#[test]
fn standings_have_lists_of_teams() {
    let text = json!({"MRData": {"limit": "100", "offset": "0", "total": "2", "StandingsTable": {"season": "2023", "round": "1",
    "StandingsLists": [{"season": "2023", "round": "1", "DriverStandings": [
        {"positionText": "-", "points": "0", "wins": "0", "Driver": {"driverId": "b"},
         "Constructors": [{"constructorId": "y", "url": "u", "name": "n", "nationality": "n"}, {"constructorId": "x"}]},
        {"position": "1", "positionText": "1", "points": "1.33", "wins": "0", "Driver": {"driverId": "a"}, "Constructors": []},
    ]}]}}});
    let table = read("driverstandings", &[text.to_string().into_bytes()]);
    let teams: &ListArray = column(&table.rows, "constructor_ids");
    assert_eq!((teams.value_length(0), teams.value_length(1)), (0, 2));
    assert_eq!(array_value_to_string(teams, 1).unwrap(), "[y, x]");
    assert!(column::<Int16Array>(&table.rows, "position").is_null(1));
    assert_eq!(table.drift.len(), 0);
}

/// Dates before 1970, escapes, and letters that are not ASCII survive.
#[test]
fn texts_and_dates_survive() {
    let text = r#"{"MRData":{"limit":"30","offset":"0","total":"1","DriverTable":{"Drivers":[{"driverId":"r","givenName":"Kimi \"Ice\"\/",
        "familyName":"R\u00e4ikkönen \ud83c\udfce","dateOfBirth":"1911-06-24","code":"","permanentNumber":"7"}]}}}"#;
    let shape = shape("drivers");
    let mut rows = Rows::new(&shape, Some(2023), None);
    rows.add_page(text.as_bytes()).unwrap();
    let table = rows.finish().unwrap();
    assert_eq!(shown(&table.rows), ["r|Kimi \"Ice\"/|Räikkönen 🏎|7||1911-06-24|||"]);
}

/// What is no page is an error that says why, never a panic and never rows.
#[test]
fn what_is_no_page_is_an_error() {
    let whole = String::from_utf8(body(100, 0, 1, &[race("Results", json!([result("a")]))])).unwrap();
    let shape = shape("results");
    for end in 0..whole.len() {
        if whole.is_char_boundary(end) {
            assert!(Rows::new(&shape, None, None).add_page(&whole.as_bytes()[..end]).is_err(), "{end}");
        }
    }
    for text in
        ["", "<!doctype html>", "[]", "{}", "{\"detail\":\"Request was throttled.\"}", "{\"MRData\":[]}", "\u{feff}{}"]
    {
        assert!(Rows::new(&shape, None, None).add_page(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(Rows::new(&shape, None, None).add_page(b"{\"\xff\":1}"), Err(PageError::Encoding));
}

fn laps() -> impl Strategy<Value = Vec<(u16, String, String, Option<String>)>> {
    let row = (1u16..6, "[a-e]{1,3}", 0u32..7_200_000, proptest::option::of("[0-9]{1,2}|x"), 0..3u8);
    proptest::collection::vec(row, 0..60).prop_map(|rows| {
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|(lap, driver, millis, position, form)| {
                let (minutes, rest) = (millis / 60_000, millis % 60_000);
                let time = match form {
                    0 => format!("{minutes}:{:02}.{:03}", rest / 1000, rest % 1000),
                    1 => format!("{}:{:02}:{:02}.{:03}", minutes / 60, minutes % 60, rest / 1000, rest % 1000),
                    _ => "oops".to_owned(),
                };
                (lap, driver, time, position)
            })
            .collect();
        rows.sort_by_key(|row| row.0);
        rows
    })
}

/// A listing cut into pages of `size`, laps cut where the pages are.
fn cut(rows: &[(u16, String, String, Option<String>)], size: usize) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    for (index, chunk) in rows.chunks(size).enumerate() {
        let laps: Vec<Value> = chunk
            .chunk_by(|a, b| a.0 == b.0)
            .map(|lap| {
                let timings = lap
                    .iter()
                    .map(|(_, driver, time, position)| json!({"driverId": driver, "time": time, "position": position}));
                json!({"number": lap[0].0.to_string(), "Timings": timings.collect::<Vec<_>>()})
            })
            .collect();
        pages.push(body(size, index * size, rows.len(), &[race("Laps", laps.into())]));
    }
    if pages.is_empty() {
        pages.push(body(size, 0, 0, &[]));
    }
    pages
}

fn parquet(pages: &[Vec<u8>]) -> (Vec<u8>, usize, usize, Vec<String>) {
    let table = read("laps", pages);
    let bytes = table.to_parquet(&shape("laps"), &Provenance::default()).unwrap();
    (bytes, table.refused.len(), table.duplicates, table.conflicts)
}

proptest! {
    /// Page size and page order never change the Parquet, nor what is refused, whatever is in the rows.
    #[test]
    fn page_size_and_order_change_nothing(rows in laps(), size in 1usize..40, seed in any::<u64>()) {
        let expected = parquet(&cut(&rows, 1000));
        let mut pages = cut(&rows, size);
        prop_assert_eq!(&parquet(&pages), &expected);
        let count = pages.len();
        for index in 0..count {
            pages.swap(index, (seed.rotate_left(index as u32) as usize) % count);
        }
        prop_assert_eq!(&parquet(&pages), &expected);
    }

    /// A page that was damaged anywhere is refused or read, and never more rows than it had braces.
    #[test]
    fn damage_never_panics(rows in laps(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut page = cut(&rows, 1000).remove(0);
        let index = at.index(page.len());
        page[index] = byte;
        let shape = shape("laps");
        let mut read = Rows::new(&shape, Some(2023), Some(1));
        if read.add_page(&page).is_ok() {
            prop_assert!(read.len() + read.refused().len() <= rows.len());
            read.finish().unwrap();
        }
    }
}

/// Time in milliseconds comes from `millis`, not from the text for display.
#[test]
fn race_times_come_from_the_number() {
    let mut row = result("a");
    row["Time"] = json!({"millis": "8475000", "time": "2:21"});
    let table = read("results", &[body(100, 0, 1, &[race("Results", json!([row]))])]);
    assert_eq!(column::<Int64Array>(&table.rows, "time_millis").value(0), 8_475_000);
}
