//! A frame of `heapgate top`, from the state alone.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::columns::{Column, fitting};
use super::number::{self, fit};
use super::source::OPERATIONS;
use super::state::{DECADES_NS, KEEP_DEAD, Point, Process, State, decades};

/// Rows of the details with their frame.
const DETAILS_HEIGHT: u16 = 10;
/// A list of fewer rows is no list: the details go first.
const LEAST_LIST: u16 = 6;
/// A call as long as half a frame of 60 Hz is a missed deadline (the default limit of stall_p95_ns).
const SLOW_NS: f64 = 8e6;
/// A call as long as this is an incident (the alert on one long stall has the same).
const STUCK_NS: f64 = 2e8;

const GREYED: Style = Style::new().fg(Color::DarkGray);
const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);

/// Without colours, for users who set NO_COLOR: weight and order then say all.
fn colored(color: bool, style: Style) -> Style {
    if color { style } else { Style { fg: None, bg: None, ..style } }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, state: &State, color: bool) {
    let area = frame.area();
    let rows = state.rows();
    let chosen = state.chosen_row(&rows);
    // Head, titles and keys take a row each.
    let details = state.details && !rows.is_empty() && area.height >= DETAILS_HEIGHT + LEAST_LIST + 3;
    let [head, titles, list, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(if details { DETAILS_HEIGHT } else { 0 }),
        Constraint::Length(1),
    ])
    .areas(area);

    frame.render_widget(heading(state, color), head);
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(state)), list);
    } else {
        let columns = fitting(area.width.into());
        frame.render_widget(column_titles(state, &columns), titles);
        frame.render_widget(listed(&rows, chosen, &columns, list.height.into(), color), list);
    }
    if details {
        draw_details(frame, rows[chosen], below, color);
    }
    frame.render_widget(key_line(state), keys);
}

fn heading(state: &State, color: bool) -> Line<'static> {
    let (alive, dead) = state.counts();
    let mut text = format!("{alive} process{}", if alive == 1 { "" } else { "es" });
    if dead > 0 {
        text.push_str(&format!(", {dead} dead (shown for {} s)", KEEP_DEAD.as_secs()));
    }
    let mut spans = vec![
        Span::styled("heapgate top  ", TITLE),
        Span::raw(text),
        Span::styled(format!("  every {:?}  {}", state.interval, state.folder), colored(color, GREYED)),
    ];
    if state.paused {
        spans.push(Span::styled("  PAUSED", Style::new().add_modifier(Modifier::REVERSED)));
    }
    if let Some(problem) = state.problems.first() {
        let count = state.problems.len();
        let text = if count == 1 { problem.clone() } else { format!("{count} unreadable, {problem}") };
        // Before the rest: the line is cut at the right.
        spans.truncate(1);
        spans.push(Span::styled(text, colored(color, Style::new().fg(Color::Red))));
    }
    Line::from(spans)
}

fn nothing(state: &State) -> Vec<Line<'static>> {
    vec![
        Line::raw(format!("No published process in {}.", state.folder)),
        Line::raw(""),
        Line::raw("A program with heapgate-alloc publishes itself when it is started with"),
        Line::raw("HEAPGATE_PUBLISH=NAME, or calls heapgate_alloc::publish(\"NAME\")."),
    ]
}

fn column_titles(state: &State, columns: &[(Column, usize)]) -> Line<'static> {
    let mut spans = Vec::new();
    for &(column, width) in columns {
        let style = if column == state.sort { TITLE.add_modifier(Modifier::UNDERLINED) } else { TITLE };
        spans.extend(gap(&spans));
        let title = fit(column.title(), width, column.is_number());
        // Only the word is underlined.
        let blank = title.len() - title.trim_start().len();
        spans.push(Span::raw(title[..blank].to_owned()));
        spans.push(Span::styled(title.trim().to_owned(), style));
        spans.push(Span::raw(title[blank + title.trim().len()..].to_owned()));
    }
    Line::from(spans)
}

/// The space before a column; none before the first.
fn gap(spans: &[Span<'_>]) -> Option<Span<'static>> {
    (!spans.is_empty()).then(|| Span::raw(" "))
}

/// As many rows as there is room for, with the chosen one among them.
fn listed(
    rows: &[&Process],
    chosen: usize,
    columns: &[(Column, usize)],
    height: usize,
    color: bool,
) -> Paragraph<'static> {
    let first = (chosen + 1).saturating_sub(height);
    let shown = rows.iter().enumerate().skip(first).take(height);
    Paragraph::new(shown.map(|(index, process)| row(process, index == chosen, columns, color)).collect::<Vec<_>>())
}

fn row(process: &Process, chosen: bool, columns: &[(Column, usize)], color: bool) -> Line<'static> {
    let mut spans = Vec::new();
    for &(column, width) in columns {
        spans.extend(gap(&spans));
        let style = if process.is_dead() { Style::new() } else { severity(column, process) };
        spans.push(Span::styled(fit(&column.cell(process), width, column.is_number()), colored(color, style)));
    }
    let mut line = Line::from(spans);
    if process.is_dead() {
        line = line.style(colored(color, GREYED).add_modifier(Modifier::DIM));
    }
    if chosen { line.patch_style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
}

/// How bad a time is, by colour.
fn severity(column: Column, process: &Process) -> Style {
    let rates = process.rates;
    let ns = match column {
        Column::P99 => rates.and_then(|rates| rates.stall_p99_ns),
        Column::Max => rates.and_then(|rates| rates.stall_max_ns),
        _ => None,
    };
    match ns {
        Some(ns) if ns >= STUCK_NS => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Some(ns) if ns >= SLOW_NS => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn draw_details(frame: &mut Frame<'_>, process: &Process, area: Rect, color: bool) {
    let reading = &process.reading;
    let block = Block::bordered()
        .title(format!(" {} {} ", reading.service, reading.id.pid))
        .border_style(colored(color, GREYED));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let histogram_width = (OPERATION_WIDTH + (DECADES_NS.len() + 1) * (CALLS_WIDTH + 1)) as u16;
    let [left, _, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(2), Constraint::Length(histogram_width)])
            .areas(inner);
    frame.render_widget(Paragraph::new(figures(process, left.width.into(), color)), left);
    frame.render_widget(Paragraph::new(histogram(process, color)), right);
}

/// A curve: its name, the column that has its present value, and its points.
type Curve = (&'static str, Column, fn(&Point) -> f64);

/// What doesn't fit into the list, and the curves.
fn figures(process: &Process, width: usize, color: bool) -> Vec<Line<'static>> {
    let reading = &process.reading;
    let cell = |column: Column| column.cell(process);
    let mut lines = vec![
        Line::raw(format!("version {}, {} threads", cell(Column::Version), reading.threads)),
        Line::raw(format!("{}, {}", cell(Column::Allocator), level(process))),
        Line::raw(""),
    ];
    let curves: [Curve; 4] = [
        ("live", Column::LiveBytes, |point| point.live_bytes),
        ("rss", Column::Rss, |point| point.rss_bytes),
        ("alloc/s", Column::Rate, |point| point.allocations_per_s),
        ("max", Column::Max, |point| point.stall_max_ns),
    ];
    for (name, column, value) in curves {
        /// `alloc/s` and a number, with their spaces.
        const TAKEN: usize = 16;
        let values: Vec<f64> = process.points.iter().map(value).collect();
        lines.push(Line::from(vec![
            Span::raw(format!("{name:<7} {:>7} ", cell(column))),
            Span::styled(
                sparkline(&values, width.saturating_sub(TAKEN)),
                colored(color, Style::new().fg(if process.is_dead() { Color::DarkGray } else { Color::Cyan })),
            ),
        ]));
    }
    lines
}

fn level(process: &Process) -> String {
    match (process.is_dead(), process.reading.was_off) {
        (true, _) => "dead: its last state".to_owned(),
        (false, true) => format!("level {} (was off: live unknown)", process.reading.level.name()),
        (false, false) => format!("level {}", process.reading.level.name()),
    }
}

/// The last of `values` as bars, from 0 to the largest of them.
fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &values[values.len().saturating_sub(width)..];
    let largest = shown.iter().copied().fold(0.0, f64::max);
    let bar = |value: f64| {
        let height = if largest > 0.0 { (value.max(0.0) / largest * 7.0).round() as usize } else { 0 };
        BARS[height.min(7)]
    };
    shown.iter().map(|&value| bar(value)).collect()
}

/// Columns of an operation's name.
const OPERATION_WIDTH: usize = 8;
/// Columns of a number of calls.
const CALLS_WIDTH: usize = 5;

/// Calls by operation and decade of their time, since the process began.
fn histogram(process: &Process, color: bool) -> Vec<Line<'static>> {
    let stalls = &process.reading.stalls;
    // One for each of DECADES_NS, and the rest.
    let bounds = ["<.1µs", "<1µs", "<10µs", "<.1ms", "<1ms", "<10ms", "≥10ms"];
    let mut title = fit("took", OPERATION_WIDTH, false);
    for bound in bounds {
        title.push_str(&fit(bound, CALLS_WIDTH + 1, true));
    }
    let mut lines = vec![Line::styled(title, TITLE)];
    let rows = OPERATIONS.iter().zip(&stalls.clean).map(|((_, name), buckets)| (*name, buckets));
    for (name, buckets) in rows.chain([("interr.", &stalls.interrupted)]) {
        let mut spans = vec![Span::raw(fit(name, OPERATION_WIDTH, false))];
        for calls in decades(buckets, stalls.ticks_per_second) {
            let text = if calls == 0 { "·".to_owned() } else { number::count(calls as f64) };
            let style = if calls == 0 { GREYED } else { Style::new() };
            spans.push(Span::styled(fit(&text, CALLS_WIDTH + 1, true), colored(color, style)));
        }
        lines.push(Line::from(spans));
    }
    lines.push(Line::raw(""));
    lines.push(Line::styled("calls since its start; interr.: by the scheduler", colored(color, GREYED)));
    lines
}

fn key_line(state: &State) -> Line<'static> {
    let keys = [
        ("↑↓", "choose"),
        ("←→", "sort by"),
        ("r", "reverse"),
        ("enter", if state.details { "no details" } else { "details" }),
        ("p", if state.paused { "go on" } else { "pause" }),
        ("q", "quit"),
    ];
    let mut spans = Vec::new();
    for (key, does) in keys {
        spans.push(Span::styled(format!(" {key} "), Style::new().add_modifier(Modifier::REVERSED)));
        spans.push(Span::raw(format!(" {does}  ")));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::Action;
    use super::super::testing::{at, busy_state, look, reading};
    use super::*;
    use std::time::Duration;

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, true)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn processes_at_80_columns() {
        insta::assert_snapshot!(drawn(&busy_state(), 80, 24));
    }

    #[test]
    fn processes_at_120_columns() {
        insta::assert_snapshot!(drawn(&busy_state(), 120, 40));
    }

    #[test]
    fn nothing_is_published() {
        let state = State::new("/run/user/1000/heapgate".into(), Duration::from_secs(1));
        insta::assert_snapshot!(drawn(&state, 80, 24));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_at_the_head() {
        let mut state = busy_state();
        let mut unreadable = look([reading(1)]);
        unreadable.unreadable = vec!["/run/x.heapgate: not a heapgate segment".into(); 3];
        state.observe(at(100), unreadable);
        let frame = drawn(&state, 80, 24);
        assert!(
            frame.lines().next().unwrap().contains("3 unreadable, /run/x.heapgate: not a heapgate segment"),
            "{frame}"
        );
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_to() {
        let mut state = busy_state();
        for (width, height) in [(1, 1), (5, 3), (20, 10), (40, 24), (80, 6), (300, 100)] {
            for _ in 0..2 {
                state.act(Action::Details);
                drawn(&state, width, height);
            }
        }
    }

    #[test]
    fn the_chosen_row_is_always_in_sight() {
        let mut state = State::new("/run".into(), Duration::from_secs(1));
        state.observe(at(0), look((1..=200).map(reading)));
        for (action, service) in [(Action::Last, "service-1 "), (Action::First, "service-200 ")] {
            state.act(action);
            let frame = drawn(&state, 80, 24);
            assert!(frame.contains(&format!("\"{service}")), "{service}:\n{frame}");
        }
    }

    #[test]
    fn no_color_is_no_color() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &busy_state(), false)).unwrap();
        assert!(
            terminal.backend().buffer().content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
        );
    }

    #[test]
    fn sparklines_end_with_the_present() {
        assert_eq!(sparkline(&[9.0, 0.0, 1.0, 2.0, 4.0], 4), "▁▃▅█");
        assert_eq!(sparkline(&[0.0, 0.0], 4), "▁▁");
        assert_eq!(sparkline(&[], 4), "");
    }
}
