//! A segment that tests count into.

use std::os::fd::AsFd;

use heapgate_segment::clock::ClockKind;
use heapgate_segment::control::Control;
use heapgate_segment::layout::{self, InterruptedSplit, Level};
use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::reader::Reader;
use heapgate_segment::writer::{Attachment, Writer};

pub(crate) struct Segment {
    mapping: &'static Mapping,
    pub(crate) writer: Writer,
}

impl Segment {
    /// One of four slots, whose ticks are nanoseconds.
    pub(crate) fn attached(level: Level) -> Self {
        const SLOTS: usize = 4;
        let file = create_file(c"test", layout::segment_bytes(SLOTS)).unwrap();
        let mapping: &'static Mapping = Box::leak(Box::new(Mapping::new(file.as_fd()).unwrap()));
        layout::format(mapping.words(), SLOTS, level, 1);
        let (base, bytes) = mapping.raw();
        // SAFETY: a mapping is page-aligned, readable and writable for `bytes` bytes; this one is never unmapped, and its
        // words are accessed as atomics only.
        let writer = unsafe { Writer::from_raw(base, bytes) }.unwrap();
        let attachment =
            Attachment { pid: 1, clock: ClockKind::Monotonic, interrupted_split: InterruptedSplit::Available };
        assert!(writer.attach(attachment));
        Self { mapping, writer }
    }

    pub(crate) fn reader(&self) -> Reader<'static> {
        Reader::new(self.mapping.words()).unwrap()
    }

    pub(crate) fn control(&self) -> Control<'static> {
        Control::new(self.mapping.words()).unwrap()
    }
}
