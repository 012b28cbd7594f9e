//! The short way, where all members subscribe to the same topics.
//!
//! Everyone is to have `least` partitions, and as many members as there are extras one more. Nobody
//! keeps more than that; what is free then goes in turn to those who are short of it.

use std::collections::VecDeque;

use super::{Ranked, owners};
use crate::assignor::Assignment;

/// The partitions of each rank.
pub(super) fn assign(ranked: &Ranked<'_>) -> Assignment {
    let mut lists = ranked.lists(&owners(ranked));
    let mut free = vec![true; ranked.total()];
    let mut quota = Quota::new(ranked.total(), lists.len());
    for (rank, list) in lists.iter_mut().enumerate() {
        // By partition, not by topic: or a member that is over its quota would lose whole topics.
        list.sort_unstable_by_key(|&(topic, partition)| (partition, topic));
        list.truncate(quota.keep(rank, list.len()));
        list.iter().for_each(|&partition| free[ranked.number(partition)] = false);
    }
    for partition in ranked.partitions().filter(|&partition| free[ranked.number(partition)]) {
        let Some(rank) = quota.next() else { break };
        lists[rank].push(partition);
        quota.gave(rank, lists[rank].len());
    }
    lists.iter_mut().for_each(|list| list.sort_unstable());
    lists
}

/// Who keeps how many, and who may still take some.
struct Quota {
    /// What everyone gets at least.
    least: usize,
    /// How many members may still keep one more than that.
    extras: usize,
    /// Ranks with less than `least`, in the order of their turns.
    short: VecDeque<usize>,
    /// Ranks with exactly `least`, in the order of their turns to get one of the extras that are left.
    next: VecDeque<usize>,
}

impl Quota {
    fn new(partitions: usize, members: usize) -> Quota {
        let members = members.max(1);
        Quota {
            least: partitions / members,
            extras: partitions % members,
            short: VecDeque::new(),
            next: VecDeque::new(),
        }
    }

    /// How many of the partitions that it owns a rank keeps. Ranks come in rising order.
    fn keep(&mut self, rank: usize, owned: usize) -> usize {
        if owned < self.least {
            self.short.push_back(rank);
            return owned;
        }
        if self.extras == 0 {
            return self.least;
        }
        if owned == self.least {
            self.next.push_back(rank);
            return self.least;
        }
        self.extras -= 1;
        self.least + 1
    }

    /// Takes out the rank whose turn it is. There is one for every free partition: the quotas add up
    /// to the number of partitions.
    fn next(&mut self) -> Option<usize> {
        self.short.pop_front().or_else(|| self.next.pop_front())
    }

    /// A rank has so many now, one more than before.
    fn gave(&mut self, rank: usize, has: usize) {
        if has < self.least {
            self.short.push_back(rank);
        } else if has == self.least {
            self.next.push_back(rank);
        }
    }
}
