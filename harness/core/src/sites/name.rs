//! Names of functions: whose they are, and how they are called for short.

use super::symbols::Frame;

/// Whose a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The allocator's, or the way to it.
    Allocator,
    /// The standard library's, or of the crate that its maps are.
    Standard,
    /// Anybody else's.
    Code,
}

/// Parts of the paths and of the names of what stands between a program and its allocator.
const ALLOCATOR_FILES: [&str; 7] = [
    "harness/alloc/src/",
    "harness/region/src/",
    "harness/segment/src/",
    "harness/bench/src/switch.rs",
    "/heapgate-alloc-",
    "/heapgate-region-",
    "/heapgate-segment-",
];
const ALLOCATOR_NAMES: [&str; 9] = [
    "__rust_alloc",
    "__rust_realloc",
    "__rustc::",
    "__rg_",
    "_Unwind_",
    "heapgate_alloc::",
    "heapgate_region::",
    "heapgate_segment::",
    "heapgate_bench::switch::",
];
/// As the compiler writes them: std is built elsewhere.
const STANDARD_FILES: [&str; 5] =
    ["/rustc/", "/library/alloc/src/", "/library/core/src/", "/library/std/src/", "/hashbrown-"];
const STANDARD_CRATES: [&str; 5] = ["alloc", "core", "std", "hashbrown", "rust_begin_unwind"];

/// By the file where it is known: a name may be of a type of one crate with a method of another's.
pub(crate) fn kind(frame: &Frame) -> Kind {
    let name = frame.function.trim_start_matches('<');
    if ALLOCATOR_NAMES.iter().any(|start| name.starts_with(start)) {
        return Kind::Allocator;
    }
    let (allocator, standard) = match frame.file.as_deref() {
        Some(file) => (
            ALLOCATOR_FILES.iter().any(|part| file.contains(part)),
            STANDARD_FILES.iter().any(|part| file.contains(part)),
        ),
        None => (false, STANDARD_CRATES.contains(&path(name).first().map_or("", |segment| segment.as_str()))),
    };
    if allocator {
        Kind::Allocator
    } else if standard {
        Kind::Standard
    } else {
        Kind::Code
    }
}

/// What was called: `Vec::push`, `fmt::format`.
pub(crate) fn short_call(frame: &Frame) -> String {
    let mut path = qualified(frame);
    path.split_off(path.len().saturating_sub(2)).join("::")
}

/// Where: the full path, without generic parameters and the numbers of closures.
pub(crate) fn function(frame: &Frame) -> String {
    let path = qualified(frame);
    if path.is_empty() { "(unknown)".to_owned() } else { path.join("::") }
}

/// The function with its closures told apart from itself: what a flame graph shows.
pub(crate) fn shown(frame: &Frame) -> String {
    let of_closure = frame.function.contains("{closure") || frame.function.contains("{{closure");
    let mut path = qualified(frame);
    if path.is_empty() {
        path = frame.file.as_deref().map(modules_of).unwrap_or_default();
    }
    if of_closure {
        path.push("{closure}".to_owned());
    }
    if path.is_empty() { "(unknown)".to_owned() } else { path.join("::") }
}

/// Whether all that is known of a frame is that it is of some closure.
pub(crate) fn is_nameless(frame: &Frame) -> bool {
    path(&frame.function).is_empty()
}

/// The segments of a function's path. Debugging information that was cut down to lines (`line-tables-only`) has bare names
/// of inlined functions: then the file says the modules.
fn qualified(frame: &Frame) -> Vec<String> {
    let name = path(&frame.function);
    match (name.as_slice(), frame.file.as_deref()) {
        ([_], Some(file)) if kind(frame) == Kind::Standard => standard_module(file).into_iter().chain(name).collect(),
        ([_], Some(file)) => modules_of(file).into_iter().chain(name).collect(),
        _ => name,
    }
}

/// `Vec` of `…/alloc/src/vec/mod.rs`, `fmt` of `…/alloc/src/fmt.rs`: a module that is about one type has the type's name.
fn standard_module(file: &str) -> Option<String> {
    let module = modules_of(file).pop()?;
    Some(match module.as_str() {
        "boxed" => "Box".to_owned(),
        "iterator" => "Iterator".to_owned(),
        "string" => "String".to_owned(),
        "vec" => "Vec".to_owned(),
        _ => module,
    })
}

/// The modules of a source file, its crate's folder first: `tokenizers`, `models`, `wordpiece` of
/// `…/tokenizers-0.23.1/src/models/wordpiece/mod.rs`.
fn modules_of(file: &str) -> Vec<String> {
    let short = short_file(file);
    let mut parts: Vec<&str> = short.split('/').filter(|part| *part != "src").collect();
    if let Some(last) = parts.pop() {
        let stem = last.split('.').next().unwrap_or(last);
        if !["mod", "lib", "main"].contains(&stem) {
            parts.push(stem);
        }
    }
    // A registry's folder has the version in its name.
    let plain = |part: &str| {
        let name = part.rsplit_once('-').filter(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit()));
        name.map_or(part, |(name, _)| name).replace('-', "_")
    };
    parts.into_iter().map(plain).collect()
}

/// The part of a path that says enough: from the crate's folder on, whatever machine it was built on.
pub(super) fn short_file(file: &str) -> String {
    /// Folders of a crate that have its code.
    const CODE: [&str; 4] = ["src", "tests", "benches", "examples"];
    let parts: Vec<&str> = file.split('/').collect();
    match parts.iter().rposition(|part| CODE.contains(part)) {
        Some(code) => parts[code.saturating_sub(1)..].join("/"),
        None => parts[parts.len().saturating_sub(2)..].join("/"),
    }
}

/// The segments of a path, without generic parameters and closures: `<A<B> as C>::d::<E>::{{closure}}` is `A::d` with
/// A's own path before it.
fn path(name: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = name;
    if let Some((inner, after)) = bracketed(name) {
        // Of `<A as B>` the type, of `<impl B for A>` too; of a reference what it refers to.
        let of = at_top_level(inner, " as ").map_or(inner, |(of, _)| of);
        let of = at_top_level(of, " for ").map_or(of, |(_, of)| of);
        let of = of.trim_start_matches(['&', '*', '(', '[']);
        let of = of.trim_start_matches("mut ").trim_start_matches("const ").trim_start_matches("dyn ");
        plain.push_str(&without_generics(of));
        rest = after;
    }
    plain.push_str(&without_generics(rest));
    plain
        .split("::")
        .map(str::trim)
        .filter(|segment| !segment.is_empty() && !segment.starts_with('{'))
        .map(|segment| segment.trim_end_matches([']', ')']).to_owned())
        .collect()
}

/// What stands in the brackets that `text` begins with, and after them.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let end = depths(inner).find(|&(_, depth, _)| depth < 0)?.0;
    Some((&inner[..end], &inner[end + 1..]))
}

fn without_generics(text: &str) -> String {
    depths(text).filter(|&(_, depth, c)| depth == 0 && c != '>').map(|(_, _, c)| c).collect()
}

/// `text` split at the first `separator` outside of brackets.
fn at_top_level<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let (at, ..) = depths(text).find(|&(at, depth, _)| depth == 0 && text[at..].starts_with(separator))?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// Each character with its place and how many brackets `<` are open with it; the `>` of an arrow is none.
fn depths(text: &str) -> impl Iterator<Item = (usize, i32, char)> {
    let mut depth = 0;
    let mut before = ' ';
    text.char_indices().map(move |(at, c)| {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        before = c;
        (at, depth, c)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str) -> Frame {
        Frame {
            function: function.to_owned(),
            file: (!file.is_empty()).then(|| file.to_owned()),
            line: 1,
            ..Frame::default()
        }
    }

    #[test]
    fn calls_are_named_by_type_and_method() {
        for (name, short) in [
            ("alloc::vec::Vec<T,A>::push", "Vec::push"),
            ("alloc::fmt::format", "fmt::format"),
            ("alloc::fmt::format::format_inner", "format::format_inner"),
            ("<alloc::string::String as core::convert::From<&str>>::from", "String::from"),
            ("core::iter::traits::iterator::Iterator::collect::<Vec<u8>>", "Iterator::collect"),
            ("alloc::slice::<impl [T]>::to_vec", "slice::to_vec"),
            ("<F as core::ops::FnOnce<(A,)>>::call_once::{{closure}}", "F::call_once"),
            ("<alloc::vec::Vec<T> as SpecFromIter<T, Box<dyn Fn() -> X>>>::from_iter", "Vec::from_iter"),
        ] {
            assert_eq!(short_call(&frame(name, "")), short, "{name}");
        }
        assert_eq!(short_call(&frame("push<u8>", "/rustc/0/library/alloc/src/vec/mod.rs")), "Vec::push");
        assert_eq!(short_call(&frame("from", "/rustc/0/library/alloc/src/string.rs")), "String::from");
    }

    #[test]
    fn places_keep_their_path() {
        for (name, full) in [
            (
                "heapgate_workloads::tokenize::heap::Heap::pieces::{{closure}}",
                "heapgate_workloads::tokenize::heap::Heap::pieces",
            ),
            (
                "<tokenizers::models::WordPiece as tokenizers::Model>::tokenize",
                "tokenizers::models::WordPiece::tokenize",
            ),
            ("<&mut a::B<C> as d::E>::f", "a::B::f"),
            ("main", "main"),
            ("", "(unknown)"),
        ] {
            assert_eq!(function(&frame(name, "")), full, "{name}");
        }
    }

    #[test]
    fn nonsense_has_some_name() {
        for name in ["<<a>", ">>", "<", "->", "a<b->c::d", "<as>::", "< as for >", "::::", "é<ß>::中"] {
            assert!(!function(&frame(name, "/")).is_empty(), "{name}");
            short_call(&frame(name, ""));
        }
    }

    #[test]
    fn a_bare_name_takes_its_modules_from_the_file() {
        for (file, full) in [
            (
                "/home/me/.cargo/registry/src/i/tokenizers-0.23.1/src/models/wordpiece/mod.rs",
                "tokenizers::models::wordpiece::slice",
            ),
            ("/w/my-crate/src/lib.rs", "my_crate::slice"),
            ("/w/my-crate/tests/names.rs", "my_crate::tests::names::slice"),
        ] {
            assert_eq!(function(&frame("slice", file)), full);
        }
        assert!(is_nameless(&frame("{closure#0}", "/w/my-crate/src/lib.rs")));
        assert!(!is_nameless(&frame("my_crate::slice::{{closure}}", "")));
    }

    #[test]
    fn the_file_says_whose_a_function_is_and_else_the_name() {
        let of = |name: &str, file: &str| kind(&frame(name, file));
        assert_eq!(of("push", "/rustc/5980/library/alloc/src/vec/mod.rs"), Kind::Standard);
        assert_eq!(
            of("<alloc::vec::Vec<T> as x::Y>::z", "/home/me/.cargo/registry/src/i/x-1.0.0/src/lib.rs"),
            Kind::Code
        );
        assert_eq!(of("alloc::vec::Vec<T,A>::push", ""), Kind::Standard);
        assert_eq!(of("allocate", ""), Kind::Code);
        assert_eq!(of("__rustc::__rust_alloc", ""), Kind::Allocator);
        assert_eq!(of("<heapgate_alloc::telemetry::Telemetry<A> as GlobalAlloc>::alloc", ""), Kind::Allocator);
        assert_eq!(of("alloc", "/x/harness/bench/src/switch.rs"), Kind::Allocator);
        assert_eq!(of("step", "/x/harness/bench/src/trial.rs"), Kind::Code);
    }

    #[test]
    fn files_are_told_from_their_crate_on() {
        for (file, short) in [
            (
                "/home/me/.cargo/registry/src/index/tokenizers-0.23.1/src/models/mod.rs",
                "tokenizers-0.23.1/src/models/mod.rs",
            ),
            ("/work/x/workloads/src/tokenize/heap.rs", "workloads/src/tokenize/heap.rs"),
            ("src/main.rs", "src/main.rs"),
            ("/a/b/c.c", "b/c.c"),
        ] {
            assert_eq!(short_file(file), short);
        }
    }
}
