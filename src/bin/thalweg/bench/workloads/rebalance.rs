//! Rebalances: members that sit in `poll`, each in its own thread; another comes and goes, over and over,
//! and each time it is waited until everybody has what they should.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thalweg::assignor::{Assignor, Sticky, Subscriptions};
use thalweg::{Consumer, Engine, RebalanceListener, Wakeup};

use super::TOPIC;
use crate::bench::context::Bench;
use crate::bench::figures::Run;
use crate::bench::settings::Settings;
use crate::failure::Failure;

/// A group that hasn't settled by then never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomer {
    /// One more of many: it gets its share.
    OneMore,
    /// One that gets everything, and gives everything back when it goes.
    HasAll,
}

/// How many partitions members were told of and have not given back.
#[derive(Default)]
struct Held {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Held {
    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait_for(&self, wanted: usize) -> Result<(), Failure> {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(count, PATIENCE, |count| *count != wanted);
        let (count, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(Failure::new(format!("the group didn't settle: {} of {wanted} partitions are held", *count)));
        }
        Ok(())
    }
}

/// Counts; with `returns`, ends the poll that it is told in.
struct Counts {
    held: Arc<Held>,
    returns: bool,
}

impl RebalanceListener for Counts {
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        self.held.change(|count| *count += partitions.len());
        if self.returns {
            consumer.wakeup().wake();
        }
    }

    fn on_revoked(&mut self, _: &mut Consumer, partitions: &[(String, u32)]) {
        self.held.change(|count| *count -= partitions.len());
    }
}

/// Gives everything to the member called `all`, if there is one; else it is the sticky one.
struct OneHasAll;

impl Assignor for OneHasAll {
    fn name(&self) -> &str {
        "one-has-all"
    }

    fn assign(&self, input: &Subscriptions) -> Vec<Vec<(usize, u32)>> {
        let Some(one) = input.members().iter().position(|member| member.id.starts_with("all-")) else {
            return Sticky.assign(input);
        };
        let mut assignment = vec![Vec::new(); input.members().len()];
        let topics = input.topics().iter().enumerate();
        assignment[one] =
            topics.flat_map(|(at, topic)| (0..topic.partitions).map(move |number| (at, number))).collect();
        assignment
    }
}

/// Comings and goings for so long. The figures are of comings, or with [`Newcomer::HasAll`] of both.
pub(super) fn run(
    bench: &Bench,
    engine: &Engine,
    settings: &Settings,
    newcomer: Newcomer,
    time: Duration,
) -> Result<Run, Failure> {
    let held = Arc::new(Held::default());
    let stop = AtomicBool::new(false);
    let start = |id: &str, returns: bool| {
        let listener = Counts { held: held.clone(), returns };
        engine.consumer("bench").subscribe([TOPIC]).assignor(OneHasAll).client_id(id).listener(listener).start()
    };
    let mut members = (0..settings.members).map(|_| start("member", false)).collect::<Result<Vec<_>, _>>()?;
    let wakeups: Vec<Wakeup> = members.iter().map(Consumer::wakeup).collect();
    thread::scope(|scope| {
        let polling: Vec<_> = members
            .iter_mut()
            .map(|member| {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        member.poll(Duration::MAX)?;
                    }
                    Ok::<_, thalweg::Error>(())
                })
            })
            .collect();
        let ran = come_and_go(bench, settings, newcomer, time, &held, &start);
        stop.store(true, Ordering::SeqCst);
        wakeups.iter().for_each(Wakeup::wake);
        for member in polling {
            member.join().map_err(|_| Failure::new("a member's thread panicked"))??;
        }
        ran
    })
}

fn come_and_go(
    bench: &Bench,
    settings: &Settings,
    newcomer: Newcomer,
    time: Duration,
    held: &Held,
    start: &dyn Fn(&str, bool) -> thalweg::Result<Consumer>,
) -> Result<Run, Failure> {
    let partitions = settings.partitions as usize;
    held.wait_for(partitions)?;
    let (id, share) = match newcomer {
        Newcomer::OneMore => ("one", partitions / (settings.members + 1)),
        Newcomer::HasAll => ("all", partitions),
    };
    let (begun, mut run) = (Instant::now(), Run::new(0, 0, Duration::ZERO));
    let mut note = |took: Duration| {
        run.latencies.record(took);
        (run.count, run.time) = (run.count + 1, run.time + took);
    };
    while begun.elapsed() < time && !bench.is_interrupted() {
        let start_of_coming = Instant::now();
        let mut extra = start(id, true)?;
        while extra.assignment().count() < share {
            extra.poll(Duration::from_secs(1))?;
        }
        held.wait_for(partitions)?;
        note(start_of_coming.elapsed());
        let mine = extra.assignment().count();
        held.change(|count| *count -= mine);
        let start_of_going = Instant::now();
        drop(extra);
        held.wait_for(partitions)?;
        if newcomer == Newcomer::HasAll {
            note(start_of_going.elapsed());
        }
        bench.peak.look();
        bench.tick();
    }
    Ok(run)
}
