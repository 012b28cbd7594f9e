//! The mutants that tests can't or needn't catch, each under its reason: `known.txt`.

use crate::mutant::Mutant;

/// Line by line: `# ` and a reason, below it the mutants it holds for, without their line numbers; `*` stands for
/// anything.
const KNOWN: &str = include_str!("../known.txt");

/// Whether it is no matter that no test fails.
pub(crate) fn has_reason(mutant: &Mutant) -> bool {
    let place = mutant.place();
    let patterns = KNOWN.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    patterns.into_iter().any(|pattern| matches(pattern, &place))
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => {
            let Some(text) = text.strip_prefix(start) else { return false };
            (0..=text.len()).filter(|&at| text.is_char_boundary(at)).any(|at| matches(rest, &text[at..]))
        }
    }
}
