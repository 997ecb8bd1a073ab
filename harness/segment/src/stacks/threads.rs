//! Names of the threads that were sampled, each once.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Names that are kept apart; threads with other names are one.
pub const MAX_THREADS: usize = 256;

/// Bytes of a name, as the kernel keeps it (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 16;

/// What all further threads are called.
pub(super) const OTHERS: &str = "(others)";
/// What a thread is called whose number makes no sense, or whose process ended before it had written the name.
pub(super) const UNKNOWN: &str = "(unknown)";

const WORDS: usize = 4;
pub(super) const THREADS_WORDS: usize = MAX_THREADS * WORDS;

/// Words of a name; 0 in `KEY` is none.
mod word {
    pub(super) const KEY: usize = 0;
    pub(super) const IS_WRITTEN: usize = 1;
    pub(super) const NAME: usize = 2;
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Threads<'a>(&'a [[AtomicU64; WORDS]]);

impl<'a> Threads<'a> {
    pub(super) fn new(words: &'a [AtomicU64; THREADS_WORDS]) -> Self {
        Self(words.as_chunks().0)
    }

    /// The number of `name`; [`MAX_THREADS`] if there is no room for it.
    pub(super) fn find(self, name: &[u8; NAME_BYTES]) -> u32 {
        let words = name.as_chunks().0.iter().map(|&bytes| u64::from_ne_bytes(bytes));
        let key = super::entry::hash(words.clone());
        for (number, entry) in self.0.iter().enumerate() {
            let found = match entry[word::KEY].load(Relaxed) {
                0 => entry[word::KEY].compare_exchange(0, key, AcqRel, Relaxed),
                found => Err(found),
            };
            match found {
                Ok(_) => {
                    for (place, word) in entry[word::NAME..].iter().zip(words) {
                        place.store(word, Relaxed);
                    }
                    // Release: who sees it written sees the name.
                    entry[word::IS_WRITTEN].store(1, Release);
                    return number as u32;
                }
                Err(found) if found == key => return number as u32,
                Err(_) => {}
            }
        }
        MAX_THREADS as u32
    }

    /// The names by number, up to the last that is used, with characters that a terminal would obey replaced.
    pub(super) fn read(self) -> Vec<String> {
        let used = self.0.iter().take_while(|entry| entry[word::KEY].load(Relaxed) != 0);
        used.map(|entry| {
            if entry[word::IS_WRITTEN].load(Acquire) == 0 {
                return UNKNOWN.to_owned();
            }
            let bytes: Vec<u8> = entry[word::NAME..].iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
            let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(name).replace(char::is_control, "?")
        })
        .collect()
    }
}
