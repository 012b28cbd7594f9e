//! The process that is killed: appends, deletes, polls and commits, and says what was acknowledged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thalweg::{Acks, Consumer, Engine, Error, ErrorKind, Partition, Producer, Receipt, Writers};

use super::chance::Chance;
use super::plan::{Content, GROUP, PARTITIONS, Place, Plan, TOPIC, origin};
use super::said::Said;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::torture::VictimArgs;

/// Receipts that may be waited for in a partition.
const IN_FLIGHT: usize = 256;

/// Why it ends before it is killed.
enum End {
    /// Nobody listens any more.
    Alone,
    Said(Said),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        match error.kind() {
            ErrorKind::NoRoom | ErrorKind::Io | ErrorKind::NotSupported { .. } => {
                End::Said(Said::Unable(error.to_string()))
            }
            _ => End::Said(Said::Wrong(error.to_string())),
        }
    }
}

fn wrong(what: String) -> End {
    End::Said(Said::Wrong(what))
}

pub(in crate::torture) fn victim(directory: &Directory, args: &VictimArgs) -> Result<(), Failure> {
    let plan = Plan::new(args.seed)?;
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(Failure::stdout)?;
    let voice = Voice(File::from(stdout));
    match live(directory, &plan, args.life, &voice) {
        Err(End::Said(said)) => {
            // To whom else?
            let _ = voice.say(&said);
            Err(Failure::new(said.to_string()))
        }
        Ok(()) | Err(End::Alone) => Ok(()),
    }
}

/// Where it is said: one write a line, so that none is lost or torn when this process dies.
struct Voice(File);

impl Voice {
    fn say(&self, said: &Said) -> Result<(), End> {
        (&self.0).write_all(format!("{said}\n").as_bytes()).map_err(|_| End::Alone)
    }
}

fn live(directory: &Directory, plan: &Plan, life: u32, voice: &Voice) -> Result<(), End> {
    let engine = plan.settings(Engine::builder(directory.path()), life).open()?;
    voice.say(&Said::Opened)?;
    let chance = Chance::of(&[plan.seed, 4, life.into()]);
    match engine.create_topic(TOPIC, plan.topic.clone()) {
        Ok(()) => voice.say(&Said::MadeTopic)?,
        Err(error) if matches!(error.kind(), ErrorKind::TopicExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let producer = engine.producer_for(TOPIC)?;
    let partitions = (0..PARTITIONS).map(|number| engine.partition(TOPIC, number)).collect::<Result<Vec<_>, _>>()?;
    let next = partitions.iter().map(Partition::next_offset).collect();
    let waiting = partitions.iter().map(|_| Default::default()).collect();
    let steps = plan.steps(life).unwrap_or(u64::MAX);
    let mut sender = Sender { plan, life, voice, chance, producer, partitions, next, waiting };
    let consumer = engine.consumer(GROUP).subscribe([TOPIC]).start()?;
    let chance = Chance::of(&[plan.seed, 5, life.into()]);
    let mut reader = Reader { plan, voice, chance, consumer };
    if plan.writers(life) == Writers::Inline {
        // Without threads in the engine, none here.
        (0..steps).try_for_each(|step| {
            if step.is_multiple_of(4) {
                reader.step()?;
            }
            sender.step()
        })?;
    } else {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    reader.step()?;
                }
                Ok(())
            });
            let sent = (0..steps).take_while(|_| !reading.is_finished()).try_for_each(|_| sender.step());
            over.store(true, Ordering::SeqCst);
            let read = reading.join().unwrap_or_else(|_| Err(wrong("the reading thread panicked".to_owned())));
            sent.and(read)
        })?;
    }
    sender.settle(0)?;
    engine.close()?;
    voice.say(&Said::Closed)
}

struct Sender<'a> {
    plan: &'a Plan,
    life: u32,
    voice: &'a Voice,
    chance: Chance,
    producer: Producer,
    partitions: Vec<Partition>,
    /// The offset that each partition gives next.
    next: Vec<u64>,
    /// Of each partition, what waits to be written, and to be synced.
    waiting: Vec<[VecDeque<Receipt>; 2]>,
}

impl Sender<'_> {
    fn step(&mut self) -> Result<(), End> {
        match self.chance.below(64) {
            0 => self.delete()?,
            1..8 => self.send_batch()?,
            8..12 => {
                self.send()?;
                self.settle(0)?;
            }
            _ => {
                for _ in 0..self.chance.below(24) {
                    self.send()?;
                }
            }
        }
        self.settle(IN_FLIGHT)
    }

    fn send(&mut self) -> Result<(), End> {
        let partition = self.chance.below(PARTITIONS.into()) as u32;
        let acks = self.acks();
        let content = self.contents(partition, 1).remove(0);
        let mut record = content.as_record(acks);
        if content.key.is_none() {
            record = record.partition(partition);
        }
        let receipt = self.producer.send(record)?;
        self.sent(partition, 1, receipt)
    }

    fn send_batch(&mut self) -> Result<(), End> {
        let partition = self.chance.below(PARTITIONS.into()) as u32;
        let acks = self.acks();
        let count = 1 + self.chance.below(20);
        let contents = self.contents(partition, count);
        let records: Vec<_> = contents.iter().map(|content| content.as_record(acks)).collect();
        let receipt = self.partitions[partition as usize].append_batch(&records)?;
        self.sent(partition, count, receipt)
    }

    fn acks(&mut self) -> Acks {
        self.chance.pick(&[Acks::None, Acks::Written, Acks::Written, Acks::Written, Acks::Synced])
    }

    fn contents(&self, partition: u32, count: u64) -> Vec<Content> {
        let first = self.next[partition as usize];
        let place = |number| Place { life: self.life, partition, offset: first + number };
        (0..count).map(|number| self.plan.record(place(number), (count - 1 - number) as u16)).collect()
    }

    fn sent(&mut self, partition: u32, count: u64, receipt: Receipt) -> Result<(), End> {
        let next = &mut self.next[partition as usize];
        let expected = *next..*next + count;
        if (receipt.partition(), receipt.offsets()) != (partition, expected.clone()) {
            let (got, at) = (receipt.offsets(), receipt.partition());
            return Err(wrong(format!(
                "offsets {got:?} of partition {at} were given instead of {expected:?} of {partition}"
            )));
        }
        *next = expected.end;
        let [written, synced] = &mut self.waiting[partition as usize];
        match receipt.acks() {
            Acks::None => {}
            Acks::Written => written.push_back(receipt),
            Acks::Synced => synced.push_back(receipt),
        }
        Ok(())
    }

    /// Says what is acknowledged by now; waits until at most `left` of a kind are not.
    fn settle(&mut self, left: usize) -> Result<(), End> {
        for waiting in self.waiting.iter_mut().flatten() {
            while let Some(receipt) = waiting.front() {
                if waiting.len() > left {
                    receipt.wait()?;
                } else if !receipt.is_acknowledged()? {
                    break;
                }
                let Range { start: first, end } = receipt.offsets();
                let partition = receipt.partition();
                self.voice.say(&Said::Acknowledged { partition, first, end })?;
                if receipt.acks() == Acks::Synced {
                    self.voice.say(&Said::Synced { partition, end })?;
                }
                waiting.pop_front();
            }
        }
        Ok(())
    }

    fn delete(&mut self) -> Result<(), End> {
        let number = self.chance.below(PARTITIONS.into()) as u32;
        let partition = &self.partitions[number as usize];
        let (start, end) = (partition.log_start_offset(), partition.end_offset());
        let before = start + self.chance.below(end - start + 1);
        self.voice.say(&Said::Deleting { partition: number, before })?;
        partition.delete_records(before)?;
        self.voice.say(&Said::Deleted { partition: number, before })
    }
}

/// The member of the group: polls, compares, commits.
struct Reader<'a> {
    plan: &'a Plan,
    voice: &'a Voice,
    chance: Chance,
    consumer: Consumer,
}

impl Reader<'_> {
    fn step(&mut self) -> Result<(), End> {
        for batch in self.consumer.poll(Duration::from_millis(2))? {
            let partition = batch.partition();
            for record in &batch {
                let (offset, value) = (record.offset(), record.value().unwrap_or_default());
                let sent = origin(value)
                    .map(|(life, following)| self.plan.record(Place { life, partition, offset }, following));
                if sent.is_none_or(|sent| sent.value != value || sent.key.as_deref() != record.key()) {
                    return Err(wrong(format!(
                        "partition {partition}: a reader got something else at offset {offset}"
                    )));
                }
            }
        }
        if self.chance.once_in(2) {
            let acks = self.chance.pick(&[Acks::Written, Acks::Written, Acks::Synced]);
            commit(&mut self.consumer, self.voice, acks)?;
        }
        Ok(())
    }
}

fn commit(consumer: &mut Consumer, voice: &Voice, acks: Acks) -> Result<(), End> {
    let assigned: Vec<_> = consumer.assignment().map(|(_, partition)| partition).collect();
    let position = |partition| Ok((partition, consumer.position(TOPIC, partition)?));
    let offsets = assigned.into_iter().map(position).collect::<Result<Vec<_>, Error>>()?;
    voice.say(&Said::Committing(offsets.clone()))?;
    match consumer.commit_at(acks) {
        Ok(()) => voice.say(&Said::Committed(offsets)),
        // The machine was so slow that the group gave it up; the next poll joins again.
        Err(error) if matches!(error.kind(), ErrorKind::UnknownMember { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
