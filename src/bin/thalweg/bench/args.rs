//! The command line of `bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Subcommand, ValueEnum};
use thalweg::{Acks, SyncMode};

use super::settings::Settings;
use super::values::{self, RecordSize};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a workload it measures all of them, in about a minute. A workload alone has more flags:
`bench append --help`. Each figure stands beside its floor: the same bytes with the least possible
work, by as many threads, measured in the same run, in turns with the engine.

The data lies in a fresh directory below --dir (else below the current one), which is removed at the
end, upon errors, and upon Ctrl-C, which prints what was measured until then (exit code 130).

  bench                                  everything, one table
  bench append --record-size 1KiB        one workload
  bench --dir /mnt/nvme --html page.html another device; the charts as a page
  bench --json before.json               then change something, --json after.json, and:
  bench compare before.json after.json")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) workload: Option<Workload>,

    /// Where the fresh directory is made: on the device to be measured [default: the current one]
    #[arg(id = "dir", long = "dir", global = true, value_name = "DIR")]
    _dir: Option<PathBuf>,

    /// Write the results as JSON into FILE; `--json FILE` is the same, and --json alone prints them
    /// instead of the table
    #[arg(long, global = true, value_name = "FILE", help_heading = "Results")]
    pub(crate) report: Option<PathBuf>,

    /// Write the results as a page with charts, in one file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Results")]
    pub(crate) html: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) all: AllArgs,
}

/// Of a run of all workloads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AllArgs {
    /// About how long the whole run takes [default: 60]
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Values of this size, instead of 100 bytes and 1 KiB; or a range such as 100..1000
    #[arg(long, value_name = "BYTES")]
    pub(crate) record_size: Option<RecordSize>,
    /// At most so many bytes of values in a workload [default: 6GiB]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) total: Option<u64>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Where chance begins: the same seed makes the same values
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Workload {
    /// Records written, as fast as they can be sent
    Append(AppendArgs),
    /// One record after the other, each synced before the next
    Durable(DurableArgs),
    /// Threads that each wait until their record is synced
    GroupCommit(GroupCommitArgs),
    /// Records read from the page cache, each checksum checked
    Replay(ReplayArgs),
    /// From sending to seeing, at a fixed rate
    Tail(TailArgs),
    /// Many partitions, compared with one
    Partitions(PartitionsArgs),
    /// Opening after a clean close, and after a kill
    Recover(RecoverArgs),
    /// Consumer groups: rebalances and commits
    Groups(GroupsArgs),
    /// The floors alone: what this machine can do
    Device(DeviceArgs),
    /// Print the ratios between two results
    #[command(
        after_help = "A and B are files that --json wrote. A ratio above 1 says that B's figure is larger than A's."
    )]
    Compare {
        /// The result that is compared with
        #[arg(value_name = "A")]
        before: PathBuf,
        /// The result that is compared
        #[arg(value_name = "B")]
        after: PathBuf,
    },
    /// What `recover` kills
    #[command(hide = true)]
    Victim(VictimArgs),
}

/// How the engine is set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// Bytes after which a batch is closed, the unit of checksum [default: 64KiB]
    #[arg(long, help_heading = "Engine", value_name = "BYTES", value_parser = values::bytes)]
    batch_bytes: Option<u64>,
    /// Size at which a segment is sealed and the next begun [default: 256MiB]
    #[arg(long, help_heading = "Engine", value_name = "BYTES", value_parser = values::bytes)]
    segment_bytes: Option<u64>,
    /// Threads that write [default: as many as there are cores]
    #[arg(long, help_heading = "Engine", value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_024))]
    writers: Option<usize>,
    /// Whether each writer thread is pinned to a core
    #[arg(long, help_heading = "Engine", value_name = "ON|OFF", default_value = "on", hide_possible_values = true)]
    pin: Switch,
    /// How syncs reach the disk: std (threads), io_uring, or auto (io_uring where it is allowed)
    #[arg(long, help_heading = "Engine", value_name = "DRIVER", default_value = "auto", hide_possible_values = true)]
    driver: Driver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Driver {
    Std,
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    Auto,
}

impl EngineArgs {
    /// Whether anything of it was on the command line, other than what would be so anyway.
    pub(crate) fn is_given(&self) -> bool {
        let numbers = self.batch_bytes.is_some() || self.segment_bytes.is_some() || self.writers.is_some();
        numbers || self.pin == Switch::Off || self.driver != Driver::Auto
    }

    pub(crate) fn apply(&self, settings: Settings) -> Settings {
        Settings {
            batch_bytes: self.batch_bytes.unwrap_or(settings.batch_bytes),
            segment_bytes: self.segment_bytes.unwrap_or(settings.segment_bytes),
            writers: self.writers,
            pin: self.pin == Switch::On,
            driver: match self.driver {
                Driver::Std => SyncMode::Threads,
                Driver::IoUring => SyncMode::IoUring,
                Driver::Auto => SyncMode::Auto,
            },
            ..settings
        }
    }
}

/// Which values, in what steps.
#[derive(Debug, clap::Args)]
pub(crate) struct ValueArgs {
    /// Values of this size, or of a range such as 100..1000; they can't be compressed
    #[arg(long, value_name = "BYTES", default_value = "100")]
    record_size: RecordSize,
    /// Where chance begins: the same seed makes the same values
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
}

impl ValueArgs {
    fn apply(&self, settings: Settings) -> Settings {
        Settings { record: self.record_size, seed: self.seed, ..settings }
    }
}

/// How long a workload is measured unless told otherwise.
const TIME: Duration = Duration::from_secs(6);
/// When a round of `append` ends unless told otherwise.
const APPEND_ROUND_BYTES: u64 = 1 << 30;
const APPEND_ROUND_TIME: Duration = Duration::from_millis(2_500);

/// How long.
#[derive(Debug, clap::Args)]
pub(crate) struct TimeArgs {
    /// Measure for so long, over all rounds; the floor takes as long again [default: 6; append: until each round has
    /// written 1 GiB, 2.5 a round at most]
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    seconds: Option<Duration>,
    /// Run for so long before measuring, in each round
    #[arg(long, value_name = "S", default_value = "0", value_parser = values::seconds_or_none)]
    warm_up: Duration,
    /// How often the engine and its floors take turns, in a random order that --seed gives; the median counts
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

impl TimeArgs {
    fn apply(&self, settings: Settings) -> Settings {
        let time = self.seconds.unwrap_or(TIME);
        Settings { time, warm_up: self.warm_up, rounds: self.rounds, ..settings }
    }
}

/// How much.
#[derive(Debug, clap::Args)]
pub(crate) struct TotalArgs {
    /// Stop after so many bytes of values, if --seconds doesn't before
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    total: Option<u64>,
}

fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::<usize>::new().range(1..=1_024)
}

#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    values: ValueArgs,
    /// Threads that send
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads())]
    producers: usize,
    /// Partitions that each producer spreads its records over, one by one
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    /// Append ready batches of this size, one call a batch, instead of one call a record; several sizes, such as
    /// 64KiB,256KiB,1MiB, are measured one after the other. Each producer keeps to one partition
    #[arg(long, value_name = "BYTES", value_parser = ready_batch, value_delimiter = ',', conflicts_with = "rate")]
    ready_batches: Vec<u64>,
    /// What counts as done: none, written or synced; all wait for it at the end
    #[arg(long, value_name = "LEVEL", default_value = "written")]
    acks: Acks,
    /// Send so many records a second by the clock, and measure how long each takes to be acknowledged
    /// from the time at which it was due; there is no floor then, as the rate is given
    #[arg(long, value_name = "PER_S", value_parser = values::count)]
    rate: Option<u64>,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    total: TotalArgs,
    /// Read everything back and compare each byte
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DurableArgs {
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    total: TotalArgs,
    /// Read everything back and compare each byte
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GroupCommitArgs {
    #[command(flatten)]
    values: ValueArgs,
    /// Threads that send and wait
    #[arg(long, value_name = "N", default_value = "32", value_parser = threads())]
    producers: usize,
    /// Partitions that they share; each thread keeps to one
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    total: TotalArgs,
    /// Read everything back and compare each byte
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    values: ValueArgs,
    /// Threads that each read everything
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads())]
    consumers: usize,
    /// Partitions that the records are spread over
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    /// Bytes of values in the log; it is read again and again
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = values::bytes)]
    total: u64,
    #[command(flatten)]
    time: TimeArgs,
    /// Compare each byte that is read, too; that takes time
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    values: ValueArgs,
    /// Records a second, sent when the clock says so: a stall delays them and counts
    #[arg(long, value_name = "PER_S", default_value = "100k", value_parser = values::count)]
    rate: u64,
    /// Threads that each see every record
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads())]
    consumers: usize,
    #[command(flatten)]
    time: TimeArgs,
    /// Compare each byte that is seen, too
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PartitionsArgs {
    #[command(flatten)]
    values: ValueArgs,
    /// Threads that send
    #[arg(long, value_name = "N", default_value = "2", value_parser = threads())]
    producers: usize,
    /// Partitions that each spreads its records over, one by one
    #[arg(long, value_name = "N", default_value = "600", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    partitions: u32,
    /// What counts as done: none, written or synced; all wait for it at the end
    #[arg(long, value_name = "LEVEL", default_value = "written")]
    acks: Acks,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    total: TotalArgs,
    /// Read everything back and compare each byte
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    values: ValueArgs,
    /// Bytes of values in the log
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = values::bytes)]
    total: u64,
    /// Partitions that the records are spread over
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    /// How often it is killed and opened
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Begin no round after so long, if --rounds doesn't end it before; each kind of open has one at least
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    seconds: Option<Duration>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GroupsArgs {
    /// Partitions that the group shares
    #[arg(long, value_name = "N", default_value = "600", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partitions: u32,
    /// Members that sit in `poll`
    #[arg(long, value_name = "N", default_value = "100", value_parser = threads())]
    members: usize,
    /// Measure for so long, over all four parts
    #[arg(long, value_name = "S", default_value = "6", value_parser = values::seconds)]
    seconds: Duration,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Measure for so long, over all of them
    #[arg(long, value_name = "S", default_value = "6", value_parser = values::seconds)]
    seconds: Duration,
    /// Bytes of a large write, a multiple of 4096
    #[arg(long, value_name = "BYTES", default_value = "256KiB", value_parser = block)]
    block_bytes: u64,
    /// Writes in flight through io_uring
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=256))]
    depth: u16,
    /// Bytes of the file that is written and read [default: 512MiB]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    total: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VictimArgs {
    #[command(flatten)]
    values: ValueArgs,
    #[arg(long, default_value_t = 1)]
    partitions: u32,
    #[arg(long, value_parser = values::bytes)]
    total: u64,
    #[command(flatten)]
    engine: EngineArgs,
}

impl AppendArgs {
    /// One for each size of batches.
    pub(crate) fn settings(&self) -> Vec<Settings> {
        let settings = Settings {
            producers: self.producers,
            acks: self.acks,
            rate: self.rate,
            verify: self.verify,
            total_bytes: self.total.total,
            ..Settings::default()
        };
        let mut settings = self.engine.apply(self.time.apply(self.values.apply(settings)));
        if self.time.seconds.is_none() && self.rate.is_none() {
            settings.time = APPEND_ROUND_TIME * settings.rounds;
            settings.total_bytes.get_or_insert(APPEND_ROUND_BYTES * u64::from(settings.rounds));
        }
        let settings = spread(settings, self.partitions, &self.engine);
        if self.ready_batches.is_empty() {
            return vec![settings];
        }
        let sizes = self.ready_batches.iter().map(|&bytes| Some(bytes));
        sizes.map(|ready_bytes| Settings { ready_bytes, ..settings.clone() }).collect()
    }
}

impl DurableArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings =
            Settings { acks: Acks::Synced, verify: self.verify, total_bytes: self.total.total, ..Settings::default() };
        self.engine.apply(self.time.apply(self.values.apply(settings)))
    }
}

impl GroupCommitArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings {
            producers: self.producers,
            acks: Acks::Synced,
            verify: self.verify,
            total_bytes: self.total.total,
            ..Settings::default()
        };
        let settings = self.engine.apply(self.time.apply(self.values.apply(settings)));
        spread(settings, self.partitions, &self.engine)
    }
}

impl ReplayArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings {
            consumers: self.consumers,
            total_bytes: Some(self.total),
            verify: self.verify,
            ..Settings::default()
        };
        let settings = self.engine.apply(self.time.apply(self.values.apply(settings)));
        spread(settings, self.partitions, &self.engine)
    }
}

impl TailArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings =
            Settings { rate: Some(self.rate), consumers: self.consumers, verify: self.verify, ..Settings::default() };
        self.engine.apply(self.time.apply(self.values.apply(settings)))
    }
}

impl PartitionsArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings {
            producers: self.producers,
            acks: self.acks,
            verify: self.verify,
            total_bytes: self.total.total,
            ..Settings::default()
        };
        let settings = self.engine.apply(self.time.apply(self.values.apply(settings)));
        spread(settings, self.partitions, &self.engine)
    }
}

impl RecoverArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings =
            Settings { total_bytes: Some(self.total), rounds: self.rounds, limit: self.seconds, ..Settings::default() };
        let settings = self.engine.apply(self.values.apply(settings));
        spread(settings, self.partitions, &self.engine)
    }
}

impl GroupsArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings =
            Settings { partitions: self.partitions, members: self.members, time: self.seconds, ..Settings::default() };
        self.engine.apply(settings)
    }
}

impl DeviceArgs {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            time: self.seconds,
            block_bytes: self.block_bytes as usize,
            depth: self.depth,
            total_bytes: self.total,
            ..Settings::default()
        }
    }
}

impl VictimArgs {
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings { partitions: self.partitions, total_bytes: Some(self.total), ..Settings::default() };
        self.engine.apply(self.values.apply(settings))
    }
}

/// Segments as they were asked for, else of a size that the disk can hold one of for each partition.
fn spread(settings: Settings, partitions: u32, engine: &EngineArgs) -> Settings {
    if engine.segment_bytes.is_some() { Settings { partitions, ..settings } } else { settings.partitioned(partitions) }
}

fn ready_batch(text: &str) -> Result<u64, String> {
    match values::bytes(text)? {
        bytes if bytes > 8 << 20 => Err("it is at most 8MiB".to_owned()),
        bytes => Ok(bytes),
    }
}

fn block(text: &str) -> Result<u64, String> {
    match values::bytes(text)? {
        bytes if !bytes.is_multiple_of(4096) => Err("it is a multiple of 4096".to_owned()),
        bytes if bytes > 64 << 20 => Err("it is at most 64MiB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The command line with `bench … --json FILE` as `--report FILE`: elsewhere, and without a file, --json
/// takes nothing. What names a workload is no file; and `compare` has files of its own.
pub(crate) fn json_into_file(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut changed: Vec<OsString> = Vec::new();
    let (mut command, mut words) = (None::<OsString>, arguments.peekable());
    changed.extend(words.next());
    while let Some(word) = words.next() {
        let in_bench = command.as_deref().is_some_and(|command| command == "bench");
        let text = word.to_str().unwrap_or_default();
        let is_file =
            |next: &OsString| !next.as_encoded_bytes().starts_with(b"-") && !NAMES.iter().any(|name| next == name);
        match text {
            "compare" if in_bench => {
                changed.push(word);
                changed.extend(words);
                return changed;
            }
            "--json" if in_bench && words.peek().is_some_and(is_file) => changed.push("--report".into()),
            "--dir" if command.is_none() => {
                changed.push(word);
                changed.extend(words.next());
            }
            _ => {
                if command.is_none() && !text.starts_with('-') {
                    command = Some(word.clone());
                }
                match text.strip_prefix("--json=") {
                    Some(file) if in_bench => changed.push(format!("--report={file}").into()),
                    _ => changed.push(word),
                }
            }
        }
    }
    changed
}

/// Every workload, as it is named on the command line.
pub(crate) const NAMES: [&str; 10] =
    ["append", "durable", "group-commit", "replay", "tail", "partitions", "recover", "groups", "device", "compare"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_takes_a_file_in_bench_alone() {
        let changed = |line: &str| {
            let words = json_into_file(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
        };
        for (line, expected) in [
            ("thalweg bench --json f", "thalweg bench --report f"),
            ("thalweg --dir bench bench append --json=f", "thalweg --dir bench bench append --report=f"),
            ("thalweg bench append --json f --rounds 1", "thalweg bench append --report f --rounds 1"),
        ] {
            assert_eq!(changed(line), expected);
        }
        for same in [
            "thalweg bench --json",
            "thalweg bench --json append",
            "thalweg bench --json --html f",
            "thalweg --json bench",
            "thalweg bench compare --json a b",
            "thalweg bench compare a b --json",
            "thalweg topic list --json bench",
            "thalweg --dir bench topic --json list",
        ] {
            assert_eq!(changed(same), same);
        }
    }
}
