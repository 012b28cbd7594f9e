//! What an earlier demo left, told from what is a user's: only the former is deleted.
//!
//! The engine notes nowhere who made a topic, so settings and records decide: all of them must be as the demo makes
//! them. A topic with these settings and no records was left by a demo that was stopped before its first record; it
//! is used as it is.

use thalweg::{Engine, ErrorKind, RecordView, TopicDescription};

use super::{ANALYTICS, NUMBER, PRICES, TOPIC, UPDATES, topic_config};
use crate::directory::Directory;
use crate::failure::Failure;
use crate::ticker;

/// What an earlier demo left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// The topic without records.
    Empty,
    /// The topic with prices.
    Prices,
}

/// What is there of an earlier demo. Fails if the topic or one of the groups is somebody else's.
pub(super) fn find(directory: &Directory, engine: &Engine) -> Result<Left, Failure> {
    for group in [PRICES, ANALYTICS] {
        if reads_elsewhere(engine, group)? {
            return Err(refused(directory, &format!("group {group}")));
        }
    }
    let topic = match engine.describe_topic(TOPIC) {
        Ok(topic) => topic,
        Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => return Ok(Left::Nothing),
        Err(error) => return Err(error.into()),
    };
    let records: u64 = topic.partitions.iter().map(|partition| partition.end_offset).sum();
    match records {
        _ if topic.config != topic_config() => Err(refused(directory, &format!("topic {TOPIC}"))),
        0 => Ok(Left::Empty),
        _ if records <= UPDATES as u64 && holds_prices_only(engine, &topic) => Ok(Left::Prices),
        _ => Err(refused(directory, &format!("topic {TOPIC}"))),
    }
}

fn refused(directory: &Directory, what: &str) -> Failure {
    let message = format!("{what} of {} is not the demo's; nothing was changed", directory.path().display());
    Failure::new(message).next("delete it, or name another directory with --dir, such as --dir thalweg-demo")
}

/// Whether the group has committed something in another topic.
fn reads_elsewhere(engine: &Engine, group: &str) -> Result<bool, Failure> {
    match engine.describe_group(group) {
        Ok(group) => Ok(group.offsets.iter().any(|row| row.committed.is_some() && row.topic != TOPIC)),
        Err(error) if matches!(error.kind(), ErrorKind::UnknownGroup { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether each record is one of the demo's. What can't be read isn't.
fn holds_prices_only(engine: &Engine, topic: &TopicDescription) -> bool {
    topic.partitions.iter().all(|partition| {
        let read = engine.partition(TOPIC, partition.partition).and_then(|partition| partition.read(0..));
        read.is_ok_and(|mut batches| batches.all(|batch| batch.is_ok_and(|batch| batch.iter().all(is_price))))
    })
}

fn is_price(record: RecordView<'_>) -> bool {
    let text = |bytes: Option<&_>| bytes.and_then(|bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned));
    let (Some(key), Some(value)) = (text(record.key()), text(record.value())) else { return false };
    let price = value.strip_prefix(&key).and_then(|rest| rest.strip_prefix(": "));
    let mut headers = record.headers();
    let number = headers.next().filter(|(name, _)| *name == NUMBER).and_then(|(_, value)| text(value));
    ticker::is_stock(&key)
        && price.is_some_and(|price| price.parse::<f64>().is_ok())
        && number.is_some_and(|number| number.parse::<usize>().is_ok_and(|number| number < UPDATES))
        && headers.next().is_none()
}
