//! Goal: a damaged directory is made whole again without losing what is intact, whatever is damaged
//! and whenever it is interrupted (D3, D5, D7).
//!
//! Method: a small closed directory on a simulated disk, with several segments, two partitions, two groups.
//! It is damaged from outside, repaired, checked, and compared with what was sent.

mod ages;
mod crash;
mod damage;
mod faults;
mod foreign;
mod holes;
mod keyed;
mod random;
mod support;
