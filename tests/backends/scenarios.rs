//! The scenarios. Each takes a fresh backend and asserts exact values and error kinds.

use std::time::Duration;

use thalweg::{Acks, Batch, Engine, ErrorKind, Partition, Record, TopicConfig};

use super::Backend;

pub(crate) fn small() -> TopicConfig {
    TopicConfig::default().segment_bytes(64 << 10).acks(Acks::Written)
}

fn values(batches: impl IntoIterator<Item = Batch>) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for batch in batches {
        values.extend((&batch).into_iter().map(|record| record.value().unwrap().to_vec()));
    }
    values
}

pub(crate) fn all(partition: &Partition) -> Vec<Vec<u8>> {
    values(partition.read(..).unwrap().map(Result::unwrap))
}

/// Sends `count` numbered records of `bytes` bytes to a partition, and waits for the last.
fn fill(engine: &Engine, topic: &str, count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let partition = engine.partition(topic, 0).unwrap();
    let sent: Vec<Vec<u8>> = (0..count).map(|number| format!("{number:0bytes$}").into_bytes()).collect();
    let mut last = None;
    for value in &sent {
        last = Some(partition.append(&Record::new(value)).unwrap());
    }
    last.unwrap().wait().unwrap();
    sent
}

pub(crate) fn everything_sent_comes_back_in_order(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().partitions(3)).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let mut receipts = Vec::new();
    for number in 0..3_000u32 {
        receipts.push(producer.send(Record::new(&number.to_le_bytes()).partition(number % 3)).unwrap());
    }
    for (number, receipt) in receipts.iter().enumerate() {
        let at = receipt.wait().unwrap();
        assert_eq!((at.partition, at.offset), (number as u32 % 3, number as u64 / 3));
    }
    for number in 0..3u32 {
        let expected: Vec<_> = (0..1_000u32).map(|at| (at * 3 + number).to_le_bytes().to_vec()).collect();
        assert_eq!(all(&engine.partition("t", number).unwrap()), expected);
    }
    engine.close().unwrap();
}

pub(crate) fn c1_records_of_one_key_stay_in_order_in_one_partition(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().partitions(4)).unwrap();
    let producer = engine.producer_for("t").unwrap();
    for number in 0..500u32 {
        let key = format!("key-{}", number % 7);
        let _ = producer.send(Record::new(&number.to_le_bytes()).key(&key)).unwrap();
    }
    engine.flush().unwrap();
    let mut seen = 0;
    for key in 0..7u32 {
        let name = format!("key-{key}");
        let mut homes = Vec::new();
        for partition in 0..4 {
            let batches: Vec<_> =
                engine.partition("t", partition).unwrap().read(..).unwrap().map(Result::unwrap).collect();
            let mine: Vec<u32> = batches
                .iter()
                .flat_map(|batch| batch.iter())
                .filter(|record| record.key() == Some(name.as_bytes()))
                .map(|record| u32::from_le_bytes(record.value().unwrap().try_into().unwrap()))
                .collect();
            if !mine.is_empty() {
                assert!(mine.is_sorted(), "C1: {name} in partition {partition}: {mine:?}");
                seen += mine.len();
                homes.push(partition);
            }
        }
        assert_eq!(homes.len(), 1, "{name}");
    }
    assert_eq!(seen, 500);
}

pub(crate) fn d1_synced_means_durable(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let receipt = partition.append(&Record::new("a").acks(Acks::Synced)).unwrap();
    receipt.wait().unwrap();
    assert_eq!(partition.durable_offset(), 1);
    assert!(receipt.is_acknowledged().unwrap());
    let later = partition.append(&Record::new("b")).unwrap();
    later.wait().unwrap();
    assert_eq!(partition.end_offset(), 2);
    partition.wait_durable(2).unwrap();
    assert_eq!(partition.durable_offset(), 2);
    let none = partition.append(&Record::new("c").acks(Acks::None)).unwrap();
    assert_eq!(none.wait().unwrap().offset, 2);
    engine.sync().unwrap();
    assert_eq!(partition.durable_offset(), 3);
}

pub(crate) fn a_batch_is_all_or_nothing(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().partitions(2).max_message_bytes(2_000)).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let receipt = producer.send_batch(&[Record::new("a").key("k"), Record::new("b").key("k")]).unwrap();
    assert_eq!(receipt.offsets(), 0..2);
    receipt.wait().unwrap();
    let number = receipt.partition();

    let large = vec![0; 3_000];
    let error = producer.send_batch(&[Record::new("c").key("k"), Record::new(&large).key("k")]).unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::RecordTooLarge { bytes: 3_024, limit: 2_000, setting: "max.message.bytes" },
        "{error}"
    );
    let apart = [Record::new("d").partition(0), Record::new("e").partition(1)];
    assert!(matches!(producer.send_batch(&apart).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    assert!(matches!(producer.send_batch(&[]).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
    engine.flush().unwrap();
    assert_eq!(all(&engine.partition("t", number).unwrap()), [b"a".to_vec(), b"b".to_vec()]);

    // Larger than a batch usually is: one batch all the same.
    let many: Vec<_> = (0..200).map(|_| Record::new(&large[..1_000]).partition(0)).collect();
    let receipt = producer.send_batch(&many).unwrap();
    receipt.wait().unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let batch = partition.read(receipt.offset()..).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.offsets(), receipt.offsets());
}

pub(crate) fn append_if_compares_the_end(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let receipt = partition.append_if(0, &[Record::new("a"), Record::new("b")]).unwrap();
    assert_eq!(receipt.offsets(), 0..2);
    let error = partition.append_if(1, &[Record::new("c")]).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::EndMismatch { expected: 1, end: 2 });
    assert_eq!(partition.append_if(2, &[Record::new("d")]).unwrap().wait().unwrap().offset, 2);
    assert_eq!(partition.next_offset(), 3);
    assert_eq!(all(&partition), [b"a".to_vec(), b"b".to_vec(), b"d".to_vec()]);
}

pub(crate) fn segments_roll_and_reading_crosses_them(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().batch_bytes(4 << 10)).unwrap();
    let sent = fill(&engine, "t", 4_000, 100);
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(all(&partition), sent);
    let files = backend.segment_files("t", 0);
    assert!(files.len() >= 7, "4,000 records of 120 bytes in segments of 64 KiB: {files:?}");
    for from in [0, 1, 545, 2_000, 3_999] {
        let read = values(partition.read(from..).unwrap().map(Result::unwrap));
        assert_eq!(read, sent[from as usize..], "from {from}");
    }
    let some = values(partition.read(600..=1_800).unwrap().map(Result::unwrap));
    assert_eq!(some, sent[600..=1_800]);
    let last = values(partition.last(5).unwrap().map(Result::unwrap));
    assert_eq!(last, sent[3_995..]);
    assert_eq!(values(partition.last(1 << 40).unwrap().map(Result::unwrap)), sent);
    // One batch that is larger than a segment gets one of its own.
    let large = vec![7; 150_000];
    let at = partition.append(&Record::new(&large)).unwrap().wait().unwrap();
    assert_eq!(partition.get(at.offset).unwrap().view().value(), Some(&large[..]));
    partition.append(&Record::new("behind it")).unwrap().wait().unwrap();
    assert_eq!(partition.get(4_001).unwrap().view().value(), Some(&b"behind it"[..]));
    engine.close().unwrap();
    let engine = backend.open();
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(values(partition.read(..4_000).unwrap().map(Result::unwrap)), sent);
    assert_eq!(partition.get(4_000).unwrap().view().value(), Some(&large[..]));
}

pub(crate) fn lookups_by_offset_and_timestamp(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().batch_bytes(1 << 10).index_interval_bytes(4 << 10)).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    for number in 0..3_000u64 {
        // Times rise by tens, but every seventh record is late.
        let late = if number.is_multiple_of(7) { 500 } else { 0 };
        let time = 1_000_000 + number as i64 * 10 - late;
        let _ = partition.append(&Record::new(&number.to_le_bytes()).timestamp(time)).unwrap();
    }
    engine.flush().unwrap();
    let expected = |time: i64| {
        (0..3_000u64).find(|number| {
            let late = if number.is_multiple_of(7) { 500 } else { 0 };
            1_000_000 + *number as i64 * 10 - late >= time
        })
    };
    for round in 0..2 {
        let engine = if round == 0 { engine.clone() } else { backend.open() };
        let partition = engine.partition("t", 0).unwrap();
        for offset in (0..3_000).step_by(37).chain([2_999]) {
            let record = partition.get(offset).unwrap();
            assert_eq!(record.view().value(), Some(&offset.to_le_bytes()[..]));
            assert_eq!(record.offset(), offset);
        }
        for time in (999_000..1_031_000).step_by(333) {
            assert_eq!(partition.offset_for_timestamp(time).unwrap(), expected(time), "time {time}, round {round}");
        }
        engine.close().unwrap();
    }
}

pub(crate) fn views_outlive_rolling_retention_and_deletion(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let first = fill(&engine, "t", 300, 50);
    let partition = engine.partition("t", 0).unwrap();
    let held: Vec<Batch> = partition.read(..).unwrap().map(Result::unwrap).collect();
    let one = partition.get(7).unwrap();
    fill(&engine, "t", 3_000, 100);
    assert_eq!(values(held.clone()), first, "after rolling");
    partition.delete_records(2_000).unwrap();
    assert_eq!(partition.log_start_offset(), 2_000);
    assert_eq!(values(held.clone()), first, "after their segment was dropped");
    engine.delete_topic("t").unwrap();
    assert_eq!(values(held.clone()), first, "after the topic was deleted");
    engine.close().unwrap();
    assert_eq!(values(held), first, "after the engine was closed");
    assert_eq!(one.view().value(), Some(&first[7][..]));
}

pub(crate) fn reading_out_of_range(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let empty = ErrorKind::OffsetOutOfRange { requested: 0, start: 0, end: 0 };
    assert_eq!(partition.get(0).unwrap_err().kind(), &empty);
    assert_eq!(partition.read(..).unwrap().count(), 0);
    fill(&engine, "t", 10, 8);
    let beyond = ErrorKind::OffsetOutOfRange { requested: 11, start: 0, end: 10 };
    assert_eq!(partition.read(11..).unwrap_err().kind(), &beyond);
    assert_eq!(partition.read(10..).unwrap().count(), 0);
    let at_end = ErrorKind::OffsetOutOfRange { requested: 10, start: 0, end: 10 };
    assert_eq!(partition.get(10).unwrap_err().kind(), &at_end);
    partition.delete_records(4).unwrap();
    let below = ErrorKind::OffsetOutOfRange { requested: 3, start: 4, end: 10 };
    for error in [partition.get(3).unwrap_err(), partition.read(3..).unwrap_err()] {
        assert_eq!(error.kind(), &below);
        assert_eq!((error.topic(), error.partition()), (Some("t"), Some(0)));
    }
    assert_eq!(all(&partition).len(), 6);
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    consumer.seek("t", 0, 3).unwrap();
    assert_eq!(consumer.poll(Duration::from_secs(1)).unwrap_err().kind(), &below);
    consumer.seek("t", 0, 9).unwrap();
    assert_eq!(consumer.poll(Duration::from_secs(1)).unwrap().batches()[0].offsets(), 9..10);
    assert!(matches!(partition.delete_records(11).unwrap_err().kind(), ErrorKind::OffsetOutOfRange { .. }));
}

pub(crate) fn records_of_every_shape(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let records = [
        Record::new("v").key("k").timestamp(5),
        Record::new("").key("").timestamp(0),
        Record::tombstone().key("k").timestamp(0),
        Record::tombstone().timestamp(0),
        Record::new("v").header("a", "1").header("a", "").null_header("b").timestamp(-5),
    ];
    partition.append_batch(&records).unwrap().wait().unwrap();
    engine.close().unwrap();
    let engine = backend.open();
    let batches: Vec<_> = engine.partition("t", 0).unwrap().read(..).unwrap().map(Result::unwrap).collect();
    let read: Vec<_> = batches.iter().flat_map(|batch| batch.iter()).collect();
    let parts: Vec<_> = read.iter().map(|record| (record.key(), record.value())).collect();
    let text = |text: &'static str| Some(text.as_bytes());
    assert_eq!(
        parts,
        [(text("k"), text("v")), (text(""), text("")), (text("k"), None), (None, None), (None, text("v"))]
    );
    assert_eq!((read[0].timestamp(), read[4].timestamp()), (5, -5));
    let headers: Vec<_> = read[4].headers().collect();
    assert_eq!(headers, [("a", text("1")), ("a", text("")), ("b", None)]);
    // Timestamps that lie too far apart for one batch.
    let partition = engine.partition("t", 0).unwrap();
    for time in [0, i64::MAX, i64::MIN, 1 << 40] {
        let at = partition.append(&Record::new("far").timestamp(time)).unwrap().wait().unwrap();
        assert_eq!(partition.get(at.offset).unwrap().view().timestamp(), time);
    }
    let apart = [Record::new("a").timestamp(0), Record::new("b").timestamp(1 << 40)];
    let error = partition.append_batch(&apart).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidArgument { .. }), "{error}");
}

pub(crate) fn size_limits(backend: &Backend) {
    let engine = backend.builder().max_batch_bytes(200_000).open().unwrap();
    engine.create_topic("t", small().max_message_bytes(150_000)).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let fits = vec![1; 149_984];
    assert_eq!(partition.append(&Record::new(&fits)).unwrap().wait().unwrap().offset, 0);
    let error = partition.append(&Record::new(&vec![1; 149_985])).unwrap_err();
    let expected = ErrorKind::RecordTooLarge { bytes: 150_008, limit: 150_000, setting: "max.message.bytes" };
    assert_eq!(error.kind(), &expected);
    let error = partition.append_batch(&[Record::new(&fits), Record::new(&fits)]).unwrap_err();
    let expected = ErrorKind::RecordTooLarge { bytes: 300_096, limit: 200_000, setting: "max_batch_bytes" };
    assert_eq!(error.kind(), &expected);
    assert_eq!(partition.next_offset(), 1);
    let error = backend.builder().max_batch_bytes(1 << 30).open().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidConfig { field: "max_batch_bytes", .. }), "{error}");
}

pub(crate) fn try_send_says_full(backend: &Backend) {
    let builder = backend.builder().buffer_bytes(1 << 20).write_bytes(64 << 10).max_batch_bytes(256 << 10);
    let engine = builder.open().unwrap();
    engine.create_topic("t", small().segment_bytes(8 << 20)).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let value = vec![3; 10_000];
    // Waiting is never needed: what doesn't fit says so, and send gets everything in.
    let (mut taken, mut full) = (0, 0);
    for _ in 0..400 {
        match producer.try_send(Record::new(&value)) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::Full);
                full += 1;
            }
        }
    }
    for _ in 0..full {
        let _ = producer.send(Record::new(&value)).unwrap();
    }
    engine.flush().unwrap();
    assert_eq!(taken + full, 400);
    assert_eq!(all(&engine.partition("t", 0).unwrap()).len(), 400);
}

pub(crate) fn a_consumer_sees_what_comes(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().partitions(3)).unwrap();
    let mut consumer = engine.assign([("t", 0), ("t", 2)]).unwrap();
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert!(consumer.poll(Duration::from_millis(1)).unwrap().is_empty());
    let producer = engine.producer_for("t").unwrap();
    for number in 0..30u32 {
        let _ = producer.send(Record::new(&number.to_le_bytes()).partition(number % 3)).unwrap();
    }
    engine.flush().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 20 {
        for batch in consumer.poll(Duration::from_secs(5)).unwrap() {
            for record in &batch {
                seen.push((batch.partition(), record.offset()));
            }
        }
    }
    seen.sort_unstable();
    let expected: Vec<_> = [0, 2].iter().flat_map(|&partition| (0..10).map(move |at| (partition, at))).collect();
    assert_eq!(seen, expected);
    assert_eq!(consumer.position("t", 0).unwrap(), 10);

    consumer.pause("t", 0).unwrap();
    let _ = producer.send(Record::new("paused").partition(0)).unwrap();
    engine.flush().unwrap();
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    consumer.resume("t", 0).unwrap();
    assert_eq!(values(consumer.poll(Duration::from_secs(5)).unwrap()), [b"paused".to_vec()]);
    consumer.seek_to_beginning("t", 2).unwrap();
    assert_eq!(consumer.poll(Duration::from_secs(5)).unwrap().batches()[0].offsets().start, 0);
    consumer.seek_to_end("t", 2).unwrap();
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert!(consumer.seek("t", 1, 0).is_err());
    assert!(engine.assign([("t", 0), ("t", 0)]).is_err());
    assert_eq!(
        engine.assign([("t", 3)]).unwrap_err().kind(),
        &ErrorKind::UnknownPartition { partition: 3, partitions: 3 }
    );
}

pub(crate) fn topics_come_and_go(backend: &Backend) {
    let engine = backend.open();
    assert_eq!(engine.topics().unwrap(), Vec::<String>::new());
    engine.create_topic("b", small().partitions(2)).unwrap();
    engine.create_topic("a", small()).unwrap();
    assert_eq!(engine.topics().unwrap(), ["a", "b"]);
    for taken in ["a", "A"] {
        let error = engine.create_topic(taken, small()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TopicExists { topic: "a".into() });
    }
    // Wanted again, a topic stays as it is; only its exact name is it.
    assert!(!engine.ensure_topic("a", small().acks(Acks::Written)).unwrap());
    assert_eq!(engine.describe_topic("a").unwrap().config, small());
    let error = engine.ensure_topic("A", small()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::TopicExists { topic: "a".into() });
    for taken in ["a", "d"] {
        let error = engine.ensure_topic(taken, small().partitions(0)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidConfig { field: "partitions", .. }), "{error}");
    }
    assert!(engine.ensure_topic("d", small()).unwrap());
    engine.delete_topic("d").unwrap();
    let long = "n".repeat(250);
    for bad in ["", "..", ".", "a/b", "a\0b", "ä", "a b", &long, ".deleted-1"] {
        let error = engine.create_topic(bad, small()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidTopicName { .. }), "{bad:?}: {error}");
    }
    let longest = "n".repeat(249);
    engine.create_topic(&longest, small()).unwrap();
    engine.delete_topic(&longest).unwrap();
    let error = engine.create_topic("none", small().partitions(0)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidConfig { field: "partitions", .. }), "{error}");
    let unknown = ErrorKind::UnknownTopic { topic: "c".into() };
    assert_eq!(engine.delete_topic("c").unwrap_err().kind(), &unknown);
    assert_eq!(engine.producer_for("c").unwrap_err().kind(), &unknown);
    assert_eq!(engine.producer().send(Record::new("x").topic("c")).unwrap_err().kind(), &unknown);
    assert!(matches!(engine.producer().send(Record::new("x")).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));

    let producer = engine.producer_for("a").unwrap();
    producer.send(Record::new("old")).unwrap().wait().unwrap();
    let old = engine.describe_topic("a").unwrap();
    engine.delete_topic("a").unwrap();
    let error = producer.send(Record::new("late")).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::UnknownTopic { topic: "a".into() });
    engine.create_topic("a", small()).unwrap();
    // The old handle doesn't reach the new topic, and says how to.
    let error = producer.send(Record::new("later")).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::UnknownTopic { topic: "a".into() });
    assert!(error.to_string().contains("get a new handle"), "{error}");
    let new = engine.describe_topic("a").unwrap();
    assert_ne!(old.id, new.id, "another life");
    assert_eq!(new.partitions[0].end_offset, 0);
    engine.close().unwrap();
    let engine = backend.open();
    assert_eq!(engine.topics().unwrap(), ["a", "b"]);
    assert_eq!(engine.describe_topic("b").unwrap().partitions.len(), 2);
    assert_eq!(all(&engine.partition("a", 0).unwrap()), Vec::<Vec<u8>>::new());
}

pub(crate) fn reopening_goes_on(backend: &Backend) {
    let mut expected = Vec::new();
    for life in 0..5u32 {
        let engine = backend.open();
        assert!(engine.recovery().clean || life == 0);
        assert!(engine.recovery().partitions.is_empty());
        if life == 0 {
            engine.create_topic("t", small()).unwrap();
        }
        let partition = engine.partition("t", 0).unwrap();
        assert_eq!(all(&partition), expected);
        for number in 0..400u32 {
            let value = format!("{life}-{number:0100}").into_bytes();
            let _ = partition.append(&Record::new(&value)).unwrap();
            expected.push(value);
        }
        // Dropping the last handle closes cleanly.
        if life % 2 == 0 {
            engine.close().unwrap();
        }
    }
}

pub(crate) fn d7_a_second_writer_is_refused(backend: &Backend) {
    let engine = backend.open();
    let error = backend.builder().open().unwrap_err();
    match error.kind() {
        ErrorKind::Locked { holder } => {
            assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
        }
        other => panic!("{other:?}"),
    }
    engine.close().unwrap();
    backend.open().close().unwrap();
}

pub(crate) fn read_only_beside_the_writer(backend: &Backend) {
    let writer = backend.open();
    writer.create_topic("t", small()).unwrap();
    let first = fill(&writer, "t", 500, 100);
    let reader = backend.builder().read_only().open().unwrap();
    let partition = reader.partition("t", 0).unwrap();
    assert_eq!(all(&partition), first);
    // What comes later, over several segments, and topics made later.
    let more = fill(&writer, "t", 3_000, 100);
    let mut consumer = reader.assign([("t", 0)]).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3_500 {
        seen.extend(values(consumer.poll(Duration::from_secs(5)).unwrap()));
    }
    assert_eq!(seen, [first, more].concat());
    writer.create_topic("later", small()).unwrap();
    fill(&writer, "later", 3, 8);
    assert_eq!(reader.topics().unwrap(), ["later", "t"]);
    assert_eq!(all(&reader.partition("later", 0).unwrap()).len(), 3);
    let refused = [
        reader.create_topic("x", small()).unwrap_err(),
        reader.delete_topic("t").unwrap_err(),
        partition.append(&Record::new("x")).unwrap_err(),
        reader.producer_for("t").unwrap().send(Record::new("x")).unwrap_err(),
        partition.delete_records(1).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), &ErrorKind::ReadOnly);
    }
    writer.close().unwrap();
}

pub(crate) fn closed_handles_say_so(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let producer = engine.producer_for("t").unwrap();
    let receipt = producer.send(Record::new("x")).unwrap();
    let mut consumer = engine.assign([("t", 0)]).unwrap();
    engine.close().unwrap();
    engine.close().unwrap();
    assert_eq!(receipt.wait().unwrap().offset, 0, "what was sent before is written by closing");
    assert_eq!(producer.send(Record::new("y")).unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(engine.create_topic("u", small()).unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(engine.producer_for("t").unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(values(consumer.poll(Duration::from_secs(5)).unwrap()), [b"x".to_vec()]);
    assert_eq!(consumer.poll(Duration::from_secs(5)).unwrap_err().kind(), &ErrorKind::Closed);
}

pub(crate) fn typed_values_lie_aligned(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let partition = engine.partition("t", 0).unwrap();
    for number in 0..100u64 {
        let value = [number, number * 2, number * 3];
        let bytes: Vec<u8> = value.iter().flat_map(|part| part.to_le_bytes()).collect();
        let key = "k".repeat(number as usize % 9);
        let _ = partition.append(&Record::new(&bytes).key(&key)).unwrap();
    }
    engine.flush().unwrap();
    let batches: Vec<_> = partition.read(..).unwrap().map(Result::unwrap).collect();
    for record in batches.iter().flat_map(|batch| batch.iter()) {
        for bytes in [record.key().unwrap(), record.value().unwrap()] {
            assert_eq!(bytes.as_ptr().align_offset(8), 0, "offset {}", record.offset());
        }
    }
}

pub(crate) fn retention_drops_the_oldest(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small().retention_bytes(Some(200_000))).unwrap();
    fill(&engine, "t", 8_000, 100);
    let partition = engine.partition("t", 0).unwrap();
    partition.wait_durable(8_000).unwrap();
    // Whoever waits does the background work of an engine without threads; others have threads.
    let mut waited = 0;
    while engine.describe_topic("t").unwrap().partitions[0].bytes > 300_000 {
        // At the end: what is dropped meanwhile may be the log's start. With a pause, or more would be appended than
        // is dropped.
        let mut consumer = engine.assign([("t", 0)]).unwrap();
        consumer.seek_to_end("t", 0).unwrap();
        consumer.poll(Duration::from_millis(1)).unwrap();
        let _ = partition.append(&Record::new("tick")).unwrap().wait_for(Duration::from_millis(10)).unwrap();
        waited += 1;
        assert!(waited < 100_000, "nothing was dropped: {:?}", engine.describe_topic("t").unwrap());
    }
    // More may be dropped at any time: what is read counts if nothing was meanwhile.
    let (start, first) = loop {
        let start = partition.log_start_offset();
        let first = partition.read(..).map(|mut batches| batches.next());
        if partition.log_start_offset() == start {
            break (start, first.unwrap().unwrap().unwrap());
        }
    };
    assert!(start > 4_000, "{start}");
    assert_eq!(first.offsets().start, start);
    engine.close().unwrap();
    let engine = backend.open();
    assert!(engine.partition("t", 0).unwrap().log_start_offset() >= start);
}

pub(crate) fn a_clock_that_went_ahead_keeps_nothing_for_ever(backend: &Backend) {
    let Backend::Sim { clock, .. } = backend else { return };
    let engine = backend.open();
    engine.create_topic("t", small().retention_ms(Some(60_000))).unwrap();
    let began = thalweg::Clock::wall_ms(clock);
    for wall_ms in [began + 1_000_000_000_000, began] {
        clock.set_wall_ms(wall_ms);
        fill(&engine, "t", 1_500, 100);
    }
    engine.sync().unwrap();
    let partition = engine.partition("t", 0).unwrap();
    let look = || {
        clock.advance(Duration::from_secs(30));
        partition.append(&Record::new("tick")).unwrap().wait().unwrap();
        partition.log_start_offset()
    };
    assert_eq!(look(), 0, "nothing is old yet");
    look();
    let start = (0..10).map(|_| look()).find(|&start| start > 0);
    assert!(start > Some(1_500), "the segments from the future are as old as those after them: {start:?}");
}

pub(crate) fn a_segment_rolls_by_age(backend: &Backend) {
    let Backend::Sim { clock, .. } = backend else { return };
    let engine = backend.open();
    engine.create_topic("t", small().segment_ms(Some(10_000))).unwrap();
    fill(&engine, "t", 1, 8);
    clock.advance(Duration::from_millis(9_999));
    fill(&engine, "t", 1, 8);
    assert_eq!(backend.segment_files("t", 0).len(), 1);
    clock.advance(Duration::from_millis(1));
    fill(&engine, "t", 1, 8);
    assert_eq!(backend.segment_files("t", 0).len(), 2);
}

pub(crate) fn log_start_survives_reopening(backend: &Backend) {
    let engine = backend.open();
    engine.create_topic("t", small()).unwrap();
    let sent = fill(&engine, "t", 2_000, 100);
    engine.partition("t", 0).unwrap().delete_records(1_234).unwrap();
    engine.close().unwrap();
    let engine = backend.open();
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!((partition.log_start_offset(), partition.end_offset()), (1_234, 2_000));
    assert_eq!(all(&partition), sent[1_234..]);
    partition.delete_records(2_000).unwrap();
    engine.close().unwrap();
    let engine = backend.open();
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!((partition.log_start_offset(), partition.end_offset()), (2_000, 2_000));
    assert_eq!(partition.append(&Record::new("next")).unwrap().wait().unwrap().offset, 2_000);
    assert_eq!(all(&partition), [b"next".to_vec()]);
}
