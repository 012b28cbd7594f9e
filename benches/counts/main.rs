//! Instructions of fixed workloads, counted by valgrind: `cargo bench --bench counts -- --count`. On one machine
//! and with one compiler they stay nearly the same from run to run, where times don't: what a change costs shows.
//!
//! Method: this program runs itself under `valgrind --tool=callgrind`, with so many operations and with three
//! times as many; the difference is what the operations took, without what comes before and after them. Writers
//! are inline, so that one thread does everything and nobody waits. Other arguments are (parts of) names of
//! workloads. `cargo bench -- --test` runs each once, uncounted.

mod workloads;

use std::error::Error;
use std::process::Command;

use workloads::WORKLOADS;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [once, name, count] = &words[..]
        && once == "--once"
    {
        return run(name, count.parse()?);
    }
    let says = |flag: &str| words.iter().any(|word| word == flag);
    let names: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let is_asked = |name: &str| names.is_empty() || names.iter().any(|asked| name.contains(asked.as_str()));
    let asked: Vec<_> = WORKLOADS.iter().filter(|workload| is_asked(workload.name)).collect();
    if says("--test") {
        return asked.iter().try_for_each(|workload| (workload.run)(1));
    }
    if !says("--count") {
        println!("to count instructions (some minutes): cargo bench --bench counts -- --count");
        return Ok(());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: valgrind isn't here (package valgrind)");
        return Ok(());
    }
    println!("| operation | instructions |\n| --- | --- |");
    for workload in asked {
        let few = instructions(workload.name, workload.count)?;
        let many = instructions(workload.name, workload.count * 3)?;
        let each = many.saturating_sub(few) as f64 / (workload.count * 2) as f64;
        println!("| {} | {each:.0} |", workload.name);
    }
    Ok(())
}

fn run(name: &str, count: u64) -> Result<(), Box<dyn Error>> {
    let workload = WORKLOADS.iter().find(|workload| workload.name == name).ok_or("no such workload")?;
    (workload.run)(count)
}

/// Of a whole run with so many operations.
fn instructions(name: &str, count: u64) -> Result<u64, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = command.args(["--once", name, &count.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    match collected {
        Some((_, number)) if output.status.success() => Ok(number.trim().parse()?),
        _ => Err(format!("valgrind, {name}: {}\n{said}", output.status).into()),
    }
}
