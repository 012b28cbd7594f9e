//! A progress bar on a terminal's stderr; nothing anywhere else.

use std::fs::File;
use std::io::{self, IsTerminal, Seek};
use std::os::fd::AsFd;

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes that went through, with their rate; of how many, if that is known.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// For what is read from `input`; `printing` says that lines go to stdout meanwhile.
    pub(crate) fn of_input(input: &File, printing: bool) -> Progress {
        if input.is_terminal() || (printing && io::stdout().is_terminal()) {
            return Progress(ProgressBar::hidden());
        }
        Progress::new(bytes_left(input))
    }

    /// For what is printed, if that goes into a file.
    pub(crate) fn of_output() -> Progress {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let into_file = stdout.and_then(|stdout| stdout.metadata()).is_ok_and(|metadata| metadata.is_file());
        if into_file { Progress::new(None) } else { Progress(ProgressBar::hidden()) }
    }

    /// For work on files; the total is said as it goes on.
    pub(crate) fn of_files() -> Progress {
        Progress::new(Some(0))
    }

    fn new(total: Option<u64>) -> Progress {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{wide_bar:.cyan/238} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
            ),
            None => (ProgressBar::no_length(), "{spinner:.cyan} {binary_bytes}  {decimal_bytes_per_sec}  {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress(bar.with_style(style.progress_chars("━╸━")))
    }

    pub(crate) fn moved(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    pub(crate) fn is_at(&self, bytes: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(bytes);
    }

    /// Takes it off the screen.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}

/// How much of a regular file is yet to be read.
fn bytes_left(mut file: &File) -> Option<u64> {
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    metadata.len().checked_sub(file.stream_position().ok()?)
}

/// A line that says how far something is, as often as a person can read it.
#[derive(Debug)]
pub(crate) struct StatusLine(ProgressBar);

impl StatusLine {
    pub(crate) fn start() -> StatusLine {
        let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg}");
        let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        StatusLine(bar)
    }

    pub(crate) fn show(&self, text: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(text());
            self.0.tick();
        }
    }

    /// Takes it off the screen.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}

/// How far a stage of a longer run is.
#[derive(Debug)]
pub(crate) struct StageBar(ProgressBar);

impl StageBar {
    /// `number` of `count` stages, from 1.
    pub(crate) fn start(number: usize, count: usize, name: &str) -> StageBar {
        let template = "{prefix:.dim} {msg:28} {wide_bar:.cyan/238} {percent:>3}%";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(1_000).with_style(style.progress_chars("━╸━"));
        bar.set_prefix(format!("{number:>2} of {count}"));
        bar.set_message(name.to_owned());
        bar.tick();
        StageBar(bar)
    }

    /// From 0 to 1.
    pub(crate) fn is_at(&self, fraction: f64) {
        self.0.set_position((fraction.clamp(0.0, 1.0) * 1_000.0) as u64);
    }

    /// Takes it off the screen.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
