//! The WordPiece variants give the same ids as the `tokenizers` crate: on the whole corpus and on the worst of Unicode.

use std::cell::RefCell;

use heapgate_workloads::tokenize::arena::Arena;
use heapgate_workloads::tokenize::documents::{Documents, Kind};
use heapgate_workloads::tokenize::heap::Heap;
use heapgate_workloads::tokenize::hf::Hf;
use heapgate_workloads::tokenize::pipeline;
use heapgate_workloads::tokenize::slices::Slices;
use heapgate_workloads::tokenize::{Tokenizer, checksum};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The tokens of the corpus and their checksum, as the `tokenizers` crate gives them.
const CORPUS: (usize, u64) = (1_448_238, 1_222_377_221_495_886_621);

/// Without optimisation all this takes twenty times as long; then one in so many is taken where there are very many.
/// The corpus test covers all of the text either way.
const SLOWDOWN: usize = if cfg!(debug_assertions) { 10 } else { 1 };

struct All {
    hf: Hf,
    heap: Heap,
    arena: Arena,
    slices: Slices,
    pipeline_owned: pipeline::Owned,
    pipeline_slices: pipeline::Slices,
}

impl All {
    fn new() -> Self {
        Self {
            hf: Hf::new().expect("embedded vocabulary"),
            heap: Heap::new().expect("embedded vocabulary"),
            arena: Arena::new().expect("embedded vocabulary"),
            slices: Slices::new().expect("embedded vocabulary"),
            pipeline_owned: pipeline::Owned::new().expect("embedded vocabulary"),
            pipeline_slices: pipeline::Slices::new().expect("embedded vocabulary"),
        }
    }

    /// The ids, if all agree; else who differs, and how.
    fn agree(&mut self, text: &str) -> Result<Vec<u32>, String> {
        let expected = self.hf.with_ids(text, <[u32]>::to_vec);
        let check = |name: &str, ids: Vec<u32>| {
            if ids == expected {
                return Ok(());
            }
            let same = ids.iter().zip(&expected).take_while(|(ours, theirs)| ours == theirs).count();
            let [ours, theirs] = [&ids, &expected].map(|ids| &ids[same..ids.len().min(same + 8)]);
            let start: String = text.chars().take(500).collect();
            Err(format!("{name}: from token {same} on {ours:?}, not {theirs:?}, for {start:?}"))
        };
        check("heap", self.heap.with_ids(text, <[u32]>::to_vec))?;
        check("arena", self.arena.with_ids(text, <[u32]>::to_vec))?;
        check("slices", self.slices.with_ids(text, <[u32]>::to_vec))?;
        check("pipeline-owned", self.pipeline_owned.with_ids(text, <[u32]>::to_vec))?;
        check("pipeline-slices", self.pipeline_slices.with_ids(text, <[u32]>::to_vec))?;
        Ok(expected)
    }
}

#[test]
fn ids_agree_on_every_verse_and_poem() {
    let mut all = All::new();
    for text in Documents::load(Kind::Verse).expect("embedded").iter().step_by(SLOWDOWN) {
        all.agree(text).unwrap();
    }
}

#[test]
fn ids_agree_on_the_corpus_and_have_the_known_checksum() {
    let mut all = All::new();
    for text in Documents::load(Kind::Corpus).expect("embedded").iter() {
        let ids = all.agree(text).unwrap();
        assert_eq!((ids.len(), checksum(&ids)), CORPUS);
    }
}

#[test]
#[ignore = "reads the document that ci/fetch-data fetches, and takes long"]
fn ids_agree_on_the_fetched_document() {
    let mut all = All::new();
    for text in Documents::load(Kind::LinuxDoc).expect("ci/fetch-data was run").iter() {
        all.agree(text).unwrap();
    }
}

#[test]
fn ids_agree_on_repeated_characters() {
    let mut all = All::new();
    for text in Documents::load(Kind::Repeated).expect("made there").iter() {
        // A twentieth is enough: what counts is that it is longer than every limit.
        let some: String = text.chars().take(3_000).collect();
        all.agree(&some).unwrap();
    }
}

#[test]
fn ids_agree_on_every_character_by_itself_and_in_a_word() {
    let mut all = All::new();
    // All of the planes that are in use; of the others, and without optimisation of all but the first blocks, a sample.
    let taken = |&c: &char| match c as u32 {
        ..0x1000 => true,
        code @ ..0x3_2000 => (code as usize).is_multiple_of(SLOWDOWN),
        code => code % 640 == 1,
    };
    let chars: Vec<char> = ('\0'..=char::MAX).filter(taken).collect();
    for some in chars.chunks(512) {
        let text: String =
            some.iter().flat_map(|&c| [c, ' ', 'a', c, 'B', '\n', 'e', '\u{301}', c, '\u{323}', '.']).collect();
        all.agree(&text).unwrap();
    }
}

#[test]
fn ids_agree_on_hard_texts() {
    let mut all = All::new();
    for text in [
        "",
        " ",
        "\0",
        "\u{fffd}",
        "\u{200b}\u{200d}\u{feff}",
        "a\u{0}b\u{fffd}c\u{200b}d\u{85}e\u{b}f\u{c}g\u{1f}h",
        "tab\tline\nreturn\rno-break\u{a0}em\u{2003}line\u{2028}paragraph\u{2029}ideographic\u{3000}ogham\u{1680}end",
        "Crème BRÛLÉE, naïve Ångström; e\u{301}\u{323}\u{301} q\u{323}\u{307} \u{307}\u{323}",
        "ｆｕｌｌｗｉｄｔｈ ＡＢＣ１２３！？",
        "İstanbul I\u{307} ıI ΌΣΟΣ ΑΣ. ß ẞ ﬁ Ǆ",
        "한국어 가각간 \u{1100}\u{1161}\u{11a8}",
        "ภาษาไทย ที่นี่ हिन्दी বাংলা தமிழ்",
        "👩\u{200d}👩\u{200d}👧 🏳\u{fe0f}\u{200d}🌈 ☺\u{fe0f} 1\u{fe0f}\u{20e3}",
        "中文English混合，標點。「引用」\u{f900}\u{2f800}\u{2b820}\u{2b920}",
        "[UNK] [CLS] [MASK] ##ing ## # [unused1]",
        "\u{e000}\u{f0000}\u{378}\u{e0041}\u{d7ff}\u{10ffff}",
        "unaffable supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
        "$1,234.56 a_b-c/d\\e `~^|<>=+ ©®™ °±²³ ½ № ℃ Å K Ω \u{37e} \u{387} \u{1fef} \u{2329}",
        "\u{302e}中\u{302e}\u{302a}，\u{20dd}a\u{20dd}\u{301}\u{345}\u{344}",
    ] {
        all.agree(text).unwrap();
    }
    for len in 98..=103 {
        for unit in ["a", "A", "é", "É", "中", "ß", "e\u{301}", "😀", "한", "я", "\u{10400}"] {
            let word = unit.repeat(len);
            all.agree(&word).unwrap();
            all.agree(&format!("x {word}. {word}y")).unwrap();
        }
    }
}

/// Characters of the kinds that a rule is about, and anything else now and then.
fn nasty_char() -> impl Strategy<Value = char> {
    prop_oneof![
        8 => prop::char::range('a', 'z'),
        3 => prop::char::range('A', 'Z'),
        4 => prop::char::range('\0', '\u{ff}'),
        3 => prop::sample::select(vec![' ', '\t', '\n', '\r', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}', '\u{200b}', '\u{180e}']),
        3 => prop::char::range('\u{300}', '\u{36f}'),
        2 => prop::char::range('\u{4e00}', '\u{4e20}'),
        2 => prop::char::range('\u{f900}', '\u{fb4f}'),
        2 => prop::char::range('\u{ac00}', '\u{ad00}'),
        2 => prop::char::range('\u{370}', '\u{52f}'),
        2 => prop::char::range('\u{590}', '\u{e7f}'),
        2 => prop::char::range('\u{1e00}', '\u{206f}'),
        1 => prop::char::range('\u{1d150}', '\u{1d1f0}'),
        1 => prop::char::range('\u{20000}', '\u{2fa20}'),
        4 => any::<char>(),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::collection::vec(nasty_char(), 0..300).prop_map(|chars| chars.into_iter().collect()),
        prop::collection::vec("[a-zA-Z]{1,12}[ .,]?", 0..60).prop_map(|words| words.concat()),
    ]
}

#[test]
fn ids_agree_on_any_text() {
    // Not by the macro, which would load the vocabulary for every case.
    let all = RefCell::new(All::new());
    let config =
        ProptestConfig { cases: 10_000 / SLOWDOWN as u32, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&any_text(), |text| {
            prop_assert_eq!(all.borrow_mut().agree(&text).err(), None);
            Ok(())
        })
        .unwrap();
}
