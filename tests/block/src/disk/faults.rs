//! What the disk refuses with EIO, from when on, and how often.

use crate::payload;

/// Counted down as requests come. The default refuses nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) what: What,
    /// Requests of this kind that still pass.
    pub(crate) passing: usize,
    /// Requests that are then refused.
    pub(crate) times: usize,
    refused: Refused,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum What {
    #[default]
    Nothing,
    Flushes,
    /// Writes of pages with records in them.
    Records,
    Writes,
    /// Writes and flushes.
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) writes: usize,
    pub(crate) flushes: usize,
}

impl Faults {
    pub(crate) fn new(what: What, passing: usize, times: usize) -> Faults {
        Faults { what, passing, times, refused: Refused::default() }
    }

    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    pub(super) fn refuses_write(&mut self, bytes: &[u8]) -> bool {
        let concerned = match self.what {
            What::Nothing | What::Flushes => false,
            What::Records => payload::is_marked(bytes),
            What::Writes | What::All => true,
        };
        let refuses = concerned && self.is_due();
        self.refused.writes += usize::from(refuses);
        refuses
    }

    pub(super) fn refuses_flush(&mut self) -> bool {
        let refuses = matches!(self.what, What::Flushes | What::All) && self.is_due();
        self.refused.flushes += usize::from(refuses);
        refuses
    }

    fn is_due(&mut self) -> bool {
        if self.passing > 0 {
            self.passing -= 1;
            return false;
        }
        let due = self.times > 0;
        self.times = self.times.saturating_sub(1);
        due
    }
}
