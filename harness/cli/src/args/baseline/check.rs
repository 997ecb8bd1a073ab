//! `heapgate baseline check`

use clap::Args;
use heapgate_core::baseline::{
    Baseline, Concern, ConcernKind, Demands, Known, RECORD_REPETITIONS, Standing, audit, audit_class,
};
use heapgate_core::document::LoadError;
use heapgate_core::exit;
use heapgate_core::render;
use heapgate_core::report::{Cell, Machine};

use super::{Folder, known, list};
use crate::args::{Global, print};
use crate::fail::Failure;
use crate::run::unix_s;
use crate::source::Source;

/// Load every baseline, and say what is wrong with them or missing
///
/// Looks for files that can't be loaded, cells that no workload has any more, cells of the default matrix without a
/// baseline of this machine's class, too few repetitions, exact metrics whose repetitions disagree, dates in the
/// future, and different builds within one class. Ends with 0 if there is nothing to do, 4 if there is, 2 if a file
/// can't be loaded.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    folder: Folder,
    /// Also name baselines that are older than this
    #[arg(long, value_name = "DAYS")]
    max_age: Option<u64>,
    /// Fewest repetitions of each cell
    #[arg(long, default_value_t = RECORD_REPETITIONS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    min_reps: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = self.folder.path(global)?;
        let (baselines, errors) = list::load_all(&folder)?;
        let source = Source::built_in()?;
        let (default_cells, own) = (known::default_cells(&source)?, Machine::detect().class());
        let standing = |cell: &Cell| -> Standing { known::standing(&source, cell) };
        let known = Known { default_cells: &default_cells, standing: &standing };
        let demands = Demands { now_unix_s: unix_s(), max_age_days: self.max_age, min_reps: self.min_reps };

        let mut concerns: Vec<Concern> = errors.iter().map(unreadable).collect();
        if !baselines.iter().any(|baseline| baseline.class() == own) {
            concerns.extend(audit_class(&own, &[], &known, true));
        }
        for of_class in baselines.chunk_by(|a, b| a.class() == b.class()) {
            let class = of_class[0].class();
            let all: Vec<&Baseline> = of_class.iter().collect();
            concerns.extend(audit_class(&class, &all, &known, class == own));
            concerns.extend(of_class.iter().flat_map(|baseline| audit(baseline, &known, demands)));
        }
        if self.json {
            let all: Vec<_> = concerns
                .iter()
                .map(|c| serde_json::json!({"kind": c.kind, "place": c.place, "text": c.text, "needs_action": c.kind.needs_action()}))
                .collect();
            let all = serde_json::json!({"baselines": baselines.len() + errors.len(), "concerns": all});
            print(&serde_json::to_string_pretty(&all)?)?;
        } else {
            let number = baselines.len() + errors.len();
            print(&render::baseline::concerns(&concerns, number, global.options(false)))?;
        }
        Ok(if !errors.is_empty() {
            exit::USAGE
        } else if concerns.iter().any(|c| c.kind.needs_action()) {
            exit::INCONCLUSIVE
        } else {
            exit::PASS
        })
    }
}

fn unreadable(error: &LoadError) -> Concern {
    let place = error.path.iter().rev().take(2).map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let place = place.into_iter().rev().collect::<Vec<_>>().join("/");
    Concern {
        kind: ConcernKind::Unreadable,
        place: place.trim_end_matches(".json").to_owned(),
        text: error.to_string(),
    }
}
