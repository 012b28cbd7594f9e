//! Places that are known durable, until they stand in the catalogue; and the queues they wait in.

use super::{Bell, builder, inner};
use crate::config::TopicConfig;
use crate::format::Mark;
use crate::partition::chores::{Chores, FileChore};
use crate::sim::SimDisk;

fn mark(end_offset: u64) -> Mark {
    Mark {
        epoch: 1,
        log_start_offset: 0,
        durable_offset: end_offset,
        segment_base_offset: 0,
        position: 4_096 + 128 * end_offset,
    }
}

#[test]
fn a_place_is_stored_when_much_has_come_or_nothing_more_comes() {
    let engine = builder(&SimDisk::new()).sync_bytes(64 << 10).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let partition = inner(&engine);
    let mut seen = None;
    assert_eq!(partition.take_mark(), None, "nothing is durable yet");
    partition.note_durable(mark(1), 40 << 10);
    assert!(partition.env.chores.has_marks());
    assert!(!partition.is_idle(&mut seen));
    assert!(partition.env.chores.next_far().is_none());
    partition.note_durable(mark(2), 24 << 10);
    assert!(partition.env.chores.next_far().is_some(), "much has come");
    partition.note_durable(mark(2), 24 << 10);
    assert!(partition.env.chores.next_far().is_none(), "it is known");
    assert!(!partition.is_idle(&mut seen));
    assert_eq!(partition.take_mark(), Some(mark(2)));
    assert_eq!(partition.take_mark(), None, "it is stored");

    partition.note_durable(mark(3), 40 << 10);
    assert!(partition.env.chores.next_far().is_none(), "the bytes before it count no more");
    assert!(!partition.is_idle(&mut seen));
    assert!(partition.is_idle(&mut seen), "nothing came since");
    assert_eq!(partition.take_mark(), Some(mark(3)));

    partition.note_durable(mark(5), 1);
    partition.progress.raise_log_start(3);
    assert_eq!(partition.take_mark(), Some(Mark { log_start_offset: 3, ..mark(5) }));
}

#[test]
fn whoever_has_work_for_a_background_thread_wakes_that_thread() {
    let engine = builder(&SimDisk::new()).open().unwrap();
    engine.create_topic("t", TopicConfig::default()).unwrap();
    let chores = Chores::default();
    let ((files, files_waker), (upkeep, upkeep_waker)) = (Bell::new(), Bell::new());
    chores.set_wakers(files_waker, upkeep_waker);
    let rung = || (files.rung(), upkeep.rung());
    chores.add(FileChore::Prepare { partition: inner(&engine), bytes: 0 });
    assert_eq!(rung(), (1, 0));
    assert!(chores.next_file_chore().is_some() && chores.next_file_chore().is_none());
    chores.add_removal("none".into(), inner(&engine).log);
    assert_eq!(rung(), (2, 0));
    assert!(chores.next_removal().is_some() && chores.next_removal().is_none());
    chores.wake_upkeep();
    assert_eq!(rung(), (2, 1));
    assert!(!chores.has_marks());
    chores.add_mark(inner(&engine));
    assert_eq!(rung(), (2, 2));
    assert!(chores.has_marks());
    assert!(chores.next_mark().is_some() && !chores.has_marks());
    chores.add_far(inner(&engine));
    assert_eq!(rung(), (2, 3));
    assert!(chores.next_far().is_some() && chores.next_far().is_none());
}
