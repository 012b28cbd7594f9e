//! In the place of `src/lock.rs`, in a build with `--cfg thalweg_tsan`: std's locks, each with a mark that
//! ThreadSanitizer sees.
//!
//! Std comes compiled, without the sanitizer's calls: where a lock is contended, what one holder did is
//! ordered before the next one only by code that the sanitizer doesn't see. So whoever lets a lock go
//! marks that, and whoever gets it looks at the mark. Mark and look order nothing that the lock doesn't.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::{thread, thread_local};

pub(crate) use crossbeam::sync::{Parker, Unparker};

#[derive(Default)]
struct Mark(AtomicU32);

impl Mark {
    fn set(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn look(&self) {
        let _ = self.0.load(Ordering::Acquire);
    }
}

/// A lock's guard, which marks the end of what it guards before the lock is let go.
pub(crate) struct Marked<'a, G> {
    mark: &'a Mark,
    guard: G,
}

impl<'a, G> Marked<'a, G> {
    fn new(mark: &'a Mark, guard: G) -> Marked<'a, G> {
        mark.look();
        Marked { mark, guard }
    }
}

impl<G> Drop for Marked<'_, G> {
    fn drop(&mut self) {
        self.mark.set();
    }
}

impl<G: Deref> Deref for Marked<'_, G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Marked<'_, G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

#[derive(Default)]
pub(crate) struct Mutex<T: ?Sized> {
    mark: Mark,
    inner: std::sync::Mutex<T>,
}

pub(crate) type MutexGuard<'a, T> = Marked<'a, std::sync::MutexGuard<'a, T>>;

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex { mark: Mark(AtomicU32::new(0)), inner: std::sync::Mutex::new(value) }
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    Marked::new(&mutex.mark, mutex.inner.lock().unwrap_or_else(PoisonError::into_inner))
}

/// `None` if somebody holds it.
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.inner.try_lock() {
        Ok(guard) => Some(Marked::new(&mutex.mark, guard)),
        Err(TryLockError::Poisoned(poisoned)) => Some(Marked::new(&mutex.mark, poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[derive(Default)]
pub(crate) struct RwLock<T: ?Sized> {
    mark: Mark,
    inner: std::sync::RwLock<T>,
}

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> RwLock<T> {
        RwLock { mark: Mark(AtomicU32::new(0)), inner: std::sync::RwLock::new(value) }
    }
}

pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> Marked<'_, std::sync::RwLockReadGuard<'_, T>> {
    Marked::new(&lock.mark, lock.inner.read().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> Marked<'_, std::sync::RwLockWriteGuard<'_, T>> {
    Marked::new(&lock.mark, lock.inner.write().unwrap_or_else(PoisonError::into_inner))
}

/// There is something in it once that is marked.
pub(crate) struct OnceLock<T> {
    mark: AtomicBool,
    inner: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) const fn new() -> OnceLock<T> {
        OnceLock { mark: AtomicBool::new(false), inner: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.mark.load(Ordering::Acquire) { self.inner.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.inner.set(value)?;
        self.mark.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let mut is_ours = false;
        let value = self.inner.get_or_init(|| {
            is_ours = true;
            init()
        });
        if is_ours {
            self.mark.store(true, Ordering::Release);
        }
        while !self.mark.load(Ordering::Acquire) {
            thread::yield_now();
        }
        value
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {
        $(impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        })*
    };
}

opaque!(Mutex, RwLock, OnceLock);
