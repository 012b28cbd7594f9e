//! Rebalances: every member's thread, asleep, is woken once and answers; the last one's answer wakes the
//! one who asked.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::context::Bench;
use crate::bench::figures::Run;

#[derive(Default)]
struct State {
    round: u64,
    answers: usize,
    over: bool,
}

/// Rounds among so many members, for so long.
pub(crate) fn run(bench: &Bench, members: usize, time: Duration) -> Run {
    let (state, asked, answered) = (Mutex::new(State::default()), Condvar::new(), Condvar::new());
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut run = Run::new(0, 0, Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..members {
            scope.spawn(|| {
                let mut seen = 0;
                let mut state = lock();
                loop {
                    while state.round == seen && !state.over {
                        state = asked.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    if state.over {
                        return;
                    }
                    seen = state.round;
                    state.answers += 1;
                    if state.answers == members {
                        answered.notify_one();
                    }
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < time && !bench.is_interrupted() {
            let start = Instant::now();
            let mut state = lock();
            (state.round, state.answers) = (state.round + 1, 0);
            asked.notify_all();
            while state.answers < members {
                state = answered.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            let took = start.elapsed();
            run.latencies.record(took);
            (run.count, run.time) = (run.count + 1, run.time + took);
            bench.tick();
        }
        lock().over = true;
        asked.notify_all();
    });
    run
}
