//! What becomes of thalweg's tests when its code is wrong: all that `cargo mutants` would change, woven into one
//! build and switched on one at a time, each with the tests that reach it.
//!
//! `cargo run --release` in this directory; README.md says more.

mod known;
mod mutant;
mod run;
mod tree;
mod weave;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use run::{Runner, Verdict};
use tree::Tree;

/// The modules that decide what is durable, what is visible and what is damage.
const DECIDING: [&str; 5] =
    ["src/disk/**/*.rs", "src/keyed/**/*.rs", "src/offsets/**/*.rs", "src/partition/**/*.rs", "src/segment/**/*.rs"];

/// Changes thalweg's code in one place at a time and looks whether a test fails. Needs cargo-mutants.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The files to change, as globs from the crate's directory; the modules that decide, if none is named.
    files: Vec<String>,
    /// Seconds of tests for one mutant that none has caught yet.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Where the changed copy, its build and the tests' files go.
    #[arg(long, default_value = "target/mutants")]
    dir: PathBuf,
    /// Only mutants whose description has this in it.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    match mutants(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::from(3)
        }
    }
}

/// Whether each mutant was caught or has its reason.
fn mutants(args: &Args) -> Result<bool, String> {
    let dir = std::path::absolute(&args.dir).map_err(|error| error.to_string())?;
    let scratch = dir.join("scratch");
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", dir.display()))?;
    let files = match args.files.is_empty() {
        true => DECIDING.map(String::from).to_vec(),
        false => args.files.clone(),
    };
    let tree = Tree::clone_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), &dir)?;
    let mut mutants = tree.list(&files)?;
    let named = mutants.len();
    mutants.retain(|mutant| args.only.as_ref().is_none_or(|part| mutant.name.contains(part.as_str())));
    println!("{named} mutants named, {} asked for; building", mutants.len());
    let woven = tree.weave(&mutants)?;
    let runner = Runner { root: tree.root(), scratch, budget: Duration::from_secs(args.seconds) };
    let tests = runner.measure(&tree.build()?)?;
    let (explained, asked): (Vec<_>, Vec<_>) =
        mutants.iter().filter(|mutant| woven.contains(&mutant.number)).partition(|mutant| known::has_reason(mutant));
    println!(
        "{} of them compile, {} have a reason in known.txt; {} tests",
        asked.len() + explained.len(),
        explained.len(),
        tests.len()
    );
    let verdicts = runner.run(&asked, &tests);

    let count = |which: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| which(verdict)).count();
    let caught = count(|verdict| verdict == &Verdict::Caught);
    let hung = count(|verdict| verdict == &Verdict::Hung);
    let mut left = Vec::new();
    for (mutant, verdict) in asked.iter().zip(&verdicts) {
        let why = match verdict {
            Verdict::Left => "no test fails",
            Verdict::NotReached => "no test comes by it",
            Verdict::Caught | Verdict::Hung => continue,
        };
        left.push(format!("{why}: {}", mutant.name));
    }
    println!("{caught} caught by a test that fails, {hung} by one that hangs");
    println!("{} left without a reason", left.len());
    for line in &left {
        println!("  {line}");
    }
    Ok(left.is_empty())
}
