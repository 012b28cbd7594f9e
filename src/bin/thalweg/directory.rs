//! The data directory: opening it to read or to write, and how to name it in a suggested command.

use std::path::{Path, PathBuf};

use thalweg::{Engine, EngineConfig, Error, ErrorKind, Event};

use crate::failure::Failure;
use crate::output::tell;

/// The data directory unless told otherwise.
pub(crate) const DEFAULT_DIR: &str = "./thalweg-data";

/// What a batch takes besides the bytes of its record, at most.
const BATCH_HEADER_BYTES_MAX: usize = 4096;

/// Where the data is.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) fn new(path: PathBuf) -> Directory {
        Directory { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it to read, also beside a process that writes.
    pub(crate) fn open_to_read(&self) -> Result<Engine, Failure> {
        self.checked(Engine::builder(&self.path).read_only().on_event(report_offset_log).open())
    }

    /// Opens it to write; there must be one.
    pub(crate) fn open_to_write(&self) -> Result<Engine, Failure> {
        self.checked(Engine::builder(&self.path).create(false).on_event(report).open())
    }

    /// Opens it to write records of this topic, however large it allows them to be.
    pub(crate) fn open_to_produce(&self, topic: &str) -> Result<Engine, Failure> {
        let looking = self.checked(Engine::builder(&self.path).read_only().open())?;
        // One that doesn't exist, the next open says.
        let largest = looking.describe_topic(topic).map_or(0, |topic| topic.config.max_message_bytes);
        drop(looking);
        let defaults = EngineConfig::default();
        // A batch has a header besides its record.
        let batch_bytes = defaults.max_batch_bytes.max(usize::try_from(largest).unwrap_or(0) + BATCH_HEADER_BYTES_MAX);
        let builder = Engine::builder(&self.path).create(false).on_event(report).max_batch_bytes(batch_bytes);
        self.checked(builder.buffer_bytes(defaults.buffer_bytes.max(2 * batch_bytes)).open())
    }

    /// Opens it to write; makes it if it is absent or empty.
    pub(crate) fn open_or_make(&self) -> Result<Engine, Failure> {
        self.checked(Engine::builder(&self.path).on_event(report).open())
    }

    /// What opening (or looking in without opening) gave, with what to do if it failed.
    pub(crate) fn checked<T>(&self, result: thalweg::Result<T>) -> Result<T, Failure> {
        result.map_err(|error| match error.kind() {
            ErrorKind::NotThalweg { .. } if self.is_absent_or_empty() => {
                let make = self.command("topic create NAME --partitions N");
                Failure::new(format!("there is no thalweg data in {}", self.path.display()))
                    .next(format!("`{make}` begins there, --dir DIR looks elsewhere"))
            }
            ErrorKind::Locked { holder } => {
                let message = format!("{} is open for writing by another process ({holder})", self.path.display());
                Failure::new(message).next("wait for that process or end it; consume without --group, list, describe, verify and dump work meanwhile")
            }
            _ => error.into(),
        })
    }

    fn is_absent_or_empty(&self) -> bool {
        match std::fs::read_dir(&self.path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// An error about a topic or group: if there is none of that name, says which there are.
    pub(crate) fn explain(&self, engine: &Engine, error: Error) -> Failure {
        match error.kind() {
            ErrorKind::UnknownTopic { topic } => {
                let create = self.command(&format!("topic create {} --partitions 3", shell_word(topic)));
                let known = known(&engine.topics().unwrap_or_default());
                Failure::new(format!("topic {topic:?} does not exist; {known}")).next(create)
            }
            ErrorKind::UnknownGroup { group } => {
                let consume = self.command(&format!("consume TOPIC --group {}", shell_word(group)));
                let known = known(&engine.groups().unwrap_or_default());
                Failure::new(format!("group {group:?} does not exist; {known}")).next(format!("`{consume}` makes it"))
            }
            _ => error.into(),
        }
    }

    /// Whether it was said in this command which one it is.
    pub(crate) fn was_named(&self) -> bool {
        let by_itself = self.path == Path::new(DEFAULT_DIR);
        !by_itself && std::env::var_os("THALWEG_DIR").is_none_or(|dir| self.path != Path::new(&dir))
    }

    /// A command line that does `command` on this directory, as the user would type it.
    pub(crate) fn command(&self, command: &str) -> String {
        // `cargo run` sets this, so it was started as `cargo thalweg`.
        let program = if std::env::var_os("CARGO").is_some() { "cargo thalweg" } else { "thalweg" };
        if !self.was_named() {
            return format!("{program} {command}");
        }
        format!("{program} --dir {} {command}", shell_word(&self.path.display().to_string()))
    }
}

/// Closes the engine. Damage is no failure here: it was reported when it was found, and the command reports what it did
/// in a damaged partition.
pub(crate) fn close(engine: &Engine) -> Result<(), Failure> {
    match engine.close() {
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt { .. }) => Ok(()),
        closed => closed.map_err(Failure::from),
    }
}

/// A command that makes directories of its own to play with must not do so among somebody's data.
pub(crate) fn refuse_data(dir: &Path, command: &str) -> Result<(), Failure> {
    let catalogue = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"catalog-");
    let holds_data = std::fs::read_dir(dir)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| catalogue(&entry.file_name()))));
    if !holds_data {
        return Ok(());
    }
    let message = format!("{} holds thalweg data; {command} has no business there", dir.display());
    Err(Failure::new(message).next("name another directory with --dir, or none"))
}

/// The names there are, if they fit on a line.
fn known(names: &[String]) -> String {
    match names.len() {
        0 => "there are none yet".to_owned(),
        1..=8 => format!("there are: {}", names.join(", ")),
        count => format!("there are {count} others"),
    }
}

/// What the engine found that a person should know.
fn report(event: &Event) {
    match event {
        Event::TornTailCut { topic, partition, path, position, bytes, .. } => {
            let is_offset_log = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"offsets-"));
            let place = match (topic.is_empty(), is_offset_log) {
                (false, _) => format!("topic {topic} partition {partition}"),
                (true, true) => "the offset log".to_owned(),
                (true, false) => "the catalogue".to_owned(),
            };
            tell(format_args!("recovered: {place}: cut {bytes} bytes at position {position} of {}", path.display()));
        }
        Event::Ignored { path } if is_of_deleted_topic(path) => {
            tell(format_args!("not removed: {} is not a file of the deleted topic, and stays there", path.display()));
        }
        Event::Background { what, error } if *what == "removing a deleted topic" => {
            tell(format_args!("not removed: {error}"));
        }
        Event::SetAside { path, reason } => tell(format_args!("set aside: {}: {reason}", path.display())),
        Event::PartitionCorrupt { error, .. } => tell(format_args!("warning: {error}")),
        Event::DamageSkipped { topic, partition, from, to, error } => {
            tell(format_args!("skipped: topic {topic} partition {partition} from offset {from} up to {to}: {error}"));
        }
        Event::OffsetLogCorrupt { error, groups, names_lost } => {
            let mut doubtful: Vec<_> = groups.iter().map(|group| format!("group {group}")).collect();
            doubtful.extend(names_lost.then(|| "groups whose names are lost".to_owned()));
            let lost = match &doubtful[..] {
                [] => "all newest commits stand elsewhere".to_owned(),
                doubtful => format!("the newest commits of {} may be lost", doubtful.join(", ")),
            };
            tell(format_args!("warning: {error}; {lost}"));
        }
        Event::OffsetReset { group, topic, partition, committed, to, reason } => {
            let committed = committed.map_or_else(String::new, |offset| format!(" instead of at {offset}"));
            tell(format_args!(
                "group {group} goes on at offset {to}{committed} in {topic} partition {partition}: {reason}"
            ));
        }
        _ => {}
    }
}

/// Whether it lies where a deletion moves a topic's directory to.
fn is_of_deleted_topic(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".deleted-"))
}

/// To those that only read, the topics' damage shows where they read.
fn report_offset_log(event: &Event) {
    if matches!(event, Event::OffsetLogCorrupt { .. }) {
        report(event);
    }
}

/// In quotes if a shell would take it apart.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
