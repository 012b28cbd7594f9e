//! An io_uring ring that carries syncs and is its owner's one place to sleep.
//!
//! Twins: `enabled` on Linux; `disabled` elsewhere has the same face and can't be opened.

#[cfg(target_os = "linux")]
mod enabled;
#[cfg(target_os = "linux")]
pub(crate) use enabled::Ring;

#[cfg(not(target_os = "linux"))]
mod disabled;
#[cfg(not(target_os = "linux"))]
pub(crate) use disabled::Ring;

/// A sync to be done: which file, under which token, and how.
#[derive(Debug)]
pub(crate) struct RingSync {
    pub(crate) token: u64,
    pub(crate) file: std::sync::Arc<std::os::fd::OwnedFd>,
    /// Data and length only; a directory needs all its metadata.
    pub(crate) data_only: bool,
}
