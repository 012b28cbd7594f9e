//! What a victim tells its parent, a line each: the parent has it even if the victim is killed right
//! after the line was written. None of it stands in the data directory.

use std::fmt;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The directory is open.
    Opened,
    /// The topic was made.
    MadeTopic,
    /// The records from the first offset up to the second (exclusive) are acknowledged.
    Acknowledged { partition: u32, first: u64, end: u64 },
    /// The records before this offset (exclusive) are acknowledged as synced.
    Synced { partition: u32, end: u64 },
    /// It is about to commit these offsets, by partition.
    Committing(Vec<(u32, u64)>),
    /// Those are committed.
    Committed(Vec<(u32, u64)>),
    /// It is about to delete what stands before this offset.
    Deleting { partition: u32, before: u64 },
    /// That is done.
    Deleted { partition: u32, before: u64 },
    /// The engine was closed.
    Closed,
    /// It gave up: the machine can't do it (no room, no rights).
    Unable(String),
    /// It found what must not be.
    Wrong(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = |f: &mut fmt::Formatter<'_>, word: &str, pairs: &[(u32, u64)]| {
            f.write_str(word)?;
            pairs.iter().try_for_each(|(partition, offset)| write!(f, " {partition} {offset}"))
        };
        match self {
            Said::Opened => f.write_str("opened"),
            Said::MadeTopic => f.write_str("made-topic"),
            Said::Acknowledged { partition, first, end } => write!(f, "acknowledged {partition} {first} {end}"),
            Said::Synced { partition, end } => write!(f, "synced {partition} {end}"),
            Said::Committing(offsets) => pairs(f, "committing", offsets),
            Said::Committed(offsets) => pairs(f, "committed", offsets),
            Said::Deleting { partition, before } => write!(f, "deleting {partition} {before}"),
            Said::Deleted { partition, before } => write!(f, "deleted {partition} {before}"),
            Said::Closed => f.write_str("closed"),
            Said::Unable(why) => write!(f, "unable {}", why.replace('\n', " ")),
            Said::Wrong(what) => write!(f, "wrong {}", what.replace('\n', " ")),
        }
    }
}

impl Said {
    /// What a whole line says; `None` if it makes no sense.
    pub(super) fn parse(line: &str) -> Option<Said> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers = || rest.split(' ').map(|word| word.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
        let pairs = || {
            let words = if rest.is_empty() { Vec::new() } else { numbers()? };
            let pair = |pair: &[u64]| Some((u32::try_from(*pair.first()?).ok()?, *pair.get(1)?));
            words.chunks(2).map(pair).collect::<Option<Vec<_>>>()
        };
        let place = || match numbers()?[..] {
            [partition, before] => Some((u32::try_from(partition).ok()?, before)),
            _ => None,
        };
        Some(match word {
            "opened" => Said::Opened,
            "made-topic" => Said::MadeTopic,
            "acknowledged" => match numbers()?[..] {
                [partition, first, end] => Said::Acknowledged { partition: u32::try_from(partition).ok()?, first, end },
                _ => return None,
            },
            "synced" => place().map(|(partition, end)| Said::Synced { partition, end })?,
            "committing" => Said::Committing(pairs()?),
            "committed" => Said::Committed(pairs()?),
            "deleting" => place().map(|(partition, before)| Said::Deleting { partition, before })?,
            "deleted" => place().map(|(partition, before)| Said::Deleted { partition, before })?,
            "closed" => Said::Closed,
            "unable" => Said::Unable(rest.to_owned()),
            "wrong" => Said::Wrong(rest.to_owned()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let all = [
            Said::Opened,
            Said::MadeTopic,
            Said::Acknowledged { partition: 2, first: 7, end: u64::MAX },
            Said::Synced { partition: 1, end: 9 },
            Said::Committing(vec![(0, 1), (2, 30)]),
            Said::Committed(Vec::new()),
            Said::Deleting { partition: 1, before: 8 },
            Said::Deleted { partition: 1, before: 8 },
            Said::Closed,
            Said::Unable("no room".to_owned()),
            Said::Wrong("offset 3 twice".to_owned()),
        ];
        for said in all {
            assert_eq!(Said::parse(&said.to_string()), Some(said));
        }
        for nonsense in ["", "acknowledged", "acknowledged 1", "acknowledged 1 x 3", "committed 1", "what 1 2"] {
            assert_eq!(Said::parse(nonsense), None, "{nonsense}");
        }
    }
}
