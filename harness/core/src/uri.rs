//! Paths as references in documents that others read.

/// A path as a relative URI reference: what is not unreserved or a separator in percent (RFC 3986).
#[must_use]
pub fn relative(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' | b'@' => {
                uri.push(byte as char);
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_relative_reference() {
        assert_eq!(relative("/my crate/src/a:b.rs"), "my%20crate/src/a%3Ab.rs");
        assert_eq!(relative("../tokenizers-0.20.0/src/lib.rs"), "../tokenizers-0.20.0/src/lib.rs");
    }
}
