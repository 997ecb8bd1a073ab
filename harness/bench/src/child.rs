//! What a child that runs one trial understands: shared by heapgate's own executable and by people's benches.

use std::collections::BTreeMap;

use heapgate_alloc::control::{Control, ControlError};

use crate::inject::Injection;
use crate::trial::Trial;
use crate::workload::{Error, Params, Variant};

/// Why a child could not run its trial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// The workload failed.
    #[error("{0}")]
    Workload(String),
}

impl TrialError {
    /// The exit code of a child that ends so: heapgate's own.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Workload(_) => 5,
        }
    }
}

/// Runs the trial that `arguments` ask for, in this process: `WORKLOAD/VARIANT [--param NAME=VALUE]... [--steps N]
/// [--inject WHAT=HOW]...`. Returns a line that says what was done.
///
/// # Errors
/// If there is no such variant or parameter, or the workload can't be set up.
pub fn run_trial(variants: &[Variant], arguments: &[String]) -> Result<String, TrialError> {
    let trial = parse(variants, arguments)?;
    steer().map_err(|error| TrialError::Usage(format!("it can't be steered: {error}")))?;
    let work = trial.run().map_err(|error| match error {
        Error::Param { .. } => TrialError::Usage(error.to_string()),
        _ => TrialError::Workload(error.to_string()),
    })?;
    Ok(format!("{} {}s, checksum {:016x}", work.units, trial.variant.unit, work.checksum))
}

/// Lets this process be steered while it runs, if the environment asks for it (`HEAPGATE_CONTROL`, `HEAPGATE_SOFT_LIMIT`).
///
/// # Errors
/// Says why it can't be.
pub fn steer() -> Result<(), ControlError> {
    Control::from_environment().map_or(Ok(()), Control::start)
}

fn parse(variants: &[Variant], arguments: &[String]) -> Result<Trial, TrialError> {
    let usage = |message: String| TrialError::Usage(message);
    let mut arguments = arguments.iter();
    let name = arguments.next().ok_or_else(|| usage("trial: names no workload".to_owned()))?;
    let full = |v: &Variant| format!("{}/{}", v.workload, v.name);
    let variant = *variants.iter().find(|v| full(v) == *name).ok_or_else(|| {
        let names = variants.iter().map(full).collect::<Vec<_>>().join(", ");
        usage(format!("unknown workload '{name}'; there are: {names}"))
    })?;
    let (mut given, mut steps, mut injection) = (BTreeMap::new(), None, Injection::default());
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| usage(format!("trial: {flag} needs a value")))?;
        match flag.as_str() {
            "--param" => given.extend([parse_param(value).map_err(usage)?]),
            "--steps" => steps = Some(value.parse().map_err(|_| usage(format!("--steps {value}: not a number")))?),
            "--inject" => {
                let more = value.parse().and_then(|more| injection.and(more));
                injection = more.map_err(|error| usage(format!("--inject {value}: {error}")))?;
            }
            _ => return Err(usage(format!("trial: unknown argument '{flag}'"))),
        }
    }
    let params = Params::resolve(variant.params, &given).map_err(|error| usage(error.to_string()))?;
    Ok(Trial { variant, params, steps, injection })
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// For another form.
pub fn parse_param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("--param {text}: not of the form NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamSpec;

    const COPIES: &[ParamSpec] = &[ParamSpec { name: "copies", default: "3", choices: &[], help: "" }];
    const VARIANTS: &[Variant] = &[crate::bench!("text/count", "byte", steps = 2, |params| {
        let text = "x".repeat(params.number("copies", 1..=10)?);
        move || text.clone().len()
    })
    .params(COPIES)];

    fn run(arguments: &str) -> Result<String, TrialError> {
        run_trial(VARIANTS, &arguments.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_trial_does_what_it_is_asked_for() {
        assert!(run("text/count").unwrap().starts_with("6 bytes, "));
        assert!(run("text/count --param copies=5 --steps 7").unwrap().starts_with("35 bytes, "));
    }

    #[test]
    fn what_is_wrong_with_the_arguments_is_said() {
        for (arguments, said) in [
            ("text", "unknown workload 'text'; there are: text/count"),
            ("text/count --param copies", "not of the form NAME=VALUE"),
            ("text/count --param copy=1", "there is no such parameter; there are: copies"),
            ("text/count --param copies=11", "not a number from 1 to 10"),
            ("text/count --steps", "--steps needs a value"),
            ("text/count --steps many", "not a number"),
            ("text/count --inject leaks=1", "nothing that can be planted"),
            ("text/count --inject rss=1% --inject leak=1%,rss=2%", "rss is planted twice"),
            ("text/count --fast 1", "unknown argument '--fast'"),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(error.to_string().contains(said), "{arguments}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
