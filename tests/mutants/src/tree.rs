//! A copy of the crate with the mutants in it, and its test binaries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::mutant::{self, Mutant};
use crate::weave;

/// The tests that are run, the library's own before them, in this order. The others build parts of the crate anew.
const TESTS: [&str; 8] = ["crash", "repair", "format", "corruption", "groups", "backends", "torture", "cli"];
/// Mutants are wrong on purpose, and the compiler sees some of it.
const FLAGS: &str = "-Awarnings -Aarithmetic_overflow -Aunconditional_panic -Aoverflowing_literals";
const ASKED: &str = include_str!("asked.rs.in");

pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Clones what is committed in `from`.
    pub(crate) fn clone_of(from: &Path, dir: &Path) -> Result<Tree, String> {
        let root = dir.join("tree");
        if root.exists() {
            fs::remove_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        }
        run(Command::new("git").arg("clone").arg("--quiet").arg(from).arg(&root))?;
        Ok(Tree { root, target: dir.join("target") })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What `cargo mutants` would do to these files (its globs), without the files of tests.
    pub(crate) fn list(&self, globs: &[String]) -> Result<Vec<Mutant>, String> {
        let mut command = Command::new("cargo");
        command.args(["mutants", "--list", "--json", "--all-features"]).current_dir(&self.root);
        for glob in globs {
            command.args(["--file", glob]);
        }
        let listed = run(&mut command)
            .map_err(|error| format!("{error}\nIs cargo-mutants there? cargo install cargo-mutants"))?;
        let mut mutants = mutant::read(&listed);
        mutants.retain(|mutant| !mutant.file.contains("tests"));
        Ok(mutants)
    }

    /// Writes the mutants into the sources, without those that don't compile; answers the numbers of those that do.
    pub(crate) fn weave(&self, mutants: &[Mutant]) -> Result<BTreeSet<usize>, String> {
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        for mutant in mutants {
            if !files.contains_key(mutant.file.as_str()) {
                files.insert(&mutant.file, self.read(&mutant.file)?);
            }
        }
        let count = mutants.iter().map(|mutant| mutant.number + 1).max().unwrap_or(0);
        self.write("src/mutant.rs", &format!("{ASKED}\nconst COUNT: usize = {count};\n"))?;
        let lib = self.read("src/lib.rs")?;
        self.write("src/lib.rs", &lib.replacen("\nmod ", "\nmod mutant;\nmod ", 1))?;
        let mut refused = BTreeSet::new();
        loop {
            let mut woven = BTreeSet::new();
            for (file, text) in &files {
                let of: Vec<_> =
                    mutants.iter().filter(|mutant| mutant.file == *file && !refused.contains(&mutant.number)).collect();
                let (text, in_it) = weave::weave(text, &of).map_err(|error| format!("{file}: {error}"))?;
                self.write(file, &text)?;
                woven.extend(in_it);
            }
            let (errors, of) = self.errors()?;
            if errors.is_empty() {
                return Ok(woven);
            }
            if of.is_empty() {
                return Err(format!(
                    "the tree doesn't compile, and no mutant is at those places:\n{}",
                    errors.join("\n")
                ));
            }
            refused.extend(of);
        }
    }

    /// The compiler's errors, and the mutants they are about.
    fn errors(&self) -> Result<(Vec<String>, BTreeSet<usize>), String> {
        let output = self
            .cargo(&["build", "--all-features", "--lib", "--message-format=json"])
            .output()
            .map_err(|error| error.to_string())?;
        let (mut errors, mut of) = (Vec::new(), BTreeSet::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let message = &line["message"];
            if message["level"] != "error" {
                continue;
            }
            errors.push(message["rendered"].as_str().unwrap_or_default().to_string());
            for span in message["spans"].as_array().into_iter().flatten() {
                let (Some(file), Some(at)) = (span["file_name"].as_str(), span["byte_start"].as_u64()) else {
                    continue;
                };
                if let Ok(text) = self.read(file)
                    && let Some(number) = weave::mutant_at(&text, at as usize)
                {
                    of.insert(number);
                    break;
                }
            }
        }
        Ok((errors, of))
    }

    /// The test binaries.
    pub(crate) fn build(&self) -> Result<Vec<PathBuf>, String> {
        let mut args = vec!["test", "--no-run", "--all-features", "--lib", "--message-format=json"];
        for test in TESTS {
            args.extend(["--test", test]);
        }
        let printed = run(&mut self.cargo(&args))?;
        let binary = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["profile"]["test"].as_bool().filter(|test| *test)?;
            let rank = TESTS.iter().position(|test| line["target"]["name"] == *test).map_or(0, |at| at + 1);
            Some((rank, PathBuf::from(line["executable"].as_str()?)))
        };
        let mut binaries: Vec<_> = printed.lines().filter_map(binary).collect();
        binaries.sort();
        Ok(binaries.into_iter().map(|(_, binary)| binary).collect())
    }

    fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command
            .args(args)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_TEST_DEBUG", "0")
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env("RUSTFLAGS", FLAGS);
        command
    }

    fn read(&self, file: &str) -> Result<String, String> {
        fs::read_to_string(self.root.join(file)).map_err(|error| format!("{file}: {error}"))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        fs::write(self.root.join(file), text).map_err(|error| format!("{file}: {error}"))
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
