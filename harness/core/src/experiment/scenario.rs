//! Experiments that are no comparison of arms: a few commands of heapgate's, as a user gives them, and what came of them.

use std::path::PathBuf;

use super::evaluate::{Claimed, Compared, Holds, Measured, SiteTable};
use crate::metric::Unit;

/// Where a scenario plays.
#[derive(Debug)]
pub struct Stage {
    /// heapgate itself.
    pub program: PathBuf,
    /// A folder of its own.
    pub folder: PathBuf,
    /// Whether it is only to be seen to work: trials take as few steps as they can.
    pub short: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Scene {
    /// Claimed and measured.
    pub rows: Vec<Compared>,
    /// What was printed that shows it.
    pub texts: Vec<SiteTable>,
    /// What could not be measured here, and why.
    pub problems: Vec<String>,
}

impl Scene {
    /// A figure of which a value was claimed, and whether it came out.
    pub fn figure(&mut self, what: &str, arm: &str, unit: Unit, (claimed, measured): (f64, f64), holds: bool) {
        self.rows.push(Compared {
            what: what.to_owned(),
            unit,
            base: arm.to_owned(),
            other: arm.to_owned(),
            claimed: Some(Claimed { base: None, other: Some(claimed), factor: None }),
            measured: Some(Measured { base: measured, other: measured, factor: None, interval: None }),
            holds: if holds { Holds::Yes } else { Holds::No },
        });
    }

    /// A number that has to be the claimed one.
    pub fn number(&mut self, what: &str, arm: &str, claimed: u64, measured: u64) {
        self.figure(what, arm, Unit::Count, (claimed as f64, measured as f64), claimed == measured);
    }

    /// A figure of two arms; where `lower` is given, the other's was claimed to be lower (or, if false, the same).
    pub fn pair(&mut self, what: &str, unit: Unit, arms: [&str; 2], values: [f64; 2], holds: Holds) {
        let [base, other] = values;
        let factor = (base > 0.0).then_some(other / base);
        self.rows.push(Compared {
            what: what.to_owned(),
            unit,
            base: arms[0].to_owned(),
            other: arms[1].to_owned(),
            claimed: None,
            measured: Some(Measured { base, other, factor, interval: None }),
            holds,
        });
    }

    /// Text as a command printed it.
    pub fn text(&mut self, of: &str, text: &str) {
        self.texts.push(SiteTable { arm: of.to_owned(), text: text.trim_end().to_owned() });
    }
}
