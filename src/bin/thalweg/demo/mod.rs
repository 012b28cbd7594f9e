//! `demo`: a stock ticker's prices through three partitions, read by two groups, checked.
//!
//! Three consumers of the group `prices` share the partitions. One dies without a word; another takes
//! its partition over when the session time-out has passed; it comes back and gets a share again.
//! Meanwhile the group `analytics` reads everything by itself. What was read is compared with what
//! was sent, record by record.

mod board;
mod checks;
mod readers;
mod report;
mod stage;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use thalweg::{Engine, ErrorKind, TopicConfig};

use crate::args::DemoArgs;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::output;
use crate::ticker;

use board::Board;
use checks::Checks;
use report::Report;

const TOPIC: &str = "stock-ticker";
const PARTITIONS: u32 = 3;
const UPDATES: usize = 10_000;
/// The group whose consumers share the partitions.
const PRICES: &str = "prices";
/// The group that reads everything by itself.
const ANALYTICS: &str = "analytics";
/// How long a consumer of `prices` may be silent before it is taken for dead.
const SESSION_TIMEOUT: Duration = Duration::from_secs(1);
/// The header with an update's number in the order of sending.
const NUMBER: &str = "number";

pub(crate) fn run(directory: &Directory, json: bool, args: &DemoArgs) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(TOPIC) % 1_000_000);
    let updates = ticker::updates(seed, UPDATES);
    let engine = directory.open_or_make()?;
    let made_again = make_topic(&engine)?;
    let mut board = Board::new(json);
    board.begin(directory, seed, made_again);
    let played = stage::play(&engine, &updates, &mut board)?;
    let topic = engine.describe_topic(TOPIC)?;
    engine.close()?;
    let checks = Checks::of(&updates, &topic, &played);
    let report = Report { directory, seed, made_again, topic, played, checks };
    if json {
        output::print_json(&report.json())?
    } else {
        output::print(&report.text())?
    }
    if report.checks.problems.is_empty() { Ok(()) } else { Err(Failure::new("what was read isn't what was sent")) }
}

/// Makes the topic; whether there was one, which is deleted.
fn make_topic(engine: &Engine) -> Result<bool, Failure> {
    let existed = match engine.delete_topic(TOPIC) {
        Ok(()) => true,
        Err(error) if matches!(error.kind(), ErrorKind::UnknownTopic { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    engine.create_topic(TOPIC, TopicConfig::default().partitions(PARTITIONS))?;
    Ok(existed)
}
