//! The hash that tells a baseline as it was recorded from one that was edited.
//!
//! It is taken over the text before the member `content_hash`, which is the last, without the spaces between tokens: a
//! file that was only indented anew still counts as the same. It works on text, not on parsed numbers, since parsing
//! may cost a number its last binary digit.

use crate::hash::fnv1a;

const MEMBER: &str = "\"content_hash\"";

/// The hash of the document `text`; `None` where it has no member `content_hash`.
pub(super) fn of(text: &str) -> Option<String> {
    let body = &text[..text.rfind(MEMBER)?];
    Some(format!("{:016x}", fnv1a(without_spaces(body))))
}

/// The bytes of `json` without the white space that is not part of a string.
fn without_spaces(json: &str) -> impl Iterator<Item = u8> {
    let (mut in_string, mut escaped) = (false, false);
    json.bytes().filter(move |byte| {
        let keep = in_string || !byte.is_ascii_whitespace();
        if escaped {
            escaped = false;
        } else {
            escaped = in_string && *byte == b'\\';
            in_string ^= *byte == b'"';
        }
        keep
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_between_tokens_don_t_count_and_all_else_does() {
        let text = r#"{"a": "x \" y", "b": [1, 2], "content_hash": "0"}"#;
        assert_eq!(of(text), of(&text.replace("[1, 2]", "[\n1,2 ]")));
        assert_eq!(of(text), of(&text.replace("\"0\"", "\"1\"")), "the hash itself is left out");
        assert_ne!(of(text), of(&text.replace("[1, 2]", "[12]")));
        assert_ne!(of(text), of(&text.replace("[1, 2]", "[1, 3]")));
        assert_ne!(of(text), of(&text.replace("x \\\" y", "x \\\"  y")), "in a string a space counts");
    }

    #[test]
    fn without_the_member_there_is_no_hash() {
        assert_eq!(of("{}"), None);
    }
}
