//! One member's handle, what its listener hears, and its polls and commits compared with the oracle.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg::{Acks, Consumer, ErrorKind, Polled, RebalanceListener};

use super::oracle::{Begins, Key, Member, Place};
use super::{GROUPS, Heard, Script};
use crate::fails;

/// What a listener was told, with the positions then.
#[derive(Debug)]
pub(super) enum Said {
    Assigned(BTreeMap<Key, u64>),
    Revoked(Vec<Key>, BTreeMap<Key, u64>, bool),
    Lost(Vec<Key>),
}

pub(super) struct Listener {
    pub(super) heard: Heard,
    pub(super) commits: bool,
}

fn positions(consumer: &Consumer) -> BTreeMap<Key, u64> {
    let partitions = consumer.stats().partitions.into_iter();
    partitions.map(|partition| ((partition.topic, partition.partition), partition.position)).collect()
}

impl RebalanceListener for Listener {
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[Key]) {
        let mut all = positions(consumer);
        all.retain(|key, _| partitions.contains(key));
        assert_eq!(all.len(), partitions.len());
        self.heard.lock().unwrap().push(Said::Assigned(all));
    }

    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[Key]) {
        let positions = positions(consumer);
        let committed = self.commits && consumer.commit().is_ok();
        self.heard.lock().unwrap().push(Said::Revoked(partitions.to_vec(), positions, committed));
    }

    fn on_lost(&mut self, _: &mut Consumer, partitions: &[Key]) {
        self.heard.lock().unwrap().push(Said::Lost(partitions.to_vec()));
    }
}

/// How its owner treats a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Polls,
    /// Makes other calls.
    Stalls,
    /// Does nothing with it.
    Sleeps,
}

pub(super) struct Handle {
    /// `None`: dropped or forgotten, and still a member.
    pub(super) consumer: Option<Consumer>,
    /// Its own among all of the script's.
    pub(super) serial: u64,
    pub(super) id: String,
    pub(super) group: usize,
    pub(super) member: Member,
    pub(super) heard: Heard,
    pub(super) manner: Manner,
    pub(super) generation: u32,
}

impl Script {
    pub(super) fn now(&self) -> Duration {
        thalweg::Clock::monotonic(&self.world.clock)
    }

    /// Whoever wasn't heard of in time is no member any more.
    pub(super) fn tick(&mut self, group: usize) {
        let now = self.now();
        for handle in self.handles.iter_mut().filter(|handle| handle.group == group) {
            handle.member.alive &= !handle.member.is_due(now);
        }
        self.handles.retain(|handle| handle.consumer.is_some() || handle.member.alive);
    }

    /// The index of a handle after [`tick`](Script::tick), which may have taken others out.
    pub(super) fn ticked(&mut self, at: usize) -> usize {
        let (group, serial) = (self.handles[at].group, self.handles[at].serial);
        self.tick(group);
        self.at(serial).unwrap()
    }

    pub(super) fn poll(&mut self, at: usize, timeout: Duration) -> usize {
        let at = self.ticked(at);
        let now = self.now();
        let member = &mut self.handles[at].member;
        if let Some(every) = member.auto_commit
            && now.saturating_sub(member.auto_committed_at) >= every
        {
            member.auto_committed_at = now;
            if member.alive {
                let acks = member.acks;
                self.committed_all(at, acks);
            }
        }
        self.late_or_fenced(at);
        let handle = &mut self.handles[at];
        let consumer = handle.consumer.as_mut().unwrap();
        handle.heard.lock().unwrap().clear();
        let mut result = consumer.poll(timeout);
        if result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::UnknownTopic { .. })) {
            assert!(!self.topics.keys().any(|topic| handle.member.wants(topic)), "{:?}", handle.member);
            // Said once: the next poll waits for a topic of that name.
            result = consumer.poll(timeout);
        }
        if handle.member.fenced {
            fails(result, "FencedInstance");
            handle.member.places.clear();
            assert_eq!(consumer.assignment().count(), 0);
            return 0;
        }
        let polled = result.unwrap();
        let stays = handle.member.alive;
        (handle.member.called, handle.member.polled, handle.member.alive) = (now, now, true);
        let id = consumer.member_id().unwrap().to_owned();
        assert_eq!(stays, id == handle.id, "{id} {handle_id}", handle_id = handle.id);
        let generation = consumer.generation();
        assert!(!stays || generation >= handle.generation, "G4");
        (handle.id, handle.generation) = (id, generation);
        self.take_over(at, stays);
        let count = self.read(at, &polled);
        self.say(|| format!("poll of {} -> {count}", self.handles[at].id));
        self.compare_positions(at);
        count
    }

    /// Goes through what the listener heard.
    fn take_over(&mut self, at: usize, stays: bool) {
        let heard = std::mem::take(&mut *self.handles[at].heard.lock().unwrap());
        self.say(|| format!("    {}: {heard:?}", self.handles[at].id));
        if !stays && !self.handles[at].member.places.is_empty() {
            assert!(matches!(&heard[0], Said::Lost(lost) if lost.len() == self.handles[at].member.places.len()));
        }
        for said in heard {
            let handle = &mut self.handles[at];
            match said {
                Said::Lost(lost) => lost.iter().for_each(|key| {
                    let place = handle.member.places.remove(key).unwrap();
                    assert!(place.doomed || !stays, "{key:?} was lost without a reason");
                }),
                Said::Revoked(revoked, positions, committed) => {
                    let expected: BTreeMap<_, _> =
                        handle.member.places.iter().map(|(key, place)| (key.clone(), place.position)).collect();
                    assert_eq!(positions, expected, "at a hand-over, what the polls before returned");
                    assert_eq!(committed, handle.member.commits_on_revoke);
                    if committed || handle.member.auto_commit.is_some() {
                        let acks = handle.member.acks;
                        assert!(self.committed_all(at, acks));
                    }
                    let member = &mut self.handles[at].member;
                    revoked.iter().for_each(|key| assert!(member.places.remove(key).is_some()));
                }
                Said::Assigned(assigned) => {
                    for (key, position) in assigned {
                        let member = &mut handle.member;
                        assert!(member.wants(&key.0));
                        let group = &mut self.groups[handle.group];
                        let (expected, begins) = group.begin(&self.topics, &key, member);
                        assert_eq!(position, expected, "G5: {key:?} of {member:?}");
                        if begins == Begins::Anew {
                            group.start(&self.topics, &key, position);
                            group.look_at_fences(&self.topics);
                        }
                        let committed = group.commits[&key].places().0.filter(|_| begins == Begins::AsStored);
                        let place = Place { position, committed, paused: false, doomed: false };
                        assert!(member.places.insert(key, place).is_none());
                    }
                }
            }
            self.check_owners(self.handles[at].group);
        }
    }

    /// No partition with two live owners (G1).
    #[track_caller]
    pub(super) fn check_owners(&self, group: usize) {
        let mut owners = BTreeMap::new();
        for handle in self.handles.iter().filter(|handle| handle.group == group && handle.member.alive) {
            for key in handle.member.owned() {
                if let Some(other) = owners.insert(key, &handle.id) {
                    panic!("G1: {key:?} is {}'s and {other}'s", handle.id);
                }
            }
        }
    }

    /// Compares the records with what was sent, and with what the member may see.
    fn read(&mut self, at: usize, polled: &Polled) -> usize {
        let handle = &mut self.handles[at];
        let group = &mut self.groups[handle.group];
        let mut count = 0;
        for batch in polled {
            let key = (batch.topic().to_owned(), batch.partition());
            let topic = &self.topics[&key.0];
            let place = handle.member.places.get_mut(&key).unwrap_or_else(|| panic!("{key:?} is not {}'s", handle.id));
            assert!(!place.paused && !place.doomed);
            let offsets = batch.offsets();
            // A batch that it had entered may still be read to its end after records were deleted.
            if place.position < topic.start(key.1) && offsets.start >= topic.start(key.1) {
                place.position = topic.start(key.1);
                group.begins_anew(&self.topics, &key, place.position);
            }
            assert_eq!(offsets.start, place.position, "{key:?}");
            let limit = group.limit(topic, &key);
            assert!(offsets.end <= limit, "G7: {key:?} {offsets:?} is held from {limit} on");
            for record in batch {
                let sent = &topic.logs[key.1 as usize][record.offset() as usize];
                assert_eq!(record.value(), Some(&sent.number.to_le_bytes()[..]));
                let seen = group.seen.entry((key.0.clone(), key.1, record.offset())).or_default();
                *seen += 1;
                if self.peaceful {
                    assert_eq!(*seen, 1, "{key:?} {} came twice", record.offset());
                    let newest = group.newest.insert((key.0.clone(), sent.key), sent.number);
                    assert!(newest < Some(sent.number), "G7: key {} of {}: {newest:?}, {sent:?}", sent.key, key.0);
                }
                count += 1;
            }
            place.position = offsets.end;
        }
        assert!(count as u64 <= handle.member.max_records);
        count
    }

    #[track_caller]
    pub(super) fn compare_positions(&mut self, at: usize) {
        let handle = &mut self.handles[at];
        let stats = handle.consumer.as_ref().unwrap().stats();
        let found: Vec<Key> = stats.partitions.iter().map(|found| (found.topic.clone(), found.partition)).collect();
        assert!(found.iter().eq(handle.member.places.keys()), "{found:?} {:?}", handle.member.places);
        for found in stats.partitions {
            let key = (found.topic, found.partition);
            let place = handle.member.places.get_mut(&key).unwrap();
            if place.doomed {
                continue;
            }
            let start = self.topics[&key.0].start(key.1);
            // Records that are no longer kept: it goes on by policy, once it looks.
            let skips = place.position < start && found.position >= start;
            assert!(found.position == place.position || skips, "{key:?}: {} {place:?}", found.position);
            if found.position != place.position {
                self.groups[handle.group].begins_anew(&self.topics, &key, found.position);
            }
            place.position = found.position;
            assert_eq!((found.committed, found.paused), (place.committed, place.paused), "{key:?}");
        }
    }

    /// The member's positions are committed now. `false`: not those of a topic that is gone.
    pub(super) fn committed_all(&mut self, at: usize, acks: Acks) -> bool {
        let handle = &mut self.handles[at];
        let member = &mut handle.member;
        member.called = thalweg::Clock::monotonic(&self.world.clock);
        let is_new = |place: &Place| place.committed != Some(place.position);
        let all = !member.places.values().any(|place| place.doomed && is_new(place));
        let new = member.places.iter_mut().filter(|(_, place)| is_new(place) && !place.doomed);
        let new = new.map(|(key, place)| {
            place.committed = Some(place.position);
            (key.clone(), place.position)
        });
        let new: Vec<_> = new.collect();
        self.note_commits(self.handles[at].group, &new, Some(acks));
        all
    }

    /// `acks`: as it was acknowledged, if it was.
    pub(super) fn note_commits(&mut self, group: usize, new: &[(Key, u64)], acks: Option<Acks>) {
        self.say(|| format!("    {} commits {new:?} {acks:?}", GROUPS[group]));
        for (key, offset) in new {
            self.groups[group].commit(&self.topics, key, *offset);
            if acks.is_some() {
                let history = self.groups[group].commits.get_mut(key).unwrap();
                history.written = history.all.len();
            }
            if acks == Some(Acks::Synced) {
                self.synced.push((key.clone(), *offset));
            }
        }
        if acks == Some(Acks::Synced) {
            let histories = self.groups.iter_mut().flat_map(|group| group.commits.values_mut());
            histories.for_each(|history| history.synced = history.written);
        }
        self.groups[group].look_at_fences(&self.topics);
    }

    /// One that was late is fenced if another has its instance id now.
    fn late_or_fenced(&mut self, at: usize) {
        let handle = &self.handles[at];
        let holder = self.holder(handle.group, &handle.member.instance);
        self.handles[at].member.fenced |= !self.handles[at].member.alive && holder.is_some();
    }

    /// One that is no member any more is told so, and commits nothing.
    pub(super) fn commit_refused(&mut self, at: usize) {
        let fenced_before = self.handles[at].member.fenced;
        self.late_or_fenced(at);
        let handle = &mut self.handles[at];
        let kind = if handle.member.fenced { "FencedInstance" } else { "UnknownMember" };
        let error = fails(handle.consumer.as_mut().unwrap().commit(), kind);
        assert!(matches!(error.kind(), ErrorKind::FencedInstance { .. } | ErrorKind::UnknownMember { .. }));
        // For good only once it polled.
        handle.member.fenced = fenced_before;
    }
}
