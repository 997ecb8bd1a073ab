//! BERT's uncased vocabulary: 30,522 pieces, the id of each its line, counted from 0.

use std::collections::HashMap;

const PACKED: &[u8] = include_bytes!("../../data/bert-vocab.txt.bz2");

/// What an unknown word becomes.
pub const UNKNOWN: &str = "[UNK]";

/// What a piece that continues a word starts with.
pub const CONTINUATION: &str = "##";

/// The file, decompressed: one piece a line.
#[must_use]
pub fn text() -> String {
    crate::corpus::unpack(PACKED)
}

/// A map from owned pieces to ids, as most programs have it.
#[derive(Debug, Clone)]
pub struct Vocab {
    ids: HashMap<String, u32>,
    unknown: u32,
}

impl Vocab {
    /// Decompresses and indexes the vocabulary.
    #[must_use]
    pub fn load() -> Self {
        let ids: HashMap<String, u32> = text().lines().map(str::to_owned).zip(0..).collect();
        let unknown = ids[UNKNOWN];
        Self { ids, unknown }
    }

    /// The id of `piece`, which starts with [`CONTINUATION`] if it continues a word.
    #[must_use]
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// The id of [`UNKNOWN`].
    #[must_use]
    pub fn unknown(&self) -> u32 {
        self.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabulary_is_berts() {
        let vocab = Vocab::load();
        assert_eq!(text().lines().count(), 30_522);
        assert_eq!((vocab.id("[PAD]"), vocab.unknown(), vocab.id("the")), (Some(0), 100, Some(1996)));
        assert_eq!(vocab.id("##ing"), Some(2075));
    }
}
