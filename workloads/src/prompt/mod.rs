//! Prompt assembly: a system turn, passages that were retrieved, the turns so far, and a question, put in one text.
//!
//! Three variants give the same text: with [`format!`] for every piece, by joining lists of lines, and by a template
//! that was compiled beforehand ([`template`]). [`requests`] has what they are given.

use std::hint::black_box;
use std::time::Instant;

use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use self::requests::{Request, Requests};
use self::template::Template;

pub mod requests;
pub mod template;

/// A formatted string for every piece.
pub const FORMAT: Variant = variant("format", "prompts put together with format! for every piece", |params| {
    set_up(params, |request, _| format_pieces(request))
});
/// Lists of lines, joined.
pub const JOIN: Variant = variant("join", "prompts put together by joining lists of lines", |params| {
    set_up(params, |request, _| join_lines(request))
});
/// A template, compiled once.
pub const TEMPLATE: Variant =
    variant("template", "prompts rendered by a compiled template into one buffer of the exact size", |params| {
        set_up(params, |request, template| template.render(request))
    });

const PASSAGES: &str = "passages";
const TURNS: &str = "turns";

const PARAMS: &[ParamSpec] = &[
    ParamSpec { name: PASSAGES, default: "4", choices: &[], help: "how many passages a prompt has, 0 to 64" },
    ParamSpec { name: TURNS, default: "4", choices: &[], help: "how many turns a prompt's history has, 0 to 64" },
];

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "assemble_mean_ns", help: "mean time to put one prompt together; reading the clock is in it" },
    FigureSpec { name: "prompt_mean_bytes", help: "mean length of a prompt" },
];

/// The prompt as [`template`] writes it; the other two have the same text in their code.
pub const TEMPLATE_TEXT: &str = "\
<|system|>
{{system}}
<|context|>
{{#passages}}{{title}}
{{text}}
{{/passages}}<|history|>
{{#turns}}{{role}}
{{text}}
{{/turns}}<|user|>
{{question}}
<|assistant|>
";

/// One temporary for each piece, as it is often written.
#[must_use]
pub fn format_pieces(request: &Request<'_>) -> String {
    let system = format!("<|system|>\n{}\n", request.system);
    let mut context = String::from("<|context|>\n");
    for passage in request.passages {
        context += &format!("{}\n{}\n", passage.title, request.text(passage.text));
    }
    let mut history = String::from("<|history|>\n");
    for turn in request.turns {
        history += &format!("{}\n{}\n", turn.role.name(), request.text(turn.text));
    }
    let question = format!("<|user|>\n{}\n", request.question);
    format!("{system}{context}{history}{question}<|assistant|>\n")
}

/// One list and one string for each part that has several, then one of all.
#[must_use]
pub fn join_lines(request: &Request<'_>) -> String {
    let context = request.passages.iter().flat_map(|passage| [passage.title.as_str(), request.text(passage.text)]);
    let context = joined("<|context|>", context);
    let history = request.turns.iter().flat_map(|turn| [turn.role.name(), request.text(turn.text)]);
    let history = joined("<|history|>", history);
    ["<|system|>", request.system, &context, &history, "<|user|>", request.question, "<|assistant|>", ""].join("\n")
}

fn joined<'a>(head: &'a str, lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = std::iter::once(head).chain(lines).collect();
    lines.join("\n")
}

/// Puts requests together, one a step.
struct Run {
    requests: Requests,
    template: Template,
    assemble: Assemble,
    spent_ns: u64,
    prompts: u64,
    bytes: u64,
}

type Assemble = fn(&Request<'_>, &Template) -> String;

const fn variant(name: &'static str, about: &'static str, setup: heapgate_bench::Setup) -> Variant {
    Variant::new("prompt", name, "prompt", about, setup).params(PARAMS).figures(FIGURES)
}

fn set_up(params: &Params, assemble: Assemble) -> Result<Box<dyn Workload>, Error> {
    let requests = Requests::load(params.number(PASSAGES, 0..=64)?, params.number(TURNS, 0..=64)?);
    let template = Template::compile(TEMPLATE_TEXT).expect("it is ours, and a test compiles it");
    Ok(Box::new(Run { requests, template, assemble, spent_ns: 0, prompts: 0, bytes: 0 }))
}

impl Workload for Run {
    /// Ten times the 10,000 calls of E14: one takes microseconds.
    fn steps(&self) -> Steps {
        Steps { warmup: 2_000, measure: 100_000, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let request = self.requests.take();
        let start = Instant::now();
        let prompt = (self.assemble)(black_box(&request), &self.template);
        self.spent_ns += start.elapsed().as_nanos() as u64;
        self.prompts += 1;
        self.bytes += prompt.len() as u64;
        Work { units: 1, checksum: crate::checksum::of_bytes(prompt.as_bytes()) }
    }

    fn measure_begins(&mut self) {
        (self.spent_ns, self.prompts, self.bytes) = (0, 0, 0);
    }

    fn figures(&mut self, figures: &mut Figures) {
        if self.prompts > 0 {
            figures.set("assemble_mean_ns", self.spent_ns as f64 / self.prompts as f64);
            figures.set("prompt_mean_bytes", self.bytes as f64 / self.prompts as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_give_the_same_prompt() {
        let template = Template::compile(TEMPLATE_TEXT).expect("a good template");
        for (passages, turns) in [(0, 0), (1, 0), (0, 1), (4, 4), (9, 3)] {
            let mut requests = Requests::load(passages, turns);
            for _ in 0..100 {
                let request = requests.take();
                let formatted = format_pieces(&request);
                assert_eq!(join_lines(&request), formatted);
                assert_eq!(template.render(&request), formatted);
                // Four heads after the first, and one for each turn.
                assert_eq!(formatted.matches("\n<|").count(), 4 + turns);
            }
        }
    }

    #[test]
    fn template_makes_one_allocation_of_the_exact_size() {
        let template = Template::compile(TEMPLATE_TEXT).expect("a good template");
        let prompt = template.render(&Requests::load(4, 4).take());
        assert_eq!(prompt.capacity(), prompt.len());
    }
}
