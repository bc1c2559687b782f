//! What goes wrong on purpose: which fault a request meets follows from the seed and the request's number. Pure.

use std::{fmt, str::FromStr};

use super::random::Random;

/// A way for an answer to be wrong. Names as in `--fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// `500`: an HTML error page.
    ServerError,
    /// `503`.
    Unavailable,
    /// `truncate`: half of the body, with a length to match.
    Truncate,
    /// `cut`: the connection ends in the middle of the body.
    Cut,
    /// `html`: status 200 and an HTML page.
    Html,
    /// `reset`: the connection ends before an answer.
    Reset,
    /// `delay`: the answer comes late.
    Delay,
    /// `shift`: the total is one more than on the other pages.
    Shift,
    /// `throttle`: 429 for this request and the three after it.
    Throttle,
}

const NAMES: [(&str, FaultKind); 10] = [
    ("500", FaultKind::ServerError),
    ("503", FaultKind::Unavailable),
    ("truncate", FaultKind::Truncate),
    ("cut", FaultKind::Cut),
    ("html", FaultKind::Html),
    ("reset", FaultKind::Reset),
    ("delay", FaultKind::Delay),
    ("slow", FaultKind::Delay),
    ("shift", FaultKind::Shift),
    ("throttle", FaultKind::Throttle),
];

/// Requests that a throttling fault refuses.
const BURST: u64 = 4;

/// A fault and how often it happens: `500:0.05`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// 0 to 1, of all requests.
    pub probability: f64,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, probability) =
            text.split_once(':').ok_or_else(|| format!("`{text}` is not KIND:PROBABILITY, as in 500:0.05"))?;
        let kind = NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("`{name}` is no fault; there are {}", names.join(", "))
        })?;
        let probability = probability
            .parse()
            .ok()
            .filter(|probability| (0.0..=1.0).contains(probability))
            .ok_or_else(|| format!("`{probability}` is no probability from 0 to 1"))?;
        Ok(Self { kind, probability })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        write!(f, "{name}:{}", self.probability)
    }
}

/// The fault that request `number`, from 0, meets: the first of the list that its numbers fall to.
pub(super) fn fault_of(faults: &[Fault], seed: u64, number: u64) -> Option<FaultKind> {
    let burst = faults.iter().position(|fault| fault.kind == FaultKind::Throttle);
    if let Some(index) = burst
        && (number.saturating_sub(BURST - 1)..=number).any(|number| falls(faults, seed, number, index))
    {
        return Some(FaultKind::Throttle);
    }
    (0..faults.len()).find(|&index| falls(faults, seed, number, index)).map(|index| faults[index].kind)
}

fn falls(faults: &[Fault], seed: u64, number: u64, index: usize) -> bool {
    Random::of(seed, &[30, number, index as u64]).chance(faults[index].probability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written() {
        for text in ["500:0.05", "truncate:1", "throttle:0"] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("slow:0.5".parse::<Fault>().unwrap().kind, FaultKind::Delay);
        for (text, reason) in [("500", "KIND:PROBABILITY"), ("502:0.1", "is no fault"), ("500:2", "no probability")] {
            assert!(text.parse::<Fault>().unwrap_err().contains(reason));
        }
    }

    #[test]
    fn faults_follow_from_seed_and_number() {
        let faults = ["500:0.1", "reset:0.1"].map(|text| text.parse().unwrap());
        let draw = |seed| (0..1000).map(|number| fault_of(&faults, seed, number)).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let met = draw(7).iter().flatten().count();
        assert!((130..260).contains(&met), "{met}");
    }

    #[test]
    fn throttling_comes_in_bursts() {
        let faults = ["throttle:0.01".parse().unwrap()];
        let drawn: Vec<_> = (0..2000).map(|number| fault_of(&faults, 7, number).is_some()).collect();
        let bursts: Vec<_> = drawn.chunk_by(|a, b| a == b).filter(|run| run[0]).collect();
        assert!(bursts.len() > 5 && bursts.iter().all(|run| run.len() >= 4));
    }
}
