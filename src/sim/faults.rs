//! Errors made to order: which operation fails, after how many that pass, with what, how often.

/// A kind of operation of the disk, to be counted and to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A directory made, with its missing parents.
    CreateDirectory,
    /// The entries of a directory read.
    List,
    /// A new file made.
    Create,
    /// A file or directory opened.
    Open,
    /// A name moved.
    Rename,
    /// A file's name removed.
    Unlink,
    /// An empty directory removed.
    RemoveDirectory,
    /// The lock taken.
    Lock,
    /// Bytes written. Failing, nothing of them is.
    Write,
    /// As [`Write`](Operation::Write), but failing after the first half of the bytes was written.
    ShortWrite,
    /// Bytes read, or a view populated.
    Read,
    /// Blocks reserved.
    Allocate,
    /// A file shortened.
    GiveBack,
    /// A file synced. Failing, what was written stays readable and never becomes durable, even if a
    /// later sync succeeds, unless it is written again.
    Sync,
    /// A directory synced. Failing, its names stay as durable as they were; a later one may succeed.
    SyncDirectory,
    /// A view made.
    View,
}

impl Operation {
    /// Whether it may change what is on the disk, or what of it is durable.
    pub(super) fn changes(self) -> bool {
        !matches!(self, Operation::List | Operation::Open | Operation::Read | Operation::View | Operation::Lock)
    }
}

/// How often an ordered error comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// From then on, until [`clear_faults`](super::SimDisk::clear_faults).
    Forever,
}

/// The errors ordered, and how many operations there were.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    ordered: Vec<Fault>,
    /// Operations that pass before the power is gone, if it is to go.
    power_left: Option<u64>,
}

#[derive(Debug, Clone)]
struct Fault {
    operation: Operation,
    /// Operations of this kind that pass first.
    passing: u64,
    errno: i32,
    repeat: Repeat,
}

/// What becomes of an operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) errno: i32,
    /// Half of a write is done.
    pub(super) half_done: bool,
}

impl Faults {
    pub(super) fn order(&mut self, passing: u64, operation: Operation, errno: i32, repeat: Repeat) {
        self.ordered.push(Fault { operation, passing, errno, repeat });
    }

    pub(super) fn clear(&mut self) {
        *self = Faults::default();
    }

    pub(super) fn cut_power_after(&mut self, operations: u64) {
        self.power_left = Some(operations);
    }

    pub(super) fn power_is_gone(&self) -> bool {
        self.power_left == Some(0)
    }

    /// Whether the operation that begins now fails.
    pub(super) fn next(&mut self, operation: Operation) -> Option<Failure> {
        if let Some(left) = &mut self.power_left {
            if *left == 0 {
                let errno = rustix::io::Errno::IO.raw_os_error();
                return Some(Failure { errno, half_done: false });
            }
            *left -= 1;
        }
        let mut fired = None;
        for (index, fault) in self.ordered.iter_mut().enumerate() {
            let half_done = fault.operation == Operation::ShortWrite;
            if fault.operation != operation && !(half_done && operation == Operation::Write) {
                continue;
            }
            if fault.passing > 0 {
                fault.passing -= 1;
            } else if fired.is_none() {
                fired = Some((index, Failure { errno: fault.errno, half_done }));
            }
        }
        let (index, failure) = fired?;
        if self.ordered[index].repeat == Repeat::Once {
            self.ordered.remove(index);
        }
        Some(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(faults: &mut Faults, operation: Operation, count: usize) -> Vec<Option<i32>> {
        (0..count).map(|_| faults.next(operation).map(|failure| failure.errno)).collect()
    }

    #[test]
    fn an_error_comes_at_its_turn_once_or_for_ever() {
        let mut faults = Faults::default();
        faults.order(2, Operation::Sync, 5, Repeat::Once);
        faults.order(3, Operation::Sync, 6, Repeat::Forever);
        assert_eq!(outcomes(&mut faults, Operation::Write, 2), [None, None]);
        let expected = [None, None, Some(5), Some(6), Some(6)];
        assert_eq!(outcomes(&mut faults, Operation::Sync, 5), expected);
        faults.clear();
        assert_eq!(outcomes(&mut faults, Operation::Sync, 1), [None]);
    }

    #[test]
    fn a_short_write_is_a_write_that_fails_half_done() {
        let mut faults = Faults::default();
        faults.order(1, Operation::ShortWrite, 28, Repeat::Once);
        assert_eq!(faults.next(Operation::Write), None);
        assert_eq!(faults.next(Operation::Write), Some(Failure { errno: 28, half_done: true }));
    }

    #[test]
    fn without_power_everything_fails() {
        let mut faults = Faults::default();
        faults.cut_power_after(1);
        assert_eq!(outcomes(&mut faults, Operation::Open, 3), [None, Some(5), Some(5)]);
        assert!(faults.power_is_gone());
    }
}
