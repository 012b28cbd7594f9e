//! The long way, for members with different subscriptions.
//!
//! What members own stays; what is free goes to the least loaded subscriber; then single partitions
//! move from one member to another that has at least two fewer, until none can. Each move makes loads
//! more even, so this ends, and never has to be undone. (Kafka also makes moves that don't, in order
//! to bring a partition back to where it was, and compares at the end; results hardly ever differ.)

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::{NOBODY, Ranked, owners};
use crate::assignor::Assignment;

/// The partitions of each rank.
pub(super) fn assign(ranked: &Ranked<'_>) -> Assignment {
    let mut balance = Balance::new(ranked);
    let revoked = balance.drop_unsubscribed();
    let free = balance.give_free();
    // Where nobody loses a topic, moving what is new may be enough.
    if !revoked {
        while balance.pass(|number| free[number]) {}
    }
    while balance.pass(|_| true) {}
    ranked.lists(&balance.owners)
}

/// Who has what, on the way to a balance.
struct Balance<'a> {
    ranked: &'a Ranked<'a>,
    /// The ranks that subscribe to each topic, rising.
    subscribers: Vec<Vec<usize>>,
    /// Topics in the order of treatment: few subscribers first, for they leave the least choice.
    topics: Vec<usize>,
    /// Of each partition: the rank that has it.
    owners: Vec<u32>,
    /// Of each partition: the rank that had it before any moved.
    before: Vec<u32>,
    /// Of each partition: the rank that claims it from an older generation.
    previous: Vec<u32>,
    /// Of each rank: how many partitions it has.
    loads: Vec<u32>,
    /// Partitions of a topic that moved: (topic, from, to).
    moved: HashMap<(usize, u32, u32), BTreeSet<u32>>,
}

impl<'a> Balance<'a> {
    fn new(ranked: &'a Ranked<'a>) -> Balance<'a> {
        let subscribers = ranked.input.subscribers(&ranked.order);
        let mut topics: Vec<usize> = (0..subscribers.len()).collect();
        topics.sort_by_key(|&topic| subscribers[topic].len());
        Balance {
            ranked,
            subscribers,
            topics,
            owners: owners(ranked),
            before: Vec::new(),
            previous: previous(ranked),
            loads: vec![0; ranked.order.len()],
            moved: HashMap::new(),
        }
    }

    /// Takes partitions from owners that no longer subscribe to their topic; whether there were any.
    fn drop_unsubscribed(&mut self) -> bool {
        let mut any = false;
        for ((topic, _), owner) in self.ranked.partitions().zip(&mut self.owners) {
            if *owner as usize >= self.loads.len() {
                *owner = NOBODY;
            } else if !self.ranked.subscribes(*owner, topic) {
                *owner = NOBODY;
                any = true;
            } else {
                self.loads[*owner as usize] += 1;
            }
        }
        any
    }

    /// Gives what nobody owns to the least loaded subscribers; says of each partition whether it was so.
    fn give_free(&mut self) -> Vec<bool> {
        let free: Vec<bool> = self.owners.iter().map(|&owner| owner == NOBODY).collect();
        for &topic in &self.topics {
            let numbers = self.ranked.starts[topic]..self.ranked.starts[topic + 1];
            let mut least = None;
            for number in numbers.filter(|&number| free[number]) {
                let least = least.get_or_insert_with(|| Least::new(&self.subscribers[topic], &self.loads));
                if let Some(rank) = least.rank(&self.loads) {
                    self.owners[number] = rank;
                    self.loads[rank as usize] += 1;
                    least.changed(rank, &self.loads);
                }
            }
        }
        self.before.clone_from(&self.owners);
        free
    }

    /// Walks over those partitions and moves the ones whose owner has at least two more than another
    /// that could have it; whether any moved.
    fn pass(&mut self, those: impl Fn(usize) -> bool) -> bool {
        let mut any = false;
        for place in 0..self.topics.len() {
            let topic = self.topics[place];
            if self.is_level(topic) {
                continue;
            }
            let mut least = Least::new(&self.subscribers[topic], &self.loads);
            for partition in 0..self.ranked.input.topics()[topic].partitions {
                let number = self.ranked.number((topic, partition));
                if !those(number) {
                    continue;
                }
                if let Some(to) = self.better_owner(number, &mut least) {
                    let from = self.transfer(topic, partition, to);
                    least.changed(from, &self.loads);
                    least.changed(to, &self.loads);
                    any = true;
                }
            }
        }
        any
    }

    /// Whether no two subscribers of a topic are two apart, so that nothing of it can move.
    fn is_level(&self, topic: usize) -> bool {
        let loads = self.subscribers[topic].iter().map(|&rank| self.loads[rank]);
        loads.clone().max() <= loads.min().map(|load| load + 1)
    }

    /// Who is to have the partition instead of its owner: who had it once, else the least loaded.
    fn better_owner(&self, number: usize, least: &mut Least) -> Option<u32> {
        let owner = self.owners[number];
        let previous = self.previous[number];
        if previous != NOBODY && self.is_above(owner, previous) {
            return Some(previous);
        }
        least.rank(&self.loads).filter(|&rank| self.is_above(owner, rank))
    }

    /// Whether a rank has at least two more than another.
    fn is_above(&self, rank: u32, other: u32) -> bool {
        self.loads[rank as usize] >= self.loads[other as usize] + 2
    }

    /// Moves the partition to a rank, or another of its topic that came from there: then both are
    /// where they were before. Returns who lost one.
    fn transfer(&mut self, topic: usize, partition: u32, to: u32) -> u32 {
        let home = self.before[self.ranked.number((topic, partition))];
        let back = self.moved.get(&(topic, to, home)).and_then(BTreeSet::first);
        let partition = match back {
            Some(&back) if self.is_above(home, to) => back,
            _ => partition,
        };
        let number = self.ranked.number((topic, partition));
        let from = std::mem::replace(&mut self.owners[number], to);
        let home = self.before[number];
        if home != from
            && let Some(moved) = self.moved.get_mut(&(topic, home, from))
        {
            moved.remove(&partition);
        }
        if home != to {
            self.moved.entry((topic, home, to)).or_default().insert(partition);
        }
        self.loads[from as usize] -= 1;
        self.loads[to as usize] += 1;
        from
    }
}

/// Of each partition: the rank of the newest claim by a member that isn't of the newest generation of
/// all, if it still subscribes to the topic.
fn previous(ranked: &Ranked<'_>) -> Vec<u32> {
    let newest = ranked.members().map(|member| member.generation).max().flatten();
    let mut previous = vec![NOBODY; ranked.total()];
    for (member, rank) in ranked.members().zip(0..).filter(|(member, _)| member.generation < newest) {
        for &partition in &member.owned {
            let held = &mut previous[ranked.number(partition)];
            let newer = *held == NOBODY || member.generation > ranked.member(*held).generation;
            if newer && ranked.subscribes(rank, partition.0) {
                *held = rank;
            }
        }
    }
    previous
}

/// Finds the least loaded of a topic's subscribers, the smaller rank first, while loads change.
struct Least {
    /// (load, rank); entries with another load than the rank has now are left over.
    heap: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Least {
    fn new(subscribers: &[usize], loads: &[u32]) -> Least {
        Least { heap: subscribers.iter().map(|&rank| Reverse((loads[rank], rank as u32))).collect() }
    }

    fn rank(&mut self, loads: &[u32]) -> Option<u32> {
        loop {
            let &Reverse((load, rank)) = self.heap.peek()?;
            if loads[rank as usize] == load {
                return Some(rank);
            }
            self.heap.pop();
        }
    }

    /// A subscriber's load is another now.
    fn changed(&mut self, rank: u32, loads: &[u32]) {
        self.heap.push(Reverse((loads[rank as usize], rank)));
    }
}

#[cfg(test)]
mod tests {
    //! What one move takes, from states that whole assignments hardly ever come to.

    use super::*;
    use crate::assignor::{MemberSubscription, Subscriptions, TopicPartitions};

    /// Ranks 0, 1 and 2 share a topic. Partition 0 came from rank 2 to rank 0, partition 1 from rank 1
    /// to rank 2; `owners` are those of the others. Where does what go if rank 1 is to get partition 0?
    fn owners_after(others: &[u32]) -> Vec<u32> {
        let topics = vec![TopicPartitions { name: "t".into(), partitions: 2 + others.len() as u32 }];
        let member = |id: &str| MemberSubscription { id: id.into(), topics: vec![0], ..MemberSubscription::default() };
        let input = Subscriptions::new(topics, ["a", "b", "c"].map(member).into());
        let ranked = Ranked::new(&input);
        let mut balance = Balance::new(&ranked);
        balance.owners = [&[0, 2], others].concat();
        balance.before = [&[2, 1], others].concat();
        balance.owners.iter().for_each(|&owner| balance.loads[owner as usize] += 1);
        balance.moved.insert((0, 2, 0), BTreeSet::from([0]));
        balance.moved.insert((0, 1, 2), BTreeSet::from([1]));
        balance.transfer(0, 0, 1);
        balance.owners
    }

    #[test]
    fn a_partition_comes_back_instead_of_another_going_there() {
        assert_eq!(owners_after(&[0, 0, 2]), [0, 1, 0, 0, 2]);
    }

    #[test]
    fn but_not_where_that_makes_nothing_more_even() {
        assert_eq!(owners_after(&[0, 0]), [1, 2, 0, 0]);
    }
}
