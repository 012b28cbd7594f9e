//! Goal: later.
