//! The oracle takes what a kill may leave, and notices each kind of loss.

use super::falsify::falsify;
use super::oracle::{Contents, Log, Oracle};
use super::plan::{PARTITIONS, Place, Plan};
use super::said::Said;
use crate::torture::Falsify;

/// A directory without retention, so that only deletions move the log start.
fn plan() -> Plan {
    (0..).map(|seed| Plan::new(seed).unwrap()).find(|plan| plan.topic.retention_bytes.is_none()).unwrap()
}

/// Logs with the records of these lives, each from its offset up to the next one's.
fn contents(plan: &Plan, lives: &[(u32, u64)]) -> Contents {
    let log = |partition| {
        let mut records = Vec::new();
        for &(life, end) in lives {
            for offset in records.len() as u64..end {
                let content = plan.record(Place { life, partition, offset }, 0);
                records.push((offset, content.key, content.value));
            }
        }
        Log { start: 0, end: records.len() as u64, durable: records.len() as u64, records }
    };
    Contents { logs: (0..PARTITIONS).map(log).collect(), committed: vec![Some(8), None, None] }
}

/// Of life 1 ten records, eight of them acknowledged and committed, and two deleted.
fn lived(plan: &Plan) -> (Oracle, Contents) {
    let mut oracle = Oracle::new(plan.clone());
    oracle.begin(1);
    let deleted = Said::Deleted { partition: 0, before: 2 };
    let said = [
        Said::Acknowledged { partition: 0, first: 0, end: 8 },
        Said::Committing(vec![(0, 8)]),
        Said::Committed(vec![(0, 8)]),
        Said::Deleting { partition: 0, before: 2 },
        deleted,
    ];
    said.iter().for_each(|said| oracle.note(said).unwrap());
    let mut found = contents(plan, &[(1, 10)]);
    found.logs[0].start = 2;
    found.logs[0].records.drain(..2);
    (oracle, found)
}

#[track_caller]
fn broken(change: impl FnOnce(&mut Contents), says: &str) {
    let plan = plan();
    let (mut oracle, mut found) = lived(&plan);
    change(&mut found);
    let what = oracle.check(&found).unwrap_err();
    assert!(what.contains(says), "{what}");
}

#[test]
fn what_a_kill_may_leave_is_fine() {
    let plan = plan();
    let (mut oracle, found) = lived(&plan);
    oracle.check(&found).unwrap();
    // What was found stays, a life that nobody looked at and the next one may add to it.
    oracle.begin(2);
    oracle.note(&Said::Acknowledged { partition: 0, first: 10, end: 12 }).unwrap();
    oracle.note(&Said::Committing(vec![(0, 11)])).unwrap();
    oracle.begin(3);
    let mut found = contents(&plan, &[(1, 10), (2, 12), (3, 20)]);
    found.logs[0].start = 2;
    found.logs[0].records.drain(..2);
    found.committed[0] = Some(11);
    oracle.check(&found).unwrap();
}

#[test]
fn unacknowledged_records_may_be_missing() {
    let plan = plan();
    let (mut oracle, mut found) = lived(&plan);
    found.logs[0].records.truncate(6);
    found.logs[0].end = 8;
    oracle.check(&found).unwrap();
}

#[test]
fn every_falsification_is_noticed() {
    for what in [Falsify::Missing, Falsify::Changed, Falsify::Doubled, Falsify::Commit, Falsify::Start] {
        let (mut oracle, mut found) = lived(&plan());
        assert!(falsify(what, &mut found, &oracle), "{what:?}");
        assert!(oracle.check(&found).is_err(), "{what:?}");
    }
}

#[test]
fn an_acknowledged_record_that_is_missing_is_noticed() {
    let cut = |found: &mut Contents| {
        found.logs[0].records.truncate(5);
        found.logs[0].end = 7;
    };
    broken(cut, "offset 7 was acknowledged in life 1 and is missing");
}

#[test]
fn other_bytes_are_noticed() {
    broken(|found| found.logs[0].records[3].2[20] ^= 1, "offset 5");
    broken(|found| found.logs[0].records[3].1 = Some(b"another".to_vec()), "offset 5 isn't what life 1 sent");
    broken(|found| found.logs[0].records[3].2.clear(), "offset 5 was never sent");
}

#[test]
fn a_gap_and_a_double_are_noticed() {
    broken(|found| drop(found.logs[0].records.remove(3)), "offset 6 stands where 5 belongs");
    broken(|found| found.logs[1].end += 1, "ends at 11");
    let double = |found: &mut Contents| {
        let again = found.logs[0].records[3].clone();
        found.logs[0].records.insert(3, again);
    };
    broken(double, "offset 5 stands where 6 belongs");
}

#[test]
fn commits_older_or_never_made_are_noticed() {
    broken(|found| found.committed[0] = Some(7), "committed offset is 7; 8 was acknowledged last");
    broken(|found| found.committed[0] = Some(9), "committed offset is 9");
    broken(|found| found.committed[0] = None, "committed offset is nothing");
    broken(|found| found.committed[1] = Some(0), "partition 1");
}

#[test]
fn a_log_start_that_moves_by_itself_is_noticed() {
    broken(|found| found.logs[0].start = 1, "it started at 2 before");
    let early = |found: &mut Contents| {
        found.logs[0].start = 3;
        found.logs[0].records.remove(0);
    };
    broken(early, "nobody deleted");
}

#[test]
fn half_a_batch_is_noticed() {
    let plan = plan();
    let half = |found: &mut Contents| {
        let content = plan.record(Place { life: 1, partition: 2, offset: 9 }, 1);
        found.logs[2].records[9] = (9, content.key, content.value);
    };
    broken(half, "half a batch");
}

#[test]
fn what_an_earlier_recovery_discarded_does_not_come_back() {
    let plan = plan();
    let (mut oracle, found) = lived(&plan);
    oracle.check(&found).unwrap();
    oracle.begin(2);
    // Two more records of life 1, which weren't there when it was looked.
    let mut found = contents(&plan, &[(1, 12)]);
    found.logs[0].start = 2;
    found.logs[0].records.drain(..2);
    let what = oracle.check(&found).unwrap_err();
    assert!(what.contains("offset 10 of life 1 came back"), "{what}");
}

#[test]
fn what_was_found_once_does_not_change() {
    let plan = plan();
    let (mut oracle, found) = lived(&plan);
    oracle.check(&found).unwrap();
    oracle.begin(2);
    for lives in [&[(1, 9)][..], &[(1, 9), (2, 11)]] {
        let mut found = contents(&plan, lives);
        found.logs[0].start = 2;
        found.logs[0].records.drain(..2);
        assert!(oracle.check(&found).is_err(), "{lives:?}");
    }
}

#[test]
fn what_the_victim_found_wrong_counts() {
    let mut oracle = Oracle::new(plan());
    assert_eq!(oracle.note(&Said::Wrong("offset 3 twice".to_owned())), Err("offset 3 twice".to_owned()));
    assert!(oracle.note(&Said::Acknowledged { partition: 9, first: 0, end: 1 }).is_err());
}
