//! `consume --group`: a topic's records to stdout, from where the group is; what has been printed is
//! committed.
//!
//! A batch counts as printed when it has gone out of this process: stdout is flushed before each
//! commit, and nothing behind a flush that failed is committed. So what dies between the two prints
//! some records again (about 64 KiB of them, or a batch), and never skips one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thalweg::{Acks, Consumer, Engine, Held, OffsetCommit, OnDamage, Polled, RebalanceListener, StartPolicy};

use crate::args::{ConsumeArgs, Start};
use crate::consume::{Sink, starts};
use crate::consume_damage::Damaged;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output::tell;

/// Bytes that are printed for one commit: so much may come twice.
const COMMIT_BYTES: usize = 64 << 10;
/// How long a poll waits for a record.
const WAIT: Duration = Duration::from_secs(1);

pub(crate) fn run(directory: &Directory, json: bool, args: &ConsumeArgs, group: &str) -> Result<(), Failure> {
    let engine = directory.open_to_write()?;
    let topic = engine.describe_topic(&args.topic).map_err(|error| directory.explain(&engine, error))?;
    let begun = Arc::<Mutex<Begun>>::default();
    let begin = Begin {
        engine: engine.clone(),
        from: args.from,
        read_durable: topic.config.read_durable,
        skip: args.skip_damaged,
        begun: begun.clone(),
    };
    // Nobody else can be a member while this process has the directory open: whoever reads what is
    // printed may take as long as they like.
    let consumer = engine.consumer(group).client_id("thalweg-consume").start_from(policy(args.from));
    let consumer = consumer.session_timeout(Duration::MAX).max_poll_interval(Duration::MAX);
    let consumer = if args.skip_damaged { consumer.on_damage(OnDamage::Skip) } else { consumer };
    let consumer = match args.partition {
        Some(partition) => {
            let mut consumer = consumer.assign([(&*args.topic, partition)]).start()?;
            begin.at(&mut consumer, &args.topic, &[partition])?;
            consumer
        }
        None => consumer.subscribe([&*args.topic]).listener(begin).start()?,
    };
    let topic = topic.name;
    let mut reading = Reading { topic, consumer, begun, sink: Sink::new(json, args)?, held: Vec::new() };
    let result = if args.follow { reading.follow() } else { reading.until_the_end() };
    reading.sink.done();
    // Closing makes it durable.
    let result = result.and(reading.commit()).and(lock(&reading.begun).damaged.result(&args.topic));
    drop(reading);
    result.and(directory::close(&engine))
}

/// The nearest that the library has for partitions whose commit is too old. A time is looked up here: where damage
/// hides it, the library would begin none of the partitions.
fn policy(from: Start) -> StartPolicy {
    match from {
        Start::Latest => StartPolicy::Latest,
        Start::Earliest | Start::Offset(_) | Start::Last(_) | Start::Timestamp(_) => StartPolicy::Earliest,
    }
}

/// How far a partition has come.
#[derive(Clone, Copy)]
struct Place {
    /// The offset behind the last record that has gone out.
    reached: u64,
    /// What is committed.
    committed: Option<u64>,
}

/// The partitions that were begun.
#[derive(Default)]
struct Begun {
    places: BTreeMap<u32, Place>,
    /// Those that are left alone from then on. One whose beginning damage hides has no place.
    damaged: Damaged,
    /// Why one could not be begun.
    failure: Option<Failure>,
}

/// Puts partitions in which the group has committed nothing where the user wants to begin.
struct Begin {
    engine: Engine,
    from: Start,
    read_durable: bool,
    /// Whether damaged records are left out.
    skip: bool,
    begun: Arc<Mutex<Begun>>,
}

impl Begin {
    fn at(&self, consumer: &mut Consumer, topic: &str, numbers: &[u32]) -> Result<(), Failure> {
        let mut new = Vec::new();
        let mut all = Vec::new();
        for &number in numbers {
            let committed = consumer.committed(topic, number)?.map(|committed| committed.offset);
            // The library begins elsewhere only for these; for all others the place is stored already.
            if committed.is_none() && !matches!(self.from, Start::Earliest | Start::Latest) {
                new.push(self.engine.partition(topic, number)?);
            }
            all.push((number, committed));
        }
        // One out of range is refused here, where nothing has been printed or committed yet.
        let mut damaged = Damaged::default();
        for (partition, offset) in starts(new, self.from, self.read_durable, self.skip, &mut damaged)? {
            consumer.seek(topic, partition.number(), offset)?;
        }
        for (number, committed) in all {
            if damaged.has(number) {
                consumer.pause(topic, number)?;
                continue;
            }
            let reached = consumer.position(topic, number)?;
            lock(&self.begun).places.insert(number, Place { reached, committed });
        }
        lock(&self.begun).damaged.add(damaged);
        Ok(())
    }
}

impl RebalanceListener for Begin {
    fn on_assigned(&mut self, consumer: &mut Consumer, partitions: &[(String, u32)]) {
        // All are of the one topic that was subscribed to.
        let Some((topic, _)) = partitions.first() else { return };
        let numbers: Vec<_> = partitions.iter().map(|(_, number)| *number).collect();
        if let Err(failure) = self.at(consumer, topic, &numbers) {
            *lock(&self.begun) = Begun { failure: Some(failure), ..Begun::default() };
        }
    }
}

struct Reading {
    topic: String,
    consumer: Consumer,
    begun: Arc<Mutex<Begun>>,
    sink: Sink,
    /// What was said last of partitions that are held back.
    held: Vec<Held>,
}

impl Reading {
    /// Up to the end that each partition has when it is assigned.
    fn until_the_end(&mut self) -> Result<(), Failure> {
        let mut polled = self.poll(Duration::ZERO)?;
        let partitions = self.consumer.stats().partitions;
        let ends: Vec<_> = partitions.into_iter().map(|at| (at.partition, at.end_offset)).collect();
        loop {
            self.print(&polled)?;
            let is_behind = |&(partition, end): &(u32, u64)| {
                let begun = lock(&self.begun);
                !begun.damaged.has(partition) && begun.places.get(&partition).is_some_and(|place| place.reached < end)
            };
            if self.sink.is_full() {
                return Ok(());
            }
            if !ends.iter().any(is_behind) {
                // Damage that took the last records shows behind the end.
                let rest = self.poll(Duration::ZERO)?;
                return self.print(&rest);
            }
            polled = self.poll(Duration::ZERO)?;
            if polled.is_empty() && !polled.held().is_empty() {
                self.tell_held(&polled);
                return Ok(());
            }
        }
    }

    /// Until interrupted, or there were enough.
    fn follow(&mut self) -> Result<(), Failure> {
        while !self.sink.is_full() && !self.has_nothing_left() {
            self.sink.flush_unless_closed()?;
            let polled = self.poll(WAIT)?;
            self.print(&polled)?;
            // What was held when records came may have been let go by committing them.
            if polled.is_empty() {
                self.tell_held(&polled);
            }
        }
        Ok(())
    }

    /// A partition that is damaged is left alone from then on.
    fn poll(&mut self, wait: Duration) -> Result<Polled, Failure> {
        loop {
            let polled = match self.consumer.poll(wait) {
                Ok(polled) => polled,
                Err(error) => {
                    let number = lock(&self.begun).damaged.note(error.clone())?;
                    // One that could not be begun isn't there to be paused.
                    self.consumer.pause(&self.topic, number).map_err(|_| error)?;
                    if self.has_nothing_left() {
                        return Ok(Polled::default());
                    }
                    continue;
                }
            };
            return lock(&self.begun).failure.take().map_or(Ok(polled), Err);
        }
    }

    /// Whether all partitions are damaged.
    fn has_nothing_left(&self) -> bool {
        let damaged = lock(&self.begun).damaged.len();
        damaged > 0 && damaged == self.consumer.assignment().count()
    }

    /// Prints what came, and commits it piece by piece.
    fn print(&mut self, polled: &Polled) -> Result<(), Failure> {
        let mut printed = BTreeMap::new();
        for batch in polled {
            printed.insert(batch.partition(), self.sink.write_up_to(batch)?);
            if self.sink.is_full() {
                break;
            }
            if self.sink.waiting_bytes() >= COMMIT_BYTES {
                self.send_out(&mut printed)?;
            }
        }
        if !self.sink.is_full() {
            // Also what was skipped behind the last record.
            let numbers: Vec<_> = lock(&self.begun).places.keys().copied().collect();
            for number in numbers {
                if let Ok(position) = self.consumer.position(&self.topic, number) {
                    printed.insert(number, position);
                }
            }
        }
        self.send_out(&mut printed)
    }

    /// Flushes what was printed, and commits it.
    fn send_out(&mut self, printed: &mut BTreeMap<u32, u64>) -> Result<(), Failure> {
        self.sink.flush()?;
        for (partition, next) in std::mem::take(printed) {
            if let Some(place) = lock(&self.begun).places.get_mut(&partition) {
                place.reached = next;
            }
        }
        self.commit()
    }

    /// Commits what has gone out; it survives the death of this process.
    fn commit(&mut self) -> Result<(), Failure> {
        let uncommitted = |place: &Place| place.committed != Some(place.reached);
        let commits: Vec<_> = lock(&self.begun)
            .places
            .iter()
            .filter(|(_, place)| uncommitted(place))
            .map(|(&partition, place)| OffsetCommit::new(&*self.topic, partition, place.reached))
            .collect();
        if !commits.is_empty() {
            self.consumer.commit_offsets(commits, Acks::Written)?;
            lock(&self.begun).places.values_mut().for_each(|place| place.committed = Some(place.reached));
        }
        Ok(())
    }

    /// Says what is held back, if that is news.
    fn tell_held(&mut self, polled: &Polled) {
        if polled.held() == self.held {
            return;
        }
        self.held = polled.held().to_vec();
        for held in &self.held {
            let Held { topic, partition, waits_for, until_offset, reached_offset, .. } = held;
            tell(format_args!(
                "held: {topic} partition {partition} waits until partition {waits_for} is committed up to {until_offset}, which is at {reached_offset}"
            ));
        }
    }
}

fn lock(begun: &Mutex<Begun>) -> MutexGuard<'_, Begun> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}
