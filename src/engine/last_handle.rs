//! Closing from within a writer's work: a waker or listener there may drop the last handle on the engine. The work would
//! wait for itself, so that another thread closes.

use std::sync::Arc;

use super::Core;
use crate::error::{Error, thread_not_started};
use crate::events::Event;
use crate::lock::{Mutex, Ordering, lock, thread};
use crate::partition::is_at_work;

/// What all handles on an engine share, and drop last.
pub(super) struct LastHandle(Option<Arc<Core>>);

impl LastHandle {
    pub(super) fn new(core: &Arc<Core>) -> Arc<LastHandle> {
        Arc::new(LastHandle(Some(core.clone())))
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        if let Some(core) = self.0.take()
            && core.env.opener.is_this()
            && !core.closed.load(Ordering::SeqCst)
            && is_at_work()
        {
            close_elsewhere(core);
        }
    }
}

/// Has another thread close the engine. If none can be started, it stays open until the process ends: with this
/// handle dropped here, the thread would wait for itself.
pub(super) fn close_elsewhere(core: Arc<Core>) {
    const NAME: &str = "thalweg-close";
    let held = Arc::new(Mutex::new(Some(core)));
    let handed = held.clone();
    let started = thread::Builder::new().name(NAME.to_owned()).spawn(move || {
        let core = lock(&handed).take();
        if let Some(core) = core
            && let Err(error) = core.close()
        {
            core.env.events.emit(Event::Background { what: "closing", error });
        }
    });
    if let Err(error) = started
        && let Some(core) = lock(&held).take()
    {
        let error = Error::io(thread_not_started(NAME, &error));
        core.env.events.emit(Event::Background { what: "closing", error });
        std::mem::forget(core);
    }
}
