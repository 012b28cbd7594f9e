//! The table: a line a workload; on a narrow terminal, two lines of text each.

use std::fmt::Write;

use super::{Report, text};
use crate::bench::figures::Row;
use crate::output::{self, Style};

/// From here on everything stands on one line.
const WIDE: u16 = 118;

pub(super) fn render(report: &Report) -> String {
    let style = Style::of_stdout();
    let mut out = String::new();
    if report.partial {
        let _ = writeln!(
            out,
            "{}",
            style.bad("partial: it was cut short, the figures are of what was measured until then")
        );
    }
    if report.rows.is_empty() {
        let _ = writeln!(out, "nothing was measured");
    } else if output::width().is_none_or(|width| width >= WIDE) {
        let heading = ["workload", "rate>", "data>", "p50>", "p99>", "p99.9>", "max>", "floor>", "ratio>"];
        let _ = writeln!(out, "{}", output::table(&heading, report.rows.iter().map(wide)));
    } else {
        let heading = ["workload", "rate>", "times>", "floor>"];
        let _ = writeln!(out, "{}", output::table(&heading, report.rows.iter().map(narrow)));
    }
    let width = usize::from(output::width().unwrap_or(WIDE).min(WIDE));
    for line in below(report) {
        wrap(&mut out, &line, width);
    }
    out
}

/// In lines that fit, the second and further ones a little in.
fn wrap(out: &mut String, line: &str, width: usize) {
    let mut length = 0;
    for word in line.split(' ') {
        let count = word.chars().count();
        if length > 0 && length + 1 + count > width {
            out.push_str("\n  ");
            length = 2;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += count;
    }
    out.push('\n');
}

fn wide(row: &Row) -> [String; 9] {
    let [p50, p99, p999, max] = text::row_latencies(row);
    [name(row), text::row_rate(row), text::row_bytes(row), p50, p99, p999, max, floor(row), ratio(row)]
}

fn narrow(row: &Row) -> [String; 4] {
    let [p50, p99, p999, max] = text::row_latencies(row);
    let bytes = Some(text::row_bytes(row)).filter(|bytes| bytes != "-");
    let times = match p50.as_str() {
        "-" => p50,
        _ => format!("p50   {p50:>7}  p99 {p99:>7}\np99.9 {p999:>7}  max {max:>7}"),
    };
    let ratio = row.ratio().map(|ratio| format!("ratio {}", text::digits(ratio)));
    [in_two_lines(&name(row)), under(text::row_rate(row), bytes), times, under(floor(row), ratio)]
}

/// Broken where the longer line is shortest, but not between a number and its unit.
fn in_two_lines(name: &str) -> String {
    let words: Vec<&str> = name.split(' ').collect();
    let breaks = (1..words.len()).filter(|&at| !words[at - 1].ends_with(|last: char| last.is_ascii_digit()));
    let lines = breaks.map(|at| [words[..at].join(" "), words[at..].join(" ")]);
    let shortest = lines.min_by_key(|lines| lines.iter().map(|line| line.chars().count()).max());
    shortest.map_or_else(|| name.to_owned(), |lines| lines.join("\n"))
}

/// One line above the other, if there is another.
fn under(first: String, second: Option<String>) -> String {
    match second {
        Some(second) => format!("{first}\n{second}"),
        None => first,
    }
}

fn name(row: &Row) -> String {
    row.name() + if row.partial { " *" } else { "" }
}

fn floor(row: &Row) -> String {
    row.floors.first().map_or_else(|| "-".to_owned(), |floor| text::floor(row.measure, floor))
}

fn ratio(row: &Row) -> String {
    row.ratio().map_or_else(|| "-".to_owned(), text::digits)
}

/// What the table doesn't say.
fn below(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.rows.iter().any(|row| row.partial) {
        lines.push("* cut short".to_owned());
    }
    if report.rows.iter().any(|row| row.ratio().is_some()) {
        lines.push(
            "ratio: rate to the floor's rate, more is better; where the floor is a p50, p50 to p50, less is better"
                .to_owned(),
        );
    }
    let mut said = Vec::new();
    for row in &report.rows {
        for (at, floor) in row.floors.iter().enumerate() {
            let others = if at == 0 { String::new() } else { format!(" ({})", text::floor(row.measure, floor)) };
            let line = (row.workload, format!("{}{others}", floor.name));
            if !said.contains(&line) {
                said.push(line);
            }
        }
    }
    let floors: Vec<_> = said
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| {
            let names: Vec<_> = same.iter().map(|(_, name)| name.as_str()).collect();
            format!("{}: {}", same[0].0, names.join("; "))
        })
        .collect();
    if !floors.is_empty() {
        lines.push(format!("floors: {}", floors.join(". ")));
    }
    let touched = report.rows.iter().filter_map(|row| row.settings.get("touched_bytes")?.as_u64()).max();
    if let Some(touched) = touched.filter(|&bytes| bytes > 0) {
        lines.push(format!("append: {} of page cache are touched before each round", output::bytes(touched)));
    }
    lines.extend(report.rows.iter().flat_map(|row| row.notes.iter().map(|note| format!("{}: {note}", row.name()))));
    for scaling in &report.scaling {
        let points = scaling.points.iter().map(|(number, per_s, _)| format!("{number}: {}", text::rate(*per_s)));
        lines.push(format!("append by number of {}: {}", scaling.of, points.collect::<Vec<_>>().join(", ")));
    }
    if let Some(peak) = report.peak_anonymous_bytes {
        lines.push(format!("peak memory of its own (anonymous): {}", output::bytes(peak)));
    }
    lines.extend(report.environment.lines());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_broken_in_the_middle_but_not_before_a_unit() {
        for (name, lines) in [
            ("append 100 B, own syncs", "append 100 B,\nown syncs"),
            ("append 1 KiB in 256 KiB, own syncs", "append 1 KiB in\n256 KiB, own syncs"),
            ("tail 100 k/s polled, from sent", "tail 100 k/s\npolled, from sent"),
            ("durable 100 B", "durable\n100 B"),
            ("durable", "durable"),
        ] {
            assert_eq!(in_two_lines(name), lines);
        }
    }
}
