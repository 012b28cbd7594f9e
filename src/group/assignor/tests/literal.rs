//! The general sticky algorithm as the rules say it, step by step and with no thought of speed,
//! against the one in use: on random groups both must give the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::equal;
use super::invariants::group;
use crate::assignor::sticky::{Ranked, owners};
use crate::assignor::{Assignment, Assignor, Sticky, Subscriptions};

type Partition = (usize, u32);

struct Literal<'a> {
    input: &'a Subscriptions,
    /// What each member has, in the order of member ids.
    has: Vec<BTreeSet<Partition>>,
    /// Partitions that moved, with where they came from and went to.
    moves: BTreeMap<Partition, (usize, usize)>,
    /// Moves of a partition that brought nobody closer.
    detours: usize,
}

impl Literal<'_> {
    fn subscribers(&self, topic: usize) -> impl Iterator<Item = usize> {
        let members = self.input.members().iter().enumerate();
        members.filter(move |(_, member)| member.topics.contains(&topic)).map(|(member, _)| member)
    }

    fn load(&self, member: usize) -> usize {
        self.has[member].len()
    }

    fn least_loaded(&self, topic: usize) -> usize {
        self.subscribers(topic).min_by_key(|&member| (self.load(member), member)).unwrap()
    }

    fn owner(&self, partition: Partition) -> Option<usize> {
        self.has.iter().position(|has| has.contains(&partition))
    }

    fn give(&mut self, partition: Partition, to: usize) {
        let from = self.owner(partition).unwrap();
        let home = self.moves.get(&partition).map_or(from, |&(home, _)| home);
        let back = self.moves.iter().find(|(other, path)| other.0 == partition.0 && **path == (to, home));
        let partition = back.map_or(partition, |(&back, _)| back);
        let from = self.owner(partition).unwrap();
        if self.load(from) < self.load(to) + 2 {
            self.detours += 1;
        }
        match self.moves.remove(&partition) {
            Some((home, _)) if home == to => {}
            Some((home, _)) => drop(self.moves.insert(partition, (home, to))),
            None => drop(self.moves.insert(partition, (from, to))),
        }
        self.has[from].remove(&partition);
        self.has[to].insert(partition);
    }

    fn pass(&mut self, partitions: &[Partition], previous: &BTreeMap<Partition, usize>) -> bool {
        let mut any = false;
        for &partition in partitions {
            let owner = self.owner(partition).unwrap();
            if let Some(&previous) = previous.get(&partition)
                && self.load(owner) >= self.load(previous) + 2
            {
                self.give(partition, previous);
                any = true;
            } else if self.subscribers(partition.0).any(|other| self.load(owner) >= self.load(other) + 2) {
                self.give(partition, self.least_loaded(partition.0));
                any = true;
            }
            assert!(self.detours < 10_000, "no end");
        }
        any
    }

    fn unevenness(&self) -> usize {
        let loads: Vec<usize> = self.has.iter().map(BTreeSet::len).collect();
        loads.iter().flat_map(|a| loads.iter().map(|b| a.abs_diff(*b))).sum()
    }
}

/// The assignment of members that stand in the order of their ids, and how often a move brought
/// nobody closer, which ours avoids.
fn literal(input: &Subscriptions) -> (Assignment, usize) {
    let ranked = Ranked::new(input);
    let owners = owners(&ranked);
    let members = input.members();
    let mut this = Literal { input, has: vec![BTreeSet::new(); members.len()], moves: BTreeMap::new(), detours: 0 };
    let mut topics: Vec<usize> = (0..input.topics().len()).collect();
    topics.sort_by_key(|&topic| this.subscribers(topic).count());
    let all: Vec<Partition> = topics
        .iter()
        .flat_map(|&topic| (0..input.topics()[topic].partitions).map(move |partition| (topic, partition)))
        .collect();
    let mut revoked = false;
    for &partition in &all {
        if let Some(has) = this.has.get_mut(owners[ranked.number(partition)] as usize) {
            let owner = &members[owners[ranked.number(partition)] as usize];
            if owner.topics.contains(&partition.0) {
                has.insert(partition);
            } else {
                revoked = true;
            }
        }
    }
    let anew = this.has.iter().all(BTreeSet::is_empty);
    let free: Vec<Partition> = all.iter().copied().filter(|&partition| this.owner(partition).is_none()).collect();
    for &partition in &free {
        let to = this.least_loaded(partition.0);
        this.has[to].insert(partition);
    }
    let mut previous: BTreeMap<Partition, usize> = BTreeMap::new();
    let newest = members.iter().map(|member| member.generation).max().unwrap();
    for (index, member) in members.iter().enumerate().filter(|(_, member)| member.generation < newest) {
        for &partition in member.owned.iter().filter(|partition| member.topics.contains(&partition.0)) {
            let entry = previous.entry(partition).or_insert(index);
            if member.generation > members[*entry].generation {
                *entry = index;
            }
        }
    }
    let (before, uneven) = (this.has.clone(), this.unevenness());
    if !revoked {
        while this.pass(&free, &previous) {}
    }
    let mut moved = false;
    while this.pass(&all, &previous) {
        moved = true;
    }
    if !anew && moved && this.unevenness() >= uneven {
        this.has = before;
    }
    (this.has.into_iter().map(|has| has.into_iter().collect()).collect(), this.detours)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_general_algorithm_is_the_literal_one(input in group(6, 8, 12)) {
        let (expected, detours) = literal(&input);
        prop_assume!(detours == 0 && !equal(&input));
        prop_assert_eq!(Sticky.assign(&input), expected);
    }
}
