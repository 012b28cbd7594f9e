//! Lives on a disk that fails to order: an error at every call, in short ones, or drawn, in long ones.
//! What was acknowledged must be there after the crash that ends each.

use std::path::Path;
use std::time::Duration;

use super::check::Bounds;
use super::explore::{Stop, check_and_die, no_violations, verified};
use super::life::{DIR, Life};
use super::model::World;
use super::shared::Shared;
use super::step::Step;
use crate::clock::Clock;
use crate::engine::LOCK_NAME;
use crate::sim::random::Random;
use crate::sim::{CrashPolicy, SimClock, SimDisk};

/// Does the steps, dies, is found by a crash, over two to four lives.
pub(super) fn run(seed: u64, steps: &[Step], shared: &Shared) -> Result<(), Stop> {
    let mut random = Random::new(seed ^ 0xbb67_ae85_84ca_a73b);
    let clock = SimClock::new();
    let mut disk = SimDisk::new();
    disk.set_unnamed_files(!seed.is_multiple_of(4));
    let mut world = World::default();
    let lives = 2 + random.below(3);
    let mut same_boot = false;
    for part in steps.chunks(steps.len().div_ceil(lives).max(1)) {
        if shared.is_over() {
            return Err(Stop::Over);
        }
        let mut evicted = false;
        if let Some(mut life) = Life::begin(&disk, &clock, true)? {
            life.prepare(&mut world)?;
            for step in part {
                if !life.step(&mut world, *step)? {
                    break;
                }
            }
            // Not what an earlier engine of this boot left: until that is written again it may vanish.
            evicted = random.below(2) == 0 && !same_boot && !part.contains(&Step::Reopen);
            life.read_all(&mut world, evicted)?;
            life.die();
        }
        shared.count_faults(disk.errors_given());
        no_violations(&disk)?;
        let killed = random.below(3) == 0;
        same_boot = killed;
        let has_lost = disk.has_lost();
        let policy = match random.below(6) {
            _ if killed => CrashPolicy::Kill,
            0 => CrashPolicy::PowerLoss,
            _ => CrashPolicy::Seeded(random.next()),
        };
        shared.count_crash_point();
        disk = disk.crash(policy);
        disk.set_capacity(None);
        if has_lost && random.below(2) == 0 {
            // As if it had been killed between a sync that failed and the note of it.
            disk.write_file(Path::new(DIR).join(LOCK_NAME), b"").map_err(|error| error.to_string())?;
        }
        if !shared.count_state(disk.content_hash()) {
            return Err(Stop::Over);
        }
        let unfinished = verified(&disk, world.topics.values().all(|topic| topic.uncertain))?;
        // Opening looks at the drive then, not at what `verify` saw.
        let unfinished = unfinished.filter(|_| !disk.has_lost());
        // What a failed sync left behind is lost to everybody when the cache drops it, at the next open at last.
        let killed = killed && !evicted && !has_lost;
        let bounds = Bounds { floor: &world, ceiling: &world, killed, now_ms: clock.wall_ms(), lookups: true };
        world = check_and_die(&disk.crash(CrashPolicy::Kill), &clock, bounds, unfinished.as_deref())?;
        clock.advance(Duration::from_millis(1 + random.below(100) as u64));
    }
    Ok(())
}
