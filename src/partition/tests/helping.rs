//! Who waits alone does the writer's work himself, while its thread sleeps.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::bare::Bare;
use crate::config::{Acks, EngineConfig, TopicConfig};
use crate::disk::Disk;
use crate::lock::{Parker, thread};
use crate::partition::inbox::{Command, Inbox};
use crate::partition::{ReadySet, WriterLoop};
use crate::sim::Operation;

/// Partitions of one writer, each in its own slot: for some time the first was the only one with work, and one
/// alone waited for it. The thread sleeps for ever.
fn alone(partitions: &[Bare]) -> Arc<Inbox> {
    let first = &partitions[0];
    let mut writers = WriterLoop::new(first.disk.queue(), Arc::new(first.clock.clone()));
    let (inbox, handle) = (writers.inbox.clone(), writers.handle());
    for (slot, bare) in partitions.iter().enumerate() {
        bare.partition.set_writer(handle.clone(), slot);
        handle.send(Command::Add(slot, Box::new(bare.writer(slot))));
    }
    for _ in 0..9 {
        handle.ready(0);
        writers.turn();
        first.partition.progress.register(&mut None, Acks::Written, 0, Waker::noop());
        first.partition.progress.set_written(0);
    }
    assert!(first.partition.progress.has_lone_waiters());
    writers.planned = Some(Duration::ZERO);
    inbox.writer.put(Some(writers));
    inbox
}

fn bare() -> Bare {
    Bare::new(EngineConfig::default(), TopicConfig::default(), 0)
}

fn naps(inbox: &Inbox) -> bool {
    inbox.writer.nap(|| ())
}

#[test]
fn who_waits_alone_and_without_a_limit_does_the_work_himself() {
    for level in [Acks::Written, Acks::Synced] {
        let partitions = [bare()];
        let inbox = alone(&partitions);
        let [bare] = partitions;
        bare.send(10, false);
        // With a limit he does nothing that could take longer.
        assert!(bare.partition.wait(level, 1, 0, Some(Duration::ZERO)).is_none());
        assert_eq!(bare.ends(), (0, 0));
        assert_eq!(bare.partition.wait(level, 1, 0, None), Some(Ok(())));
        assert_eq!(bare.ends(), (1, u64::from(level == Acks::Synced)));
        assert!(!inbox.writer.is_left() && !inbox.has_news(), "and nothing is left");
        assert_eq!([naps(&inbox), naps(&inbox)], [true, false], "he may come back");
    }
}

#[test]
fn who_waits_for_another_does_not_help() {
    let partitions = [bare(), bare()];
    let inbox = alone(&partitions);
    for bare in &partitions {
        let offset = bare.send(10, false);
        bare.partition.writer.get().unwrap().0.help(1);
        assert_eq!((bare.ends().0, naps(&inbox)), (offset, false));
    }
}

#[test]
fn the_thread_does_not_nap_while_a_reader_waits_for_what_comes() {
    let partitions = [bare()];
    let inbox = alone(&partitions);
    let [bare] = partitions;
    let set = Arc::new(ReadySet::default());
    set.grow(1);
    bare.partition.subscribe(set.clone(), 0);
    for sleeps in [false, true, false] {
        set.take_from(0);
        assert!(!sleeps || set.sleep(Waker::noop()));
        let offset = bare.send(10, false);
        assert_eq!(bare.partition.wait(Acks::Written, offset + 1, 0, None), Some(Ok(())));
        assert_eq!(naps(&inbox), !sleeps);
    }
}

#[test]
fn nor_while_somebody_waits_who_does_not_help() {
    let partitions = [bare()];
    let inbox = alone(&partitions);
    let [bare] = partitions;
    let offset = bare.send(10, false);
    let mut waits = std::pin::pin!(bare.partition.acknowledged(Acks::Written, offset + 1, 0));
    inbox.writer.helped();
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(!naps(&inbox));
    inbox.writer.helped();
    bare.partition.end_writer(false);
    assert!(!naps(&inbox), "its end is waited for");
}

/// It comes back for what is sent until then, or is about to sleep.
#[test]
fn a_reader_that_would_find_nothing_writes_a_few_records_itself() {
    for comes_back in [false, true] {
        let partitions = [bare()];
        let inbox = alone(&partitions);
        let [bare] = partitions;
        assert!(!bare.partition.write_few(comes_back), "there is nothing to write");
        bare.send(10, false);
        assert!(bare.partition.write_few(comes_back));
        assert_eq!((bare.ends(), inbox.writer.is_left(), inbox.has_news()), ((1, 0), false, false));
        assert_eq!([naps(&inbox), naps(&inbox)], [comes_back, false]);
        // Also what another helper left for the thread, which is then not woken for it.
        bare.send(10, false);
        inbox.writer.leave();
        assert!(bare.partition.write_few(comes_back));
        assert_eq!((bare.ends(), inbox.writer.is_left()), ((2, 0), false));
        naps(&inbox);
        // Many are better written by the thread, while their sender encodes the next.
        bare.send(20_000, false);
        assert!(!bare.partition.write_few(comes_back));
        assert_eq!(bare.ends(), (2, 0));
        assert_eq!(bare.partition.wait(Acks::Written, 3, 0, None), Some(Ok(())));
        // Somebody is at it: it doesn't wait for that.
        bare.send(10, false);
        let work = inbox.writer.take();
        assert!(!bare.partition.write_few(comes_back));
        drop(work);
        assert!(bare.partition.write_few(comes_back));
        assert_eq!(bare.ends(), (4, 0));
    }
}

/// One that waits for a sync itself writes zeros ahead after it: the header, the batch, the zeros.
#[test]
fn a_reader_never_waits_for_a_sync() {
    for (reads, writes) in [(true, 2), (false, 3)] {
        let partitions = [bare()];
        let inbox = alone(&partitions);
        let [bare] = partitions;
        bare.send(10, true);
        match reads {
            true => assert!(bare.partition.write_few(true)),
            false => assert_eq!(bare.partition.wait(Acks::Synced, 1, 0, None), Some(Ok(()))),
        }
        assert_eq!((bare.ends().0, bare.disk.count(Operation::Write)), (1, writes));
        assert!(bare.ends().1 == 1 || inbox.writer.is_left(), "a sync that is under way is for the thread");
    }
}

#[test]
fn where_others_have_work_too_a_reader_leaves_it_to_the_thread() {
    let partitions = [bare(), bare()];
    let inbox = alone(&partitions);
    partitions[1].send(10, false);
    assert!(!partitions[1].partition.write_few(true));
    assert_eq!((partitions[1].ends(), naps(&inbox)), ((0, 0), false));
}

#[test]
fn who_helped_wakes_the_thread_from_its_nap_if_there_is_more() {
    let partitions = [bare()];
    let inbox = alone(&partitions);
    let [bare] = partitions;
    let parker = Parker::new();
    let _ = inbox.thread.set(parker.unparker().clone());
    // The time at which it must be synced, of which the thread doesn't know.
    inbox.writer.take().unwrap().as_mut().unwrap().planned = None;
    bare.send(10, false);
    inbox.writer.helped();
    let napped = inbox.writer.nap(|| {
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(bare.partition.wait(Acks::Written, 1, 0, None), Some(Ok(()))));
            parker.park();
        });
    });
    assert!(napped && inbox.writer.is_left());
    assert!(!naps(&inbox), "it is for the thread");
}
