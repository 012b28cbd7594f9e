//! Opening a directory: whose is it, the lock, the catalogue, a new epoch, every partition.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::background::{Background, Threads};
use super::calls::Calls;
use super::directory::{
    check_catalog_is_whole, check_directory, check_ends_as_noted, check_file_system, check_offsets_epoch, enter,
    not_thalweg, sync_ancestors, take_lock,
};
use super::groups::Groups;
use super::lock_file::{Left, left, note_failed_sync};
use super::lost_entries;
use super::options::Options;
use super::watching::Watching;
use super::{Core, Engine, PartitionRecovery, Recovery, Topic};
use crate::config::{TopicConfig, Writers};
use crate::disk::{Access, Disk, QueueReport};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::ids::{EngineId, LogId, TopicId};
use crate::keyed::Cut;
use crate::lock::{AtomicBool, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, RwLock, lock};
use crate::offsets::Offsets;
use crate::opener::Opener;
use crate::partition::{
    Chores, Command, Doubt, Drive, Env, Evidence, FollowedFiles, Follower, Inline, Noted, NotedOf, Partition,
    PartitionPlace, PartitionWriter, Pool, Recovered, WriterHandle, WriterLoop, recover,
};
use crate::segment::{Resident, Views};
use crate::teeth::bites;
use crate::topic::{Catalog, StickyPartitioner, partition_dir, topics_dir};

/// Mappings at a time; the kernel's default limit for a process is 65,530.
const MAPPED_SEGMENTS: usize = 16_384;
/// How much of them is kept in this process's memory.
const MAPPED_BYTES: u64 = 1 << 30;

pub(crate) fn open(mut options: Options) -> Result<Engine> {
    let dir = options.dir.clone();
    enter(&mut options)?;
    let is_new = check_directory(&options)?;
    // Before the lock is written over it, and before the catalogue is read: it may only be older.
    let left = left(&*options.disk, &dir);
    let (guard, found) = if options.read_only {
        (None, Catalog::open(options.disk.clone(), &dir, Access::Read)?)
    } else {
        if is_new {
            sync_ancestors(&*options.disk, &dir)?;
        }
        let guard = take_lock(&*options.disk, &dir, "")?;
        check_file_system(&*options.disk, &dir)?;
        let guard = Some(guard).filter(|_| !bites("lock-released-early"));
        (guard, Catalog::open(options.disk.clone(), &dir, Access::Write)?)
    };
    let now_ms = options.clock.wall_ms();
    let (mut catalog, cut) = match found {
        Some((catalog, cut)) => (catalog, cut),
        None if is_new && !options.read_only && options.create => {
            let random = || options.disk.random().map_err(Error::io);
            let id = [random()?.to_le_bytes(), random()?.to_le_bytes()].concat();
            let id = EngineId(std::array::from_fn(|at| id[at]));
            (Catalog::create(options.disk.clone(), &dir, id, now_ms)?, None)
        }
        None => return Err(not_thalweg(&dir, "it has no catalogue")),
    };
    if let Left::Closed(note) = &left {
        check_ends_as_noted(&options, &catalog, note)?;
    }
    check_catalog_is_whole(&options, &mut catalog)?;
    let access = if options.read_only { Access::Read } else { Access::Write };
    // Before any log is read: beside a live writer these may only be newer.
    let noted = match Noted::read(&*options.disk, &dir, catalog.engine_id()) {
        // A reader does without the notes. A writer must be able to add to them.
        Err(_) if options.read_only => Noted::default(),
        noted => noted?,
    };
    let proven = catalog.state().offsets_end().max(noted.offset_log());
    let known_epoch = catalog.state().epoch();
    let (offsets, offsets_cut) =
        Offsets::open(options.disk.clone(), &dir, catalog.engine_id(), known_epoch, access, proven)?;
    let clean = catalog.was_clean();
    let recovery = Recovery { clean, sync_failed: matches!(left, Left::SyncFailed), ..Recovery::none() };
    let mut opening = Opening { recovery, ..Opening::none() };
    let epoch = if options.read_only {
        known_epoch
    } else {
        // An epoch that the catalogue never gave proves that it has lost entries; none is given again.
        check_offsets_epoch(&offsets, known_epoch)?;
        let found = opening.recover_all(&*options.disk, &dir, &catalog, &noted)?;
        catalog.begin_epoch_above(found, now_ms)?
    };
    offsets.set_epoch(epoch);
    for Cut { path, position, bytes } in [cut, offsets_cut].into_iter().flatten() {
        let (topic, partition, end_offset) = (String::new(), 0, 0);
        options.events.emit(Event::TornTailCut { topic, partition, path, position, bytes, end_offset });
    }
    if let Some(QueueReport { driver, reason }) = options.driver.clone() {
        options.events.emit(Event::SyncDriver { driver, reason });
    }
    for error in [catalog.take_not_written(), offsets.take_not_written()].into_iter().flatten() {
        options.events.emit(Event::Background { what: "writing what an earlier engine left", error });
    }
    let core = assemble(options, catalog, offsets, noted, epoch, guard)?;
    let engine = Engine::of(core);
    engine.open_topics(epoch, opening)?;
    engine.open_groups();
    Ok(engine)
}

/// What opening has found so far.
pub(crate) struct Opening {
    recovery: Recovery,
    /// Partitions that are recovered and not yet opened.
    recovered: HashMap<(TopicId, u32), Recovered>,
}

impl Opening {
    /// Of what was just made: nothing was there.
    pub(crate) fn none() -> Opening {
        Opening { recovery: Recovery::none(), recovered: HashMap::new() }
    }

    /// Recovers every partition for writing; returns the newest epoch that one holds.
    ///
    /// # Errors
    /// Those of the disk; `Corrupt` for an epoch that the catalogue never gave: it lacks entries, and opening would
    /// hide that.
    fn recover_all(&mut self, disk: &dyn Disk, dir: &Path, catalog: &Catalog, noted: &Noted) -> Result<u32> {
        let (engine_id, known) = (catalog.engine_id(), catalog.state().epoch());
        let mut newest = known;
        for topic in catalog.state().topics() {
            for number in 0..topic.config.partitions {
                let log = LogId { engine_id, topic_id: topic.id, partition: number };
                let (dir, mark) = (partition_dir(dir, &topic.name, number), topic.mark(number));
                let doubt = self.recovery.doubt();
                let noted = noted.of(topic.id, number);
                let recovered = recover_for_writing(disk, &dir, &log, &topic.config, mark, noted, doubt)?;
                let found = recovered.epoch();
                if found > known && !bites("epochs-of-partitions-not-compared") {
                    return Err(Error::corrupt(lost_entries::of_epoch(found, known)).at_path(&dir));
                }
                newest = newest.max(found);
                self.recovered.insert((topic.id, number), recovered);
            }
        }
        Ok(newest)
    }
}

/// Recovers a partition. What can't be opened at all is damage; others go on.
fn recover_for_writing(
    disk: &dyn Disk,
    dir: &Path,
    log: &LogId,
    config: &TopicConfig,
    mark: Option<&crate::format::Mark>,
    noted: NotedOf,
    doubt: Doubt,
) -> Result<Recovered> {
    if let Err(error) = disk.create_dir_all(dir) {
        let error = Error::io(error).at_path(dir);
        return if error.kind() == &ErrorKind::NoRoom { Err(error) } else { Ok(Recovered::unusable(error)) };
    }
    match recover(disk, dir, log, config, mark, noted, doubt) {
        Err(error) if error.kind() != &ErrorKind::NoRoom => Ok(Recovered::unusable(error)),
        recovered => recovered,
    }
}

/// Puts the engine together: environment, writers, background threads.
fn assemble(
    options: Options,
    catalog: Catalog,
    offsets: Offsets,
    noted: Noted,
    epoch: u32,
    guard: Option<Box<dyn Send + Sync>>,
) -> Result<Arc<Core>> {
    let Options { dir, config, clock, events, seed, read_only, disk, descriptors, .. } = options;
    let is_there = |id| catalog.state().topic_by_id(id).is_some();
    let evidence = Arc::new(Evidence::new(disk.clone(), &dir, catalog.engine_id(), &noted, is_there));
    offsets.note_syncs(evidence.clone());
    let catalog = Arc::new(Mutex::new(catalog));
    let mut loops = Vec::new();
    let mut drive = Drive::Threads;
    let mut handles = Vec::new();
    if !read_only {
        let count = match config.writers {
            Writers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Writers::Threads(count) => count,
            Writers::Inline => 1,
        };
        // Half of the descriptors: a partition has two open for a moment, its segment and its directory.
        let open_files = descriptors / 4 / count.max(1);
        loops = (0..count).map(|_| WriterLoop::new(disk.queue(), clock.clone()).with_open_files(open_files)).collect();
        handles = loops.iter().map(WriterLoop::handle).collect();
        if config.writers == Writers::Inline
            && let Some(only) = loops.pop()
        {
            drive = Drive::Inline(Box::new(Inline::new(only)));
        }
    }
    let epochs = (catalog.clone(), clock.clone());
    let failures = (disk.clone(), dir.clone());
    let env = Arc::new(Env {
        pool: Pool::new(config.buffer_bytes, config.write_bytes),
        // A mapping holds the descriptor of its file.
        views: Views::new(MAPPED_SEGMENTS.min(descriptors / 4), Arc::new(Resident::new(MAPPED_BYTES, clock.clone()))),
        followed_files: FollowedFiles::new(descriptors / 4),
        chores: Chores::default(),
        drive,
        evidence,
        next_epoch: Box::new(move || lock(&epochs.0).begin_epoch(epochs.1.wall_ms())),
        // Without the note the next one believes memory, until its own first sync tells.
        sync_failed: Box::new(move || drop(note_failed_sync(&*failures.0, &failures.1))),
        look: OnceLock::new(),
        disk,
        clock,
        events,
        config,
        opener: Opener::this(),
    });
    let groups = Arc::new(Groups::new(env.clone(), offsets, epoch, env.config.offsets_retention_ms));
    let background = Arc::new(Background::new(env.clone(), catalog.clone(), groups.clone()));
    let threads = if loops.is_empty() { None } else { Some(Threads::start(&env, loops, &background)?) };
    if let Drive::Inline(inline) = &env.drive {
        // Weak: the background holds the environment, which holds the drive.
        let background = Arc::downgrade(&background);
        inline.set_background(Box::new(move |worked| {
            if let Some(background) = background.upgrade() {
                background.round(worked);
            }
        }));
    }
    let calls = Calls::new(matches!(env.drive, Drive::Inline(_)));
    let watching = Watching::new(&*env.disk, read_only);
    let core = Arc::new(Core {
        dir,
        env,
        catalog,
        background,
        groups,
        topics: RwLock::default(),
        admin: Mutex::new(()),
        handles,
        next_writer: AtomicUsize::new(0),
        threads: Mutex::new(threads),
        calls: Arc::new(calls),
        guard: Mutex::new(guard),
        read_only,
        closed: AtomicBool::new(false),
        catalog_moved: AtomicBool::new(false),
        next_look: AtomicU64::new(0),
        noted,
        watching,
        seed,
        recovery: OnceLock::new(),
    });
    if read_only {
        // Weak: the core holds the environment.
        let follower = Arc::downgrade(&core);
        let look = move |now| follower.upgrade().map_or(Ok(()), |core| core.look(now));
        let _ = core.env.look.set(Box::new(look));
    }
    Ok(core)
}

impl Engine {
    /// Recovers every topic of the catalogue and clears away what deletions left.
    fn open_topics(&self, epoch: u32, mut opening: Opening) -> Result<()> {
        let core = &self.core;
        let disk = &*core.env.disk;
        let topics_path = topics_dir(&core.dir);
        if !core.read_only {
            disk.create_dir_all(&topics_path).map_err(|error| Error::io(error).at_path(&topics_path))?;
        }
        let listed: Vec<_> = lock(&core.catalog).state().topics().cloned().collect();
        for topic in &listed {
            let marks = |partition| topic.mark(partition).copied();
            let opened = core.open_topic(&TopicSpec::of(topic), epoch, &marks, &mut opening)?;
            // At once: should a later one fail, closing ends those that have a writer.
            crate::lock::write(&core.topics).insert(topic.name.clone(), opened);
        }
        if !core.read_only {
            core.background.look_soon();
            core.clear_away(&listed, &mut opening.recovery)?;
        }
        let _ = core.recovery.set(opening.recovery);
        Ok(())
    }

    /// Brings the groups' commits in line with the topics there are. Nobody is a member of any yet.
    fn open_groups(&self) {
        let core = &self.core;
        let events = &core.env.events;
        if let Some(damage) = core.groups.offsets.damage() {
            let (groups, names_lost) = (damage.groups, damage.names_lost);
            events.emit(Event::OffsetLogCorrupt { error: damage.error, groups, names_lost });
        }
        core.tell_groups();
        if core.read_only {
            return;
        }
        let live: Vec<TopicId> = crate::lock::read(&core.topics).values().map(|topic| topic.id).collect();
        for (group, topic_id) in core.groups.offsets.keep_topics(|id| live.contains(&id)) {
            events.emit(Event::OffsetsForgotten { group, topic_id });
        }
        core.groups.note_all_empty();
    }
}

/// What the catalogue says of a topic.
pub(crate) struct TopicSpec<'a> {
    pub(crate) id: TopicId,
    pub(crate) name: &'a str,
    pub(crate) config: &'a TopicConfig,
    pub(crate) created_ms: i64,
    pub(crate) expansions: Vec<Vec<u64>>,
}

impl TopicSpec<'_> {
    pub(crate) fn of(topic: &crate::topic::Topic) -> TopicSpec<'_> {
        TopicSpec {
            id: topic.id,
            name: &topic.name,
            config: &topic.config,
            created_ms: topic.created_ms,
            expansions: topic.expansions.iter().map(|expansion| expansion.end_offsets.clone()).collect(),
        }
    }
}

/// What the catalogue says of a partition, if anything.
pub(crate) type Marks<'a> = dyn Fn(u32) -> Option<crate::format::Mark> + 'a;

impl Core {
    /// Opens a topic, each of its partitions as recovery finds it.
    pub(crate) fn open_topic(
        &self,
        spec: &TopicSpec<'_>,
        epoch: u32,
        marks: &Marks<'_>,
        opening: &mut Opening,
    ) -> Result<Arc<Topic>> {
        let name: Arc<str> = spec.name.into();
        let config = Arc::new(spec.config.clone());
        let partitions = self.open_partitions(0..config.partitions, |number| {
            self.open_partition(spec.id, number, &name, &config, epoch, marks(number), opening)
        })?;
        Ok(self.topic_of(spec, name, config, partitions))
    }

    /// Opens all of these partitions; if one can't be, the writers of those before it end.
    pub(crate) fn open_partitions(
        &self,
        numbers: Range<u32>,
        mut open: impl FnMut(u32) -> Result<Arc<Partition>>,
    ) -> Result<Vec<Arc<Partition>>> {
        let mut opened = Vec::with_capacity(numbers.len());
        for number in numbers {
            match open(number) {
                Ok(partition) => opened.push(partition),
                Err(error) => {
                    self.end_partitions(&opened, false, &error);
                    return Err(error);
                }
            }
        }
        Ok(opened)
    }

    /// Puts a topic together.
    pub(crate) fn topic_of(
        &self,
        spec: &TopicSpec<'_>,
        name: Arc<str>,
        config: Arc<TopicConfig>,
        partitions: Vec<Arc<Partition>>,
    ) -> Arc<Topic> {
        let sticky = StickyPartitioner::new(config.batch_bytes, self.seed ^ u64::from(spec.id.0));
        let (id, created_ms, expansions) = (spec.id, spec.created_ms, spec.expansions.clone());
        Arc::new(Topic { id, name, config, created_ms, partitions, expansions, sticky, next: OnceLock::new() })
    }

    /// Opens one partition, as recovery finds it.
    #[expect(clippy::too_many_arguments, reason = "what the catalogue says of one partition")]
    pub(crate) fn open_partition(
        &self,
        topic_id: TopicId,
        number: u32,
        name: &Arc<str>,
        config: &Arc<TopicConfig>,
        epoch: u32,
        mark: Option<crate::format::Mark>,
        opening: &mut Opening,
    ) -> Result<Arc<Partition>> {
        let dir = partition_dir(&self.dir, name, number);
        let engine_id = lock(&self.catalog).engine_id();
        let log = LogId { engine_id, topic_id, partition: number };
        let mut recovered = match opening.recovered.remove(&(topic_id, number)) {
            Some(recovered) => recovered,
            None if self.read_only => self.recover_for_reading(&dir, &log, config, mark.as_ref())?,
            None => {
                let doubt = opening.recovery.doubt();
                let noted = self.noted.of(topic_id, number);
                recover_for_writing(&*self.env.disk, &dir, &log, config, mark.as_ref(), noted, doubt)?
            }
        };
        // What was read of the catalogue last must know the newest.
        if self.read_only {
            recovered.check_epoch(self.known_epoch().saturating_add(1));
        }
        if !self.read_only && recovered.damage.is_none() {
            match recovered.apply(&*self.env.disk, &dir) {
                Ok(moved) => moved.into_iter().for_each(|path| {
                    let reason = "it lies beyond the end that recovery found".to_owned();
                    self.env.events.emit(Event::SetAside { path, reason });
                }),
                Err(error) if error.kind() == &ErrorKind::NoRoom => return Err(error),
                // Nothing may be appended before it is done; others go on.
                Err(error) => recovered.damage = Some(error),
            }
        }
        recovered.damage = recovered.damage.map(|error| error.at_partition(name, number));
        self.report(name, number, &recovered, &mut opening.recovery);
        let place = PartitionPlace { topic: name.clone(), log, config: config.clone(), dir: dir.clone() };
        let partition = Arc::new(Partition::new(self.env.clone(), place, &recovered, mark));
        if self.read_only {
            partition.stop_intake(Error::new(ErrorKind::ReadOnly).at_path(&self.dir));
            partition.follow(Follower::new(&recovered, mark));
        } else if recovered.damage.is_none() {
            if self.noted.of(topic_id, number).damaged_at.is_some() {
                self.env.evidence.note_damage(&log, None);
            }
            self.give_to_writer(&partition, recovered, epoch);
            partition.queue_found_mark();
            self.background.watch_limits(&partition);
        }
        Ok(partition)
    }

    /// Recovers one partition beside a live writer. What can't be opened at all is reported as damage; others
    /// go on.
    fn recover_for_reading(
        &self,
        dir: &Path,
        log: &LogId,
        config: &TopicConfig,
        mark: Option<&crate::format::Mark>,
    ) -> Result<Recovered> {
        let disk = &*self.env.disk;
        let noted = self.noted.of(log.topic_id, log.partition);
        let mut mark = mark.copied();
        let mut tries = 0;
        loop {
            if tries > 0 {
                mark = self.newest_mark(log)?.or(mark);
            }
            match recover(disk, dir, log, config, mark.as_ref(), noted, Doubt::Nothing) {
                // Evidence may have been read that is newer than the bytes before it, and what the catalogue says
                // may be older than what is left of the log.
                Ok(recovered) if recovered.damage.is_some() && tries < 5 => tries += 1,
                Err(error) if tries < 5 && error.kind() == &ErrorKind::Io => tries += 1,
                Ok(recovered) if tries < 5 && recovered.epoch() > self.known_epoch() => tries += 1,
                // The topic and its files were deleted meanwhile.
                Ok(Recovered { damage: Some(_), .. }) | Err(_) if self.is_deleted(log) => return Ok(Recovered::empty()),
                Ok(recovered) => return Ok(recovered),
                Err(error) => {
                    return match error.kind() {
                        ErrorKind::NoRoom => Err(error),
                        _ => Ok(Recovered::unusable(error)),
                    };
                }
            }
        }
    }

    /// Whether the catalogue, as it was read last, no longer knows the topic.
    fn is_deleted(&self, log: &LogId) -> bool {
        lock(&self.catalog).state().topic_by_id(log.topic_id).is_none()
    }

    /// The newest epoch of the catalogue, as it was read last.
    fn known_epoch(&self) -> u32 {
        lock(&self.catalog).state().epoch()
    }

    /// What a writing process has stored meanwhile of a partition.
    fn newest_mark(&self, log: &LogId) -> Result<Option<crate::format::Mark>> {
        let mut catalog = lock(&self.catalog);
        if catalog.refresh()? {
            self.catalog_moved.store(true, Ordering::SeqCst);
        }
        Ok(catalog.state().topic_by_id(log.topic_id).and_then(|topic| topic.mark(log.partition).copied()))
    }

    /// Tells the listener, and notes for [`Engine::recovery`].
    fn report(&self, topic: &str, partition: u32, recovered: &Recovered, recovery: &mut Recovery) {
        for path in &recovered.ignored {
            self.env.events.emit(Event::Ignored { path: path.clone() });
        }
        let mut note = PartitionRecovery {
            topic: topic.to_owned(),
            partition,
            end_offset: recovered.end_offset,
            cut_bytes: 0,
            cut_path: None,
            cut_position: 0,
            damage: None,
        };
        if let Some(cut) = &recovered.cut {
            // A follower sees the writer's unfinished work there: nothing was cut.
            if self.read_only {
                return;
            }
            (note.cut_bytes, note.cut_position) = (cut.bytes, cut.position);
            note.cut_path = Some(cut.path.clone());
            self.env.events.emit(Event::TornTailCut {
                topic: topic.to_owned(),
                partition,
                path: cut.path.clone(),
                position: cut.position,
                bytes: cut.bytes,
                end_offset: recovered.end_offset,
            });
        }
        if let Some(error) = &recovered.damage {
            let error = error.clone();
            note.damage = Some(error.clone());
            self.env.events.emit(Event::PartitionCorrupt { topic: topic.to_owned(), partition, error });
        }
        if note.cut_path.is_some() || note.damage.is_some() {
            recovery.partitions.push(note);
        }
    }

    /// Gives a partition to the next writer in turn.
    fn give_to_writer(&self, partition: &Arc<Partition>, recovered: Recovered, epoch: u32) {
        let turn = self.next_writer.fetch_add(1, Ordering::Relaxed);
        let Some(handle): Option<&WriterHandle> = self.handles.get(turn % self.handles.len().max(1)) else { return };
        let slot = handle.next_slot();
        let now = self.env.clock.monotonic();
        let writer = PartitionWriter::new(partition.clone(), slot, recovered.into_start(epoch), now);
        partition.set_writer(handle.clone(), slot);
        handle.send(Command::Add(slot, Box::new(writer)));
    }
}
