//! Requests to a process, through its segment: a command from outside, and the process's answer.
//!
//! It lies in the header's page behind the header, where processes that take no requests have zeros. Who asks never maps
//! the file (see [`crate::published`]), so it writes with `pwrite`, and is kept alone by a lock that ends with it
//! ([`crate::published::Entry::request`]). Neither end believes the other: whatever the words say, reading them gives a
//! request or an answer of bounded size, which is copied out whole before it is looked at.

use core::fmt::{self, Write};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use crate::steering::STEERING_OFFSET;
use crate::text::Text;

/// Where it begins in a segment.
pub const MAILBOX_OFFSET: usize = 2048;

/// Numbers that a request has.
pub const ARGUMENTS: usize = 6;
/// Numbers that an answer has.
pub const VALUES: usize = 4;
/// Most bytes of a request's text.
pub const REQUEST_TEXT_BYTES: usize = 128;
/// Most bytes of an answer's text.
pub const ANSWER_TEXT_BYTES: usize = 256;

/// The version of requests and answers that a process takes. A client of another version refuses.
pub const MAILBOX_VERSION: u64 = 1;

/// Words of the mailbox.
pub(crate) mod word {
    use super::{ANSWER_TEXT_BYTES, ARGUMENTS, REQUEST_TEXT_BYTES, VALUES};

    /// By the process: 0, or the version that it takes.
    pub(crate) const OPEN: usize = 0;
    // By who asks.
    /// One more than before: last, when the request is there.
    pub(crate) const SEQUENCE: usize = 1;
    pub(crate) const CLIENT_PID: usize = 2;
    pub(crate) const COMMAND: usize = 3;
    pub(crate) const ARGUMENT: usize = 4;
    pub(crate) const REQUEST_TEXT: usize = ARGUMENT + ARGUMENTS;
    // By the process.
    /// The sequence of the request that it took up last.
    pub(crate) const TAKEN: usize = REQUEST_TEXT + REQUEST_TEXT_BYTES / 8;
    /// And of the one that it answered last: last, when the answer is there.
    pub(crate) const ANSWERED: usize = TAKEN + 1;
    pub(crate) const STATUS: usize = TAKEN + 2;
    pub(crate) const VALUE: usize = TAKEN + 3;
    pub(crate) const ANSWER_TEXT: usize = VALUE + VALUES;
    pub(crate) const WORDS: usize = ANSWER_TEXT + ANSWER_TEXT_BYTES / 8;
}

/// Words of the mailbox.
pub const MAILBOX_WORDS: usize = word::WORDS;

// What is before it: see `groups`.
const _: () = assert!(MAILBOX_OFFSET + MAILBOX_WORDS * 8 <= STEERING_OFFSET);

/// What a process can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Command {
    /// Take stacks for a time, into a file beside the segment. Arguments: call period, byte period, stall threshold (ns),
    /// whether frees are tracked, seed, time (ms). Values of the answer: samples, slow calls that found no room, samples that
    /// found none, nested.
    SampleStacks = 1,
    /// Stop taking stacks or samples, if that goes on, and remove the file.
    RemoveStacks = 2,
    /// Change a setting. Arguments: its number, and the value; the text is a path, where it takes one. Value of the answer: what
    /// is in force then.
    SetSetting = 3,
    /// Say what a setting is. Argument: its number. Value of the answer: what it is.
    GetSetting = 4,
    /// Take samples of CPU time for a time, into a file beside the segment ([`crate::published::Entry::cpu_path`]). Arguments:
    /// samples per second of CPU time, time (ms).
    SampleCpu = 5,
    /// Stop taking stacks or samples, if that goes on; the file stays.
    EndSampling = 6,
}

impl Command {
    /// The command of that number.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::SampleStacks),
            2 => Some(Self::RemoveStacks),
            3 => Some(Self::SetSetting),
            4 => Some(Self::GetSetting),
            5 => Some(Self::SampleCpu),
            6 => Some(Self::EndSampling),
            _ => None,
        }
    }
}

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// A [`Command`]'s number.
    pub command: u64,
    /// What it means by them.
    pub arguments: [u64; ARGUMENTS],
    /// A path, where it takes one.
    pub text: Text<REQUEST_TEXT_BYTES>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0: done; else it was refused, and the text says why.
    pub status: u64,
    /// As the command has them.
    pub values: [u64; VALUES],
    /// Why it was refused.
    pub text: Text<ANSWER_TEXT_BYTES>,
}

impl Answer {
    /// A refusal.
    #[must_use]
    pub fn refused(why: impl fmt::Display) -> Self {
        Self { status: 1, values: [0; VALUES], text: Text::of(why) }
    }
}

/// The process's end.
#[derive(Debug, Clone, Copy)]
pub struct Mailbox<'a>(pub(crate) &'a [AtomicU64; MAILBOX_WORDS]);

impl Mailbox<'_> {
    /// From now on, requests are taken.
    pub fn open(self) {
        self.0[word::OPEN].store(MAILBOX_VERSION, Release);
    }

    /// The sequence of the last request.
    #[must_use]
    pub fn sequence(self) -> u64 {
        self.0[word::SEQUENCE].load(Acquire)
    }

    /// Takes the request of that sequence up: who asked is told so. `None` if another is being written in its place.
    #[must_use]
    pub fn take(self, sequence: u64) -> Option<Request> {
        let load = |index: usize| self.0[index].load(Relaxed);
        let request = Request {
            command: load(word::COMMAND),
            arguments: core::array::from_fn(|index| load(word::ARGUMENT + index)),
            text: text(self.0[word::REQUEST_TEXT..word::TAKEN].iter().map(|word| word.load(Relaxed))),
        };
        // The words before the sequence: whoever writes others makes it 0 first.
        fence(Acquire);
        if self.sequence() != sequence {
            return None;
        }
        self.0[word::TAKEN].store(sequence, Release);
        Some(request)
    }

    /// Answers the request of that sequence.
    pub fn answer(self, sequence: u64, answer: &Answer) {
        self.0[word::STATUS].store(answer.status, Relaxed);
        for (place, value) in self.0[word::VALUE..].iter().zip(answer.values) {
            place.store(value, Relaxed);
        }
        for (place, value) in self.0[word::ANSWER_TEXT..].iter().zip(words(&answer.text)) {
            place.store(value, Relaxed);
        }
        // Release: who sees it answered sees the answer.
        self.0[word::ANSWERED].store(sequence, Release);
    }
}

impl Request {
    /// What is to be written from [`word::CLIENT_PID`] on.
    pub(crate) fn words(&self, client_pid: u64) -> Vec<u64> {
        let text = words(&self.text);
        [client_pid, self.command].into_iter().chain(self.arguments).chain(text).collect()
    }
}

impl Answer {
    /// From all words of the mailbox.
    pub(crate) fn of(mailbox: &[u64]) -> Self {
        let load = |index: usize| mailbox.get(index).copied().unwrap_or(0);
        Self {
            status: load(word::STATUS),
            values: core::array::from_fn(|index| load(word::VALUE + index)),
            text: text((word::ANSWER_TEXT..word::WORDS).map(load)),
        }
    }
}

/// `text`, padded with zeros.
fn words<const BYTES: usize>(text: &Text<BYTES>) -> impl Iterator<Item = u64> {
    let mut bytes = [0; BYTES];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    (0..BYTES / 8).map(move |index| u64::from_ne_bytes(core::array::from_fn(|byte| bytes[index * 8 + byte])))
}

/// A text that the other end wrote: up to the first zero, and with nothing in it that a terminal would obey.
fn text<const BYTES: usize>(words: impl Iterator<Item = u64>) -> Text<BYTES> {
    let mut bytes = [0; BYTES];
    for (place, byte) in bytes.iter_mut().zip(words.flat_map(u64::to_ne_bytes).take_while(|&byte| byte != 0)) {
        *place = byte;
    }
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(BYTES);
    Text::of(Harmless(&bytes[..length]))
}

/// Bytes as a text: `?` for what controls a terminal, U+FFFD for what is no UTF-8.
struct Harmless<'a>(&'a [u8]);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() { '?' } else { c })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> [AtomicU64; MAILBOX_WORDS] {
        [const { AtomicU64::new(0) }; MAILBOX_WORDS]
    }

    fn copied(memory: &[AtomicU64]) -> Vec<u64> {
        memory.iter().map(|word| word.load(Relaxed)).collect()
    }

    #[test]
    fn requests_and_answers_come_out_as_they_went_in_and_long_texts_are_cut_at_a_character() {
        let memory = memory();
        let request = Request {
            command: 7,
            arguments: [1, 2, 3, 4, 5, 6],
            text: Text::of("arena ".to_owned() + &"ö".repeat(200)),
        };
        for (place, word) in memory[word::CLIENT_PID..].iter().zip(request.words(42)) {
            place.store(word, Relaxed);
        }
        assert_eq!(Mailbox(&memory).take(1), None, "another is being written");
        memory[word::SEQUENCE].store(1, Relaxed);
        let taken = Mailbox(&memory).take(1).unwrap();
        assert_eq!((taken.command, taken.arguments), (7, request.arguments));
        assert_eq!(*taken.text, "arena ".to_owned() + &"ö".repeat(61));
        let answer = Answer { status: 0, values: [9, 8, 7, 6], text: Text::of("x".repeat(ANSWER_TEXT_BYTES)) };
        Mailbox(&memory).answer(1, &answer);
        assert_eq!(Answer::of(&copied(&memory)), answer);
        assert_eq!(memory[word::ANSWERED].load(Relaxed), 1);
        assert_eq!(Answer::refused("x".repeat(ANSWER_TEXT_BYTES + 9)).text, answer.text);
    }

    #[test]
    fn whatever_the_words_are_texts_are_short_and_harmless() {
        for fill in [u64::MAX, 0x1B5B_1B5B_1B5B_1B5B, 0x0A0D_0A0D_0A0D_0A0D, 0] {
            let memory = [const { AtomicU64::new(0) }; MAILBOX_WORDS];
            memory.iter().for_each(|word| word.store(fill, Relaxed));
            let (request, answer) = (Mailbox(&memory).take(fill).unwrap(), Answer::of(&copied(&memory)));
            assert!(request.text.chars().count() <= REQUEST_TEXT_BYTES && !request.text.contains(char::is_control));
            assert!(answer.text.chars().count() <= ANSWER_TEXT_BYTES && !answer.text.contains(char::is_control));
        }
        assert_eq!(Answer::of(&[]), Answer::default());
    }
}
