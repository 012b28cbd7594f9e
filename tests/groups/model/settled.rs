//! Waiting until nothing moves, and what must be true then: balance, few moves, everything read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thalweg::{Acks, Engine, GroupState};

use super::handles::{Handle, Manner};
use super::oracle::{Key, Member, Topic, check_balance};
use super::{GROUPS, Script, Settled};
use crate::NOW;

impl Script {
    fn polling(&self) -> Vec<u64> {
        let polls =
            |handle: &&Handle| handle.consumer.is_some() && handle.manner == Manner::Polls && !handle.member.fenced;
        self.handles.iter().filter(polls).map(|handle| handle.serial).collect()
    }

    pub(super) fn at(&self, serial: u64) -> Option<usize> {
        self.handles.iter().position(|handle| handle.serial == serial)
    }

    fn round(&mut self) -> usize {
        let mut count = 0;
        for serial in self.polling() {
            if let Some(at) = self.at(serial) {
                count += self.poll(at, NOW);
            }
        }
        count
    }

    /// Waits until the dead are missed and nothing moves; everything belongs to somebody then.
    pub(super) fn settle(&mut self, engine: &Engine) {
        for _ in 0..if self.peaceful { 0 } else { 8 } {
            self.advance(Duration::from_secs(3));
            self.round();
        }
        for _ in 0..4 {
            self.round();
        }
        self.check(engine);
        for (group, name) in GROUPS.iter().enumerate() {
            self.tick(group);
            let Ok(found) = engine.describe_group(name) else { continue };
            let members: BTreeMap<usize, &Member> = self
                .handles
                .iter()
                .enumerate()
                .filter(|(_, handle)| handle.group == group && handle.member.alive)
                .map(|(at, handle)| (at, &handle.member))
                .collect();
            if members.is_empty() {
                continue;
            }
            assert_eq!(found.state, GroupState::Stable);
            check_balance(&members.values().copied().collect::<Vec<_>>(), &self.topics);
            let idle = found.members.iter().filter(|member| member.is_idle()).count();
            assert_eq!(idle, members.values().filter(|member| member.places.is_empty()).count(), "G6");
            let number = |at: &usize| self.handles[*at].id.rsplit('-').next().unwrap().parse::<usize>().unwrap();
            let now = Settled {
                generation: found.generation,
                owned: members
                    .iter()
                    .map(|(at, member)| (number(at), member.owned().into_iter().cloned().collect()))
                    .collect(),
                wants: members
                    .values()
                    .map(|member| self.topics.keys().filter(|topic| member.wants(topic)).cloned().collect())
                    .collect(),
            };
            if let Some(before) = &self.settled[group] {
                check_moves(before, &now, &self.topics);
            }
            self.settled[group] = Some(now);
        }
    }

    /// One comes or goes, and nothing else happens between.
    pub(super) fn one_change(&mut self, engine: &Engine) {
        self.settle(engine);
        if self.random.one_in(2) {
            self.join(engine)
        } else {
            self.go()
        }
        self.settle(engine);
    }

    /// Everything is read and committed in the end.
    pub(super) fn drain(&mut self, engine: &Engine) {
        for serial in self.polling() {
            let Some(at) = self.at(serial) else { continue };
            let handle = &mut self.handles[at];
            let consumer = handle.consumer.as_mut().unwrap();
            for (key, place) in handle.member.places.iter_mut().filter(|(_, place)| place.paused) {
                consumer.resume(&key.0, key.1).unwrap();
                place.paused = false;
            }
        }
        let mut quiet = 0;
        while quiet < 6 {
            quiet = if self.round() == 0 { quiet + 1 } else { 0 };
            for serial in self.polling() {
                let Some(at) = self.at(serial) else { continue };
                self.handles[at].consumer.as_mut().unwrap().commit_at(Acks::Written).unwrap();
                assert!(self.committed_all(at, Acks::Written));
            }
        }
        self.check(engine);
        for handle in self.handles.iter().filter(|handle| handle.member.alive) {
            for (key, place) in &handle.member.places {
                let topic = &self.topics[&key.0];
                assert_eq!(place.position, topic.end(key.1), "{key:?} of {} to the end: {topic:?}", handle.id);
                if self.peaceful {
                    let seen = &self.groups[handle.group].seen;
                    let all = (0..topic.end(key.1)).all(|offset| seen.get(&(key.0.clone(), key.1, offset)) == Some(&1));
                    assert!(all, "each record exactly once: {key:?}");
                }
            }
        }
    }
}

/// After one rebalance among members who want the same, as many partitions as possible are where they were (G3).
fn check_moves(before: &Settled, now: &Settled, topics: &BTreeMap<String, Topic>) {
    let alike = before.wants.iter().chain(&now.wants).all(|wants| wants == &now.wants[0]);
    if now.generation != before.generation + 1 || !alike {
        return;
    }
    let all: usize = now.owned.values().map(BTreeSet::len).sum();
    let exists = |key: &&Key| topics.get(&key.0).is_some_and(|topic| (key.1 as usize) < topic.logs.len());
    let had: BTreeMap<usize, usize> = now
        .owned
        .keys()
        .map(|member| (*member, before.owned.get(member).map_or(0, |owned| owned.iter().filter(exists).count())))
        .collect();
    let mut counts: Vec<usize> = had.values().copied().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let (share, more) = (all / counts.len(), all % counts.len());
    let best: usize = counts.iter().enumerate().map(|(at, &had)| had.min(share + usize::from(at < more))).sum();
    let kept: usize = now
        .owned
        .iter()
        .filter_map(|(member, owned)| Some(owned.intersection(before.owned.get(member)?).count()))
        .sum();
    assert_eq!(kept, best, "G3: only what must move moves: {:?} to {:?}", before.owned, now.owned);
}
