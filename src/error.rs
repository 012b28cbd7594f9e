//! The one error type: a kind that a caller can act on, the place, and the cause.

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::text::Plain;

/// `Result` with thalweg's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in terms of what a caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name can't be a topic's.
    #[error("topic name {name:?} is not valid: {reason}; use 1 to 249 characters of a-z A-Z 0-9 . _ -")]
    InvalidTopicName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A configuration value is out of its bounds.
    #[error("configuration {field} = {value} is not valid: {reason}")]
    InvalidConfig {
        /// The field, as spelled in the configuration.
        field: &'static str,
        /// The value as given.
        value: String,
        /// The bound it breaks.
        reason: String,
    },
    /// An argument makes no sense here.
    #[error("{reason}")]
    InvalidArgument {
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// No topic has this name.
    #[error(
        "topic {topic:?} does not exist or was deleted; create it first, or get a new handle if it was made again since"
    )]
    UnknownTopic {
        /// The name asked for.
        topic: String,
    },
    /// A topic of this name, or of one that differs only in ASCII case, exists already.
    #[error(
        "topic {topic:?} exists already (topic names are compared without case); delete it first or choose another name"
    )]
    TopicExists {
        /// The topic that exists.
        topic: String,
    },
    /// The topic has fewer partitions.
    #[error("partition {partition} does not exist: the topic has {partitions}, numbered from 0")]
    UnknownPartition {
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The offset is below the log start or beyond the end.
    #[error("offset {requested} is out of range: the log starts at {start} and ends before {end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        requested: u64,
        /// The log start offset (inclusive).
        start: u64,
        /// The end offset (exclusive).
        end: u64,
    },
    /// A record or batch is larger than configured.
    #[error("{bytes} bytes are more than the limit of {limit}; raise {setting} or send less at once")]
    RecordTooLarge {
        /// The size as it would be stored.
        bytes: u64,
        /// The largest allowed.
        limit: u64,
        /// The setting that holds the limit.
        setting: &'static str,
    },
    /// `append_if` was given another end offset than the log has.
    #[error("the log ends at {end}, not at {expected}; nothing was appended")]
    EndMismatch {
        /// The end offset the caller expected.
        expected: u64,
        /// The one it has.
        end: u64,
    },
    /// The buffers are full; only [`try_send`](crate::Producer::try_send) says so.
    #[error("the buffers are full; wait, or use send, which waits")]
    Full,
    /// The disk, a quota or a limit of the process is used up. Nothing of the append is visible;
    /// later appends are tried afresh.
    #[error("no room; free some space or raise the limit, then try again (no need to reopen)")]
    NoRoom,
    /// The system refused something. What failed is tried afresh the next time.
    #[error("the system reports an error")]
    Io,
    /// An earlier failure stopped this partition (or the catalogue) until the engine is reopened.
    #[error("stopped after a failure until the engine is opened again; nothing acknowledged as synced is lost")]
    Failed,
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
    /// This process was forked from the one that opened the engine, and has none.
    #[error(
        "process {opener} opened the engine, and this is a child that was forked from it; open the directory here, \
         once it is closed there, or open it read-only"
    )]
    Forked {
        /// The process that opened it.
        opener: u32,
    },
    /// The directory was opened read-only.
    #[error("the directory is open read-only; open it for writing")]
    ReadOnly,
    /// Another engine has the directory open for writing.
    #[error("the directory is open for writing elsewhere ({holder}); close that one, or open read-only")]
    Locked {
        /// What the holder wrote down: pid, host, since when.
        holder: String,
    },
    /// The directory holds something else than a thalweg log.
    #[error(
        "this is not a thalweg data directory: {reason}; name another, or open a new or empty one for writing to begin a log"
    )]
    NotThalweg {
        /// What was found.
        reason: String,
    },
    /// A file was written by a later version.
    #[error("written by a newer version of thalweg ({found}); use that version")]
    NewerFormat {
        /// What this version doesn't know.
        found: String,
    },
    /// Bytes that were durable are damaged or missing.
    #[error("damaged: {reason}; run `thalweg verify` to see all of it")]
    Corrupt {
        /// What doesn't fit.
        reason: String,
    },
    /// A file that belongs to another log stands here.
    #[error("a file of another log stands here: {reason}; move it away")]
    Foreign {
        /// Expected and found.
        reason: String,
    },
    /// No group has this name.
    #[error("group {group:?} does not exist: it has neither members nor committed offsets")]
    UnknownGroup {
        /// The name asked for.
        group: String,
    },
    /// The consumer is no member of its group any more: its partitions are others' now. The next
    /// poll joins again.
    #[error(
        "{member:?} is no member of group {group:?} any more: {reason}; what it had is others' now, the next poll joins again"
    )]
    UnknownMember {
        /// The group.
        group: String,
        /// The member's id.
        member: String,
        /// Why it isn't.
        reason: &'static str,
    },
    /// A commit of a generation that is over.
    #[error(
        "generation {generation} of group {group:?} is over, it is in {current}; poll, then commit what is still yours"
    )]
    IllegalGeneration {
        /// The group.
        group: String,
        /// The commit's generation.
        generation: u32,
        /// The generation the member was last told of.
        current: u32,
    },
    /// Another consumer came with this one's instance id and took its place.
    #[error(
        "another consumer of group {group:?} has the instance id of {member:?} and took its place; give each its own"
    )]
    FencedInstance {
        /// The group.
        group: String,
        /// The id of the member that was replaced.
        member: String,
    },
    /// Some partitions of a commit are no longer this member's: they were given to another member, or their
    /// topic was deleted. The rest of the commit was made. The next poll tells the member's listener.
    #[error(
        "{} isn't this member's any more in group {group:?}, and was not committed; the rest was; poll to go on",
        listed(partitions)
    )]
    RebalanceInProgress {
        /// The group.
        group: String,
        /// Topic and number of each partition that was not committed.
        partitions: Vec<(String, u32)>,
    },
    /// The group has members, and what was asked needs it to have none.
    #[error("group {group:?} is alive ({}); stop its members first", members.join(", "))]
    GroupNotEmpty {
        /// The group.
        group: String,
        /// The ids of its members.
        members: Vec<String>,
    },
    /// The group has no committed offset here, and was told not to choose one.
    #[error("group {group:?} has no committed offset to begin at; reset it, or choose where to start")]
    NoCommittedOffset {
        /// The group.
        group: String,
    },
    /// The file system or platform lacks something the engine relies on.
    #[error("not supported here: {reason}")]
    NotSupported {
        /// What is missing.
        reason: String,
    },
    /// Code that the engine called panicked, yours (a listener, a clock, a waker) or its own. The engine goes on.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// An error of thalweg: [`kind`](Error::kind), place and cause. Cheap to clone.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    topic: Option<String>,
    partition: Option<u32>,
    offset: Option<u64>,
    path: Option<PathBuf>,
    position: Option<u64>,
    next_intact: Option<u64>,
    source: Option<Arc<io::Error>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Inner {
            kind,
            topic: None,
            partition: None,
            offset: None,
            path: None,
            position: None,
            next_intact: None,
            source: None,
        }))
    }

    /// An error of the system, sorted into *no room* or *everything else* (D4).
    pub(crate) fn io(source: io::Error) -> Error {
        let kind = if is_no_room(&source) { ErrorKind::NoRoom } else { ErrorKind::Io };
        let mut error = Error::new(kind);
        error.0.source = Some(Arc::new(source));
        error
    }

    pub(crate) fn corrupt(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt { reason: reason.into() })
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument { reason: reason.into() })
    }

    /// The same place and cause with another kind: how a first failure is reported ever after.
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    pub(crate) fn at_partition(mut self, topic: &str, partition: u32) -> Error {
        self.0.topic.get_or_insert_with(|| topic.to_owned());
        self.0.partition.get_or_insert(partition);
        self
    }

    pub(crate) fn at_topic(mut self, topic: &str) -> Error {
        self.0.topic.get_or_insert_with(|| topic.to_owned());
        self
    }

    pub(crate) fn at_offset(mut self, offset: u64) -> Error {
        self.0.offset.get_or_insert(offset);
        self
    }

    pub(crate) fn at_path(mut self, path: &Path) -> Error {
        self.0.path.get_or_insert_with(|| path.to_owned());
        self
    }

    pub(crate) fn at_position(mut self, position: u64) -> Error {
        self.0.position.get_or_insert(position);
        self
    }

    pub(crate) fn with_next_intact(mut self, offset: Option<u64>) -> Error {
        self.0.next_intact = offset;
        self
    }

    /// What went wrong, to decide by.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The topic concerned, if one is.
    pub fn topic(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }

    /// The partition concerned, if one is.
    pub fn partition(&self) -> Option<u32> {
        self.0.partition
    }

    /// The offset concerned, if one is.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Where a log can be read on behind the damage that this error is about: the next record that is intact, or the
    /// end of the log. `None` where nothing intact is left, and for all other errors. The records from
    /// [`offset`](Error::offset) up to here can't be read.
    pub fn next_intact(&self) -> Option<u64> {
        self.0.next_intact
    }

    /// The file or directory concerned, if one is.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte place in [`path`](Error::path), if known.
    pub fn position(&self) -> Option<u64> {
        self.0.position
    }

    /// The system's own error, if that was the cause.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.source.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        // Paths and what files hold are foreign text.
        let f = &mut Plain(f);
        let mut separator = "";
        let mut place = |f: &mut Plain<_>, text: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{text}");
            separator = ", ";
            result
        };
        if let Some(path) = &inner.path {
            place(f, format_args!("{}", path.display()))?;
        }
        if let Some(position) = inner.position {
            place(f, format_args!("position {position}"))?;
        }
        if let Some(topic) = &inner.topic {
            place(f, format_args!("topic {topic}"))?;
        }
        if let Some(partition) = inner.partition {
            place(f, format_args!("partition {partition}"))?;
        }
        if let Some(offset) = inner.offset {
            place(f, format_args!("offset {offset}"))?;
        }
        if !separator.is_empty() {
            f.write_str(": ")?;
        }
        match inner.source.as_deref().and_then(what_ran_out) {
            Some(what) if inner.kind == ErrorKind::NoRoom => f.write_str(&what)?,
            _ => write!(f, "{}", inner.kind)?,
        }
        if let Some(source) = &inner.source {
            write!(f, " ({source})")?;
        }
        if let Some(offset) = inner.next_intact {
            write!(f, "; what is intact goes on at offset {offset}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

/// Equal in kind and place; causes aren't compared.
impl PartialEq for Error {
    fn eq(&self, other: &Error) -> bool {
        let place = |error: &Error| {
            let inner = &error.0;
            (inner.topic.clone(), inner.partition, inner.offset, inner.path.clone(), inner.position)
        };
        self.0.kind == other.0.kind && place(self) == place(other)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The first of these partitions, for people.
fn listed(partitions: &[(String, u32)]) -> String {
    const SHOWN: usize = 8;
    let shown = partitions.iter().take(SHOWN).map(|(topic, number)| format!("{topic} partition {number}"));
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if partitions.len() > SHOWN {
        shown += &format!(" and {} more", partitions.len() - SHOWN);
    }
    shown
}

/// Names the thread that the system refused to start.
pub(crate) fn thread_not_started(name: &str, error: &io::Error) -> io::Error {
    let advice = "allow the process more threads (ulimit -u, the cgroup's pids.max) or set fewer writers";
    io::Error::new(error.kind(), format!("could not start thread {name}: {error}; {advice}"))
}

/// What `NoRoom` means where it isn't the disk.
fn what_ran_out(source: &io::Error) -> Option<String> {
    use rustix::io::Errno;
    use rustix::process::{Resource, getrlimit};
    let code = source.raw_os_error()?;
    let (what, limit) = if code == Errno::MFILE.raw_os_error() {
        let most = getrlimit(Resource::Nofile).current.map_or_else(String::new, |most| format!(", {most}"));
        (format!("the process has as many files open as it may{most}"), "ulimit -n")
    } else if code == Errno::NFILE.raw_os_error() {
        ("the system has as many files open as it may".to_owned(), "fs.file-max")
    } else {
        return None;
    };
    Some(format!("{what}; raise that limit (`{limit}`), then try again (no need to reopen)"))
}

/// D4's first class: used up for now, nothing is broken.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else {
        return matches!(
            error.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge
                | io::ErrorKind::OutOfMemory
        );
    };
    [Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}
