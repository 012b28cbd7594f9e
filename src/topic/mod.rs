//! Topics: which exist (the catalogue), what they may be called, and where a record goes.

mod catalog;
mod name;
mod partitioner;
mod state;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::path::{Path, PathBuf};

use crate::ids::TopicId;

pub(crate) use catalog::Catalog;
pub(crate) use name::{DELETED_PREFIX, check_topic_name};
pub(crate) use partitioner::{StickyPartitioner, partition_for_key};
pub(crate) use state::{CatalogState, Topic};

/// The directory of all topics.
pub(crate) fn topics_dir(dir: &Path) -> PathBuf {
    dir.join("topics")
}

/// A topic's directory. The name has passed [`check_topic_name`], so it can't lead out of `dir`.
pub(crate) fn topic_dir(dir: &Path, name: &str) -> PathBuf {
    topics_dir(dir).join(name)
}

/// A partition's directory.
pub(crate) fn partition_dir(dir: &Path, name: &str, partition: u32) -> PathBuf {
    topic_dir(dir, name).join(partition.to_string())
}

/// What a deleted topic's directory is called until it is unlinked.
pub(crate) fn deleted_dir(dir: &Path, id: TopicId) -> PathBuf {
    topics_dir(dir).join(format!("{DELETED_PREFIX}{id}"))
}
