//! Which workload a name means, and which was meant by one that there isn't.

use crate::fail::Failure;
use crate::source::Source;

/// The variant that `asked` names; the only one, if nothing is asked for.
///
/// # Errors
/// If there is none, or several.
pub fn variant(source: &Source, asked: Option<&str>) -> Result<String, Failure> {
    let names: Vec<String> = source.variants.iter().map(|variant| variant.name()).collect();
    let Some(asked) = asked else {
        return match names.as_slice() {
            [only] => Ok(only.clone()),
            _ => Err(Failure::usage(format!("which workload is to be profiled? There are: {}", names.join(", ")))),
        };
    };
    if !source.has(asked) {
        let near = near(asked, &names);
        return Err(Failure::usage(match (near.as_slice(), &source.bench) {
            ([], _) => source.unknown(asked),
            (near, None) => format!(
                "unknown workload '{asked}'; did you mean {}? `heapgate list workloads` shows all",
                near.join(" or ")
            ),
            (near, Some(bench)) => {
                format!("unknown workload '{asked}' in bench '{bench}'; did you mean {}?", near.join(" or "))
            }
        }));
    }
    match source.select(&[asked.to_owned()])?.as_slice() {
        [only] => Ok(only.name()),
        several => {
            let names: Vec<String> = several.iter().map(|variant| variant.name()).collect();
            Err(Failure::usage(format!("'{asked}' has several variants; name one: {}", names.join(", "))))
        }
    }
}

/// At most three names like `asked`, nearest first: those within a third of its length of edits, or that hold it.
fn near<'a>(asked: &str, names: &'a [String]) -> Vec<&'a str> {
    let last = |name: &'a str| name.rsplit('/').next().unwrap_or(name);
    let distance = |name: &'a str| edits(asked, name).min(edits(asked, last(name)));
    let mut found: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(name), name.as_str()))
        .filter(|(distance, name)| *distance <= asked.chars().count() / 3 || name.contains(asked))
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The least number of characters to insert, delete or replace to make `b` of `a` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_is_guessed_and_nonsense_is_not() {
        let names = ["tokenize/hf-wordpiece", "tokenize/wordpiece-heap", "embed/bert"].map(str::to_owned);
        assert_eq!(near("tokenize/hf-wordpeice", &names), ["tokenize/hf-wordpiece"]);
        assert_eq!(near("hf-wordpice", &names), ["tokenize/hf-wordpiece"]);
        assert_eq!(near("wordpiece", &names), ["tokenize/hf-wordpiece", "tokenize/wordpiece-heap"]);
        assert!(near("zzz", &names).is_empty());
    }
}
