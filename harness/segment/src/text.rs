//! A short text in place: who may not allocate can read and write it.

use core::fmt;
use core::ops::Deref;

/// A text of at most `BYTES` bytes. A longer one is cut at a character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const BYTES: usize> {
    bytes: [u8; BYTES],
    length: usize,
}

impl<const BYTES: usize> Text<BYTES> {
    /// What `value` says of itself.
    pub fn of(value: impl fmt::Display) -> Self {
        let mut text = Self::default();
        // An error: the rest has no room.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{value}"));
        text
    }
}

impl<const BYTES: usize> Default for Text<BYTES> {
    fn default() -> Self {
        Self { bytes: [0; BYTES], length: 0 }
    }
}

impl<const BYTES: usize> fmt::Write for Text<BYTES> {
    /// An error if not all of it fits.
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let fits = more.floor_char_boundary(room.len());
        room[..fits].copy_from_slice(&more.as_bytes()[..fits]);
        self.length += fits;
        if fits == more.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<const BYTES: usize> Deref for Text<BYTES> {
    type Target = str;

    fn deref(&self) -> &str {
        // Whole characters only are written, so it is never the default.
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl<const BYTES: usize> From<&str> for Text<BYTES> {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl<const BYTES: usize> fmt::Display for Text<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<const BYTES: usize> fmt::Debug for Text<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
