//! `demo`: a stock ticker's prices through three partitions, read by two groups, checked.
//!
//! Three consumers of the group `prices` share the partitions. One dies without a word; another takes
//! its partition over when the session time-out has passed; it comes back and gets a share again.
//! Meanwhile the group `analytics` reads everything by itself. What was read is compared with what
//! was sent, record by record. What an earlier demo left is made again, or used if it is empty; a user's own topics and groups are not
//! touched.

mod board;
mod checks;
mod left;
mod readers;
mod report;
mod stage;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use thalweg::TopicConfig;

use crate::args::DemoArgs;
use crate::directory::{self, Directory};
use crate::failure::Failure;
use crate::output;
use crate::ticker;

use board::Board;
use checks::Checks;
use left::Left;
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

/// Not the default: a topic that a user made, and that is empty, is not taken for the demo's.
fn topic_config() -> TopicConfig {
    TopicConfig::default().partitions(PARTITIONS).segment_bytes(1 << 20)
}

pub(crate) fn run(directory: &Directory, json: bool, args: &DemoArgs) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(TOPIC) % 1_000_000);
    let updates = ticker::updates(seed, UPDATES);
    let engine = directory.open_or_make()?;
    let left = left::find(directory, &engine)?;
    let made_again = left == Left::Prices;
    if made_again {
        engine.delete_topic(TOPIC)?;
    }
    if left != Left::Empty {
        engine.create_topic(TOPIC, topic_config())?;
    }
    let mut board = Board::new(json);
    board.begin(directory, seed, made_again);
    let played = stage::play(&engine, &updates, &mut board)?;
    let topic = engine.describe_topic(TOPIC)?;
    directory::close(&engine)?;
    let checks = Checks::of(&updates, &topic, &played);
    let report = Report { directory, seed, made_again, topic, played, checks };
    if json {
        output::print_json(&report.json())?
    } else {
        output::print(&report.text())?
    }
    if report.checks.problems.is_empty() { Ok(()) } else { Err(Failure::new("what was read isn't what was sent")) }
}
