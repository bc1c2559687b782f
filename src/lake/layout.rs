//! The key layout of the lake: typed keys to text and back. In: keys; out: keys. Pure; it never asks whether an object
//! exists.
//!
//! ```text
//! bronze: ergast/endpoint={e}/[season={YYYY}/][round={RR}/]batch_id={YYYYMMDDTHHMMSS}/{data.json | page_001.json …}
//! silver: ergast/endpoint={e}/[season={YYYY}/][round={RR}/]batch_id={…}/data.parquet
//!         ergast/_quarantine/endpoint={e}/[season={YYYY}/][round={RR}/]batch_id={…}/rows.jsonl
//! ```
//! `bronze` and `silver` are the buckets and no part of a key.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use super::LakeError;

/// The folder of everything that came from the Ergast-compatible API.
pub const SOURCE: &str = "ergast";

const QUARANTINE: &str = "_quarantine";
const BATCH_FORMAT: &str = "%Y%m%dT%H%M%S";

/// The second in which an extraction began, UTC, as `20241216T120000`: later batches sort after earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BatchId([u8; 15]);

impl BatchId {
    /// The batch that begins at `instant`; parts of a second are dropped.
    pub fn at(instant: DateTime<Utc>) -> Self {
        let text = instant.format(BATCH_FORMAT).to_string();
        let mut bytes = [b'0'; 15];
        // Years have four digits here: both sides are 15 characters long.
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Self(bytes)
    }

    /// `20241216T120000`.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The second it names.
    pub fn instant(&self) -> DateTime<Utc> {
        NaiveDateTime::parse_from_str(self.as_str(), BATCH_FORMAT).unwrap_or_default().and_utc()
    }

    /// The batch of the next second: for a listing that is started over within one second.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::at(self.instant() + chrono::TimeDelta::seconds(1))
    }
}

impl FromStr for BatchId {
    type Err = LakeError;

    fn from_str(text: &str) -> Result<Self, LakeError> {
        let shape = text.len() == 15
            && text.bytes().enumerate().all(|(index, b)| if index == 8 { b == b'T' } else { b.is_ascii_digit() });
        match (shape, NaiveDateTime::parse_from_str(text, BATCH_FORMAT)) {
            (true, Ok(instant)) => Ok(Self::at(instant.and_utc())),
            _ => Err(key_error(text, "a batch_id is a UTC time like 20241216T120000")),
        }
    }
}

impl TryFrom<String> for BatchId {
    type Error = LakeError;

    fn try_from(text: String) -> Result<Self, LakeError> {
        text.parse()
    }
}

impl From<BatchId> for String {
    fn from(batch_id: BatchId) -> Self {
        batch_id.as_str().to_owned()
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a batch is a batch of: an endpoint, a season of it, or a round. A newer batch replaces an older one of the same
/// partition as a whole. Sorts by endpoint, season, round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    endpoint: String,
    season: Option<u16>,
    round: Option<u8>,
}

impl Partition {
    /// A partition of `endpoint`.
    ///
    /// # Errors
    /// [`LakeError::Key`]: an endpoint that is not `a-z`, `0-9` and `_`, a season that has not four digits, a round that
    /// is not 1 to 99, or a round without a season.
    pub fn new(endpoint: impl Into<String>, season: Option<u16>, round: Option<u8>) -> Result<Self, LakeError> {
        let endpoint = endpoint.into();
        check_endpoint(&endpoint, &endpoint)?;
        if season.is_some_and(|season| !(1000..=9999).contains(&season)) {
            return Err(key_error(&endpoint, "a season has four digits"));
        }
        if round.is_some_and(|round| !(1..=99).contains(&round)) {
            return Err(key_error(&endpoint, "a round is 1 to 99"));
        }
        if round.is_some() && season.is_none() {
            return Err(key_error(&endpoint, "a round needs a season"));
        }
        Ok(Self { endpoint, season, round })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn season(&self) -> Option<u16> {
        self.season
    }

    pub fn round(&self) -> Option<u8> {
        self.round
    }

    /// Where all batches of this partition are: `ergast/endpoint=results/season=2024/round=05/`. For a partition without
    /// a round, the folders of its rounds are below it too.
    pub fn prefix(&self) -> String {
        format!("{SOURCE}/{self}")
    }

    /// Where one batch is, in Bronze and in Silver.
    pub fn batch_prefix(&self, batch_id: BatchId) -> String {
        format!("{SOURCE}/{self}batch_id={batch_id}/")
    }
}

impl fmt::Display for Partition {
    /// `endpoint=results/season=2024/round=05/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint={}/", self.endpoint)?;
        if let Some(season) = self.season {
            write!(f, "season={season:04}/")?;
        }
        if let Some(round) = self.round {
            write!(f, "round={round:02}/")?;
        }
        Ok(())
    }
}

/// Where all of an endpoint is, whatever its level: `ergast/endpoint=results/`.
pub fn endpoint_prefix(endpoint: &str) -> String {
    format!("{SOURCE}/endpoint={endpoint}/")
}

/// Where all refused rows of an endpoint are.
pub fn quarantine_prefix(endpoint: &str) -> String {
    format!("{SOURCE}/{QUARANTINE}/endpoint={endpoint}/")
}

/// The file of a Bronze object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BronzeFile {
    /// `data.json`: the whole batch.
    Data,
    /// `page_001.json`: a page, counted from 1.
    Page(u32),
}

/// A Bronze object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BronzeKey {
    pub partition: Partition,
    pub batch_id: BatchId,
    pub file: BronzeFile,
}

impl fmt::Display for BronzeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SOURCE}/{}batch_id={}/", self.partition, self.batch_id)?;
        match self.file {
            BronzeFile::Data => f.write_str("data.json"),
            BronzeFile::Page(page) => write!(f, "page_{page:03}.json"),
        }
    }
}

impl BronzeFile {
    /// The file of this name; none where it is another's.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "data.json" {
            return Some(Self::Data);
        }
        let digits = name.strip_prefix("page_")?.strip_suffix(".json")?;
        let is_padded = digits.len() == 3 || (digits.len() > 3 && !digits.starts_with('0'));
        number(digits).filter(|&page| is_padded && page > 0).map(Self::Page)
    }
}

impl FromStr for BronzeKey {
    type Err = LakeError;

    fn from_str(key: &str) -> Result<Self, LakeError> {
        let (partition, batch_id, name) = parse(key, &[SOURCE])?;
        let file = BronzeFile::from_name(name);
        let file = file.ok_or_else(|| key_error(key, "a Bronze file is data.json or page_NNN.json"))?;
        Ok(Self { partition, batch_id, file })
    }
}

/// A Silver object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SilverKey {
    pub partition: Partition,
    pub batch_id: BatchId,
}

impl fmt::Display for SilverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SOURCE}/{}batch_id={}/data.parquet", self.partition, self.batch_id)
    }
}

impl FromStr for SilverKey {
    type Err = LakeError;

    fn from_str(key: &str) -> Result<Self, LakeError> {
        match parse(key, &[SOURCE])? {
            (partition, batch_id, "data.parquet") => Ok(Self { partition, batch_id }),
            _ => Err(key_error(key, "a Silver file is data.parquet")),
        }
    }
}

/// The refused rows of a batch, in the Silver bucket and outside of every endpoint's prefix, so that no table reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuarantineKey {
    pub partition: Partition,
    pub batch_id: BatchId,
}

impl fmt::Display for QuarantineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SOURCE}/{QUARANTINE}/{}batch_id={}/rows.jsonl", self.partition, self.batch_id)
    }
}

impl FromStr for QuarantineKey {
    type Err = LakeError;

    fn from_str(key: &str) -> Result<Self, LakeError> {
        match parse(key, &[SOURCE, QUARANTINE])? {
            (partition, batch_id, "rows.jsonl") => Ok(Self { partition, batch_id }),
            _ => Err(key_error(key, "a quarantine file is rows.jsonl")),
        }
    }
}

/// Reads the folders that all keys share and answers what is left: the file name.
fn parse<'a>(key: &'a str, roots: &[&str]) -> Result<(Partition, BatchId, &'a str), LakeError> {
    let mut parts = key.split('/').peekable();
    for &root in roots {
        if parts.next() != Some(root) {
            return Err(key_error(key, &format!("it does not begin with `{}/`", roots.join("/"))));
        }
    }
    let mut field = |name: &str| {
        let value = parts.peek().and_then(|part| part.strip_prefix(name)).and_then(|rest| rest.strip_prefix('='));
        if value.is_some() {
            parts.next();
        }
        value
    };
    let endpoint = field("endpoint").ok_or_else(|| key_error(key, "there is no `endpoint=` folder"))?;
    check_endpoint(key, endpoint)?;
    let season = match field("season") {
        None => None,
        Some(text) => Some(
            Some(text)
                .filter(|text| text.len() == 4 && !text.starts_with('0'))
                .and_then(number)
                .ok_or_else(|| key_error(key, "a season has four digits"))?,
        ),
    };
    let round = match field("round") {
        None => None,
        Some(text) => Some(
            Some(text)
                .filter(|text| text.len() == 2)
                .and_then(number)
                .filter(|&round: &u8| round > 0)
                .ok_or_else(|| key_error(key, "a round has two digits, 01 to 99"))?,
        ),
    };
    if round.is_some() && season.is_none() {
        return Err(key_error(key, "a round needs a season"));
    }
    let batch_id =
        field("batch_id").ok_or_else(|| key_error(key, "there is no `batch_id=` folder where one belongs"))?;
    let batch_id = batch_id.parse().map_err(|_| key_error(key, "its batch_id is no UTC time like 20241216T120000"))?;
    let file = parts.next().filter(|file| !file.is_empty()).ok_or_else(|| key_error(key, "it names no file"))?;
    if parts.next().is_some() {
        return Err(key_error(key, "there are folders below the batch"));
    }
    Ok((Partition { endpoint: endpoint.to_owned(), season, round }, batch_id, file))
}

/// Digits alone: `str::parse` would take a sign too.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn check_endpoint(key: &str, endpoint: &str) -> Result<(), LakeError> {
    let valid =
        !endpoint.is_empty() && endpoint.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if valid { Ok(()) } else { Err(key_error(key, "an endpoint is made of a-z, 0-9 and _")) }
}

fn key_error(key: &str, reason: &str) -> LakeError {
    LakeError::Key { key: key.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partitions() -> impl Strategy<Value = Partition> {
        let time = prop_oneof![
            Just((None, None)),
            (1000u16..=9999).prop_map(|season| (Some(season), None)),
            (1000u16..=9999, 1u8..=99).prop_map(|(season, round)| (Some(season), Some(round))),
        ];
        ("[a-z][a-z0-9_]{0,20}", time).prop_map(|(endpoint, (season, round))| Partition { endpoint, season, round })
    }

    fn batch_ids() -> impl Strategy<Value = BatchId> {
        // 1970 to 2600.
        (0i64..20_000_000_000).prop_map(|seconds| BatchId::at(DateTime::from_timestamp(seconds, 0).unwrap()))
    }

    proptest! {
        #[test]
        fn keys_survive_text(partition in partitions(), batch_id in batch_ids(), page in 0u32..2000) {
            let file = if page == 0 { BronzeFile::Data } else { BronzeFile::Page(page) };
            let bronze = BronzeKey { partition: partition.clone(), batch_id, file };
            prop_assert_eq!(&bronze.to_string().parse::<BronzeKey>().unwrap(), &bronze);
            prop_assert!(bronze.to_string().starts_with(&partition.batch_prefix(batch_id)));
            let silver = SilverKey { partition: partition.clone(), batch_id };
            prop_assert_eq!(&silver.to_string().parse::<SilverKey>().unwrap(), &silver);
            let quarantine = QuarantineKey { partition: partition.clone(), batch_id };
            prop_assert_eq!(&quarantine.to_string().parse::<QuarantineKey>().unwrap(), &quarantine);
            prop_assert!(quarantine.to_string().parse::<SilverKey>().is_err());
            prop_assert!(!quarantine.to_string().starts_with(&endpoint_prefix(partition.endpoint())));
        }

        #[test]
        fn whatever_parses_is_the_canonical_text(key in "ergast/endpoint=[a-z]{1,3}/(season=[0-9+]{3,5}/)?(round=[0-9]{1,3}/)?batch_id=20[0-9]{6}T[0-9]{6}/(data.json|page_[0-9]{1,5}.json)") {
            if let Ok(parsed) = key.parse::<BronzeKey>() {
                prop_assert_eq!(parsed.to_string(), key);
            }
        }

        #[test]
        fn batches_sort_as_their_times(a in batch_ids(), b in batch_ids()) {
            prop_assert_eq!(a.cmp(&b), a.instant().cmp(&b.instant()));
            prop_assert_eq!(a.cmp(&b), a.as_str().cmp(b.as_str()));
        }
    }

    #[test]
    fn keys_are_those_of_the_design() {
        let batch_id: BatchId = "20241216T120000".parse().unwrap();
        let round = Partition::new("results", Some(2024), Some(5)).unwrap();
        let key = BronzeKey { partition: round.clone(), batch_id, file: BronzeFile::Page(1) };
        assert_eq!(
            key.to_string(),
            "ergast/endpoint=results/season=2024/round=05/batch_id=20241216T120000/page_001.json"
        );
        let key = SilverKey { partition: round, batch_id };
        assert_eq!(
            key.to_string(),
            "ergast/endpoint=results/season=2024/round=05/batch_id=20241216T120000/data.parquet"
        );
        let whole = Partition::new("circuits", None, None).unwrap();
        let key = BronzeKey { partition: whole, batch_id, file: BronzeFile::Data };
        assert_eq!(key.to_string(), "ergast/endpoint=circuits/batch_id=20241216T120000/data.json");
    }

    #[test]
    fn other_keys_are_refused_with_the_reason() {
        for (key, reason) in [
            ("other/endpoint=results/batch_id=20241216T120000/data.json", "begin with `ergast/`"),
            ("ergast/season=2024/batch_id=20241216T120000/data.json", "no `endpoint=`"),
            ("ergast/endpoint=Results/batch_id=20241216T120000/data.json", "a-z"),
            ("ergast/endpoint=results/season=24/batch_id=20241216T120000/data.json", "four digits"),
            ("ergast/endpoint=results/season=2024/round=5/batch_id=20241216T120000/data.json", "two digits"),
            ("ergast/endpoint=results/season=2024/round=00/batch_id=20241216T120000/data.json", "two digits"),
            ("ergast/endpoint=results/round=05/batch_id=20241216T120000/data.json", "needs a season"),
            ("ergast/endpoint=results/batch_id=2024-12-16/data.json", "batch_id"),
            ("ergast/endpoint=results/batch_id=20241316T120000/data.json", "batch_id"),
            ("ergast/endpoint=results/batch_id=20241216T120000/", "no file"),
            ("ergast/endpoint=results/batch_id=20241216T120000/a/data.json", "below the batch"),
            ("ergast/endpoint=results/batch_id=20241216T120000/page_1.json", "page_NNN"),
            ("ergast/endpoint=results/batch_id=20241216T120000/page_000.json", "page_NNN"),
            ("ergast/endpoint=results/batch_id=20241216T120000/data.parquet", "page_NNN"),
        ] {
            let message = key.parse::<BronzeKey>().unwrap_err().to_string();
            assert!(message.contains(reason), "{key}: {message}");
        }
    }

    #[test]
    fn partitions_are_checked() {
        assert!(Partition::new("results", None, Some(1)).is_err());
        assert!(Partition::new("results", Some(24), None).is_err());
        assert!(Partition::new("a/b", None, None).is_err());
        assert!(Partition::new("results", Some(2024), Some(0)).is_err());
    }

    #[test]
    fn the_next_batch_is_a_second_later() {
        let batch_id: BatchId = "20241231T235959".parse().unwrap();
        assert_eq!(batch_id.next().as_str(), "20250101T000000");
    }
}
