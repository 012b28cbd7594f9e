//! Which topics a member wants, by name or by pattern, and the topics there are.

use std::collections::BTreeMap;
use std::fmt;

use regex_lite::Regex;

use crate::error::{Error, Result};
use crate::ids::TopicId;

/// The topics there are: name to id and number of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicTable(BTreeMap<String, (TopicId, u32)>);

impl TopicTable {
    pub(crate) fn new(topics: impl IntoIterator<Item = (String, TopicId, u32)>) -> TopicTable {
        TopicTable(topics.into_iter().map(|(name, id, partitions)| (name, (id, partitions))).collect())
    }

    /// One topic as it is now; `None`: it is gone.
    pub(crate) fn set(&mut self, name: &str, topic: Option<(TopicId, u32)>) {
        match topic {
            Some(topic) => drop(self.0.insert(name.to_owned(), topic)),
            None => drop(self.0.remove(name)),
        }
    }

    /// Name, id and number of partitions of each, by rising name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, TopicId, u32)> {
        self.0.iter().map(|(name, &(id, partitions))| (name.as_str(), id, partitions))
    }
}

/// What a member subscribed to.
#[derive(Clone)]
pub(crate) enum Subscription {
    /// These topics, as far as they exist.
    Topics(Vec<String>),
    /// Every topic whose whole name matches, those made later too.
    Pattern(Regex),
}

impl Subscription {
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for what is no regular expression.
    pub(crate) fn pattern(pattern: &str) -> Result<Subscription> {
        let whole = Regex::new(&format!("^(?:{pattern})$"));
        let regex = whole.map_err(|error| Error::invalid(format!("{pattern:?} is no pattern: {error}")))?;
        Ok(Subscription::Pattern(regex))
    }

    pub(crate) fn wants(&self, topic: &str) -> bool {
        match self {
            Subscription::Topics(topics) => topics.iter().any(|wanted| wanted == topic),
            Subscription::Pattern(pattern) => pattern.is_match(topic),
        }
    }
}

impl PartialEq for Subscription {
    fn eq(&self, other: &Subscription) -> bool {
        match (self, other) {
            (Subscription::Topics(mine), Subscription::Topics(theirs)) => {
                mine.iter().all(|topic| theirs.contains(topic)) && theirs.iter().all(|topic| mine.contains(topic))
            }
            (Subscription::Pattern(mine), Subscription::Pattern(theirs)) => mine.as_str() == theirs.as_str(),
            _ => false,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subscription::Topics(topics) => topics.fmt(f),
            Subscription::Pattern(pattern) => pattern.as_str().fmt(f),
        }
    }
}
