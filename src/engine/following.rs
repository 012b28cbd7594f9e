//! A read-only engine: what it takes from the catalogue that another process writes.
//!
//! The files of a partition tell a reader of new records. Everything else stands in the catalogue: topics that
//! were made, deleted or altered, log starts, and durable offsets of which no later batch tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::open::{Opening, TopicSpec};
use super::{Core, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Ordering, lock, read, write};
use crate::partition::Partition;
use crate::topic::Topic as Listed;

/// How often a reader looks at the catalogue if nothing else makes it look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Core {
    /// In a read-only engine: takes in what the catalogue says by now.
    pub(super) fn refresh(&self) -> Result<()> {
        self.env.opener.check()?;
        if !self.read_only {
            return Ok(());
        }
        let _admin = lock(&self.admin);
        if self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let next = self.env.clock.monotonic().saturating_add(LOOK_EVERY);
        self.next_look.store(u64::try_from(next.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        let (listed, epoch): (Vec<_>, _) = {
            let mut catalog = lock(&self.catalog);
            let moved = self.catalog_moved.swap(false, Ordering::SeqCst);
            match catalog.refresh() {
                Ok(false) if !moved => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    self.catalog_moved.store(true, Ordering::SeqCst);
                    return Err(error);
                }
            }
            (catalog.state().topics().cloned().collect(), catalog.state().epoch())
        };
        let followed = self.follow_topics(&listed, epoch);
        if followed.is_err() {
            // The catalogue says it only once.
            self.catalog_moved.store(true, Ordering::SeqCst);
        }
        followed
    }

    /// Looks at the catalogue, at once (`now`) or if that was not done for [`LOOK_EVERY`].
    pub(super) fn look(&self, now: bool) -> Result<()> {
        let due = Duration::from_nanos(self.next_look.load(Ordering::SeqCst));
        if now || self.env.clock.monotonic() >= due { self.refresh() } else { Ok(()) }
    }

    fn follow_topics(&self, listed: &[Listed], epoch: u32) -> Result<()> {
        let known = read(&self.topics).clone();
        let mut topics = HashMap::with_capacity(listed.len());
        for topic in listed {
            let opened = match known.get(&topic.name).filter(|known| known.id == topic.id) {
                Some(known) => self.follow_topic(known, topic, epoch)?,
                None => {
                    let marks = |partition| topic.mark(partition).copied();
                    self.open_topic(&TopicSpec::of(topic), epoch, &marks, &mut Opening::none())?
                }
            };
            topics.insert(topic.name.clone(), opened);
        }
        *write(&self.topics) = topics;
        for (name, topic) in known {
            // One of the same name may be another.
            if !listed.iter().any(|listed| listed.id == topic.id) {
                end_following(&topic.partitions, &Error::new(ErrorKind::UnknownTopic { topic: name }));
            }
        }
        self.tell_groups();
        Ok(())
    }

    /// What has become of a topic that is still there. Its partitions stay the same objects: consumers have them.
    fn follow_topic(&self, known: &Arc<Topic>, listed: &Listed, epoch: u32) -> Result<Arc<Topic>> {
        for partition in &known.partitions {
            if listed.mark(partition.number).is_some_and(|mark| partition.follow_mark(mark)) {
                self.watching.note(partition);
            }
        }
        if *known.config == listed.config {
            return Ok(known.clone());
        }
        let config = Arc::new(listed.config.clone());
        let mut partitions = known.partitions.clone();
        let added = partitions.len() as u32..config.partitions;
        partitions.extend(self.open_partitions(added, |number| {
            let mark = listed.mark(number).copied();
            self.open_partition(known.id, number, &known.name, &config, epoch, mark, &mut Opening::none())
        })?);
        partitions.iter().for_each(|partition| partition.set_config(config.clone()));
        let next = self.topic_of(&TopicSpec::of(listed), known.name.clone(), config, partitions);
        let _ = known.next.set(next.clone());
        Ok(next)
    }
}

/// Nothing more will come to these partitions: readers that wait there are told why.
pub(super) fn end_following(partitions: &[Arc<Partition>], reason: &Error) {
    partitions.iter().for_each(|partition| partition.end_following(reason.clone()));
}
