//! What must be in a directory after its process was killed, and whether it is.
//!
//! It knows only what victims said and what it found there before. What was found once was written,
//! and so outlives every later kill; beyond that only lives since then may have left something.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::plan::{Content, Place, Plan, origin};
use super::said::Said;

/// What stands in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Contents {
    pub(super) logs: Vec<Log>,
    /// Of each partition, the group's committed offset.
    pub(super) committed: Vec<Option<u64>>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Below it there is evidence that everything was synced.
    pub(super) durable: u64,
    /// Offset, key, value.
    pub(super) records: Vec<(u64, Option<Vec<u8>>, Vec<u8>)>,
}

/// What is known of a directory.
#[derive(Debug)]
pub(super) struct Oracle {
    plan: Plan,
    /// The life that goes on, or went on last.
    life: u32,
    topic_made: bool,
    partitions: Vec<Known>,
}

/// What is known of a partition.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The log start can't be before this...
    start: u64,
    /// ...nor beyond this, unless retention drops records too.
    start_tried: u64,
    /// Where it ended when it was looked at last, and which life wrote what stood there: from the
    /// offset on.
    end: u64,
    lives: Vec<(u64, u32)>,
    /// The life before which, inclusive, nothing new can appear.
    looked_after: u32,
    /// Acknowledged since then: offsets, and the life.
    acknowledged: Vec<(std::ops::Range<u64>, u32)>,
    /// Acknowledged as synced, up to here.
    synced: u64,
    /// What was committed last, and what may have been since.
    committed: Option<u64>,
    tried: Vec<u64>,
}

impl Oracle {
    pub(super) fn new(plan: Plan) -> Oracle {
        let partitions = vec![Known::default(); plan.topic.partitions as usize];
        Oracle { plan, life: 0, topic_made: false, partitions }
    }

    /// The next life begins.
    pub(super) fn begin(&mut self, life: u32) {
        self.life = life;
    }

    pub(super) fn topic_is_made(&self) -> bool {
        self.topic_made
    }

    /// Notes what the victim said; an error if that itself breaks a promise.
    pub(super) fn note(&mut self, said: &Said) -> Result<(), String> {
        match said {
            Said::Acknowledged { partition, first, end } => {
                let (range, life) = (*first..*end, self.life);
                self.known(*partition)?.acknowledged.push((range, life));
            }
            Said::Synced { partition, end } => {
                let known = self.known(*partition)?;
                known.synced = known.synced.max(*end);
            }
            Said::Committing(offsets) => {
                for &(partition, offset) in offsets {
                    self.known(partition)?.tried.push(offset);
                }
            }
            Said::Committed(offsets) => {
                for &(partition, offset) in offsets {
                    let known = self.known(partition)?;
                    known.committed = Some(offset);
                    known.tried.clear();
                }
            }
            Said::Deleting { partition, before } => {
                let known = self.known(*partition)?;
                known.start_tried = known.start_tried.max(*before);
            }
            Said::Deleted { partition, before } => {
                let known = self.known(*partition)?;
                known.start = known.start.max(*before);
            }
            Said::MadeTopic => self.topic_made = true,
            Said::Wrong(what) => return Err(what.clone()),
            Said::Opened | Said::Closed | Said::Unable(_) => {}
        }
        Ok(())
    }

    fn known(&mut self, partition: u32) -> Result<&mut Known, String> {
        let known = self.partitions.get_mut(partition as usize);
        known.ok_or_else(|| format!("the process spoke of partition {partition}"))
    }

    /// A record that was acknowledged since it was looked last: partition and offset.
    pub(super) fn newest_acknowledged(&self) -> Option<(usize, u64)> {
        let newest = |known: &Known| known.acknowledged.last().map(|(range, _)| range.end - 1);
        self.partitions.iter().enumerate().find_map(|(number, known)| Some((number, newest(known)?)))
    }

    /// A partition with records that were acknowledged as synced, and their end.
    pub(super) fn newest_synced(&self) -> Option<(usize, u64)> {
        self.partitions.iter().map(|known| known.synced).enumerate().find(|&(_, end)| end > 0)
    }

    /// A partition whose log start was raised, and to what.
    pub(super) fn raised_start(&self) -> Option<(usize, u64)> {
        let starts = self.partitions.iter().map(|known| known.start).enumerate();
        starts.into_iter().find(|&(_, start)| start > 0)
    }

    /// The same for directories in the same state.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.plan.seed.hash(&mut hasher);
        for Known { start, end, lives, committed, .. } in &self.partitions {
            (start, end, lives, committed).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Compares; what was found is known from then on.
    pub(super) fn check(&mut self, contents: &Contents) -> Result<(), String> {
        if contents.logs.len() != self.partitions.len() {
            return Err(format!("{} partitions instead of {}", contents.logs.len(), self.partitions.len()));
        }
        self.topic_made = true;
        let (plan, life) = (&self.plan, self.life);
        for (number, (known, log)) in self.partitions.iter_mut().zip(&contents.logs).enumerate() {
            let committed = contents.committed.get(number).copied().flatten();
            let at = Place { life, partition: number as u32, offset: 0 };
            known
                .check_log(plan, at, log)
                .and_then(|()| known.check_commit(committed))
                .map_err(|what| format!("partition {number}: {what}"))?;
        }
        Ok(())
    }
}

impl Known {
    fn check_log(&mut self, plan: &Plan, at: Place, log: &Log) -> Result<(), String> {
        let (start, end) = (log.start, log.end);
        if start < self.start {
            return Err(format!("the log starts at {start}; it started at {} before", self.start));
        }
        if plan.topic.retention_bytes.is_none() && start > self.start_tried {
            return Err(format!("the log starts at {start}, and nobody deleted anything from {} on", self.start_tried));
        }
        if end < self.end.max(start) {
            return Err(format!("the log ends at {end}; it ended at {} before, and starts at {start}", self.end));
        }
        let lives = self.lives_of(plan, at, log)?;
        for (range, life) in &self.acknowledged {
            for offset in range.start.max(start)..range.end {
                match life_at(&lives, offset).filter(|_| offset < end) {
                    None => {
                        return Err(format!(
                            "D1: offset {offset} was acknowledged in life {life} and is missing: the log ends at {end}"
                        ));
                    }
                    Some(other) if other != *life => {
                        return Err(format!(
                            "D1: offset {offset} was acknowledged in life {life} and is life {other}'s"
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        if log.durable < self.synced {
            return Err(format!(
                "D3: acknowledged as synced up to {}, and there is evidence up to {}: damage behind it would be taken for \
                 a torn tail",
                self.synced, log.durable
            ));
        }
        let looked_after = at.life;
        *self = Known { start, end, lives, looked_after, acknowledged: Vec::new(), ..std::mem::take(self) };
        self.start_tried = self.start_tried.max(start);
        Ok(())
    }

    /// Checks each record by itself and beside its neighbours; which life wrote which.
    fn lives_of(&self, plan: &Plan, at: Place, log: &Log) -> Result<Vec<(u64, u32)>, String> {
        let mut lives: Vec<(u64, u32)> = Vec::new();
        let mut left_of_batch = 0;
        let mut next = log.start;
        for (offset, key, value) in &log.records {
            let offset = *offset;
            if offset != next {
                return Err(format!("D2: offset {offset} stands where {next} belongs"));
            }
            next += 1;
            let Some((life, following)) = origin(value) else {
                return Err(format!("D2: offset {offset} was never sent: {} bytes of another kind", value.len()));
            };
            let sent = plan.record(Place { life, offset, ..at }, following);
            if sent != (Content { key: key.clone(), value: value.clone() }) {
                return Err(format!("D2: offset {offset} isn't what life {life} sent"));
            }
            let before = lives.last().map(|&(_, life)| life);
            if offset < self.end {
                let known = life_at(&self.lives, offset);
                if known.is_some_and(|known| known != life) {
                    return Err(format!("D2: offset {offset} is life {life}'s, and was life {known:?}'s before"));
                }
            } else if life > at.life || before.is_some_and(|before| life < before) {
                return Err(format!("D2: offset {offset} is life {life}'s, behind life {before:?}'s"));
            } else if life <= self.looked_after {
                return Err(format!("D2: offset {offset} of life {life} came back: it wasn't there before"));
            }
            // What stands before the log start may have taken a batch's beginning along.
            if left_of_batch > 0 && (following != left_of_batch - 1 || before != Some(life)) {
                return Err(format!("D2: half a batch before offset {offset}"));
            }
            left_of_batch = following;
            if before != Some(life) {
                lives.push((offset, life));
            }
        }
        if next != log.end {
            return Err(format!("D2: the log ends at {}, its records before {next}", log.end));
        }
        if left_of_batch > 0 {
            return Err(format!("D2: half a batch at the end, {left_of_batch} of its records are missing"));
        }
        Ok(lives)
    }

    fn check_commit(&mut self, found: Option<u64>) -> Result<(), String> {
        let allowed = found == self.committed || found.is_some_and(|found| self.tried.contains(&found));
        if !allowed {
            let show = |offset: Option<u64>| offset.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
            return Err(format!(
                "D5: the group's committed offset is {}; {} was acknowledged last, tried since: {:?}",
                show(found),
                show(self.committed),
                self.tried
            ));
        }
        self.committed = found;
        self.tried.clear();
        Ok(())
    }
}

/// Which life wrote the record at this offset, if it isn't before all of them.
fn life_at(lives: &[(u64, u32)], offset: u64) -> Option<u32> {
    let after = lives.partition_point(|&(first, _)| first <= offset);
    Some(lives.get(after.checked_sub(1)?)?.1)
}
