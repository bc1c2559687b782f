//! dbt's version specifiers: `>=1.10.0`, `<2.0.0`, `1.0.0`, `1.0.0-b1`; for `require-dbt-version` and packages of the hub.

use std::cmp::Ordering;

/// A version of a package: three numbers and what is before the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    prerelease: Option<String>,
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let text = text.split('+').next()?;
        let (core, prerelease) = match text.split_once('-') {
            Some((core, rest)) => (core, Some(rest.to_owned())),
            None => split_prerelease(text),
        };
        let mut numbers = [0; 3];
        let mut count = 0;
        for part in core.split('.') {
            *numbers.get_mut(count)? = part.parse().ok()?;
            count += 1;
        }
        (count > 0).then_some(Self { numbers, prerelease })
    }

    pub(super) fn is_prerelease(&self) -> bool {
        self.prerelease.is_some()
    }
}

/// Python's form without a dash: `1.8.0b1`.
fn split_prerelease(text: &str) -> (&str, Option<String>) {
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => (text[..at].trim_end_matches('.'), Some(text[at..].to_owned())),
        None => (text, None),
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (&self.prerelease, &other.prerelease) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => compare_prerelease(a, b),
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `b9` is before `b10`: letters as letters, digits as numbers.
fn compare_prerelease(a: &str, b: &str) -> Ordering {
    let split = |text: &str| {
        let at = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        (text[..at].trim_end_matches('.').to_owned(), text[at..].parse::<u64>().unwrap_or(0))
    };
    split(a).cmp(&split(b))
}

/// Whether a version fulfils one specifier; `Err` where the specifier is malformed.
pub(super) fn matches(version: &str, specifier: &str) -> Result<bool, ()> {
    let specifier = specifier.trim();
    let (operator, wanted) = ["==", ">=", "<=", ">", "<", "="]
        .into_iter()
        .find_map(|operator| specifier.strip_prefix(operator).map(|rest| (operator, rest)))
        .unwrap_or(("=", specifier));
    let wanted = Version::parse(wanted).ok_or(())?;
    let version = Version::parse(version).ok_or(())?;
    let order = version.cmp(&wanted);
    Ok(match operator {
        ">=" => order != Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        "<" => order == Ordering::Less,
        _ => order == Ordering::Equal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_compare() {
        for (version, specifier, expected) in [
            ("1.11.0", ">=1.10.0", Ok(true)),
            ("1.11.0", "<1.11.0", Ok(false)),
            ("1.11.0", "1.11.0", Ok(true)),
            ("1.11.0-b10", ">1.11.0-b9", Ok(true)),
            ("1.11.0-rc1", "<1.11.0", Ok(true)),
            ("1.11.0", "nonsense", Err(())),
        ] {
            assert_eq!(matches(version, specifier), expected, "{version} {specifier}");
        }
    }
}
