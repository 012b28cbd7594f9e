//! What the threads do, one file a part of the engine.

mod intake;
mod progress;
mod ready;
mod segment;
mod shared;
