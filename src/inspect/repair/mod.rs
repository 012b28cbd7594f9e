//! Makes a damaged data directory whole again: one plan, which [`verify`](super::verify()) shows and
//! [`repair`] carries out.
//!
//! Nothing that is whole is lost and nothing is deleted: what is damaged goes to `set-aside/`. Records
//! keep their offsets, and no offset that was durable is given again. A crash at any step leaves a
//! directory that can be repaired again.

mod candidates;
mod catalog;
mod chain;
mod directories;
mod execute;
mod identity;
mod keyed;
mod offsets;
mod part;
mod plan;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Damage;
use super::check::{files_of, verify_disk};
use super::keyed_file;
use super::meter::Meter;
use super::partition;
use super::report::{Progress, Verification, prevents};
use crate::aside::aside_name;
use crate::clock::precise_wall_ms;
use crate::config::SyncMode;
use crate::disk::{Access, Disk, RealDisk};
use crate::engine::{LOCK_NAME, Left, holder_in, left, lost_entries, take_lock};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileKind;
use crate::ids::{EngineId, TopicId};
use crate::partition::{Noted, SET_ASIDE};
use crate::topic::{Catalog, CatalogState};

pub use plan::{DoubtfulGroup, Loss, Repair, RepairAction, RepairStep};

use directories::Directories;
use identity::Identity;
use keyed::look;
use plan::{Plan, Work};

/// How often what a repair leaves is looked at again, at most, and repaired.
const ROUNDS: usize = 4;

/// Repairs a data directory that no engine has open: what is damaged is set aside, what is whole of it
/// takes its place, and what is lost is said. Maps no file. A directory without damage isn't touched;
/// `dry_run` only says what would be done.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let data = dir.path();
/// # thalweg::Engine::open(data)?.close()?;
/// let done = thalweg::inspect::repair(data, false, &mut |_| {})?;
/// assert!(done.is_nothing());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Locked` if the directory is open for writing; `NotThalweg`; `NewerFormat`; those of the disk
/// (`NoRoom`, `Io`): what was done until then stays, nothing is lost, and it can be repaired again.
pub fn repair(dir: impl AsRef<Path>, dry_run: bool, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Repair> {
    let dir = dir.as_ref();
    let disk = RealDisk::new(SyncMode::Threads, 1).map_err(|error| Error::io(error).at_path(dir))?;
    repair_on(Arc::new(disk), dir, dry_run, progress)
}

/// The same for a directory on a simulated disk.
///
/// # Errors
/// As [`repair`](fn@repair).
#[cfg(feature = "sim")]
pub fn repair_sim(
    disk: &crate::sim::SimDisk,
    dir: impl AsRef<Path>,
    dry_run: bool,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Repair> {
    repair_on(Arc::new(disk.clone()), dir.as_ref(), dry_run, progress)
}

fn repair_on(disk: Arc<dyn Disk>, dir: &Path, dry_run: bool, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Repair> {
    // One that can't be entered can't be listed either, which says why.
    let disk = disk.enter(dir).unwrap_or(disk);
    if let Some(text) = disk.lock_holder(&dir.join(LOCK_NAME)).ok().flatten() {
        return Err(Error::new(ErrorKind::Locked { holder: holder_in(&text) }).at_path(dir));
    }
    let found = verify_disk(disk.clone(), dir, false, progress)?;
    if found.is_sound() {
        return Ok(Repair::default());
    }
    if dry_run {
        return shown_for(&disk, dir, &found, progress);
    }
    // What it says of the catalogue stays: it may be the only evidence.
    let note = match left(&*disk, dir) {
        Left::Closed(note) => note,
        Left::Nothing | Left::SyncFailed => String::new(),
    };
    let _guard = take_lock(&*disk, dir, &note)?;
    let mut done: Option<Repair> = None;
    for _ in 0..ROUNDS {
        // Made with the lock held: nothing changes between the plan and what is done.
        let found = verify_disk(disk.clone(), dir, true, progress)?;
        if found.is_sound() {
            break;
        }
        let Plan { shown, works } = plan_for(&disk, dir, &found, progress)?;
        let ends = works.is_empty();
        execute::execute(&*disk, dir, works)?;
        let all = done.get_or_insert_default();
        all.impossible = shown.impossible;
        all.steps.extend(shown.steps);
        all.lost.extend(shown.lost);
        all.in_doubt.extend(shown.in_doubt);
        all.group_names_lost |= shown.group_names_lost;
        all.notes.extend(shown.notes);
        if ends {
            break;
        }
    }
    let left = verify_disk(disk.clone(), dir, true, progress)?;
    let mut done = done.unwrap_or_default();
    let known = |damage: &Damage, done: &Repair| done.impossible.iter().any(|known| known.path == damage.path);
    for damage in left.damage {
        if !known(&damage, &done) {
            done.impossible.push(damage);
        }
    }
    Ok(done)
}

/// What repair would do about what was found.
///
/// # Errors
/// Of the disk.
pub(super) fn shown_for(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    found: &Verification,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Repair> {
    Ok(plan_for(disk, dir, found, progress)?.shown)
}

fn plan_for(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    found: &Verification,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Plan> {
    let now_ms = precise_wall_ms();
    let mut plan = Planner { disk, dir, found, now_ms, plan: Plan::default() }.run(progress)?;
    for dir in plan.works.iter().filter_map(|work| work.puts_aside_in(dir)) {
        // A directory that is to be made yet has nothing in the way.
        let name = aside_name(&**disk, dir).unwrap_or_default();
        if name.len() > SET_ASIDE.len() {
            let taken = dir.join(SET_ASIDE);
            let note = format!("{} is no directory: what is replaced beside it goes to {name}/", taken.display());
            plan.shown.notes.push(note);
        }
    }
    Ok(plan)
}

struct Planner<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    found: &'a Verification,
    now_ms: i64,
    plan: Plan,
}

impl Planner<'_> {
    fn run(mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Plan> {
        let disk = &**self.disk;
        // What stands in the place of the lock is moved by nobody who doesn't hold the lock.
        let lock = self.dir.join(LOCK_NAME);
        self.plan.shown.impossible.extend(self.found.damage.iter().find(|damage| damage.path == lock).cloned());
        let directories = directories::read(disk, self.dir)?;
        for path in &directories.no_directories {
            self.move_away(path);
        }
        let opened = match Catalog::open(self.disk.clone(), self.dir, Access::Read) {
            Err(error) if prevents(&error) => return Err(error),
            Err(error) if matches!(error.kind(), ErrorKind::NewerFormat { .. }) => {
                self.plan.shown.impossible.push(Damage::of_error(&error, self.dir));
                return Ok(self.plan);
            }
            opened => opened.ok().flatten().map(|(catalog, _)| catalog),
        };
        let known_engine = match identity::find(disk, self.dir, &directories)? {
            Identity::Known { engine_id, .. } => Some(engine_id),
            Identity::Unknown => None,
            Identity::Tied(reason) => {
                self.plan.shown.impossible.push(Damage::of_path(self.dir, reason));
                self.plan.works.clear();
                self.plan.shown.steps.clear();
                return Ok(self.plan);
            }
        };
        let is_foreign = |catalog: &Catalog| known_engine.is_some_and(|engine_id| catalog.engine_id() != engine_id);
        let foreign = opened.as_ref().filter(|catalog| is_foreign(catalog)).map(|catalog| {
            format!("{} is of engine {}, and most files here are not", catalog.path().display(), catalog.engine_id())
        });
        let opened = opened.filter(|catalog| !is_foreign(catalog));
        let offsets = look(disk, self.dir, "offsets", FileKind::Offsets, known_engine)?;
        let mut catalog = look(disk, self.dir, "catalog", FileKind::Catalog, known_engine)?;
        // What `LOCK` says of a file may not be taken for something about the new one.
        let closed = keyed_file::closed_at(disk, &self.dir.join(LOCK_NAME));
        let closed = closed.and_then(|(name, _)| crate::keyed::number_of(&name, "catalog"));
        catalog.number = catalog.number.max(closed.unwrap_or(0));
        if let Some((path, newer)) = catalog.newer.as_ref().or(offsets.newer.as_ref()) {
            let reason = format!("a later version wrote it ({newer}): that one can repair it");
            self.plan.shown.impossible.push(Damage::of_path(path, reason));
            return Ok(self.plan);
        }
        let mut reason = foreign.or_else(|| self.wrong_with("catalog", false));
        let left = catalog::left_of(disk, catalog.newest.as_ref(), known_engine)?;
        if opened.is_none() && reason.is_none() {
            reason = Some("the catalogue is missing".to_owned());
        }
        if let Some(catalog) = &opened
            && let Some((_, lost)) = lost_entries::find(disk, self.dir, catalog.state())?
        {
            reason.get_or_insert(lost);
        }
        let known_epoch = opened.as_ref().map_or(0, |catalog| catalog.state().epoch());
        let (committed, committed_epoch) = offsets::committed(disk, &offsets);
        let epoch = self.newest_epoch(&directories)?.max(committed_epoch);
        let epoch = epoch.max(offsets.newest.as_ref().map_or(0, |newest| newest.epoch()));
        if epoch > known_epoch && opened.is_some() {
            reason.get_or_insert_with(|| format!("it knows epochs up to {known_epoch}, and there is epoch {epoch}"));
        }
        let deleted = left.state.deleted().map(|(id, _)| id).chain(directories.deleted.iter().copied());
        let deleted: BTreeSet<TopicId> = deleted.collect();
        let mut rebuilt = None;
        let (state, engine_id) = match (opened, reason) {
            (Some(catalog), None) => (catalog.state().clone(), catalog.engine_id()),
            (_, reason) => {
                let found = catalog::Found {
                    left,
                    directories: &directories,
                    epoch: epoch.max(known_epoch),
                    topic_id: committed.keys().map(|(id, _)| id.0).max().unwrap_or(0),
                    engine_id: known_engine,
                    reason: reason.unwrap_or_default(),
                    now_ms: self.now_ms,
                    files: catalog,
                };
                let mut said = Repair::default();
                let (state, work) = catalog::rebuild(disk, self.dir, found, &mut said)?;
                let engine_id = work.header.log.engine_id;
                rebuilt = Some((work, said));
                (state, engine_id)
            }
        };
        let told = rebuilt.is_some().then_some(&committed);
        self.partitions(&state, engine_id, &directories, told, progress)?;
        if let Some(committed) = told {
            self.lost_topics(&state, committed, &deleted);
        }
        self.offset_log(offsets, engine_id, &state, rebuilt.is_some())?;
        // Last: as long as it is damaged, everything whole of a partition counts.
        if let Some((work, said)) = rebuilt {
            self.plan.works.push(Work::Keyed(work));
            self.plan.shown.steps.extend(said.steps);
            self.plan.shown.notes.extend(said.notes);
        }
        Ok(self.plan)
    }

    /// What was found wrong with the newest file of this name. `by_itself`: not what it was held against the
    /// catalogue for, which is made anew.
    fn wrong_with(&self, prefix: &str, by_itself: bool) -> Option<String> {
        let is_it = |damage: &&Damage| {
            let name = damage.path.file_name().unwrap_or_default().to_string_lossy();
            let is_named = damage.path.parent() == Some(self.dir) && crate::keyed::number_of(&name, prefix).is_some();
            is_named && !(by_itself && matches!(damage.position, None | Some(0)))
        };
        self.found.damage.iter().find(is_it).map(|damage| damage.reason.clone())
    }

    fn move_away(&mut self, path: &Path) {
        let reason = "it stands where a directory should be".to_owned();
        let action = RepairAction::SetAside;
        let step = RepairStep { path: path.to_owned(), topic: None, partition: None, action, reason };
        self.plan.shown.steps.push(step);
        let below = path.strip_prefix(self.dir).unwrap_or(path);
        let name: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let (path, root, name) = (path.to_owned(), self.dir.to_owned(), name.join("-"));
        self.plan.works.push(Work::MoveAway { path, root, name });
    }

    /// The newest epoch that stands in any segment.
    fn newest_epoch(&self, directories: &Directories) -> Result<u32> {
        let headers = directories.topics.iter().flat_map(|topic| &topic.headers);
        let newest = headers.map(|header| header.epoch).max().unwrap_or(0);
        Ok(newest.max(self.found.epoch))
    }

    fn offset_log(
        &mut self,
        files: keyed::KeyedFiles,
        engine_id: EngineId,
        state: &CatalogState,
        is_catalog_new: bool,
    ) -> Result<()> {
        let proven = state.offsets_end().max(Noted::read(&**self.disk, self.dir, engine_id)?.offset_log());
        let opened = keyed_file::open_offsets(self.disk, self.dir, Some(engine_id), proven);
        let reason = match opened {
            Err(error) if prevents(&error) => return Err(error),
            Err(error) => Some(Damage::of_error(&error, self.dir).reason),
            Ok(None) if proven > 0 => Some(format!("it is missing, though it had {proven} entries")),
            Ok(_) => self.wrong_with("offsets", is_catalog_new),
        };
        let Some(reason) = reason else { return Ok(()) };
        let (disk, now_ms) = (&**self.disk, self.now_ms);
        let work = offsets::rebuild(disk, self.dir, files, engine_id, state, reason, now_ms, &mut self.plan.shown)?;
        self.plan.works.push(Work::Keyed(work));
        Ok(())
    }

    /// Topics of which nothing is left but what groups have committed there.
    fn lost_topics(
        &mut self,
        state: &CatalogState,
        committed: &BTreeMap<(TopicId, u32), u64>,
        deleted: &BTreeSet<TopicId>,
    ) {
        let mut noted = None;
        for (&(id, partition), &end) in committed {
            if end == 0 || deleted.contains(&id) || state.topic_by_id(id).is_some() {
                continue;
            }
            let topic = format!("id {id}");
            if noted.replace(id) != Some(id) {
                self.plan.shown.notes.push(format!(
                    "topic {topic}: neither its name nor its files are there, only what groups have committed of it; \
                     it may have been deleted"
                ));
            }
            self.plan.shown.lost.push(Loss { topic, partition, offsets: 0..end });
        }
    }

    /// `committed`: the catalogue was damaged, and this is how far the groups' commits tell of the logs.
    fn partitions(
        &mut self,
        state: &CatalogState,
        engine_id: EngineId,
        directories: &Directories,
        committed: Option<&BTreeMap<(TopicId, u32), u64>>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        let disk = &**self.disk;
        let mut meter = Meter::new(disk, self.dir, progress);
        let noted = Noted::read(disk, self.dir, engine_id)?;
        for topic in state.topics() {
            for number in 0..topic.config.partitions {
                let files = files_of(self.dir, engine_id, topic, number, &noted, u32::MAX);
                if let Some(link) = directories.link_to(&files.dir) {
                    // Not set aside: the log behind it may be whole, and a new one in its place would be empty.
                    let reason = "it is a symbolic link, which is not followed: put the directory itself there, or \
                                  mount it there";
                    if !self.plan.shown.impossible.iter().any(|damage| damage.path == *link) {
                        self.plan.shown.impossible.push(Damage::of_path(link, reason.to_owned()));
                    }
                    continue;
                }
                let blocked = directories.no_directories.iter().any(|path| files.dir.starts_with(path));
                let found = partition::check(disk, &files, &mut meter)?;
                if found.damage.is_empty() && !blocked && committed.is_none() {
                    continue;
                }
                let indexes: Vec<PathBuf> = found
                    .damage
                    .iter()
                    .filter(|damage| damage.path.extension().is_some_and(|extension| extension == "index"))
                    .map(|damage| damage.path.clone())
                    .collect();
                let told = committed.map(|ends| ends.get(&(topic.id, number)).copied().unwrap_or(0));
                let planned = chain::plan(disk, &files, &indexes, told, self.now_ms)?;
                self.plan.shown.steps.extend(planned.steps);
                self.plan.shown.lost.extend(planned.lost);
                self.plan.shown.impossible.extend(planned.impossible);
                self.plan.works.extend(planned.work.map(Work::Partition));
            }
        }
        Ok(())
    }
}
