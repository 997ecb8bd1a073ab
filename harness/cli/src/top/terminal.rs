//! The loop of `heapgate top`, its keys, and the terminal, which is put back however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heapgate_core::exit;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::source::Source;
use super::state::{Action, State};
use super::view;

/// How long a signal may wait for its answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the loop has to end by itself after a signal.
const GRACE: Duration = Duration::from_millis(500);

/// Shows `state` until its user has seen enough; returns whether a signal ended it.
///
/// # Errors
/// If the terminal can't be used. What can't be read of processes is shown, not an error.
pub fn run(mut state: State, mut source: Source, color: bool) -> std::io::Result<bool> {
    let signalled = Arc::new(AtomicBool::new(false));
    end_by_signal(Arc::clone(&signalled))?;
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
                return Ok(false);
            }
        }
        if signalled.load(Relaxed) {
            return Ok(true);
        }
    }
}

/// Ends the loop at a signal. Of a terminal that has hung up, crossterm reads nothing for ever and does not come back, so
/// what has not ended after a while is ended from here.
fn end_by_signal(signalled: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    std::thread::spawn(move || {
        signals.forever().next();
        signalled.store(true, Relaxed);
        std::thread::sleep(GRACE);
        // A terminal that is gone can't be put back, which nobody is left to hear of.
        let _ = ratatui::try_restore();
        std::process::exit(exit::INTERRUPTED.into());
    });
    Ok(())
}

/// Puts the terminal back when it goes.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // As above.
        let _ = ratatui::try_restore();
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
