//! The command line of `torture`.

use clap::Subcommand;
use clap::builder::RangedU64ValueParser;

#[derive(Debug, Subcommand)]
pub(crate) enum TortureCommand {
    /// Explore what a power failure can leave, on a simulated disk
    Sim(RunArgs),
    /// Kill a process that appends and commits, again and again, on the real disk
    #[command(after_help = "\
It works in a directory of its own, made below --dir if that is given, else below the system's
directory for temporary files; it is removed at the end unless a promise was broken.
A cycle is one kill. Chance decides by the seed what is written and when the kill comes; the machine
decides what the process has done by then.")]
    Kill(RunArgs),
    /// Have the disk fail at each call in turn, on a simulated disk
    Io(RunArgs),
    /// Repeat a failure that sim or io found
    Replay {
        /// The seed that was named with it
        #[arg(value_name = "SEED")]
        seed: u64,
    },
    /// What `kill` kills
    #[command(hide = true)]
    Victim(VictimArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Go on for so long [default: 60, unless --cycles is given]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) seconds: Option<u64>,
    /// Do so many cycles
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) cycles: Option<u64>,
    /// Where chance begins [default: from the clock]
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Work on so many at once [default: as many as there are cores]
    #[arg(long, value_name = "T", value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub(crate) threads: Option<usize>,
    /// Only for `kill`: has the check find something else than there is, to see that it is noticed
    #[arg(long, hide = true, value_name = "WHAT")]
    pub(crate) falsify: Option<Falsify>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VictimArgs {
    #[arg(long)]
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) life: u32,
}

/// What a check can be made to find though it isn't so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Falsify {
    /// The last acknowledged record isn't there.
    Missing,
    /// A byte of an acknowledged record is another one.
    Changed,
    /// A record is there twice.
    Doubled,
    /// A group's commit is older than one that was acknowledged.
    Commit,
    /// There is no evidence of the last sync that was acknowledged.
    Evidence,
    /// The log starts earlier than it did before.
    Start,
}
