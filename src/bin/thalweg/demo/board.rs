//! What is shown while the play goes on: a table that is drawn again and again on a terminal, and a
//! line for each thing that happens.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thalweg::{GroupDescription, GroupOffset};

use super::stage::{Stage, name};
use super::{ANALYTICS, PARTITIONS, PRICES, SESSION_TIMEOUT, UPDATES};
use crate::directory::Directory;
use crate::output::{self, Style};

/// How often the table is drawn, at most, each second.
const DRAWN_PER_SECOND: u8 = 20;

pub(super) struct Board {
    /// Nothing at all is shown: the report is JSON, or nobody reads it.
    silent: bool,
    /// The table; hidden where stdout isn't a terminal.
    table: ProgressBar,
    style: Style,
}

impl Board {
    pub(super) fn new(silent: bool) -> Board {
        let target = match silent {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stdout_with_hz(DRAWN_PER_SECOND),
        };
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Board {
            silent,
            table: ProgressBar::with_draw_target(None, target).with_style(style),
            style: Style::of_stdout(),
        }
    }

    pub(super) fn begin(&mut self, directory: &Directory, seed: u64, made_again: bool) {
        let title = format!(
            "A stock ticker: {} prices into {PARTITIONS} partitions, read by two groups",
            output::count(UPDATES as u64)
        );
        let again = if made_again { " (made again: the one of an earlier demo is deleted)" } else { "" };
        let mut text = format!("{}\n\n", self.style.bold(&title));
        for (name, fact) in [
            ("directory", directory.path().display().to_string()),
            ("topic", format!("{}{again}", super::TOPIC)),
            ("seed", format!("{seed} (--seed {seed} gives the same prices)")),
            (
                PRICES,
                format!(
                    "3 consumers that share the partitions; session time-out {}",
                    output::duration(SESSION_TIMEOUT)
                ),
            ),
            (ANALYTICS, "1 consumer that reads everything by itself".to_owned()),
        ] {
            let _ = writeln!(text, "  {}  {fact}", self.style.faint(&format!("{name:<9}")));
        }
        text.push('\n');
        self.print(&text);
    }

    /// Something happened.
    pub(super) fn tell(&mut self, seconds: f64, what: &str) {
        let line = format!("  {}  {what}", self.style.faint(&format!("{seconds:>6.2} s")));
        if self.table.is_hidden() {
            self.print(&(line + "\n"));
        } else {
            self.table.println(line);
        }
    }

    /// How it stands.
    pub(super) fn show(&mut self, stage: &Stage, all: usize, prices: &GroupDescription, analytics: &GroupDescription) {
        if self.table.is_hidden() {
            return;
        }
        let heading = ["partition>", "prices", "committed>", "lag>", "analytics>", "lag>", "end>"];
        let rows = prices.offsets.iter().zip(&analytics.offsets).map(|(ours, theirs)| {
            let committed = |row: &GroupOffset| output::count(row.committed.unwrap_or(0));
            vec![
                ours.partition.to_string(),
                ours.member.as_deref().map_or("-", name).to_owned(),
                committed(ours),
                output::count(ours.lag()),
                committed(theirs),
                output::count(theirs.lag()),
                output::count(ours.end_offset),
            ]
        });
        let (sent, all) = (output::count(stage.sent() as u64), output::count(all as u64));
        self.table.set_message(format!(
            "{}\n{:>6.2} s  sent {sent} of {all}; {PRICES}: generation {}, {}, {}",
            output::table(&heading, rows),
            stage.seconds(),
            prices.generation,
            prices.state,
            output::counted(prices.members.len() as u64, "member"),
        ));
    }

    /// Takes the table off the screen.
    pub(super) fn clear(&mut self) {
        self.table.finish_and_clear();
    }

    /// If nobody reads it any more, the report will find that out.
    fn print(&mut self, text: &str) {
        if !self.silent {
            self.silent = output::print(text).is_err();
        }
    }
}
