//! Running the command on a directory of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The signal that ends a command whose stdout is closed.
const SIGPIPE: i32 = 13;

/// A place for a data directory, which doesn't exist at first.
pub(crate) struct Place {
    dir: TempDir,
}

/// What a finished command left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    /// With a topic of this name.
    pub(crate) fn with_topic(name: &str, partitions: u32) -> Place {
        let place = Place::new();
        place.run(&["topic", "create", name, "--partitions", &partitions.to_string()]).succeeded();
        place
    }

    /// The data directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The only segment file of a partition.
    pub(crate) fn segment(&self, topic: &str, partition: u32) -> PathBuf {
        self.path().join(format!("topics/{topic}/{partition}/00000000000000000000.log"))
    }

    /// The command on this directory, free of what surrounds the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = thalweg();
        command.current_dir(self.dir.path()).arg("--dir").arg(self.path()).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, b"")
    }

    pub(crate) fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        run(self.command(args), stdin)
    }

    /// With a stdout that is closed before the command begins.
    pub(crate) fn run_unread(&self, args: &[&str]) -> Ran {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = self.command(args).stdin(Stdio::null()).stdout(writer).output().unwrap();
        Ran {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a command that reads stdin and prints as it goes.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Running { child, stdin, stdout }
    }

    /// The records of a partition as `consume --json` prints them.
    pub(crate) fn records(&self, topic: &str, partition: u32) -> Vec<Value> {
        self.run(&["consume", topic, "--partition", &partition.to_string(), "--json"]).succeeded().json_lines()
    }
}

/// The binary, without directory, and free of what surrounds the tests.
pub(crate) fn thalweg() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.env_remove("CARGO").env_remove("THALWEG_DIR");
    command
}

pub(crate) fn run(mut command: Command, stdin: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early doesn't read all.
        scope.spawn(move || input.write_all(stdin));
        child.wait_with_output().unwrap()
    });
    Ran {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        write!(f, "exit code {:?}, signal {:?}\nstdout:\n{stdout}\nstderr:\n{}", self.code, self.signal, self.stderr)
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Ran {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Its stdout was closed: it ended by SIGPIPE, without a word.
    #[track_caller]
    pub(crate) fn was_cut_off(self) -> Ran {
        assert_eq!((self.code, self.signal, &*self.stderr), (None, Some(SIGPIPE), ""), "{self:?}");
        self
    }

    /// It failed with this code and an error that says all of this.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, says: &[&str]) -> Ran {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.lines().any(|line| line.starts_with("error: ")), "{self:?}");
        for part in says {
            assert!(self.stderr.contains(part), "no {part:?} in {:?}", self.stderr);
        }
        self
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// Stdout as a JSON object a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A command at work. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    /// The next line of stdout, without its end; empty at the end of stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line.pop();
        line
    }

    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn take_stdout(&mut self) -> BufReader<ChildStdout> {
        self.stdout.take().unwrap()
    }

    /// Closes its stdin, if that is still here, and waits for its end; stdout is what wasn't read before.
    pub(crate) fn finish(mut self) -> Ran {
        self.stdin = None;
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        if let Some(mut rest) = self.stdout.take() {
            rest.read_to_end(&mut stdout).unwrap();
        }
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        Ran { code: status.code(), signal: status.signal(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Inverts one bit of a file.
pub(crate) fn flip_bit(path: &Path, position: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position as usize] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
