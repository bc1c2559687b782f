//! One page of a listing in the API's shape: the envelope, and the rows from `offset` with the objects around them, cut
//! where the page ends. In: a query and a window; out: JSON. It marks every page as simulated.

use std::collections::BTreeMap;

use super::{
    json::Json,
    race::{FastestLap, PitStop, PlaceText, QualifyingRow, ResultRow, Timing, Weekend, lap_text},
    route::{Endpoint, Query},
    rules::{self, Points},
    season::{Championship, History, Standing},
    world::{Circuit, Constructor, Driver, Round},
};

/// Where its URLs point: a name that no resolver knows.
const HOST: &str = "http://simulated.invalid";

/// Rows of a listing: where to begin and how many at most, as they are echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) limit: usize,
    pub(super) offset: usize,
}

impl Window {
    /// What the query string means: nonsense is the default, and more than 100 is 100.
    pub(super) fn of(limit: Option<&str>, offset: Option<&str>) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<usize>().ok());
        Self {
            limit: number(limit).filter(|&limit| limit > 0).unwrap_or(30).min(100),
            offset: number(offset).unwrap_or(0),
        }
    }

    /// The part of a list that is on the page.
    fn slice<'a, T>(&self, rows: &'a [T]) -> &'a [T] {
        let start = self.offset.min(rows.len());
        &rows[start..(start + self.limit).min(rows.len())]
    }
}

/// Renders a page. `shift` is added to the total: the fault of a listing that changes while it is read.
pub(super) fn render(history: &History, query: &Query, path: &str, window: Window, shift: usize) -> String {
    let mut rows = Json::with_capacity(48 * 1024);
    let page = Page { history, query, window };
    let (total, table) = page.write(&mut rows);
    let mut json = Json::with_capacity(64 * 1024);
    json.open('{').key("MRData").open('{').value("xmlns", "").value("series", "f1").value("simulated", "true");
    json.text("url", &format!("{HOST}{}", path.to_lowercase()));
    json.value("limit", window.limit).value("offset", window.offset).value("total", total + shift);
    let mut text = json.into_text();
    text.push_str(",\"");
    text.push_str(table);
    text.push_str("\":");
    text.push_str(&rows.into_text());
    text.push_str("}}");
    text
}

struct Page<'a> {
    history: &'a History,
    query: &'a Query,
    window: Window,
}

impl Page<'_> {
    /// Writes the table, and answers its rows in all and its name.
    fn write(&self, json: &mut Json) -> (usize, &'static str) {
        match self.query.endpoint {
            Endpoint::Seasons => (self.seasons(json), "SeasonTable"),
            Endpoint::Circuits => (self.circuits(json), "CircuitTable"),
            Endpoint::Status => (self.statuses(json), "StatusTable"),
            Endpoint::Constructors => (self.constructors(json), "ConstructorTable"),
            Endpoint::Drivers => (self.drivers(json), "DriverTable"),
            Endpoint::Races => (self.races(json), "RaceTable"),
            Endpoint::Results => (
                self.by_race(
                    json,
                    "Results",
                    |weekend| &weekend.results,
                    |page, json, row, year| page.result(json, row, year),
                ),
                "RaceTable",
            ),
            Endpoint::Sprint => (
                self.by_race(
                    json,
                    "SprintResults",
                    |weekend| &weekend.sprint,
                    |page, json, row, year| page.result(json, row, year),
                ),
                "RaceTable",
            ),
            Endpoint::Qualifying => (
                self.by_race(
                    json,
                    "QualifyingResults",
                    |weekend| &weekend.qualifying,
                    |page, json, row, year| page.qualifying(json, row, year),
                ),
                "RaceTable",
            ),
            Endpoint::PitStops => (
                self.by_race(
                    json,
                    "PitStops",
                    |weekend| &weekend.pit_stops,
                    |page, json, row, _| page.pit_stop(json, row),
                ),
                "RaceTable",
            ),
            Endpoint::Laps => (self.laps(json), "RaceTable"),
            Endpoint::DriverStandings => (self.standings(json, Championship::Drivers), "StandingsTable"),
            Endpoint::ConstructorStandings => (self.standings(json, Championship::Constructors), "StandingsTable"),
        }
    }

    /// Opens the table and echoes what was asked for.
    fn criteria(&self, json: &mut Json) {
        json.open('{');
        if let Some(season) = self.query.season {
            json.value("season", season);
        }
        if let Some(round) = self.query.round {
            json.value("round", round);
        }
        if let Some(id) = &self.query.id {
            let name = match self.query.endpoint {
                Endpoint::Circuits => "circuitId",
                Endpoint::Constructors => "constructorId",
                _ => "driverId",
            };
            json.text(name, id);
        }
    }

    fn years(&self) -> Vec<u16> {
        self.history.years().filter(|year| self.query.season.is_none_or(|season| season == *year)).collect()
    }

    /// The rounds that were asked for, in order.
    fn rounds(&self) -> Vec<(u16, &Round)> {
        self.years()
            .into_iter()
            .filter_map(|year| Some((year, self.history.plan(year)?)))
            .flat_map(|(year, plan)| plan.rounds.iter().map(move |round| (year, round)))
            .filter(|(_, round)| self.query.round.is_none_or(|number| number == round.number))
            .collect()
    }

    /// All results of the rounds that were asked for.
    fn results(&self) -> impl Iterator<Item = &ResultRow> {
        self.rounds()
            .into_iter()
            .filter_map(|(year, round)| self.history.weekend(year, round.number))
            .flat_map(|weekend| &weekend.results)
    }

    /// Writes a plain list of things.
    fn list<T>(&self, json: &mut Json, name: &str, rows: &[T], write: impl Fn(&mut Json, &T)) -> usize {
        self.criteria(json);
        json.key(name).open('[');
        for row in self.window.slice(rows) {
            write(json, row);
        }
        json.close(']').close('}');
        rows.len()
    }

    fn seasons(&self, json: &mut Json) -> usize {
        let years: Vec<u16> = match self.query.round {
            None => self.years(),
            Some(_) => self.rounds().into_iter().map(|(year, _)| year).collect(),
        };
        self.list(json, "Seasons", &years, |json, year| {
            json.open('{').value("season", year).text("url", &format!("{HOST}/seasons/{year}")).close('}');
        })
    }

    fn circuits(&self, json: &mut Json) -> usize {
        let circuits = &self.history.world.circuits;
        let mut used: Vec<&Circuit> = self.rounds().into_iter().map(|(_, round)| &circuits[round.circuit]).collect();
        used.retain(|circuit| self.query.id.as_ref().is_none_or(|id| *id == circuit.id));
        used.sort_by(|a, b| a.id.cmp(&b.id));
        used.dedup_by(|a, b| a.id == b.id);
        self.list(json, "Circuits", &used, |json, circuit| {
            json.open('{');
            write_circuit(json, circuit);
            json.close('}');
        })
    }

    fn constructors(&self, json: &mut Json) -> usize {
        let all = &self.history.world.constructors;
        let mut used: Vec<&Constructor> = self.results().map(|row| &all[row.constructor]).collect();
        used.retain(|constructor| self.query.id.as_ref().is_none_or(|id| *id == constructor.id));
        used.sort_by(|a, b| a.id.cmp(&b.id));
        used.dedup_by(|a, b| a.id == b.id);
        self.list(json, "Constructors", &used, |json, constructor| write_constructor(json, constructor))
    }

    fn drivers(&self, json: &mut Json) -> usize {
        let all = &self.history.world.drivers;
        let mut used: Vec<&Driver> = self.results().map(|row| &all[row.driver]).collect();
        used.retain(|driver| self.query.id.as_ref().is_none_or(|id| *id == driver.id));
        // By surname, and by id so that pages do not change.
        used.sort_by(|a, b| (&a.family, &a.id).cmp(&(&b.family, &b.id)));
        used.dedup_by(|a, b| a.id == b.id);
        self.list(json, "Drivers", &used, |json, driver| write_driver(json, driver))
    }

    fn statuses(&self, json: &mut Json) -> usize {
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for row in self.results() {
            *counts.entry(row.status).or_default() += 1;
        }
        let mut rows: Vec<(u8, usize)> = counts.into_iter().collect();
        rows.sort_by_key(|&(status, count)| (std::cmp::Reverse(count), rules::STATUSES[usize::from(status)]));
        self.list(json, "Status", &rows, |json, (status, count)| {
            let name = rules::STATUSES[usize::from(*status)];
            json.open('{').value("statusId", status + 1).value("count", count).text("status", name).close('}');
        })
    }

    fn races(&self, json: &mut Json) -> usize {
        self.list(json, "Races", &self.rounds(), |json, (year, round)| {
            json.open('{');
            self.race(json, *year, round);
            for (name, date, time) in &round.sessions {
                json.key(name).open('{').value("date", date);
                if let Some(time) = time {
                    json.value("time", time.format("%H:%M:%SZ"));
                }
                json.close('}');
            }
            json.close('}');
        })
    }

    /// Writes the head of a race, open for what follows.
    fn race(&self, json: &mut Json, year: u16, round: &Round) {
        json.value("season", year).value("round", round.number);
        json.text("url", &format!("{HOST}/races/{year}/{}", round.number)).text("raceName", &round.name);
        json.key("Circuit").open('{');
        write_circuit(json, &self.history.world.circuits[round.circuit]);
        json.close('}').value("date", round.date);
        if let Some(time) = round.time {
            json.value("time", time.format("%H:%M:%SZ"));
        }
    }

    /// Writes rows that belong to races; a race is cut where the page is.
    fn by_race<T: 'static>(
        &self,
        json: &mut Json,
        name: &str,
        rows: impl Fn(&Weekend) -> &Vec<T>,
        write: impl Fn(&Self, &mut Json, &T, u16),
    ) -> usize {
        self.criteria(json);
        json.key("Races").open('[');
        let (mut total, end) = (0, self.window.offset + self.window.limit);
        for (year, round) in self.rounds() {
            let Some(weekend) = self.history.weekend(year, round.number) else { continue };
            let rows = rows(weekend);
            let (first, last) = (total, total + rows.len());
            total = last;
            let from = self.window.offset.max(first);
            let to = end.min(last);
            if from >= to {
                continue;
            }
            json.open('{');
            self.race(json, year, round);
            json.key(name).open('[');
            for row in &rows[from - first..to - first] {
                write(self, json, row, year);
            }
            json.close(']').close('}');
        }
        json.close(']').close('}');
        total
    }

    fn laps(&self, json: &mut Json) -> usize {
        self.criteria(json);
        json.key("Races").open('[');
        let mut total = 0;
        for (year, round) in self.rounds() {
            let timings = self.history.laps(year, round.number);
            total = timings.len();
            let page = self.window.slice(&timings);
            if page.is_empty() {
                continue;
            }
            json.open('{');
            self.race(json, year, round);
            json.key("Laps").open('[');
            // A lap is cut where the page is, and comes back on the next with the rest of its timings.
            for lap in page.chunk_by(|a, b| a.lap == b.lap) {
                json.open('{').value("number", lap[0].lap).key("Timings").open('[');
                for timing in lap {
                    self.timing(json, timing);
                }
                json.close(']').close('}');
            }
            json.close(']').close('}');
        }
        json.close(']').close('}');
        total
    }

    fn timing(&self, json: &mut Json, timing: &Timing) {
        json.open('{').value("driverId", &self.history.world.drivers[timing.driver].id);
        json.value("time", lap_text(timing.millis)).value("position", timing.position).close('}');
    }

    fn result(&self, json: &mut Json, row: &ResultRow, _: u16) {
        json.open('{');
        number(json, row.number);
        let place = match row.place {
            PlaceText::Number => row.position.to_string(),
            PlaceText::Retired => "R".to_owned(),
            PlaceText::Disqualified => "D".to_owned(),
            PlaceText::Withdrew => "W".to_owned(),
        };
        json.value("position", row.position).value("positionText", place).value("points", points(row.points));
        self.driver_and_constructor(json, row.driver, row.constructor);
        json.value("grid", row.grid).value("laps", row.laps).text("status", rules::STATUSES[usize::from(row.status)]);
        if let Some((millis, text)) = &row.time {
            json.key("Time").open('{').value("millis", millis).value("time", text).close('}');
        }
        if let Some(fastest) = &row.fastest {
            write_fastest_lap(json, fastest);
        }
        json.close('}');
    }

    fn qualifying(&self, json: &mut Json, row: &QualifyingRow, _: u16) {
        json.open('{');
        number(json, row.number);
        json.value("position", row.position);
        self.driver_and_constructor(json, row.driver, row.constructor);
        for (name, time) in ["Q1", "Q2", "Q3"].into_iter().zip(&row.times) {
            if let Some(time) = time {
                json.value(name, time);
            }
        }
        json.close('}');
    }

    fn pit_stop(&self, json: &mut Json, row: &PitStop) {
        json.open('{').value("driverId", &self.history.world.drivers[row.driver].id);
        match row.lap {
            Some(lap) => json.value("lap", lap),
            None => json.null("lap"),
        };
        json.value("stop", row.stop).value("time", &row.time).value("duration", &row.duration).close('}');
    }

    fn driver_and_constructor(&self, json: &mut Json, driver: usize, constructor: usize) {
        json.key("Driver");
        write_driver(json, &self.history.world.drivers[driver]);
        json.key("Constructor");
        write_constructor(json, &self.history.world.constructors[constructor]);
    }

    fn standings(&self, json: &mut Json, championship: Championship) -> usize {
        let world = &self.history.world;
        let season = self.query.season.unwrap_or(0);
        let last = self.history.plan(season).map(|plan| plan.rounds.len());
        let round = match self.query.round {
            Some(round) => Some(round).filter(|&round| self.history.round(season, round).is_some()),
            None => last.and_then(|round| u8::try_from(round).ok()),
        };
        let rows = round.map(|round| self.history.standings(championship, season, round)).unwrap_or_default();
        json.open('{').value("season", season);
        match self.query.round.or(round.filter(|_| !rows.is_empty())) {
            Some(round) => json.value("round", round),
            None => json.null("round"),
        };
        json.key("StandingsLists").open('[');
        let page = self.window.slice(&rows);
        if let (Some(round), false) = (round, page.is_empty()) {
            let name = match championship {
                Championship::Drivers => "DriverStandings",
                Championship::Constructors => "ConstructorStandings",
            };
            json.open('{').value("season", season).value("round", round).key(name).open('[');
            for row in page {
                write_standing(json, row);
                match championship {
                    Championship::Drivers => {
                        json.key("Driver");
                        write_driver(json, &world.drivers[row.who]);
                        json.key("Constructors").open('[');
                        for &constructor in &row.constructors {
                            write_constructor(json, &world.constructors[constructor]);
                        }
                        json.close(']');
                    }
                    Championship::Constructors => {
                        json.key("Constructor");
                        write_constructor(json, &world.constructors[row.who]);
                    }
                }
                json.close('}');
            }
            json.close(']').close('}');
        }
        json.close(']').close('}');
        rows.len()
    }
}

fn write_standing(json: &mut Json, row: &Standing) {
    json.open('{');
    if let Some(position) = row.position {
        json.value("position", position);
    }
    json.value("positionText", &row.position_text).value("points", points(row.points)).value("wins", row.wins);
}

/// Leaves the object open to its caller's closing.
fn write_circuit(json: &mut Json, circuit: &Circuit) {
    json.text("circuitId", &circuit.id).text("url", &format!("{HOST}/circuits/{}", circuit.id));
    json.text("circuitName", &circuit.name).key("Location").open('{');
    json.value("lat", format_args!("{:.4}", circuit.latitude)).value("long", format_args!("{:.4}", circuit.longitude));
    json.text("locality", &circuit.locality).text("country", circuit.country).close('}');
}

fn write_constructor(json: &mut Json, constructor: &Constructor) {
    json.open('{').text("constructorId", &constructor.id);
    if constructor.has_url {
        json.text("url", &format!("{HOST}/constructors/{}", constructor.id));
    }
    json.text("name", &constructor.name).text("nationality", constructor.nationality).close('}');
}

fn write_driver(json: &mut Json, driver: &Driver) {
    json.open('{').text("driverId", &driver.id);
    if let Some(number) = driver.number {
        json.value("permanentNumber", number);
    }
    if let Some(code) = &driver.code {
        json.text("code", code);
    }
    if driver.has_url {
        json.text("url", &format!("{HOST}/drivers/{}", driver.id));
    }
    json.text("givenName", &driver.given).text("familyName", &driver.family);
    json.value("dateOfBirth", driver.born).text("nationality", driver.nationality).close('}');
}

fn write_fastest_lap(json: &mut Json, fastest: &FastestLap) {
    json.key("FastestLap").open('{');
    if let Some(rank) = fastest.rank {
        json.value("rank", rank);
    }
    json.value("lap", fastest.lap).key("Time").open('{').value("time", lap_text(fastest.millis)).close('}');
    if let Some(speed) = fastest.speed {
        let (whole, rest) = (speed / 1000, speed % 1000);
        // Seven characters, whatever the number.
        let text = if whole < 100 { format!("{whole}.{rest:03}0") } else { format!("{whole}.{rest:03}") };
        json.key("AverageSpeed").open('{').value("units", "kph").value("speed", text).close('}');
    }
    json.close('}');
}

fn number(json: &mut Json, number: Option<u16>) {
    match number {
        Some(number) => json.value("number", number),
        // Upstream writes the name of its language's null.
        None => json.value("number", "None"),
    };
}

/// Hundredths as the API writes points: `25`, `12.5`, `8.14`.
fn points(points: Points) -> String {
    let (whole, rest) = (points / 100, points % 100);
    match rest {
        0 => whole.to_string(),
        rest if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        rest => format!("{whole}.{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;
    use crate::simulate::{SimulationOptions, route};

    fn get(history: &History, endpoint: &str, limit: usize, offset: usize) -> Value {
        let path = format!("{}/{endpoint}.json", route::BASE);
        let query = route::parse(&path, history).unwrap();
        let text = render(history, &query, &path, Window { limit, offset }, 0);
        let value: Value = serde_json::from_str(&text).unwrap();
        value["MRData"].clone()
    }

    /// All rows of a listing in order, each with what is around it, so that rows of different races differ.
    fn rows(history: &History, endpoint: &str, limit: usize) -> Vec<String> {
        let mut rows = Vec::new();
        let mut offset = 0;
        loop {
            let page = get(history, endpoint, limit, offset);
            let before = rows.len();
            collect(&page, String::new(), &mut rows);
            assert!(rows.len() - before <= limit);
            offset += limit;
            let total: usize = page["total"].as_str().unwrap().parse().unwrap();
            if offset >= total {
                assert_eq!(rows.len(), total, "{endpoint} by {limit}");
                return rows;
            }
            assert_eq!(rows.len() - before, limit, "{endpoint} by {limit} at {offset}");
        }
    }

    fn collect(page: &Value, around: String, rows: &mut Vec<String>) {
        const LISTS: [&str; 6] = ["Races", "Laps", "StandingsLists", "SeasonTable", "StandingsTable", "RaceTable"];
        let table = page.as_object().unwrap().iter().find(|(key, _)| key.ends_with("Table"));
        let object = table.map_or(page, |(_, table)| table).as_object().unwrap();
        let (name, list) = object
            .iter()
            .find(|(name, value)| value.is_array() && *name != "Constructors")
            .or_else(|| object.iter().find(|(_, value)| value.is_array()))
            .unwrap();
        for row in list.as_array().unwrap() {
            let nested = row.as_object().unwrap().values().any(Value::is_array) && LISTS.contains(&name.as_str());
            if nested {
                let head: Vec<_> = row.as_object().unwrap().iter().filter(|(_, value)| !value.is_array()).collect();
                collect(row, format!("{around}{head:?}"), rows);
            } else {
                rows.push(format!("{around}{row}"));
            }
        }
    }

    /// Whatever the page size, a listing has the same rows, none twice.
    #[test]
    fn paging_changes_nothing() {
        let history = History::new(&SimulationOptions { seasons: 2021..=2023, ..SimulationOptions::default() });
        for endpoint in [
            "seasons",
            "circuits",
            "status",
            "constructors",
            "drivers",
            "races",
            "results",
            "qualifying",
            "sprint",
            "2022/results",
            "2022/5/results",
            "2022/driverstandings",
            "2022/7/constructorstandings",
            "2022/3/pitstops",
            "2022/3/laps",
            "2022/99/laps",
            "1900/results",
        ] {
            let whole = rows(&history, endpoint, 100);
            assert_eq!(whole.iter().collect::<HashSet<_>>().len(), whole.len(), "{endpoint}");
            for limit in [1, 7, 30, 99] {
                if limit == 1 && whole.len() > 400 {
                    continue;
                }
                assert_eq!(rows(&history, endpoint, limit), whole, "{endpoint} by {limit}");
            }
        }
    }

    #[test]
    fn windows_are_read_as_the_api_reads_them() {
        for (limit, offset, wanted) in [
            (None, None, (30, 0)),
            (Some("100"), Some("200"), (100, 200)),
            (Some("1000"), Some("-1"), (100, 0)),
            (Some("0"), Some("x"), (30, 0)),
            (Some("-5"), Some(""), (30, 0)),
            (Some("ten"), None, (30, 0)),
        ] {
            let window = Window::of(limit, offset);
            assert_eq!((window.limit, window.offset), wanted);
        }
    }

    #[test]
    fn past_the_end_the_total_is_still_right() {
        let history = History::new(&SimulationOptions { seasons: 2021..=2021, ..SimulationOptions::default() });
        let page = get(&history, "2021/results", 100, 99_999);
        assert_eq!(page["total"], "440");
        assert_eq!(page["RaceTable"]["Races"], Value::Array(Vec::new()));
        assert_eq!((&page["limit"], &page["offset"]), (&Value::from("100"), &Value::from("99999")));
        let page = get(&history, "1951/constructorstandings", 100, 0);
        assert_eq!(page["StandingsTable"]["round"], Value::Null);
    }

    #[test]
    fn points_are_written_as_the_api_writes_them() {
        for (value, text) in [(2500, "25"), (1250, "12.5"), (814, "8.14"), (133, "1.33"), (0, "0"), (205, "2.05")] {
            assert_eq!(points(value), text);
        }
    }
}
