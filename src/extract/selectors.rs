//! What a command was asked to work on: levels, endpoints, seasons, rounds, a batch. In: the text of flags; out:
//! [`Selectors`]. Pure; `current` and `last` are resolved by who knows the answer.

use std::{collections::BTreeSet, str::FromStr};

use super::{Endpoint, Endpoints, ExtractError, Level};
use crate::lake::layout::{BatchId, Partition};

/// Flags as values. An empty list means all.
#[derive(Debug, Clone, Default)]
pub struct Selectors {
    pub levels: Vec<Level>,
    pub endpoints: Vec<String>,
    pub seasons: Option<Seasons>,
    pub rounds: Option<Rounds>,
    pub batch_id: Option<BatchId>,
}

/// `--season`: `1950..2025`, `current`, `2024`, or a list of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seasons(pub Vec<SeasonSelector>);

/// One part of `--season`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeasonSelector {
    Current,
    /// Both included.
    Range(u16, u16),
}

/// `--round`: `5`, `last`, `1..10`, or a list of numbers and ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rounds {
    /// The latest round that has been held.
    Last,
    Numbers(BTreeSet<u8>),
}

impl FromStr for Seasons {
    type Err = ExtractError;

    fn from_str(text: &str) -> Result<Self, ExtractError> {
        let part = |part: &str| match part.trim() {
            "current" => Some(SeasonSelector::Current),
            part => range(part, 1900, 2999).map(|(from, to)| SeasonSelector::Range(from, to)),
        };
        text.split(',').map(part).collect::<Option<Vec<_>>>().map(Self).ok_or_else(|| ExtractError::Selector {
            flag: "--season",
            value: text.to_owned(),
            reason: "write 2024, 1950..2025, current, or several with commas".to_owned(),
        })
    }
}

impl FromStr for Rounds {
    type Err = ExtractError;

    fn from_str(text: &str) -> Result<Self, ExtractError> {
        if text.trim() == "last" {
            return Ok(Self::Last);
        }
        let ranges = text.split(',').map(|part| range(part.trim(), 1, 99)).collect::<Option<Vec<_>>>();
        let numbers = ranges.map(|ranges| {
            ranges.into_iter().flat_map(|(from, to)| from..=to).filter_map(|round| u8::try_from(round).ok()).collect()
        });
        numbers.map(Self::Numbers).ok_or_else(|| ExtractError::Selector {
            flag: "--round",
            value: text.to_owned(),
            reason: "write 5, 1..10, last, or several numbers with commas".to_owned(),
        })
    }
}

impl std::fmt::Display for Seasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match part {
                SeasonSelector::Current => write!(f, "{comma}current")?,
                SeasonSelector::Range(from, to) if from == to => write!(f, "{comma}{from}")?,
                SeasonSelector::Range(from, to) => write!(f, "{comma}{from}..{to}")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Numbers(numbers) => f.write_str(&numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

impl Seasons {
    /// The seasons, ascending, each once.
    pub fn resolve(&self, current: u16) -> BTreeSet<u16> {
        let range = |part: &SeasonSelector| match *part {
            SeasonSelector::Current => current..=current,
            SeasonSelector::Range(from, to) => from..=to,
        };
        self.0.iter().flat_map(range).collect()
    }

    pub fn names_current(&self) -> bool {
        self.0.contains(&SeasonSelector::Current)
    }
}

impl Selectors {
    /// The endpoints that these selectors let through, in the order of extraction.
    ///
    /// # Errors
    /// `--endpoint` names one that does not exist.
    pub fn endpoints<'e>(&self, all: &'e Endpoints) -> Result<Vec<&'e Endpoint>, ExtractError> {
        if let Some(unknown) = self.endpoints.iter().find(|name| all.get(name).is_none()) {
            let names: Vec<&str> = all.iter().map(|endpoint| endpoint.name.as_str()).collect();
            return Err(ExtractError::Selector {
                flag: "--endpoint",
                value: unknown.clone(),
                reason: format!("there are {}", names.join(", ")),
            });
        }
        let mut selected: Vec<&Endpoint> = all
            .iter()
            .filter(|endpoint| self.levels.is_empty() || self.levels.contains(&endpoint.level))
            .filter(|endpoint| self.endpoints.is_empty() || self.endpoints.contains(&endpoint.name))
            .collect();
        if selected.is_empty() {
            let levels: Vec<&str> = self.levels.iter().map(|level| level.as_str()).collect();
            return Err(ExtractError::Selector {
                flag: "--endpoint",
                value: self.endpoints.join(","),
                reason: format!("none of them is of level {}", levels.join(", ")),
            });
        }
        selected.sort_by_key(|endpoint| endpoint.level);
        Ok(selected)
    }

    /// Whether a partition is among them; `season` and `round` are the resolved ones, none for all.
    pub fn matches(partition: &Partition, seasons: Option<&BTreeSet<u16>>, rounds: Option<&BTreeSet<u8>>) -> bool {
        let season = match (partition.season(), seasons) {
            (Some(season), Some(seasons)) => seasons.contains(&season),
            _ => true,
        };
        let round = match (partition.round(), rounds) {
            (Some(round), Some(rounds)) => rounds.contains(&round),
            _ => true,
        };
        season && round
    }
}

/// `5` or `1..10`, both included and in order.
fn range(text: &str, least: u16, most: u16) -> Option<(u16, u16)> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|number| (least..=most).contains(number));
    let (from, to) = (number(from)?, number(to.strip_prefix('=').unwrap_or(to))?);
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seasons_are_numbers_ranges_and_current() {
        let seasons = |text: &str| text.parse::<Seasons>().map(|s| s.resolve(2026).into_iter().collect::<Vec<_>>());
        assert_eq!(seasons("2024").unwrap(), [2024]);
        assert_eq!(seasons("1950..1952").unwrap(), [1950, 1951, 1952]);
        assert_eq!(seasons("current, 2020..2021,2020").unwrap(), [2020, 2021, 2026]);
        for text in ["", "24", "2024..2020", "last", "1950-1960", "2024,"] {
            assert!(seasons(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rounds_are_numbers_ranges_and_last() {
        assert_eq!("last".parse::<Rounds>().unwrap(), Rounds::Last);
        assert_eq!("1..3,5".parse::<Rounds>().unwrap(), Rounds::Numbers(BTreeSet::from([1, 2, 3, 5])));
        for text in ["0", "100", "last,1", "x"] {
            assert!(text.parse::<Rounds>().is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_come_in_the_order_of_extraction() {
        let all = Endpoints::load(None).unwrap();
        let selectors = Selectors { endpoints: vec!["laps".into(), "drivers".into()], ..Selectors::default() };
        let names: Vec<_> = selectors.endpoints(&all).unwrap().iter().map(|e| e.name.clone()).collect();
        assert_eq!(names, ["drivers", "laps"]);
        let selectors = Selectors { endpoints: vec!["lapz".into()], ..Selectors::default() };
        assert!(selectors.endpoints(&all).unwrap_err().to_string().contains("lapz"));
        let selectors =
            Selectors { endpoints: vec!["laps".into()], levels: vec![Level::Static], ..Selectors::default() };
        assert!(selectors.endpoints(&all).unwrap_err().to_string().contains("none of them is of level static"));
    }
}
