//! The mutants that tests can't or needn't catch, each under its reason: `known.txt`.

use crate::mutant::Mutant;

/// Line by line: `# ` and a reason, below it the mutants it holds for, without their line numbers; `*` stands for
/// anything.
const KNOWN: &str = include_str!("../known.txt");

/// Why it is no matter that no test fails.
pub(crate) fn reason(mutant: &Mutant) -> Option<&'static str> {
    let place = mutant.place();
    let mut reason = None;
    for line in KNOWN.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(text) => reason = Some(text),
            None if matches(line, &place) => return reason,
            None => {}
        }
    }
    None
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
