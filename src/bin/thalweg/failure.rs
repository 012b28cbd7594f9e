//! Why a command didn't succeed, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// What a shell reports for a command that SIGPIPE ended.
const CLOSED: u8 = 141;

/// What ends a command early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout closed it (`| head`). No message: the exit status says it.
    StdoutClosed,
    /// What went wrong, and the command (or another step) that helps, if there is one.
    Error { message: String, next: Option<String>, code: u8, no_room: bool },
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Error { message: message.into(), next: None, code: 1, no_room: false }
    }

    /// An I/O error at this place.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Failure {
        let failure = Failure::new(format!("{}: {error}", path.display()));
        if error.kind() == io::ErrorKind::StorageFull { failure.no_room() } else { failure }
    }

    fn no_room(mut self) -> Failure {
        if let Failure::Error { no_room, .. } = &mut self {
            *no_room = true;
        }
        self
    }

    /// Whether the disk was full.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, Failure::Error { no_room: true, .. })
    }

    /// Says what to do next; what was said first stays.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Failure {
        if let Failure::Error { next, .. } = &mut self {
            next.get_or_insert_with(|| step.into());
        }
        self
    }

    /// Says more of what went wrong.
    pub(crate) fn and(mut self, more: impl fmt::Display) -> Failure {
        if let Failure::Error { message, .. } = &mut self {
            *message = format!("{message}; {more}");
        }
        self
    }

    /// Ends the command with this exit code instead of 1.
    pub(crate) fn code(mut self, exit: u8) -> Failure {
        if let Failure::Error { code, .. } = &mut self {
            *code = exit;
        }
        self
    }

    /// Ends the process: with an exit code, or by SIGPIPE if stdout is closed, as a shell's other commands do.
    pub(crate) fn exit(&self) -> ExitCode {
        match self {
            Failure::StdoutClosed => {
                // Returns only if it fails.
                let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
                ExitCode::from(CLOSED)
            }
            Failure::Error { code, .. } => ExitCode::from(*code),
        }
    }

    /// Writing to stdout failed.
    pub(crate) fn stdout(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::StdoutClosed,
            _ => Failure::new(format!("could not write to stdout: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::StdoutClosed => f.write_str("stdout is closed"),
            Failure::Error { message, next: None, .. } => f.write_str(message),
            Failure::Error { message, next: Some(next), .. } => write!(f, "{message}\n  next: {next}"),
        }
    }
}

impl From<thalweg::Error> for Failure {
    fn from(error: thalweg::Error) -> Failure {
        let failure = Failure::new(error.to_string());
        if error.kind() == &thalweg::ErrorKind::NoRoom { failure.no_room() } else { failure }
    }
}
