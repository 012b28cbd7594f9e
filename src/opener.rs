//! Which process opened an engine.
//!
//! A child that was forked has a copy of everything but the threads: its engine writes nothing, releases nothing
//! and waits for nothing. Every call says so, before it takes a lock that a thread of the parent may have held.

use std::io;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::process_id::process_id;
use crate::teeth::bites;

/// The process that opened something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opener(u32);

impl Opener {
    pub(crate) fn this() -> Opener {
        Opener(process_id())
    }

    /// Whether this process is the opener, and not a child of it.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        self.0 == process_id() || bites("child-not-told-from-its-parent")
    }

    /// # Errors
    /// [`ErrorKind::Forked`] in a child.
    #[inline]
    pub(crate) fn check(self) -> Result<()> {
        if self.is_this() { Ok(()) } else { Err(Error::new(ErrorKind::Forked { opener: self.0 })) }
    }

    /// The same, for the disk.
    pub(crate) fn check_io(self) -> io::Result<()> {
        self.check().map_err(io::Error::other)
    }
}
