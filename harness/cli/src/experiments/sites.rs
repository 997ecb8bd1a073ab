//! Where tokenization of long inputs allocates.

use heapgate_core::experiment::{Arm, Body, Experiment};

/// E2.
pub static SITES: Experiment = Experiment {
    number: 2,
    title: "Allocation sites of the tokenization of long inputs",
    about: "One long document (the King James Bible and 7,000 Tang poems), documents of a book's length, and 65,536 times \
            one character as the worst case, tokenized by BERT WordPiece: with an owned string for each intermediate, \
            and by the tokenizers crate, unmodified. Call stacks of allocations are sampled, totals are exact. The \
            source names kinds of call in a program that it does not show, for 100k tokens: so shares and sizes can be \
            set side by side, but its sites can't be matched with ours one by one.",
    body: Body::Sites {
        arms: &[
            arm("objects, corpus", "tokenize/wordpiece-heap", &[("document", "corpus")]),
            arm("objects, book", "tokenize/wordpiece-heap", &[("document", "book")]),
            arm("objects, repeated", "tokenize/wordpiece-heap", &[("document", "repeated")]),
            arm("HF, book", "tokenize/hf-wordpiece", &[("document", "book")]),
            arm("HF, repeated", "tokenize/hf-wordpiece", &[("document", "repeated")]),
        ],
        claims: &[("char decode", 0.423, 24.0), ("Vec push", 0.291, 16.0), ("String", 0.187, 64.0)],
    },
};

const fn arm(name: &'static str, variant: &'static str, params: &'static [(&'static str, &'static str)]) -> Arm {
    Arm { name, variant, allocator: "jemalloc", params }
}
