//! Who is told what: consumers of new records, a flush of failures, readers of what was dropped, a writer of work.

use std::future::Future;
use std::sync::Arc;
use std::task::Context;

use super::{Bell, ENOSPC, Sleeps, builder, inner, send};
use crate::clock::SystemClock;
use crate::config::{Acks, TopicConfig};
use crate::engine::Record;
use crate::error::ErrorKind;
use crate::partition::{ReadySet, WriterLoop};
use crate::sim::{Operation, SimDisk};

#[test]
fn consumers_are_told_of_new_records_until_they_want_to_hear_no_more() {
    let engine = builder(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = inner(&engine);
    let sets = [1, 2].map(|bit| {
        let set = Arc::new(ReadySet::default());
        set.grow(3);
        partition.subscribe(set.clone(), bit);
        set
    });
    let told = || {
        while sets.iter().any(|set| set.take_from(0).is_some()) {}
        send(&engine, "value").unwrap();
        [0, 1].map(|at: usize| sets[at].take_from(0))
    };
    assert_eq!(told(), [Some(1), Some(2)]);
    partition.unsubscribe(&sets[0]);
    assert_eq!(told(), [None, Some(2)]);
    partition.unsubscribe(&sets[1]);
    assert_eq!(told(), [None, None]);
}

#[test]
fn d4_a_flush_tells_once_what_failed_before_it() {
    let disk = SimDisk::new();
    let engine = builder(&disk).open().unwrap();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    engine.flush().unwrap();
    disk.fail_next(Operation::Write, ENOSPC);
    send(&engine, "lost").unwrap_err();
    assert_eq!(engine.flush().unwrap_err().kind(), &ErrorKind::NoRoom);
    engine.flush().unwrap();
    send(&engine, "value").unwrap();
    engine.flush().unwrap();
}

/// The answer is for the run of numbers at the moment of the question: a record that takes a failed one's offset
/// doesn't answer for it, and what had been sent and failed is no offset that was never sent.
#[test]
fn d4_who_waits_for_an_offset_is_answered_for_the_record_that_had_it() {
    let disk = SimDisk::new();
    let engine = builder(&disk).open().unwrap();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    disk.fail_next(Operation::Write, ENOSPC);
    let lost = partition.append_batch(&[Record::new("lost"), Record::new("lost too")]).unwrap();
    let mut asked_before = [partition.written(1), partition.written(2)];
    lost.wait().unwrap_err();
    let no_room = |error: crate::Error| assert_eq!(error.kind(), &ErrorKind::NoRoom);
    no_room(partition.wait_written(2).unwrap_err());
    send(&engine, "another").unwrap();
    for asked in &mut asked_before {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(asked).poll(&mut context) {
            std::task::Poll::Ready(answer) => no_room(answer.unwrap_err()),
            std::task::Poll::Pending => panic!("it waits for the other record"),
        }
    }
    partition.wait_durable(1).unwrap();
    no_room(partition.wait_durable(2).unwrap_err());
    let never_sent = ErrorKind::OffsetOutOfRange { requested: 3, start: 0, end: 1 };
    assert_eq!(partition.wait_durable(3).unwrap_err().kind(), &never_sent);
}

#[test]
fn who_comes_to_a_segment_of_which_part_was_deleted_meanwhile_is_told() {
    let engine = builder(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Written)).unwrap();
    for bytes in [50_000, 20_000, 20_000] {
        send(&engine, vec![b'x'; bytes]).unwrap();
    }
    let partition = engine.partition("t", 0).unwrap();
    let mut reading = partition.read(..).unwrap();
    assert_eq!(reading.next().unwrap().unwrap().offsets(), 0..1);
    assert_eq!(inner(&engine).segment_for(1).unwrap().base_offset(), 1);
    partition.delete_records(2).unwrap();
    let error = reading.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::OffsetOutOfRange { requested: 1, start: 2, end: 3 });
    assert_eq!(inner(&engine).segment_for(2).unwrap().base_offset(), 1);
}

#[test]
fn a_writer_that_sleeps_in_its_queue_is_woken_once() {
    let (bell, waker) = Bell::new();
    let writers = WriterLoop::new(Box::new(Sleeps { noted: Arc::default(), waker }), Arc::new(SystemClock));
    let rung_when_ready = || {
        let before = bell.rung();
        writers.handle().ready(0);
        bell.rung() - before
    };
    assert_eq!(rung_when_ready(), 0, "it is awake");
    writers.inbox.sleeps_in_queue(true);
    assert_eq!([rung_when_ready(), rung_when_ready()], [1, 0]);
    writers.inbox.sleeps_in_queue(true);
    writers.inbox.sleeps_in_queue(false);
    assert_eq!(rung_when_ready(), 0, "it has woken by itself");
}

#[test]
fn who_gives_up_waiting_leaves_no_place_behind() {
    let engine = builder(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = inner(&engine);
    let (bell, waker) = Bell::new();
    let mut context = Context::from_waker(&waker);
    let mut waiting = Box::pin(partition.acknowledged(Acks::Written, 1, 0));
    let mut closed = Box::pin(partition.closed());
    assert!(waiting.as_mut().poll(&mut context).is_pending() && closed.as_mut().poll(&mut context).is_pending());
    assert_eq!(partition.progress.waiting(), 2);
    drop(waiting);
    assert_eq!(partition.progress.waiting(), 1);
    drop(closed);
    assert_eq!(partition.progress.waiting(), 0);
    send(&engine, "value").unwrap();
    assert_eq!(bell.rung(), 0);
}
