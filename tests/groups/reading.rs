//! What a consumer can do besides polling: seek, pause, wake up, read only what is durable, stream.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use thalweg::Acks;

use crate::*;

#[test]
fn seek_pause_resume_position_and_lag() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 0, 0, 4);
    fill(&engine, 1, 0, 4);
    let mut a = member(&engine, "g").start().unwrap();
    a.poll(NOW).unwrap();
    drain(&mut a);
    a.seek("t", 0, 1).unwrap();
    assert_eq!((a.position("t", 0).unwrap(), a.lag("t", 0).unwrap(), a.lag("t", 1).unwrap()), (1, 3, 0));
    a.pause("t", 0).unwrap();
    fill(&engine, 1, 4, 1);
    assert_eq!(drain(&mut a), [(1, 4)]);
    a.resume("t", 0).unwrap();
    assert_eq!(drain(&mut a), [(0, 1), (0, 2), (0, 3)]);
    let stats = a.stats();
    assert_eq!(stats.partitions.iter().map(|row| (row.position, row.lag())).collect::<Vec<_>>(), [(4, 0), (5, 0)]);
    fails(a.seek("t", 2, 0), "InvalidArgument");
}

#[test]
fn polls_return_no_more_records_than_asked_for() {
    let world = World::new();
    let engine = with_topic(&world, 3);
    for partition in 0..3 {
        let _ = engine
            .partition("t", partition)
            .unwrap()
            .append_batch(&[1_u64, 2, 3, 4, 5].map(u64::to_le_bytes).each_ref().map(Record::new))
            .unwrap();
    }
    engine.sync().unwrap();
    let mut a = member(&engine, "g").max_poll_records(4).start().unwrap();
    let mut all = Vec::new();
    loop {
        let polled = a.poll(NOW).unwrap();
        let some = values(&polled);
        if some.is_empty() {
            break;
        }
        assert!(some.len() <= 4);
        all.extend(some);
        // Each may be committed in the middle of a batch.
        a.commit().unwrap();
    }
    all.sort_unstable();
    assert_eq!(all.len(), 15);
    all.dedup();
    assert_eq!(all.len(), 15);
}

#[test]
fn wake_up_ends_a_poll() {
    let world = World::new();
    let engine = with_topic(&world, 1);
    let mut a = member(&engine, "g").start().unwrap();
    a.poll(NOW).unwrap();
    a.wakeup().wake();
    assert!(a.poll(Duration::MAX).unwrap().is_empty());
}

#[test]
fn read_durable_stops_where_power_loss_would() {
    let world = World::new();
    let engine = world.open();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    let log = engine.partition("t", 0).unwrap();
    log.append(&Record::new(&1_u64.to_le_bytes())).unwrap().wait().unwrap();
    let mut careful = member(&engine, "careful").read_durable(true).start().unwrap();
    let mut quick = member(&engine, "quick").start().unwrap();
    assert_eq!((drain(&mut careful).len(), drain(&mut quick).len()), (0, 1));
    engine.sync().unwrap();
    assert_eq!(drain(&mut careful).len(), 1);
}

#[test]
fn partitions_by_hand_with_a_groups_offsets() {
    let world = World::new();
    let engine = with_topic(&world, 2);
    fill(&engine, 1, 0, 3);
    let mut a = engine.consumer("g").assign([("t", 1)]).start().unwrap();
    assert_eq!(drain(&mut a).len(), 3);
    a.commit().unwrap();
    drop(a);
    assert!(drain(&mut engine.consumer("g").assign([("t", 1)]).start().unwrap()).is_empty());
    let mut real = member(&engine, "g").start().unwrap();
    real.poll(NOW).unwrap();
    let mut a = engine.consumer("g").assign([("t", 1)]).start().unwrap();
    a.seek("t", 1, 0).unwrap();
    fails(a.commit(), "GroupNotEmpty");
}

#[test]
fn a_stream_gives_what_polls_would_and_sleeps_in_between() {
    use futures_core::Stream;
    let world = World::new();
    let engine = with_topic(&world, 1);
    fill(&engine, 0, 0, 2);
    let mut a = member(&engine, "g").start().unwrap();
    let mut stream = a.stream();
    let (waker, wakes) = counting();
    let mut context = Context::from_waker(&waker);
    let Poll::Ready(Some(Ok(polled))) = Pin::new(&mut stream).poll_next(&mut context) else {
        panic!("records are there")
    };
    assert_eq!(values(&polled).len(), 2);
    stream.consumer().commit().unwrap();
    assert!(Pin::new(&mut stream).poll_next(&mut context).is_pending());
    world.pass(1_000_000);
    fill(&engine, 0, 2, 1);
    assert!(wakes.load(std::sync::atomic::Ordering::SeqCst) > 0, "a record wakes it");
    let Poll::Ready(Some(Ok(polled))) = Pin::new(&mut stream).poll_next(&mut context) else { panic!("a record came") };
    assert_eq!(values(&polled), [(0, 2)]);
    drop(stream);
    let mut next = pin!(a.next_batches());
    assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// A waker that counts.
fn counting() -> (Waker, Arc<std::sync::atomic::AtomicUsize>) {
    struct Counting(Arc<std::sync::atomic::AtomicUsize>);
    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let count = Arc::<std::sync::atomic::AtomicUsize>::default();
    (Waker::from(Arc::new(Counting(count.clone()))), count)
}

/// What a poll left of a batch, a seek, a commit and the next life, in every combination of places.
#[test]
fn a_seek_while_half_of_a_batch_has_been_handed_out() {
    let world = World::new();
    // Two batches of six records, of two lives: records of two epochs.
    for life in 0..2 {
        let engine = if life == 0 { with_topic(&world, 1) } else { world.open() };
        let values: Vec<_> = (6 * life..6 * life + 6_u64).map(u64::to_le_bytes).collect();
        let records: Vec<_> = values.iter().map(Record::new).collect();
        engine.partition("t", 0).unwrap().append_batch(&records).unwrap().wait().unwrap();
        engine.close().unwrap();
    }
    let from = |at: u64| (at..12).map(|value| (0, value)).collect::<Vec<_>>();
    let name = |polls: u64, to: u64, reads: bool| format!("{polls} {to} {reads}");
    let each = || (0..4).flat_map(|polls| (0..=12).flat_map(move |to| [false, true].map(|reads| (polls, to, reads))));
    let engine = world.open();
    for (polls, to, reads) in each() {
        // Two records a poll: after an odd number of them less than a batch has been handed out.
        let mut a = member(&engine, &name(polls, to, reads)).max_poll_records(2).start().unwrap();
        let mut read: Vec<_> = (0..polls).flat_map(|_| values(&a.poll(NOW).unwrap())).collect();
        a.poll(NOW).unwrap();
        read.truncate(2 * polls as usize);
        assert_eq!(read, from(0)[..read.len()]);
        a.seek("t", 0, to).unwrap();
        assert_eq!(a.position("t", 0).unwrap(), to);
        if reads {
            // Within its batch, as a batch ends a poll only where two records came.
            let polled = values(&a.poll(NOW).unwrap());
            assert_eq!(polled, from(to)[..polled.len()], "{polls} polls, then to {to}");
            assert!(polled.len() == 2 || to + polled.len() as u64 == 12, "{polls} polls, then to {to}: {polled:?}");
        }
        a.commit().unwrap();
    }
    engine.close().unwrap();
    let engine = world.open();
    for (polls, to, reads) in each() {
        let at = if reads { (to + 2).min(12) } else { to };
        let mut a = member(&engine, &name(polls, to, reads)).start().unwrap();
        assert_eq!(drain(&mut a), from(at), "{polls} polls, then to {to}, read on: {reads}");
        assert_eq!(a.position("t", 0).unwrap(), 12);
    }
    assert_eq!(world.told(|event| matches!(event, thalweg::Event::OffsetReset { .. })), 0, "every commit stands");
}

/// What polls leave of batches holds mappings, each with a descriptor. Where the system has no more of them, it is given
/// up and read again.
#[test]
fn a_consumer_gives_up_what_polls_left_where_no_more_can_be_mapped() {
    const EMFILE: i32 = 24;
    let world = World::new();
    let engine = with_topic(&world, 3);
    for partition in 0..3 {
        let values = [1_u64, 2, 3].map(u64::to_le_bytes);
        let log = engine.partition("t", partition).unwrap();
        let _ = log.append_batch(&values.each_ref().map(Record::new)).unwrap();
    }
    engine.sync().unwrap();
    let mut a = member(&engine, "g").max_poll_records(1).start().unwrap();
    let mut read = values(&a.poll(NOW).unwrap());
    // The first try, and the one without the mappings that only the engine holds.
    world.disk.fail_after(0, thalweg::sim::Operation::View, EMFILE, thalweg::sim::Repeat::Once);
    world.disk.fail_after(1, thalweg::sim::Operation::View, EMFILE, thalweg::sim::Repeat::Once);
    while read.len() < 9 {
        read.extend(values(&a.poll(NOW).unwrap()));
    }
    for partition in 0..3 {
        let of_it: Vec<_> = read.iter().filter(|(of, _)| *of == partition).map(|(_, value)| *value).collect();
        assert_eq!(of_it, [1, 2, 3], "partition {partition}");
    }
    // With nothing left to give up it is told.
    drop((a, engine));
    let engine = world.open();
    world.disk.fail_after(0, thalweg::sim::Operation::View, EMFILE, thalweg::sim::Repeat::Forever);
    let mut b = member(&engine, "h").start().unwrap();
    fails(b.poll(NOW), "NoRoom");
}
