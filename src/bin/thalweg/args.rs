//! The command line: options, their help, and the values they take.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use thalweg::{Acks, ResetTo};

use crate::bench::BenchArgs;
use crate::directory::DEFAULT_DIR;
use crate::torture::TortureCommand;

/// An embedded log engine: topics, partitions and consumers on your own disk
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Args {
    /// The data directory
    #[arg(long, global = true, env = "THALWEG_DIR", hide_env_values = true, default_value = DEFAULT_DIR, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Print JSON instead of text: one document, or one object a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Walk through it: 10,000 stock prices, 3 consumers that share 3 partitions, one dies; checked
    Demo(DemoArgs),
    /// Make, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// List, describe, reset, copy and delete consumer groups; plan what they would read
    #[command(subcommand)]
    Group(GroupCommand),
    /// Append the lines of stdin to a topic, one record each
    Produce(ProduceArgs),
    /// Print a topic's records
    Consume(ConsumeArgs),
    /// Check every byte of the data directory; exit code 1 if there is damage, 3 if it can't be checked
    Verify,
    /// Make a damaged data directory whole again: what is damaged is set aside, what is intact stays
    Repair(RepairArgs),
    /// Show what stands in a file of a data directory: a segment, an index, a catalogue
    Dump(DumpArgs),
    /// Try to make the engine lose a record: crashes, kills, errors of the disk
    #[command(subcommand)]
    Torture(TortureCommand),
    /// Measure the engine beside what this machine can do
    Bench(Box<BenchArgs>),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes the topic stock-ticker and the groups prices and analytics in the data directory, and leaves them there.
Run again, it deletes what it left before. If one of them is not the demo's own, it changes nothing and fails.")]
pub(crate) struct DemoArgs {
    /// Where chance begins: the same seed gives the same prices [default: random]
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Make a topic, and the data directory if there is none
    Create {
        /// Its name: 1 to 249 characters of a-z A-Z 0-9 . _ -
        #[arg(value_name = "NAME")]
        name: String,
        /// How many partitions it has
        #[arg(long, value_name = "N")]
        partitions: u32,
        /// A setting, such as segment.bytes=67108864; may be given several times
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
    },
    /// List the topics
    List,
    /// Show a topic's settings and how far its partitions are
    Describe {
        /// The topic
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Give a topic more partitions or other settings; says first what that means
    Alter(AlterArgs),
    /// Delete a topic and all its records
    Delete {
        /// The topic
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("change").required(true).multiple(true),
    after_help = "\
More partitions move keys: a key goes to the partition that its hash and their number give. So that
a group still gets each key's records in order, it gets nothing written after the change before it
has committed all that was written before. --config fence=false lets groups read on at once.
No other process may have the directory open for writing."
)]
pub(crate) struct AlterArgs {
    /// The topic
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// How many partitions it has from now on; not fewer than it has
    #[arg(long, value_name = "N", group = "change")]
    pub(crate) partitions: Option<u32>,
    /// A setting, such as retention.ms=86400000; may be given several times
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value, group = "change")]
    pub(crate) config: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups
    List,
    /// Show a group's members, and how far it is in each partition
    Describe {
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
    },
    /// Set a group's committed offsets in all partitions of a topic
    Reset(ResetArgs),
    /// Forget a group and its committed offsets
    Delete {
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
    },
    /// Give a group the committed offsets of another, so that it goes on where that one is
    Copy {
        /// The group whose offsets are taken
        #[arg(value_name = "FROM")]
        from: String,
        /// The group that gets them; made if there is none
        #[arg(value_name = "TO")]
        to: String,
    },
    /// Work out who would read what: a group on stdin, its assignment on stdout
    Plan(PlanArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// The group; made if there is none
    #[arg(value_name = "GROUP")]
    pub(crate) group: String,
    /// The topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Where the group goes on in each partition: earliest, latest (the end), an offset, or @MS (the
    /// first record at or after MS milliseconds since 1970); what lies outside the log is moved to
    /// its start or end
    #[arg(long, value_name = "WHERE", value_parser = reset_to, allow_negative_numbers = true)]
    pub(crate) to: ResetTo,
    /// Only show what it would do; works beside a process that writes
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stdin is a JSON document; members may leave out instance_id, owned and generation:

  {\"topics\": {\"orders\": 6, \"trades\": 3},
   \"members\": [{\"id\": \"a\", \"instance_id\": \"host-1\", \"subscriptions\": [\"orders\", \"trades\"],
                \"owned\": [[\"orders\", 0], [\"orders\", 1]], \"generation\": 7}]}

Stdout is {\"assignment\": {MEMBER: [[TOPIC, PARTITION], ..]}}, with or without --json. Topics that
don't exist are skipped. Nothing needs a data directory.")]
pub(crate) struct PlanArgs {
    /// How partitions are divided: range (each topic in stretches), round-robin (one after the
    /// other), sticky (equally many, moving as little as possible)
    #[arg(long, value_name = "NAME", default_value = "sticky")]
    pub(crate) assignor: AssignorName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AssignorName {
    Range,
    RoundRobin,
    Sticky,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A line ends with \\n, which isn't part of the record; its bytes are taken as they are.
With --json, each acknowledged record is printed as {\"partition\":..,\"offset\":..,\"line\":..}, in order
of sending; line counts the lines of stdin from 1. If stdout is closed, no more lines are read.")]
pub(crate) struct ProduceArgs {
    /// The topic; it must exist
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Send to this partition [default: by key; without one, spread]
    #[arg(long, value_name = "P")]
    pub(crate) partition: Option<u32>,
    /// Split each line at the first S: the key before it, the value after it; a line without S has no key.
    /// In S, \t is a tab, \\ a backslash, \xHH a byte
    #[arg(long, value_name = "S", value_parser = key_separator)]
    pub(crate) key_separator: Option<KeySeparator>,
    /// When a record counts as acknowledged: at once, when written (survives the process), when
    /// synced (survives power loss) [default: the topic's] [possible values: none, written, synced]
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub(crate) acks: Option<Acks>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
As text, the values are printed, a line each (an empty line if it is null); without --group or
--follow, partition by partition.
With --json, each record is {\"partition\",\"offset\",\"timestamp\",\"key\",\"value\",\"headers\"}; headers are
[name, value] pairs. A key or value that isn't UTF-8 is base64, and named in \"base64\", a list of
\"key\", \"value\" and \"headers[N]\" (the value of the header at place N).")]
pub(crate) struct ConsumeArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Read this partition [default: all]
    #[arg(long, value_name = "P")]
    pub(crate) partition: Option<u32>,
    /// Go on where this group's committed offsets are, and commit what has been printed; makes the
    /// group if there is none. This writes, so no other process may
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Where to begin in each partition in which there is no committed offset: earliest, latest (the
    /// end), an offset, -N (the last N records), or @MS (the first record at or after MS milliseconds
    /// since 1970). A partition without that offset begins at its start or end, and stderr says so; if
    /// none of them has it, that is an error
    #[arg(long, value_name = "WHERE", default_value = "earliest", allow_negative_numbers = true)]
    pub(crate) from: Start,
    /// Stop after N records
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u64>,
    /// Go on at the end: print records as they come, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
    /// Leave out records that are damaged; stderr names them. Without it a partition is printed up to its first
    /// damage, the others to their end, and the exit code is 1
    #[arg(long)]
    pub(crate) skip_damaged: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Says what is done, what is lost (topic, partition, offsets), and which groups may have lost their
newest commit. Records keep their offsets; no offset is given twice. Damaged files are not deleted:
they stand under set-aside/ beside what took their place. Does nothing if there is no damage.
No other process may have the directory open for writing. A repair that was interrupted can be run
again. Exit code 1 if something can't be repaired.")]
pub(crate) struct RepairArgs {
    /// Only show what it would do; changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// The files, damaged or not
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Show the records of each batch of a segment too
    #[arg(long)]
    pub(crate) records: bool,
}

/// The bytes that end the key in a line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySeparator(pub(crate) Vec<u8>);

/// Where reading begins in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    Offset(u64),
    /// So many records before the end.
    Last(u64),
    /// The first record that isn't older; milliseconds since 1970.
    Timestamp(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        let wrong = |_| "it is earliest, latest, an offset such as 42, -N such as -10, or @MILLISECONDS".to_owned();
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => match (text.strip_prefix('-'), text.strip_prefix('@')) {
                (Some(count), _) => count.parse().map(Start::Last).map_err(wrong),
                (_, Some(ms)) => ms.parse().map(Start::Timestamp).map_err(wrong),
                _ => text.parse().map(Start::Offset).map_err(wrong),
            },
        }
    }
}

fn reset_to(text: &str) -> Result<ResetTo, String> {
    match text.parse() {
        Ok(Start::Earliest) => Ok(ResetTo::Earliest),
        Ok(Start::Latest) => Ok(ResetTo::Latest),
        Ok(Start::Offset(offset)) => Ok(ResetTo::Offset(offset)),
        Ok(Start::Timestamp(ms)) => Ok(ResetTo::Timestamp(ms)),
        Ok(Start::Last(_)) | Err(_) => Err("it is earliest, latest, an offset such as 42, or @MILLISECONDS".to_owned()),
    }
}

/// The bytes between key and value. In the text, an escape stands for a byte that is hard to type.
fn key_separator(text: &str) -> Result<KeySeparator, String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escaped = &rest[at + 1..];
        let hex = escaped.strip_prefix('x').and_then(|hex| hex.get(..2));
        let byte = match (escaped.chars().next(), hex) {
            (Some('t'), _) => Some(b'\t'),
            (Some('\\'), _) => Some(b'\\'),
            (Some('x'), Some(hex)) => u8::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
            _ => None,
        };
        bytes.push(byte.ok_or("behind a backslash it is t (a tab), another backslash, or xHH (a byte)")?);
        rest = &escaped[if hex.is_some() { 3 } else { 1 }..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    match &bytes[..] {
        [] => Err("it is at least one byte".to_owned()),
        bytes if bytes.contains(&b'\n') => Err("it holds the end of a line, so no line holds it".to_owned()),
        _ => Ok(KeySeparator(bytes)),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("it is KEY=VALUE, such as segment.bytes=67108864".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn starts_are_understood() {
        let start = |text: &str| text.parse::<Start>().ok();
        assert_eq!(start("earliest"), Some(Start::Earliest));
        assert_eq!(start("latest"), Some(Start::Latest));
        assert_eq!(start("18446744073709551615"), Some(Start::Offset(u64::MAX)));
        assert_eq!(start("-5"), Some(Start::Last(5)));
        assert_eq!(start("@1700000000000"), Some(Start::Timestamp(1_700_000_000_000)));
        assert_eq!(start("@-1"), Some(Start::Timestamp(-1)));
        for wrong in ["", "-", "@", "--5", "1.5", "first", "18446744073709551616"] {
            assert_eq!(start(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_separator_may_be_written_with_escapes() {
        for (text, bytes) in [
            (":", &b":"[..]),
            ("\t", b"\t"),
            (r"\t", b"\t"),
            (r"\\t", br"\t"),
            (r"a\x1fb\\", b"a\x1fb\\"),
            ("\u{e9}\\x00", b"\xc3\xa9\0"),
        ] {
            assert_eq!(key_separator(text).map(|it| it.0).as_deref(), Ok(bytes), "{text:?}");
        }
        for wrong in ["", "\\", r"\n", r"\x", r"\x1", r"\x+1", r"\x0a", "a\nb", r"\é", r"\xé"] {
            assert!(key_separator(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            "thalweg --dir d --json topic list",
            "thalweg topic list --json --dir d",
            "thalweg topic --json --dir d list",
        ] {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((args.dir, args.json), (PathBuf::from("d"), true), "{line}");
        }
    }

    #[test]
    fn a_negative_start_is_no_option() {
        let args = Args::try_parse_from(["thalweg", "consume", "t", "--from", "-5"]).unwrap();
        let Command::Consume(args) = args.command else { panic!("not consume") };
        assert_eq!(args.from, Start::Last(5));
    }
}
