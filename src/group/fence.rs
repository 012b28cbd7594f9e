//! Order per key over an expansion (G7): what a group may read of a topic that got more partitions.
//!
//! Partitions that are added move keys. A group gets nothing of the new ones, and nothing of the
//! old ones at or above the end offsets noted then, until it has come that far in each old one.

/// How far a group has come in one partition, and where the log begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    /// Its committed offset, or where it began without one.
    pub(crate) committed: Option<u64>,
    pub(crate) log_start: u64,
}

impl Positions {
    fn reached(&self) -> u64 {
        self.log_start.max(self.committed.unwrap_or(0))
    }
}

/// The expansion that holds a group back: the first it has not come up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    /// End offsets of the old partitions when the new ones were added (exclusive).
    ends: Vec<u64>,
    /// Partitions in which the group isn't there yet, with the offset it must reach and where it is.
    pub(crate) waits_for: Vec<(u32, u64, u64)>,
}

impl Fence {
    /// The first of the topic's expansions (each the end offsets noted then) that the group has not
    /// come up to; `None`: it may read everything.
    pub(crate) fn find<'a>(
        expansions: impl IntoIterator<Item = &'a [u64]>,
        positions: impl Fn(u32) -> Positions,
    ) -> Option<Fence> {
        expansions.into_iter().find_map(|ends| {
            let behind = ends.iter().enumerate().filter_map(|(partition, &end)| {
                let reached = positions(partition as u32).reached();
                (reached < end).then_some((partition as u32, end, reached))
            });
            let waits_for: Vec<_> = behind.collect();
            (!waits_for.is_empty()).then(|| Fence { ends: ends.to_vec(), waits_for })
        })
    }

    /// Whether both hold back the same records.
    pub(crate) fn has_limits_of(&self, other: &Fence) -> bool {
        self.ends == other.ends
    }

    /// Records of this partition from here on (inclusive) are held back.
    pub(crate) fn limit(&self, partition: u32) -> u64 {
        self.ends.get(partition as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_each_old_partition_must_be_reached_before_anything_new() {
        let find = |reached: [u64; 4]| {
            let at = |partition: u32| Positions { committed: Some(reached[partition as usize]), log_start: 0 };
            Fence::find([&[5_u64, 3][..], &[9, 3, 4]], at)
        };
        let fence = find([0, 0, 0, 0]).unwrap();
        assert_eq!(fence.waits_for, [(0, 5, 0), (1, 3, 0)]);
        assert_eq!([0, 1, 2, 3].map(|partition| fence.limit(partition)), [5, 3, 0, 0]);
        let fence = find([5, 2, 0, 0]).unwrap();
        assert_eq!(fence.waits_for, [(1, 3, 2)]);
        let fence = find([5, 3, 0, 0]).unwrap();
        assert_eq!((fence.waits_for.clone(), fence.limit(3), fence.limit(2)), (vec![(0, 9, 5), (2, 4, 0)], 0, 4));
        assert_eq!(find([9, 3, 4, 0]), None);
    }

    #[test]
    fn g7_log_start_and_starting_point_count_as_reached() {
        for (committed, log_start) in [(Some(5), 0), (None, 5), (Some(2), 7)] {
            let at = |_| Positions { committed, log_start };
            assert_eq!(Fence::find([&[5_u64][..]], at), None);
        }
        assert_eq!(Fence::find([&[0_u64, 0][..]], |_| Positions::default()), None);
    }
}
