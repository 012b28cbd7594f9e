//! Checks a whole data directory: the catalogue, every partition it names, what else lies about.
//!
//! The verdict on ends and evidence is recovery's own, so checking and opening never disagree;
//! besides, every byte is read. Beside a live writer bytes are read at different moments: damage is
//! believed only when the same is found twice in a row, with the catalogue read afresh in between.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keyed_file::{self, KeyedFile};
use super::meter::Meter;
use super::partition::{self, PartitionFiles};
use super::report::{Damage, Progress, Verification, prevents};
use crate::aside::is_aside_dir;
use crate::config::TopicConfig;
use crate::disk::{Access, Disk, Entry, EntryKind};
use crate::engine::{LOCK_NAME, TOPICS_NAME, holder_in, lost_entries, strangers_in};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileKind;
use crate::ids::{EngineId, LogId, TopicId};
use crate::keyed::number_of;
use crate::partition::{EVIDENCE_NAME, Noted, NotedOf};
use crate::topic::{Catalog, CatalogState, DELETED_PREFIX, Topic, partition_dir, topics_dir};

/// How often something is looked at again, at most, that doesn't fit beside a live writer.
const LOOKS: usize = 1_000;

/// Checks, without saying what repair would do; `alone` if the caller has the lock.
pub(super) fn verify_disk(
    disk: Arc<dyn Disk>,
    dir: &Path,
    alone: bool,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Verification> {
    let root = list_root(&*disk, dir)?;
    let live_writer = if alone { None } else { holder(&*disk, dir) };
    let meter = Meter::new(&*disk, dir, progress);
    let found = Verification { live_writer, ..Verification::default() };
    Check { disk, dir, alone, meter, found }.run(&root)
}

struct Check<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    /// The caller has the lock: nobody else writes.
    alone: bool,
    meter: Meter<'a>,
    found: Verification,
}

impl Check<'_> {
    fn run(mut self, root: &[Entry]) -> Result<Verification> {
        self.lock_file(root);
        let (state, engine_id) = match self.catalog(root)? {
            Some((state, engine_id)) => (Some(state), Some(engine_id)),
            None => (None, None),
        };
        self.offset_log(root, engine_id, state.as_ref())?;
        self.foreign(root);
        match state {
            Some(state) => self.topics(state)?,
            None => self.topics_without_catalog()?,
        }
        Ok(self.found)
    }

    /// What stands under the name of the lock; without one, opening makes it.
    fn lock_file(&mut self, root: &[Entry]) {
        if root.iter().any(|entry| entry.name == LOCK_NAME && entry.kind != EntryKind::File) {
            let reason = "it is not a regular file, and keeps the directory from being opened; move it away";
            self.found.damage.push(Damage::of_path(&self.dir.join(LOCK_NAME), reason.to_owned()));
        }
    }

    /// The catalogue; `None` if it is damaged or missing, which is noted.
    fn catalog(&mut self, root: &[Entry]) -> Result<Option<(CatalogState, EngineId)>> {
        if !root.iter().any(|entry| number_of(&entry.name, "catalog").is_some()) {
            let reason = "the catalogue is missing, though there are topics".to_owned();
            self.found.damage.push(Damage::of_path(self.dir, reason));
            return Ok(None);
        }
        let opened = self.open_catalog()?;
        let closed_at = keyed_file::closed_at(&*self.disk, &self.dir.join(LOCK_NAME));
        let live = self.found.live_writer.is_some();
        let file = match &opened {
            Ok(catalog) => {
                let (kind, end) = (FileKind::Catalog, Some(catalog.end_position()));
                KeyedFile { path: catalog.path(), kind, end, closed_at: closed_at.clone().filter(|_| !live), live }
            }
            Err(error) => {
                self.found.damage.push(Damage::of_error(error, self.dir));
                let path = error.path().filter(|&path| path != self.dir);
                let Some(path) = path else { return Ok(None) };
                KeyedFile { path, kind: FileKind::Catalog, end: None, closed_at: None, live }
            }
        };
        if let Ok(catalog) = &opened
            && let Some(closed) = &closed_at
            && !live
            && let Some(reason) = lost_entries::since_closed(closed, catalog)
        {
            let position = Some(catalog.end_position());
            self.found.damage.push(Damage { position, ..Damage::of_path(catalog.path(), reason) });
        }
        keyed_file::check(&*self.disk, &file, &mut self.meter, &mut self.found)?;
        Ok(opened.ok().map(|catalog| (catalog.state().clone(), catalog.engine_id())))
    }

    /// Opens the catalogue as an engine would; beside a live writer again, until it is well or twice
    /// the same is wrong with it.
    fn open_catalog(&self) -> Result<Result<Catalog>> {
        let mut before: Option<Error> = None;
        for _ in 0..LOOKS {
            let error = match Catalog::open(self.disk.clone(), self.dir, Access::Read) {
                Ok(Some((catalog, _))) => return Ok(Ok(catalog)),
                Ok(None) => Error::corrupt("the catalogue is missing").at_path(self.dir),
                Err(error) => error,
            };
            if prevents(&error) {
                return Err(error);
            }
            let place = |error: &Error| (error.path().map(Path::to_owned), error.position());
            let same = before.is_some_and(|before| place(&before) == place(&error));
            if same || !self.is_live() {
                return Ok(Err(error));
            }
            before = Some(error);
        }
        Ok(Err(Error::corrupt("the catalogue changes all the time").at_path(self.dir)))
    }

    /// The offset log, if there is one.
    fn offset_log(
        &mut self,
        root: &[Entry],
        engine_id: Option<EngineId>,
        catalog: Option<&CatalogState>,
    ) -> Result<()> {
        let noted = match engine_id {
            Some(engine_id) => Noted::read(&*self.disk, self.dir, engine_id)?.offset_log(),
            None => 0,
        };
        let proven = catalog.map_or(0, CatalogState::offsets_end).max(noted);
        if !root.iter().any(|entry| number_of(&entry.name, "offsets").is_some()) {
            if proven > 0 {
                let reason = format!("the offset log is missing, though it had {proven} entries");
                self.found.damage.push(Damage::of_path(self.dir, reason));
            }
            return Ok(());
        }
        let live = self.found.live_writer.is_some();
        let (path, end) = match keyed_file::open_offsets(&self.disk, self.dir, engine_id, proven) {
            Ok(Some((path, end, epoch))) => {
                if let Some(known) = catalog.map(CatalogState::epoch) {
                    self.offsets_epoch(&path, epoch, known)?;
                }
                (path, Some(end))
            }
            Ok(None) => return Ok(()),
            Err(error) if prevents(&error) => return Err(error),
            Err(error) => {
                self.found.damage.push(Damage::of_error(&error, self.dir));
                let Some(path) = error.path() else { return Ok(()) };
                (path.to_owned(), None)
            }
        };
        let file = KeyedFile { path: &path, kind: FileKind::Offsets, end, closed_at: None, live };
        keyed_file::check(&*self.disk, &file, &mut self.meter, &mut self.found)
    }

    /// Whether the catalogue gave the epoch; beside a live writer it may have begun since the catalogue was read.
    fn offsets_epoch(&mut self, path: &Path, found: u32, mut known: u32) -> Result<()> {
        if found > known
            && self.is_live()
            && let Ok(catalog) = self.open_catalog()?
        {
            known = catalog.state().epoch();
        }
        if found > known {
            self.found.damage.push(Damage::of_path(path, lost_entries::of_epoch(found, known)));
        }
        Ok(())
    }

    /// Names in the directory that nothing counts of.
    fn foreign(&mut self, root: &[Entry]) {
        let newest = |prefix: &str| root.iter().filter_map(|entry| number_of(&entry.name, prefix)).max();
        let (catalog, offsets) = (newest("catalog"), newest("offsets"));
        for entry in root {
            let known = [LOCK_NAME, TOPICS_NAME, EVIDENCE_NAME].contains(&entry.name.as_str())
                || is_aside_dir(entry)
                || number_of(&entry.name, "catalog").is_some_and(|number| Some(number) == catalog)
                || number_of(&entry.name, "offsets").is_some_and(|number| Some(number) == offsets);
            if !known {
                self.found.ignored.push(self.dir.join(&entry.name));
            }
        }
    }

    fn topics(&mut self, mut state: CatalogState) -> Result<()> {
        let topics: Vec<_> = state.topics().map(|topic| (topic.id, topic.config.partitions)).collect();
        self.found.topics = topics.len() as u64;
        let engine_id = state.engine().map_or(EngineId([0; 16]), |(id, _)| id);
        // Before any segment: beside a live writer these may only be newer.
        let noted = Noted::read(&*self.disk, self.dir, engine_id)?;
        for (id, partitions) in topics {
            for number in 0..partitions {
                self.partition(&mut state, &noted, id, number)?;
            }
        }
        self.unknown_topics(&state)
    }

    /// One partition; beside a live writer again, until it is well or twice the same is wrong with it.
    fn partition(&mut self, state: &mut CatalogState, noted: &Noted, id: TopicId, number: u32) -> Result<()> {
        let places = |found: &partition::Found| -> Vec<_> {
            found.damage.iter().map(|damage| (damage.path.clone(), damage.position)).collect()
        };
        let mut before = None;
        for look in 1..=LOOKS {
            // It may have been deleted meanwhile.
            let Some(topic) = state.topic_by_id(id) else { return Ok(()) };
            let engine_id = state.engine().map_or(EngineId([0; 16]), |(id, _)| id);
            let files = files_of(self.dir, engine_id, topic, number, noted, state.epoch());
            let found = partition::check(&*self.disk, &files, &mut self.meter)?;
            let wrong = places(&found);
            if wrong.is_empty() || before.as_ref() == Some(&wrong) || look == LOOKS || !self.is_live() {
                self.found.partitions += 1;
                found.add_to(&mut self.found);
                return Ok(());
            }
            before = Some(wrong);
            if let Ok(catalog) = self.open_catalog()? {
                *state = catalog.state().clone();
            }
        }
        Ok(())
    }

    /// Directories of topics that the catalogue doesn't know.
    fn unknown_topics(&mut self, state: &CatalogState) -> Result<()> {
        let lost = self.lost_topic(state)?;
        let path = topics_dir(self.dir);
        for entry in list(&*self.disk, &path)? {
            let path = path.join(&entry.name);
            let known = state.topic(&entry.name);
            if let Some(topic) = known {
                self.unknown_partitions(&path, topic)?;
            } else if let Some(id) = entry.name.strip_prefix(DELETED_PREFIX) {
                // The topic's own files are removed at the next opening.
                let deleted = state.deleted().map(|(id, _)| id).find(|deleted| deleted.to_string() == id);
                match (deleted, state.engine()) {
                    (Some(topic_id), Some((engine_id, _))) => {
                        let log = LogId { engine_id, topic_id, partition: 0 };
                        self.found.ignored.extend(strangers_in(&*self.disk, &path, &log));
                    }
                    _ => self.found.ignored.push(path),
                }
            } else if lost.as_ref() != Some(&path) {
                self.found.ignored.push(path);
            }
        }
        Ok(())
    }

    /// The directory of a topic that the catalogue must have known; beside a live writer it may have
    /// been made since the catalogue was read.
    fn lost_topic(&mut self, state: &CatalogState) -> Result<Option<PathBuf>> {
        let mut lost = lost_entries::find(&*self.disk, self.dir, state)?;
        if lost.is_some()
            && self.is_live()
            && let Ok(catalog) = self.open_catalog()?
        {
            lost = lost_entries::find(&*self.disk, self.dir, catalog.state())?;
        }
        if let Some((path, reason)) = &lost {
            self.found.damage.push(Damage::of_path(path, reason.clone()));
        }
        Ok(lost.map(|(path, _)| path))
    }

    fn unknown_partitions(&mut self, path: &Path, topic: &Topic) -> Result<()> {
        for entry in list(&*self.disk, path)? {
            let number = entry.name.parse::<u32>().ok().filter(|number| entry.name == number.to_string());
            if number.is_none_or(|number| number >= topic.config.partitions) {
                self.found.ignored.push(path.join(&entry.name));
            }
        }
        Ok(())
    }

    /// What the files say by themselves, where the catalogue can't be asked.
    fn topics_without_catalog(&mut self) -> Result<()> {
        let path = topics_dir(self.dir);
        for entry in list(&*self.disk, &path)? {
            if entry.kind != EntryKind::Directory || entry.name.starts_with(DELETED_PREFIX) {
                continue;
            }
            self.found.topics += 1;
            for (number, dir) in partition_dirs(&*self.disk, &path.join(&entry.name))? {
                self.found.partitions += 1;
                let Some(log) = lost_entries::log_of(&*self.disk, &dir) else { continue };
                let (topic, config, mark) = (entry.name.as_str(), &TopicConfig::default(), None);
                let noted = NotedOf::default();
                let files = PartitionFiles { dir, log, topic, number, config, mark, noted, epoch: u32::MAX };
                let found = partition::check(&*self.disk, &files, &mut self.meter)?;
                found.add_to(&mut self.found);
            }
        }
        Ok(())
    }

    /// Whether a writer is at work now; once one was, damage is looked at twice.
    fn is_live(&self) -> bool {
        !self.alone && (self.found.live_writer.is_some() || holder(&*self.disk, self.dir).is_some())
    }
}

pub(super) fn files_of<'a>(
    dir: &Path,
    engine_id: EngineId,
    topic: &'a Topic,
    number: u32,
    noted: &Noted,
    epoch: u32,
) -> PartitionFiles<'a> {
    PartitionFiles {
        dir: partition_dir(dir, &topic.name, number),
        log: LogId { engine_id, topic_id: topic.id, partition: number },
        topic: &topic.name,
        number,
        config: &topic.config,
        mark: topic.mark(number).copied(),
        noted: noted.of(topic.id, number),
        epoch,
    }
}

/// What stands in the directory, if it is one of ours.
fn list_root(disk: &dyn Disk, dir: &Path) -> Result<Vec<Entry>> {
    let refused = |reason: &str| Error::new(ErrorKind::NotThalweg { reason: reason.to_owned() }).at_path(dir);
    let root = match disk.list(dir) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(refused("the directory does not exist")),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refused("it is a file, not a directory"));
        }
        Err(error) => return Err(Error::io(error).at_path(dir)),
    };
    let has_catalog = root.iter().any(|entry| number_of(&entry.name, "catalog").is_some());
    let has_topics = || -> Result<bool> {
        let topics = list(disk, &topics_dir(dir))?;
        Ok(topics.iter().any(|entry| !entry.name.starts_with(DELETED_PREFIX)))
    };
    if !has_catalog && !has_topics()? {
        return Err(refused("it has no catalogue"));
    }
    Ok(root)
}

/// The entries of a directory; none if it isn't there or isn't one, or is a link, which is not followed.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Entry>> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    match disk.list(dir) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidInput) => Ok(Vec::new()),
        listed => listed.map_err(|error| Error::io(error).at_path(dir)),
    }
}

/// The directories of a topic that are called like partitions, by rising number.
fn partition_dirs(disk: &dyn Disk, topic: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut dirs: Vec<_> = list(disk, topic)?
        .into_iter()
        .filter_map(|entry| Some((entry.name.parse().ok()?, topic.join(&entry.name))))
        .collect();
    dirs.sort();
    Ok(dirs)
}

pub(super) fn holder(disk: &dyn Disk, dir: &Path) -> Option<String> {
    disk.lock_holder(&dir.join(LOCK_NAME)).ok().flatten().map(|text| holder_in(&text))
}
