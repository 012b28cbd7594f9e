//! The command as its users run it: the built binary, its output, its exit codes.
//!
//! Each test has a data directory of its own. Processes that run side by side are brought into a
//! known state by what they print, never by waiting.

mod alter;
mod bad_input;
mod bench;
mod closed_stdout;
mod damage;
mod demo;
mod descriptors;
mod foreign_text;
mod group_consume;
mod group_plan;
mod groups;
mod groups_alive;
mod inject;
mod kill;
mod reading;
mod repair;
mod round_trip;
mod side_by_side;
mod support;
mod topics;
mod torture;
