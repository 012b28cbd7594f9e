//! Changes in directories as Linux tells of them (inotify).
//!
//! A write by any process is told before it returns, so that who asks after it finds it. That holds on local file
//! systems only; others are refused.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::{Errno, retry_on_intr};

use super::place::{Place, Root};
use crate::disk::Watch;
use crate::lock::{Mutex, lock};

/// ext2 to ext4, XFS, btrfs, tmpfs, overlay, F2FS, ZFS, bcachefs: nobody writes there but through this kernel.
const LOCAL: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];

/// How many bytes of news are read at once.
const NEWS_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Inotify {
    news: OwnedFd,
    /// Ends a sleep.
    woken: OwnedFd,
    /// What the names of a watched directory's files begin with that are told of, by its number.
    prefixes: Mutex<HashMap<i32, Vec<&'static str>>>,
    root: Option<Root>,
}

impl Inotify {
    pub(super) fn new(root: Option<Root>) -> io::Result<Inotify> {
        Ok(Inotify {
            news: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            woken: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            prefixes: Mutex::default(),
            root,
        })
    }
}

impl Watch for Inotify {
    fn add(&self, dir: &std::path::Path, prefix: &'static str) -> io::Result<u64> {
        let dir = Place::find(self.root.as_ref(), dir)?.open_dir()?;
        if !LOCAL.contains(&(rustix::fs::fstatfs(&dir)?.f_type as u64)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // By descriptor: the name may lead elsewhere by now.
        let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        let number = inotify::add_watch(&self.news, path, changes)?;
        lock(&self.prefixes).entry(number).or_default().push(prefix);
        Ok(number as u64)
    }

    fn remove(&self, number: u64) {
        let number = number as i32;
        lock(&self.prefixes).remove(&number);
        let _ = inotify::remove_watch(&self.news, number);
    }

    fn changed(&self, into: &mut BTreeSet<(u64, &'static str)>) -> bool {
        let mut buffer = [MaybeUninit::uninit(); NEWS_BYTES];
        let mut reader = inotify::Reader::new(&self.news, &mut buffer);
        let prefixes = lock(&self.prefixes);
        let mut all_told = true;
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => all_told = false,
                Ok(event) => {
                    let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
                    let asked = prefixes.get(&event.wd()).into_iter().flatten();
                    let asked = asked.filter(|prefix| name.starts_with(prefix.as_bytes()));
                    into.extend(asked.map(|&prefix| (event.wd() as u64, prefix)));
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return all_told,
                Err(_) => return false,
            }
        }
    }

    fn sleep(&self, timeout: Duration) {
        let mut either = [PollFd::new(&self.news, PollFlags::IN), PollFd::new(&self.woken, PollFlags::IN)];
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let _ = poll(&mut either, Some(&timeout));
        let _ = retry_on_intr(|| rustix::io::read(&self.woken, &mut [0_u8; 8]));
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.woken, &1_u64.to_ne_bytes());
    }
}
