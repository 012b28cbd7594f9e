//! Charts as SVG inside a page: lines over two axes, and bars beside each other. Colours and fonts are the
//! page's.

use std::fmt::Write;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 210.0;
/// Room for the axes' words.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

/// From where to where, and where something is written.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) label: &'static str,
}

impl Axis {
    /// From 0 to a round number that is not below `max`, with at most five steps.
    pub(super) fn from_zero(max: f64, label: &'static str, text: impl Fn(f64) -> String) -> Axis {
        let max = if max > 0.0 { max } else { 1.0 };
        let power = 10f64.powf((max / 4.0).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| step * 5.0 >= max * 0.999).unwrap_or(10.0 * power);
        let count = (max / step * 0.999).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|at| (f64::from(at) * step, text(f64::from(at) * step)));
        Axis { from: 0.0, to: count * step, ticks: ticks.collect(), label }
    }

    /// From 0 to `max`, with words at round numbers below it.
    pub(super) fn to_end(max: f64, label: &'static str, text: impl Fn(f64) -> String) -> Axis {
        let round = Axis::from_zero(max, label, text);
        let ticks = round.ticks.into_iter().filter(|(value, _)| *value <= max).collect();
        Axis { from: 0.0, to: max.max(f64::MIN_POSITIVE), ticks, label }
    }

    /// Powers of ten around `min` and `max`; the axis itself counts in those powers.
    pub(super) fn powers(min: f64, max: f64, label: &'static str, text: impl Fn(f64) -> String) -> Axis {
        let (from, to) = (min.max(1.0).log10().floor(), max.max(1.0).log10().ceil());
        let to = to.max(from + 1.0);
        let ticks = (from as i32..=to as i32).map(|power| (f64::from(power), text(10f64.powi(power))));
        Axis { from, to, ticks: ticks.collect(), label }
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// What the page colours: `ours` or `floor`.
    pub(super) class: &'static str,
    /// Where, and what is said about it when it is pointed at.
    pub(super) points: Vec<(f64, f64, String)>,
    /// Each point is marked, and its words stand beside it.
    pub(super) marked: bool,
}

/// A chart for those who see it; `what` is for those who don't.
pub(super) fn lines(what: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let at_x = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(what, HEIGHT);
    for (value, text) in &y.ticks {
        let at = at_y(*value);
        let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/>"#, WIDTH - RIGHT);
        let _ = write!(svg, r#"<text class="end" x="{}" y="{:.1}">{}</text>"#, LEFT - 6.0, at + 4.0, escape(text));
    }
    for (value, text) in &x.ticks {
        let at = at_x(*value);
        let _ =
            write!(svg, r#"<text class="middle" x="{at:.1}" y="{}">{}</text>"#, HEIGHT - BOTTOM + 16.0, escape(text));
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = write!(svg, r#"<text class="middle label" x="{middle}" y="{}">{}</text>"#, HEIGHT - 4.0, escape(x.label));
    for line in lines {
        let places: Vec<_> = line.points.iter().map(|(x, y, _)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        let _ = write!(svg, r#"<polyline class="{}" points="{}"/>"#, line.class, places.join(" "));
        for (x, y, text) in &line.points {
            let (x, y) = (at_x(*x), at_y(*y));
            let radius = if line.marked { 4.0 } else { 5.0 };
            let class = if line.marked { line.class } else { "touch" };
            let _ = write!(
                svg,
                r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{}</title></circle>"#,
                escape(text)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// One bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    /// What is said when it is pointed at.
    pub(super) text: String,
}

/// Bars from 0 on, with a mark where 1 is; longer ones than `limit` are cut there.
pub(super) fn bars(what: &str, bars: &[Bar], limit: f64) -> String {
    const ROW: f64 = 30.0;
    const NAMES: f64 = 190.0;
    const ENDS: f64 = 90.0;
    const WIDE: f64 = 780.0;
    let height = bars.len() as f64 * ROW + 28.0;
    let at = |value: f64| NAMES + value.min(limit) / limit * (WIDE - NAMES - ENDS);
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDE} {height}" role="img" aria-label="{}">"#, escape(what));
    let one = at(1.0);
    // Over everything else.
    let mut said_at_ends = String::new();
    let _ = write!(svg, r#"<line class="axis" x1="{NAMES}" x2="{NAMES}" y1="4" y2="{}"/>"#, height - 22.0);
    for (number, bar) in bars.iter().enumerate() {
        let top = number as f64 * ROW + 6.0;
        let end = at(bar.value);
        let _ = write!(
            svg,
            r#"<text class="end name" x="{}" y="{}">{}</text>"#,
            NAMES - 10.0,
            top + 15.0,
            escape(&bar.name)
        );
        // Square at the base, round at the end.
        let radius = 4f64.min((end - NAMES).max(0.0));
        let _ = write!(
            svg,
            r#"<path class="ours" d="M{NAMES},{top} H{:.1} q{radius},0 {radius},{radius} V{:.1} q0,{radius} -{radius},{radius} H{NAMES} Z"><title>{}: {}</title></path>"#,
            end - radius,
            top + 20.0 - radius,
            escape(&bar.name),
            escape(&bar.text),
        );
        let said = format!("{}{}", if bar.value > limit { "→ " } else { "" }, super::text::digits(bar.value));
        let _ = write!(said_at_ends, r#"<text class="value" x="{:.1}" y="{}">{said}</text>"#, end + 8.0, top + 15.0);
    }
    let _ = write!(svg, r#"<line class="one" x1="{one:.1}" x2="{one:.1}" y1="2" y2="{}"/>"#, height - 20.0);
    let _ = write!(svg, r#"<text class="middle" x="{one:.1}" y="{}">the floor</text>"#, height - 4.0);
    svg.push_str(&said_at_ends);
    svg.push_str("</svg>");
    svg
}

fn open(what: &str, height: f64) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}">"#, escape(what))
}

/// Text that may stand in a page, in quotes too.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let axis = |max: f64| {
            let axis = Axis::from_zero(max, "", |value| value.to_string());
            (axis.to, axis.ticks.len())
        };
        assert_eq!(axis(10.4), (12.5, 6));
        assert_eq!(axis(8.0), (8.0, 5));
        assert_eq!(axis(0.0), (1.0, 6));
        let powers = Axis::powers(83_000.0, 1_240_000.0, "", |value| value.to_string());
        assert_eq!((powers.from, powers.to), (4.0, 7.0));
    }

    #[test]
    fn text_cannot_break_out() {
        assert_eq!(escape("<a b=\"c\">&'"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
    }
}
