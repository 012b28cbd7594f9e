//! What a power failure can leave: everything up to the last flush, and of what came after it any part, in
//! any order.
//!
//! A sector of 512 bytes is the old one or the new. Tearing between sectors is done in pages with records,
//! and on ext4 everywhere but in the superblock. Elsewhere pages of 4 KiB stay whole, as drives with such sectors
//! keep them: torn, a file system's own checksums would fail, which is no test of ours.

use crate::chance::Chance;
use crate::disk::{Event, Image, PAGE};
use crate::history::Position;
use crate::payload;
use crate::volume::Kind;

const SECTOR: usize = 512;

/// How much of the unflushed writes is on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    All,
    /// Some writes, whole.
    Some,
    /// Some writes, some of them in part.
    Torn,
}

/// A moment to crash at, and what is left then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// So many events had come.
    pub(crate) at: Position,
    pub(crate) left: Left,
}

impl Crash {
    /// The flush just before which or just behind which it is, if it is at one.
    pub(crate) fn flush(&self, events: &[Event]) -> Option<Position> {
        let is_flush = |at: &Position| matches!(events.get(*at), Some(Event::Flush));
        Some(self.at).filter(is_flush).or_else(|| self.at.checked_sub(1).filter(is_flush))
    }
}

/// So many crashes, in order of their positions: around each flush as long as there are enough, then at
/// drawn places.
pub(crate) fn plan(events: &[Event], count: usize, chance: &mut Chance) -> Vec<Crash> {
    let mut flushes: Vec<_> = (0..events.len()).filter(|at| matches!(events[*at], Event::Flush)).collect();
    chance.shuffle(&mut flushes);
    // Just before the flush, all that it was to make durable is in doubt; just behind it, nothing.
    let before = [Left::Torn, Left::Some, Left::Nothing, Left::All];
    let drawn: Vec<_> = flushes.iter().map(|flush| Crash { at: *flush, left: before[chance.below(4)] }).collect();
    let behind = flushes.iter().map(|flush| Crash { at: flush + 1, left: Left::Nothing });
    let mut crashes: Vec<_> = drawn.into_iter().chain(behind).take(count).collect();
    while crashes.len() < count {
        let left = [Left::Some, Left::Torn, Left::Torn, Left::Nothing, Left::All][chance.below(5)];
        crashes.push(Crash { at: chance.below(events.len() + 1), left });
    }
    crashes.sort_by_key(|crash| crash.at);
    crashes
}

/// Walks through a record and knows at each position what is durable and what isn't.
pub(crate) struct Walk<'a> {
    events: &'a [Event],
    at: Position,
    durable: Image,
    /// Positions of the writes since the last flush.
    doubtful: Vec<Position>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(start: Image, events: &'a [Event]) -> Walk<'a> {
        Walk { events, at: 0, durable: start, doubtful: Vec::new() }
    }

    /// What this crash leaves. Positions only rise.
    pub(crate) fn crash(&mut self, crash: Crash, kind: Kind, chance: &mut Chance) -> Image {
        while self.at < crash.at {
            match &self.events[self.at] {
                Event::Write { .. } => self.doubtful.push(self.at),
                Event::Flush => {
                    for at in std::mem::take(&mut self.doubtful) {
                        apply(&mut self.durable, &self.events[at]);
                    }
                }
            }
            self.at += 1;
        }
        let mut chosen = match crash.left {
            Left::Nothing => Vec::new(),
            Left::All => self.doubtful.clone(),
            Left::Some | Left::Torn => {
                let share = 1 + chance.below(7);
                self.doubtful.iter().copied().filter(|_| chance.below(8) < share).collect()
            }
        };
        if crash.left != Left::All && chance.one_in(2) {
            chance.shuffle(&mut chosen);
        }
        let mut image = self.durable.clone();
        for at in chosen {
            match crash.left {
                Left::Torn if chance.one_in(2) => tear(&mut image, &self.events[at], kind, chance),
                _ => apply(&mut image, &self.events[at]),
            }
        }
        image
    }
}

fn apply(image: &mut Image, event: &Event) {
    if let Event::Write { position, bytes } = event {
        image.write(*position, bytes);
    }
}

/// A part of a write: its beginning, or any of its sectors.
fn tear(image: &mut Image, event: &Event, kind: Kind, chance: &mut Chance) {
    let Event::Write { position, bytes } = event else { return };
    let mut units = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        let place = *position as usize + from;
        let to_page_end = (PAGE - place % PAGE).min(bytes.len() - from);
        let page = &bytes[from..from + to_page_end];
        let unit = if may_tear(kind, place, page) { (SECTOR - place % SECTOR).min(page.len()) } else { page.len() };
        units.push(from..from + unit);
        from += unit;
    }
    let kept = chance.below(units.len() + 1);
    let begins = chance.one_in(2);
    for (number, unit) in units.into_iter().enumerate() {
        if if begins { number < kept } else { chance.one_in(2) } {
            image.write(position + unit.start as u64, &bytes[unit]);
        }
    }
}

fn may_tear(kind: Kind, place: usize, page: &[u8]) -> bool {
    match kind {
        Kind::Ext4 => place >= PAGE,
        Kind::Xfs | Kind::Btrfs => payload::is_marked(page),
    }
}
