//! The file `evidence`: how far each partition was synced, noted when a sync has ended and before it is acknowledged;
//! and where a reader met damage.
//!
//! Batches, headers and marks say too what was durable, but only those that are written after a sync. These notes are
//! the evidence for the last sync of a flow. They are never synced themselves: they survive the death of the process.
//! After a power failure some may be missing or older, and none says too much.
//!
//! A copy of the file counts for nothing, because the checksums cover its inode number. Whoever copies a directory
//! while it is written to may copy a segment first and the notes later: they would speak of records that the copy
//! lacks.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{MAX_OFFSET, Note};
use crate::ids::{EngineId, LogId, TopicId};
use crate::lock::{Mutex, lock};

/// The file's name in the data directory.
pub(crate) const EVIDENCE_NAME: &str = "evidence";

/// How many notes a file holds at most. Reading it takes bounded time, whatever its length.
const NOTES_MAX: u64 = 1 << 20;

/// Which partition a note is about.
type Key = (TopicId, u32);

/// What stands in place of a partition in the note about the offset log: there are never so many.
const OFFSET_LOG: Key = (TopicId(u32::MAX), u32::MAX);

/// What is noted of a partition, and where in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: u64,
    note: Note,
}

/// What was found in the file.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    notes: BTreeMap<Key, Place>,
}

/// What was found of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NotedOf {
    /// Everything below this offset was durable.
    pub(crate) durable_offset: u64,
    /// At this offset a reader met damage, in the segment that holds it.
    pub(crate) damaged_at: Option<u64>,
}

impl Noted {
    /// Reads the file in `dir`; no notes if there is none.
    ///
    /// # Errors
    /// Those of the disk; the file is not a regular one.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path, engine_id: EngineId) -> Result<Noted> {
        let path = dir.join(EVIDENCE_NAME);
        let read = match disk.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Noted::default()),
            opened => opened.and_then(|file| Noted::of_file(&*file, engine_id)),
        };
        read.map_err(|error| Error::io(error).at_path(&path))
    }

    fn of_file(file: &dyn File, engine_id: EngineId) -> io::Result<Noted> {
        const WINDOW_BYTES: usize = 128 << 10;
        let inode = file.identity()?;
        let end = file.length()?.min(file.stored_end(0)?).min(NOTES_MAX * Note::BYTES);
        let mut noted = Noted::default();
        let mut window = vec![0; WINDOW_BYTES.min(end as usize)];
        let mut position = 0;
        while position < end {
            let read = file.read_at(&mut window, position)?;
            for (number, bytes) in (0..).zip(window[..read].chunks_exact(Note::BYTES as usize)) {
                if let Some(note) = Note::decode(bytes, engine_id, inode)
                    && note.durable_offset <= MAX_OFFSET
                {
                    let found = Place { position: position + number * Note::BYTES, note };
                    let kept = noted.notes.entry((note.topic_id, note.partition)).or_insert(found);
                    if note.durable_offset > kept.note.durable_offset {
                        *kept = found;
                    }
                }
            }
            if read < window.len() {
                break;
            }
            position += read as u64;
        }
        Ok(noted)
    }

    /// Entries of the offset log below this were durable; 0 if nothing is noted.
    pub(crate) fn offset_log(&self) -> u64 {
        self.of(OFFSET_LOG.0, OFFSET_LOG.1).durable_offset
    }

    /// What is noted of this partition.
    pub(crate) fn of(&self, topic_id: TopicId, partition: u32) -> NotedOf {
        let note = self.notes.get(&(topic_id, partition)).map(|place| place.note);
        note.map_or(NotedOf::default(), |Note { durable_offset, damaged_at, .. }| NotedOf {
            durable_offset,
            damaged_at,
        })
    }
}

/// The file as an engine writes it.
#[derive(Debug)]
pub(crate) struct Evidence {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    engine_id: EngineId,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// With its inode number. Opened or made at the first note.
    file: Option<(Arc<dyn File>, u64)>,
    places: BTreeMap<Key, Place>,
    /// Places whose partitions are gone.
    free: Vec<u64>,
    end: u64,
}

impl Evidence {
    /// `noted` is what was found in the file. It stays, but for that of topics that are no longer there.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        engine_id: EngineId,
        noted: &Noted,
        is_there: impl Fn(TopicId) -> bool,
    ) -> Evidence {
        let mut inner = Inner::default();
        for (&key, &place) in &noted.notes {
            inner.end = inner.end.max(place.position + Note::BYTES);
            if key == OFFSET_LOG || is_there(key.0) {
                inner.places.insert(key, place);
            } else {
                inner.free.push(place.position);
            }
        }
        Evidence { disk, path: dir.join(EVIDENCE_NAME), engine_id, inner: Mutex::new(inner) }
    }

    /// Notes that everything below `durable_offset` is durable. Without the note the log is as sound, and its last
    /// sync has no evidence: an error is nobody's.
    pub(crate) fn note(&self, log: &LogId, durable_offset: u64) {
        let key = (log.topic_id, log.partition);
        let _ = lock(&self.inner).note(self, key, |note| note.durable_offset = durable_offset);
    }

    /// The same for the entries of the offset log.
    pub(crate) fn note_offset_log(&self, durable_end: u64) {
        let _ = lock(&self.inner).note(self, OFFSET_LOG, |note| note.durable_offset = durable_end);
    }

    /// Notes where a reader met damage, so that the next opening looks there; `None`: it looked, and there is none.
    pub(crate) fn note_damage(&self, log: &LogId, damaged_at: Option<u64>) {
        let key = (log.topic_id, log.partition);
        let _ = lock(&self.inner).note(self, key, |note| note.damaged_at = damaged_at);
    }

    /// The partition is gone: its place is another's.
    pub(crate) fn forget(&self, log: &LogId) {
        let mut inner = lock(&self.inner);
        let place = inner.places.remove(&(log.topic_id, log.partition));
        inner.free.extend(place.map(|place| place.position));
    }

    /// Removes the file: everything that it says stands in the catalogue.
    pub(crate) fn remove(&self) {
        lock(&self.inner).file = None;
        let _ = self.disk.unlink(&self.path);
    }
}

impl Inner {
    fn note(&mut self, evidence: &Evidence, key: Key, change: impl FnOnce(&mut Note)) -> io::Result<()> {
        let (file, inode) = match &self.file {
            Some(open) => open,
            None => {
                let file = match evidence.disk.open(&evidence.path, Access::Write) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => evidence.disk.create(&evidence.path),
                    opened => opened,
                }?;
                let inode = file.identity()?;
                self.file.insert((file, inode))
            }
        };
        if !self.places.contains_key(&key) {
            let position = match self.free.pop() {
                Some(position) => position,
                None if self.end < NOTES_MAX * Note::BYTES => self.end,
                None => return Err(io::ErrorKind::StorageFull.into()),
            };
            self.end = self.end.max(position + Note::BYTES);
            let note = Note { topic_id: key.0, partition: key.1, durable_offset: 0, damaged_at: None };
            self.places.insert(key, Place { position, note });
        }
        let Some(place) = self.places.get_mut(&key) else { return Ok(()) };
        change(&mut place.note);
        file.write_at(&[IoSlice::new(&place.note.encode(evidence.engine_id, *inode))], place.position)
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    //! Places in the file: whose they are, and when they become another's.

    use super::*;
    use crate::sim::{CrashPolicy, SimDisk};

    const ENGINE: EngineId = EngineId([1; 16]);

    fn log(topic: u32, partition: u32) -> LogId {
        LogId { engine_id: ENGINE, topic_id: TopicId(topic), partition }
    }

    fn read(disk: &SimDisk) -> Noted {
        Noted::read(disk, Path::new(""), ENGINE).unwrap()
    }

    fn opened(disk: &SimDisk, is_there: impl Fn(TopicId) -> bool) -> Evidence {
        Evidence::new(Arc::new(disk.clone()), Path::new(""), ENGINE, &read(disk), is_there)
    }

    #[test]
    fn each_partition_keeps_its_place_until_it_is_gone() {
        let disk = SimDisk::new();
        let evidence = opened(&disk, |_| true);
        for partition in 0..3 {
            evidence.note(&log(1, partition), 10 + u64::from(partition));
        }
        evidence.note(&log(1, 1), 20);
        assert_eq!(disk.read_file(EVIDENCE_NAME).unwrap().len(), 96);
        evidence.forget(&log(1, 0));
        evidence.note(&log(2, 0), 5);
        let disk = disk.crash(CrashPolicy::Kill);
        let found = |disk: &SimDisk, topic, partition| read(disk).of(TopicId(topic), partition).durable_offset;
        assert_eq!([found(&disk, 1, 0), found(&disk, 1, 1), found(&disk, 1, 2), found(&disk, 2, 0)], [0, 20, 12, 5]);
        // The next life goes on in the same places; those of a topic that is gone are another's.
        let evidence = opened(&disk, |topic| topic == TopicId(2));
        evidence.note(&log(2, 0), 6);
        evidence.note(&log(3, 7), 1);
        evidence.note(&log(3, 8), 2);
        assert_eq!(disk.read_file(EVIDENCE_NAME).unwrap().len(), 96);
        assert_eq!([found(&disk, 1, 1), found(&disk, 2, 0), found(&disk, 3, 7), found(&disk, 3, 8)], [0, 6, 1, 2]);
        evidence.note(&log(3, 9), 3);
        assert_eq!(disk.read_file(EVIDENCE_NAME).unwrap().len(), 128);
    }

    #[test]
    fn a_file_of_any_length_is_read_in_bounded_memory() {
        let disk = SimDisk::new();
        opened(&disk, |_| true).note(&log(1, 0), 9);
        disk.open(Path::new(EVIDENCE_NAME), Access::Write).unwrap().allocate(0..1 << 35).unwrap();
        assert_eq!(read(&disk).of(TopicId(1), 0).durable_offset, 9);
        assert_eq!(Noted::read(&disk, Path::new(""), EngineId([2; 16])).unwrap().of(TopicId(1), 0), NotedOf::default());
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_the_lack_of_evidence() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new(EVIDENCE_NAME)).unwrap();
        let error = Noted::read(&disk, Path::new(""), ENGINE).unwrap_err();
        assert_eq!(error.path(), Some(Path::new(EVIDENCE_NAME)));
    }
}
