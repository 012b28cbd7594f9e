//! Group commit by leader and followers, into blocks that were written before: one thread writes and syncs the records
//! of all that have come. Who comes meanwhile waits, and one of those leads next. No thread is woken but those whose
//! records are synced and the next leader.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::failed;
use super::frame::Framer;
use crate::bench::context::Bench;
use crate::bench::figures::Run;
use crate::bench::lanes::{self, Lane, Plan};
use crate::bench::payload::Payloads;
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// Of the file, which is gone through over and over.
const FILE_BYTES: u64 = 4 << 20;
/// Where batches begin.
const START: u64 = 4096;

/// One run.
pub(crate) fn run(bench: &Bench, settings: &Settings, payloads: &Payloads, plan: Plan) -> Result<Run, Failure> {
    let piece = bench.scratch.fresh("floor")?;
    let path = piece.path().join("group");
    let made = File::create(&path).and_then(|file| {
        let zeros = vec![0; 1 << 20];
        (0..FILE_BYTES >> 20).try_for_each(|at| file.write_all_at(&zeros, at << 20))?;
        file.sync_all()?;
        Ok(file)
    });
    let file = made.map_err(|error| failed(&path, &error))?;
    let group = Group { path: &path, file, state: Mutex::new(State::new()), changed: Default::default() };
    let work = |lane: &mut Lane<'_>| {
        let mut n = 0;
        loop {
            let value = payloads.value(lane.number, n);
            let begun = Instant::now();
            group.commit(value)?;
            lane.took(begun.elapsed());
            n += 1;
            if !lane.did(1, value.len() as u64) {
                return Ok(());
            }
        }
    };
    lanes::run(bench, plan, settings.producers, work, || Ok(())).map(|(run, _)| run)
}

struct Group<'a> {
    path: &'a Path,
    file: File,
    state: Mutex<State>,
    /// Where the threads of a batch wait: those of even numbers in one place, those of odd ones in the other.
    changed: [Condvar; 2],
}

struct State {
    /// The batch that is filled, and its number.
    batch: Vec<u8>,
    framer: Framer,
    number: u64,
    /// How many of its threads wait.
    waiting: usize,
    /// Every batch up to this number is synced.
    synced: u64,
    leads: bool,
    position: u64,
    /// The buffer of the batch before.
    spare: Vec<u8>,
    failed: bool,
}

impl State {
    fn new() -> State {
        State {
            batch: Vec::new(),
            framer: Framer::new(u64::MAX),
            number: 1,
            waiting: 0,
            synced: 0,
            leads: false,
            position: START,
            spare: Vec::new(),
            failed: false,
        }
    }
}

impl Group<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, number: u64) -> &Condvar {
        &self.changed[(number % 2) as usize]
    }

    /// Returns when the value is synced.
    fn commit(&self, value: &[u8]) -> Result<(), Failure> {
        let mut state = self.lock();
        let State { batch, framer, .. } = &mut *state;
        framer.push(batch, value);
        let (number, waits) = (state.number, state.leads);
        state.waiting += usize::from(waits);
        // A thread that is woken to lead may find that another came first: that one takes its record along.
        while state.leads && !state.failed {
            state = self.place(number).wait(state).unwrap_or_else(PoisonError::into_inner);
            if state.synced >= number {
                return Ok(());
            }
        }
        if state.failed {
            return Err(Failure::new("another of the floor's threads failed"));
        }
        // Nobody leads, so the batch with this thread's record is the one that is filled.
        state.waiting -= usize::from(waits);
        let mut batch = std::mem::take(&mut state.spare);
        std::mem::swap(&mut batch, &mut state.batch);
        let mut framer = std::mem::replace(&mut state.framer, Framer::new(u64::MAX));
        let done = std::mem::take(&mut state.waiting);
        (state.leads, state.number) = (true, number + 1);
        framer.close(&mut batch);
        if state.position + batch.len() as u64 > FILE_BYTES {
            state.position = START;
        }
        let position = state.position;
        state.position += batch.len() as u64;
        drop(state);

        let outcome = self.file.write_all_at(&batch, position).and_then(|()| self.file.sync_data());
        batch.clear();

        let mut state = self.lock();
        (state.leads, state.spare) = (false, batch);
        if let Err(error) = outcome {
            state.failed = true;
            self.changed.iter().for_each(Condvar::notify_all);
            return Err(failed(self.path, &error));
        }
        state.synced = number;
        let leader_waits = state.waiting > 0;
        drop(state);
        if leader_waits {
            self.place(number + 1).notify_one();
        }
        if done > 0 {
            self.place(number).notify_all();
        }
        Ok(())
    }
}
