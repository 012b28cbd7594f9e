//! Ctrl-C as a flag that long commands look at, so that they can say what they did and tidy up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

/// Set by Ctrl-C (and by what asks a process to end); a second one ends the process at once.
pub(crate) fn flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::new(format!("could not listen for signals: {error}")))?;
    }
    flag.store(false, Ordering::SeqCst);
    Ok(flag)
}
