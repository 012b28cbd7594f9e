//! What stands in `LOCK`: who has the directory open for writing, and whether a sync failed him; or where
//! the catalogue ended when it was closed.
//!
//! The latter is written once the catalogue is synced, so it proves that everything below was
//! durable: the only evidence for the catalogue's own last entries. That a sync failed tells the next one that
//! memory may hold what the drive lacks. Nothing depends on either's being there: they are never synced, and
//! the next open for writing writes over them.

use std::io::{self, IoSlice};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::clock::precise_wall_ms;
use crate::disk::{Access, Disk, File};
use crate::format::crc;
use crate::text::rfc3339;

pub(crate) const LOCK_NAME: &str = "LOCK";

/// Notes that the directory was closed, with the catalogue `catalog` ending at `position`.
pub(crate) fn note_closed(disk: &dyn Disk, dir: &Path, catalog: &Path, position: u64) -> io::Result<()> {
    let name = catalog.file_name().unwrap_or_default().to_string_lossy();
    note_again(disk, dir, &closed_text(&name, position))
}

/// Behind who has it.
const SYNC_FAILED: &str = "; a sync failed";

/// Notes behind who has the directory that a sync failed.
pub(crate) fn note_failed_sync(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let file = disk.open(&dir.join(LOCK_NAME), Access::Write)?;
    let text = read(&*file)?;
    if text.ends_with(SYNC_FAILED.as_bytes()) {
        return Ok(());
    }
    file.write_at(&[IoSlice::new(SYNC_FAILED.as_bytes())], text.len() as u64)
}

fn read(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; 1024];
    let read = file.read_at(&mut text, 0)?;
    text.truncate(read);
    Ok(text)
}

/// Writes such a note as it stood there.
pub(crate) fn note_again(disk: &dyn Disk, dir: &Path, text: &str) -> io::Result<()> {
    let file = disk.open(&dir.join(LOCK_NAME), Access::Write)?;
    file.write_at(&[IoSlice::new(text.as_bytes())], 0)?;
    file.give_back(text.len() as u64)
}

/// What the last one who had the directory left there.
pub(crate) enum Left {
    /// Nothing to go by: it died, or wrote something else.
    Nothing,
    SyncFailed,
    /// It closed the directory: the note, which is whole.
    Closed(String),
}

/// Reads what was left in the file.
pub(crate) fn left(disk: &dyn Disk, dir: &Path) -> Left {
    let text = disk.open(&dir.join(LOCK_NAME), Access::Read).and_then(|file| read(&*file));
    let Ok(text) = String::from_utf8(text.unwrap_or_default()) else { return Left::Nothing };
    match parse_closed(&text) {
        Some((catalog, position)) => Left::Closed(closed_text(&catalog, position)),
        None if text.ends_with(SYNC_FAILED) => Left::SyncFailed,
        None => Left::Nothing,
    }
}

fn closed_text(catalog: &str, position: u64) -> String {
    let text = format!("closed; {catalog} ends at position {position}");
    let checksum = crc(text.as_bytes());
    format!("{text}; {checksum:08x}\n")
}

/// Name and end of the catalogue, if the text is a whole note that the directory was closed.
///
/// Who repairs the directory writes itself down behind it.
pub(crate) fn parse_closed(text: &str) -> Option<(String, u64)> {
    let text = text.split_inclusive('\n').next()?;
    let (catalog, rest) = text.strip_prefix("closed; ")?.split_once(" ends at position ")?;
    let (position, _) = rest.split_once(';')?;
    let position = position.parse().ok()?;
    (closed_text(catalog, position) == text).then(|| (catalog.to_owned(), position))
}

/// What this process writes there while it has the directory.
pub(crate) fn own_holder() -> String {
    format!("{}{}", start_of(std::process::id(), &host()), rfc3339(precise_wall_ms()))
}

fn start_of(pid: u32, host: &str) -> String {
    format!("pid {pid}, host {host}, since ")
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who has the directory, as the text in the file says. While it is opened or closed, the text is an earlier one's.
pub(crate) fn holder_in(text: &str) -> String {
    // A repair writes itself down behind the note of a clean close.
    let last = text.lines().find(|line| line.starts_with("pid ")).unwrap_or_default();
    let parsed = last.split_once(", since ").and_then(|(start, rest)| {
        let (pid, host) = start.strip_prefix("pid ")?.split_once(", host ")?;
        let (since, _) = rest.split_once('Z')?;
        Some((pid.parse::<u32>().ok()?, host, since))
    });
    match parsed {
        None => "it has not noted which one it is".to_owned(),
        Some((pid, of, _)) if of == host() && has_ended(pid) => {
            format!("process {pid} has ended, and a process that it forked still holds the lock")
        }
        Some((pid, host, since)) => format!("{}{since}Z", start_of(pid, host)),
    }
}

fn has_ended(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named_without_what_others_left() {
        let unknown = "it has not noted which one it is";
        for text in
            ["", "closed; catalog-1 ends at position 5960; 194a0b0b\n", "pid 12", "pid 12, host a, since 2026-11"]
        {
            assert_eq!(holder_in(text), unknown, "{text}");
        }
        let elsewhere = "pid 12, host of another name, since 2026-11-30T09:46:25.818Z";
        for behind in ["", "; a sync failed", "; 194a0b0b\n"] {
            assert_eq!(holder_in(&format!("{elsewhere}{behind}")), elsewhere);
        }
        // A repair.
        let own = own_holder();
        assert_eq!(holder_in(&format!("closed; catalog-1 ends at position 5960; 194a0b0b\n{own}")), own);
        // No process has so high a number.
        let ended = format!("{}2026-11-30T09:46:25.818Z", start_of(i32::MAX as u32, &host()));
        assert_eq!(
            holder_in(&ended),
            "process 2147483647 has ended, and a process that it forked still holds the lock"
        );
    }

    #[test]
    fn a_note_is_whole_or_none() {
        let text = closed_text("catalog-3", 4_720);
        assert_eq!(text, "closed; catalog-3 ends at position 4720; 22925789\n");
        assert_eq!(parse_closed(&text), Some(("catalog-3".to_owned(), 4_720)));
        for at in 0..text.len() {
            assert_eq!(parse_closed(&text[..at]), None, "cut at {at}");
            for bit in 0..7 {
                let mut flipped = text.clone().into_bytes();
                flipped[at] ^= 1 << bit;
                assert_eq!(parse_closed(std::str::from_utf8(&flipped).unwrap()), None, "bit {bit} of byte {at}");
            }
        }
        assert_eq!(parse_closed("pid 12, host earth, since 1700000000000 ms after 1970"), None);
    }
}
