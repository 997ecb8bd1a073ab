//! Reading a published file, without mapping it.

use core::fmt;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::entry::open;
use super::settled::SIGN_BYTES;
use super::{Entry, MAX_PUBLISHED_SLOTS, Settled};
use crate::groups::{GROUPS_OFFSET, GroupRecord, MAX_GROUPS, group_of, is_owned};
use crate::layout::{
    self, BATCH_BYTES, BATCH_OBJECTS, COUNTER_WORDS, Counters, Header, LATENCY_GROUPS, LatencyGroup, LayoutError,
    OWNERS_OFFSET, SLOT_STRIDE, Shape, Slot,
};
use crate::reader::{Folded, Reader};
use crate::requests::REQUESTS_STRIDE;

/// What becomes of a file here: a segment of one slot. What all slots have counted is in the overflow slot, and the other
/// keeps how far the one that went highest was above the shared sums: see [`Reader::peaks`].
const IMAGE: Shape = Shape { slots: 1, phases: 0 };

/// The part of a slot that is used, bytes.
const SLOT_BYTES: usize = size_of::<Slot>();

/// Where what counts allocations begins; before it is all that counts frees.
const ALLOCATED_OFFSET: usize = offset_of!(Slot, counters) + offset_of!(Counters, objects_allocated);

/// Where the histograms of latencies begin.
pub(super) const LATENCIES_OFFSET: usize = offset_of!(Slot, counters) + offset_of!(Counters, latencies);

/// Where the image keeps the counters of all slots, added up: in its overflow slot.
const SUMS_OFFSET: usize = layout::slots_offset(IMAGE.slots) + IMAGE.slots * SLOT_STRIDE + offset_of!(Slot, counters);

/// Memory that published files are read into, one after the other: 370 KiB, of which 128 KiB are never touched, and
/// 40 KiB only for files with groups.
pub struct Buffer {
    image: Box<[AtomicU64]>,
    scratch: Box<[u8]>,
    /// How much of each slot is read, bytes: up to the last group of latencies that its thread has touched. Copying is most of
    /// what reading costs. 0 where it has settled.
    lengths: Vec<usize>,
    slots_used: usize,
    owned: usize,
    /// The group of each slot that was in use, 0 for none.
    group_of_slot: Vec<usize>,
    /// The counters of each group's slots, added up. Empty as long as no file had groups: most have none.
    groups: Vec<AtomicU64>,
    /// Whose requests are in the image.
    requests: [bool; MAX_GROUPS],
}

/// Whether what was remembered of a file holds.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Same,
    /// A thread that was quiet has made a call, and its counts are in the sum of all quiet ones.
    Changed,
}

/// Why a published file can't be read.
#[derive(Debug)]
pub enum ReadError {
    /// It is gone, or the system refused.
    Io(io::Error),
    /// It is a folder, a pipe or a device.
    NotAFile,
    /// It was cut short.
    CutShort,
    /// It is no segment of this version.
    Layout(LayoutError),
    /// Its header says that it is another process's.
    OtherProcess {
        /// The process id that the header has.
        pid: u64,
        /// And the start time.
        start_time: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::CutShort => f.write_str("the file was cut short"),
            Self::Layout(error) => error.fmt(f),
            Self::OtherProcess { pid, start_time } => {
                write!(f, "its header says that it is of process {pid}, started at {start_time}; its name says another")
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Layout(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::CutShort } else { Self::Io(error) }
    }
}

impl From<LayoutError> for ReadError {
    fn from(error: LayoutError) -> Self {
        Self::Layout(error)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?})", self.reader())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let image = (0..IMAGE.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        Self {
            image,
            scratch: vec![0; SLOT_STRIDE].into(),
            lengths: Vec::new(),
            slots_used: 0,
            owned: 0,
            group_of_slot: Vec::new(),
            groups: Vec::new(),
            requests: [false; MAX_GROUPS],
        }
    }

    /// What was read last, with the figures of all slots added up.
    ///
    /// # Errors
    /// If nothing was read, or the last attempt failed.
    pub fn reader(&self) -> Result<Reader<'_>, LayoutError> {
        let folded = Folded { slots_used: self.slots_used, owned: self.owned, groups: &self.groups };
        Reader::of_folded(&self.image, folded)
    }

    /// Reads the file of `entry`, with what is remembered of it and the time.
    pub(super) fn fill(
        &mut self,
        entry: &Entry,
        mut settled: Option<(&mut Settled, Instant)>,
    ) -> Result<(), ReadError> {
        self.forget();
        let result = open(&entry.path, false).and_then(|file| {
            if self.fill_from(&file, entry, &mut settled)? == Kept::Changed {
                // Now without it; so it can't have changed again.
                if let Some((settled, _)) = &mut settled {
                    settled.forget_sum();
                }
                self.fill_from(&file, entry, &mut settled)?;
            }
            Ok(())
        });
        if result.is_err() {
            self.forget();
        }
        result
    }

    /// Makes sure that nobody takes what is here for a segment.
    fn forget(&mut self) {
        *self.image[offset_of!(Header, magic) / 8].get_mut() = 0;
    }

    fn fill_from(
        &mut self,
        file: &File,
        entry: &Entry,
        settled: &mut Option<(&mut Settled, Instant)>,
    ) -> Result<Kept, ReadError> {
        let shape = self.read_header(file)?;
        entry.check_owner(&self.image)?;
        // Also where what is missing is nothing that would be read now.
        if file.metadata()?.len() < shape.bytes() as u64 {
            return Err(ReadError::CutShort);
        }
        // The registry of arenas behind it stays as it began: empty.
        self.image[layout::slots_offset(IMAGE.slots) / 8..IMAGE.arenas_offset() / 8]
            .iter_mut()
            .for_each(|word| *word.get_mut() = 0);
        self.groups.iter_mut().for_each(|word| *word.get_mut() = 0);
        let offset_of_slot = |slot: usize| (layout::slots_offset(shape.slots) + slot * SLOT_STRIDE) as u64;

        // All that counts frees before all that counts allocations, in every slot: see `Counters`.
        let used_before = self.slots_used(shape);
        if let Some((settled, now)) = settled {
            settled.begin(used_before + 1, *now);
        }
        self.lengths.clear();
        for (index, slot) in (0..used_before).chain([shape.slots]).enumerate() {
            if settled.as_ref().is_some_and(|(settled, _)| settled.has(index)) {
                self.lengths.push(0);
                continue;
            }
            read_whole(file, &mut self.scratch[..ALLOCATED_OFFSET], offset_of_slot(slot))?;
            self.add(slot, 0..ALLOCATED_OFFSET);
            self.lengths.push(length_of(&self.scratch));
        }
        // What quiet threads have counted is the same at any moment, so long as the second look finds them so.
        if let Some((settled, _)) = settled {
            add_words(&mut self.image[SUMS_OFFSET / 8..], settled.sum().iter().copied());
        }
        // The header anew: an object whose free was seen may come from a slot that nobody had used before, and sums and
        // gauges should be of the same moment as the rest.
        self.read_header(file)?;
        entry.check_owner(&self.image)?;
        let used = self.slots_used(shape);
        let mut highest = [0; 2];
        for slot in (0..used).chain([shape.slots]) {
            // One that came into use meanwhile was not asked, and is not remembered.
            let index = if slot == shape.slots { Some(used_before) } else { Some(slot).filter(|&s| s < used_before) };
            let length = index.and_then(|index| self.lengths.get(index)).copied().unwrap_or(SLOT_BYTES);
            let is_settled = length == 0;
            let length = length.max(SIGN_BYTES);
            read_whole(file, &mut self.scratch[..length], offset_of_slot(slot))?;
            if !is_settled {
                self.add(slot, ALLOCATED_OFFSET..length);
            }
            if let (Some((settled, now)), Some(index)) = (&mut *settled, index) {
                if is_settled && !settled.still_holds(index, &self.scratch) {
                    return Ok(Kept::Changed);
                }
                // What is remembered is one sum of all slots: one that belongs to a group is read each time.
                if !is_settled && self.group_of(slot).is_none() {
                    settled.note(index, &self.scratch[..length], *now);
                }
            }
            if slot != shape.slots {
                for (highest, beyond) in highest.iter_mut().zip(beyond_sums(&self.scratch)) {
                    *highest = beyond.max(*highest);
                }
            }
        }
        self.read_requests(file, shape)?;
        self.finish(shape, used, highest);
        Ok(Kept::Same)
    }

    /// Reads the requests of each group that the header names into the image.
    fn read_requests(&mut self, file: &File, shape: Shape) -> Result<(), ReadError> {
        for (group, is_here) in self.requests.iter_mut().enumerate() {
            let name = GROUPS_OFFSET + group * size_of::<GroupRecord>() + offset_of!(GroupRecord, name);
            let is_there = *self.image[name / 8].get_mut() != 0;
            let from = |shape: Shape| shape.requests_offset() + group * REQUESTS_STRIDE;
            let words = &mut self.image[from(IMAGE) / 8..][..REQUESTS_STRIDE / 8];
            if is_there {
                let bytes = &mut self.scratch[..REQUESTS_STRIDE];
                read_whole(file, bytes, from(shape) as u64)?;
                words.iter_mut().zip(words_of(bytes)).for_each(|(word, read)| *word.get_mut() = read);
            } else if *is_here {
                // Those of another file.
                words.iter_mut().for_each(|word| *word.get_mut() = 0);
            }
            *is_here = is_there;
        }
        Ok(())
    }

    /// Reads the header into the image, and the owners' table into the scratch.
    fn read_header(&mut self, file: &File) -> Result<Shape, ReadError> {
        const BYTES: usize = OWNERS_OFFSET + MAX_PUBLISHED_SLOTS * 8;
        let found = read_up_to(file, &mut self.scratch[..BYTES])?;
        let words = words_of(&self.scratch[..found.min(OWNERS_OFFSET)]);
        let read = self.image.iter_mut().zip(words).map(|(word, read)| *word.get_mut() = read).count();
        let shape = layout::check_header(&self.image[..read])?;
        if shape.slots > MAX_PUBLISHED_SLOTS {
            return Err(LayoutError::BadField("slot count").into());
        }
        let owners = OWNERS_OFFSET..OWNERS_OFFSET + self.slots_used(shape) * 8;
        let owners = self.scratch[..found].get(owners).ok_or(ReadError::CutShort)?;
        self.owned = words_of(owners).filter(|&owner| is_owned(owner)).count();
        self.group_of_slot.clear();
        self.group_of_slot.extend(words_of(owners).map(group_of));
        if self.groups.is_empty() && self.group_of_slot.iter().any(|&group| group != 0) {
            self.groups.resize_with(MAX_GROUPS * COUNTER_WORDS, || AtomicU64::new(0));
        }
        Ok(shape)
    }

    fn slots_used(&mut self, shape: Shape) -> usize {
        let used = *self.image[offset_of!(Header, slots_used) / 8].get_mut();
        usize::try_from(used).unwrap_or(usize::MAX).min(shape.slots)
    }

    /// Adds the words of slot `slot`, which is in the scratch, that lie at `range` (bytes) to the overflow slot of the image,
    /// and to its group's. The group of a slot never changes once it has counts.
    fn add(&mut self, slot: usize, range: core::ops::Range<usize>) {
        // A slot's own state is no count.
        let counters = offset_of!(Slot, counters);
        let range = range.start.max(counters)..range.end.min(counters + COUNTER_WORDS * 8);
        let first = (range.start - counters) / 8;
        let words = &self.scratch[range];
        add_words(&mut self.image[SUMS_OFFSET / 8 + first..], words_of(words));
        if let Some(group) = self.group_of(slot) {
            add_words(&mut self.groups[group * COUNTER_WORDS + first..], words_of(words));
        }
    }

    /// The group of slot `slot`, from 0; `None` of the overflow slot and all others that are in none.
    fn group_of(&self, slot: usize) -> Option<usize> {
        self.group_of_slot.get(slot).and_then(|group| group.checked_sub(1))
    }

    fn finish(&mut self, shape: Shape, used: usize, highest: [i64; 2]) {
        self.slots_used = used;
        debug_assert!(shape.slots <= MAX_PUBLISHED_SLOTS);
        layout::write_shape(&self.image, IMAGE);
        let slot = layout::slots_offset(IMAGE.slots);
        // Whatever was read counts.
        *self.image[(slot + IMAGE.slots * SLOT_STRIDE + offset_of!(Slot, touched)) / 8].get_mut() = u64::MAX;
        for (offset, highest) in [offset_of!(Slot, room_objects), offset_of!(Slot, room_bytes)].into_iter().zip(highest)
        {
            self.image[(slot + offset) / 8].store(highest.cast_unsigned(), Relaxed);
        }
    }
}

/// Adds `words` to `sums`.
fn add_words(sums: &mut [AtomicU64], words: impl Iterator<Item = u64>) {
    for (sum, word) in sums.iter_mut().zip(words) {
        let sum = sum.get_mut();
        *sum = sum.wrapping_add(word);
    }
}

/// How much of a slot is worth reading, bytes.
pub(super) fn length_of(slot: &[u8]) -> usize {
    let touched = words_of(&slot[offset_of!(Slot, touched)..][..8]).next().unwrap_or(0);
    // What a segment says may be anything.
    let groups = LATENCY_GROUPS.min((u64::BITS - touched.leading_zeros()) as usize);
    LATENCIES_OFFSET + groups * size_of::<LatencyGroup>()
}

/// What a slot had live at its highest, beyond what it has added to the shared sums: objects, bytes. As
/// [`Reader::peaks`] counts it.
fn beyond_sums(slot: &[u8]) -> [i64; 2] {
    let word = |offset: usize| words_of(&slot[offset..offset + 8]).next().unwrap_or(0);
    let counter = |offset: usize| word(offset_of!(Slot, counters) + offset);
    let beyond = |freed, allocated, room, added, batch| {
        let live = counter(allocated).wrapping_sub(counter(freed));
        live.wrapping_add(word(room)).wrapping_sub(word(added)).cast_signed().clamp(0, batch)
    };
    [
        beyond(
            offset_of!(Counters, objects_freed),
            offset_of!(Counters, objects_allocated),
            offset_of!(Slot, room_objects),
            offset_of!(Slot, added_objects),
            BATCH_OBJECTS,
        ),
        beyond(
            offset_of!(Counters, bytes_freed),
            offset_of!(Counters, bytes_allocated),
            offset_of!(Slot, room_bytes),
            offset_of!(Slot, added_bytes),
            BATCH_BYTES,
        ),
    ]
}

pub(super) fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word))
}

/// Reads as many bytes from the beginning of `file` as there are.
fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut found = 0;
    while found < bytes.len() {
        match file.read_at(&mut bytes[found..], found as u64) {
            Ok(0) => break,
            Ok(more) => found += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn read_whole(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}
