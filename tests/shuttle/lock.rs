//! In the place of `src/lock.rs`, in a build with `--cfg thalweg_shuttle`: locks, atomics and threads at
//! which shuttle's scheduler may go on with another thread.
//!
//! Atomics are sequentially consistent here whatever they say, and time-outs don't come: a wait ends when
//! somebody ends it.

use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

pub(crate) use std::sync::OnceLock;

use shuttle::sync::{Condvar, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock};
pub(crate) use shuttle::{thread, thread_local};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` if somebody holds it.
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Crossbeam's, of a condition: it never ends by itself, so that a wake-up which is lost shows.
#[derive(Debug, Default)]
pub(crate) struct Parker(Unparker);

#[derive(Clone, Debug, Default)]
pub(crate) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker::default()
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.0
    }

    pub(crate) fn park(&self) {
        let (token, condition) = &*self.0.0;
        let mut token = lock(token);
        while !std::mem::take(&mut *token) {
            token = condition.wait(token).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn park_timeout(&self, _timeout: Duration) {
        self.park();
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let (token, condition) = &*self.0;
        *lock(token) = true;
        condition.notify_one();
    }
}
