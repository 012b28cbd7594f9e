//! An embedded log engine: Kafka's model (topics, partitions, consumer groups) inside your own
//! process, on your own disk, read without copying.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let data = dir.path();
//! use std::time::Duration;
//! use thalweg::{Engine, Record, TopicConfig};
//!
//! let engine = Engine::open(data)?;
//! engine.create_topic("orders", TopicConfig::default().partitions(2))?;
//!
//! let producer = engine.producer_for("orders")?;
//! let receipt = producer.send(Record::new("189.45").key("AAPL"))?;   // returns at once
//! let at = receipt.wait()?;                                          // durable: survives power loss
//!
//! let mut consumer = engine.consumer("billing").subscribe(["orders"]).start()?;
//! for batch in consumer.poll(Duration::from_secs(1))? {
//!     for record in &batch {
//!         assert_eq!(record.key(), Some(&b"AAPL"[..]));              // &[u8] into the mapped file
//!         assert_eq!((batch.partition(), record.offset()), (at.partition, at.offset));
//!     }
//! }
//! consumer.commit()?;                                                // the group goes on from here
//! engine.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! The types one needs: [`Engine`] opens a directory; a [`Producer`] sends [`Record`]s and gets
//! [`Receipt`]s; a [`Consumer`] polls [`Batch`]es, as a member of a group or by itself; a [`Partition`] is one log by itself, for
//! databases and replicated logs; an [`Error`] says what a caller can do.
//!
//! What an acknowledgement means is set by [`Acks`]: *written* survives the death of the process,
//! *synced* (the default) survives power loss.
//!
//! Not supported: network file systems, big-endian or 32-bit machines, several writing processes
//! on one directory (reading beside a writer is fine).

mod aside;
mod clock;
mod config;
mod disk;
mod engine;
mod error;
mod events;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod floors;
mod format;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod ids;
pub mod inspect;
mod keyed;
#[cfg_attr(thalweg_shuttle, path = "../tests/shuttle/lock.rs")]
#[cfg_attr(thalweg_tsan, path = "../tests/tsan/lock.rs")]
mod lock;
mod offsets;
mod opener;
mod panics;
mod partition;
mod segment;
#[cfg(feature = "sim")]
pub mod sim;
mod sys;
mod teeth;
#[doc(hidden)]
pub mod text;
mod topic;
#[cfg(feature = "sim")]
pub mod torture;

pub use clock::{Clock, SystemClock};
pub use config::{Acks, EngineConfig, SyncMode, TopicConfig, Writers};
pub use engine::{
    Builder, CommitReceipt, CommittedOffset, Consumer, ConsumerBuilder, ConsumerStats, ConsumerStream, Engine,
    GroupDescription, GroupOffset, GroupState, Held, MemberDescription, OffsetCommit, OffsetReset, OnDamage, Partition,
    PartitionDescription, PartitionRecovery, PartitionStats, Polled, Producer, Reading, RebalanceListener, Receipt,
    Record, RecordMetadata, Recovery, ResetTo, StartPolicy, TopicDescription, Wakeup,
};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, Failure, Listener};
pub use group::assignor;
pub use ids::TopicId;
pub use partition::{Batch, FetchedRecord, RecordView, Records};

/// The README's program, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
