//! What is printed, and how: stdout that may be closed, tables, sizes and times for people.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use comfy_table::{Cell, CellAlignment, ContentLineStyle, LineStyle, Row, Table, TableStyle};

use crate::failure::Failure;

/// Bytes gathered for one write to stdout.
const STDOUT_BYTES: usize = 512 << 10;

/// Stdout for streams: written when full, and when the caller says so.
pub(crate) fn stdout() -> Result<BufWriter<File>, Failure> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(Failure::stdout)?;
    Ok(BufWriter::with_capacity(STDOUT_BYTES, File::from(stdout)))
}

/// Prints a text to stdout. Control characters that it took from a file or a path are escaped.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_raw(&Style::of_stdout().finish(&thalweg::text::plain(text)))
}

fn print_raw(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::stdout)
}

/// Prints a JSON document to stdout, on a line.
pub(crate) fn print_json(document: &serde_json::Value) -> Result<(), Failure> {
    let mut text = format!("{document}\n");
    // What JSON lets stand as it is, a terminal may obey.
    let is_active = |c: &char| *c != '\n' && thalweg::text::is_active(*c);
    while let Some(active) = text.chars().find(is_active) {
        text = text.replace(active, &format!("\\u{:04x}", u32::from(active)));
    }
    print_raw(&text)
}

/// Whether the reader of stdout has closed it. For commands that wait while they have nothing to print: what
/// they print finds it out by itself.
pub(crate) fn is_closed() -> bool {
    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let polled = rustix::event::poll(&mut watched, Some(&Timespec::default()));
    polled.is_ok() && is_hung_up(&watched[0])
}

/// Whether `poll` said that the other side of a pipe, socket or terminal is gone.
pub(crate) fn is_hung_up(polled: &PollFd<'_>) -> bool {
    polled.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
}

/// A line to stderr; if nobody reads it, that is no error.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{}", thalweg::text::plain(&line.to_string()));
}

/// Stands for the beginning of a terminal's code until the text is printed: a private character that no control
/// character in foreign text becomes.
const PAINT: char = '\u{10fffd}';

/// How text on stdout may look: plain unless it is a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colors: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { colors: wanted && io::stdout().is_terminal() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colors { format!("{PAINT}{code}m{text}{PAINT}0m") } else { text.to_owned() }
    }

    /// Replaces what [`paint`](Style::paint) left by the terminal's own codes. Foreign text can at most have the same
    /// few colours.
    fn finish(self, text: &str) -> String {
        if !self.colors {
            return text.to_owned();
        }
        let codes = ["0m", "1m", "2m", "31m", "32m"];
        codes
            .iter()
            .fold(text.to_owned(), |text, code| text.replace(&format!("{PAINT}{code}"), &format!("\x1b[{code}")))
    }
}

/// A frame, a line below the heading, and air between the columns.
const TABLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('╭', '─', '─', '╮'))
    .header_lines(ContentLineStyle::new('│', ' ', '│'))
    .header_separator(LineStyle::new('├', '─', '─', '┤'))
    .content_lines(ContentLineStyle::new('│', ' ', '│'))
    .bottom_border(LineStyle::new('╰', '─', '─', '╯'));

/// A table with a heading; columns whose heading ends in `>` are numbers and stand right.
pub(crate) fn table<R: Into<Row>>(heading: &[&str], rows: impl IntoIterator<Item = R>) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE);
    table.set_header(heading.iter().map(|name| Cell::new(name.trim_end_matches('>'))));
    table.add_rows(rows);
    for (at, name) in heading.iter().enumerate() {
        if let Some(column) = table.column_mut(at)
            && name.ends_with('>')
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Columns of the terminal that stdout is, if it is one.
pub(crate) fn width() -> Option<u16> {
    Table::new().width()
}

/// `12,345,678`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `512 B`, `64.0 KiB`, `1.5 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// So many bytes in that time: `1.25 GB/s`.
pub(crate) fn bytes_rate(number: u64, time: Duration) -> String {
    scaled(rate(number, time), 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// So many things in that time, each second: `3.2 M`.
pub(crate) fn count_rate(number: u64, time: Duration) -> String {
    scaled(rate(number, time), 1000.0, &["", "k", "M", "G", "T"]).trim_end().to_owned()
}

/// So many a second; of no time at all, as if it were a nanosecond.
pub(crate) fn rate(number: u64, time: Duration) -> f64 {
    number as f64 / time.as_secs_f64().max(1e-9)
}

fn scaled(mut number: f64, base: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next().copied().unwrap_or_default();
    let mut whole = true;
    while number >= base && units.peek().is_some() {
        number /= base;
        unit = units.next().copied().unwrap_or_default();
        whole = false;
    }
    if whole {
        format!("{number:.0} {unit}")
    } else if number < 9.995 {
        format!("{number:.2} {unit}")
    } else {
        format!("{number:.1} {unit}")
    }
}

/// `850 µs`, `12.3 ms`, `4.56 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// `2026-03-14 15:09:26 UTC` of milliseconds since 1970.
pub(crate) fn date(ms: i64) -> String {
    let text = thalweg::text::rfc3339(ms).replace('T', " ");
    format!("{} UTC", text.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1_000, 12_345_678].map(count).each_ref().map(String::as_str)
        );
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(
            ["0 B", "1023 B", "1.00 KiB", "64.0 KiB", "1.50 GiB"].map(str::to_owned),
            [0, 1023, 1024, 65_536, 3 << 29].map(bytes)
        );
        assert_eq!(bytes_rate(1_250_000_000, Duration::from_secs(1)), "1.25 GB/s");
        assert_eq!(count_rate(900, Duration::from_secs(1)), "900");
        assert_eq!(count_rate(3_200_000, Duration::from_secs(1)), "3.20 M");
        assert_eq!(duration(Duration::from_micros(12_345)), "12.3 ms");
    }

    #[test]
    fn dates_for_people() {
        assert_eq!(date(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(date(1_709_210_096_000), "2024-02-29 12:34:56 UTC");
    }

    /// What is ours is coloured on a terminal, what a file holds is not obeyed.
    #[test]
    fn foreign_text_is_not_obeyed() {
        for colors in [true, false] {
            let style = Style { colors };
            let text = format!("{} \u{1b}[2J{PAINT}2J\n", style.bad("damaged:"));
            let expected = if colors { "\u{1b}[31mdamaged:\u{1b}[0m" } else { "damaged:" };
            let finished = style.finish(&thalweg::text::plain(&text));
            assert_eq!(finished, format!("{expected} \\u{{1b}}[2J{PAINT}2J\n"));
        }
    }
}
