//! What a child prints: the end of it is kept. The trace lines of a traced one are no messages; they go where they would have
//! gone had the trial not been watched.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};

use heapgate_segment::trace_line;

/// The end of a child's messages that is kept, bytes.
const MESSAGES_KEPT: usize = 4096;

/// Whether children are told by the environment to write trace lines; what they take for "on" is in heapgate-alloc's `trace`.
pub(super) fn are_traced() -> bool {
    std::env::var_os("HEAPGATE_TRACE").is_some_and(|value| value == "1")
}

/// The end of what the child printed.
pub(super) fn tail(messages: &mut File) -> String {
    let length = messages.metadata().map_or(0, |m| m.len());
    let from = length.saturating_sub(MESSAGES_KEPT as u64);
    let mut bytes = Vec::new();
    // What can't be read back is a message lost, not a trial.
    if messages.seek(SeekFrom::Start(from)).is_ok() {
        let _ = messages.read_to_end(&mut bytes);
    }
    text(&bytes)
}

/// The end of what a traced child printed, without its trace lines, which go to `lines`.
pub(super) fn tail_of_traced(messages: &mut File, lines: &mut dyn Write) -> String {
    let mut kept = Vec::new();
    if messages.rewind().is_err() {
        return String::new();
    }
    let mut messages = BufReader::new(messages);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A longer one comes in parts: whatever the child prints, no more than this is in memory.
        match messages.by_ref().take(trace_line::MAX_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if line.starts_with(trace_line::PREFIX.as_bytes()) {
            // As where no trial is: a line that can't be written is left out.
            let _ = lines.write_all(&line);
            continue;
        }
        kept.extend_from_slice(&line);
        if kept.len() > 2 * MESSAGES_KEPT {
            kept.drain(..kept.len() - MESSAGES_KEPT);
        }
    }
    text(&kept[kept.len().saturating_sub(MESSAGES_KEPT)..])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    #[test]
    fn trace_lines_are_taken_out_of_messages_and_the_end_of_the_rest_is_kept() {
        let long = "x".repeat(3 * MESSAGES_KEPT);
        let text = format!("first\nheapgate-trace v=1 a\n{long}\nlast heapgate-trace v=1 b\nheapgate-trace v=1 c\n");
        let mut lines = Vec::new();
        let kept = tail_of_traced(&mut printed(text.as_bytes()), &mut lines);
        assert_eq!(lines, b"heapgate-trace v=1 a\nheapgate-trace v=1 c\n");
        assert!(kept.ends_with("x\nlast heapgate-trace v=1 b"), "{kept}");
        assert!((MESSAGES_KEPT - 1..=MESSAGES_KEPT).contains(&kept.len()), "{}", kept.len());
        assert_eq!(tail_of_traced(&mut printed(b"one\ntwo\n"), &mut lines), tail(&mut printed(b"one\ntwo\n")));
    }
}
