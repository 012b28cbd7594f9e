//! Goal: the crash tests that users run are themselves right: they find nothing in a sound engine, do
//! the same for the same seed, and see what is broken on purpose.
//!
//! Method: bounded runs of `thalweg::torture`. `THALWEG_SEED` and `THALWEG_CYCLES` run others.

use thalweg::torture::{self, Limits, Report};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn limits(cycles: u64) -> Limits {
    let cycles = number("THALWEG_CYCLES").unwrap_or(cycles);
    Limits { seed: number("THALWEG_SEED").unwrap_or(0), time: None, cycles: Some(cycles), threads: 2 }
}

fn assert_sound(report: &Report) {
    for violation in &report.violations {
        eprintln!("seed {}: {}\n  {}", violation.seed, violation.what, violation.history.join("\n  "));
    }
    assert!(report.violations.is_empty());
}

#[test]
fn d1_d2_d3_d5_no_crash_at_any_operation_breaks_a_promise() {
    let report = torture::sim(&limits(3), &|_| true);
    assert_sound(&report);
    eprintln!("{report:?}");
    assert!(report.distinct_states > 1_000, "{report:?}");
}

#[test]
fn d4_no_error_at_any_call_breaks_a_promise() {
    let report = torture::io(&limits(400), &|_| true);
    assert_sound(&report);
    eprintln!("{report:?}");
    assert!(report.faults > 100, "{report:?}");
}
