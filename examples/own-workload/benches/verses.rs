//! The closure form, and the trait with a parameter.

use heapgate_bench::{Error, ParamSpec, Params, Steps, Variant, Work, Workload, bench};
use own_workload::{documents, list_of, words_of_slices, words_of_tree};

heapgate_bench::main! {
    bench!("tree", "word", || {
        let documents = documents();
        // A regression, for ci/own-workload to find.
        let planted = std::env::var_os("OWN_WORKLOAD_PLANTED").is_some();
        move || {
            let copies = planted.then(|| documents.clone());
            let documents = copies.as_ref().unwrap_or(&documents);
            documents.iter().map(|document| words_of_tree(document).expect("made above")).sum::<usize>()
        }
    }),
    SLICES,
}

const SLICES: Variant = Variant::new("verses", "slices", "word", "words stay slices of the document", Slices::set_up)
    .params(&[ParamSpec { name: "verses", default: "80", choices: &[], help: "verses read in a step, 1 to 80" }]);

struct Slices(Vec<String>);

impl Slices {
    fn set_up(params: &Params) -> Result<Box<dyn Workload>, Error> {
        let verses = params.number("verses", 1..=80)?;
        Ok(Box::new(Self(documents().into_iter().take(verses).collect())))
    }
}

impl Workload for Slices {
    fn steps(&self) -> Steps {
        Steps { warmup: 10, prefill: 0, measure: 100 }
    }

    fn step(&mut self) -> Work {
        let words = self.0.iter().map(|document| words_of_slices(list_of(document)).expect("made at set-up"));
        let units = words.sum::<usize>() as u64;
        Work { units, checksum: units }
    }
}
