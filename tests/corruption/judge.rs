//! The verdict on one damaged directory: detected, or harmless, or this test fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thalweg::inspect::{Verification, verify_sim};
use thalweg::sim::{CrashPolicy, SimDisk};
use thalweg::{Acks, Error, ErrorKind, Record};

use crate::evidence::Evidence;
use crate::sample::{Commit, DATA, Place, Sample};
use crate::view::{View, look, open};

/// What a fault did, as far as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Everything is as it was, and nobody complains.
    Harmless,
    /// Everything is as it was; `verify` names what was done.
    Named,
    /// What no evidence covers was cut, and that is said.
    Torn,
    /// An error or an event says so.
    Detected,
}

/// How much is asked of a damaged directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// An engine that only reads.
    Read,
    /// `verify`, too.
    Verify,
    /// An engine that writes, too.
    Write,
}

/// Damages copies of a sample and judges them.
pub(crate) struct Judge {
    pub(crate) sample: Sample,
    evidence: Evidence,
    /// What was found, how often.
    counts: BTreeMap<Verdict, u64>,
}

impl Judge {
    pub(crate) fn new(sample: Sample) -> Judge {
        let evidence = Evidence::of(&sample);
        let mut judge = Judge { sample, evidence, counts: BTreeMap::new() };
        let disk = judge.sample.disk.crash(CrashPolicy::Kill);
        assert_eq!(judge.judge(&disk, "nothing was done", Depth::Write), Verdict::Harmless);
        judge.counts.clear();
        judge
    }

    /// How often each verdict came.
    pub(crate) fn report(&self, what: &str) {
        println!("{what}: {} cases, {:?}", self.counts.values().sum::<u64>(), self.counts);
    }

    /// A file with other bytes.
    pub(crate) fn patched(&mut self, path: &Path, bytes: &[u8], what: &str, depth: Depth) -> Verdict {
        let disk = self.sample.disk.clone();
        let before = self.sample.read(path);
        disk.write_file(path, bytes).unwrap();
        let verdict = self.judge(&disk, &format!("{}: {what}", path.display()), depth);
        disk.write_file(path, before).unwrap();
        verdict
    }

    /// Judges a disk.
    pub(crate) fn judge(&mut self, disk: &SimDisk, what: &str, depth: Depth) -> Verdict {
        let case = Case { sample: &self.sample, evidence: &self.evidence, disk, what };
        let verdict = case.judge(depth);
        *self.counts.entry(verdict).or_default() += 1;
        verdict
    }
}

struct Case<'a> {
    sample: &'a Sample,
    evidence: &'a Evidence,
    disk: &'a SimDisk,
    what: &'a str,
}

impl Case<'_> {
    fn judge(&self, depth: Depth) -> Verdict {
        let mut verdict = self.read_only();
        if depth == Depth::Read {
            return verdict;
        }
        let before = self.disk.content_hash();
        let found = verify_sim(self.disk, DATA, &mut |_| {});
        assert_eq!(self.disk.content_hash(), before, "{}: looking changes something", self.what);
        let mut sound_afterwards = false;
        if depth == Depth::Write {
            let (found, after) = self.writable();
            verdict = verdict.max(found);
            sound_afterwards = after;
        }
        match &found {
            Err(error) => self.is_refusal(error),
            Ok(found) => {
                self.agrees(found, verdict);
                // An index is rebuilt when it is used.
                let is_index = |path: &Path| path.extension().is_some_and(|extension| extension == "index");
                let damage: Vec<_> = found.damage.iter().filter(|damage| !is_index(&damage.path)).collect();
                let cleared = verdict == Verdict::Harmless && sound_afterwards && !damage.is_empty();
                assert!(!cleared, "{}: opening clears without a word what verify calls damage: {damage:#?}", self.what);
            }
        }
        let named = found.is_ok_and(|found| found.is_sound() && found.unfinished.is_empty());
        if verdict == Verdict::Harmless && !named && !self.sample.crashed { Verdict::Named } else { verdict }
    }

    /// `verify` is never content with what an engine complains of.
    fn agrees(&self, found: &Verification, verdict: Verdict) {
        let what = self.what;
        match verdict {
            Verdict::Detected => assert!(!found.is_sound(), "{what}: verify doesn't see what opening does: {found:#?}"),
            Verdict::Torn => {
                let named = !found.is_sound() || !found.unfinished.is_empty();
                assert!(named || self.nothing_is_left(), "{what}: verify says nothing of what is cut");
            }
            Verdict::Harmless | Verdict::Named => {}
        }
    }

    /// An error that a damaged directory may be refused with: it says what and where.
    #[track_caller]
    fn is_refusal(&self, error: &Error) {
        let kind = matches!(
            error.kind(),
            ErrorKind::Corrupt { .. }
                | ErrorKind::Foreign { .. }
                | ErrorKind::NewerFormat { .. }
                | ErrorKind::NotThalweg { .. }
        );
        assert!(kind, "{}: {error:?}", self.what);
        // Where files are missing, the partition is named.
        let named = error.path().is_some_and(|path| path.starts_with(DATA)) || error.partition().is_some();
        assert!(named, "{}: it names no file: {error:?}", self.what);
    }

    fn read_only(&self) -> Verdict {
        let (engine, told) = open(self.sample, self.disk, false);
        let view = match engine.and_then(|engine| look(&engine, &told)) {
            Err(error) => {
                self.is_refusal(&error);
                return Verdict::Detected;
            }
            Ok(view) => view,
        };
        self.compare(&view, false)
    }

    /// The verdict of an engine that writes, and whether `verify` finds nothing wrong when it is closed.
    fn writable(&self) -> (Verdict, bool) {
        let what = self.what;
        let disk = self.disk.crash(CrashPolicy::Kill);
        let (engine, told) = open(self.sample, &disk, true);
        let engine = match engine {
            Err(error) => {
                self.is_refusal(&error);
                self.nothing_is_gone(&disk);
                return (Verdict::Detected, false);
            }
            Ok(engine) => engine,
        };
        let view = look(&engine, &told).unwrap_or_else(|error| panic!("{what}: {error}"));
        let verdict = self.compare(&view, true);
        // A sound partition goes on where it ended, a damaged one takes nothing.
        for (place, read) in &view.partitions {
            let partition = engine.partition(&place.0, place.1).unwrap();
            let appended = partition.append(&Record::new("goes on").acks(Acks::Synced)).and_then(|at| at.wait());
            match (appended, view.damage.get(place)) {
                (Err(error), Some(_)) => self.is_refusal(&error),
                (Ok(at), None) => assert_eq!(at.offset, read.offsets.end, "{what}: {place:?}"),
                (appended, damage) => panic!("{what}: {place:?}: {appended:?} and {damage:?}"),
            }
        }
        match engine.close() {
            Ok(()) => assert!(view.damage.is_empty(), "{what}: closing says nothing of {:?}", view.damage),
            Err(error) => self.is_refusal(&error),
        }
        self.nothing_is_gone(&disk);
        (verdict, verify_sim(&disk, DATA, &mut |_| {}).is_ok_and(|found| found.is_sound()))
    }

    /// Damaged or not, no bytes of a segment, the catalogue or the offset log are thrown away.
    fn nothing_is_gone(&self, after: &SimDisk) {
        let now: Vec<Vec<u8>> = after.list_files().iter().map(|path| after.read_file(path).unwrap()).collect();
        for path in self.disk.list_files() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_spare = name == "LOCK" || name == "evidence" || name.contains(".index") || name.ends_with(".tmp");
            let bytes = self.disk.read_file(&path).unwrap();
            let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
            // A torn tail of a keyed log is erased, once it is certain that it is one.
            let whole = written.min(4096);
            if is_spare || whole == 0 || self.is_dropped(&path) {
                continue;
            }
            let keeps = |file: &Vec<u8>| file.len() >= whole && file[..whole] == bytes[..whole];
            assert!(now.iter().any(keeps), "{}: {} is gone", self.what, path.display());
        }
    }

    /// Whether the log start, or a newer file of the same log, makes a file one that opening removes.
    fn is_dropped(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let number = |prefix: &str| name.strip_prefix(prefix).and_then(|number| number.parse::<u64>().ok());
        ["catalog-", "offsets-"].into_iter().any(|prefix| {
            number(prefix).is_some_and(|number| {
                let newer = |path: &PathBuf| {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    name.strip_prefix(prefix).and_then(|other| other.parse::<u64>().ok()).is_some_and(|at| at > number)
                };
                self.disk.list_files().iter().any(newer)
            })
        })
    }

    /// Whether what nothing proves was taken away to its last byte.
    fn nothing_is_left(&self) -> bool {
        self.sample.crashed && self.evidence.ends_with_a_batch(self.disk, &self.sample.pristine)
    }

    /// Below which offset a partition is known to have been durable: what its files say, or, if the directory
    /// was closed and its catalogue is whole, everything.
    fn proven(&self, place: &Place, evidence: u64) -> u64 {
        let catalog = Path::new(DATA).join("catalog-1");
        let is_whole = self.disk.read_file(&catalog).is_ok_and(|bytes| bytes == self.sample.read(&catalog));
        if is_whole && !self.sample.crashed { self.sample.sent[place].len() as u64 } else { evidence }
    }

    /// What an engine says, against what is true.
    fn compare(&self, view: &View, writable: bool) -> Verdict {
        let what = self.what;
        let left = self.evidence.left(self.disk);
        let mut verdict = Verdict::Harmless;
        if view.topics != self.sample.topics {
            // A catalogue that ends too early: the partitions that are of later epochs tell.
            let is_told = view.damage.values().any(|error| error.to_string().contains("missing from the catalogue"));
            assert!(is_told, "{what}: other topics than there were: {:#?}", view.topics);
            verdict = Verdict::Detected;
        }
        for (place, sent) in &self.sample.sent {
            let Some(read) = view.partitions.get(place) else {
                assert!(verdict == Verdict::Detected, "{what}: {place:?} is missing");
                continue;
            };
            for (offset, record) in &read.records {
                assert_eq!(Some(record), sent.get(*offset as usize), "{what}: {place:?}, offset {offset}");
            }
            let start = self.sample.log_starts.get(place).copied().unwrap_or(0);
            let damage = view.damage.get(place);
            let complains = damage.is_some() || !read.errors.is_empty();
            for error in read.errors.iter().chain(damage) {
                if !matches!(error.kind(), ErrorKind::OffsetOutOfRange { .. }) {
                    self.is_refusal(error);
                }
            }
            assert_eq!(view.told.corrupt.contains_key(place), damage.is_some(), "{what}: {place:?}");
            if complains {
                verdict = Verdict::Detected;
                continue;
            }
            assert_eq!(read.offsets.start, start, "{what}: {place:?} starts elsewhere");
            assert!(read.records.keys().copied().eq(read.offsets.clone()), "{what}: {place:?} has holes");
            if read.offsets.end < sent.len() as u64 {
                let proven = self.proven(place, left.get(place).copied().unwrap_or(0));
                let end = read.offsets.end;
                assert!(end >= proven, "{what}: {place:?} ends at {end}, though {proven} were durable");
                let dir = Path::new(DATA).join("topics").join(&place.0).join(place.1.to_string());
                let is_told = view.told.cuts.iter().any(|(path, _, bytes)| path.starts_with(&dir) && *bytes > 0);
                let is_told = is_told || !writable || self.nothing_is_left();
                assert!(is_told, "{what}: {place:?} is shorter, {end} of {}, without a word", sent.len());
                verdict = verdict.max(Verdict::Torn);
            }
        }
        let extra = view.partitions.keys().find(|place| !self.sample.sent.contains_key(*place));
        assert!(extra.is_none() || verdict == Verdict::Detected, "{what}: {extra:?} is not there any more");
        verdict.max(self.compare_groups(view, writable))
    }

    /// Each group's commits: the newest, or doubted; and never one that was not committed.
    fn compare_groups(&self, view: &View, writable: bool) -> Verdict {
        let what = self.what;
        let offset_log = view.told.offset_log.as_ref();
        if let Some((error, ..)) = offset_log {
            self.is_refusal(error);
        }
        let is_offsets = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("offsets-");
        let is_cut = view.told.cuts.iter().any(|(path, ..)| is_offsets(path));
        let torn = self.sample.crashed && (!writable || is_cut || self.nothing_is_left());
        let mut verdict = if offset_log.is_some() { Verdict::Detected } else { Verdict::Harmless };
        let names: Vec<&String> = view.groups.keys().chain(self.sample.commits.keys()).collect();
        for name in names {
            let in_doubt = offset_log.is_some_and(|(_, groups, names_lost)| groups.contains(name) || *names_lost);
            let newest = self.sample.newest(name);
            let ever = self.sample.commits.get(name);
            let ever = ever.unwrap_or_else(|| panic!("{what}: group {name} never was"));
            let said = view.groups.get(name).cloned().unwrap_or_default();
            let mut places: Vec<&Place> = newest.keys().chain(said.keys()).collect();
            places.dedup();
            for place in places {
                let (commit, doubted): (Option<Commit>, bool) = said.get(place).cloned().unwrap_or_default();
                if let Some(commit) = &commit {
                    let known = ever.get(place).is_some_and(|commits| commits.contains(commit));
                    assert!(known, "{what}: {name} never committed {commit:?} in {place:?}");
                }
                // Of a topic that the catalogue lost nothing can be said.
                if commit.as_ref() != newest.get(place) && view.partitions.contains_key(place) {
                    let newest = newest.get(place);
                    assert!(
                        doubted || in_doubt || torn,
                        "{what}: {name} is at {commit:?} in {place:?}, was at {newest:?}, and nothing doubts it"
                    );
                    verdict = verdict.max(if torn { Verdict::Torn } else { Verdict::Detected });
                }
            }
        }
        verdict
    }
}
