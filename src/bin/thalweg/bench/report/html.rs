//! The page: the table and the charts in one file, which needs nothing else; no script, light or dark as
//! the reader's screen is, black on white on paper.

use std::fmt::Write;

use super::page_charts::{self, Chart};
use super::svg::escape;
use super::{Report, text};
use crate::bench::figures::Row;
use crate::output;

const STYLE: &str = include_str!("page.css");

pub(super) fn render(report: &Report) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>thalweg bench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut page, report);
    table(&mut page, &report.rows);
    if let Some(ratios) = page_charts::ratios(&report.rows) {
        let _ = write!(
            page,
            "<h2>Beside the floor</h2>\n<p>Speed relative to the floor, which is the same bytes with the least \
             possible work, measured in the same run: 1 is as fast as it. For partitions it is one partition. Longer \
             bars are cut.</p>\n<figure class=\"wide\">{ratios}</figure>\n"
        );
    }
    section(
        &mut page,
        "Over time",
        "What was done in each interval; the rounds stand one behind the other.",
        report.rows.iter().filter_map(page_charts::over_time),
    );
    section(
        &mut page,
        "Times",
        "How long which share took at most. <span class=\"key\"></span>thalweg <span class=\"key floor\"></span>its floor, or what it is compared with",
        report.rows.iter().filter_map(page_charts::latencies),
    );
    section(
        &mut page,
        "Scaling",
        "Records of 100 bytes, if nothing else was asked for; partitions with two producers.",
        report.scaling.iter().map(page_charts::scaling),
    );
    floors(&mut page, &report.rows);
    page.push_str("</body>\n</html>\n");
    page
}

fn head(page: &mut String, report: &Report) {
    let [machine, place] = report.environment.lines().map(|line| escape(&line));
    let _ = write!(page, "<h1>thalweg bench</h1>\n<p>{machine}<br/>{place}<br/>{}", output::date(report.begun_ms));
    if let Some(peak) = report.peak_anonymous_bytes {
        let _ = write!(page, "; peak memory of its own {}", output::bytes(peak));
    }
    page.push_str("</p>\n");
    if report.partial {
        page.push_str("<p class=\"partial\">Partial: it was cut short.</p>\n");
    }
}

fn table(page: &mut String, rows: &[Row]) {
    page.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for heading in ["workload", "rate", "data", "p50", "p99", "p99.9", "max", "floor", "ratio"] {
        let _ = write!(page, "<th>{heading}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let name = escape(&(row.name() + if row.partial { " (cut short)" } else { "" }));
        let _ = write!(page, "<tr><td>{name}</td>");
        if let (true, Some(note)) = (row.figures.is_empty(), row.notes.first()) {
            let _ = writeln!(page, "<td class=\"refused\" colspan=\"8\">{}</td></tr>", escape(note));
            continue;
        }
        let floor = row.floors.first().map_or_else(|| "-".to_owned(), |floor| text::floor(row.measure, floor));
        let ratio = row.ratio().map_or_else(|| "-".to_owned(), text::digits);
        let cells = [text::row_rate(row), text::row_bytes(row)]
            .into_iter()
            .chain(text::row_latencies(row))
            .chain([floor, ratio]);
        for cell in cells {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str(
        "</tbody>\n</table></div>\n<p>Ratio: rate to the floor's rate, more is better; where the floor is a p50, \
         p50 to p50, less is better.</p>\n",
    );
}

/// `intro` is HTML.
fn section(page: &mut String, title: &str, intro: &str, charts: impl Iterator<Item = Chart>) {
    let mut charts = charts.peekable();
    if charts.peek().is_none() {
        return;
    }
    let _ = write!(page, "<h2>{}</h2>\n<p>{intro}</p>\n<div class=\"charts\">\n", escape(title));
    for Chart { title, below, svg } in charts {
        let _ = writeln!(
            page,
            "<figure><h3>{}</h3><figcaption>{}</figcaption>{svg}</figure>",
            escape(&title),
            escape(&below)
        );
    }
    page.push_str("</div>\n");
}

/// What each was held against.
fn floors(page: &mut String, rows: &[Row]) {
    page.push_str("<h2>What was measured</h2>\n<dl>\n");
    for row in rows {
        let floors = row.floors.iter().map(|floor| format!("{} ({})", floor.name, text::floor(row.measure, floor)));
        let floors: Vec<_> = floors.collect();
        let against = if floors.is_empty() { String::new() } else { format!(" floor: {}.", floors.join(", ")) };
        let settings = row.settings.iter().filter(|(_, value)| !value.is_null());
        let settings: Vec<_> =
            settings.map(|(name, value)| format!("{name} {}", value.to_string().trim_matches('"'))).collect();
        let _ = writeln!(
            page,
            "<dt>{}</dt><dd>{} {}.{} {}</dd>",
            escape(&row.name()),
            output::count(row.figures.count),
            row.unit,
            escape(&against),
            escape(&settings.join(", "))
        );
    }
    page.push_str("</dl>\n");
}
