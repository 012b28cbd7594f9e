//! What chance decides of a directory and of each record in it: both sides compute it from the seed.

use thalweg::sim::SimDisk;
use thalweg::{Acks, Builder, Engine, Record, SyncMode, TopicConfig, Writers};

use super::chance::Chance;
use crate::failure::Failure;

pub(super) const TOPIC: &str = "torture";
pub(super) const GROUP: &str = "readers";
pub(super) const PARTITIONS: u32 = 3;
/// Keys that records have.
const KEYS: u64 = 24;
/// Where in a value its own bytes begin; before them stand life, partition, offset and how many
/// records of the same batch follow.
pub(super) const HEAD: usize = 24;

/// What doesn't change in the life of a directory.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) topic: TopicConfig,
    /// Of each partition, the keys whose records go there.
    keys: Vec<Vec<String>>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Result<Plan, Failure> {
        let mut chance = Chance::of(&[seed, 1]);
        let topic = TopicConfig::default()
            .partitions(PARTITIONS)
            .acks(chance.pick(&[Acks::Written, Acks::Synced]))
            .segment_bytes(64 << 10)
            .batch_bytes(chance.pick(&[1 << 10, 8 << 10, 64 << 10]))
            .index_interval_bytes(4 << 10)
            .retention_bytes(chance.pick(&[None, Some(256 << 10)]));
        Ok(Plan { seed, topic, keys: keys()? })
    }

    /// The settings of an engine in one of the directory's lives.
    pub(super) fn settings(&self, builder: Builder, life: u32) -> Builder {
        let mut chance = Chance::of(&[self.seed, 2, life.into()]);
        builder
            .writers(self.writers(life))
            .sync_mode(chance.pick(&[SyncMode::Auto, SyncMode::Threads]))
            .write_bytes(chance.pick(&[4 << 10, 32 << 10, 256 << 10]))
            .sync_ms(chance.pick(&[1, 20, 1_000]))
            .sync_bytes(chance.pick(&[64 << 10, 64 << 20]))
            .seed(chance.next())
    }

    /// Which threads write in this life.
    pub(super) fn writers(&self, life: u32) -> Writers {
        Chance::of(&[self.seed, 8, life.into()]).pick(&[Writers::Auto, Writers::Threads(1), Writers::Inline])
    }

    /// After how many steps this life ends by itself, if nothing kills it before; `None`: never. Some lives end well,
    /// so that closing is killed too.
    pub(super) fn steps(&self, life: u32) -> Option<u64> {
        let mut chance = Chance::of(&[self.seed, 9, life.into()]);
        chance.once_in(4).then(|| chance.below(300))
    }

    /// The record of this life at this place; `following` more of its batch stand behind it.
    pub(super) fn record(&self, at: Place, following: u16) -> Content {
        let Place { life, partition, offset } = at;
        let mut chance = Chance::of(&[self.seed, 3, life.into(), partition.into(), offset]);
        let keys = &self.keys[partition as usize];
        let key = (!keys.is_empty() && !chance.once_in(3)).then(|| chance.pick(&(0..keys.len()).collect::<Vec<_>>()));
        let length = match chance.below(64) {
            0 => chance.below(8 << 10),
            1..8 => 0,
            _ => chance.below(200),
        };
        let mut value = Vec::with_capacity(HEAD + length as usize + 8);
        value.extend_from_slice(&life.to_le_bytes());
        value.extend_from_slice(&partition.to_le_bytes());
        value.extend_from_slice(&offset.to_le_bytes());
        value.extend_from_slice(&u64::from(following).to_le_bytes());
        while value.len() < HEAD + length as usize {
            value.extend_from_slice(&chance.next().to_le_bytes());
        }
        value.truncate(HEAD + length as usize);
        Content { key: key.map(|key| keys[key].clone().into_bytes()), value }
    }
}

/// Where a record was sent to, and in which of the directory's lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) life: u32,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// What stands in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
}

impl Content {
    pub(super) fn as_record(&self, acks: Acks) -> Record<'_> {
        let record = Record::new(&self.value).acks(acks);
        match &self.key {
            Some(key) => record.key(key),
            None => record,
        }
    }
}

/// The life that wrote this value, and how many records of its batch follow, as it says itself.
pub(super) fn origin(value: &[u8]) -> Option<(u32, u16)> {
    let life = u32::from_le_bytes(value.get(..4)?.try_into().ok()?);
    let following = u64::from_le_bytes(value.get(16..HEAD)?.try_into().ok()?);
    Some((life, u16::try_from(following).ok()?))
}

/// Learns where the keys go from an engine in memory.
fn keys() -> Result<Vec<Vec<String>>, Failure> {
    let engine = Engine::builder("keys").sim(&SimDisk::new()).writers(Writers::Inline).open()?;
    engine.create_topic(TOPIC, TopicConfig::default().partitions(PARTITIONS))?;
    let producer = engine.producer_for(TOPIC)?;
    let mut keys = vec![Vec::new(); PARTITIONS as usize];
    for number in 0..KEYS {
        let key = format!("key {number}");
        let receipt = producer.send(Record::new("").key(&key))?;
        keys[receipt.partition() as usize].push(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_follow_from_the_seed_and_say_where_they_belong() {
        let (plan, other) = (Plan::new(7).unwrap(), Plan::new(8).unwrap());
        assert!(plan.keys.iter().all(|keys| !keys.is_empty()));
        for offset in 0..200 {
            let at = Place { life: 3, partition: 2, offset };
            let content = plan.record(at, 5);
            assert_eq!(content, plan.record(at, 5));
            assert_eq!(origin(&content.value), Some((3, 5)));
            assert_ne!(content, plan.record(Place { life: 4, ..at }, 5));
            assert_ne!(content, plan.record(Place { offset: offset + 1, ..at }, 5));
        }
        let differ = |offset| {
            let at = Place { life: 3, partition: 2, offset };
            plan.record(at, 0) != other.record(at, 0)
        };
        assert!((0..20).any(differ));
    }
}
