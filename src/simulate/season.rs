//! A season as it went: every weekend, and the standings after each, which are the sums of the weekends' points. In: the
//! world and a year; out: rows. A season is made when it is first asked for and kept.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{
    SimulationOptions,
    race::{self, Conditions, PlaceText, Timing, Weekend},
    random::Random,
    rules::{self, Points},
    world::{Round, SeasonPlan, World},
};

/// Races whose laps are kept: a reader asks for the pages of one after another, several at once.
const KEPT_RACES: usize = 32;

/// A season that was raced.
#[derive(Debug)]
pub(super) struct Season {
    pub(super) weekends: Vec<Weekend>,
}

/// A row of the standings of drivers or of constructors.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// A driver or a constructor.
    pub(super) who: usize,
    pub(super) position: Option<u16>,
    pub(super) position_text: String,
    pub(super) points: Points,
    pub(super) wins: u16,
    /// A driver's constructors of the season, in the order that they came.
    pub(super) constructors: Vec<usize>,
}

/// Whose standings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Championship {
    Drivers,
    Constructors,
}

/// The laps of a season's round.
type RaceLaps = ((u16, u8), Arc<Vec<Timing>>);

/// All seasons.
#[derive(Debug)]
pub(super) struct History {
    pub(super) world: World,
    pub(super) first: u16,
    pub(super) last: u16,
    seed: u64,
    lap_scale: f64,
    seasons: Vec<OnceLock<Season>>,
    laps: Mutex<Vec<RaceLaps>>,
}

impl History {
    pub(super) fn new(options: &SimulationOptions) -> Self {
        let first = (*options.seasons.start()).clamp(rules::FIRST_SEASON, rules::LAST_SEASON);
        let last = (*options.seasons.end()).clamp(first, rules::LAST_SEASON);
        Self {
            world: World::make(options.seed, last),
            first,
            last,
            seed: options.seed,
            lap_scale: options.lap_scale,
            seasons: (first..=last).map(|_| OnceLock::new()).collect(),
            laps: Mutex::default(),
        }
    }

    /// The years that are shown.
    pub(super) fn years(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.last
    }

    /// The plan of a season that is shown.
    pub(super) fn plan(&self, year: u16) -> Option<&SeasonPlan> {
        (self.first..=self.last).contains(&year).then(|| self.world.season(year)).flatten()
    }

    pub(super) fn round(&self, year: u16, round: u8) -> Option<&Round> {
        self.plan(year)?.rounds.get(usize::from(round.checked_sub(1)?))
    }

    /// A season that is shown.
    pub(super) fn season(&self, year: u16) -> Option<&Season> {
        let plan = self.plan(year)?;
        let season = self.seasons.get(usize::from(year - self.first))?;
        Some(season.get_or_init(|| {
            let weekend = |round| race::weekend(&self.world, round, self.conditions(year));
            Season { weekends: plan.rounds.iter().map(weekend).collect() }
        }))
    }

    pub(super) fn weekend(&self, year: u16, round: u8) -> Option<&Weekend> {
        self.season(year)?.weekends.get(usize::from(round.checked_sub(1)?))
    }

    /// The laps of a race, by lap and position.
    pub(super) fn laps(&self, year: u16, round: u8) -> Arc<Vec<Timing>> {
        let key = (year, round);
        let Some(plan) = self.round(year, round) else { return Arc::default() };
        {
            let mut laps = self.laps.lock();
            if let Some(index) = laps.iter().position(|(kept, _)| *kept == key) {
                let found = laps.remove(index);
                let timings = Arc::clone(&found.1);
                laps.push(found);
                return timings;
            }
        }
        let timings = Arc::new(race::timings(&self.world, plan, self.conditions(year)));
        let mut laps = self.laps.lock();
        if laps.len() >= KEPT_RACES {
            laps.remove(0);
        }
        laps.push((key, Arc::clone(&timings)));
        timings
    }

    fn conditions(&self, year: u16) -> Conditions {
        Conditions { seed: self.seed, year, lap_scale: self.lap_scale }
    }

    /// The standings after a round; empty where there are none.
    pub(super) fn standings(&self, championship: Championship, year: u16, round: u8) -> Vec<Standing> {
        let Some(season) = self.season(year) else { return Vec::new() };
        if championship == Championship::Constructors && !rules::has_constructor_standings(year) {
            return Vec::new();
        }
        let mut tallies: Vec<Tally> = Vec::new();
        let mut known: HashMap<usize, usize> = HashMap::new();
        for weekend in season.weekends.iter().take(usize::from(round)) {
            let rows = weekend.results.iter().map(|row| (row, true));
            for (row, is_race) in rows.chain(weekend.sprint.iter().map(|row| (row, false))) {
                let who = match championship {
                    Championship::Drivers => row.driver,
                    Championship::Constructors => row.constructor,
                };
                let index = *known.entry(who).or_insert_with(|| {
                    tallies.push(Tally { who, ..Tally::default() });
                    tallies.len() - 1
                });
                let tally = &mut tallies[index];
                tally.points += row.points;
                if !tally.constructors.contains(&row.constructor) {
                    tally.constructors.push(row.constructor);
                }
                if is_race && row.place == PlaceText::Number {
                    *tally.places.entry(row.position).or_default() += 1;
                }
            }
        }
        let excluded = self.excluded(championship, year);
        rank(tallies, excluded)
    }

    /// The place in the standings whose holder was struck from them, in the one season where that happened.
    fn excluded(&self, championship: Championship, year: u16) -> Option<(usize, &'static str)> {
        let (path, text) = match championship {
            Championship::Drivers => (20, "D"),
            Championship::Constructors => (21, "E"),
        };
        let mut random = Random::of(self.seed, &[path]);
        (random.between(1990, 2010) == i64::from(year)).then_some((1, text))
    }
}

/// What counts in the standings.
#[derive(Debug, Default)]
struct Tally {
    who: usize,
    points: Points,
    /// How often each place was reached.
    places: BTreeMap<u16, u16>,
    constructors: Vec<usize>,
}

impl Tally {
    /// More points first; then more wins, more second places, and so on.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        other.points.cmp(&self.points).then_with(|| {
            let mut places: Vec<u16> = self.places.keys().chain(other.places.keys()).copied().collect();
            places.sort_unstable();
            let count = |tally: &Self, place| tally.places.get(&place).copied().unwrap_or(0);
            places
                .into_iter()
                .map(|place| count(other, place).cmp(&count(self, place)))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        })
    }
}

fn rank(mut tallies: Vec<Tally>, excluded: Option<(usize, &'static str)>) -> Vec<Standing> {
    // A stable sort: equal ones stay in the order in which they first came.
    tallies.sort_by(Tally::compare);
    let struck =
        excluded.filter(|&(index, _)| index < tallies.len()).map(|(index, text)| (tallies.remove(index), text));
    // Who never reached a place is not ranked, and comes last.
    let (ranked, unranked): (Vec<_>, Vec<_>) = tallies.into_iter().partition(|tally| !tally.places.is_empty());
    let mut standings = Vec::with_capacity(ranked.len() + unranked.len() + 1);
    let mut position = 0;
    for (index, tally) in ranked.iter().enumerate() {
        if index == 0 || tally.compare(&ranked[index - 1]).is_ne() {
            position = u16::try_from(index + 1).unwrap_or(u16::MAX);
        }
        standings.push(standing(tally, Some(position), position.to_string()));
    }
    standings.extend(struck.iter().map(|(tally, text)| standing(tally, None, (*text).to_owned())));
    standings.extend(unranked.iter().map(|tally| standing(tally, None, "-".to_owned())));
    standings
}

fn standing(tally: &Tally, position: Option<u16>, position_text: String) -> Standing {
    Standing {
        who: tally.who,
        position,
        position_text,
        points: tally.points,
        wins: tally.places.get(&1).copied().unwrap_or(0),
        constructors: tally.constructors.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every season's final standings are the sums of its results and sprints, for drivers and constructors.
    #[test]
    fn standings_add_up() {
        let history = History::new(&SimulationOptions::default());
        for year in history.years() {
            let season = history.season(year).unwrap();
            let mut drivers: HashMap<usize, (Points, u16)> = HashMap::new();
            let mut constructors: HashMap<usize, Points> = HashMap::new();
            for weekend in &season.weekends {
                for row in weekend.results.iter().chain(&weekend.sprint) {
                    drivers.entry(row.driver).or_default().0 += row.points;
                    *constructors.entry(row.constructor).or_default() += row.points;
                }
                for row in weekend.results.iter().filter(|row| row.position == 1 && row.place == PlaceText::Number) {
                    drivers.entry(row.driver).or_default().1 += 1;
                }
            }
            let round = rules::rounds(year);
            let standings = history.standings(Championship::Drivers, year, round);
            assert_eq!(standings.len(), drivers.len());
            for standing in &standings {
                assert_eq!((standing.points, standing.wins), drivers[&standing.who], "{year}");
                assert!((1..=8).contains(&standing.constructors.len()));
            }
            let ranked: Vec<_> = standings.iter().filter(|standing| standing.position.is_some()).collect();
            assert!(ranked.windows(2).all(|pair| pair[0].points >= pair[1].points));
            let standings = history.standings(Championship::Constructors, year, round);
            assert_eq!(standings.is_empty(), year < 1958);
            for standing in &standings {
                assert_eq!(standing.points, constructors[&standing.who], "{year}");
            }
        }
    }

    /// The quirks that readers must survive are all there.
    #[test]
    fn history_has_its_quirks() {
        let history = History::new(&SimulationOptions::default());
        let mut shared = 0;
        let mut fractions = 0;
        let mut empty_times = 0;
        let mut unknown_numbers = 0;
        let mut long_lists = 0;
        let mut struck = 0;
        let mut rows = 0;
        for year in history.years() {
            for weekend in &history.season(year).unwrap().weekends {
                rows += weekend.results.len();
                for row in &weekend.results {
                    shared +=
                        usize::from(weekend.results.iter().filter(|other| other.driver == row.driver).count() > 1);
                    fractions += usize::from(row.points % 100 != 0);
                    empty_times += usize::from(row.time.as_ref().is_some_and(|(_, text)| text.is_empty()));
                    unknown_numbers += usize::from(row.number.is_none());
                }
            }
            let standings = history.standings(Championship::Drivers, year, rules::rounds(year));
            long_lists += usize::from(standings.len() > 70);
            struck += standings.iter().filter(|standing| standing.position_text == "D").count();
        }
        assert!((25_000..29_000).contains(&rows), "{rows}");
        assert!(
            shared > 5 && fractions > 5 && empty_times > 3 && unknown_numbers > 1 && struck == 1 && long_lists > 3,
            "{shared} {fractions} {empty_times} {unknown_numbers} {struck} {long_lists}"
        );
    }
}
