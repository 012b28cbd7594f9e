//! The embedder's code on the engine's threads: a panic in it ends there.
//!
//! Wakers are called in places that know no listener. What one panicked with is kept for the thread
//! ([`contained`]), until the engine's next step there reports it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::error::{Error, ErrorKind};

thread_local! {
    static CONTAINED: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Runs `code`; a panic in it becomes an error.
pub(crate) fn caught<R>(code: impl FnOnce() -> R) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let message = message(&*panic);
        // The value it panicked with may itself panic when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        Error::new(ErrorKind::Panicked { message })
    })
}

/// Wakes a task, whatever its waker does.
pub(crate) fn wake(waker: Waker) {
    if let Err(error) = caught(|| waker.wake()) {
        CONTAINED.with(|cell| cell.set(Some(error)));
    }
}

/// Wakes them all. Called without a lock: a waker's code may drop a future of the engine's.
pub(crate) fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(wake);
}

/// The last panic of a waker on this thread that nobody has reported.
pub(crate) fn contained() -> Option<Error> {
    CONTAINED.with(Cell::take)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    //! Goal: a panic is an error with its message, and stays in its place.

    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Panics>) {
            panic!("of a waker");
        }
    }

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("again");
            }
        }
    }

    fn panicked(message: &str) -> Error {
        Error::new(ErrorKind::Panicked { message: message.to_owned() })
    }

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(caught(|| 5), Ok(5));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>(panicked("plain")));
        assert_eq!(caught(|| panic!("number {}", 5)), Err::<(), _>(panicked("number 5")));
        let other = caught(|| std::panic::panic_any(PanicsWhenDropped));
        assert_eq!(other, Err::<(), _>(panicked("no message")));
    }

    #[test]
    fn a_wakers_panic_is_kept_for_one_report() {
        assert_eq!(contained(), None);
        wake(Waker::from(Arc::new(Panics)));
        assert_eq!(contained(), Some(panicked("of a waker")));
        assert_eq!(contained(), None);
    }
}
