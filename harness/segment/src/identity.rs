//! Whose segment it is: what an agent labels its figures with.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::layout::{MAX_TEXT_BYTES, SharedIdentity};

/// What a process says of itself when it publishes its segment. Texts beyond [`MAX_TEXT_BYTES`] bytes are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity<'a> {
    /// The service's name.
    pub service: &'a str,
    /// Its version, as it calls it; may be empty.
    pub version: &'a str,
    /// The allocator below the telemetry; may be empty.
    pub allocator: &'a str,
    /// When the process started: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// Now, ns since 1970.
    pub published_unix_ns: u64,
}

impl Identity<'_> {
    pub(crate) fn write(&self, into: &SharedIdentity) {
        into.start_time.store(self.start_time, Relaxed);
        into.published_unix_ns.store(self.published_unix_ns, Relaxed);
        for (text, words) in
            [(self.service, &into.service), (self.version, &into.version), (self.allocator, &into.allocator)]
        {
            write_text(text, words);
        }
    }
}

/// Not at once: a reader may find a part of the new text and a part of the old.
fn write_text(text: &str, words: &[AtomicU64]) {
    let text = &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    let mut bytes = [0; MAX_TEXT_BYTES];
    bytes[..text.len()].copy_from_slice(text);
    for (word, bytes) in words.iter().zip(bytes.as_chunks().0) {
        word.store(u64::from_le_bytes(*bytes), Relaxed);
    }
}

/// A text of the header, taken for hostile: up to the first zero byte, what is not UTF-8 replaced, and so are control
/// characters, which have no business in a label or on a terminal.
pub(crate) fn read_text(words: impl IntoIterator<Item = u64>) -> String {
    let bytes = words.into_iter().flat_map(u64::to_le_bytes).take_while(|&byte| byte != 0);
    let bytes: Vec<u8> = bytes.collect();
    let replaced = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(&bytes).chars().map(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_the_header(text: &str) -> String {
        let words = [const { AtomicU64::new(u64::MAX) }; MAX_TEXT_BYTES / 8];
        write_text(text, &words);
        read_text(words.iter().map(|word| word.load(Relaxed)))
    }

    #[test]
    fn texts_are_kept_up_to_64_bytes_and_cut_between_characters() {
        let just = "x".repeat(MAX_TEXT_BYTES);
        for text in ["", "tokenizer", "größer", &just] {
            assert_eq!(through_the_header(text), text);
        }
        assert_eq!(through_the_header(&format!("{just}y")), just);
        assert_eq!(through_the_header(&"ö".repeat(33)).chars().count(), 32);
        assert_eq!(through_the_header(&format!("x{}", "ö".repeat(33))).chars().count(), 32);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(read_text([u64::from_le_bytes(*b"a\nb\x1b[\xff\xfec")]), "a\u{fffd}b\u{fffd}[\u{fffd}\u{fffd}c");
        assert_eq!(read_text([u64::MAX; 8]).chars().count(), 64);
    }
}
