//! What was read, compared with what was sent.

use std::collections::BTreeMap;

use thalweg::{GroupDescription, TopicDescription};

use super::readers::{ANALYST, BACK, LIVES, MORTAL, Seen};
use super::stage::Played;
use super::{ANALYTICS, PRICES};
use crate::ticker::Update;

/// What became of one ticker.
#[derive(Default)]
pub(super) struct Ticker {
    pub(super) updates: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) partition: u32,
}

/// A stretch of a partition that one consumer processed.
pub(super) struct Stretch {
    pub(super) life: usize,
    pub(super) from: u64,
    /// Exclusive.
    pub(super) end: u64,
}

#[derive(Default)]
pub(super) struct Checks {
    pub(super) tickers: BTreeMap<&'static str, Ticker>,
    /// Of each partition, who of `prices` processed it, in order.
    pub(super) stretches: BTreeMap<u32, Vec<Stretch>>,
    /// Each update was processed by exactly one consumer of `prices`, once.
    pub(super) complete: bool,
    /// Each ticker's updates were processed in the order of sending.
    pub(super) in_order: bool,
    /// The dead consumer's partitions moved, and it got a share again.
    pub(super) handed_over: bool,
    /// `analytics` processed everything too, in order.
    pub(super) independent: bool,
    /// Both groups have committed everything.
    pub(super) committed: bool,
    pub(super) problems: Vec<String>,
}

impl Checks {
    pub(super) fn of(updates: &[Update], topic: &TopicDescription, played: &Played) -> Checks {
        let mut checks = Checks::default();
        let prices = played.processed.iter().enumerate().filter(|(life, _)| *life != ANALYST);
        let prices: Vec<Seen> = prices.flat_map(|(_, seen)| seen.iter().copied()).collect();
        checks.complete = checks.each_once(PRICES, updates, &prices);
        checks.in_order = checks.each_in_order(PRICES, updates, &prices);
        checks.note_tickers(updates, &prices);
        checks.note_stretches(&prices);
        checks.handed_over = checks.were_handed_over(played);
        let analytics = &played.processed[ANALYST];
        let independent = checks.each_once(ANALYTICS, updates, analytics);
        checks.independent = checks.each_in_order(ANALYTICS, updates, analytics) && independent;
        let committed = checks.all_committed(topic, &played.prices);
        checks.committed = checks.all_committed(topic, &played.analytics) && committed;
        checks
    }

    fn each_once(&mut self, group: &str, updates: &[Update], seen: &[Seen]) -> bool {
        let before = self.problems.len();
        let mut times = vec![0_u64; updates.len()];
        for record in seen {
            match record.number {
                Some(number) => times[number] += 1,
                None => self.problem(record, "a record that wasn't sent so".to_owned()),
            }
        }
        for (number, times) in times.into_iter().enumerate().filter(|(_, times)| *times != 1) {
            self.problems
                .push(format!("{group}: update {number} ({}) was processed {times} times", updates[number].text));
        }
        self.problems.len() == before
    }

    fn each_in_order(&mut self, group: &str, updates: &[Update], seen: &[Seen]) -> bool {
        let before = self.problems.len();
        let mut in_order = seen.to_vec();
        in_order.sort_unstable_by_key(|record| record.order);
        // Of each ticker, its partition and the update that was processed last.
        let mut latest: BTreeMap<&str, (u32, usize)> = BTreeMap::new();
        for record in &in_order {
            let Some(number) = record.number else { continue };
            let ticker = updates[number].ticker;
            if let Some((home, last)) = latest.insert(ticker, (record.partition, number)) {
                if last >= number {
                    self.problem(record, format!("{group}: {ticker} update {number} was processed after {last}"));
                }
                if home != record.partition {
                    self.problem(record, format!("{group}: {ticker} is in partition {home} too"));
                }
            }
        }
        self.problems.len() == before
    }

    fn note_tickers(&mut self, updates: &[Update], seen: &[Seen]) {
        let mut numbers: Vec<_> = seen.iter().filter_map(|record| Some((record.number?, record.partition))).collect();
        numbers.sort_unstable();
        for (number, partition) in numbers {
            let update = &updates[number];
            let ticker = self.tickers.entry(update.ticker).or_default();
            if ticker.updates == 0 {
                (ticker.first, ticker.partition) = (update.price, partition);
            }
            (ticker.updates, ticker.last) = (ticker.updates + 1, update.price);
        }
    }

    fn note_stretches(&mut self, seen: &[Seen]) {
        let mut by_offset = seen.to_vec();
        by_offset.sort_unstable_by_key(|record| (record.partition, record.offset));
        for record in by_offset {
            let stretches = self.stretches.entry(record.partition).or_default();
            match stretches.last_mut() {
                Some(last) if last.life == record.life => last.end = record.offset + 1,
                _ => stretches.push(Stretch { life: record.life, from: record.offset, end: record.offset + 1 }),
            }
        }
    }

    fn were_handed_over(&mut self, played: &Played) -> bool {
        let before = self.problems.len();
        let consumer = LIVES[MORTAL].consumer;
        if played.orphans.is_empty() || played.takeover.is_none() {
            self.problems.push(format!("{consumer} had nothing when it died, or nobody took it over"));
        }
        for partition in &played.orphans {
            let stretches = self.stretches.get(partition).map_or(&[][..], Vec::as_slice);
            let moved = stretches.windows(2).any(|pair| pair[0].life == MORTAL && pair[1].life != MORTAL);
            if !moved {
                self.problems.push(format!("partition {partition}: nobody went on where {consumer} died"));
            }
        }
        if played.processed[BACK].is_empty() {
            self.problems.push(format!("{consumer} processed nothing once it was back"));
        }
        self.problems.len() == before
    }

    fn all_committed(&mut self, topic: &TopicDescription, group: &GroupDescription) -> bool {
        let before = self.problems.len();
        for partition in &topic.partitions {
            let row = group.offsets.iter().find(|row| row.topic == topic.name && row.partition == partition.partition);
            let committed = row.and_then(|row| row.committed);
            if committed != Some(partition.end_offset) {
                let (name, number, end) = (&group.name, partition.partition, partition.end_offset);
                self.problems.push(format!("{name}: partition {number} ends at {end}, committed is {committed:?}"));
            }
        }
        self.problems.len() == before
    }

    fn problem(&mut self, record: &Seen, what: String) {
        let (partition, offset, consumer) = (record.partition, record.offset, LIVES[record.life].consumer);
        self.problems.push(format!("partition {partition} offset {offset}, {consumer}: {what}"));
    }

    pub(super) fn tickers_of(&self, partition: u32) -> Vec<&'static str> {
        self.tickers.iter().filter(|(_, ticker)| ticker.partition == partition).map(|(name, _)| *name).collect()
    }
}
