//! `kill -9` in full flow, again and again on one directory: every record whose acknowledgement was
//! printed is there afterwards, with its value, in order; nothing is there that wasn't sent.

use std::io::Write;

use crate::support::Place;

const PARTITIONS: u32 = 2;

#[test]
fn acknowledged_records_outlive_a_kill() {
    let place = Place::with_topic("t", PARTITIONS);
    // Of each partition, the lines that must be there.
    let mut stored = vec![Vec::<String>::new(); PARTITIONS as usize];
    for round in 0..6 {
        let level = ["written", "synced"][round % 2];
        let sent = move |number: usize| format!("round {round} line {number:07} {}", "x".repeat(number % 200));
        let mut produce = place.start(&["produce", "t", "--json", "--acks", level]);
        let mut stdin = produce.take_stdin();
        let feeder = std::thread::spawn(move || {
            let mut number = 0;
            loop {
                let block: String = (number..number + 500).map(|number| sent(number) + "\n").collect();
                if stdin.write_all(block.as_bytes()).is_err() {
                    return;
                }
                number += 500;
            }
        });
        let mut acknowledged: Vec<String> = (0..3_000 * (round + 1)).map(|_| produce.line()).collect();
        produce.kill();
        // What was printed before it died counts too; the last line may be half.
        let rest = produce.finish();
        assert_eq!(rest.code, None, "killed by a signal: {rest:?}");
        let mut rest = rest.text().to_owned();
        rest.truncate(rest.rfind('\n').map_or(0, |last| last + 1));
        acknowledged.extend(rest.lines().map(str::to_owned));
        feeder.join().unwrap();

        let found: Vec<_> = (0..PARTITIONS)
            .map(|partition| place.run(&["consume", "t", "--partition", &partition.to_string()]).succeeded())
            .collect();
        let found: Vec<Vec<_>> = found.iter().map(|ran| ran.text().lines().map(str::to_owned).collect()).collect();
        for (number, ack) in acknowledged.iter().enumerate() {
            let ack: serde_json::Value = serde_json::from_str(ack).unwrap();
            let (partition, offset) = (ack["partition"].as_u64().unwrap(), ack["offset"].as_u64().unwrap());
            let value = found[partition as usize].get(offset as usize);
            assert_eq!(value, Some(&sent(number)), "round {round}, record {number}: {ack}");
        }
        for (before, found) in stored.iter_mut().zip(found) {
            assert_eq!(&found[..before.len()], &before[..], "round {round}");
            // Beyond the acknowledged ones there may be more, but in order and of this round.
            let fresh = &found[before.len()..];
            assert!(fresh.is_sorted() && fresh.iter().all(|line| line.starts_with(&format!("round {round} "))));
            *before = found;
        }
    }
    place.run(&["verify"]).succeeded();
    place.run_with(&["produce", "t"], b"and on\n").succeeded();
    let total: usize = stored.iter().map(Vec::len).sum();
    assert_eq!(place.run(&["consume", "t"]).succeeded().text().lines().count(), total + 1);
}
