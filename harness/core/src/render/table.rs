//! Tables without lines: columns two spaces apart, one row a line.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Which side of its column a cell stands on.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
}

/// The rows as lines of one width for each column, without spaces at their ends. Cells hold no line breaks and no
/// colours.
pub(super) fn lines(columns: &[Side], rows: &[Vec<String>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect::<Vec<_>>()));
    for (index, side) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, if index + 1 < columns.len() { 2 } else { 0 }));
            column.set_cell_alignment(match side {
                Side::Left => CellAlignment::Left,
                Side::Right => CellAlignment::Right,
            });
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Width of `text` on a terminal, without colours: its characters, since all of ours take one column.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text` without what could move the cursor or change colours: names and messages come from outside.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text` broken into lines at spaces, none wider than `width` unless one word is.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in clean(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if self::width(line) + 1 + self::width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `text` wrapped to `width` columns, its first line after `first`, the others indented as far.
#[must_use]
pub fn hanging(first: &str, text: &str, width: usize) -> String {
    let indent = self::width(first);
    let lines = wrap(text, width.saturating_sub(indent).max(20));
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        out.push_str(&if index == 0 { first.to_owned() } else { " ".repeat(indent) });
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_row_is_a_line() {
        let rows = vec![vec!["a".to_owned(), "1.20 µs".to_owned()], vec!["long\nname".to_owned(), "8 ns".to_owned()]];
        assert_eq!(lines(&[Side::Left, Side::Right], &rows), ["a          1.20 µs", "long name     8 ns"]);
    }

    #[test]
    fn text_from_outside_has_no_power_over_the_terminal() {
        assert_eq!(hanging("", "a\u{1b}[2Jb\rc\u{7}", 80), "a [2Jb c\n");
    }

    #[test]
    fn text_is_wrapped_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(hanging("- ", "x", 80), "- x\n");
    }
}
