//! Changing a topic that exists: more partitions, other settings; while it is written and read.

use std::sync::Arc;

use super::open::{Opening, TopicSpec};
use super::topic_dirs::make_topic_dirs;
use super::{Engine, Topic};
use crate::config::TopicConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Ordering, lock, write};
use crate::partition::Partition;

impl Engine {
    /// Gives a topic more partitions or other settings. Blocks until that is durable; in async code:
    /// [`alter_topic_async`](Engine::alter_topic_async). Get the present ones from
    /// [`describe_topic`](Engine::describe_topic) and change them.
    ///
    /// More partitions mean that keys move. Groups keep the order of records with equal keys all the
    /// same: each gets nothing that was written after this before it has committed all that was
    /// written before, in every old partition ([`TopicConfig::fence`]). What was sent before goes to
    /// the old partitions; sends wait while the change is made durable, those that name their
    /// partition excepted.
    ///
    /// # Errors
    /// `UnknownTopic`, `InvalidConfig`; `InvalidArgument` for fewer partitions; `ReadOnly`, `Closed`,
    /// `NoRoom`; `Failed` or `Corrupt` if a partition is. Nothing changed then.
    pub fn alter_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        let core = &self.core;
        config.check().map_err(|error| error.at_topic(name))?;
        let _admin = core.writable()?;
        let topic = core.topic(name)?;
        let before = topic.partitions.len() as u32;
        if config.partitions < before {
            let reason = format!("partitions can be added, not removed: there are {before}");
            return Err(Error::invalid(reason).at_topic(name));
        }
        if config.partitions == before {
            return self.configure(&topic, config);
        }
        if let Some(error) =
            topic.partitions.iter().find_map(|partition| partition.damage().or_else(|| partition.stopped()))
        {
            return Err(error);
        }
        make_topic_dirs(&*core.env.disk, &core.dir, name, before..config.partitions)?;
        let epoch = lock(&core.catalog).state().epoch();
        let name = topic.name.clone();
        let config = Arc::new(config);
        let mut partitions = topic.partitions.clone();
        let mut opening = Opening::none();
        partitions.extend(core.open_partitions(before..config.partitions, |number| {
            core.open_partition(topic.id, number, &name, &config, epoch, None, &mut opening)
        })?);
        let held = Partition::hold_all(&topic.partitions);
        let ends: Vec<u64> = held.iter().map(|(end, _)| *end).collect();
        if let Err(error) = self.note_expansion(&topic, &config, &held) {
            // Whether the entry stands is not known if the catalogue failed: then nothing may follow it.
            if error.kind() == &ErrorKind::Failed {
                topic.partitions.iter().for_each(|partition| partition.fail(&error));
            }
            Partition::release_all(&topic.partitions, before, || {});
            for partition in &partitions[before as usize..] {
                partition.end_writer(true);
            }
            return Err(error);
        }
        let mut expansions = topic.expansions.clone();
        expansions.push(ends);
        let old = topic.partitions.clone();
        self.replace(&topic, config, partitions, expansions, &old);
        Ok(())
    }

    /// Makes everything below the ends durable, and then the catalogue's entry.
    fn note_expansion(&self, topic: &Topic, config: &TopicConfig, held: &[(u64, u32)]) -> Result<()> {
        let core = &self.core;
        let upto = topic.partitions.iter().zip(held).map(|(partition, (end, run))| (partition.clone(), *end, *run));
        core.sync_up_to(&upto.collect::<Vec<_>>())?;
        let ends: Vec<u64> = held.iter().map(|(end, _)| *end).collect();
        lock(&core.catalog).alter_topic(&topic.name, config, &ends, core.env.clock.wall_ms())
    }

    /// Other settings, as many partitions.
    fn configure(&self, topic: &Arc<Topic>, config: TopicConfig) -> Result<()> {
        lock(&self.core.catalog).alter_topic(&topic.name, &config, &[], self.core.env.clock.wall_ms())?;
        let (partitions, expansions) = (topic.partitions.clone(), topic.expansions.clone());
        self.replace(topic, Arc::new(config), partitions, expansions, &[]);
        Ok(())
    }

    /// Puts the altered topic in the place of the old; `held` partitions go on.
    fn replace(
        &self,
        topic: &Arc<Topic>,
        config: Arc<TopicConfig>,
        partitions: Vec<Arc<Partition>>,
        expansions: Vec<Vec<u64>>,
        held: &[Arc<Partition>],
    ) {
        let core = &self.core;
        for partition in &partitions {
            partition.set_config(config.clone());
            core.background.watch_limits(partition);
        }
        let spec =
            TopicSpec { id: topic.id, name: &topic.name, config: &config, created_ms: topic.created_ms, expansions };
        let (among, count) = (config.partitions, spec.expansions.len());
        let next = core.topic_of(&spec, topic.name.clone(), config.clone(), partitions);
        write(&core.topics).insert(topic.name.to_string(), next.clone());
        core.background.look_soon();
        held.iter().for_each(|partition| partition.expansions.store(count, Ordering::SeqCst));
        Partition::release_all(held, among, || {
            let _ = topic.next.set(next);
        });
        core.tell_groups_of(&topic.name, Some(topic.current()));
    }
}
