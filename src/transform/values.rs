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
    // One pass: the seconds so far, the digits of the unit at hand, which unit it is.
    let (mut seconds, mut unit, mut digits, mut units) = (0i64, 0i64, 0, 1);
    let bytes = text.as_bytes();
    let mut millis = 0;
    let is_complete = |unit: i64, digits: i32, units: i32| {
        if units == 1 { (1..=6).contains(&digits) } else { digits == 2 && unit < 60 }
    };
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                if digits > 6 {
                    return None;
                }
                unit = unit * 10 + i64::from(byte - b'0');
            }
            b':' if units < 3 && is_complete(unit, digits, units) => {
                seconds = (seconds + unit) * 60;
                (unit, digits, units) = (0, 0, units + 1);
            }
            b'.' => {
                millis = fraction(&bytes[index + 1..])?;
                break;
            }
            _ => return None,
        }
    }
    is_complete(unit, digits, units).then(|| (seconds + unit) * 1000 + millis)
}

/// One to three digits behind a point, as thousandths.
fn fraction(digits: &[u8]) -> Option<i64> {
    if !(1..=3).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((0..3).fold(0, |sum, index| sum * 10 + digits.get(index).map_or(0, |digit| i64::from(digit - b'0'))))
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
