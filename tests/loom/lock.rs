//! What the engine's `lock` module gives, of loom's.
//!
//! Loom takes sequentially consistent operations for acquire and release, but knows such fences: each of
//! those operations stands between two. All others are what they say.

pub(crate) use std::sync::OnceLock;

pub(crate) use loom::sync::atomic::{Ordering, fence};
pub(crate) use loom::sync::{Mutex, MutexGuard};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    mutex.try_lock().ok()
}

/// `operation` in this order, for one that loads and stores.
fn fenced<T>(order: Ordering, operation: impl FnOnce(Ordering) -> T) -> T {
    between_fences(order, Ordering::AcqRel, operation)
}

fn between_fences<T>(order: Ordering, inside: Ordering, operation: impl FnOnce(Ordering) -> T) -> T {
    if order != Ordering::SeqCst {
        return operation(order);
    }
    fence(Ordering::SeqCst);
    let result = operation(inside);
    fence(Ordering::SeqCst);
    result
}

macro_rules! atomic {
    ($name:ident, $value:ty, $($operation:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code)]
        impl $name {
            pub(crate) fn new(value: $value) -> $name {
                $name(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                between_fences(order, Ordering::Acquire, |order| self.0.load(order))
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                between_fences(order, Ordering::Release, |order| self.0.store(value, order));
            }

            $(pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                fenced(order, |order| self.0.$operation(value, order))
            })*
        }
    };
}

atomic!(AtomicBool, bool, swap);
atomic!(AtomicU32, u32, swap);
atomic!(AtomicU64, u64, fetch_or, fetch_and, fetch_max);
atomic!(AtomicUsize, usize, fetch_max, fetch_add);
