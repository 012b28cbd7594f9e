//! What a cycle does: one step after another, drawn from its seed.
//!
//! Of three consecutive seeds the first takes the next of all workloads of one or two steps, the
//! second the next of all of three, the third a long random one. So a run of `3 * 462` cycles has
//! done every workload of up to two steps. In every other long one all appends
//! are alike.

use std::fmt;

use crate::config::Acks;
use crate::sim::random::Random;

/// One thing that a user does, with all its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Appends one batch; with `wait`, waits for its receipt.
    Append { partition: u32, records: u8, bytes: u32, acks: Acks, wait: bool },
    /// `Engine::sync`.
    Sync,
    /// Lets a segment become old, and appends: the partition goes on in a new one.
    Roll { partition: u32 },
    /// Commits an offset of a group, `share` hundredths of the way from log start to end.
    Commit { group: u8, partition: u32, share: u8, acks: Acks },
    /// Commits with much metadata until the offset log has been compacted.
    Compact { group: u8 },
    /// Sets a group's offsets in all partitions, `share` hundredths of the way as above.
    Reset { group: u8, share: u8 },
    /// Gives the other group the offsets of this one.
    CopyGroup { from: u8 },
    /// Forgets a group.
    DeleteGroup { group: u8 },
    /// Lets all segments become too old to be kept, and appends.
    Retain { partition: u32 },
    /// Raises the log start, `share` hundredths of the way to the end.
    DeleteRecords { partition: u32, share: u8 },
    /// Makes another topic, or that one again.
    CreateTopic,
    /// Deletes the other topic.
    DeleteTopic,
    /// Gives the first topic one more partition.
    Expand,
    /// Closes the engine and opens it again.
    Reopen,
    /// Lets time pass, so that what waits for it is done.
    Wait { ms: u32 },
    /// Sends nothing until all that is old enough has been sealed or dropped.
    Rest { ms: u32 },
    /// Appends more than the limit of bytes keeps. The crashes are those of the last append, which goes over it:
    /// there are too many states in which large records can be found.
    Overfill { partition: u32 },
    /// Somebody renames the directory; the partition goes on in a new segment and a group commits; and it gets its name
    /// back.
    Move { partition: u32 },
    /// Orders an error of the disk: of the n-th operation of a kind, once or from then on.
    Fail { operation: u8, passing: u8, errno: i32, forever: bool },
    /// Leaves only this much room on the disk.
    Fill { bytes: u32 },
    /// Takes errors and limits back.
    Mend,
}

/// How many kinds of steps the workloads of one, two and three steps are made of.
pub(super) const KINDS: u64 = 22;
pub(super) const PARTITIONS: u32 = 2;
/// How long segments are written, and kept.
pub(super) const SEGMENT_MS: u64 = 10_000;
pub(super) const RETENTION_MS: u64 = 60_000;
/// How much is kept. Two records of an [`Overfill`](Step::Overfill) fill a segment each, and a third, smaller one
/// drops the first of them.
pub(super) const RETENTION_BYTES: u64 = 64 << 10;
pub(super) const OVERFILL_BYTES: [u32; 3] = [58_000, 58_000, 3_500];

const ACKS: [Acks; 3] = [Acks::None, Acks::Written, Acks::Synced];

/// How a cycle's appends differ from each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Mixed,
    /// All of one record and one length: what an earlier life left would fit where a later one writes.
    Alike,
}

impl Style {
    pub(super) fn of_seed(seed: u64) -> Style {
        if seed % 6 == 5 { Style::Alike } else { Style::Mixed }
    }

    /// The step in this style.
    pub(super) fn of(self, step: Step) -> Step {
        match step {
            Step::Append { partition, acks, wait, .. } if self == Style::Alike => {
                Step::Append { partition, records: 1, bytes: 600, acks, wait }
            }
            step => step,
        }
    }
}

/// The steps of a cycle of the explorer.
pub(super) fn workload(seed: u64, random: &mut Random) -> Vec<Step> {
    let number = seed / 3;
    let style = Style::of_seed(seed);
    let steps = match seed % 3 {
        0 => {
            let number = number % (KINDS + KINDS * KINDS);
            match number.checked_sub(KINDS) {
                None => vec![kind(number, random)],
                Some(pair) => vec![kind(pair / KINDS, random), kind(pair % KINDS, random)],
            }
        }
        1 => {
            let kinds = [number % KINDS, number / KINDS % KINDS, number / (KINDS * KINDS) % KINDS];
            kinds.iter().map(|&number| kind(number, random)).collect()
        }
        _ => (0..4 + random.below(12)).map(|_| any(random)).collect(),
    };
    steps.into_iter().map(|step| style.of(step)).collect()
}

/// A step of any kind; appends are the most frequent.
pub(super) fn any(random: &mut Random) -> Step {
    let number = random.below(KINDS as usize + 12) as u64;
    if number < KINDS { kind(number, random) } else { append(random) }
}

fn append(random: &mut Random) -> Step {
    let bytes = match random.below(16) {
        0 => 30_000,
        1 => 5_000,
        2..6 => 600,
        _ => 8 + random.below(90) as u32,
    };
    let acks = ACKS[random.below(3)];
    Step::Append {
        partition: partition(random),
        records: 1 + random.below(4) as u8,
        bytes,
        acks,
        wait: random.below(3) > 0,
    }
}

/// A step of the given kind.
pub(super) fn kind(number: u64, random: &mut Random) -> Step {
    let partition = partition(random);
    let share = [0, 50, 100, 100][random.below(4)];
    let group = random.below(2) as u8;
    // What only a sequence of steps brings about comes early: a short run reaches it.
    const ORDER: [u64; KINDS as usize] = [0, 13, 20, 19, 8, 5, 21, 15, 14, 16, 11, 17, 3, 1, 2, 4, 6, 7, 9, 10, 12, 18];
    match ORDER[number as usize] {
        0 => Step::Append { partition, records: 1, bytes: 10, acks: Acks::Synced, wait: true },
        1 => Step::Append { partition, records: 1, bytes: 700, acks: Acks::Written, wait: true },
        2 => Step::Append { partition, records: 1, bytes: 5_000, acks: Acks::None, wait: false },
        3 => Step::Append { partition, records: 3, bytes: 200, acks: Acks::Synced, wait: true },
        4 => Step::Sync,
        5 => Step::Roll { partition },
        6 => Step::Commit { group, partition, share, acks: Acks::Synced },
        7 => Step::Commit { group, partition, share, acks: Acks::Written },
        8 => Step::Compact { group },
        9 => Step::Retain { partition },
        10 => Step::DeleteRecords { partition, share },
        11 => Step::CreateTopic,
        12 => Step::DeleteTopic,
        13 => Step::Expand,
        14 => Step::Reopen,
        15 => Step::Reset { group, share },
        16 => Step::CopyGroup { from: group },
        17 => Step::DeleteGroup { group },
        19 => Step::Rest { ms: [SEGMENT_MS, RETENTION_MS + 2 * SEGMENT_MS][random.below(2)] as u32 },
        20 => Step::Overfill { partition },
        21 => Step::Move { partition },
        _ => Step::Wait { ms: [20, 600, 2_500][random.below(3)] },
    }
}

fn partition(random: &mut Random) -> u32 {
    random.below(PARTITIONS as usize) as u32
}

/// The steps of a cycle with errors: every error at every call of a short life for even seeds, drawn ones
/// over a long life for odd ones.
pub(super) fn with_faults(seed: u64, random: &mut Random) -> Vec<Step> {
    const ERRNOS: [i32; 4] = [5, 28, 24, 4]; // EIO, ENOSPC, EMFILE, EINTR
    let number = seed / 2;
    if seed.is_multiple_of(2) {
        let operation = (number % 13) as u8;
        let errno = ERRNOS[(number / 13 % 4) as usize];
        let forever = number / 52 % 2 == 1;
        let passing = (number / 104 % 48) as u8;
        let fail = Step::Fail { operation, passing, errno, forever };
        let length = 3 + random.below(6);
        let mut steps: Vec<_> = (0..length).map(|_| any(random)).collect();
        steps.insert(random.below(2), fail);
        steps.extend([Step::Mend, append(random), Step::Sync]);
        return steps;
    }
    let mut steps = Vec::new();
    for _ in 0..5 + random.below(25) {
        steps.push(match random.below(8) {
            0 => Step::Fail {
                operation: random.below(13) as u8,
                passing: random.below(6) as u8,
                errno: ERRNOS[random.below(4)],
                forever: random.below(4) == 0,
            },
            1 if random.below(2) == 0 => Step::Fill { bytes: random.below(100_000) as u32 },
            2 => Step::Mend,
            _ => any(random),
        });
    }
    steps
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Append { partition, records, bytes, acks, wait } => {
                let waits = if wait { "" } else { ", without waiting" };
                write!(f, "append {records} x {bytes} bytes to partition {partition}, acks {acks}{waits}")
            }
            Step::Sync => f.write_str("sync"),
            Step::Move { partition } => {
                write!(
                    f,
                    "append to partition {partition} when its segment is old, and commit, in a directory that was renamed"
                )
            }
            Step::Roll { partition } => write!(f, "append to partition {partition} when its segment is old"),
            Step::Commit { group, partition, share, acks } => {
                write!(f, "commit in group g{group}, partition {partition}, at {share} %, acks {acks}")
            }
            Step::Compact { group } => write!(f, "commit in group g{group} until the offset log is compacted"),
            Step::Reset { group, share } => write!(f, "reset group g{group} to {share} %"),
            Step::CopyGroup { from } => write!(f, "copy group g{from} to g{}", 1 - from),
            Step::DeleteGroup { group } => write!(f, "delete group g{group}"),
            Step::Retain { partition } => write!(f, "append to partition {partition} when all else is too old"),
            Step::DeleteRecords { partition, share } => write!(f, "delete {share} % of partition {partition}"),
            Step::CreateTopic => f.write_str("create topic u"),
            Step::DeleteTopic => f.write_str("delete topic u"),
            Step::Expand => f.write_str("add a partition to topic t"),
            Step::Reopen => f.write_str("close and open"),
            Step::Wait { ms } => write!(f, "wait {ms} ms"),
            Step::Rest { ms } => write!(f, "rest for {ms} ms and some looks"),
            Step::Overfill { partition } => write!(f, "append more to partition {partition} than is kept"),
            Step::Fail { operation, passing, errno, forever } => {
                let error = std::io::Error::from_raw_os_error(errno);
                let how_often = if forever { "and all after it" } else { "once" };
                write!(
                    f,
                    "the disk's {passing}. next {:?} fails {how_often}: {error}",
                    super::life::operation(operation)
                )
            }
            Step::Fill { bytes } => write!(f, "leave {bytes} bytes of room on the disk"),
            Step::Mend => f.write_str("mend the disk"),
        }
    }
}
