//! The endpoints as data: endpoints.yml read, checked and answered. In: YAML text; out: [`Endpoints`]. `extract` asks
//! where and when, `transform` what the rows are. It never touches the network or the lake.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;

use super::ExtractError;

/// The built-in definitions.
const BUILT_IN: &str = include_str!("endpoints.yml");

/// Every endpoint of a source, in the order of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Schema version of the Silver tables; goes into the Parquet metadata.
    pub version: u32,
    /// Name of the source.
    pub source: String,
    /// Rounds a season from these years on, for estimates.
    #[serde(default)]
    expected_rounds: IndexMap<u16, u32>,
    /// Where the rounds of a season are read.
    pub rounds: Rounds,
    #[serde(default)]
    objects: IndexMap<String, Vec<String>>,
    endpoints: IndexMap<String, Endpoint>,
}

/// Which endpoint lists the rounds of a season, and in which of its columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    pub endpoint: String,
    /// Column with the round.
    pub round: String,
    /// Column with the day of the round.
    pub date: String,
    /// Column with its UTC time.
    pub time: String,
    /// The endpoint whose listing is empty as long as a round has no data.
    pub proof: String,
}

/// One endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    #[serde(skip)]
    pub name: String,
    pub level: Level,
    /// Below the base URL, with `{season}` and `{round}`.
    pub url: String,
    #[serde(default = "yes")]
    pub paging: bool,
    pub first_season: Option<u16>,
    /// Column of the rounds endpoint without which a round has no such listing.
    pub only_where: Option<String>,
    /// Rows of a usual listing.
    #[serde(default = "one")]
    pub expected_rows: u32,
    /// `RaceTable.Races[].Results[]`.
    pub rows: String,
    pub key: Vec<String>,
    #[serde(default)]
    repeats: Vec<String>,
    #[serde(default)]
    ignore: Vec<String>,
    pub columns: Vec<Column>,
    /// Paths that are known and not kept: `ignore`, and `repeats` spelled out.
    #[serde(skip)]
    pub known: Vec<String>,
}

/// What an endpoint's listings are for; the order is the order of extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Once
    Static,
    /// Once a season
    Season,
    /// Once a round: what happened in it
    Round,
    /// Once a round: where the championships stand after it
    Standings,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Season => "season",
            Self::Round => "round",
            Self::Standings => "standings",
        }
    }

    /// Whether its listings belong to a round.
    pub fn has_rounds(self) -> bool {
        matches!(self, Self::Round | Self::Standings)
    }
}

/// A column of the Silver table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    pub path: Paths,
    #[serde(default)]
    pub nullable: bool,
    #[serde(default)]
    pub parse: Parse,
    /// Texts that mean null; the default of the type where not given.
    pub nulls: Option<Vec<String>>,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// Where a column's value stands; the first path that has one wins.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    One(String),
    Several(Vec<String>),
}

impl Paths {
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }
}

/// Arrow types that a column can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    Int16,
    Int32,
    Int64,
    Float64,
    /// Days since 1970.
    Date32,
    Utf8,
    #[serde(rename = "list<utf8>")]
    ListUtf8,
}

/// How a text becomes a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parse {
    /// As the type is written.
    #[default]
    Plain,
    /// `[h:]m:ss.sss` or `ss.sss` to milliseconds.
    Millis,
}

impl Endpoints {
    /// The built-in definitions, or those of the file that `[source] endpoints` names.
    ///
    /// # Errors
    /// The file cannot be read, is not valid YAML, or contradicts itself.
    pub fn load(path: Option<&Path>) -> Result<Self, ExtractError> {
        let Some(path) = path else {
            return Self::parse(BUILT_IN, Path::new("endpoints.yml"));
        };
        let text = fs_err::read_to_string(path).map_err(|source| ExtractError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads definitions; `path` is for the errors.
    ///
    /// # Errors
    /// As [`Endpoints::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ExtractError> {
        let mut all: Self = serde_yaml_ng::from_str(text).map_err(|error| ExtractError::Endpoints {
            path: path.to_owned(),
            line: error.location().map(|location| location.line()),
            reason: error.to_string(),
        })?;
        let Self { endpoints, objects, .. } = &mut all;
        for (name, endpoint) in endpoints.iter_mut() {
            endpoint.name.clone_from(name);
            endpoint.known.clone_from(&endpoint.ignore);
            for repeated in &endpoint.repeats {
                let object = object_name(repeated);
                let fields = objects
                    .get(object)
                    .ok_or_else(|| invalid(path, name, &format!("there is no object `{object}`")))?;
                endpoint.known.extend(fields.iter().map(|field| format!("{repeated}.{field}")));
            }
        }
        all.check(path)?;
        Ok(all)
    }

    /// All endpoints, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    pub fn get(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.get(name)
    }

    /// The endpoint that lists the rounds of a season.
    pub fn rounds_endpoint(&self) -> &Endpoint {
        // `check` has seen that it is there.
        &self.endpoints[&self.rounds.endpoint]
    }

    /// How many rounds a season probably has.
    pub fn expected_rounds(&self, season: u16) -> u32 {
        self.expected_rounds
            .iter()
            .filter(|(from, _)| **from <= season)
            .map(|(_, rounds)| *rounds)
            .next_back()
            .unwrap_or(20)
    }

    fn check(&self, path: &Path) -> Result<(), ExtractError> {
        for (name, endpoint) in &self.endpoints {
            let fail = |reason: String| Err(invalid(path, name, &reason));
            if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                return fail("a name is made of a-z, 0-9 and _".into());
            }
            if !endpoint.rows.ends_with("[]") {
                return fail(format!("`rows: {}` must end in a list: []", endpoint.rows));
            }
            let needs = [("{season}", endpoint.level != Level::Static), ("{round}", endpoint.level.has_rounds())];
            for (placeholder, wanted) in needs {
                if endpoint.url.contains(placeholder) != wanted {
                    let word = if wanted { "needs" } else { "cannot have" };
                    return fail(format!("a url of level {} {word} {placeholder}", endpoint.level.as_str()));
                }
            }
            for key in &endpoint.key {
                match endpoint.columns.iter().find(|column| column.name == *key) {
                    None => return fail(format!("key `{key}` is not a column")),
                    Some(column) if matches!(column.kind, ColumnType::Float64 | ColumnType::ListUtf8) => {
                        return fail(format!("key `{key}` cannot be of type {:?}", column.kind));
                    }
                    Some(_) => {}
                }
            }
            if endpoint.key.is_empty() {
                return fail("it has no key".into());
            }
            for (index, column) in endpoint.columns.iter().enumerate() {
                if endpoint.columns[..index].iter().any(|other| other.name == column.name) {
                    return fail(format!("column `{}` stands there twice", column.name));
                }
                if column.parse == Parse::Millis && column.kind != ColumnType::Int64 {
                    return fail(format!("column `{}`: parse: millis needs type int64", column.name));
                }
                if column.name.starts_with('_') {
                    return fail(format!("column `{}`: names with _ are chpipe's own", column.name));
                }
            }
            if let Some(column) = &endpoint.only_where
                && (!endpoint.level.has_rounds() || !self.has_column(&self.rounds.endpoint, column))
            {
                return fail(format!("only_where: `{column}` is not a column of `{}`", self.rounds.endpoint));
            }
        }
        let rounds = &self.rounds;
        for column in [&rounds.round, &rounds.date, &rounds.time] {
            if !self.has_column(&rounds.endpoint, column) {
                return Err(invalid(path, &rounds.endpoint, &format!("rounds: there is no column `{column}`")));
            }
        }
        match (self.get(&rounds.endpoint).map(|e| e.level), self.get(&rounds.proof).map(|e| e.level)) {
            (Some(Level::Season), Some(Level::Round)) => Ok(()),
            _ => Err(invalid(path, "rounds", "`endpoint` must be of level season, `proof` of level round")),
        }
    }

    fn has_column(&self, endpoint: &str, column: &str) -> bool {
        self.get(endpoint).is_some_and(|endpoint| endpoint.columns.iter().any(|other| other.name == *column))
    }
}

impl Endpoint {
    /// The listing's path below the base URL, without paging.
    pub fn path(&self, season: Option<u16>, round: Option<u8>) -> String {
        let mut path = self.url.clone();
        if let Some(season) = season {
            path = path.replace("{season}", &season.to_string());
        }
        if let Some(round) = round {
            path = path.replace("{round}", &round.to_string());
        }
        path
    }

    /// Whether there can be data in `season`.
    pub fn exists_in(&self, season: u16) -> bool {
        self.first_season.is_none_or(|first| first <= season)
    }

    /// Pages that a listing probably has.
    pub fn expected_pages(&self, page_size: u32) -> u32 {
        if self.paging { self.expected_rows.div_ceil(page_size.max(1)).max(1) } else { 1 }
    }
}

/// `Circuit` of `Races[].Circuit`, `Constructor` of `Constructors[]`.
fn object_name(path: &str) -> &str {
    let last = path.rsplit('.').next().unwrap_or(path);
    last.strip_suffix("s[]").unwrap_or(last)
}

fn invalid(path: &Path, endpoint: &str, reason: &str) -> ExtractError {
    ExtractError::Endpoints { path: PathBuf::from(path), line: None, reason: format!("`{endpoint}`: {reason}") }
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_definitions_are_valid() {
        let endpoints = Endpoints::load(None).unwrap();
        assert_eq!(endpoints.iter().count(), 13);
        let laps = endpoints.get("laps").unwrap();
        assert_eq!(laps.path(Some(2023), Some(1)), "2023/1/laps.json");
        assert!(!laps.exists_in(1995) && laps.exists_in(1996));
        assert_eq!(laps.expected_pages(100), 11);
        assert!(laps.known.contains(&"Races[].Circuit.Location.lat".to_owned()));
        let standings = endpoints.get("driverstandings").unwrap();
        assert!(standings.known.contains(&"Constructors[].constructorId".to_owned()));
        assert_eq!(endpoints.expected_rounds(1975), 14);
    }

    #[test]
    fn contradictions_name_the_endpoint() {
        for (from, to, reason) in [
            ("key: [season, round, lap, driver_id]", "key: [season, lapp]", "`laps`: key `lapp` is not a column"),
            (
                "url: \"{season}/{round}/laps.json\"",
                "url: \"{season}/laps.json\"",
                "`laps`: a url of level round needs",
            ),
            ("only_where: sprint_date", "only_where: sprint_day", "`sprint`: only_where"),
            ("repeats: [Circuit]", "repeats: [Track]", "`races`: there is no object `Track`"),
            ("paging: false", "", ""),
        ] {
            let text = BUILT_IN.replacen(from, to, 1);
            match Endpoints::parse(&text, Path::new("endpoints.yml")) {
                Ok(_) => assert_eq!(reason, ""),
                Err(error) => assert!(error.to_string().contains(reason), "{error}"),
            }
        }
        let unknown = BUILT_IN.replacen("expected_rows: 76", "expected_row: 76", 1);
        assert!(Endpoints::parse(&unknown, Path::new("endpoints.yml")).is_err());
    }
}
