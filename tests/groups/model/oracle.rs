//! What must be true of groups, kept beside the engine: logs, commits, who is alive and where each
//! member stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thalweg::Acks;

/// Topic and partition.
pub(super) type Key = (String, u32);

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    /// Unlike all others.
    pub(super) number: u64,
    pub(super) key: u8,
    /// The life in which it was written.
    pub(super) life: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) logs: Vec<Vec<Sent>>,
    pub(super) starts: Vec<u64>,
    /// The ends noted at each expansion.
    pub(super) expansions: Vec<Vec<u64>>,
    pub(super) first_partitions: usize,
}

impl Topic {
    pub(super) fn new(partitions: usize) -> Topic {
        Topic {
            logs: vec![Vec::new(); partitions],
            starts: vec![0; partitions],
            expansions: Vec::new(),
            first_partitions: partitions,
        }
    }

    pub(super) fn end(&self, partition: u32) -> u64 {
        self.logs[partition as usize].len() as u64
    }

    pub(super) fn start(&self, partition: u32) -> u64 {
        self.starts[partition as usize]
    }
}

/// A commit that was made, and the record before it then.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Committed {
    pub(super) offset: u64,
    pub(super) before: Option<Sent>,
    /// Not committed: where the group begins.
    pub(super) start: bool,
}

/// The commits of a group for one partition, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) all: Vec<Committed>,
    /// Commits from this one on (in `all`, plus one) may be found after power loss, after a kill.
    pub(super) synced: usize,
    pub(super) written: usize,
}

impl History {
    /// The commit that counts, or where the group begins.
    pub(super) fn now(&self) -> Option<&Committed> {
        self.all.last()
    }

    /// The committed offset, and where the group begins without one.
    pub(super) fn places(&self) -> (Option<u64>, Option<u64>) {
        match self.all.last() {
            None => (None, None),
            Some(last) if last.start => (None, Some(last.offset)),
            Some(last) => (Some(last.offset), None),
        }
    }

    /// What a crash left must be the last one acknowledged, or a later one.
    #[track_caller]
    pub(super) fn check_after_crash(&mut self, found: (Option<u64>, Option<u64>), killed: bool, whose: &str) {
        let least = if killed { self.written } else { self.synced };
        let at = match found {
            (None, None) => {
                assert_eq!(least, 0, "D5: no commit of {whose}, acknowledged were {:?}", self.all);
                0
            }
            (committed, start) => {
                let fits = |&at: &usize| {
                    let Committed { offset, start: is_start, .. } = self.all[at - 1];
                    at >= least && Some(offset) == if is_start { start } else { committed }
                };
                (1..=self.all.len())
                    .rev()
                    .find(fits)
                    .unwrap_or_else(|| panic!("D5: {found:?} of {whose}, at least {least} of {:?}", self.all))
            }
        };
        self.all.truncate(at);
        self.written = at;
        self.synced = self.synced.min(at);
    }
}

/// Where a member stands in one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) committed: Option<u64>,
    pub(super) paused: bool,
    /// Its topic is gone; the member doesn't know yet.
    pub(super) doomed: bool,
}

/// A member as it should be.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance: Option<String>,
    pub(super) wants: Vec<String>,
    pub(super) pattern: bool,
    pub(super) session: Duration,
    pub(super) max_poll: Duration,
    pub(super) auto_commit: Option<Duration>,
    pub(super) auto_committed_at: Duration,
    pub(super) commits_on_revoke: bool,
    pub(super) acks: Acks,
    pub(super) latest: bool,
    pub(super) max_records: u64,
    pub(super) called: Duration,
    pub(super) polled: Duration,
    pub(super) alive: bool,
    /// Its handle is dropped, its place kept.
    pub(super) away: bool,
    pub(super) fenced: bool,
    pub(super) places: BTreeMap<Key, Place>,
    /// Partitions of each topic when it started.
    pub(super) met: BTreeMap<String, usize>,
}

impl Member {
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.pattern || self.wants.iter().any(|wanted| wanted == topic)
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.called + self.session <= now || (!self.away && self.polled + self.max_poll <= now)
    }

    /// The partitions that it may read.
    pub(super) fn owned(&self) -> BTreeSet<&Key> {
        self.places.iter().filter(|(_, place)| !place.doomed).map(|(key, _)| key).collect()
    }
}

/// How a member begins in a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Begins {
    AsStored,
    Elsewhere,
    Anew,
}

/// One group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) commits: BTreeMap<Key, History>,
    /// How many expansions of a topic it has come past in this life.
    pub(super) passed: BTreeMap<String, usize>,
    /// How often each record was returned.
    pub(super) seen: BTreeMap<(String, u32, u64), u32>,
    /// The newest record of each key that was returned.
    pub(super) newest: BTreeMap<(String, u8), u64>,
}

impl Group {
    /// Where the group goes on by its commit, and whether the commit's record is still there (D5).
    fn reached(&self, topics: &BTreeMap<String, Topic>, key: &Key) -> Option<(u64, bool)> {
        let commit = self.commits.get(key)?.now()?;
        let log = &topics[&key.0].logs[key.1 as usize];
        let before = commit.offset.checked_sub(1).and_then(|at| log.get(at as usize));
        if commit.offset == 0 || (before.is_some() && before == commit.before.as_ref()) {
            return Some((commit.offset, true));
        }
        let life = commit.before.as_ref().map_or(0, |before| before.life);
        let newer = log.iter().position(|sent| sent.life > life).unwrap_or(log.len()) as u64;
        Some((newer.min(commit.offset), false))
    }

    /// Notes which expansions it has come past, as of now.
    pub(super) fn look_at_fences(&mut self, topics: &BTreeMap<String, Topic>) {
        for (name, topic) in topics {
            let reached = |partition: usize| {
                let key = (name.clone(), partition as u32);
                let committed = self.reached(topics, &key).map_or(0, |reached| reached.0);
                committed.max(topic.starts[partition])
            };
            let past = |ends: &&Vec<u64>| ends.iter().enumerate().all(|(partition, &end)| reached(partition) >= end);
            let count = topic.expansions.iter().take_while(past).count();
            let passed = self.passed.entry(name.clone()).or_default();
            *passed = count.max(*passed);
        }
    }

    /// Records of this partition from here on must not be returned (G7).
    pub(super) fn limit(&self, topic: &Topic, key: &Key) -> u64 {
        let passed = self.passed.get(&key.0).copied().unwrap_or(0);
        topic.expansions.get(passed).map_or(u64::MAX, |ends| ends.get(key.1 as usize).copied().unwrap_or(0))
    }

    /// Where the policy has a member begin. All of a partition is the group's that was made after the member
    /// started, or added to the topic after the group had come to it.
    pub(super) fn policy(&self, topics: &BTreeMap<String, Topic>, key: &Key, member: &Member) -> u64 {
        let topic = &topics[&key.0];
        let is_younger = key.1 as usize >= member.met.get(&key.0).copied().unwrap_or(0);
        let has_come = self.commits.iter().any(|(of, history)| of.0 == key.0 && history.now().is_some());
        let is_added = key.1 as usize >= topic.first_partitions && has_come;
        if member.latest && !is_younger && !is_added { topic.end(key.1) } else { topic.start(key.1) }
    }

    /// As a member starts: the group begins in all that it hasn't come to.
    pub(super) fn fix_starts(&mut self, topics: &BTreeMap<String, Topic>, member: &Member) {
        let mut new = Vec::new();
        for (name, topic) in topics.iter().filter(|(name, _)| member.wants(name)) {
            for partition in 0..topic.logs.len() as u32 {
                let key = (name.clone(), partition);
                if self.commits.get(&key).and_then(History::now).is_none() {
                    new.push((self.policy(topics, &key, member), key));
                }
            }
        }
        for (offset, key) in &new {
            self.start(topics, key, *offset);
        }
        // One sync makes durable what was written before, too.
        if !new.is_empty() {
            self.commits.values_mut().for_each(|history| history.synced = history.written);
        }
    }

    /// Where a member must begin (G5, D5): at what the group's state says, elsewhere as its record was lost, or at
    /// a new place.
    pub(super) fn begin(&self, topics: &BTreeMap<String, Topic>, key: &Key, member: &Member) -> (u64, Begins) {
        let topic = &topics[&key.0];
        let start = topic.start(key.1);
        let policy = self.policy(topics, key, member);
        let Some(commit) = self.commits.get(key).and_then(History::now) else { return (policy, Begins::Anew) };
        if commit.offset < start {
            return (policy, Begins::Anew);
        }
        match self.reached(topics, key) {
            Some((reached, false)) if commit.offset > start => (reached.max(start), Begins::Elsewhere),
            _ => (commit.offset, Begins::AsStored),
        }
    }

    /// A commit was made, or tried.
    pub(super) fn commit(&mut self, topics: &BTreeMap<String, Topic>, key: &Key, offset: u64) {
        let log = &topics[&key.0].logs[key.1 as usize];
        let before = offset.checked_sub(1).and_then(|at| log.get(at as usize)).cloned();
        self.commits.entry(key.clone()).or_default().all.push(Committed { offset, before, start: false });
    }

    /// A member's position was no longer kept: it goes on here, and so does the group if its own place isn't
    /// kept either.
    pub(super) fn begins_anew(&mut self, topics: &BTreeMap<String, Topic>, key: &Key, offset: u64) {
        let now = self.commits.get(key).and_then(History::now);
        if now.is_none_or(|now| now.offset < topics[&key.0].start(key.1)) {
            self.start(topics, key, offset);
        }
    }

    /// It was stored that the group begins here.
    pub(super) fn start(&mut self, topics: &BTreeMap<String, Topic>, key: &Key, offset: u64) {
        self.commit(topics, key, offset);
        if let Some(history) = self.commits.get_mut(key) {
            history.all.last_mut().unwrap().start = true;
            history.written = history.all.len();
        }
    }
}

/// Members who want the same share evenly; nobody has what another lacks more (G3).
#[track_caller]
pub(super) fn check_balance(members: &[&Member], topics: &BTreeMap<String, Topic>) {
    let counts: Vec<usize> = members.iter().map(|member| member.owned().len()).collect();
    for (name, topic) in topics.iter().filter(|(name, _)| members.iter().any(|member| member.wants(name))) {
        for partition in 0..topic.logs.len() as u32 {
            let key = (name.clone(), partition);
            let owners = members.iter().filter(|member| member.owned().contains(&key)).count();
            assert_eq!(owners, 1, "G1: {key:?} once settled");
        }
    }
    for (from, member) in members.iter().enumerate() {
        for (to, other) in members.iter().enumerate() {
            let could_give = member.owned().iter().any(|(topic, _)| other.wants(topic));
            assert!(!could_give || counts[from] <= counts[to] + 1, "G3: {counts:?} of {members:#?}");
        }
        assert!(member.owned().iter().all(|(topic, _)| member.wants(topic)), "{member:?}");
    }
}
