//! One file's bytes: what reads see, what is durable, and every version between.
//!
//! A write stores whole sectors as the page cache has them after it. A completed sync makes the
//! versions stored before its start durable. A failed sync makes them clean but not durable: reads
//! see them, later syncs pass them over unless the sector is stored again. In blocks that nothing durable
//! was ever stored in, not even then, until they are evicted: so it is on ext4, where memory takes such a
//! block for written and the disk doesn't. The length is the file's metadata: its changes become durable in
//! order, with any later sync that succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::crash::Choices;
use super::image::Image;

/// What a drive writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// What the file system reserves and marks as written, in sectors.
const BLOCK_SECTORS: u64 = 8;

/// Counts the steps of a disk; orders what happened to all its files and names.
pub(super) type Moment = u64;

/// A file's bytes in the cache and on the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    cache: Image,
    durable: Image,
    /// Sectors stored and not yet synced, oldest first.
    writes: Vec<Stored>,
    /// Lengths set and not yet durable, oldest first.
    lengths: Vec<Length>,
    /// By sector, versions that a failed sync left behind, oldest first.
    clean: BTreeMap<u64, Vec<Version>>,
    /// Blocks of which a later sync makes nothing durable.
    stuck: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Stored {
    moment: Moment,
    first_sector: u64,
    sectors: Arc<[u8]>,
}

#[derive(Debug, Clone, Copy)]
struct Length {
    moment: Moment,
    length: u64,
    /// Whether the one before was larger: what lay beyond is gone for good once this is durable.
    cuts: bool,
}

#[derive(Debug, Clone)]
struct Version {
    moment: Moment,
    sector: [u8; SECTOR_BYTES],
}

impl Contents {
    /// A file as found at the start: what it holds is durable.
    pub(super) fn found(image: Image) -> Contents {
        Contents { cache: image.clone(), durable: image, ..Contents::default() }
    }

    pub(super) fn cache(&self) -> &Image {
        &self.cache
    }

    pub(super) fn length(&self) -> u64 {
        self.cache.length()
    }

    pub(super) fn write(&mut self, moment: Moment, position: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        if end > self.length() {
            self.set_length(moment, end);
        }
        self.cache.write(position, bytes);

        let sector_bytes = SECTOR_BYTES as u64;
        let first_sector = position / sector_bytes;
        let mut sectors = vec![0; (end.div_ceil(sector_bytes) - first_sector) as usize * SECTOR_BYTES];
        self.cache.read_or_zero(first_sector * sector_bytes, &mut sectors);
        self.writes.push(Stored { moment, first_sector, sectors: sectors.into() });
    }

    pub(super) fn set_length(&mut self, moment: Moment, length: u64) {
        if length == self.length() {
            return;
        }
        let cuts = length < self.length();
        self.lengths.push(Length { moment, length, cuts });
        self.cache.set_length(length);
    }

    /// A sync that started at `until` succeeded.
    pub(super) fn synced(&mut self, until: Moment) {
        let lengths = split_off(&mut self.lengths, |length| length.moment <= until);
        let writes = split_off(&mut self.writes, |write| write.moment <= until);
        let cuts: Vec<_> = lengths.iter().copied().filter(|length| length.cuts).collect();
        // In order; a write that lengthens comes after its new length.
        let mut lengths = lengths.into_iter().peekable();
        for write in writes {
            while let Some(length) = lengths.next_if(|length| length.moment <= write.moment) {
                self.durable.set_length(length.length);
            }
            for (sector, bytes) in write.sectors() {
                if self.stuck.contains(&(sector / BLOCK_SECTORS)) {
                    self.clean.entry(sector).or_default().push(Version::of(write.moment, bytes));
                } else {
                    self.durable.write(sector * SECTOR_BYTES as u64, bytes);
                    self.clean.remove(&sector);
                }
            }
        }
        for length in lengths {
            self.durable.set_length(length.length);
        }
        cuts.into_iter().for_each(|cut| self.cut_clean(cut));
    }

    /// Takes from what failed syncs left behind the bytes that a cut has ended for good.
    fn cut_clean(&mut self, cut: Length) {
        for (sector, versions) in &mut self.clean {
            for version in versions.iter_mut().filter(|version| version.moment < cut.moment) {
                clear_beyond(cut.length, *sector, &mut version.sector);
            }
        }
    }

    /// A sync that started at `until` failed.
    pub(super) fn sync_failed(&mut self, until: Moment) {
        for write in split_off(&mut self.writes, |write| write.moment <= until) {
            for (sector, bytes) in write.sectors() {
                self.clean.entry(sector).or_default().push(Version::of(write.moment, bytes));
                let block = sector / BLOCK_SECTORS;
                if self.durable.is_empty_block(block) {
                    self.stuck.insert(block);
                }
            }
        }
    }

    /// Drops clean sectors from the cache: reads see the durable ones again. Returns which bytes of
    /// the file changed.
    pub(super) fn evict(&mut self) -> Vec<Range<u64>> {
        let dirty: BTreeSet<u64> =
            self.writes.iter().flat_map(|write| write.sectors().map(|(sector, _)| sector)).collect();
        let evicted: Vec<u64> = self.clean.keys().copied().filter(|sector| !dirty.contains(sector)).collect();
        self.stuck.retain(|block| dirty.range(block * BLOCK_SECTORS..(block + 1) * BLOCK_SECTORS).next().is_some());
        let mut changed = Vec::new();
        for sector in evicted {
            self.clean.remove(&sector);
            let position = sector * SECTOR_BYTES as u64;
            let mut bytes = [0; SECTOR_BYTES];
            self.durable.read_or_zero(position, &mut bytes);
            if let Some(cut) = cut_after(&self.lengths, 0) {
                clear_beyond(cut, sector, &mut bytes);
            }
            self.cache.write(position, &bytes);
            if position < self.length() {
                changed.push(position..self.length().min(position + SECTOR_BYTES as u64));
            }
        }
        changed
    }

    /// Puts into what was read at `position` what the drive has instead of what it never takes: sectors that a
    /// failed sync left clean, and blocks that are stuck.
    pub(super) fn lose(&self, position: u64, read: &mut [u8]) {
        let dirty = |sector| self.writes.iter().any(|write| write.has(sector));
        let clean = self.clean.keys().copied().filter(|&sector| !dirty(sector));
        let stuck = self.stuck.iter().flat_map(|block| block * BLOCK_SECTORS..(block + 1) * BLOCK_SECTORS);
        let end = position + read.len() as u64;
        for sector in clean.chain(stuck) {
            let start = sector * SECTOR_BYTES as u64;
            let lost = start.max(position)..(start + SECTOR_BYTES as u64).min(end);
            if !lost.is_empty() {
                let bytes = &mut read[(lost.start - position) as usize..(lost.end - position) as usize];
                self.durable.read_or_zero(lost.start, bytes);
            }
        }
    }

    /// Whether reads may see what no sync has made durable, nor any later one will.
    pub(super) fn has_lost(&self) -> bool {
        !self.clean.is_empty()
    }

    /// What the disk holds after the power failed. A choice of 0 is what is durable, the last one the
    /// newest; asked for the length first, then for each sector below it that has versions.
    pub(super) fn after_power_loss(&self, choices: &mut dyn Choices) -> Image {
        let kept = match self.lengths.len() {
            0 => &[],
            changes => &self.lengths[..choices.choose(changes + 1)],
        };
        let mut image = self.durable.clone();
        if let Some(cut) = cut_after(kept, 0) {
            image.set_length(image.length().min(cut));
        }
        if let Some(last) = kept.last() {
            image.set_length(last.length);
        }
        for (sector, versions) in self.versions() {
            let position = sector * SECTOR_BYTES as u64;
            if position >= image.length() {
                break;
            }
            if let Some(chosen) = choices.choose(versions.len() + 1).checked_sub(1) {
                let (moment, bytes) = versions[chosen];
                // Beyond a cut that came after this version and was kept, nothing of it is left.
                let mut left = [0; SECTOR_BYTES];
                left.copy_from_slice(bytes);
                if let Some(cut) = cut_after(kept, moment) {
                    clear_beyond(cut, sector, &mut left);
                }
                image.write(position, &left);
            }
        }
        image
    }

    /// By sector, all versions since the durable one, oldest first.
    fn versions(&self) -> BTreeMap<u64, Vec<(Moment, &[u8])>> {
        let mut versions: BTreeMap<u64, Vec<(Moment, &[u8])>> = BTreeMap::new();
        for (&sector, clean) in &self.clean {
            let clean = clean.iter().map(|version| (version.moment, version.sector.as_slice()));
            versions.entry(sector).or_default().extend(clean);
        }
        for write in &self.writes {
            for (sector, bytes) in write.sectors() {
                versions.entry(sector).or_default().push((write.moment, bytes));
            }
        }
        versions
    }
}

impl Version {
    fn of(moment: Moment, bytes: &[u8]) -> Version {
        let mut version = Version { moment, sector: [0; SECTOR_BYTES] };
        version.sector.copy_from_slice(bytes);
        version
    }
}

impl Stored {
    fn has(&self, sector: u64) -> bool {
        let count = (self.sectors.len() / SECTOR_BYTES) as u64;
        (self.first_sector..self.first_sector + count).contains(&sector)
    }

    fn sectors(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_sector..).zip(self.sectors.chunks_exact(SECTOR_BYTES))
    }
}

/// The lowest length that the file was cut to after `moment`.
fn cut_after(lengths: &[Length], moment: Moment) -> Option<u64> {
    let cuts = lengths.iter().filter(|length| length.cuts && length.moment > moment);
    cuts.map(|length| length.length).min()
}

/// Zeroes what lies at or beyond position `end` of the file.
fn clear_beyond(end: u64, sector: u64, bytes: &mut [u8; SECTOR_BYTES]) {
    let left = end.saturating_sub(sector * SECTOR_BYTES as u64).min(SECTOR_BYTES as u64);
    bytes[left as usize..].fill(0);
}

/// Takes the first elements, as long as they are wanted.
fn split_off<T>(from: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    let count = from.iter().take_while(|&element| wanted(element)).count();
    from.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    //! Each rule of the model by itself; choices are given in the order they are asked for.

    use super::*;

    /// Answers from a list, and remembers between how many it was asked to choose.
    #[derive(Default)]
    struct Script {
        answers: Vec<usize>,
        asked: Vec<usize>,
    }

    impl Choices for Script {
        fn choose(&mut self, options: usize) -> usize {
            self.asked.push(options);
            if self.answers.is_empty() { 0 } else { self.answers.remove(0) }
        }
    }

    fn after(contents: &Contents, answers: &[usize]) -> Vec<u8> {
        let mut script = Script { answers: answers.to_vec(), asked: Vec::new() };
        let image = contents.after_power_loss(&mut script);
        assert!(script.asked.len() >= answers.len(), "asked only {:?}", script.asked);
        image.bytes()
    }

    fn asked(contents: &Contents, answers: &[usize]) -> Vec<usize> {
        let mut script = Script { answers: answers.to_vec(), asked: Vec::new() };
        contents.after_power_loss(&mut script);
        script.asked
    }

    fn durable(bytes: &[u8]) -> Contents {
        let mut image = Image::default();
        image.set_length(bytes.len() as u64);
        image.write(0, bytes);
        Contents::found(image)
    }

    #[test]
    fn each_sector_is_any_version_since_the_durable_one() {
        let mut contents = durable(&[0; 1024]);
        contents.write(1, 510, b"abcd");
        contents.write(2, 511, b"BC");
        assert_eq!(asked(&contents, &[]), [3, 3]);
        let tail = |answers: &[usize]| after(&contents, answers)[510..514].to_vec();
        assert_eq!(tail(&[0, 0]), b"\0\0\0\0");
        assert_eq!(tail(&[1, 0]), b"ab\0\0");
        assert_eq!(tail(&[0, 1]), b"\0\0cd");
        assert_eq!(tail(&[2, 1]), b"aBcd");
        assert_eq!(tail(&[2, 2]), b"aBCd");
    }

    #[test]
    fn a_sync_makes_durable_what_was_written_before_it_started() {
        let mut contents = durable(&[0; 512]);
        contents.write(1, 0, b"one");
        contents.write(2, 0, b"two");
        contents.write(3, 0, b"six");
        contents.synced(2);
        assert_eq!(asked(&contents, &[]), [2]);
        assert_eq!(&after(&contents, &[0])[..3], b"two");
        assert_eq!(&after(&contents, &[1])[..3], b"six");
        contents.synced(3);
        assert_eq!(asked(&contents, &[]), [0; 0]);
        assert_eq!(&after(&contents, &[])[..3], b"six");
    }

    #[test]
    fn length_and_bytes_become_durable_independently() {
        let mut contents = durable(b"ab");
        contents.write(1, 2, b"cd");
        assert_eq!(after(&contents, &[0, 0]), b"ab");
        assert_eq!(after(&contents, &[1, 0]), b"ab\0\0");
        assert_eq!(after(&contents, &[0, 1]), b"ab");
        assert_eq!(after(&contents, &[1, 1]), b"abcd");
    }

    #[test]
    fn sectors_beyond_the_length_that_was_kept_are_not_asked_for() {
        let mut contents = durable(b"");
        contents.set_length(1, 4096);
        contents.write(2, 0, &[1; 1024]);
        assert_eq!(asked(&contents, &[0]), [2]);
        assert_eq!(asked(&contents, &[1]), [2, 2, 2]);
    }

    #[test]
    fn bytes_cut_off_do_not_come_back_when_the_file_grows_again() {
        let mut contents = durable(b"durable");
        contents.write(1, 0, b"written");
        contents.set_length(2, 3);
        contents.set_length(3, 7);
        assert_eq!(contents.cache().bytes(), b"wri\0\0\0\0");
        assert_eq!(after(&contents, &[0, 0]), b"durable");
        assert_eq!(after(&contents, &[0, 1]), b"written");
        assert_eq!(after(&contents, &[1, 0]), b"dur");
        assert_eq!(after(&contents, &[2, 0]), b"dur\0\0\0\0");
        assert_eq!(after(&contents, &[2, 1]), b"wri\0\0\0\0");
        contents.write(4, 3, b"new!");
        assert_eq!(after(&contents, &[1, 2]), b"wri");
        assert_eq!(after(&contents, &[2, 2]), b"wrinew!");
        contents.synced(4);
        assert_eq!(after(&contents, &[]), b"wrinew!");
    }

    #[test]
    fn after_a_failed_sync_the_next_one_says_ok_and_makes_nothing_of_it_durable() {
        let mut contents = durable(&[b'.'; 1024]);
        contents.write(1, 0, b"first");
        contents.write(2, 512, b"second");
        contents.sync_failed(2);
        contents.synced(2);
        assert_eq!(&contents.cache().bytes()[..5], b"first");
        assert_eq!(after(&contents, &[]), [b'.'; 1024]);
        assert_eq!(&after(&contents, &[1, 1])[..5], b"first");

        let mut read = *b"first";
        contents.lose(0, &mut read);
        assert_eq!(&read, b".....");
        // Stored again, the whole sector counts, with what was in it.
        contents.write(3, 510, b"!");
        let mut read = *b"first";
        contents.lose(0, &mut read);
        assert_eq!(&read, b"first");
        contents.synced(3);
        let found = after(&contents, &[]);
        assert_eq!(&found[..5], b"first");
        assert_eq!(found[510], b'!');
        assert_eq!(&found[512..], [b'.'; 512]);
    }

    #[test]
    fn a_block_that_nothing_durable_was_in_takes_nothing_until_it_is_evicted() {
        let mut contents = durable(&[0; 8192]);
        contents.write(1, 0, b"first");
        contents.write(2, 4096, b"other");
        contents.synced(2);
        contents.write(3, 0, b"FIRST");
        contents.sync_failed(3);
        contents.write(4, 0, b"again");
        contents.synced(4);
        assert_eq!(&after(&contents, &[])[..5], b"again", "something durable was there");
        assert!(!contents.has_lost());

        let mut contents = durable(&[0; 8192]);
        contents.write(1, 600, b"first");
        contents.sync_failed(1);
        contents.write(2, 600, b"again");
        contents.write(3, 4096, b"other");
        contents.synced(3);
        let found = after(&contents, &[0]);
        assert_eq!((&found[600..605], &found[4096..4101]), (&[0; 5][..], &b"other"[..]));
        assert!(contents.has_lost() && contents.cache().bytes()[600..605] == *b"again");
        let mut read = [b'x'; 10];
        contents.lose(598, &mut read);
        assert_eq!(&read, b"\0\0\0\0\0\0\0\0\0\0");
        let mut read = [b'x'; 4];
        contents.lose(4094, &mut read);
        assert_eq!(&read, b"\0\0xx");
        contents.evict();
        assert!(!contents.has_lost() && contents.cache().bytes()[600..605] == [0; 5]);
        contents.write(4, 600, b"third");
        contents.synced(4);
        assert_eq!(&after(&contents, &[])[600..605], b"third");
    }

    #[test]
    fn evicting_shows_what_a_failed_sync_lost() {
        let mut contents = durable(&[b'.'; 1024]);
        contents.write(1, 0, b"lost");
        contents.write(2, 512, b"again");
        contents.sync_failed(2);
        contents.write(3, 600, b"x");
        assert_eq!(contents.evict().first(), Some(&(0..512)));
        assert_eq!(&contents.cache().bytes()[..4], b"....");
        assert_eq!(&contents.cache().bytes()[512..517], b"again");
        // What reads saw as gone doesn't come back.
        assert_eq!(asked(&contents, &[]), [3]);
        assert!(contents.evict().is_empty());
    }

    #[test]
    fn what_a_failed_sync_left_behind_is_cut_with_the_file() {
        let mut contents = durable(b"durable");
        contents.write(1, 0, b"written");
        contents.sync_failed(1);
        contents.set_length(2, 3);
        contents.set_length(3, 7);
        let mut evicted = contents.clone();
        assert_eq!(evicted.evict().first(), Some(&(0..7)));
        assert_eq!(evicted.cache().bytes(), b"dur\0\0\0\0");
        contents.synced(3);
        assert_eq!(after(&contents, &[0]), b"dur\0\0\0\0");
        assert_eq!(after(&contents, &[1]), b"wri\0\0\0\0");
    }
}
