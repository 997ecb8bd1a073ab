//! A bench as people write their own: what the command line's tests run, and an example.

use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload, bench};

const VERSE: &str = "And the earth was without form, and void; and darkness was upon the face of the deep.";

/// How many copies of the verse there are.
const COPIES: ParamSpec = ParamSpec { name: "copies", default: "100", choices: &[], help: "copies of the verse" };

const OWNED: Variant = bench!("owned", "word", steps = 20, |params| {
    let text = VERSE.repeat(params.number("copies", 1..=10_000)?);
    move || text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().len()
})
.about("a String for each word")
.params(&[COPIES])
.by_default();

/// Slices of the text, in a list that is used again.
struct Slices {
    text: String,
    ends: Vec<usize>,
}

impl Slices {
    fn set_up(params: &Params) -> Result<Box<dyn Workload>, Error> {
        Ok(Box::new(Self { text: VERSE.repeat(params.number("copies", 1..=10_000)?), ends: Vec::new() }))
    }
}

impl Workload for Slices {
    fn steps(&self) -> Steps {
        Steps { warmup: 5, prefill: 0, measure: 20 }
    }

    fn step(&mut self) -> Work {
        self.ends.clear();
        self.ends.extend(self.text.match_indices(' ').map(|(end, _)| end));
        Work { units: self.ends.len() as u64, checksum: self.ends.iter().fold(0, |sum, end| sum ^ *end as u64) }
    }

    fn figures(&mut self, figures: &mut Figures) {
        figures.set("list_bytes", (self.ends.capacity() * size_of::<usize>()) as f64);
    }
}

const SLICES: Variant = Variant::new("words", "slices", "word", "ends of words in one list", Slices::set_up)
    .params(&[COPIES])
    .figures(&[FigureSpec { name: "list_bytes", help: "size of the list" }])
    .by_default();

/// Fails where it is asked to.
const BROKEN: Variant = bench!("broken", "word", |params| {
    let fail: bool = params.get("fail").parse()?;
    if fail {
        Err("planted failure")?;
    }
    move || ()
})
.params(&[ParamSpec { name: "fail", default: "false", choices: &["false", "true"], help: "whether set-up fails" }]);

heapgate_bench::main! { OWNED, SLICES, BROKEN }
