//! Where files go of which nothing counts any more.

use std::path::{Path, PathBuf};

use super::{EIO, ENOSPC};
use crate::error::ErrorKind;
use crate::partition::aside::set_aside;
use crate::sim::{Operation, SimDisk};

const DIR: &str = "data/0";
const FILE: &str = "data/0/1.log";

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file(FILE, b"bytes").unwrap();
    disk
}

fn aside(disk: &SimDisk) -> crate::Result<PathBuf> {
    set_aside(disk, Path::new(DIR), Path::new(FILE), 0xab)
}

#[test]
fn a_file_is_moved_into_a_directory_of_its_own() {
    let disk = disk();
    let moved = aside(&disk).unwrap();
    assert_eq!(moved, Path::new("data/0/set-aside/1.log.00000000000000ab"));
    assert_eq!(disk.list_files(), std::slice::from_ref(&moved));
    assert_eq!(disk.read_file(moved).unwrap(), b"bytes");
}

#[test]
fn without_room_for_the_directory_it_stays_beside_the_log_under_another_name() {
    for operation in [Operation::CreateDirectory, Operation::Rename] {
        let disk = disk();
        disk.fail_next(operation, ENOSPC);
        let moved = aside(&disk).unwrap();
        assert_eq!(moved, Path::new("data/0/set-aside-1.log.00000000000000ab"));
        assert_eq!(disk.list_files(), std::slice::from_ref(&moved));
        assert_eq!(disk.read_file(moved).unwrap(), b"bytes");
    }
}

#[test]
fn another_error_is_told_and_the_file_stays() {
    for operation in [Operation::CreateDirectory, Operation::Rename] {
        let disk = disk();
        disk.fail_next(operation, EIO);
        assert!(matches!(aside(&disk).unwrap_err().kind(), ErrorKind::Io));
        assert_eq!(disk.list_files(), [PathBuf::from(FILE)]);
    }
}
