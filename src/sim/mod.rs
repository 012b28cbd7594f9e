//! A simulated disk and clock, to crash your own code on.
//!
//! [`SimDisk`] knows which sectors, lengths and names are durable and which only the (simulated)
//! page cache has. [`SimDisk::crash`] gives the disk that a machine would find after the power
//! failed, as often as you like, while the first one goes on. Errors, short writes and a full disk
//! are made to order. The same calls give the same disk: nothing here asks the time or for
//! randomness, and [`SimDisk::trace_hash`] tells whether two runs were the same.
//!
//! `examples/crash_test.rs` crash-tests a loop that consumes, processes and commits.
//!
//! ```
//! use thalweg::sim::{CrashPolicy, SimDisk};
//!
//! let disk = SimDisk::new();
//! disk.write_file("data/file", b"durable").unwrap();
//! let found = disk.crash(CrashPolicy::PowerLoss);
//! assert_eq!(found.read_file("data/file").unwrap(), b"durable");
//! ```

mod clock;
mod contents;
mod crash;
mod disk;
mod faults;
mod file;
mod image;
mod images;
mod names;
mod queue;
pub(crate) mod random;
mod state;
mod watch;

pub use clock::SimClock;
pub use crash::CrashPolicy;
pub use disk::SimDisk;
pub use faults::{Operation, Repeat};
pub use images::{CrashImages, CrashPoint};
