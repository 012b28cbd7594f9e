//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process's soft limit to the hard one, and returns it. Unlimited, or where it can't be found out: so many
/// as nobody opens.
pub(crate) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum;
    let raised = limit.current != hard && setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).is_ok();
    let most = if raised { hard } else { limit.current };
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let lower = before.maximum.map_or(1 << 16, |hard| hard - 1);
        setrlimit(Resource::Nofile, Rlimit { current: Some(lower), ..before }).unwrap();
        assert_eq!(raise_limit(), before.maximum.map_or(usize::MAX, |hard| hard as usize));
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
