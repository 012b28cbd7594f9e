//! Which files of a partition's directory are its segments, and whether one continues another.

use std::path::{Path, PathBuf};

use super::EIO;
use super::files::*;
use crate::config::TopicConfig;
use crate::disk::Disk;
use crate::error::ErrorKind;
use crate::format::{BLOCK_BYTES, FileHeader, Previous, example_header};
use crate::partition::NotedOf;
use crate::partition::recovery::candidates::{Candidate, list};
use crate::partition::recovery::{Doubt, Recovered, recover};
use crate::segment::index_path;
use crate::sim::{Operation, SimDisk};

/// Where the one with this header ends, which holds 3 batches, if the other continues it.
fn continued(first: &FileHeader, second: &FileHeader) -> Option<Previous> {
    let bytes = file(first, (0..3).map(batch));
    let disk = disk_with([(0, bytes), (second.base_offset, file(second, []))]);
    let dir = path(0).parent().unwrap().to_owned();
    let files = list(&disk, &dir, &first.log, None, &mut Recovered::empty()).unwrap();
    let [first, second]: &[Candidate; 2] = files.as_slice().try_into().ok().unwrap();
    first.continued_by(second)
}

#[test]
fn one_continues_another_only_if_all_that_it_says_of_it_holds() {
    let first = header(0);
    let next = next_header(&first, 4, 3);
    assert_eq!(continued(&first, &next), Some(next.previous));
    // It may hold more than counts, and the next may be of a later life.
    let shorter = Previous { length: BLOCK_BYTES, ..next.previous };
    assert_eq!(continued(&first, &FileHeader { previous: shorter, epoch: EPOCH + 1, ..next.clone() }), Some(shorter));
    let says = next.previous;
    for previous in [
        Previous { file_id: says.file_id + 1, ..says },
        Previous { base_offset: 1, ..says },
        Previous { end_offset: 3, ..says },
        Previous { length: says.length + 8, ..says },
    ] {
        assert_eq!(continued(&first, &FileHeader { previous, ..next.clone() }), None, "{previous:?}");
    }
    assert_eq!(continued(&first, &FileHeader { epoch: EPOCH - 1, ..next.clone() }), None);
}

#[test]
fn a_rewritten_file_says_itself_where_it_ends() {
    let first =
        FileHeader { rewrite: 1, rewritten_end_offset: 4, rewritten_length: place(2), file_id: 90, ..header(0) };
    // It was another, longer file when its successor was made.
    let previous = Previous { file_id: 7, base_offset: 1, end_offset: 3, length: place(50), ..Previous::default() };
    let next = FileHeader { previous, ..header(4) };
    let expected = Some(Previous { end_offset: 4, length: place(2), ..previous });
    assert_eq!(continued(&first, &next), expected);
    assert_eq!(continued(&first, &FileHeader { epoch: EPOCH + 1, ..next.clone() }), expected);
    assert_eq!(continued(&FileHeader { rewritten_length: place(3), ..first.clone() }, &next).unwrap().length, place(3));
    assert_eq!(continued(&first, &FileHeader { base_offset: 5, ..next.clone() }), None);
    assert_eq!(continued(&first, &FileHeader { epoch: EPOCH - 1, ..next.clone() }), None);
    assert_eq!(continued(&FileHeader { rewritten_length: place(3) + 8, ..first.clone() }, &next), None);
}

#[test]
fn leftovers_are_removed_and_what_is_not_ours_is_left_and_told() {
    let disk = disk_with([(0, file(&header(0), [batch(0)]))]);
    let dir = path(0).parent().unwrap().to_owned();
    let named = |name: &str| dir.join(name);
    let leftovers = ["00000000000000000000.index.tmp", "00000000000000000000.log.repair-1", "next.tmp", "prepared.tmp"];
    let kept = ["set-aside-00000000000000000007.log.0000000000000008", "set-aside/00000000000000000009.log.0"];
    let foreign = ["0.log", "00000000000000000000.log.bak", "index", "next.tmp.old", "notes"];
    for name in leftovers.iter().chain(&kept).chain(&foreign) {
        disk.write_file(named(name), b"bytes").unwrap();
    }
    disk.write_file(index_path(&path(0)), b"bytes").unwrap();
    // What we make under these names is never a directory.
    let directories = ["z.index.tmp", "z.log.repair-1"];
    for name in directories {
        disk.create_dir_all(&named(name)).unwrap();
    }
    let recovered = recovered(&disk, Some(mark(1, 0, 1)), Doubt::Nothing);
    assert_eq!((recovered.end_offset, recovered.damage.is_some()), (1, false));
    assert_eq!(recovered.unlink, leftovers.map(named));
    let ignored: Vec<PathBuf> = foreign.iter().chain(&directories).map(|name| named(name)).collect();
    assert_eq!(recovered.ignored, ignored);
}

#[test]
fn a_partition_without_a_directory_is_empty_and_one_that_cannot_be_listed_is_not() {
    let disk = SimDisk::new();
    let empty = recovered(&disk, None, Doubt::Nothing);
    assert!(empty.damage.is_none() && empty.segments.is_empty() && empty.set_aside.is_empty());
    assert_eq!((empty.log_start, empty.end_offset, empty.durable_offset), (0, 0, 0));
    let disk = disk_with([(0, file(&header(0), [batch(0)]))]);
    disk.fail_next(Operation::List, EIO);
    let segment = path(0);
    let dir: &Path = segment.parent().unwrap();
    let error =
        recover(&disk, dir, &example_header().log, &TopicConfig::default(), None, NotedOf::default(), Doubt::Nothing)
            .unwrap_err();
    assert_eq!((error.kind(), error.path()), (&ErrorKind::Io, Some(dir)));
}
