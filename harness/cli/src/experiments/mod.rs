//! The experiments, a file for each group. To add one, define it in a file here and name it in [`ALL`]. `runner` runs them.

mod costs;
mod embedding;
mod load;
pub mod runner;
mod sites;
mod strings;
mod systems;
mod tokenizers;
mod transformer;

use heapgate_core::experiment::{Body, Experiment};

/// Every experiment, by number.
pub static ALL: &[&Experiment] = &[
    &load::E1,
    &sites::SITES,
    &transformer::STREAMING_DECODE,
    &embedding::E4,
    &load::E5,
    &strings::LATE_READERS,
    &strings::SLABS,
    &tokenizers::PIPELINE,
    &tokenizers::ARENA,
    &tokenizers::BUFFERS,
    &strings::INTERNING,
    &embedding::E12,
    &tokenizers::BERT,
    &strings::PROMPTS,
    &transformer::OPERATORS,
    &load::E16,
    &load::E17,
    &transformer::SCOPED_EXPIRY,
    &embedding::E19,
    &transformer::EARLY_RELEASE,
    &systems::trace::E21,
    &systems::settings::E22,
    &elsewhere(23, "Online A/B of reclaim settings", "heapgate ab --live"),
    &systems::rollout::E24,
    &systems::gate::E25,
    &systems::leaks::E26,
    &systems::probes::E27,
    &elsewhere(28, "Alerts", "ci/check-dashboards"),
    &systems::budget::E29,
    &costs::E30,
];

const fn elsewhere(number: u32, title: &'static str, command: &'static str) -> Experiment {
    Experiment { number, title, about: "", body: Body::Elsewhere(command) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use heapgate_bench::{AllocatorSpec, Params};
    use heapgate_core::experiment::Read;

    use super::runner::variant;
    use super::*;

    #[test]
    fn every_experiment_is_there_once_in_order() {
        let numbers: Vec<u32> = ALL.iter().map(|e| e.number).collect();
        assert_eq!(numbers, (1..=30).collect::<Vec<_>>());
    }

    #[test]
    fn every_arm_can_be_planned() {
        for experiment in ALL {
            let arms = experiment.body.arms();
            let names: BTreeSet<&str> = arms.iter().map(|arm| arm.name).collect();
            assert_eq!(names.len(), arms.len(), "E{}: two arms of one name", experiment.number);
            for arm in &arms {
                let variant = variant(arm).unwrap_or_else(|e| panic!("E{}: {e}", experiment.number));
                let given = arm.params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                Params::resolve(variant.params, &given).unwrap_or_else(|e| panic!("E{}: {e}", experiment.number));
                arm.allocator.parse::<AllocatorSpec>().unwrap_or_else(|e| panic!("E{}: {e}", experiment.number));
            }
        }
    }

    #[test]
    fn every_row_compares_arms_that_have_its_figure() {
        for experiment in ALL {
            let Body::Compare { arms, rows } = &experiment.body else { continue };
            assert!(rows.iter().any(|row| row.claim.is_some()), "E{}: nothing claimed", experiment.number);
            for row in *rows {
                for name in [row.base, row.other] {
                    let arm = arms.iter().find(|arm| arm.name == name);
                    let arm = arm.unwrap_or_else(|| panic!("E{}: no arm '{name}'", experiment.number));
                    if let Read::Figure(figure) = row.read {
                        let variant = variant(arm).expect("checked above");
                        let declared = variant.figures.iter().any(|spec| spec.name == figure);
                        assert!(declared, "E{}: {} has no figure '{figure}'", experiment.number, arm.variant);
                    }
                }
            }
        }
    }
}
