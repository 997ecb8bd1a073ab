//! What all pages share: the head with its one style, the rule that nothing is loaded from anywhere, and text made safe.

/// The style of every page.
const STYLE: &str = include_str!("assets/page.css");
/// The library that draws charts, and its style and licence: see `assets/uplot/README.md`.
const UPLOT: &str = include_str!("assets/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("assets/uplot/uPlot.min.css");
const UPLOT_LICENCE: &str = include_str!("assets/uplot/LICENSE");
/// What makes charts and controls of what stands on the page.
const SCRIPT: &str = include_str!("assets/page.js");
/// The hashes of the two scripts, by which a browser knows them: no other script runs, whatever got onto the page. A test
/// holds this file to the scripts.
const SCRIPT_HASHES: &str = include_str!("assets/scripts.sha256");

/// The start of a page, up to its body. `scripts`: with charts to point at, for which [`end`] must put the scripts.
pub(in crate::render) fn start(title: &str, scripts: bool) -> String {
    let (policy, more_style) = match scripts {
        true => (format!("; script-src {}", SCRIPT_HASHES.trim()), UPLOT_STYLE.trim()),
        false => (String::new(), ""),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'{policy}\"><meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{more_style}{}</style></head><body>\n",
        escaped(title),
        STYLE.trim_end()
    )
}

/// The end of a page that was begun by [`start`].
pub(in crate::render) fn end(scripts: bool) -> String {
    if !scripts {
        return "</body></html>\n".to_owned();
    }
    format!(
        "<!-- uPlot, the next script, is under this licence:\n{}\n-->\n<script>{UPLOT}</script>\n<script>{SCRIPT}</script>\n</body></html>\n",
        UPLOT_LICENCE.trim()
    )
}

/// The scripts of pages, whose hashes must be in `assets/scripts.sha256`.
#[doc(hidden)]
#[must_use]
pub fn scripts() -> [&'static str; 2] {
    [UPLOT, SCRIPT]
}

/// Text from outside as text of a page, also within a quoted attribute.
pub(in crate::render) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON as it may stand in a script element: without what could end that.
pub(super) fn embedded(json: &serde_json::Value) -> String {
    json.to_string().replace('<', "\\u003c")
}

/// Our own words, with what stands between backticks as code.
pub(super) fn prose(text: &str) -> String {
    let part = |(index, part): (usize, &str)| {
        if index % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }
    };
    text.split('`').enumerate().map(part).collect()
}

/// `text` with a capital letter at its start.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// A figure: `text` for people, `value` for programs.
pub(in crate::render) fn data(value: f64, text: &str) -> String {
    format!("<data value=\"{value}\">{text}</data>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_ends_no_script() {
        let json = serde_json::json!({ "name": "</script><script>alert(1)</script><!--" });
        let text = embedded(&json);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
    }

    #[test]
    fn a_page_without_charts_has_no_script_and_one_with_charts_only_known_ones() {
        let plain = start("a", false) + &end(false);
        assert!(!plain.contains("<script") && !plain.contains("script-src"));
        let charts = start("a", true) + &end(true);
        assert_eq!(charts.matches("<script>").count(), 2);
        assert!(charts.contains("script-src 'sha256-") && !charts.contains("script-src 'unsafe"));
        assert!(scripts().iter().all(|script| !script.contains("</script")));
    }
}
