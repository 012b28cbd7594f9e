//! Partitions that `consume` can't read to their end: the others go on, and the end of the command names them.

use std::collections::BTreeMap;

use thalweg::{Error, ErrorKind};

use crate::failure::Failure;

/// What each damaged partition failed with.
#[derive(Default)]
pub(crate) struct Damaged(BTreeMap<u32, Error>);

impl Damaged {
    /// Takes note of an error of one partition, and returns its number. Other errors end the command.
    pub(crate) fn note(&mut self, error: Error) -> Result<u32, Failure> {
        let of_the_log = matches!(
            error.kind(),
            ErrorKind::Corrupt { .. } | ErrorKind::Foreign { .. } | ErrorKind::NewerFormat { .. } | ErrorKind::Io
        );
        match error.partition() {
            Some(number) if of_the_log => {
                self.0.entry(number).or_insert(error);
                Ok(number)
            }
            _ => Err(error.into()),
        }
    }

    /// Takes over what another one noted.
    pub(crate) fn add(&mut self, other: Damaged) {
        self.0.extend(other.0);
    }

    pub(crate) fn has(&self, partition: u32) -> bool {
        self.0.contains_key(&partition)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Fails if there were some, with where to go on.
    pub(crate) fn result(&self, topic: &str) -> Result<(), Failure> {
        let Some(first) = self.0.values().next() else { return Ok(()) };
        let said: Vec<_> = self.0.values().map(Error::to_string).collect();
        let failure = Failure::new(said.join("\n"));
        let behind = self.0.values().find_map(|error| Some((error.partition()?, error.next_intact()?)));
        Err(match behind {
            Some((number, offset)) => failure.next(format!(
                "thalweg consume {topic} --skip-damaged prints all that is intact; --partition {number} --from {offset} \
                 the records after the damage"
            )),
            None if matches!(first.kind(), ErrorKind::Corrupt { .. }) => {
                failure.next("thalweg repair --dry-run shows what can be done")
            }
            None => failure,
        })
    }
}
