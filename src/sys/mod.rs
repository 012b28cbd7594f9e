//! The only unsafe code: mapped files, the io_uring ring, the simulated disk's shared memory, a hint to the processor,
//! the page that tells a forked child.
//!
//! Everything here has a safe face whose conditions are checked where they can be; what the caller
//! must keep is said at the item. Knows nothing of the rest of the crate.

pub(crate) mod affinity;
pub(crate) mod descriptors;
#[cfg(all(feature = "cli", target_os = "linux"))]
pub(crate) mod direct;
pub(crate) mod map;
pub(crate) mod prefetch;
pub(crate) mod process_id;
pub(crate) mod ring;
#[cfg(feature = "sim")]
pub(crate) mod shared_buffer;
