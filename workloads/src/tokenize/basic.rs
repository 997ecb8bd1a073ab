//! BERT's basic tokenization, rule by rule: which characters are dropped, set apart or changed, and where words end.
//!
//! Lazy iterators that hold nothing, so that each variant decides what it keeps, and where. The order of the rules is
//! [`clean`], [`space_ideographs`], [`strip_accents`], [`lower`], [`words`]. They follow the behaviour of the
//! `tokenizers` crate to the character, oddities included, since equal ids are the point.

use std::iter;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

/// The longest word that is looked up, in characters; a longer one is unknown.
pub const MAX_WORD_CHARS: usize = 100;

/// Whether [`clean`] drops `c`: NUL, the replacement character, and controls, formats and private use (Cc, Cf, Co),
/// except the three controls that count as white space. So U+000B, U+000C and U+0085 join what they stand between.
#[must_use]
pub fn is_dropped(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | char::REPLACEMENT_CHARACTER => true,
        _ => c.is_other(),
    }
}

/// Whether `c` is an ideograph, a word by itself. Hangul and kana are not. The fifth range starts late, at U+2B920
/// rather than U+2B820, as in the original.
#[must_use]
pub fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x2_A6DF | 0x2_A700..=0x2_B73F
        | 0x2_B740..=0x2_B81F | 0x2_B920..=0x2_CEAF | 0x2_F800..=0x2_FA1F)
}

/// Whether `c` is punctuation, a word by itself: Unicode's (P*) and ASCII's, which includes symbols like `$` and `~`.
#[must_use]
pub fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

/// Whether `c` is an accent that [`strip_accents`] drops (Mn).
#[must_use]
pub fn is_accent(c: char) -> bool {
    c.is_mark_nonspacing()
}

/// Drops what is no text and makes every white space a space.
pub fn clean(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|&c| !is_dropped(c)).map(|c| if c.is_whitespace() { ' ' } else { c })
}

/// Puts spaces around ideographs.
pub fn space_ideographs(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    chars.flat_map(|c| {
        let space = is_ideograph(c).then_some(' ');
        space.into_iter().chain(iter::once(c)).chain(space)
    })
}

/// Decomposes canonically (NFD), then drops the accents.
pub fn strip_accents(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    chars.nfd().map(|(c, _)| c).filter(|&c| !is_accent(c))
}

/// Lower-cases character by character, blind to context: Σ is σ at the end of a word too.
pub fn lower(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    chars.flat_map(char::to_lowercase)
}

/// The words of normalised text: split at white space, punctuation apart.
///
/// ```
/// use heapgate_workloads::tokenize::basic::words;
/// assert_eq!(words("in  the beginning,god").collect::<Vec<_>>(), ["in", "the", "beginning", ",", "god"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|mut rest| {
        iter::from_fn(move || {
            let first = rest.chars().next()?;
            let end =
                if is_punctuation(first) { first.len_utf8() } else { rest.find(is_punctuation).unwrap_or(rest.len()) };
            let (word, after) = rest.split_at(end);
            rest = after;
            Some(word)
        })
    })
}
