//! The loop of `heapgate top`, its keys, and the terminal, which is put back however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::source::Source;
use super::state::{Action, State};
use super::view;

/// How long a signal may wait for its answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows `state` until its user has seen enough; returns the signal that ended it, if one did.
///
/// # Errors
/// If the terminal can't be used. What can't be read of processes is shown, not an error.
pub fn run(mut state: State, mut source: Source, color: bool) -> std::io::Result<Option<i32>> {
    let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
    let mut came = Vec::new();
    for signal in signals {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
        came.push((signal, flag));
    }
    // It also puts the terminal back before a panic is told.
    let mut terminal = ratatui::try_init()?;
    let _restored = Restored;
    let start = Instant::now();
    let mut next = Duration::ZERO;
    loop {
        let now = start.elapsed();
        if now >= next {
            if !state.paused {
                match source.look() {
                    Ok(look) => state.observe(now, look),
                    Err(error) => state.problems = vec![format!("{}: {error}", source.folder().display())],
                }
            }
            // Not every missed look is made up for: a machine that is busy is not made busier.
            next = now + state.interval;
        }
        terminal.draw(|frame| view::draw(frame, &state, color))?;
        if event::poll(PATIENCE.min(next.saturating_sub(start.elapsed())))? {
            // The rest, as of a new size, is seen by the next frame.
            if let Event::Key(key) = event::read()?
                && let Some(action) = action(key)
                && !state.act(action)
            {
                return Ok(None);
            }
        }
        if let Some((signal, _)) = came.iter().find(|(_, flag)| flag.load(Relaxed)) {
            return Ok(Some(*signal));
        }
    }
}

/// Puts the terminal back when it goes.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What a key asks for.
fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
    }
    Some(match key.code {
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Left | KeyCode::Char('<' | 'h') => Action::SortLeft,
        KeyCode::Right | KeyCode::Char('>' | 'l') => Action::SortRight,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Enter | KeyCode::Char('d') => Action::Details,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Esc | KeyCode::Char('q') => Action::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_last_line_says() {
        for (code, expected) in [
            (KeyCode::Up, Some(Action::Up)),
            (KeyCode::Right, Some(Action::SortRight)),
            (KeyCode::Enter, Some(Action::Details)),
            (KeyCode::Char('q'), Some(Action::Quit)),
            (KeyCode::Char('x'), None),
        ] {
            assert_eq!(action(KeyEvent::new(code, KeyModifiers::NONE)), expected, "{code:?}");
        }
        assert_eq!(action(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Action::Quit));
        assert_eq!(action(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::CONTROL)), None);
    }
}
