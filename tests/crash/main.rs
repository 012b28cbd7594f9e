//! Goal: no crash loses, invents, reorders or brings back a record (D1, D2, D3), at any instant and
//! several times in a row.
//!
//! Method: the real engine on a simulated disk, one step at a time. A seeded script of appends,
//! syncs, rolls, deletions and reopenings runs until the power is cut after a random number of disk
//! operations; what is found afterwards is compared with a model, and the next life begins there.
//! Every failure prints its seed; `THALWEG_SEED=n` repeats one, `THALWEG_SEEDS=n` runs more.

mod errors;
mod explore;
mod met;
mod model;
mod promises;
mod support;
