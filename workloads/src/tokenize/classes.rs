//! What [`super::slices`] needs to know of a character, decided once by the rules of [`super::basic`] and then looked
//! up.

use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

use super::basic::{is_accent, is_dropped, is_ideograph, is_punctuation};

/// What to do with a character.
///
/// All but [`Class::Odd`] and [`Class::Upper`] stand for characters that normalisation leaves as they are (or makes a
/// space) and that are starters. Nothing moves across a starter when text is decomposed, so what lies between a
/// [`Class::Space`] or [`Class::Alone`] and the next can be normalised by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Part of a word, unchanged.
    Letter,
    /// A capital of ASCII: part of a word after setting one bit.
    Upper,
    /// Ends a word and is none.
    Space,
    /// Ends a word and is one, unchanged: punctuation or an ideograph.
    Alone,
    /// Dropped or changed: what it stands in must be normalised.
    Odd,
}

impl Class {
    fn of(c: char) -> Self {
        if is_dropped(c) {
            Self::Odd
        } else if c.is_whitespace() {
            Self::Space
        } else if c.is_ascii_uppercase() {
            Self::Upper
        } else if !is_unchanged(c) {
            Self::Odd
        } else if is_ideograph(c) || is_punctuation(c) {
            Self::Alone
        } else {
            Self::Letter
        }
    }
}

fn is_unchanged(c: char) -> bool {
    let mut decomposed = true;
    decompose_canonical(c, |d| decomposed &= d == c);
    decomposed && canonical_combining_class(c) == 0 && !is_accent(c) && c.to_lowercase().eq([c])
}

/// The class of every character, in one table.
#[derive(Debug, Clone)]
pub struct Classes {
    /// By character, from U+0000 up to [`END`].
    table: Vec<Class>,
}

/// The planes from here on hold hardly anything that is used; their characters are left to the rules, as odd.
const END: usize = 0x3_0000;

impl Classes {
    /// Asks the rules about each character.
    #[must_use]
    pub fn load() -> Self {
        let class = |code: u32| char::from_u32(code).map_or(Class::Odd, Class::of);
        Self { table: (0..END as u32).map(class).collect() }
    }

    /// The class of `c`.
    #[must_use]
    pub fn of(&self, c: char) -> Class {
        self.table.get(c as usize).copied().unwrap_or(Class::Odd)
    }

    /// The class of a byte that is a whole character.
    #[must_use]
    pub fn of_ascii(&self, byte: u8) -> Class {
        self.table[usize::from(byte)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_rules() {
        let classes = Classes::load();
        for (class, chars) in [
            (Class::Letter, "az09ßøわ"),
            (Class::Upper, "AZ"),
            (Class::Space, " \t\n\r\u{a0}\u{3000}\u{2028}"),
            (Class::Alone, ".$~，。「中㐀\u{20000}"),
            (Class::Odd, "\0\u{b}\u{85}\u{200b}\u{301}éÉΣ한\u{f900}\u{2f800}\u{fffd}\u{e0001}"),
        ] {
            for c in chars.chars() {
                assert_eq!(classes.of(c), class, "{c:?}");
            }
        }
    }
}
