//! Who waits alone does the writer's work himself, while its thread sleeps.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::{Sleeps, builder, inner};
use crate::config::{Acks, TopicConfig};
use crate::partition::append::Terms;
use crate::partition::inbox::Command;
use crate::partition::intake::Incoming;
use crate::partition::recovery::Recovered;
use crate::partition::{Partition, PartitionPlace, PartitionWriter, WriterLoop};
use crate::sim::{SimClock, SimDisk};

#[test]
fn who_waits_alone_and_without_a_limit_does_the_work_himself() {
    let engine = builder(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default().acks(Acks::Written)).unwrap();
    // The same partition once more, whose writer's thread sleeps for ever.
    let first = inner(&engine);
    let place =
        PartitionPlace { topic: first.topic.clone(), log: first.log, config: first.config(), dir: first.dir.clone() };
    let partition = Arc::new(Partition::new(first.env.clone(), place, &Recovered::empty(), None));
    let queue = Sleeps { noted: Arc::default(), waker: Waker::noop().clone() };
    let mut writers = WriterLoop::new(Box::new(queue), Arc::new(SimClock::new()));
    let (inbox, handle) = (writers.inbox.clone(), writers.handle());
    let writer = PartitionWriter::new(partition.clone(), 0, Recovered::empty().into_start(1), Duration::ZERO);
    partition.set_writer(handle.clone(), 0);
    handle.send(Command::Add(0, Box::new(writer)));
    // For some time nobody else had any work, and nobody else waited.
    for _ in 0..8 {
        handle.ready(0);
        writers.turn();
        partition.progress.register(&mut None, Acks::Written, 0, Waker::noop());
        partition.progress.set_written(0);
    }
    assert!(partition.progress.has_lone_waiters());
    inbox.writer.put(Some(writers));
    let record = Incoming { timestamp: 0, key: None, value: Some(b"value"), headers: &[] };
    partition.try_append(&[record], false, Terms::default()).unwrap();
    // With a limit he does nothing that could take longer.
    assert!(partition.wait(Acks::Written, 1, 0, Some(Duration::ZERO)).is_none());
    assert_eq!(partition.progress.written(), 0);
    assert_eq!(partition.wait(Acks::Written, 1, 0, None), Some(Ok(())));
    assert_eq!(partition.progress.written(), 1);
}
