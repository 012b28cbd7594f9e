//! The play: when the consumer dies and comes back, and what the threads know of each other.
//!
//! Each step follows from what `describe` shows of the group, not from the time; the producer waits
//! where a step must come first. So the play is the same on a slow machine, it only takes longer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use thalweg::{Engine, GroupDescription, GroupState};

use super::board::Board;
use super::readers::{self, ANALYST, BACK, LIVES, MORTAL, Seen};
use super::{ANALYTICS, PRICES};
use crate::failure::Failure;
use crate::output;
use crate::ticker::Update;

/// How often it is looked how far the play is.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// If nothing happens for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
pub(super) struct Played {
    /// What each of [`LIVES`] processed.
    pub(super) processed: Vec<Vec<Seen>>,
    pub(super) seconds: f64,
    /// The partitions of the consumer that died.
    pub(super) orphans: Vec<u32>,
    /// From its last sign of life until others had them.
    pub(super) takeover: Option<Duration>,
    /// Both groups at the end, before their consumers left.
    pub(super) prices: GroupDescription,
    pub(super) analytics: GroupDescription,
    /// What happened, and after how many seconds.
    pub(super) events: Vec<(f64, String)>,
}

/// What the threads know of each other.
pub(super) struct Stage {
    begun: Instant,
    /// How many updates may be sent for now, and how many were.
    allowed: AtomicUsize,
    sent: AtomicUsize,
    order: AtomicU64,
    /// Records that consumers of `prices` and of `analytics` have processed.
    prices: AtomicUsize,
    analytics: AtomicUsize,
    shall_die: AtomicBool,
    died: OnceLock<Instant>,
    over: AtomicBool,
}

impl Stage {
    fn new() -> Stage {
        Stage {
            begun: Instant::now(),
            allowed: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            order: AtomicU64::new(0),
            prices: AtomicUsize::new(0),
            analytics: AtomicUsize::new(0),
            shall_die: AtomicBool::new(false),
            died: OnceLock::new(),
            over: AtomicBool::new(false),
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed.load(Ordering::SeqCst)
    }

    pub(super) fn note_sent(&self, count: usize) {
        self.sent.store(count, Ordering::SeqCst);
    }

    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub(super) fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn note_processed(&self, group: &str, count: usize) {
        let counter = if group == PRICES { &self.prices } else { &self.analytics };
        counter.fetch_add(count, Ordering::SeqCst);
    }

    pub(super) fn shall_die(&self) -> bool {
        self.shall_die.load(Ordering::SeqCst)
    }

    pub(super) fn note_death(&self) {
        self.died.get_or_init(Instant::now);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn all_processed(&self, count: usize) -> bool {
        [&self.prices, &self.analytics].iter().all(|processed| processed.load(Ordering::SeqCst) >= count)
    }
}

/// Where the play is.
enum Act {
    /// Consumers join; nothing is sent before each has its share.
    Gathering,
    Working,
    /// One was told to die; its partitions wait for the session time-out.
    Orphaned,
    /// The others have its partitions.
    TakenOver,
    /// It has joined again.
    Back,
    /// It has its share again; the rest is sent.
    Ending,
}

type Reader<'scope> = ScopedJoinHandle<'scope, Result<Vec<Seen>, Failure>>;

/// Plays it from the first consumer's start to the last one's end.
pub(super) fn play(engine: &Engine, updates: &[Update], board: &mut Board) -> Result<Played, Failure> {
    let stage = Stage::new();
    std::thread::scope(|scope| {
        let mut director = Director {
            engine,
            updates,
            stage: &stage,
            act: Act::Gathering,
            readers: Vec::new(),
            orphans: Vec::new(),
            takeover: None,
            events: Vec::new(),
            shown: Vec::new(),
        };
        let directed = director.begin(scope).and_then(|()| {
            let producer = scope.spawn(|| readers::send(engine, &stage, updates));
            let directed = director.direct(scope, board, &producer);
            stage.over.store(true, Ordering::SeqCst);
            let sent = producer.join().unwrap_or_else(|_| Err(Failure::new("the producer's thread died")));
            sent.and(directed)
        });
        stage.over.store(true, Ordering::SeqCst);
        let mut processed = vec![Vec::new(); LIVES.len()];
        let mut failure = None;
        for (life, reader) in std::mem::take(&mut director.readers) {
            match reader.join().unwrap_or_else(|_| Err(Failure::new("a consumer's thread died"))) {
                Ok(seen) => processed[life] = seen,
                Err(error) => failure = Some(error),
            }
        }
        board.clear();
        // A thread's own failure says more than that it ended early.
        let (prices, analytics) = failure.map_or(directed, Err)?;
        let Director { orphans, takeover, events, .. } = director;
        Ok(Played { processed, seconds: stage.seconds(), orphans, takeover, prices, analytics, events })
    })
}

/// Leads from act to act.
struct Director<'scope, 'env> {
    engine: &'env Engine,
    updates: &'env [Update],
    stage: &'env Stage,
    act: Act,
    readers: Vec<(usize, Reader<'scope>)>,
    orphans: Vec<u32>,
    takeover: Option<Duration>,
    events: Vec<(f64, String)>,
    /// Who read what when it was last told.
    shown: Vec<(String, Vec<u32>)>,
}

impl<'scope, 'env> Director<'scope, 'env> {
    fn begin(&mut self, scope: &'scope Scope<'scope, 'env>) -> Result<(), Failure> {
        (ANALYST..BACK).try_for_each(|life| self.start(scope, life))
    }

    fn start(&mut self, scope: &'scope Scope<'scope, 'env>, life: usize) -> Result<(), Failure> {
        let consumer = readers::start(self.engine, life)?;
        let (stage, updates) = (self.stage, self.updates);
        self.readers.push((life, scope.spawn(move || readers::read(consumer, life, stage, updates))));
        Ok(())
    }

    /// Until everything is processed; both groups as they are then.
    fn direct(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        board: &mut Board,
        producer: &ScopedJoinHandle<'_, Result<(), Failure>>,
    ) -> Result<(GroupDescription, GroupDescription), Failure> {
        let mut progress = (0, Instant::now());
        loop {
            if output::is_closed() {
                return Err(Failure::StdoutClosed);
            }
            let (prices, analytics) = (self.engine.describe_group(PRICES)?, self.engine.describe_group(ANALYTICS)?);
            self.tell_owners(board, &prices);
            self.step(scope, board, &prices)?;
            board.show(self.stage, self.updates.len(), &prices, &analytics);
            if matches!(self.act, Act::Ending) && self.stage.all_processed(self.updates.len()) {
                return Ok((self.engine.describe_group(PRICES)?, self.engine.describe_group(ANALYTICS)?));
            }
            let is_dead = |life: usize| life == MORTAL && self.stage.died.get().is_some();
            let ended = self.readers.iter().any(|(life, reader)| reader.is_finished() && !is_dead(*life));
            if ended || (producer.is_finished() && self.stage.sent() < self.updates.len()) {
                return Err(Failure::new("a thread ended before the play was over"));
            }
            let now = (self.stage.order.load(Ordering::SeqCst), Instant::now());
            if now.0 != progress.0 {
                progress = now;
            } else if now.1.duration_since(progress.1) > PATIENCE {
                return Err(Failure::new("nothing has happened for a long time"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn step(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        board: &mut Board,
        prices: &GroupDescription,
    ) -> Result<(), Failure> {
        let (all, sent) = (self.updates.len(), self.stage.sent());
        let allow = |count| self.stage.allowed.store(count, Ordering::SeqCst);
        let mortal = LIVES[MORTAL].consumer;
        match self.act {
            Act::Gathering if is_shared(prices, 3) => {
                allow(all / 2);
                self.act = Act::Working;
            }
            Act::Working if sent >= all / 4 && is_shared(prices, 3) => {
                self.stage.shall_die.store(true, Ordering::SeqCst);
                self.orphans = partitions_of(prices, mortal);
                self.tell(board, format!("{mortal} dies without a word, with {} in hand", list(&self.orphans)));
                self.act = Act::Orphaned;
            }
            Act::Orphaned if partitions_of(prices, mortal).is_empty() && is_shared(prices, 2) => {
                self.takeover = self.stage.died.get().map(Instant::elapsed);
                allow(all / 4 * 3);
                self.act = Act::TakenOver;
            }
            Act::TakenOver if sent >= all / 5 * 3 => {
                self.tell(board, format!("{mortal} is back"));
                self.start(scope, BACK)?;
                self.act = Act::Back;
            }
            Act::Back if is_shared(prices, 3) => {
                allow(all);
                self.act = Act::Ending;
            }
            _ => {}
        }
        Ok(())
    }

    /// Who reads what, if that changed.
    fn tell_owners(&mut self, board: &mut Board, prices: &GroupDescription) {
        let owners: Vec<_> = prices
            .members
            .iter()
            .map(|member| {
                (
                    name(&member.id).to_owned(),
                    member.partitions.iter().map(|(_, partition)| *partition).collect::<Vec<_>>(),
                )
            })
            .collect();
        if prices.state != GroupState::Stable || owners == self.shown {
            return;
        }
        let shares = owners.iter().map(|(name, partitions)| match &partitions[..] {
            [] => format!("{name} is idle"),
            partitions => format!("{name} has {}", numbers(partitions)),
        });
        let shares = shares.collect::<Vec<_>>().join(", ");
        self.shown = owners;
        self.tell(board, format!("generation {}: {shares}", prices.generation));
    }

    fn tell(&mut self, board: &mut Board, what: String) {
        let seconds = self.stage.seconds();
        board.tell(seconds, &what);
        self.events.push((seconds, what));
    }
}

/// Whether so many members share everything, each having something.
fn is_shared(group: &GroupDescription, members: usize) -> bool {
    group.state == GroupState::Stable
        && group.members.len() == members
        && group.members.iter().all(|member| !member.partitions.is_empty())
}

fn partitions_of(group: &GroupDescription, consumer: &str) -> Vec<u32> {
    let its = group.members.iter().filter(|member| name(&member.id) == consumer);
    its.flat_map(|member| member.partitions.iter().map(|(_, partition)| *partition)).collect()
}

/// The consumer's name in a member's id, which ends with epoch and number.
pub(super) fn name(member_id: &str) -> &str {
    member_id.rsplitn(3, '-').last().unwrap_or(member_id)
}

/// `partition 1`, `partitions 0 and 2`.
pub(super) fn list(partitions: &[u32]) -> String {
    let plural = if partitions.len() == 1 { "" } else { "s" };
    format!("partition{plural} {}", numbers(partitions))
}

fn numbers(partitions: &[u32]) -> String {
    partitions.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ")
}
