//! Writes all mutants of a file into it at once, each behind a question asked when the program runs.
//!
//! What is written are insertions only, so that mutants can lie within each other.

use crate::mutant::{Kind, Mutant};
use proc_macro2::{LineColumn, Span};
use std::collections::HashMap;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The text with the mutants that could be woven in, and which those are.
pub(crate) fn weave(text: &str, mutants: &[&Mutant]) -> Result<(String, Vec<usize>), syn::Error> {
    let file = syn::parse_file(text)?;
    let mut weaver = Weaver {
        text,
        lines: line_starts(text),
        at: HashMap::new(),
        insertions: Vec::new(),
        woven: Vec::new(),
        constant: 0,
    };
    for mutant in mutants {
        weaver.at.entry(mutant.start).or_default().push(mutant);
    }
    for mutant in mutants.iter().filter(|mutant| mutant.kind == Kind::Body) {
        let answer = &mutant.replacement;
        weaver.alternative(weaver.byte(mutant.start), 0, mutant.number, &format!("return {answer};"));
    }
    weaver.visit_file(&file);
    let Weaver { mut insertions, woven, .. } = weaver;
    insertions.sort_by_key(|insertion| (insertion.at, insertion.rank));
    let mut out = String::with_capacity(2 * text.len());
    let mut from = 0;
    for insertion in &insertions {
        out.push_str(&text[from..insertion.at]);
        out.push_str(&insertion.text);
        from = insertion.at;
    }
    out.push_str(&text[from..]);
    Ok((out, woven))
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

struct Insertion {
    at: usize,
    /// Among insertions at one place: what ends comes before what begins, the inner end before the outer, the outer
    /// beginning before the inner.
    rank: i64,
    text: String,
}

struct Weaver<'a> {
    text: &'a str,
    lines: Vec<usize>,
    at: HashMap<(usize, usize), Vec<&'a Mutant>>,
    insertions: Vec<Insertion>,
    woven: Vec<usize>,
    /// How many constant contexts this is in: nothing can be asked there.
    constant: usize,
}

impl<'a> Weaver<'a> {
    /// The byte of a line (from 1) and a column in characters (from 1).
    fn byte(&self, (line, column): (usize, usize)) -> usize {
        let start = self.lines[line - 1];
        self.text[start..].char_indices().nth(column - 1).map_or(self.text.len(), |(at, _)| start + at)
    }

    fn place(&self, at: LineColumn) -> usize {
        self.byte((at.line, at.column + 1))
    }

    fn range(&self, span: Span) -> (usize, usize) {
        (self.place(span.start()), self.place(span.end()))
    }

    fn of(&self, span: Span, kind: Kind) -> Vec<&'a Mutant> {
        if self.constant > 0 {
            return Vec::new();
        }
        let start = span.start();
        let found = self.at.get(&(start.line, start.column + 1));
        found.into_iter().flatten().copied().filter(|mutant| mutant.kind == kind).collect()
    }

    /// `if on(n) { code }` at a place, between two marks that tell which mutant an error of the compiler is about.
    fn alternative(&mut self, at: usize, rank: i64, number: usize, code: &str) {
        self.woven.push(number);
        let text = format!("/*<{number}>*/if crate::mutant::on({number}) {{ {code}\n}}/*</{number}>*/ ");
        self.insertions.push(Insertion { at, rank, text });
    }

    /// An expression becomes `(if on(n) { other } else { expression })`.
    fn wrap(&mut self, (start, end): (usize, usize), others: &[(usize, String)]) {
        if others.is_empty() {
            return;
        }
        // Longer expressions open first and close last.
        let length = (end - start) as i64;
        let mut text = String::from("(");
        for (number, other) in others {
            self.woven.push(*number);
            text.push_str(&format!("/*<{number}>*/if crate::mutant::on({number}) {{ {other}\n}}/*</{number}>*/ else "));
        }
        text.push('{');
        self.insertions.push(Insertion { at: start, rank: i64::MAX / 2 - length, text });
        self.insertions.push(Insertion { at: end, rank: i64::MIN / 2 + length, text: "})".into() });
    }
}

impl<'ast> Visit<'ast> for Weaver<'_> {
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_expr_repeat(&mut self, expr: &'ast syn::ExprRepeat) {
        self.visit_expr(&expr.expr);
    }
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let constant = usize::from(item.sig.constness.is_some());
        self.constant += constant;
        visit::visit_item_fn(self, item);
        self.constant -= constant;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let constant = usize::from(item.sig.constness.is_some());
        self.constant += constant;
        visit::visit_impl_item_fn(self, item);
        self.constant -= constant;
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let mutants = self.of(expr.op.span(), Kind::Binary);
        let whole = self.range(expr.span());
        let (op_start, op_end) = self.range(expr.op.span());
        if !has_let(&expr.left) && !has_let(&expr.right) {
            let others: Vec<_> = mutants
                .iter()
                .map(|mutant| {
                    let (before, after) = (&self.text[whole.0..op_start], &self.text[op_end..whole.1]);
                    (mutant.number, format!("{before}{}{after}", mutant.replacement))
                })
                .collect();
            self.wrap(whole, &others);
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        let whole = self.range(expr.span());
        let inner = self.range(expr.expr.span());
        let others: Vec<_> = self
            .of(expr.op.span(), Kind::Unary)
            .iter()
            .map(|mutant| (mutant.number, self.text[inner.0..inner.1].to_string()))
            .collect();
        self.wrap(whole, &others);
        visit::visit_expr_unary(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some(mutant) = self.of(arm.span(), Kind::Arm).first() {
            let number = mutant.number;
            self.woven.push(number);
            let asked = format!("/*<{number}>*/!crate::mutant::on({number})/*</{number}>*/");
            match &arm.guard {
                None => {
                    let at = self.range(arm.pat.span()).1;
                    self.insertions.push(Insertion { at, rank: 0, text: format!(" if {asked}") });
                }
                Some((_, guard)) => {
                    let (at, end) = self.range(guard.span());
                    self.insertions.push(Insertion { at, rank: 0, text: format!("{asked} && (") });
                    self.insertions.push(Insertion { at: end, rank: -1, text: ")".into() });
                }
            }
        }
        if let Some((_, guard)) = &arm.guard {
            let others: Vec<_> = self
                .of(guard.span(), Kind::Guard)
                .iter()
                .map(|mutant| (mutant.number, mutant.replacement.clone()))
                .collect();
            let range = self.range(guard.span());
            self.wrap(range, &others);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        if let Some(rest) = &expr.rest {
            let rest = self.range(rest.span());
            let path = self.range(expr.path.span());
            for field in &expr.fields {
                let Some(mutant) = self.of(field.span(), Kind::Field).first().copied() else { continue };
                let name = self.range(field.member.span());
                let name = &self.text[name.0..name.1];
                let (path, rest) = (&self.text[path.0..path.1], &self.text[rest.0..rest.1]);
                let other = format!("{{ let base: {path} = {rest}; base.{name} }}");
                let value = self.range(field.expr.span());
                if field.colon_token.is_none() {
                    self.insertions.push(Insertion { at: value.0, rank: 0, text: format!("{name}: ") });
                }
                self.wrap(value, &[(mutant.number, other)]);
            }
        }
        visit::visit_expr_struct(self, expr);
    }
}

/// Whether a `let` of an `if`'s chain is in an expression: such a chain can't be put into parentheses.
fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(expr) => has_let(&expr.left) || has_let(&expr.right),
        _ => false,
    }
}

/// The innermost mutant whose code a place of a woven text is in.
pub(crate) fn mutant_at(text: &str, at: usize) -> Option<usize> {
    let mut within = Vec::new();
    for (place, _) in text.match_indices("/*<").take_while(|(place, _)| *place <= at) {
        let mark = &text[place + 3..];
        let Some((mark, _)) = mark.split_once(">*/") else { continue };
        match mark.strip_prefix('/') {
            Some(_) => _ = within.pop(),
            None => within.extend(mark.parse::<usize>()),
        }
    }
    within.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
fn one(a: u32, b: &[u8]) -> bool {
    // „Ä“ has more bytes than characters.
    let c = \"Ä\".len() as u32; a + c < 3 && !b.is_empty()
}
const TWO: u32 = 1 << 4;
fn three(a: Option<u32>) -> u32 {
    match a {
        Some(1) => 1,
        Some(a) if a > 2 || a == 0 => 2,
        Some(b) if let Some(c) = a && b == c => 3,
        _ => Pair { left: 4, ..Pair::default() }.left,
    }
}
";

    /// The mutant at the first place of `at` in the text.
    fn mutant(number: usize, kind: Kind, at: &str, within: &str, replacement: &str) -> Mutant {
        let place = TEXT.find(at).unwrap() + at.find(within).unwrap();
        let line = TEXT[..place].matches('\n').count() + 1;
        let column = TEXT[..place].rsplit('\n').next().unwrap().chars().count() + 1;
        let name = format!("src/x.rs:{line}:{column}: replace {within}");
        Mutant { number, file: "src/x.rs".into(), name, kind, replacement: replacement.into(), start: (line, column) }
    }

    fn mutants() -> Vec<Mutant> {
        vec![
            mutant(0, Kind::Body, "let c", "let", "true"),
            mutant(1, Kind::Binary, "a + c", "+", "-"),
            mutant(2, Kind::Binary, "c < 3", "<", "<="),
            mutant(3, Kind::Binary, "&& !b", "&&", "||"),
            mutant(4, Kind::Unary, "!b.is", "!", ""),
            mutant(5, Kind::Binary, "1 << 4", "<<", ">>"),
            mutant(6, Kind::Arm, "Some(1) =>", "Some", ""),
            mutant(7, Kind::Arm, "Some(a) if", "Some", ""),
            mutant(8, Kind::Guard, "a > 2 ||", "a", "true"),
            mutant(9, Kind::Guard, "a > 2 ||", "a", "false"),
            mutant(10, Kind::Binary, "> 2", ">", ">="),
            mutant(11, Kind::Field, "left: 4", "left", ""),
        ]
    }

    fn woven(numbers: &[usize]) -> (String, Vec<usize>) {
        let mutants = mutants();
        let of: Vec<_> = mutants.iter().filter(|mutant| numbers.contains(&mutant.number)).collect();
        weave(TEXT, &of).unwrap()
    }

    #[test]
    fn each_mutant_is_asked_for_and_the_rest_stays() {
        let (text, numbers) = woven(&[2, 4]);
        assert_eq!(numbers, [2, 4]);
        let line = "let c = \"Ä\".len() as u32; (/*<2>*/if crate::mutant::on(2) { a + c <= 3\n}/*</2>*/ else {a + c < 3}) \
                    && (/*<4>*/if crate::mutant::on(4) { b.is_empty()\n}/*</4>*/ else {!b.is_empty()})";
        assert_eq!(text, TEXT.replace("let c = \"Ä\".len() as u32; a + c < 3 && !b.is_empty()", line));
    }

    #[test]
    fn mutants_lie_within_each_other_but_not_in_constants() {
        let all: Vec<usize> = (0..12).collect();
        let (text, mut numbers) = woven(&all);
        syn::parse_file(&text).expect("it is still Rust");
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
        for number in numbers {
            assert_eq!(text.matches(&format!("/*<{number}>*/")).count(), 1, "{number}");
        }
        assert!(text.contains("const TWO: u32 = 1 << 4;"));
    }

    #[test]
    fn a_place_belongs_to_the_innermost_mutant() {
        let (text, _) = woven(&[0, 2, 6]);
        let at = |what: &str| text.find(what).unwrap();
        assert_eq!(mutant_at(&text, at("return true")), Some(0));
        assert_eq!(mutant_at(&text, at("a + c <= 3")), Some(2));
        assert_eq!(mutant_at(&text, at("else {a + c")), None);
        assert_eq!(mutant_at(&text, at("fn three")), None);
    }

    #[test]
    fn an_arm_with_a_guard_is_asked_for_before_it() {
        let (text, _) = woven(&[7, 10]);
        let guard = "Some(a) if /*<7>*/!crate::mutant::on(7)/*</7>*/ && ((/*<10>*/if crate::mutant::on(10) { a >= 2\n}/*</10>*/ else {a > 2}) || a == 0) => 2";
        assert!(text.contains(guard), "{text}");
    }
}
