//! Values of flags: sizes, ranges of sizes, counts, seconds.

use std::str::FromStr;
use std::time::Duration;

/// The largest record that the bench sends.
const RECORD_BYTES_MAX: u64 = 8 << 20;

/// How large values are: from `min` to `max` bytes, both inclusive, evenly spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordSize {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl RecordSize {
    pub(crate) const fn of(bytes: usize) -> RecordSize {
        RecordSize { min: bytes, max: bytes }
    }

    pub(crate) fn mean(self) -> f64 {
        (self.min + self.max) as f64 / 2.0
    }

    /// `100 B`, `1 KiB`, `100 B..1000 B`.
    pub(crate) fn name(self) -> String {
        if self.min == self.max {
            size_name(self.min)
        } else {
            format!("{}..{}", size_name(self.min), size_name(self.max))
        }
    }
}

fn size_name(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

impl FromStr for RecordSize {
    type Err = String;

    fn from_str(text: &str) -> Result<RecordSize, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (bytes(min)?, bytes(max.trim_start_matches('='))?);
        if min > max {
            return Err(format!("the range ends before it begins: {min} is more than {max}"));
        }
        if max > RECORD_BYTES_MAX {
            return Err("a record has at most 8 MiB here".to_owned());
        }
        Ok(RecordSize { min: min as usize, max: max as usize })
    }
}

/// `4096`, `64KiB` or `64K`, `1GiB` or `1G`; `MB` and the like are powers of 1,000. Not 0.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("it is a number of bytes, such as 4096, 64KiB, 256MiB or 10GiB".to_owned()),
    };
    let number: u64 =
        digits.parse().map_err(|_| "it is a number of bytes, such as 4096, 64KiB, 256MiB or 10GiB".to_owned())?;
    match number.checked_mul(factor) {
        Some(0) => Err("it is 1 byte or more".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("that is more than there can be".to_owned()),
    }
}

/// `100000`, `100k`, `2M`. Not 0.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let wrong = || "it is a number, such as 5000, 100k or 2M".to_owned();
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
        _ => (text, 1),
    };
    match digits.parse::<u64>().map_err(|_| wrong())?.checked_mul(factor) {
        Some(0) => Err("it is 1 or more".to_owned()),
        Some(count) => Ok(count),
        None => Err(wrong()),
    }
}

/// `5`, `0.5`; more than 0, at most a year.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("it is more than 0 seconds".to_owned()),
        time => Ok(time),
    }
}

/// As [`seconds`], or 0.
pub(crate) fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "it is a number of seconds, such as 5 or 0.5".to_owned())?;
    if !(0.0..=31_536_000.0).contains(&number) {
        return Err("it is a number of seconds, from 0 to a year".to_owned());
    }
    Ok(Duration::from_secs_f64(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood() {
        assert_eq!(
            ["100", "64KiB", "64k", "1GiB", "1gb"].map(bytes),
            [Ok(100), Ok(65_536), Ok(65_536), Ok(1 << 30), Ok(1_000_000_000)]
        );
        for wrong in ["", "0", "0KiB", "-1", "1.5M", "many", "1XB", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn record_sizes_are_values_or_ranges() {
        assert_eq!("100".parse(), Ok(RecordSize::of(100)));
        assert_eq!("100..1KiB".parse(), Ok(RecordSize { min: 100, max: 1024 }));
        for wrong in ["0", "0..5", "9..8", "..", "1..", "9MiB"] {
            assert!(wrong.parse::<RecordSize>().is_err(), "{wrong:?}");
        }
        assert_eq!(RecordSize { min: 100, max: 1024 }.name(), "100 B..1 KiB");
    }

    #[test]
    fn counts_and_seconds_are_understood() {
        assert_eq!((count("5"), count("100k"), count("2M")), (Ok(5), Ok(100_000), Ok(2_000_000)));
        assert_eq!((seconds("0.5"), seconds_or_none("0")), (Ok(Duration::from_millis(500)), Ok(Duration::ZERO)));
        for wrong in ["0", "-1", "x", "nan", "inf", "1e99"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
        assert!(count("0").is_err() && count("k").is_err());
    }
}
