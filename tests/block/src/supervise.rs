//! Mounts that nobody else sees and that can't be left behind: the work is done by a second process in a
//! mount namespace of its own, and what loop devices it leaves, however it ends, are detached here.
//!
//! The second process is both the user of the file system and the disk below it. When it is killed, a thread
//! may wait for an answer that no thread gives any more: then the disk's connection is aborted from here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result};
use crate::tools;

/// Tells the second process its directory, and that it is the second.
const SCRATCH: &str = "THALWEG_BLOCK_SCRATCH";
const PREFIX: &str = "thalweg-block-run-";
const CONNECTION: &str = "connection";

/// How often it is asked whether the second process has ended.
const POLL: Duration = Duration::from_millis(20);
/// After so many times in which it only waits for its threads, nobody answers them any more.
const DYING_POLLS: u32 = 100;

/// The directory to work in, in the second process.
pub(crate) fn scratch() -> Option<PathBuf> {
    std::env::var_os(SCRATCH).map(PathBuf::from)
}

/// Set by Ctrl-C, and by what asks a process to end.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|error| Failure::io("could not listen for signals", error))?;
    }
    Ok(flag)
}

/// Runs this program again, in its own namespace, and tidies up behind it.
pub(crate) fn run() -> Result<ExitCode> {
    check_machine()?;
    let flag = stop_flag()?;
    detach_orphans();
    let scratch = std::env::temp_dir().join(format!("{PREFIX}{}", process::id()));
    fs::create_dir_all(&scratch).map_err(|error| Failure::io(scratch.display(), error))?;
    let ended = second(&scratch, &flag);
    detach(|file| file.contains(&*scratch.file_name().unwrap_or_default().to_string_lossy()));
    let removed = fs::remove_dir_all(&scratch);
    let code = ended?;
    removed.map_err(|error| Failure::io(scratch.display(), error))?;
    Ok(code)
}

fn second(scratch: &Path, flag: &AtomicBool) -> Result<ExitCode> {
    let program = std::env::current_exe().map_err(|error| Failure::io("this program isn't found again", error))?;
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(SCRATCH, scratch)
        .spawn()
        .map_err(|error| Failure::io("unshare", error))?;
    let (mut told, mut dying) = (false, 0);
    loop {
        if let Some(status) = child.try_wait().map_err(|error| Failure::io("unshare", error))? {
            return Ok(ExitCode::from(status.code().map_or(1, |code| code as u8)));
        }
        if flag.load(Ordering::SeqCst) && !told {
            told = true;
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        thread::sleep(POLL);
        dying = if is_dying(child.id()) { dying + 1 } else { 0 };
        if dying == DYING_POLLS {
            abort_connection(scratch);
        }
    }
}

/// Whether the process was ended, by itself or by a signal, and only waits for its threads.
fn is_dying(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let is_killed = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (Signal::KILL.as_raw() - 1) & 1 == 1)
    };
    status.lines().any(|line| line.starts_with("State:\tZ")) || is_killed("SigPnd:") || is_killed("ShdPnd:")
}

/// Notes in `scratch` which connection the FUSE file system has that is mounted there.
pub(crate) fn note_connection(scratch: &Path, mounted: &Path) -> Result<()> {
    let trouble = |error| Failure::io(mounted.display(), error);
    let device = rustix::fs::stat(mounted).map_err(|error| trouble(error.into()))?.st_dev;
    fs::write(scratch.join(CONNECTION), rustix::fs::minor(device).to_string()).map_err(trouble)
}

/// Has every request to that file system fail.
fn abort_connection(scratch: &Path) {
    let Ok(connection) = fs::read_to_string(scratch.join(CONNECTION)) else { return };
    let control = scratch.join("control");
    let _ = fs::create_dir_all(&control);
    if rustix::mount::mount("none", &control, "fusectl", MountFlags::empty(), None).is_ok() {
        let _ = fs::write(control.join(connection).join("abort"), "1");
        let _ = rustix::mount::unmount(&control, UnmountFlags::empty());
    }
}

/// What can be seen to be missing before anything is tried.
fn check_machine() -> Result<()> {
    let skipped = |what: &str| Err(Failure::Skipped(what.to_owned()));
    if !rustix::process::geteuid().is_root() {
        return skipped("mounting takes root: run it as root (sudo -E cargo run ...)");
    }
    if !Path::new("/dev/fuse").exists() {
        return skipped("/dev/fuse isn't here: modprobe fuse, or give the container the device");
    }
    if !Path::new("/dev/loop-control").exists() {
        return skipped("/dev/loop-control isn't here: modprobe loop, or give the container the loop devices");
    }
    for program in ["losetup", "unshare"] {
        if !tools::is_here(program) {
            return skipped(&format!("{program} isn't here (package util-linux)"));
        }
    }
    match tools::run("unshare", ["--mount", "--propagation", "private", "--", "true"]) {
        Ok(_) => Ok(()),
        Err(failure) => skipped(&format!("no mount namespace can be had here: {failure:?}")),
    }
}

/// Loop devices of runs that were killed and couldn't tidy up.
fn detach_orphans() {
    detach(|file| {
        let run = file.split(PREFIX).nth(1).and_then(|rest| rest.split('.').next());
        run.is_some_and(|process| process.parse::<u32>().is_ok() && !Path::new(&format!("/proc/{process}")).exists())
    });
}

fn detach(is_ours: impl Fn(&str) -> bool) {
    let Ok(devices) = tools::run("losetup", ["--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]) else {
        return;
    };
    for line in devices.lines() {
        if let Some((device, file)) = line.split_once(' ')
            && is_ours(file)
        {
            let _ = tools::run("losetup", ["-d", device]);
        }
    }
}
