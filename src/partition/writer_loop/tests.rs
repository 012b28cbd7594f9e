//! A loop's turns over partitions that have no engine around them.

use super::*;
use crate::config::{Acks, EngineConfig, TopicConfig};
use crate::disk::{Disk, File, Step, Watched};
use crate::error::ErrorKind;
use crate::lock::{Mutex, Parker, lock};
use crate::partition::ReadySet;
use crate::partition::tests::Sleeps;
use crate::partition::tests::bare::Bare;
use crate::sim::{CrashPolicy, SimClock, SimDisk};

const SYNC_AFTER: Duration = Duration::from_secs(1);

fn bare() -> Bare {
    let config = EngineConfig { sync_ms: 1_000, ..EngineConfig::default() };
    Bare::new(config, TopicConfig::default(), 0)
}

/// A loop over one partition, in this slot.
fn with(bare: &Bare, slot: usize, queue: Box<dyn Queue>) -> WriterLoop {
    let mut writers = WriterLoop::new(queue, Arc::new(bare.clock.clone()));
    writers.handle().send(Command::Add(slot, Box::new(bare.writer(slot))));
    assert!(writers.has_news());
    assert!(writers.turn());
    assert!(!writers.has_news() && !writers.is_busy());
    writers
}

/// Has a record written.
fn write(writers: &mut WriterLoop, bare: &Bare, slot: usize, sync: bool) {
    let offset = bare.send(10, sync);
    writers.handle().ready(slot);
    assert!(writers.has_news());
    assert!(writers.turn());
    assert_eq!(bare.ends().0, offset + 1);
    assert!(writers.is_busy(), "more may have come meanwhile");
    writers.turn();
    assert!(!writers.is_busy());
}

#[test]
fn a_partition_counts_as_alone_when_it_was_visited_often_and_no_other() {
    let mut writers = WriterLoop::new(bare().disk.queue(), Arc::new(bare().clock));
    for slot in [0, 3] {
        for times in 1..=20 {
            assert_eq!(writers.is_alone(slot), times > 8);
            assert_eq!(writers.inbox.is_alone(slot), times >= 8);
            assert!(!writers.inbox.is_alone(slot + 1));
        }
    }
}

#[test]
fn without_a_thread_a_partition_that_is_alone_is_never_held_back() {
    let bare = bare();
    let mut writers = with(&bare, 0, bare.disk.queue());
    (0..20).for_each(|_| write(&mut writers, &bare, 0, false));
    assert_eq!(bare.ends(), (20, 0));
    let offset = bare.send(10, true);
    writers.handle().ready(0);
    writers.turn();
    assert_eq!(bare.ends(), (offset + 1, offset + 1), "alone, it waits for its sync itself");
    assert!(!writers.is_syncing());
}

/// A loop in which slot 0 has just synced, alone, for as many as are worth waiting for.
fn with_a_crowd() -> (Bare, WriterLoop) {
    let (disk, clock) = (SimDisk::new(), SimClock::new());
    let goes_on = clock.clone();
    // A sync takes its time.
    let over = Watched::<dyn Disk>::new(Arc::new(disk.clone()), move |step| {
        if step == Step::Sync {
            goes_on.advance(Duration::from_micros(100));
        }
        Ok(())
    });
    let bare = Bare::on(Arc::new(over), disk, clock, EngineConfig::default(), TopicConfig::default(), 0);
    let mut writers = with(&bare, 0, bare.disk.queue());
    (0..20).for_each(|_| write(&mut writers, &bare, 0, false));
    let end_offset = bare.send(10, true) + 1;
    for _ in 0..8 {
        bare.partition.progress.register(&mut None, Acks::Synced, end_offset, Waker::noop());
    }
    writers.handle().ready(0);
    writers.turn();
    assert_eq!(bare.ends(), (end_offset, end_offset));
    writers.turn();
    assert!(!writers.is_busy());
    (bare, writers)
}

#[test]
fn a_partition_is_held_back_for_a_crowd_by_a_thread_that_has_no_other() {
    for (has_thread, has_other, waits) in
        [(true, false, true), (true, true, false), (false, false, false), (false, true, false)]
    {
        let (bare, mut writers) = with_a_crowd();
        if has_thread {
            let _ = writers.inbox.thread.set(Parker::new().unparker().clone());
        }
        if has_other {
            writers.handle().ready(1);
        }
        let end_offset = bare.send(10, false) + 1;
        writers.handle().ready(0);
        writers.turn();
        assert_eq!(bare.ends().0, end_offset - u64::from(waits), "{has_thread}, {has_other}");
        assert_eq!(writers.gathers, waits);
        assert!(writers.is_busy());
    }
}

#[test]
fn a_sync_counts_as_under_way_until_it_has_ended() {
    let bare = bare();
    let mut writers = with(&bare, 1, bare.disk.queue());
    assert!(!writers.is_syncing());
    for _ in 0..2 {
        bare.send(10, false);
        writers.handle().ready(1);
        writers.turn();
        assert!(!writers.is_syncing(), "nobody wants one");
        bare.send(10, true);
        writers.turn();
        assert!(writers.is_syncing());
        writers.turn();
        assert!(!writers.is_syncing());
        let (written, durable) = bare.ends();
        assert_eq!(written, durable);
        writers.turn();
    }
}

#[test]
fn a_partition_is_visited_when_its_time_has_come() {
    let (first, second) = (bare(), bare());
    let mut writers = with(&first, 0, first.disk.queue());
    writers.handle().send(Command::Add(2, Box::new(second.writer(2))));
    writers.turn();
    assert_eq!(writers.due(), None);
    // It goes by the first one's clock, and only by that.
    first.clock.advance(SYNC_AFTER);
    second.clock.advance(SYNC_AFTER);
    write(&mut writers, &second, 2, false);
    assert_eq!((writers.now(), writers.due()), (SYNC_AFTER, Some(2 * SYNC_AFTER)));
    first.clock.advance(SYNC_AFTER);
    assert!(!writers.is_syncing());
    writers.turn();
    assert!(writers.is_syncing());
    assert_eq!(writers.due(), None);
}

#[test]
fn it_sleeps_until_the_next_time_comes_and_not_while_there_is_work() {
    let bare = bare();
    let noted = Arc::<Mutex<Vec<_>>>::default();
    let queue = Sleeps { noted: noted.clone(), waker: Waker::noop().clone() };
    let mut writers = with(&bare, 0, Box::new(queue));
    let slept = |writers: &mut WriterLoop, limit: Option<u64>| {
        writers.sleep(limit.map(Duration::from_millis));
        std::mem::take(&mut *lock(&noted))
    };
    let for_ms = |ms| [Some(Duration::from_millis(ms))];
    assert_eq!(slept(&mut writers, None), [None]);
    assert_eq!(slept(&mut writers, Some(70)), for_ms(70));
    bare.clock.advance(SYNC_AFTER);
    bare.send(10, false);
    writers.handle().ready(0);
    assert_eq!(slept(&mut writers, None), [], "there is news");
    writers.turn();
    assert_eq!(slept(&mut writers, None), [], "more may have come meanwhile");
    writers.turn();
    bare.clock.advance(Duration::from_millis(300));
    assert_eq!(slept(&mut writers, None), for_ms(700));
    assert_eq!(slept(&mut writers, Some(600)), for_ms(600));
    assert_eq!(slept(&mut writers, Some(800)), for_ms(700));
    bare.clock.advance(SYNC_AFTER);
    assert_eq!(slept(&mut writers, None), for_ms(0), "it is overdue");
}

#[test]
fn it_stops_when_it_was_told_to_and_all_its_partitions_have_ended() {
    let bare = bare();
    let mut writers = with(&bare, 0, bare.disk.queue());
    write(&mut writers, &bare, 0, false);
    assert!(!writers.is_stopping() && !writers.is_stopped());
    writers.handle().send(Command::Stop);
    writers.turn();
    assert!(writers.is_stopping() && !writers.is_stopped());
    writers.handle().send(Command::End { slot: 0, discard: false });
    writers.turn();
    assert!(writers.is_syncing() && !writers.is_stopped());
    writers.turn();
    assert!(writers.is_stopped());
    assert_eq!(bare.ends(), (1, 1));
}

/// A queue in which a turn breaks.
struct Broken(Sleeps);

impl Queue for Broken {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        self.0.start(token, file);
    }

    fn finished(&mut self, _into: &mut Vec<Finished>) {
        panic!("broken to order");
    }

    fn sleep(&mut self, timeout: Option<Duration>) {
        self.0.sleep(timeout);
    }

    fn waker(&self) -> Waker {
        self.0.waker()
    }
}

#[test]
fn a_panic_in_a_turn_fails_its_partitions_and_nothing_waits_on() {
    let bare = bare();
    let mut writers = with(&bare, 1, bare.disk.queue());
    let run = bare.partition.progress.run();
    let end_offset = bare.send(10, false) + 1;
    writers.queue = Box::new(Broken(Sleeps { noted: Arc::default(), waker: Waker::noop().clone() }));
    writers.handle().ready(1);
    writers.helped_turn(true);
    assert!(bare.partition.progress.is_failed());
    let error = bare.partition.outcome(crate::config::Acks::Written, end_offset, run).unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Failed);
    assert_eq!(bare.ends(), (0, 0));
    let events = &bare.partition.env.events;
    assert_eq!(events.own_panic().unwrap().to_string(), "panicked: broken to order");
    assert_eq!(events.failures()[0].what, "a writer thread");
}

/// The sync's end was lost with the turn that panicked.
#[test]
fn after_a_panic_a_partition_that_was_to_end_does() {
    let bare = bare();
    let mut writers = with(&bare, 1, bare.disk.queue());
    bare.send(10, true);
    writers.queue = Box::new(Sleeps { noted: Arc::default(), waker: Waker::noop().clone() });
    writers.handle().send(Command::End { slot: 1, discard: false });
    writers.handle().send(Command::Stop);
    writers.turn();
    assert!(writers.is_syncing() && !writers.is_stopped());
    writers.queue = Box::new(Broken(Sleeps { noted: Arc::default(), waker: Waker::noop().clone() }));
    writers.helped_turn(true);
    assert!(writers.is_stopped() && bare.partition.stopped().is_some());
}

#[test]
fn it_knows_that_a_reader_slept_and_was_woken() {
    let bare = bare();
    let mut writers = with(&bare, 0, bare.disk.queue());
    let set = Arc::new(ReadySet::default());
    set.grow(1);
    bare.partition.subscribe(set.clone(), 0);
    for sleeps in [false, true, false] {
        assert_eq!(set.take_from(0).is_some(), bare.ends().0 > 0);
        assert!(!sleeps || set.sleep(Waker::noop()));
        write(&mut writers, &bare, 0, false);
        assert_eq!(std::mem::take(&mut writers.woke_reader), sleeps);
    }
}

/// A queue for files of several disks: a sync is done when it is started, and told later.
#[derive(Default)]
struct ToldLater(Vec<Finished>);

impl Queue for ToldLater {
    fn start(&mut self, token: u64, file: &Arc<dyn File>) {
        self.0.push(Finished { token, result: file.sync() });
    }

    fn finished(&mut self, into: &mut Vec<Finished>) {
        into.append(&mut self.0);
    }

    fn sleep(&mut self, _timeout: Option<Duration>) {}

    fn waker(&self) -> Waker {
        Waker::noop().clone()
    }
}

/// Six partitions, of which two may have files open. None waits for ever, none is closed with records that are not
/// durable, and what was closed is opened again.
#[test]
fn partitions_are_closed_for_others_once_they_are_durable() {
    let bares: Vec<Bare> = (0..6).map(|_| bare()).collect();
    let mut writers = WriterLoop::new(Box::<ToldLater>::default(), Arc::new(bares[0].clock.clone())).with_open_files(2);
    for (slot, bare) in bares.iter().enumerate() {
        writers.handle().send(Command::Add(slot, Box::new(bare.writer(slot))));
    }
    for round in 1..=3 {
        for (slot, bare) in bares.iter().enumerate() {
            bare.send(10, false);
            writers.handle().ready(slot);
        }
        while bares.iter().any(|bare| bare.ends().0 < round) {
            writers.turn();
            assert!(writers.slots.iter().flatten().filter(|writer| writer.holds_files()).count() <= 2);
            for (writer, bare) in writers.slots.iter().flatten().zip(&bares) {
                let (written, durable) = bare.ends();
                assert!(writer.holds_files() || written == durable, "closed at {durable} of {written}");
            }
        }
    }
    assert!(!writers.files.has_waiting());
    // What it gave back when it was closed doesn't count: all is there after a crash.
    for bare in &bares {
        bare.send(10, true);
    }
    (0..6).for_each(|slot| writers.handle().ready(slot));
    while bares.iter().any(|bare| bare.ends() != (4, 4)) {
        writers.turn();
    }
    for bare in &bares {
        assert_eq!(bare.after(CrashPolicy::PowerLoss).ends().0, 4);
    }
}

/// A file that takes the name of one that was closed is not written to.
#[test]
fn a_file_that_was_closed_is_known_when_it_is_opened_again() {
    let (first, second) = (bare(), bare());
    let mut writers = WriterLoop::new(Box::<ToldLater>::default(), Arc::new(first.clock.clone())).with_open_files(1);
    for (slot, bare) in [&first, &second].into_iter().enumerate() {
        writers.handle().send(Command::Add(slot, Box::new(bare.writer(slot))));
    }
    let write = |writers: &mut WriterLoop, slot, bare: &Bare| {
        let offset = bare.send(10, true);
        writers.handle().ready(slot);
        while bare.ends().1 <= offset && !bare.partition.progress.is_failed() {
            writers.turn();
        }
        bare.partition.progress.is_failed()
    };
    assert!(!write(&mut writers, 0, &first) && !write(&mut writers, 1, &second) && !write(&mut writers, 0, &first));
    // The first is open, the second's file is another's now.
    let path = second.partition.dir.join("00000000000000000000.log");
    second.disk.unlink(&path).unwrap();
    let other = second.disk.create(&path).unwrap();
    other.write_at(&[std::io::IoSlice::new(&[7; 8192])], 0).unwrap();
    assert!(write(&mut writers, 1, &second), "it wrote to another file");
    let mut block = [0; 8192];
    other.read_at(&mut block, 0).unwrap();
    assert_eq!(block, [7; 8192]);
}
