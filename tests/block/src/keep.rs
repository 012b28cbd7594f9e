//! What is kept after a failure, to be looked at: the disk as it was found, the disk before, the record of
//! what came to it, the history.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::disk::{Event, Image};
use crate::failure::Failure;

pub(crate) struct Evidence<'a> {
    pub(crate) name: String,
    /// What was mounted when the failure showed.
    pub(crate) image: &'a Image,
    pub(crate) start: &'a Image,
    pub(crate) events: &'a [Event],
    pub(crate) text: String,
}

impl Evidence<'_> {
    /// Stores it below the system's directory for temporary files, and says where.
    pub(crate) fn keep(&self, failure: Failure) -> Failure {
        if matches!(failure, Failure::Stopped | Failure::Skipped(_)) {
            return failure;
        }
        let directory = std::env::temp_dir().join(format!("thalweg-block-kept-{}", self.name));
        match self.store(&directory) {
            Ok(()) => failure.at(format_args!("kept in {}", directory.display())),
            Err(error) => failure.at(format_args!("nothing could be kept: {error}")),
        }
    }

    fn store(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        self.image.store(&directory.join("found.img"))?;
        self.start.store(&directory.join("start.img"))?;
        fs::write(directory.join("history.txt"), &self.text)?;
        // A line each, and the bytes of all writes one after the other.
        let mut lines = BufWriter::new(File::create(directory.join("record.txt"))?);
        let mut bytes_of_all = BufWriter::new(File::create(directory.join("record.bin"))?);
        for (number, event) in self.events.iter().enumerate() {
            match event {
                Event::Flush => writeln!(lines, "{number} flush")?,
                Event::Write { position, bytes } => {
                    writeln!(lines, "{number} write {position} {}", bytes.len())?;
                    bytes_of_all.write_all(bytes)?;
                }
            }
        }
        lines.flush()?;
        bytes_of_all.flush()
    }
}
