//! What holds in which year: points, rounds, entrants and which sessions are recorded. Pure tables. The rules are
//! simplified: every score counts, for drivers and for constructors, so that standings are the sums of the results.

/// A hundredth of a point: results hold thirds, sevenths and halves.
pub(super) type Points = i64;

pub(super) const FIRST_SEASON: u16 = 1950;
pub(super) const LAST_SEASON: u16 = 2099;

/// Races of a season; 1,149 from 1950 to 2025.
pub(super) fn rounds(year: u16) -> u8 {
    match year {
        ..=1957 => 8,
        1958..=1967 => 10,
        1968..=1972 => 12,
        1973..=1982 => 15,
        1983..=1994 => 16,
        1995..=2004 => 17,
        2005..=2009 => 18,
        2010..=2020 => 19,
        2021..=2023 => 22,
        2024.. => 24,
    }
}

/// Cars that start a race, about.
pub(super) fn entrants(year: u16) -> usize {
    match year {
        ..=1959 => 25,
        1960..=1969 => 23,
        1970..=1979 => 27,
        1980..=1989 => 26,
        1990..=1999 => 24,
        2000..=2009 => 21,
        2010..=2016 => 22,
        2017.. => 20,
    }
}

/// Points for a place in the race, from 1.
pub(super) fn race_points(year: u16, place: usize) -> Points {
    let table: &[Points] = match year {
        ..=1959 => &[8, 6, 4, 3, 2],
        1960 => &[8, 6, 4, 3, 2, 1],
        1961..=1990 => &[9, 6, 4, 3, 2, 1],
        1991..=2002 => &[10, 6, 4, 3, 2, 1],
        2003..=2009 => &[10, 8, 6, 5, 4, 3, 2, 1],
        2010.. => &[25, 18, 15, 12, 10, 8, 6, 4, 2, 1],
    };
    place.checked_sub(1).and_then(|index| table.get(index)).copied().unwrap_or(0) * 100
}

/// Points for a place in the sprint, from 1.
pub(super) fn sprint_points(year: u16, place: usize) -> Points {
    let table: &[Points] = if year == 2021 { &[3, 2, 1] } else { &[8, 7, 6, 5, 4, 3, 2, 1] };
    place.checked_sub(1).and_then(|index| table.get(index)).copied().unwrap_or(0) * 100
}

/// The point for the fastest lap: to anyone, to one of the first ten, or none.
pub(super) fn fastest_lap_point(year: u16, place: usize) -> bool {
    match year {
        ..=1959 => true,
        2019..=2024 => place <= 10,
        _ => false,
    }
}

/// The chance that a car does not finish.
pub(super) fn retirement(year: u16) -> f64 {
    match year {
        ..=1969 => 0.42,
        1970..=1989 => 0.45,
        1990..=1999 => 0.38,
        2000..=2009 => 0.20,
        2010..=2019 => 0.13,
        2020.. => 0.09,
    }
}

pub(super) fn has_qualifying(year: u16) -> bool {
    year >= 1994
}

pub(super) fn has_laps(year: u16) -> bool {
    year >= 1996
}

pub(super) fn has_fastest_laps(year: u16) -> bool {
    year >= 2004
}

pub(super) fn has_pit_stops(year: u16) -> bool {
    year >= 2011
}

pub(super) fn has_constructor_standings(year: u16) -> bool {
    year >= 1958
}

/// Sprints of a season.
pub(super) fn sprints(year: u16) -> usize {
    match year {
        ..=2020 => 0,
        2021..=2022 => 3,
        2023.. => 6,
    }
}

/// Whether the oval race of the early years is on the calendar: many entrants, who race nowhere else.
pub(super) fn has_oval(year: u16) -> bool {
    year <= 1960
}

/// Every status with its id. The order is the id.
pub(super) const STATUSES: &[&str] = &[
    "Finished",
    "Disqualified",
    "Accident",
    "Collision",
    "Engine",
    "Gearbox",
    "Transmission",
    "Clutch",
    "Hydraulics",
    "Electrical",
    "+1 Lap",
    "+2 Laps",
    "+3 Laps",
    "+4 Laps",
    "+5 Laps",
    "+6 Laps",
    "+7 Laps",
    "+8 Laps",
    "+9 Laps",
    "Spun off",
    "Suspension",
    "Brakes",
    "Fuel system",
    "Overheating",
    "Wheel",
    "Withdrew",
    "Retired",
    "Did not start",
    "Lapped",
    "Shared car",
];

/// The index of a status in [`STATUSES`].
pub(super) fn status(name: &str) -> u8 {
    STATUSES.iter().position(|status| *status == name).and_then(|index| u8::try_from(index).ok()).unwrap_or(0)
}

/// What stops a car.
pub(super) const FAILURES: &[&str] = &[
    "Accident",
    "Collision",
    "Engine",
    "Engine",
    "Gearbox",
    "Transmission",
    "Clutch",
    "Hydraulics",
    "Electrical",
    "Spun off",
    "Suspension",
    "Brakes",
    "Fuel system",
    "Overheating",
    "Wheel",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_has_1149_races() {
        assert_eq!((1950..=2025).map(|year| u32::from(rounds(year))).sum::<u32>(), 1149);
    }

    #[test]
    fn points_follow_the_era() {
        assert_eq!((race_points(1955, 1), race_points(1955, 6)), (800, 0));
        assert_eq!((race_points(1985, 1), race_points(1985, 6)), (900, 100));
        assert_eq!((race_points(2023, 1), race_points(2023, 10), race_points(2023, 11)), (2500, 100, 0));
        assert_eq!((sprint_points(2021, 4), sprint_points(2023, 8)), (0, 100));
        assert!(fastest_lap_point(2023, 10) && !fastest_lap_point(2023, 11) && !fastest_lap_point(2025, 1));
    }

    #[test]
    fn every_status_has_an_id() {
        for name in FAILURES {
            assert_eq!(STATUSES[usize::from(status(name))], *name);
        }
    }
}
