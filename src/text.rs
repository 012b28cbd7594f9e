//! Text for people: what files and paths hold, made safe for a terminal; times as RFC 3339 has them. Hidden from
//! the documentation: for the engine and the command.

use std::fmt::{self, Write};

/// Passes text on with its control characters escaped (`\u{1b}`): text that somebody else wrote must not move a
/// terminal's cursor, change its colours or answer in the user's name.
pub(crate) struct Plain<W>(pub(crate) W);

impl<W: Write> Write for Plain<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_active) {
            let mut after = rest[at..].chars();
            self.0.write_str(&rest[..at])?;
            after.next().map_or(Ok(()), |control| write!(self.0, "{}", control.escape_default()))?;
            rest = after.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Whether a terminal acts on it instead of showing it: control characters, and those that turn the direction of
/// writing.
pub fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text with its control characters escaped; lines stay lines.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            safe.push('\n');
        }
        // Writing to a string can't fail.
        let _ = Plain(&mut safe).write_str(line);
    }
    safe
}

/// `2026-03-14T15:09:26.535Z` of milliseconds since 1970.
pub fn rfc3339(ms: i64) -> String {
    let (seconds, ms) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01: a leap day is then the last day of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    //! Texts and times with known answers.

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        for (text, safe) in [
            ("", ""),
            ("pid 7, höst → earth", "pid 7, höst → earth"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", r"\u{1b}[2J\u{1b}]0;title\u{7}"),
            ("a\r\nb\0\u{7f}\u{9b}1m", "a\\r\nb\\u{0}\\u{7f}\\u{9b}1m"),
            ("\u{202e}gpj.exe\u{2069}", r"\u{202e}gpj.exe\u{2069}"),
            ("\n\n", "\n\n"),
        ] {
            assert_eq!(plain(text), safe, "{text:?}");
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_399_000), "2000-02-28T23:59:59.000Z");
        assert_eq!(rfc3339(951_868_800_999), "2000-03-01T00:00:00.999Z");
        assert_eq!(rfc3339(1_709_210_096_000), "2024-02-29T12:34:56.000Z");
        assert_eq!(rfc3339(1_796_031_985_818), "2026-11-30T09:46:25.818Z");
    }
}
