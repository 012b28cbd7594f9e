//! The `thalweg` command: topics, groups, producing, consuming and looking into a data directory.
//!
//! It sees only the public API of the crate. Results go to stdout, everything else to stderr.
//! Exit code 0: done; 1: it failed, and stderr says why; 2: the command line can't be understood;
//! 3: `verify` could not check. If stdout is closed, the command stops, waits for what it has sent, closes
//! the engine and ends by SIGPIPE (141 in a shell).

mod acknowledgements;
mod args;
mod bench;
mod consume;
mod consume_damage;
mod consume_group;
mod demo;
mod directory;
mod dump;
mod failure;
mod group;
mod group_plan;
mod interrupt;
mod json_record;
mod lines;
mod output;
mod produce;
mod progress;
mod repair;
mod ticker;
mod topic;
mod topic_alter;
mod torture;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use directory::Directory;
use failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse_from(bench::json_into_file(std::env::args_os()));
    let directory = Directory::new(args.dir);
    match run(&directory, args.json, args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if matches!(failure, Failure::Error { .. }) {
                output::tell(format_args!("error: {failure}"));
            }
            failure.exit()
        }
    }
}

fn run(directory: &Directory, json: bool, command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => demo::run(directory, json, &args),
        Command::Topic(command) => topic::run(directory, json, command),
        Command::Group(command) => group::run(directory, json, command),
        Command::Produce(args) => produce::run(directory, json, &args),
        Command::Consume(args) => consume::run(directory, json, &args),
        Command::Verify => verify::run(directory, json),
        Command::Repair(args) => repair::run(directory, json, &args),
        Command::Dump(args) => dump::run(json, &args),
        Command::Torture(command) => torture::run(directory, json, command),
        Command::Bench(args) => bench::run(directory, json, *args),
    }
}
