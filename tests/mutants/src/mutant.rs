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
    Some(Mutant {
        number,
        file: text("file")?,
        name: text("name")?,
        kind,
        replacement: text("replacement")?,
        start: (start["line"].as_u64()? as usize, start["column"].as_u64()? as usize),
    })
}
