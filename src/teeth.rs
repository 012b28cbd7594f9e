//! Bugs seeded on purpose, to see that the tests bite. They are there only in a build with
//! `RUSTFLAGS='--cfg thalweg_teeth'`, and then one at a time: the one that `THALWEG_BUG` names.
//!
//! In any other build [`bites`] is a constant `false`, and nothing of a bug is compiled in.

/// Whether this is the bug to have.
#[cfg(not(thalweg_teeth))]
#[inline(always)]
pub(crate) const fn bites(_bug: &str) -> bool {
    false
}

/// Whether this is the bug to have. Says once that its place was reached.
#[cfg(thalweg_teeth)]
pub(crate) fn bites(bug: &str) -> bool {
    static BUG: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    static REACHED: std::sync::Once = std::sync::Once::new();
    let chosen = BUG.get_or_init(|| std::env::var("THALWEG_BUG").ok());
    let bites = chosen.as_deref() == Some(bug);
    if bites {
        REACHED.call_once(|| eprintln!("the seeded bug {bug} is reached"));
    }
    bites
}
