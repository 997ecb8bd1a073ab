//! The live page: three files that need nothing but this agent. What it shows is `/api/processes`; it keeps the past that it
//! draws itself, from when it was opened.

/// The page.
pub const PAGE: &str = include_str!("page/index.html");
/// Its style.
pub const STYLE: &str = include_str!("page/page.css");
/// Its script.
pub const SCRIPT: &str = include_str!("page/page.js");

/// What the page may do: run its own script, use its own style, and ask this agent. Nothing of another origin, nothing inline,
/// in nobody's frame.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_has_nothing_inline() {
        // The name of a kind of element.
        let script = SCRIPT.replace("\"http://www.w3.org/2000/svg\"", "");
        for text in [PAGE, STYLE, &script] {
            assert!(!text.contains("http:") && !text.contains("https:"), "an address of another origin");
        }
        let handler = PAGE.split_whitespace().any(|word| word.starts_with("on") && word.contains('='));
        assert!(!PAGE.contains("style=") && !PAGE.contains("<style") && !handler, "what the policy forbids");
        assert!(PAGE.matches("<script").count() == PAGE.matches("<script src=").count());
        // Names of services are text, whatever is in them.
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("insertAdjacentHTML") && !SCRIPT.contains("eval("));
    }
}
