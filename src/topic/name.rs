//! What a topic may be called: a whitelist, checked before any path is built from a name.

use crate::error::{Error, ErrorKind, Result};

/// What the directories of deleted topics begin with.
pub(crate) const DELETED_PREFIX: &str = ".deleted-";

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 249;

/// Checks a topic's name: 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`, nothing reserved.
///
/// # Errors
/// [`ErrorKind::InvalidTopicName`].
pub(crate) fn check_topic_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reserved = name.get(..DELETED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(DELETED_PREFIX));
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 249 bytes"
    } else if !name.bytes().all(allowed) {
        "it has a character that is not allowed"
    } else if name == "." || name == ".." {
        "it means a directory"
    } else if reserved {
        "names that begin with .deleted- are reserved"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidTopicName { name: name.to_owned(), reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_fine() {
        let longest = "x".repeat(249);
        for name in
            ["a", "orders", "Orders.v2_eu-west", "...", ".hidden", "..a", "0", "-", ".deleted", longest.as_str()]
        {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_are_not() {
        let long = "x".repeat(250);
        let cases = [
            ("", "it is empty"),
            (long.as_str(), "it is longer than 249 bytes"),
            (".", "it means a directory"),
            ("..", "it means a directory"),
            ("../x", "it has a character that is not allowed"),
            ("a/b", "it has a character that is not allowed"),
            ("a\0", "it has a character that is not allowed"),
            ("a b", "it has a character that is not allowed"),
            ("\u{3bf}rders", "it has a character that is not allowed"),
            (".deleted-7", "names that begin with .deleted- are reserved"),
            (".Deleted-", "names that begin with .deleted- are reserved"),
        ];
        for (name, reason) in cases {
            let error = check_topic_name(name).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidTopicName { name: name.to_owned(), reason });
        }
    }
}
