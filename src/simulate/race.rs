//! How one weekend goes: lap by lap for every car, and from that results, fastest laps, pit stops, qualifying and sprint.
//! In: the world, a round, the seed; out: rows, always the same. Laps are made again when somebody asks for them, as they
//! are too many to keep.

use super::{
    random::Random,
    rules::{self, Points},
    world::{Entry, Round, World},
};

const RACE: u64 = 10;
const SPRINT: u64 = 11;
const QUALIFYING: u64 = 12;
const SHARED: u64 = 13;

/// How a car's place is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlaceText {
    Number,
    Retired,
    Disqualified,
    Withdrew,
}

/// A driver's fastest lap.
#[derive(Debug, Clone, Copy)]
pub(super) struct FastestLap {
    pub(super) rank: Option<u16>,
    pub(super) lap: u16,
    pub(super) millis: u64,
    /// In thousandths of km/h.
    pub(super) speed: Option<u64>,
}

/// A row of results or of a sprint.
#[derive(Debug, Clone)]
pub(super) struct ResultRow {
    pub(super) driver: usize,
    pub(super) constructor: usize,
    pub(super) number: Option<u16>,
    pub(super) position: u16,
    pub(super) place: PlaceText,
    pub(super) points: Points,
    pub(super) grid: u16,
    pub(super) laps: u16,
    pub(super) status: u8,
    /// Total time, and how the API shows it.
    pub(super) time: Option<(u64, String)>,
    pub(super) fastest: Option<FastestLap>,
}

/// A row of qualifying. A time may be missing, or there and empty.
#[derive(Debug, Clone)]
pub(super) struct QualifyingRow {
    pub(super) driver: usize,
    pub(super) constructor: usize,
    pub(super) number: Option<u16>,
    pub(super) position: u16,
    pub(super) times: [Option<String>; 3],
}

#[derive(Debug, Clone)]
pub(super) struct PitStop {
    pub(super) driver: usize,
    pub(super) lap: Option<u16>,
    pub(super) stop: u16,
    pub(super) time: String,
    pub(super) duration: String,
}

/// One driver's passage over the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) lap: u16,
    pub(super) position: u16,
    pub(super) driver: usize,
    pub(super) millis: u64,
}

/// All rows of a weekend but the laps.
#[derive(Debug, Clone, Default)]
pub(super) struct Weekend {
    pub(super) results: Vec<ResultRow>,
    pub(super) sprint: Vec<ResultRow>,
    pub(super) qualifying: Vec<QualifyingRow>,
    pub(super) pit_stops: Vec<PitStop>,
}

/// What a race is run with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub(super) seed: u64,
    pub(super) year: u16,
    /// Laps are this many times as many as they would be.
    pub(super) lap_scale: f64,
}

/// One car's race.
#[derive(Debug, Clone)]
struct Run {
    entry: Entry,
    grid: u16,
    /// Milliseconds of each lap that it completed.
    laps: Vec<u32>,
    total: u64,
    retired: Option<u8>,
    withdrew: bool,
    disqualified: bool,
    /// Lap and milliseconds of each stop.
    stops: Vec<(u16, u32)>,
}

/// Runs a weekend.
pub(super) fn weekend(world: &World, round: &Round, conditions: Conditions) -> Weekend {
    let year = conditions.year;
    let qualifying = qualify(world, round, conditions);
    let runs = run(world, round, conditions, &grid(&qualifying, round, conditions), RACE);
    let mut results = classify(world, round, conditions, &runs, false);
    share_drives(&mut results, round, conditions);
    award(&mut results, round, conditions, false);
    let sprint = if round.has_sprint {
        let runs = run(world, round, conditions, &grid(&qualifying, round, conditions), SPRINT);
        let mut rows = classify(world, round, conditions, &runs, true);
        award(&mut rows, round, conditions, true);
        rows
    } else {
        Vec::new()
    };
    Weekend {
        pit_stops: if rules::has_pit_stops(year) { pit_stops(&runs) } else { Vec::new() },
        qualifying: if rules::has_qualifying(year) { qualifying } else { Vec::new() },
        results,
        sprint,
    }
}

/// The laps of the race, in the API's order: by lap, then position.
pub(super) fn timings(world: &World, round: &Round, conditions: Conditions) -> Vec<Timing> {
    if !rules::has_laps(conditions.year) {
        return Vec::new();
    }
    let qualifying = qualify(world, round, conditions);
    let runs = run(world, round, conditions, &grid(&qualifying, round, conditions), RACE);
    let most = runs.iter().map(|run| run.laps.len()).max().unwrap_or(0);
    let mut timings = Vec::with_capacity(runs.iter().map(|run| run.laps.len()).sum());
    let mut elapsed = vec![0u64; runs.len()];
    let mut order: Vec<usize> = (0..runs.len()).collect();
    for lap in 0..most {
        order.retain(|&car| runs[car].laps.len() > lap);
        for &car in &order {
            elapsed[car] += u64::from(runs[car].laps[lap]);
        }
        // Nearly sorted from lap to lap, which this sort is quick at.
        order.sort_by_key(|&car| (elapsed[car], car));
        for (place, &car) in order.iter().enumerate() {
            timings.push(Timing {
                lap: u16::try_from(lap + 1).unwrap_or(u16::MAX),
                position: u16::try_from(place + 1).unwrap_or(u16::MAX),
                driver: runs[car].entry.driver,
                millis: u64::from(runs[car].laps[lap]),
            });
        }
    }
    timings
}

/// A lap of the strongest car, milliseconds.
fn base_lap(world: &World, round: &Round, year: u16) -> f64 {
    let circuit = &world.circuits[round.circuit];
    let kph = (150.0 + f64::from(year - rules::FIRST_SEASON) * 0.95).min(218.0) * circuit.pace;
    f64::from(circuit.metres) * 3600.0 / kph
}

fn lap_count(world: &World, round: &Round, conditions: Conditions, sprint: bool) -> usize {
    let distance = match conditions.year {
        _ if sprint => 100_000.0,
        ..=1957 => 420_000.0,
        _ => 305_000.0,
    };
    let laps =
        distance / f64::from(world.circuits[round.circuit].metres) * if sprint { 1.0 } else { conditions.lap_scale };
    (laps.ceil() as usize).clamp(5, 30_000)
}

/// All sessions of qualifying; also what the grid is made from where no times are recorded.
fn qualify(world: &World, round: &Round, conditions: Conditions) -> Vec<QualifyingRow> {
    let year = conditions.year;
    let mut random = Random::of(conditions.seed, &[QUALIFYING, u64::from(year), u64::from(round.number)]);
    let base = base_lap(world, round, year) * 0.985;
    let mut cars: Vec<(Entry, [u64; 3], u64)> = round
        .entries
        .iter()
        .map(|entry| {
            let pace = base * (1.0 + 0.03 * (1.0 - entry.strength));
            let mut times = [0; 3];
            for (session, time) in times.iter_mut().enumerate() {
                *time = (pace * (1.0 + 0.004 * random.bell() - 0.002 * session as f64)) as u64;
            }
            (*entry, times, 0)
        })
        .collect();
    let sessions = match year {
        ..=2004 => 1,
        2005 => 2,
        2006.. => 3,
    };
    // Who is left: all, then fifteen, then ten; each session orders the places that it decides.
    let mut left = cars.len();
    let cuts = if sessions == 3 { [left.saturating_sub(5).max(10), 10, 0] } else { [0; 3] };
    for session in 0..sessions {
        cars[..left].sort_by_key(|(entry, times, _)| (times[session], entry.driver));
        for car in &mut cars[..left] {
            car.2 = session as u64 + 1;
        }
        if sessions == 3 {
            left = cuts[session].min(left);
        }
    }
    let without_time = random.chance(0.15).then(|| cars.len().saturating_sub(1));
    let empty = random.chance(0.5);
    let shared_place = random.chance(0.04);
    cars.iter()
        .enumerate()
        .map(|(index, (entry, times, reached))| {
            let mut texts: [Option<String>; 3] = Default::default();
            for (session, text) in texts.iter_mut().enumerate() {
                if session < sessions && (session as u64) < *reached {
                    *text = Some(lap_text(times[session]));
                } else if session < sessions && empty {
                    // Some seasons hold "", others leave the field out; both mean no time.
                    *text = Some(String::new());
                }
            }
            if without_time == Some(index) {
                texts = [empty.then(String::new), None, None];
            }
            // Two drivers in one place happens upstream.
            let place = if shared_place && index == 15 { 15 } else { index + 1 };
            QualifyingRow {
                driver: entry.driver,
                constructor: entry.constructor,
                number: entry.number,
                position: u16::try_from(place).unwrap_or(u16::MAX),
                times: texts,
            }
        })
        .collect()
}

/// Entries with their place on the grid; 0 is the pit lane.
fn grid(qualifying: &[QualifyingRow], round: &Round, conditions: Conditions) -> Vec<(Entry, u16)> {
    let mut random = Random::of(conditions.seed, &[QUALIFYING, u64::from(conditions.year), u64::from(round.number), 1]);
    let mut order: Vec<usize> = (0..qualifying.len()).collect();
    for index in 0..order.len() {
        if random.chance(0.04) {
            // A penalty moves a car back.
            let to = (index + 5).min(order.len() - 1);
            order[index..=to].rotate_left(1);
        }
    }
    order
        .iter()
        .enumerate()
        .filter_map(|(place, &index)| {
            let entry = round.entries.iter().find(|entry| entry.driver == qualifying[index].driver)?;
            let place = if random.chance(0.01) { 0 } else { u16::try_from(place + 1).unwrap_or(0) };
            Some((*entry, place))
        })
        .collect()
}

fn run(world: &World, round: &Round, conditions: Conditions, grid: &[(Entry, u16)], kind: u64) -> Vec<Run> {
    let year = conditions.year;
    let sprint = kind == SPRINT;
    let path = [kind, u64::from(year), u64::from(round.number)];
    let mut race = Random::of(conditions.seed, &path);
    let base = base_lap(world, round, year);
    let laps = lap_count(world, round, conditions, sprint);
    let red_flag = (!sprint && race.chance(0.02)).then(|| (race.index(laps - 2) + 1, race.between(600_000, 7_300_000)));
    let mut runs: Vec<Run> = grid
        .iter()
        .map(|&(entry, place)| {
            let mut random = Random::of(conditions.seed, &[path[0], path[1], path[2], entry.driver as u64]);
            let pace = base * (1.0 + 0.03 * (1.0 - entry.strength) + 0.003 * random.bell());
            let hazard = rules::retirement(year) * (1.3 - entry.strength * 0.6) * if sprint { 0.3 } else { 1.0 };
            let withdrew = random.chance(0.006);
            let retires = random
                .chance(hazard)
                .then(|| (random.index(laps), rules::status(rules::FAILURES[random.index(rules::FAILURES.len())])));
            let stop_count = if sprint { 0 } else { 1 + random.index(3) };
            let mut stops: Vec<(u16, u32)> = (0..stop_count)
                .map(|stop| {
                    let middle = (stop + 1) * laps / (stop_count + 1);
                    let lap = (middle + random.index(laps / 8 + 1)).clamp(2, laps - 1);
                    let mut millis = 19_000 + u32::try_from(random.between(0, 9_000)).unwrap_or(0);
                    if random.chance(0.02) {
                        millis += u32::try_from(random.between(20_000, 60_000)).unwrap_or(0);
                    }
                    if random.chance(0.01) {
                        millis = millis / 1000 * 1000;
                    }
                    (u16::try_from(lap).unwrap_or(u16::MAX), millis)
                })
                .collect();
            stops.sort_unstable();
            stops.dedup_by_key(|stop| stop.0);
            let mut run = Run {
                entry,
                grid: place,
                laps: Vec::new(),
                total: 0,
                retired: retires.map(|(_, status)| status),
                withdrew,
                disqualified: random.chance(0.006),
                stops: Vec::new(),
            };
            if withdrew {
                return run;
            }
            let end = retires.map_or(laps, |(lap, _)| lap);
            run.laps.reserve_exact(end);
            let start = 4_000.0 + f64::from(if place == 0 { 30 } else { place }) * 350.0;
            for lap in 1..=end {
                let fuel = 0.02 * (1.0 - lap as f64 / laps as f64);
                let mut millis = (pace * (1.0 + fuel + 0.004 * random.bell())) as u64;
                if lap == 1 {
                    millis += start as u64;
                }
                if let Some(&stop) = stops.iter().find(|stop| usize::from(stop.0) == lap) {
                    // Before pit stops were recorded most cars ran through.
                    if year >= 1994 {
                        millis += u64::from(stop.1);
                    }
                    run.stops.push(stop);
                }
                if let Some((flag, wait)) = red_flag
                    && flag == lap
                {
                    millis += u64::try_from(wait).unwrap_or(0);
                    if usize::from(run.stops.last().map_or(0, |stop| stop.0)) != lap {
                        run.stops.push((u16::try_from(lap).unwrap_or(u16::MAX), u32::try_from(wait).unwrap_or(0)));
                    }
                }
                run.total += millis;
                run.laps.push(u32::try_from(millis).unwrap_or(u32::MAX));
            }
            run
        })
        .collect();
    // The race is over for everyone at the end of the lap in which the winner finishes.
    let finish = runs.iter().filter(|run| run.laps.len() == laps).map(|run| run.total).min();
    if let Some(finish) = finish {
        for run in runs.iter_mut().filter(|run| run.total > finish) {
            let mut elapsed = 0;
            let mut count = 0;
            for &lap in &run.laps {
                elapsed += u64::from(lap);
                count += 1;
                if elapsed >= finish {
                    break;
                }
            }
            // Whoever crosses the line after the winner has finished, whatever would have broken later.
            run.retired = None;
            run.laps.truncate(count);
            run.total = elapsed;
            run.stops.retain(|stop| usize::from(stop.0) <= count);
        }
    }
    runs
}

/// Results in finishing order, without points.
fn classify(world: &World, round: &Round, conditions: Conditions, runs: &[Run], sprint: bool) -> Vec<ResultRow> {
    let year = conditions.year;
    let most = runs.iter().map(|run| run.laps.len()).max().unwrap_or(0);
    let mut order: Vec<&Run> = runs.iter().collect();
    order.sort_by_key(|run| {
        let out = run.withdrew || (run.disqualified && run.retired.is_none());
        (out, run.withdrew, std::cmp::Reverse(run.laps.len()), run.total, run.entry.driver)
    });
    // By time, then by who came first in the order above.
    let mut fastest: Vec<(u32, usize)> = order
        .iter()
        .enumerate()
        .filter_map(|(index, run)| run.laps.iter().min().map(|&millis| (millis, index)))
        .collect();
    fastest.sort_unstable();
    let winner = order.first().map_or(0, |run| run.total);
    let metres = u64::from(world.circuits[round.circuit].metres);
    let rows = order.iter().enumerate().map(|(index, run)| {
        let behind = most - run.laps.len();
        // A car that stops in the last tenth is classified all the same.
        let nearly = run.laps.len() * 10 >= most * 9 && most > 0;
        let (place, status) = if run.withdrew {
            (PlaceText::Withdrew, rules::status(if year < 2020 { "Withdrew" } else { "Did not start" }))
        } else if let Some(failure) = run.retired {
            let failure = if year >= 2023 { rules::status("Retired") } else { failure };
            (if nearly { PlaceText::Number } else { PlaceText::Retired }, failure)
        } else if run.disqualified {
            (PlaceText::Disqualified, rules::status("Disqualified"))
        } else {
            let status = match behind {
                0 => "Finished".to_owned(),
                _ if year >= 2025 => "Lapped".to_owned(),
                1 => "+1 Lap".to_owned(),
                2..=9 => format!("+{behind} Laps"),
                _ => "Lapped".to_owned(),
            };
            (PlaceText::Number, rules::status(&status))
        };
        let time = match (place, run.retired) {
            (PlaceText::Number, None) if behind == 0 => Some((run.total, total_text(run.total, winner, index == 0))),
            // Upstream keeps the time of the crash, below the winner's, and shows it as nothing.
            (PlaceText::Number, Some(_)) if year >= 2020 => Some((run.total, String::new())),
            _ => None,
        };
        let fastest = if rules::has_fastest_laps(year) && !run.laps.is_empty() {
            fastest.iter().position(|&(_, car)| car == index).map(|rank| {
                let millis = u64::from(fastest[rank].0);
                let lap = run.laps.iter().position(|&lap| u64::from(lap) == millis).unwrap_or(0);
                let known = !sprint && run.laps.len() > 1;
                FastestLap {
                    rank: u16::try_from(rank + 1).ok().filter(|_| known),
                    lap: u16::try_from(lap + 1).unwrap_or(u16::MAX),
                    millis,
                    speed: known.then(|| metres * 3_600_000 / millis.max(1)),
                }
            })
        } else {
            None
        };
        ResultRow {
            driver: run.entry.driver,
            constructor: run.entry.constructor,
            number: run.entry.number,
            position: u16::try_from(index + 1).unwrap_or(u16::MAX),
            place,
            points: if !sprint && fastest_car(&order, index, year) { FASTEST } else { 0 },
            grid: run.grid,
            laps: u16::try_from(run.laps.len()).unwrap_or(u16::MAX),
            status,
            time,
            fastest,
        }
    });
    rows.collect()
}

/// Marks, until [`award`], the car with the fastest lap.
const FASTEST: Points = 1;

fn fastest_car(order: &[&Run], index: usize, year: u16) -> bool {
    if !rules::fastest_lap_point(year, 1) {
        return false;
    }
    let best = order.iter().enumerate().filter_map(|(car, run)| run.laps.iter().min().map(|&lap| (lap, car))).min();
    best.is_some_and(|(_, car)| car == index)
}

/// In the early years a driver whose car had failed took over a team mate's: both have the place, and half the points.
fn share_drives(rows: &mut Vec<ResultRow>, round: &Round, conditions: Conditions) {
    let mut random = Random::of(conditions.seed, &[SHARED, u64::from(conditions.year), u64::from(round.number)]);
    if conditions.year > 1957 || !random.chance(0.25) {
        return;
    }
    let taken = rows.iter().position(|row| row.place == PlaceText::Number && row.status == rules::status("Finished"));
    let Some(place) = taken.map(|first| first + random.index(3)).filter(|&place| place < rows.len()) else { return };
    let car = rows[place].clone();
    if car.place != PlaceText::Number {
        return;
    }
    let out = rows
        .iter()
        .find(|row| row.place == PlaceText::Retired && row.constructor == car.constructor && row.driver != car.driver);
    if let Some(out) = out {
        let second = ResultRow { driver: out.driver, points: 0, ..car };
        rows.insert(place + 1, second);
    }
}

/// Gives the points.
fn award(rows: &mut [ResultRow], round: &Round, conditions: Conditions, sprint: bool) {
    let year = conditions.year;
    let mut random = Random::of(conditions.seed, &[SHARED, u64::from(year), u64::from(round.number), 1]);
    // A race that was stopped early counts half.
    let half = !sprint && year >= 1975 && random.chance(0.006);
    // Before times had thousandths, several drivers shared the fastest lap.
    let sharers = if year <= 1959 && random.chance(0.1) { 2 + random.index(6) } else { 1 };
    let last_round = round.number == rules::rounds(year);
    for index in 0..rows.len() {
        let row = &rows[index];
        let place = usize::from(row.position);
        let mut points = 0;
        if row.place == PlaceText::Number {
            points = if sprint { rules::sprint_points(year, place) } else { rules::race_points(year, place) };
            let sharing = rows.iter().filter(|other| other.position == row.position).count();
            points /= i64::try_from(sharing).unwrap_or(1);
            if half {
                points /= 2;
            }
            if year == 2014 && last_round {
                points *= 2;
            }
        }
        let marked = row.points == FASTEST && row.place == PlaceText::Number;
        let shared = sharers > 1 && index < sharers;
        if !sprint && rules::fastest_lap_point(year, place) && (shared || (sharers == 1 && marked)) {
            points += 100 / i64::try_from(sharers).unwrap_or(1);
        }
        rows[index].points = points;
    }
}

fn pit_stops(runs: &[Run]) -> Vec<PitStop> {
    let mut stops = Vec::new();
    for run in runs {
        let mut elapsed: u64 = 0;
        let mut lap = 0;
        for (index, &(stop, millis)) in run.stops.iter().enumerate() {
            while lap < usize::from(stop) && lap < run.laps.len() {
                elapsed += u64::from(run.laps[lap]);
                lap += 1;
            }
            // Races start at 15:03 there.
            let clock = 54_180 + elapsed / 1000;
            stops.push(PitStop {
                driver: run.entry.driver,
                lap: (!(stop == 2 && millis % 997 == 0)).then_some(stop),
                stop: u16::try_from(index + 1).unwrap_or(u16::MAX),
                time: format!("{:02}:{:02}:{:02}", clock / 3600 % 24, clock / 60 % 60, clock % 60),
                // Upstream shows whole seconds as nothing.
                duration: if millis % 1000 == 0 { String::new() } else { lap_text(u64::from(millis)) },
            });
        }
    }
    // By the text, as upstream sorts; after that by driver, so that pages do not change.
    stops.sort_by(|a, b| (&a.time, a.driver, a.stop).cmp(&(&b.time, b.driver, b.stop)));
    stops
}

/// `ss.sss`, `m:ss.sss` or `h:mm:ss.sss`.
pub(super) fn lap_text(millis: u64) -> String {
    let (seconds, rest) = (millis / 1000, millis % 1000);
    match seconds {
        0..60 => format!("{seconds}.{rest:03}"),
        60..3600 => format!("{}:{:02}.{rest:03}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// The winner's time, or the gap to it.
fn total_text(total: u64, winner: u64, is_winner: bool) -> String {
    match is_winner {
        // Upstream cuts whole seconds off.
        true if total.is_multiple_of(1000) && total >= 3_600_000 => {
            format!("{}:{:02}", total / 3_600_000, total / 60_000 % 60)
        }
        true => lap_text(total),
        false => format!("+{}", lap_text(total - winner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_upstream_writes_them() {
        assert_eq!(lap_text(53_904), "53.904");
        assert_eq!(lap_text(99_019), "1:39.019");
        assert_eq!(lap_text(7_505_152), "2:05:05.152");
        assert_eq!(total_text(8_475_000, 8_475_000, true), "2:21");
        assert_eq!(total_text(5_636_736, 5_636_736, true), "1:33:56.736");
        assert_eq!(total_text(5_648_723, 5_636_736, false), "+11.987");
        assert_eq!(total_text(5_736_736, 5_636_736, false), "+1:40.000");
    }

    #[test]
    fn a_race_is_consistent() {
        let world = World::make(7, 2025);
        for year in [1955, 1975, 1996, 2012, 2023] {
            let conditions = Conditions { seed: 7, year, lap_scale: 1.0 };
            for round in &world.season(year).unwrap().rounds {
                let weekend = weekend(&world, round, conditions);
                let laps = timings(&world, round, conditions);
                assert_eq!(laps.is_empty(), year < 1996);
                assert!(weekend.results.len() >= round.entries.len());
                assert_eq!(weekend.results[0].place, PlaceText::Number, "{year} {}", round.number);
                for row in &weekend.results {
                    if rules::has_laps(year) {
                        let own: Vec<_> = laps.iter().filter(|timing| timing.driver == row.driver).collect();
                        assert_eq!(own.len(), usize::from(row.laps));
                        if let Some((millis, _)) = row.time {
                            assert_eq!(own.iter().map(|timing| timing.millis).sum::<u64>(), millis);
                        }
                    }
                }
                assert_eq!(weekend.sprint.is_empty(), !round.has_sprint);
                assert_eq!(weekend.pit_stops.is_empty(), year < 2011);
                assert_eq!(weekend.qualifying.len(), if year < 1994 { 0 } else { round.entries.len() });
            }
        }
    }
}
