//! The ring where there is no io_uring: it can't be opened, so nothing else can happen.

use std::convert::Infallible;
use std::io;
use std::task::Waker;
use std::time::Duration;

use super::RingSync;

#[derive(Debug)]
pub(crate) struct Ring(Infallible);

impl Ring {
    pub(crate) fn open() -> io::Result<Ring> {
        let reason = "io_uring is not on this platform";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }

    pub(crate) fn start(&mut self, _sync: RingSync) {
        match self.0 {}
    }

    pub(crate) fn finished(&mut self) -> std::vec::Drain<'_, (u64, io::Result<()>)> {
        match self.0 {}
    }

    pub(crate) fn take_left(&mut self) -> Vec<RingSync> {
        match self.0 {}
    }

    pub(crate) fn sleep(&mut self, _timeout: Option<Duration>) {
        match self.0 {}
    }

    pub(crate) fn waker(&self) -> Waker {
        match self.0 {}
    }
}
