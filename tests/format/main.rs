//! Goal: damage to files is never mistaken for data, for a torn tail, or for nothing at all.
//!
//! Method: small directories made through the public interface, then bits flipped, files cut,
//! moved, replaced; `inspect::verify` must see it, opening and reading must refuse it or give the
//! very records that were sent.

mod cuts;
mod flips;
mod looking;
mod misplaced;
mod support;
