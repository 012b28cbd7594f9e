//! The demo's consumers, each in a thread of its own, and its producer.
//!
//! What a consumer has read counts as processed once its commit has succeeded. So a consumer that is
//! taken for dead because the machine stalled drops what it has in hand, and another does it.

use std::time::Duration;

use thalweg::{Acks, Batch, Consumer, Engine, ErrorKind, RebalanceListener, Record};

use super::stage::Stage;
use super::{ANALYTICS, NUMBER, PRICES, SESSION_TIMEOUT, TOPIC};
use crate::failure::Failure;
use crate::ticker::Update;

/// How long a reader waits in a poll before it looks whether the play is over.
const READER_WAIT: Duration = Duration::from_millis(20);
/// Updates sent at a time, and the pause after them: 2,500 a second.
const SENT_TOGETHER: usize = 25;
const PAUSE: Duration = Duration::from_millis(10);

/// A consumer from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) group: &'static str,
    pub(super) consumer: &'static str,
    /// Which of this consumer's lives, for people; empty if it has one.
    pub(super) which: &'static str,
    /// Whether it dies when it is told to.
    mortal: bool,
}

/// All of them; the last comes when the second is dead.
pub(super) const LIVES: [Life; 5] = [
    Life { group: ANALYTICS, consumer: "analytics-1", which: "", mortal: false },
    Life { group: PRICES, consumer: "consumer-1", which: "", mortal: false },
    Life { group: PRICES, consumer: "consumer-2", which: "until it died", mortal: true },
    Life { group: PRICES, consumer: "consumer-3", which: "", mortal: false },
    Life { group: PRICES, consumer: "consumer-2", which: "back again", mortal: false },
];
pub(super) const ANALYST: usize = 0;
pub(super) const MORTAL: usize = 2;
pub(super) const BACK: usize = 4;

/// A record that was processed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its place among all that were processed, by whichever consumer.
    pub(super) order: u64,
    /// Index into [`LIVES`].
    pub(super) life: usize,
    pub(super) partition: u32,
    pub(super) offset: u64,
    /// Which update it is, if key and value are that update's byte for byte.
    pub(super) number: Option<usize>,
}

/// Commits what it has before partitions go to another.
struct CommitFirst;

impl RebalanceListener for CommitFirst {
    fn on_revoked(&mut self, consumer: &mut Consumer, _partitions: &[(String, u32)]) {
        // What can't be committed, the next owner reads again.
        let _ = consumer.commit_at(Acks::Written);
    }
}

/// Starts a consumer of its group.
pub(super) fn start(engine: &Engine, life: usize) -> Result<Consumer, Failure> {
    let Life { group, consumer, .. } = LIVES[life];
    let builder = engine.consumer(group).client_id(consumer).subscribe([TOPIC]).listener(CommitFirst);
    Ok(builder.session_timeout(SESSION_TIMEOUT).start()?)
}

/// Reads until the play is over, or this life is; what was processed.
pub(super) fn read(
    mut consumer: Consumer,
    life: usize,
    stage: &Stage,
    updates: &[Update],
) -> Result<Vec<Seen>, Failure> {
    let mut processed = Vec::new();
    loop {
        let polled = consumer.poll(READER_WAIT)?;
        let before = processed.len();
        for batch in &polled {
            look_at(batch, life, stage, updates, &mut processed);
        }
        match consumer.commit_at(Acks::Written) {
            Ok(()) => stage.note_processed(LIVES[life].group, processed.len() - before),
            Err(error) if matches!(error.kind(), ErrorKind::UnknownMember { .. }) => processed.truncate(before),
            Err(error) => return Err(error.into()),
        }
        if LIVES[life].mortal && stage.shall_die() {
            // Dead in the middle of its work: nobody leaves the group, nobody says goodbye.
            std::mem::forget(consumer);
            stage.note_death();
            break;
        }
        if stage.is_over() {
            break;
        }
    }
    Ok(processed)
}

fn look_at(batch: &Batch, life: usize, stage: &Stage, updates: &[Update], processed: &mut Vec<Seen>) {
    for record in batch {
        let number = record.headers().find(|(name, _)| *name == NUMBER).and_then(|(_, value)| value);
        let number = number.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse::<usize>().ok());
        let is_sent = |&number: &usize| {
            updates.get(number).is_some_and(|update| {
                record.key() == Some(update.ticker.as_bytes()) && record.value() == Some(update.text.as_bytes())
            })
        };
        processed.push(Seen {
            order: stage.next_order(),
            life,
            partition: batch.partition(),
            offset: record.offset(),
            number: number.filter(is_sent),
        });
    }
}

/// Sends the updates, as many as the play allows at a time, and makes them durable.
pub(super) fn send(engine: &Engine, stage: &Stage, updates: &[Update]) -> Result<(), Failure> {
    let producer = engine.producer_for(TOPIC)?;
    let mut sent = 0;
    while sent < updates.len() && !stage.is_over() {
        for update in updates[sent..stage.allowed().max(sent)].iter().take(SENT_TOGETHER) {
            let record = Record::new(&update.text).key(update.ticker);
            let _receipt = producer.send(record.header(NUMBER, &sent.to_string()))?;
            sent += 1;
        }
        stage.note_sent(sent);
        std::thread::sleep(PAUSE);
    }
    engine.sync()?;
    Ok(())
}
