//! What is no published file, or no whole one, is refused, and does no harm.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use heapgate_segment::layout::{ABI_VERSION, LayoutError, OWNERS_OFFSET, SLOT_STRIDE, Shape, Slot, slots_offset};
use heapgate_segment::published::{Buffer, Entry, ReadError, Settled};
use proptest::prelude::*;

use crate::{LONG, NOBODY, Place, SLOTS, STARTED};

#[test]
fn what_is_no_published_file_is_refused() {
    let place = Place::new("refused");
    let service = place.publish();
    let (mut buffer, path) = (Buffer::new(), service.entry.path.clone());
    service.entry.read(&mut buffer).unwrap();
    let mut refusal = |entry: &Entry| {
        let error = entry.read(&mut buffer).unwrap_err();
        assert!(buffer.reader().is_err(), "what was there before is not shown for it");
        assert!(!error.to_string().is_empty());
        error
    };

    let renamed = Entry::new(&place.0, "tokenizer", NOBODY, STARTED + 1);
    fs::hard_link(&path, &renamed.path).unwrap();
    assert!(matches!(refusal(&renamed), ReadError::OtherProcess { start_time: STARTED, .. }));
    let link = Entry::new(&place.0, "link", NOBODY, STARTED);
    symlink(&path, &link.path).unwrap();
    assert!(matches!(refusal(&link), ReadError::Io(_)));
    let folder = Entry::new(&place.0, "folder", NOBODY, STARTED);
    fs::create_dir(&folder.path).unwrap();
    assert!(matches!(refusal(&folder), ReadError::NotAFile));
    let pipe = Entry::new(&place.0, "pipe", NOBODY, STARTED);
    let name = std::ffi::CString::new(pipe.path.to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert!(matches!(refusal(&pipe), ReadError::NotAFile));
    assert!(!pipe.is_alive());

    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut with_word = |word: u64, value: u64| {
        let mut sound = [0; 8];
        File::open(&path).unwrap().read_exact_at(&mut sound, word * 8).unwrap();
        file.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
        let error = refusal(&service.entry);
        file.write_all_at(&sound, word * 8).unwrap();
        error
    };
    assert!(matches!(with_word(0, 1), ReadError::Layout(LayoutError::NotASegment)));
    assert!(matches!(with_word(1, ABI_VERSION + 1), ReadError::Layout(LayoutError::Version { .. })));
    assert!(matches!(with_word(3, u64::MAX), ReadError::Layout(LayoutError::BadField("slot count"))));
    assert!(matches!(with_word(8, 1), ReadError::OtherProcess { pid: 1, .. }));
    service.entry.read(&mut buffer).unwrap();

    // A sound header that asks for 2 GiB to be read.
    let huge = Shape { slots: 1 << 16, phases: 0 };
    for (word, value) in [(2, huge.bytes() as u64), (3, huge.slots as u64)] {
        file.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
    }
    assert!(matches!(service.entry.read(&mut buffer), Err(ReadError::Layout(LayoutError::BadField("slot count")))));
}

#[test]
fn a_file_cut_at_any_place_is_refused() {
    let place = Place::new("cut");
    let service = place.publish();
    service.work();
    let whole = fs::read(&service.entry.path).unwrap();
    let entry = Entry::new(&place.0, "copy", NOBODY, STARTED);
    let mut buffer = Buffer::new();
    fs::write(&entry.path, &whole).unwrap();
    entry.read(&mut buffer).unwrap();
    let slot = |index: usize| slots_offset(SLOTS) + index * SLOT_STRIDE;
    let ends = [0, 1, 7, 8, 64, 592, 1000, OWNERS_OFFSET - 1, OWNERS_OFFSET, OWNERS_OFFSET + SLOTS * 8 - 1, slot(0)];
    let in_slots =
        (0..=SLOTS).flat_map(|index| [slot(index) - 1, slot(index) + 1, slot(index) + 2095, slot(index) + 3000]);
    // The last bytes of a slot are not used.
    let last = slot(SLOTS) + size_of::<Slot>() - 64;
    for end in ends.into_iter().chain(in_slots).chain([last]) {
        fs::write(&entry.path, &whole[..end]).unwrap();
        let error = entry.read(&mut buffer).unwrap_err();
        assert!(
            matches!(error, ReadError::CutShort | ReadError::Layout(LayoutError::TooShort { .. })),
            "{end}: {error}"
        );
        assert!(buffer.reader().is_err());
    }
}

#[test]
fn a_file_cut_and_filled_while_it_is_read_does_no_harm() {
    let place = Place::new("racing");
    let service = place.publish();
    service.work();
    let whole = fs::read(&service.entry.path).unwrap();
    let entry = Entry::new(&place.0, "copy", NOBODY, STARTED);
    fs::write(&entry.path, &whole).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = OpenOptions::new().write(true).open(&entry.path).unwrap();
            for end in (0..).map(|round: u64| round * 7919 % whole.len() as u64) {
                if stop.load(Relaxed) {
                    return;
                }
                file.set_len(end).unwrap();
                file.write_all_at(&whole[end as usize..], end).unwrap();
                // Any bytes, where the header is not looked at twice.
                file.write_all_at(&[0xff; 512], OWNERS_OFFSET as u64 + end).unwrap();
            }
        });
        let (mut buffer, mut settled) = (Buffer::new(), Settled::default());
        let began = Instant::now();
        for round in 0..500 {
            let read = if round % 2 == 0 {
                entry.read(&mut buffer)
            } else {
                entry.read_again(&mut buffer, &mut settled, began + round * LONG)
            };
            assert_eq!(read.is_ok(), buffer.reader().is_ok());
            if let Ok(reader) = buffer.reader() {
                let _ = (reader.totals(), reader.peaks(), reader.service());
            }
        }
        stop.store(true, Relaxed);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..20_000), with_magic in any::<bool>()) {
        let place = Place::new("random");
        let mut bytes = bytes;
        if with_magic && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(b"HEAPGATE");
        }
        fs::write(place.entry().path, &bytes).unwrap();
        let mut buffer = Buffer::new();
        prop_assert!(place.entry().read(&mut buffer).is_err());
        prop_assert!(buffer.reader().is_err());
    }
}
