//! What a URL asks for, and the API's answer to what it does not understand. Pure. In: a path; out: a [`Query`] or an
//! error's status and body. Of the path filters only season and round are known, and a thing's own id; the others are
//! answered as unsupported.

use super::season::History;

/// The path of the API on its host.
pub(super) const BASE: &str = "/ergast/f1";

/// The listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Seasons,
    Circuits,
    Status,
    Constructors,
    Drivers,
    Races,
    Results,
    Qualifying,
    Sprint,
    PitStops,
    Laps,
    DriverStandings,
    ConstructorStandings,
}

/// A listing, of everything or of a season or round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) endpoint: Endpoint,
    pub(super) season: Option<u16>,
    pub(super) round: Option<u8>,
    /// Of the endpoint's own things.
    pub(super) id: Option<String>,
}

/// What is not a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 301 to the path with a slash.
    Slash,
    /// The framework's page, in HTML.
    NotFoundPage,
    /// JSON with a `detail`.
    Detail(u16, &'static str),
}

const UNSUPPORTED: Refusal = Refusal::Detail(400, "Bad Request: Unsupported filter for endpoint.");

/// Reads a path.
pub(super) fn parse(path: &str, history: &History) -> Result<Query, Refusal> {
    let Some(rest) = path.strip_prefix(BASE) else { return Err(Refusal::NotFoundPage) };
    if !rest.is_empty() && !rest.starts_with(['/', '.']) {
        return Err(Refusal::NotFoundPage);
    }
    let rest = match (rest.trim_end_matches('/').strip_suffix(".json"), rest) {
        (Some(rest), _) => rest,
        (None, rest) if rest.ends_with(".xml") => return Err(Refusal::Detail(404, "Not found.")),
        (None, rest) => rest.strip_suffix('/').ok_or(Refusal::Slash)?,
    };
    let mut parts = rest.split('/').filter(|part| !part.is_empty()).peekable();
    let (mut season, mut round) = (None, None);
    if let Some(part) = parts.next_if(|part| *part == "current" || is_number(part)) {
        season = Some(match part {
            "current" => history.last,
            _ if part.len() == 4 => part.parse().map_err(|_| Refusal::NotFoundPage)?,
            _ => return Err(Refusal::NotFoundPage),
        });
        if let Some(part) = parts.next_if(|part| matches!(*part, "last" | "next") || is_number(part)) {
            round = Some(match part {
                "last" => last_round(history, season).ok_or(Refusal::Detail(404, "Race round not found"))?,
                "next" => {
                    // All seasons here are over: what comes next is the first race of the one after.
                    season = season.map(|season| season + 1);
                    1
                }
                _ if part.len() <= 2 => part.parse().map_err(|_| Refusal::NotFoundPage)?,
                _ => return Err(Refusal::NotFoundPage),
            });
        }
    }
    let endpoint = match parts.next() {
        None => Endpoint::Races,
        Some(name) => endpoint(name).ok_or(UNSUPPORTED)?,
    };
    let id = parts.next().map(str::to_owned);
    let takes_id = matches!(endpoint, Endpoint::Circuits | Endpoint::Constructors | Endpoint::Drivers);
    if parts.next().is_some() || (id.is_some() && !takes_id) {
        return Err(UNSUPPORTED);
    }
    let missing = match endpoint {
        Endpoint::Laps | Endpoint::PitStops if round.is_none() => {
            Some("Bad Request: Missing one of the required parameters ['season_year', 'race_round'].")
        }
        Endpoint::DriverStandings | Endpoint::ConstructorStandings if season.is_none() => {
            Some("Bad Request: Missing one of the required parameters ['season_year'].")
        }
        _ => None,
    };
    match missing {
        Some(detail) => Err(Refusal::Detail(400, detail)),
        None => Ok(Query { endpoint, season, round, id }),
    }
}

fn endpoint(name: &str) -> Option<Endpoint> {
    Some(match name {
        "seasons" => Endpoint::Seasons,
        "circuits" => Endpoint::Circuits,
        "status" => Endpoint::Status,
        "constructors" => Endpoint::Constructors,
        "drivers" => Endpoint::Drivers,
        "races" => Endpoint::Races,
        "results" => Endpoint::Results,
        "qualifying" => Endpoint::Qualifying,
        "sprint" => Endpoint::Sprint,
        "pitstops" => Endpoint::PitStops,
        "laps" => Endpoint::Laps,
        "driverstandings" | "driverStandings" => Endpoint::DriverStandings,
        "constructorstandings" | "constructorStandings" => Endpoint::ConstructorStandings,
        _ => return None,
    })
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit())
}

fn last_round(history: &History, season: Option<u16>) -> Option<u8> {
    history.plan(season?)?.rounds.last().map(|round| round.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::SimulationOptions;

    #[test]
    fn paths_are_read_as_the_api_reads_them() {
        let history = History::new(&SimulationOptions { seasons: 2020..=2024, ..SimulationOptions::default() });
        let query = |endpoint, season, round| Ok(Query { endpoint, season, round, id: None });
        let missing = |detail| Err(Refusal::Detail(400, detail));
        for (path, wanted) in [
            ("/ergast/f1/seasons.json", query(Endpoint::Seasons, None, None)),
            ("/ergast/f1/seasons/", query(Endpoint::Seasons, None, None)),
            ("/ergast/f1/seasons.json/", query(Endpoint::Seasons, None, None)),
            ("/ergast/f1/seasons", Err(Refusal::Slash)),
            ("/ergast/f1/", query(Endpoint::Races, None, None)),
            ("/ergast/f1.json", query(Endpoint::Races, None, None)),
            ("/ergast/f1/2023.json", query(Endpoint::Races, Some(2023), None)),
            ("/ergast/f1/2023/1.json", query(Endpoint::Races, Some(2023), Some(1))),
            ("/ergast/f1/2023/01/results.json", query(Endpoint::Results, Some(2023), Some(1))),
            ("/ergast/f1/2023/last/results.json", query(Endpoint::Results, Some(2023), Some(22))),
            ("/ergast/f1/current/last/results.json", query(Endpoint::Results, Some(2024), Some(24))),
            ("/ergast/f1/current/next.json", query(Endpoint::Races, Some(2025), Some(1))),
            ("/ergast/f1/2023/driverStandings.json", query(Endpoint::DriverStandings, Some(2023), None)),
            ("/ergast/f1/1800/results.json", query(Endpoint::Results, Some(1800), None)),
            ("/ergast/f1/2023/0/results.json", query(Endpoint::Results, Some(2023), Some(0))),
            ("/ergast/f1/1800/last/results.json", Err(Refusal::Detail(404, "Race round not found"))),
            ("/ergast/f1/202/results.json", Err(Refusal::NotFoundPage)),
            ("/ergast/f1/2023/100/results.json", Err(Refusal::NotFoundPage)),
            ("/ergast/f1/2023/1/results.xml", Err(Refusal::Detail(404, "Not found."))),
            ("/ergast/f1/2023/1/RESULTS.json", Err(UNSUPPORTED)),
            ("/ergast/f1/nothing.json", Err(UNSUPPORTED)),
            ("/ergast/f1/drivers/x/results.json", Err(UNSUPPORTED)),
            ("/other", Err(Refusal::NotFoundPage)),
            ("/ergast/f12.json", Err(Refusal::NotFoundPage)),
            (
                "/ergast/f1/2023/laps.json",
                missing("Bad Request: Missing one of the required parameters ['season_year', 'race_round']."),
            ),
            (
                "/ergast/f1/driverstandings.json",
                missing("Bad Request: Missing one of the required parameters ['season_year']."),
            ),
        ] {
            assert_eq!(parse(path, &history), wanted, "{path}");
        }
    }
}
