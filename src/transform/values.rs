//! Text to value: numbers, dates, durations as the API writes them. In: a trimmed text; out: the value, or `None` where
//! it is none. Pure.

use chrono::{Datelike as _, NaiveDate};

/// 1970-01-01 in days of the common era.
const UNIX_EPOCH_DAYS: i32 = 719_163;

/// Decimal digits with an optional minus; nothing else.
pub(super) fn integer(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

/// A finite decimal number.
pub(super) fn float(text: &str) -> Option<f64> {
    // `parse` would also take words: inf, nan.
    let plain = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|value| plain && value.is_finite())
}

/// `1950-05-13` to days since 1970.
pub(super) fn date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let part =
        |from: usize, to: usize| bytes[from..to].iter().all(u8::is_ascii_digit).then(|| integer(&text[from..to]));
    let (year, month, day) = (part(0, 4)??, part(5, 7)??, part(8, 10)??);
    let date =
        NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    Some(date.num_days_from_ce() - UNIX_EPOCH_DAYS)
}

/// `1:36.551`, `2:05:05.152`, `16:44.718`, `53.904` or `1:36` to milliseconds.
pub(super) fn millis(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut seconds = 0i64;
    let mut units = 0;
    for unit in whole.split(':') {
        units += 1;
        let valid = if units == 1 {
            (1..=6).contains(&unit.len())
        } else {
            unit.len() == 2 && unit.as_bytes().first().is_some_and(|&tens| tens < b'6')
        };
        if !valid || units > 3 {
            return None;
        }
        for digit in unit.bytes() {
            if !digit.is_ascii_digit() {
                return None;
            }
        }
        seconds = seconds * 60 + integer(unit)?;
    }
    let mut millis = 0i64;
    if let Some(fraction) = fraction {
        if !(1..=3).contains(&fraction.len()) || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        for index in 0..3 {
            millis = millis * 10 + fraction.as_bytes().get(index).map_or(0, |digit| i64::from(digit - b'0'));
        }
    }
    Some(seconds * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_every_era_are_read() {
        for (text, expected) in [
            ("1:36.551", Some(96_551)),
            ("53.904", Some(53_904)),
            ("2:05:05.152", Some(7_505_152)),
            ("16:44.718", Some(1_004_718)),
            ("1:36", Some(96_000)),
            ("41.97", Some(41_970)),
            ("0.5", Some(500)),
            ("", None),
            ("N", None),
            ("+1.234", None),
            ("-1.5", None),
            ("1:6.551", None),
            ("1:66.551", None),
            ("1:2:3:04.5", None),
            ("1:36.5511", None),
            ("1:36.", None),
            ("1::36", None),
            (":36", None),
            ("1 36", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        assert_eq!(integer("0042"), Some(42));
        assert_eq!(integer("-1"), Some(-1));
        for text in ["", "-", "+1", "1.0", "1e3", "0x1", "١", "1234567890123456789"] {
            assert_eq!(integer(text), None, "{text}");
        }
        assert_eq!(float("8.14"), Some(8.14));
        assert_eq!(float("-0.0000001"), Some(-0.000_000_1));
        for text in ["", "inf", "nan", "1,5", "1e999", "infinity", "--1"] {
            assert_eq!(float(text), None, "{text}");
        }
    }

    #[test]
    fn dates_before_1970_are_negative_days() {
        assert_eq!(date("1970-01-01"), Some(0));
        assert_eq!(date("1950-05-13"), Some(-7173));
        assert_eq!(date("2024-02-29"), Some(19_782));
        for text in ["2023-02-29", "1950-5-13", "1950/05/13", "", "0000-00-00", "19500513", "+950-05-13"] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
