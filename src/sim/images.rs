//! All the disks that a crash can leave: at one moment, or at every step of a run.

use std::hash::Hasher;

use super::SimDisk;
use super::crash::Choices;
use super::random::{Random, Trace};
use super::state::State;

/// A moment at which a machine may have crashed: before an operation of the disk.
#[derive(Debug)]
pub struct CrashPoint {
    operation: u64,
    state: State,
}

impl CrashPoint {
    pub(super) fn new(operation: u64, state: State) -> CrashPoint {
        CrashPoint { operation, state }
    }

    /// How many operations had begun before it, as [`SimDisk::count_all`] counts.
    #[must_use]
    pub fn operation(&self) -> u64 {
        self.operation
    }

    /// The disk if only the process died here.
    #[must_use]
    pub fn killed(&self) -> SimDisk {
        SimDisk::holding(self.state.crash(super::CrashPolicy::Kill))
    }

    /// The disks that a power failure here can leave.
    #[must_use]
    pub fn images(&self) -> CrashImages {
        CrashImages::new(self.state.crash(super::CrashPolicy::Kill))
    }

    /// All of [`images`](CrashPoint::images) if there are no more than `limit`. Else so many of them:
    /// all and nothing of what wasn't durable, single pieces lost or kept, beginnings and ends, and
    /// mixtures, as the seed has it. Some may be the same.
    #[must_use]
    pub fn images_at_most(&self, limit: usize, seed: u64) -> Vec<SimDisk> {
        self.state.crash(super::CrashPolicy::Kill).images_at_most(limit, seed)
    }
}

/// Iterator over all the disks that a power failure can leave, each once: every legal subset of what
/// was not durable. The first holds what was durable and nothing else. There may be very many: take
/// as many as you have time for.
#[derive(Debug)]
pub struct CrashImages {
    state: State,
    /// The answers that lead to the next one.
    next: Option<Vec<Answer>>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    chosen: usize,
    options: usize,
}

impl CrashImages {
    pub(super) fn new(state: State) -> CrashImages {
        CrashImages { state, next: Some(Vec::new()) }
    }
}

impl Iterator for CrashImages {
    type Item = SimDisk;

    fn next(&mut self) -> Option<SimDisk> {
        let mut script = Script { answers: self.next.take()?, asked: 0 };
        let found = self.state.after_power_loss(&mut script);
        let mut answers = script.answers;
        answers.truncate(script.asked);
        // The last question that has another answer gets it; those behind it are asked anew.
        while let Some(last) = answers.pop() {
            if last.chosen + 1 < last.options {
                answers.push(Answer { chosen: last.chosen + 1, ..last });
                self.next = Some(answers);
                break;
            }
        }
        Some(SimDisk::holding(found))
    }
}

/// Answers as it was told, then with the first option.
struct Script {
    answers: Vec<Answer>,
    asked: usize,
}

impl Choices for Script {
    fn choose(&mut self, options: usize) -> usize {
        let at = self.asked;
        self.asked += 1;
        match self.answers.get(at) {
            Some(answer) => answer.chosen.min(options.saturating_sub(1)),
            None => {
                self.answers.push(Answer { chosen: 0, options });
                0
            }
        }
    }
}

/// One answer per question, by a rule.
struct Rule<'a> {
    asked: usize,
    answer: &'a dyn Fn(usize) -> Pick,
    /// Options of each question so far.
    options: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pick {
    Durable,
    Newest,
}

impl Choices for Rule<'_> {
    fn choose(&mut self, options: usize) -> usize {
        let at = self.asked;
        self.asked += 1;
        self.options.push(options);
        if (self.answer)(at) == Pick::Newest { options - 1 } else { 0 }
    }
}

impl State {
    fn by_rule(&self, answer: &dyn Fn(usize) -> Pick) -> (State, Vec<usize>) {
        let mut rule = Rule { asked: 0, answer, options: Vec::new() };
        let found = self.after_power_loss(&mut rule);
        (found, rule.options)
    }

    /// See [`CrashPoint::images_at_most`].
    fn images_at_most(self, limit: usize, seed: u64) -> Vec<SimDisk> {
        let (newest, options) = self.by_rule(&|_| Pick::Newest);
        let all = options.iter().try_fold(1_usize, |product, &options| product.checked_mul(options));
        if all.is_some_and(|all| all <= limit) {
            return CrashImages::new(self).take(limit).collect();
        }
        let count = options.len();
        let pick = |newest: bool| if newest { Pick::Newest } else { Pick::Durable };
        let mut found = vec![SimDisk::holding(newest), SimDisk::holding(self.by_rule(&|_| Pick::Durable).0)];
        let mut random = Random::new(seed);
        while found.len() < limit {
            let at = random.below(count.max(1));
            let state = match random.below(6) {
                0 => self.by_rule(&|asked| pick(asked == at)).0,
                1 => self.by_rule(&|asked| pick(asked != at)).0,
                2 => self.by_rule(&|asked| pick(asked < at)).0,
                3 => self.by_rule(&|asked| pick(asked >= at)).0,
                _ => self.crash(super::CrashPolicy::Seeded(random.next())),
            };
            found.push(SimDisk::holding(state));
        }
        found
    }
}

impl SimDisk {
    /// The disks that a power failure now can leave. This one goes on as if nothing had happened.
    ///
    /// ```
    /// use thalweg::sim::SimDisk;
    ///
    /// let disk = SimDisk::new();
    /// disk.write_file("data/a", b"durable").unwrap();
    /// assert_eq!(disk.crash_images().count(), 1);                  // nothing is pending
    /// ```
    #[must_use]
    pub fn crash_images(&self) -> CrashImages {
        CrashImages::new(self.state().crash(super::CrashPolicy::Kill))
    }

    /// This moment as a crash point, for what happens between two operations of the disk.
    #[must_use]
    pub fn crash_point(&self) -> CrashPoint {
        let state = self.state();
        CrashPoint::new(state.count_all(), state.crash(super::CrashPolicy::Kill))
    }

    /// From now on remembers the disk as it is before each operation that may change it; with `false`
    /// no longer. See [`take_crash_points`](SimDisk::take_crash_points).
    pub fn record_crash_points(&self, record: bool) {
        self.state().record_crash_points(record);
    }

    /// What was recorded since this was last called, in order.
    #[must_use]
    pub fn take_crash_points(&self) -> Vec<CrashPoint> {
        self.state().take_crash_points()
    }

    /// A hash over all names, lengths and bytes, to tell disks apart.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let mut hash = Trace::default();
        self.state().hash_into(&mut hash);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::disk::Disk;

    #[test]
    fn every_subset_comes_once_and_nothing_else() {
        let disk = SimDisk::new();
        disk.write_file("a", [0; 2048]).unwrap();
        let file = disk.open(Path::new("a"), crate::disk::Access::Write).unwrap();
        file.write_at(&[IoSlice::new(&[1; 512])], 0).unwrap();
        file.write_at(&[IoSlice::new(&[2; 512])], 0).unwrap();
        file.write_at(&[IoSlice::new(&[3; 512])], 1024).unwrap();
        let found: Vec<Vec<u8>> = disk.crash_images().map(|image| image.read_file("a").unwrap()).collect();
        let firsts: BTreeSet<(u8, u8)> = found.iter().map(|bytes| (bytes[0], bytes[1024])).collect();
        assert_eq!(firsts, [(0, 0), (0, 3), (1, 0), (1, 3), (2, 0), (2, 3)].into());
        assert_eq!(found.len(), firsts.len());
        assert!(found[0].iter().all(|&byte| byte == 0), "the durable one comes first");
        let hashes: BTreeSet<u64> = disk.crash_images().map(|image| image.content_hash()).collect();
        assert_eq!(hashes.len(), 6);
        file.sync().unwrap();
        assert_eq!(disk.crash_images().count(), 1);
    }

    #[test]
    fn of_too_many_the_extremes_come_first_and_all_are_legal() {
        let disk = SimDisk::new();
        disk.write_file("a", [0; 8192]).unwrap();
        let file = disk.open(Path::new("a"), crate::disk::Access::Write).unwrap();
        disk.record_crash_points(true);
        for at in 0..16 {
            file.write_at(&[IoSlice::new(&[1 + at as u8; 512])], at * 512).unwrap();
        }
        file.sync().unwrap();
        let points = disk.take_crash_points();
        assert_eq!(points[4].images_at_most(16, 1).len(), 16, "all of them");
        let found = points[16].images_at_most(500, 1);
        let found: BTreeSet<Vec<u8>> = found.iter().map(|image| image.read_file("a").unwrap()).collect();
        assert!(found.len() > 100, "{}", found.len());
        assert!(found.contains(&vec![0; 8192]));
        for image in &found {
            for (at, sector) in image.chunks(512).enumerate() {
                assert!(sector.iter().all(|&byte| byte == sector[0]) && [0, 1 + at as u8].contains(&sector[0]));
            }
        }
    }

    #[test]
    fn points_are_the_moments_before_each_change() {
        let disk = SimDisk::new();
        disk.record_crash_points(true);
        let file = disk.create(Path::new("a")).unwrap();
        file.write_at(&[IoSlice::new(b"x")], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let points = disk.take_crash_points();
        let files: Vec<usize> = points.iter().map(|point| point.killed().list_files().len()).collect();
        assert_eq!(files, [0, 1, 1, 1], "{points:?}");
        assert!(points.windows(2).all(|pair| pair[0].operation() < pair[1].operation()));
        // Before the directory is synced the name may be lost.
        assert_eq!(points[3].images().count(), 2);
        let now = disk.crash_point();
        assert_eq!((now.operation(), now.images().count()), (disk.count_all(), 1));
        disk.record_crash_points(false);
        file.write_at(&[IoSlice::new(b"y")], 0).unwrap();
        assert!(disk.take_crash_points().is_empty());
    }
}
