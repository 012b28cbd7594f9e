//! The mutants that `cargo mutants --list --json` names.

use serde_json::Value;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The whole of a function answers something else at once.
    Body,
    Binary,
    Unary,
    /// A match arm is gone.
    Arm,
    Guard,
    /// A struct's field takes its value from the rest.
    Field,
}

pub(crate) struct Mutant {
    pub(crate) number: usize,
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) replacement: String,
    /// Line and column where it begins, both from 1.
    pub(crate) start: (usize, usize),
}

impl Mutant {
    /// The file and what is changed, without the line, so that it stays the same when lines move.
    pub(crate) fn place(&self) -> String {
        let what = self.name.splitn(4, ':').nth(3).unwrap_or_default();
        format!("{}:{what}", self.file)
    }
}

/// Reads the list; a mutant's number is its place in it.
pub(crate) fn read(json: &str) -> Vec<Mutant> {
    let list: Vec<Value> = serde_json::from_str(json).expect("the output of cargo mutants --list --json");
    list.iter().enumerate().filter_map(|(number, mutant)| one(number, mutant)).collect()
}

fn one(number: usize, mutant: &Value) -> Option<Mutant> {
    let text = |key: &str| mutant[key].as_str().map(String::from);
    let start = &mutant["span"]["start"];
    let kind = match mutant["genre"].as_str()? {
        "FnValue" => Kind::Body,
        "BinaryOperator" => Kind::Binary,
        "UnaryOperator" => Kind::Unary,
        "MatchArm" => Kind::Arm,
        "MatchArmGuard" => Kind::Guard,
        "StructField" => Kind::Field,
        _ => return None,
    };
    let answers = mutant["function"]["return_type"].as_str().unwrap_or_default();
    if kind == Kind::Body && answers.contains("impl ") {
        // Two answers of an `impl Trait` would have to be of one type.
        return None;
    }
    Some(Mutant {
        number,
        file: text("file")?,
        name: text("name")?,
        kind,
        replacement: text("replacement")?,
        start: (start["line"].as_u64()? as usize, start["column"].as_u64()? as usize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_impl_trait_keeps_its_body() {
        let mutant = |genre: &str, answers: &str| {
            format!(
                r#"{{"file": "src/x.rs", "name": "src/x.rs:1:2: replace y", "genre": "{genre}", "replacement": "z",
                "span": {{"start": {{"line": 1, "column": 2}}}}, "function": {{"return_type": "{answers}"}}}}"#
            )
        };
        let all = [("FnValue", "-> impl Iterator<Item =u8>"), ("BinaryOperator", "-> impl Copy"), ("FnValue", "-> u8")];
        let read = read(&format!("[{}]", all.map(|(genre, answers)| mutant(genre, answers)).join(",")));
        assert_eq!(
            read.iter().map(|mutant| (mutant.number, mutant.kind)).collect::<Vec<_>>(),
            [(1, Kind::Binary), (2, Kind::Body)]
        );
        assert_eq!(read[0].place(), "src/x.rs: replace y");
    }
}
