//! Workloads made of closures: for people's own, where a type that implements [`Workload`] would say no more.

use crate::workload::{Error, Params, Steps, Work, Workload};

/// Steps of a workload made of closures, where it names no number.
pub const CLOSURE_STEPS: u64 = 100;

/// A [`Variant`](crate::Variant) from a closure that sets up and returns a closure that does one step.
///
/// ```
/// use heapgate_bench::{ParamSpec, Variant, bench};
///
/// /// The step returns how many units of work it did (or a [`Work`](heapgate_bench::Work), with a checksum; or nothing,
/// /// for one unit).
/// const WORDS: Variant = bench!("split", "word", || {
///     let text = "In the beginning God created the heaven and the earth.".repeat(100);
///     move || text.split_whitespace().collect::<Vec<_>>().len()
/// });
///
/// const REPEATS: ParamSpec = ParamSpec { name: "repeats", default: "100", choices: &[], help: "copies of the verse" };
///
/// /// With a parameter, another number of steps, and `?` for any error.
/// const MORE: Variant = bench!("text/split", "word", steps = 20, |params| {
///     let text = std::str::from_utf8(b"the earth was without form")?.repeat(params.number("repeats", 1..=1000)?);
///     move || text.split_whitespace().collect::<Vec<_>>().len()
/// })
/// .params(&[REPEATS]);
///
/// assert_eq!((MORE.workload, MORE.name), ("text", "split"));
/// # assert!(WORDS.params.is_empty());
/// ```
///
/// A name without `/` is a variant of the workload that has the crate's name.
#[macro_export]
macro_rules! bench {
    ($name:expr, $unit:expr, || $set_up:expr $(,)?) => {
        $crate::bench!($name, $unit, steps = $crate::CLOSURE_STEPS, |_params| $set_up)
    };
    ($name:expr, $unit:expr, |$params:pat_param| $set_up:expr $(,)?) => {
        $crate::bench!($name, $unit, steps = $crate::CLOSURE_STEPS, |$params| $set_up)
    };
    ($name:expr, $unit:expr, steps = $steps:expr, || $set_up:expr $(,)?) => {
        $crate::bench!($name, $unit, steps = $steps, |_params| $set_up)
    };
    ($name:expr, $unit:expr, steps = $steps:expr, |$params:pat_param| $set_up:expr $(,)?) => {{
        fn set_up(
            params: &$crate::Params,
        ) -> ::core::result::Result<::std::boxed::Box<dyn $crate::Workload>, $crate::Error> {
            $crate::set_up_closure(params, $steps, |$params| ::core::result::Result::Ok($set_up))
        }
        $crate::Variant::named(::core::env!("CARGO_CRATE_NAME"), $name, $unit, set_up)
    }};
}

/// What [`bench!`](crate::bench) expands to.
///
/// # Errors
/// What `set_up` returns.
#[doc(hidden)]
pub fn set_up_closure<Step, Done>(
    params: &Params,
    steps: u64,
    set_up: impl FnOnce(&Params) -> Result<Step, Box<dyn std::error::Error + Send + Sync>>,
) -> Result<Box<dyn Workload>, Error>
where
    Step: FnMut() -> Done + 'static,
    Done: Into<Work> + 'static,
{
    // A wrong parameter stays one, whatever other errors the closure mixes it with.
    let step = set_up(params).map_err(|error| match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::Library(other.to_string()),
    })?;
    Ok(Box::new(Closure { step, steps: Steps { warmup: steps.div_ceil(4), prefill: 0, measure: steps } }))
}

struct Closure<Step> {
    step: Step,
    steps: Steps,
}

impl<Step: FnMut() -> Done, Done: Into<Work>> Workload for Closure<Step> {
    fn steps(&self) -> Steps {
        self.steps
    }

    fn step(&mut self) -> Work {
        (self.step)().into()
    }
}

/// One unit.
impl From<()> for Work {
    fn from((): ()) -> Self {
        Self { units: 1, checksum: 0 }
    }
}

/// So many units.
impl From<u64> for Work {
    fn from(units: u64) -> Self {
        Self { units, checksum: 0 }
    }
}

/// So many units.
impl From<usize> for Work {
    fn from(units: usize) -> Self {
        Self { units: units as u64, checksum: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParamSpec, Variant};
    use std::collections::BTreeMap;

    const COPIES: &[ParamSpec] = &[ParamSpec { name: "copies", default: "3", choices: &[], help: "" }];
    const COUNT: Variant = bench!("count", "byte", steps = 7, |params| {
        let text = "12".repeat(params.number("copies", 1..=10)?);
        let parsed: u64 = text.parse()?;
        move || parsed
    })
    .params(COPIES);

    fn set_up(copies: &str) -> Result<Box<dyn Workload>, Error> {
        let given = BTreeMap::from([("copies".to_owned(), copies.to_owned())]);
        (COUNT.setup)(&Params::resolve(COUNT.params, &given).unwrap())
    }

    #[test]
    fn a_closure_is_set_up_from_its_parameters_and_steps() {
        let mut workload = set_up("3").unwrap();
        assert_eq!(workload.steps(), Steps { warmup: 2, prefill: 0, measure: 7 });
        assert_eq!(workload.step(), Work { units: 121_212, checksum: 0 });
    }

    #[test]
    fn a_wrong_parameter_is_told_from_other_errors() {
        assert!(matches!(set_up("11"), Err(Error::Param { .. })));
        let failing = bench!("fail", "unit", || {
            let number: u64 = "many".parse()?;
            move || number
        });
        let Err(Error::Library(said)) = (failing.setup)(&Params::default()) else { panic!("an error of the closure") };
        assert!(said.contains("invalid digit"), "{said}");
    }

    #[test]
    fn a_name_without_a_workload_belongs_to_its_crate() {
        assert_eq!((COUNT.workload, COUNT.name), ("heapgate_bench", "count"));
        let named = bench!("text/split", "word", || || ());
        assert_eq!((named.workload, named.name), ("text", "split"));
    }
}
