//! Where the figures come from: machine, kernel, file system. What can't be found out is said to be unknown.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::output;

#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) kernel: String,
    pub(crate) directory: String,
    pub(crate) file_system: String,
    pub(crate) device: String,
}

impl Environment {
    pub(crate) fn of(dir: &Path) -> Environment {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([':', '\t', ' ']).trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let memory =
            line(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse().ok());
        let kernel = read("/proc/sys/kernel/osrelease");
        let (file_system, device) = mount_of(dir, &read("/proc/self/mountinfo")).unwrap_or((unknown(), unknown()));
        Environment {
            cpu: line(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.map(|kib: u64| kib << 10),
            kernel: match kernel.trim() {
                "" => std::env::consts::OS.to_owned(),
                release => format!("Linux {release}"),
            },
            directory: dir.parent().unwrap_or(dir).display().to_string(),
            file_system,
            device,
        }
    }

    /// Two lines for people.
    pub(crate) fn lines(&self) -> [String; 2] {
        let memory = self.memory_bytes.map_or_else(|| "unknown memory".to_owned(), output::bytes);
        let debug = if cfg!(debug_assertions) { ", a debug build: its figures say nothing" } else { "" };
        [
            format!("{}, {}, {memory}, {}", self.cpu, output::counted(self.cores as u64, "core"), self.kernel),
            format!(
                "{} on {} in {}, thalweg {}{debug}",
                self.file_system,
                self.device,
                self.directory,
                env!("CARGO_PKG_VERSION")
            ),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "kernel": self.kernel,
            "directory": self.directory,
            "file_system": self.file_system,
            "device": self.device,
            "thalweg": env!("CARGO_PKG_VERSION"),
            "debug_build": cfg!(debug_assertions),
        })
    }
}

/// Type and device of the mount that `dir` lies in: the longest mount point above it, the last of equals.
fn mount_of(dir: &Path, mounts: &str) -> Option<(String, String)> {
    let mount = |line: &str| {
        let (place, file_system) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?.replace("\\040", " ");
        let mut file_system = file_system.split(' ');
        let found = (file_system.next()?.to_owned(), file_system.next()?.to_owned());
        dir.starts_with(&point).then_some((point.len(), found))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_the_nearest_above() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      30 22 0:5 / /mnt/a\\040b rw shared:1 - xfs /dev/loop0 rw\n\
                      31 22 0:6 / /mnt/a\\040b/c rw - tmpfs none rw";
        let of = |dir: &str| mount_of(Path::new(dir), mounts).unwrap().0;
        assert_eq!(of("/home"), "ext4");
        assert_eq!(of("/mnt/a b/x"), "xfs");
        assert_eq!(of("/mnt/a b/c/d"), "tmpfs");
        assert_eq!(of("/mnt/a bb"), "ext4");
        assert_eq!(mount_of(Path::new("/x"), "nonsense"), None);
    }
}
