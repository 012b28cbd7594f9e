//! Goal: the tests bite. Each seeded bug is found, by whom and how fast is a table.
//!
//! Method: built with `RUSTFLAGS='--cfg thalweg_teeth'`, this runs itself once for each bug and level,
//! with `THALWEG_BUG` set: the crash explorer, then the errors, each from seed 0 for at most
//! `THALWEG_SECONDS` (60); where neither finds it, and always with `THALWEG_SUITES` (which lists others),
//! `cargo test` of the library and some suites. Names of bugs as arguments run only those. Without the
//! cfg it has nothing to do.

mod bugs;

#[cfg(not(thalweg_teeth))]
fn main() {
    let count = bugs::BUGS.iter().filter(|bug| !bug.name.is_empty() && !bug.what.is_empty()).count();
    eprintln!("{count} bugs can be seeded: RUSTFLAGS='--cfg thalweg_teeth'");
}

#[cfg(thalweg_teeth)]
mod run;

#[cfg(thalweg_teeth)]
fn main() {
    run::main();
}
