//! Templates that are parsed once: `{{name}}` stands for a value, `{{#name}}…{{/name}}` for its body, once for each
//! entry of a list. A subset of Mustache (mustache.github.io), without escaping.

use std::ops::Range;

use super::requests::{Passage, Request, Turn};

/// A template that is ready to be rendered.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

/// A template that can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template, byte {at}: {reason}")]
pub struct TemplateError {
    /// Where.
    pub at: usize,
    /// Why.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// A part of the source.
    Literal(Range<usize>),
    Value(Value),
    /// A list, and what stands for each entry of it.
    Each(List, Vec<Piece>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    System,
    Question,
    /// Of a passage.
    Title,
    /// Of a turn.
    Role,
    /// Of either.
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Passages,
    Turns,
}

/// What values are of: the request, or an entry of one of its lists.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Request,
    Passage(&'a Passage),
    Turn(&'a Turn),
}

impl Template {
    /// Parses `source`.
    ///
    /// # Errors
    /// For a mark that isn't closed, a name that there isn't where it stands, or lists that don't match.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { source, at: 0 };
        let pieces = parser.pieces(None)?;
        Ok(Self { source: source.to_owned(), pieces })
    }

    /// The text, in a buffer of just its size.
    #[must_use]
    pub fn render(&self, request: &Request<'_>) -> String {
        let mut size = 0;
        self.visit(&self.pieces, request, Scope::Request, &mut |part| size += part.len());
        let mut text = String::with_capacity(size);
        self.visit(&self.pieces, request, Scope::Request, &mut |part| text.push_str(part));
        text
    }

    fn visit(&self, pieces: &[Piece], request: &Request<'_>, scope: Scope<'_>, visitor: &mut impl FnMut(&str)) {
        for piece in pieces {
            match piece {
                Piece::Literal(range) => visitor(&self.source[range.clone()]),
                Piece::Value(value) => visitor(value.of(request, scope)),
                Piece::Each(List::Passages, body) => {
                    request.passages.iter().for_each(|p| self.visit(body, request, Scope::Passage(p), visitor));
                }
                Piece::Each(List::Turns, body) => {
                    request.turns.iter().for_each(|t| self.visit(body, request, Scope::Turn(t), visitor));
                }
            }
        }
    }
}

impl Value {
    /// The value; empty where the parser would not have let it stand.
    fn of<'a>(self, request: &Request<'a>, scope: Scope<'a>) -> &'a str {
        match (self, scope) {
            (Self::System, _) => request.system,
            (Self::Question, _) => request.question,
            (Self::Title, Scope::Passage(passage)) => &passage.title,
            (Self::Text, Scope::Passage(passage)) => request.text(passage.text),
            (Self::Role, Scope::Turn(turn)) => turn.role.name(),
            (Self::Text, Scope::Turn(turn)) => request.text(turn.text),
            (Self::Title | Self::Role | Self::Text, _) => "",
        }
    }

    fn named(name: &str, list: Option<List>) -> Option<Self> {
        match (name, list) {
            ("system", _) => Some(Self::System),
            ("question", _) => Some(Self::Question),
            ("title", Some(List::Passages)) => Some(Self::Title),
            ("role", Some(List::Turns)) => Some(Self::Role),
            ("text", Some(_)) => Some(Self::Text),
            _ => None,
        }
    }
}

impl List {
    fn named(name: &str) -> Option<Self> {
        match name {
            "passages" => Some(Self::Passages),
            "turns" => Some(Self::Turns),
            _ => None,
        }
    }
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
}

impl Parser<'_> {
    /// Pieces up to the end of `list`, or of the source.
    fn pieces(&mut self, list: Option<List>) -> Result<Vec<Piece>, TemplateError> {
        let mut pieces = Vec::new();
        loop {
            let rest = &self.source[self.at..];
            let literal = rest.find("{{").unwrap_or(rest.len());
            if literal > 0 {
                pieces.push(Piece::Literal(self.at..self.at + literal));
            }
            let mark = self.at + literal;
            let wrong = |reason| TemplateError { at: mark, reason };
            if mark == self.source.len() {
                return if list.is_none() { Ok(pieces) } else { Err(wrong("a list is not closed")) };
            }
            let inside = &self.source[mark + 2..];
            let name = &inside[..inside.find("}}").ok_or(wrong("{{ without }}"))?];
            self.at = mark + 2 + name.len() + 2;
            if let Some(name) = name.strip_prefix('/') {
                let closed = List::named(name);
                return if closed.is_some() && closed == list { Ok(pieces) } else { Err(wrong("not the open list")) };
            }
            pieces.push(match name.strip_prefix('#') {
                Some(_) if list.is_some() => return Err(wrong("a list within a list")),
                Some(name) => {
                    let list = List::named(name).ok_or(wrong("there are the lists passages and turns"))?;
                    Piece::Each(list, self.pieces(Some(list))?)
                }
                None => Piece::Value(Value::named(name, list).ok_or(wrong("there is no such value here"))?),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::requests::Requests;

    #[test]
    fn wrong_templates_are_refused_with_the_place() {
        for (source, at, reason) in [
            ("a {{system", 2, "{{ without }}"),
            ("{{title}}", 0, "there is no such value here"),
            ("{{#passages}}{{role}}{{/passages}}", 13, "there is no such value here"),
            ("{{#books}}{{/books}}", 0, "there are the lists passages and turns"),
            ("{{#turns}}x", 11, "a list is not closed"),
            ("{{#turns}}{{/passages}}", 10, "not the open list"),
            ("{{/turns}}", 0, "not the open list"),
            ("{{#turns}}{{#turns}}", 10, "a list within a list"),
        ] {
            assert_eq!(Template::compile(source).expect_err(source), TemplateError { at, reason }, "{source}");
        }
    }

    #[test]
    fn values_and_lists_are_filled_in() {
        let mut requests = Requests::load(3, 2);
        let request = requests.take();
        let template = Template::compile("Q {{question}}{{#turns}};{{role}}{{/turns}} {é").expect("a good template");
        let expected = format!("Q {};<|user|>;<|assistant|> {{é", request.question);
        assert_eq!(template.render(&request), expected);
    }
}
