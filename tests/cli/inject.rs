//! Errors from the system itself, given by strace at the n-th call of a kind: what was acknowledged is
//! there afterwards, the directory is sound, the command says what failed, and goes on the next time.
//!
//! Syncs go through threads here (the ring is refused): strace sees no call of the ring's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

use crate::support::{Place, Ran, run, thalweg};

/// Longer than any command takes: then it hangs.
const PATIENCE: &str = "10";

/// Calls, and the errors that they give. Of several names a machine's library calls one or two.
const APPENDING: [(&str, &[&str]); 9] = [
    ("pwritev,pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO", "ENOSPC", "EINTR"]),
    ("fsync", &["EIO"]),
    ("fallocate", &["EIO", "ENOSPC", "EINTR"]),
    ("open,openat", &["EIO", "EMFILE", "EINTR"]),
    ("linkat,rename,renameat,renameat2", &["EIO", "ENOSPC"]),
    ("unlink,unlinkat", &["EIO"]),
    ("ftruncate", &["EIO", "EINTR"]),
    ("flock", &["EIO", "EINTR"]),
];

const CONSUMING: [(&str, &[&str]); 6] = [
    ("pwritev", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO"]),
    ("open,openat", &["EIO", "EMFILE"]),
    ("mmap", &["ENOMEM", "EMFILE"]),
    ("madvise", &["EIO", "ENOMEM"]),
    ("pread64", &["EIO", "EINTR"]),
];

#[test]
fn produce_loses_nothing_acknowledged_when_a_call_fails() {
    let Some(strace) = Strace::find() else { return };
    let mut round = 0;
    for (calls, errors) in APPENDING {
        let place = a_topic();
        for error in errors {
            let mut came = 0;
            for (call, number) in strace.places(&place, calls, &["produce", "t", "--json"]) {
                round += 1;
                let lines: Vec<_> =
                    (0..120).map(|line| format!("round {round} line {line} {}", "x".repeat(700))).collect();
                let what = format!("{call} {error} at call {number}");
                let args = ["produce", "t", "--json"];
                let (ran, injected) =
                    strace.run(&place, &inject(&call, error, number), &args, lines.join("\n").as_bytes());
                came += injected;
                ended_well(&ran, &what);
                let acks = ran.json_lines();
                if *error == "EINTR" || ran.code == Some(0) {
                    assert_eq!((ran.code, acks.len()), (Some(0), lines.len()), "{what}: {ran:?}");
                }
                let sound = place.run(&["verify"]);
                assert_eq!(sound.code, Some(0), "{what}: {sound:?}");
                let found = [place.records("t", 0), place.records("t", 1)];
                // What failed isn't named, the rest is in order of sending.
                let mut unnamed = lines.iter();
                for ack in &acks {
                    let found = &found[ack["partition"].as_u64().unwrap() as usize];
                    let record = found.iter().find(|record| record["offset"] == ack["offset"]);
                    let value = record.and_then(|record| record["value"].as_str());
                    assert!(unnamed.any(|line| value == Some(line)), "{what}: {ack}: {record:?}");
                }
            }
            assert!(came > 0, "{calls} {error}: no call of these on the data directory");
        }
        place.run_with(&["produce", "t"], b"and on\n").succeeded();
    }
}

#[test]
fn a_group_misses_nothing_when_a_call_fails() {
    let Some(strace) = Strace::find() else { return };
    let place = a_topic();
    let args = ["consume", "t", "--group", "g", "--json"];
    let mut round = 0;
    for (calls, errors) in CONSUMING {
        for error in errors {
            let mut came = 0;
            place.run_with(&["produce", "t"], b"so that there is something to read\n").succeeded();
            for (call, number) in strace.places(&place, calls, &args) {
                round += 1;
                let lines: BTreeSet<_> = (0..50).map(|line| format!("round {round} line {line}")).collect();
                let input = lines.iter().cloned().collect::<Vec<_>>().join("\n");
                place.run_with(&["produce", "t"], input.as_bytes()).succeeded();
                let what = format!("{call} {error} at call {number}");
                let (ran, injected) = strace.run(&place, &inject(&call, error, number), &args, b"");
                came += injected;
                ended_well(&ran, &what);
                assert!(*error != "EINTR" || ran.code == Some(0), "{what}: {ran:?}");
                let sound = place.run(&["verify"]);
                assert_eq!(sound.code, Some(0), "{what}: {sound:?}");
                let rest = place.run(&args).succeeded();
                let seen = [ran.json_lines(), rest.json_lines()].concat();
                let seen: BTreeSet<_> = seen.iter().filter_map(|record| record["value"].as_str()).collect();
                assert!(lines.iter().all(|line| seen.contains(line.as_str())), "{what}: {ran:?} {rest:?}");
                if ran.code == Some(0) {
                    assert!(rest.stdout.is_empty(), "{what}: what was committed came again: {rest:?}");
                }
            }
            assert!(came > 0, "{calls} {error}: no call of these on the data directory");
        }
    }
}

#[test]
fn a_thread_that_cannot_be_started_is_told() {
    let Some(strace) = Strace::find() else { return };
    let place = a_topic();
    let mut came = 0;
    for number in 1..=6 {
        let option = inject("clone3", "EAGAIN", number);
        let (ran, injected) = strace.run(&place, &option, &["produce", "t", "--json"], b"a\nb\n");
        came += injected;
        ended_well(&ran, &option);
        assert!(ran.code == Some(1) || ran.json_lines().len() == 2, "{option}: {ran:?}");
        place.run(&["verify"]).succeeded();
    }
    assert!(came > 0, "no thread was started by clone3");
}

/// Small segments, so that each run makes new ones.
fn a_topic() -> Place {
    let place = Place::new();
    let args = ["topic", "create", "t", "--partitions", "2", "--config", "segment.bytes=65536"];
    place.run(&args).succeeded();
    place.run_with(&["produce", "t", "--partition", "0"], b"first\n").succeeded();
    place.run_with(&["produce", "t", "--partition", "1"], b"first\n").succeeded();
    place.run(&["consume", "t", "--group", "g"]).succeeded();
    place
}

fn inject(call: &str, error: &str, number: usize) -> String {
    format!("inject={call}:error={error}:when={number}")
}

/// The ring works at first, and from some call on the kernel refuses it for ever: nothing hangs, and what was
/// acknowledged is there.
#[test]
fn a_ring_that_fails_hangs_nothing() {
    let Some(strace) = Strace::find() else { return };
    for (error, calls) in [("EIO", [2, 9]), ("EBADF", [3, 5])] {
        for first in calls {
            let place = a_topic();
            let log = place.path().with_extension("strace");
            let option = format!("inject=io_uring_enter:error={error}:when={first}+");
            let lines: String = (0..400).map(|line| format!("line {line} {}\n", "x".repeat(5_000))).collect();
            let command = strace.with_ring(&place, &option, log.to_str().unwrap(), &["produce", "t", "--json"]);
            let ran = run(command, lines.as_bytes());
            let what = format!("io_uring_enter {error} from call {first} on");
            ended_well(&ran, &what);
            let acks = ran.json_lines();
            assert!(ran.code == Some(1) || acks.len() == 400, "{what}: {ran:?}");
            let found = place.records("t", 0).len() + place.records("t", 1).len();
            assert!(found >= acks.len(), "{what}: {found} of {}", acks.len());
            assert_eq!(place.run(&["verify"]).code, Some(0), "{what}");
        }
    }
}

/// It did what it should, or failed and said so.
#[track_caller]
fn ended_well(ran: &Ran, what: &str) {
    assert!(matches!(ran.code, Some(0 | 1)), "{what}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{what}: {ran:?}");
    if ran.code == Some(1) {
        assert!(ran.stderr.lines().any(|line| line.starts_with("error: ")), "{what}: {ran:?}");
    }
}

struct Strace;

impl Strace {
    /// `None`, and says so, where there is none or it may not trace.
    fn find() -> Option<Strace> {
        let works = Command::new("strace").args(["-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]).output();
        if works.is_ok_and(|output| output.status.success()) {
            return Some(Strace);
        }
        println!("SKIPPED: strace isn't here or may not trace; errors of the system were not injected");
        None
    }

    /// Runs the command on this directory with errors as this option says. How many came?
    fn run(&self, place: &Place, option: &str, args: &[&str], input: &[u8]) -> (Ran, usize) {
        let log = place.path().with_extension("strace");
        let ran = run(self.logged(place, option, log.to_str().unwrap(), args), input);
        let log = std::fs::read(log).unwrap();
        let lines = String::from_utf8_lossy(&log);
        let injected = lines.lines().filter(|line| line.ends_with("(INJECTED)") && !line.contains("io_uring_setup"));
        (ran, injected.count())
    }

    /// The command on this directory under strace, with this option.
    fn logged(&self, place: &Place, option: &str, log: &str, args: &[&str]) -> Command {
        self.traced(place, &[option, "inject=io_uring_setup:error=EPERM"], log, args)
    }

    /// The same where the ring may be used.
    fn with_ring(&self, place: &Place, option: &str, log: &str, args: &[&str]) -> Command {
        self.traced(place, &[option], log, args)
    }

    fn traced(&self, place: &Place, options: &[&str], log: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", PATIENCE, "strace", "-f", "-y", "-qq", "-o", log]);
        for option in options {
            command.args(["-e", option]);
        }
        command.env_remove("CARGO").env_remove("THALWEG_DIR");
        command.arg(thalweg().get_program()).arg("--dir").arg(place.path()).args(args);
        command
    }

    /// At which of these calls of a thread the command comes to the data directory: the first and the last
    /// one by each name. strace counts each thread's calls of each name by themselves.
    fn places(&self, place: &Place, calls: &str, args: &[&str]) -> Vec<(String, usize)> {
        let log = place.path().with_extension("strace");
        // Not every machine has all of them.
        let traced = calls.replace(',', ",?");
        let traced = self.logged(place, &format!("trace=?{traced},io_uring_setup"), log.to_str().unwrap(), args);
        let lines = (String::from("a line") + &"x".repeat(700) + "\n").repeat(120);
        run(traced, lines.as_bytes()).succeeded();
        let data = place.path();
        let mut counts = HashMap::<(String, String), usize>::new();
        let mut places = BTreeMap::<String, BTreeSet<usize>>::new();
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let Some((thread, what)) = line.split_once(' ') else { continue };
            let Some((call, what)) = what.trim_start().split_once('(') else { continue };
            if calls.split(',').any(|name| name == call) {
                let number = counts.entry((thread.to_owned(), call.to_owned())).or_default();
                *number += 1;
                // Advice names addresses only; this one is asked for where files are mapped, and nowhere else.
                if what.contains(data.to_str().unwrap()) || what.contains("MADV_POPULATE_READ") {
                    places.entry(call.to_owned()).or_default().insert(*number);
                }
            }
        }
        let ends =
            |numbers: BTreeSet<usize>| BTreeSet::from_iter(numbers.first().into_iter().chain(numbers.last()).copied());
        places
            .into_iter()
            .flat_map(|(call, numbers)| ends(numbers).into_iter().map(move |number| (call.clone(), number)))
            .collect()
    }
}
