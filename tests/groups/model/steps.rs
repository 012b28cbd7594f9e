//! What a script does, one step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg::{Acks, Engine, ErrorKind, GroupState, OffsetCommit, Record, StartPolicy, TopicConfig};

use super::handles::{Handle, Listener, Manner};
use super::oracle::{Key, Member, Sent, Topic};
use super::{GROUPS, Script, TOPICS};
use crate::{NOW, SESSION, fails};

impl Script {
    pub(super) fn step(&mut self, engine: &Engine) {
        match self.random.below(24) {
            0..5 => self.send(engine),
            5..11 => self.poll_one(),
            11..14 => self.commit_one(),
            14 | 15 => self.join(engine),
            16 => self.go(),
            17 | 18 => self.pass(),
            19 => self.change_topics(engine),
            20 => self.place(),
            21 if self.random.one_in(2) => self.one_change(engine),
            22 if !self.peaceful => self.change_manner(),
            _ => self.poll_one(),
        }
    }

    /// A handle that some of its owners use.
    fn any(&mut self, fits: impl Fn(&Handle) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.handles.len())
            .filter(|&at| self.handles[at].consumer.is_some() && fits(&self.handles[at]))
            .collect();
        self.random.pick(&fitting).copied()
    }

    fn any_topic(&mut self) -> Option<String> {
        let names: Vec<String> = self.topics.keys().cloned().collect();
        self.random.pick(&names).cloned()
    }

    fn send(&mut self, engine: &Engine) {
        let Some(name) = self.any_topic() else { return };
        let producer = engine.producer_for(&name).unwrap();
        if self.random.one_in(2) {
            // In one batch: a poll may hand out a part of it.
            let (key, count) = (self.random.below(5) as u8, 1 + self.random.below(12));
            let acks = if self.random.one_in(3) && !self.lazy { Acks::Synced } else { Acks::Written };
            let values: Vec<_> = (self.number..self.number + count).map(u64::to_le_bytes).collect();
            let records: Vec<_> =
                values.iter().map(|value| Record::new(value).key(std::slice::from_ref(&key)).acks(acks)).collect();
            let sent = producer.send_batch(&records).unwrap();
            let offsets = sent.offsets();
            let partition = sent.wait().unwrap().partition;
            let log = &mut self.topics.get_mut(&name).unwrap().logs[partition as usize];
            assert_eq!(offsets, log.len() as u64..log.len() as u64 + count);
            log.extend((self.number..self.number + count).map(|number| Sent { number, key, life: self.life }));
            self.number += count;
            return;
        }
        for _ in 0..1 + self.random.below(6) {
            let (key, number) = (self.random.below(5) as u8, self.number);
            let acks = if self.random.one_in(3) && !self.lazy { Acks::Synced } else { Acks::Written };
            self.number += 1;
            let value = number.to_le_bytes();
            let sent = producer.send(Record::new(&value).key(&[key]).acks(acks)).unwrap().wait().unwrap();
            let log = &mut self.topics.get_mut(&name).unwrap().logs[sent.partition as usize];
            assert_eq!(sent.offset, log.len() as u64);
            log.push(Sent { number, key, life: self.life });
        }
    }

    fn poll_one(&mut self) {
        let Some(at) = self.any(|handle| handle.manner == Manner::Polls) else { return };
        let timeout = if self.random.one_in(4) { Duration::from_millis(1) } else { NOW };
        self.poll(at, timeout);
    }

    fn commit_one(&mut self) {
        let Some(at) = self.any(|handle| handle.manner == Manner::Polls) else { return };
        let at = self.ticked(at);
        if !self.handles[at].member.alive {
            return self.commit_refused(at);
        }
        if !self.peaceful && self.random.one_in(4) {
            return self.commit_some(at);
        }
        let way = if self.lazy { 1 } else { self.random.below(4) };
        let handle = &mut self.handles[at];
        let consumer = handle.consumer.as_mut().unwrap();
        let (acks, result) = match way {
            0 => (Acks::Synced, consumer.commit_at(Acks::Synced)),
            1 => (Acks::Written, consumer.commit_async().map(drop)),
            2 => (Acks::Synced, consumer.commit_async().and_then(|receipt| receipt.wait())),
            _ => (handle.member.acks, consumer.commit()),
        };
        if !self.committed_all(at, acks) && way != 1 {
            fails(result, "RebalanceInProgress");
            return;
        }
        result.unwrap();
    }

    /// One given offset, which may be out of range.
    fn commit_some(&mut self, at: usize) {
        let keys: Vec<Key> = self.handles[at].member.owned().into_iter().cloned().collect();
        let Some(key) = self.random.pick(&keys).cloned() else { return };
        let topic = &self.topics[&key.0];
        let (start, end) = (topic.start(key.1), topic.end(key.1));
        let offset = self.random.below(end + 3);
        let commit = OffsetCommit::new(&*key.0, key.1, offset);
        let consumer = self.handles[at].consumer.as_mut().unwrap();
        let result = consumer.commit_offsets([commit], Acks::Written);
        if offset < start || offset > end {
            fails(result, "OffsetOutOfRange");
            return;
        }
        result.unwrap();
        let member = &mut self.handles[at].member;
        member.called = thalweg::Clock::monotonic(&self.world.clock);
        member.places.get_mut(&key).unwrap().committed = Some(offset);
        self.note_commits(self.handles[at].group, &[(key, offset)], Some(Acks::Written));
    }

    pub(super) fn join(&mut self, engine: &Engine) {
        let group = self.random.below(2) as usize;
        if self.handles.iter().filter(|handle| handle.group == group).count() >= 5 || self.topics.is_empty() {
            return;
        }
        self.tick(group);
        let mut wants: Vec<String> = self.topics.keys().cloned().collect();
        let alike = self.random.one_in(2);
        wants.retain(|_| alike || !self.random.one_in(3));
        let pattern = wants.is_empty() || self.random.one_in(4);
        let instance = (!self.peaceful && self.random.one_in(4)).then(|| format!("i{}", self.random.below(2)));
        let latest = !self.peaceful && self.random.one_in(6);
        let now = self.now();
        let member = Member {
            instance,
            wants,
            pattern,
            session: SESSION * (1 + self.random.below(2) as u32),
            max_poll: SESSION * 2,
            auto_commit: self.random.one_in(3).then(|| Duration::from_secs(self.random.below(4))),
            auto_committed_at: Duration::ZERO,
            commits_on_revoke: self.peaceful || self.random.one_in(2),
            acks: if self.random.one_in(2) && !self.lazy { Acks::Synced } else { Acks::Written },
            latest,
            max_records: 1 + self.random.below(8),
            called: now,
            polled: now,
            alive: true,
            away: false,
            fenced: false,
            places: BTreeMap::new(),
            met: self.topics.iter().map(|(name, topic)| (name.clone(), topic.logs.len())).collect(),
        };
        let heard = super::Heard::default();
        let mut builder = engine
            .consumer(GROUPS[group])
            .session_timeout(member.session)
            .max_poll_interval(member.max_poll)
            .commit_acks(member.acks)
            .max_poll_records(member.max_records)
            .start_from(if latest { StartPolicy::Latest } else { StartPolicy::Earliest })
            .listener(Listener { heard: Arc::clone(&heard), commits: member.commits_on_revoke });
        builder = match pattern {
            true => builder.subscribe_pattern("[a-z]"),
            false => builder.subscribe(member.wants.clone()),
        };
        if let Some(every) = member.auto_commit {
            builder = builder.auto_commit(every);
        }
        if let Some(instance) = &member.instance {
            builder = builder.instance_id(instance);
        }
        let consumer = builder.start().unwrap();
        let same =
            |handle: &Handle| handle.group == group && handle.member.alive && handle.member.instance == member.instance;
        if member.instance.is_some()
            && let Some(old) = self.handles.iter().position(same)
        {
            let old = &mut self.handles[old].member;
            (old.fenced, old.alive) = (!old.away, false);
            self.handles.retain(|handle| handle.consumer.is_some() || handle.member.alive);
        }
        self.groups[group].fix_starts(&self.topics, &member);
        self.groups[group].look_at_fences(&self.topics);
        let id = consumer.member_id().unwrap().to_owned();
        self.say(|| format!("{id} joins {}: {member:?}", GROUPS[group]));
        let epoch: u32 = id.split('-').nth(1).unwrap().parse().unwrap();
        assert!(epoch >= self.epoch.max(self.life), "G4: each life has a higher epoch");
        self.epoch = epoch;
        let (consumer, manner, serial) = (Some(consumer), Manner::Polls, self.number);
        self.number += 1;
        self.handles.push(Handle { consumer, serial, id, group, member, heard, manner, generation: 0 });
    }

    /// The member with this instance id.
    pub(super) fn holder(&self, group: usize, instance: &Option<String>) -> Option<usize> {
        let same =
            |handle: &Handle| handle.group == group && handle.member.alive && handle.member.instance == *instance;
        if instance.is_none() { None } else { self.handles.iter().position(same) }
    }

    /// A member goes: drops its handle, or dies without a word.
    pub(super) fn go(&mut self) {
        let Some(at) = self.any(|_| true) else { return };
        let at = self.ticked(at);
        if self.peaceful {
            let mut consumer = self.handles[at].consumer.take().unwrap();
            let acks = self.handles[at].member.acks;
            consumer.commit().unwrap();
            assert!(self.committed_all(at, acks));
            self.handles.remove(at);
            return;
        }
        let handle = &mut self.handles[at];
        let consumer = handle.consumer.take().unwrap();
        let alive = handle.member.alive;
        self.say(|| format!("{} goes", self.handles[at].id));
        if self.random.one_in(2) {
            self.graves.push(consumer);
        } else {
            drop(consumer);
            let now = self.now();
            let member = &mut self.handles[at].member;
            if alive && member.instance.is_some() {
                (member.away, member.called, member.polled) = (true, now, now);
            } else {
                self.handles.remove(at);
                return;
            }
        }
        self.handles.retain(|handle| handle.consumer.is_some() || handle.member.alive);
    }

    fn pass(&mut self) {
        let most = if self.random.one_in(5) && !self.peaceful { 15_000 } else { 3_000 };
        let by = Duration::from_millis(self.random.below(most));
        if self.peaceful {
            // Nobody may be late.
            let soon = |handle: &Handle| handle.member.is_due(self.now() + by);
            if self.handles.iter().any(soon) {
                return;
            }
        }
        self.advance(by);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.world.clock.advance(by);
        for at in 0..self.handles.len() {
            let now = self.now();
            let handle = &mut self.handles[at];
            if let Some(consumer) = &handle.consumer
                && handle.manner == Manner::Stalls
            {
                let _ = consumer.position("none", 0);
                handle.member.alive &= !handle.member.is_due(now);
                handle.member.called = now;
            }
        }
    }

    fn change_topics(&mut self, engine: &Engine) {
        let name = TOPICS[self.random.below(3) as usize];
        let Some(topic) = self.topics.get_mut(name) else {
            let partitions = 1 + self.random.below(3) as u32;
            engine.create_topic(name, TopicConfig::default().partitions(partitions)).unwrap();
            self.say(|| format!("topic {name} with {partitions}"));
            self.topics.insert(name.into(), Topic::new(partitions as usize));
            return;
        };
        let (start, end) = (topic.start(0), topic.end(0));
        match self.random.below(4) {
            0 if !self.peaceful && self.random.one_in(2) => {
                self.say(|| format!("topic {name} is deleted"));
                engine.delete_topic(name).unwrap();
                self.topics.remove(name);
                for group in &mut self.groups {
                    group.commits.retain(|key, _| key.0 != name);
                    group.passed.remove(name);
                }
                self.handles.iter_mut().for_each(|handle| {
                    handle.member.met.remove(name);
                });
                let places = self.handles.iter_mut().flat_map(|handle| handle.member.places.iter_mut());
                places.filter(|(key, _)| key.0 == name).for_each(|(_, place)| place.doomed = true);
            }
            1 if !self.peaceful && start < end => {
                let to = start + self.random.below(end - start + 1);
                engine.partition(name, 0).unwrap().delete_records(to).unwrap();
                self.topics.get_mut(name).unwrap().starts[0] = to;
            }
            _ if topic.logs.len() < 6 => {
                topic.expansions.push(topic.logs.iter().map(|log| log.len() as u64).collect());
                let count = topic.logs.len() + 1 + self.random.below(2) as usize;
                topic.logs.resize(count, Vec::new());
                topic.starts.resize(count, 0);
                let config = engine.describe_topic(name).unwrap().config.partitions(count as u32);
                engine.alter_topic(name, config).unwrap();
                self.say(|| format!("topic {name} has {:?}", self.topics[name]));
            }
            _ => {}
        }
    }

    /// Seeks, pauses, resumes.
    fn place(&mut self) {
        let Some(at) = self.any(|handle| handle.manner == Manner::Polls) else { return };
        let at = self.ticked(at);
        if !self.handles[at].member.alive {
            return;
        }
        let keys: Vec<Key> = self.handles[at].member.owned().into_iter().cloned().collect();
        let Some(key) = self.random.pick(&keys).cloned() else { return };
        let topic = &self.topics[&key.0];
        let (start, end) = (topic.start(key.1), topic.end(key.1));
        let what = self.random.below(4);
        let to = start + self.random.below(end - start + 1);
        let now = self.now();
        let handle = &mut self.handles[at];
        let (consumer, place) = (handle.consumer.as_mut().unwrap(), handle.member.places.get_mut(&key).unwrap());
        handle.member.called = now;
        match what {
            0 if !self.peaceful => {
                consumer.seek(&key.0, key.1, to).unwrap();
                place.position = to;
            }
            1 => {
                consumer.pause(&key.0, key.1).unwrap();
                place.paused = true;
            }
            2 => {
                assert_eq!(consumer.position(&key.0, key.1).unwrap(), place.position);
                let committed = consumer.committed(&key.0, key.1).unwrap().map(|commit| commit.offset);
                let ours = self.groups[handle.group].commits.get(&key).and_then(|history| history.now());
                assert_eq!(committed, ours.filter(|commit| !commit.start).map(|commit| commit.offset));
            }
            _ => {
                consumer.resume(&key.0, key.1).unwrap();
                place.paused = false;
            }
        }
        self.compare_positions(at);
    }

    fn change_manner(&mut self) {
        let Some(at) = self.any(|_| true) else { return };
        self.handles[at].manner = [Manner::Polls, Manner::Stalls, Manner::Sleeps][self.random.below(3) as usize];
        self.say(|| format!("{} {:?}", self.handles[at].id, self.handles[at].manner));
    }

    /// After each step.
    pub(super) fn check(&mut self, engine: &Engine) {
        self.check_events();
        let synced = std::mem::take(&mut self.synced);
        for (key, offset) in synced.iter().filter(|(key, _)| self.topics.contains_key(&key.0)) {
            assert!(engine.partition(&key.0, key.1).unwrap().durable_offset() >= *offset, "D5: {key:?}");
        }
        self.groups.iter_mut().for_each(|group| group.look_at_fences(&self.topics));
        // Describing looks who is late, too; not always, so that polls must.
        if !self.random.one_in(3) {
            return (0..2).for_each(|group| self.check_owners(group));
        }
        for (group, name) in GROUPS.iter().enumerate() {
            self.check_owners(group);
            self.tick(group);
            let Ok(found) = engine.describe_group(name) else { continue };
            let alive = self.handles.iter().filter(|handle| handle.group == group && handle.member.alive);
            let alive: BTreeMap<&str, &Handle> = alive.map(|handle| (&*handle.id, handle)).collect();
            let ids: BTreeSet<&str> = found.members.iter().map(|member| &*member.id).collect();
            assert!(ids.iter().eq(alive.keys()), "G3: members {ids:?}, not {:?}", alive.keys());
            let mut held = BTreeSet::new();
            for member in &found.members {
                assert!(member.partitions.iter().all(|key| held.insert(key)), "G1: {found:#?}");
                let owned = alive[&*member.id].member.owned();
                assert!(owned.iter().all(|key| member.partitions.contains(key)), "G1: {member:?} {owned:?}");
            }
            assert_eq!(found.state == GroupState::Empty, alive.is_empty());
        }
        self.check_commits(engine);
    }

    /// Something in the middle of which the power goes.
    pub(super) fn last_act(&mut self) {
        let is_power = |error: &thalweg::Error| {
            matches!(
                error.kind(),
                ErrorKind::Io | ErrorKind::Failed | ErrorKind::Closed | ErrorKind::UnknownMember { .. }
            )
        };
        let at = self.any(|handle| handle.member.alive && !handle.member.places.values().any(|place| place.doomed));
        let Some(at) = at else { return };
        let at = self.ticked(at);
        let handle = &mut self.handles[at];
        let places = handle.member.places.iter().filter(|(_, place)| place.committed != Some(place.position));
        let new: Vec<_> = places.map(|(key, place)| (key.clone(), place.position)).collect();
        let result = handle.consumer.as_mut().unwrap().commit_at(Acks::Synced);
        let acks = match result {
            Ok(()) => Some(Acks::Synced),
            Err(error) => {
                assert!(is_power(&error), "{error}");
                None
            }
        };
        self.note_commits(self.handles[at].group, &new, acks);
    }
}
