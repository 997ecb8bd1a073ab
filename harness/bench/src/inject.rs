//! Planted regressions: controls that show that the gate isn't asleep. Hidden from help, used by tests.

use std::hint::black_box;
use std::str::FromStr;

use crate::workload::Work;

/// What to plant.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Injection {
    /// Allocations more per unit of work; fractions are allowed.
    pub extra_allocs: f64,
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("extra-allocs", number)) => match number.parse() {
                Ok(extra_allocs) if (0.0..=1e6).contains(&extra_allocs) => Ok(Self { extra_allocs }),
                _ => Err(format!("'{number}' is not a number from 0 to 1000000")),
            },
            _ => Err(format!("'{text}' is nothing that can be planted; there is: extra-allocs=N")),
        }
    }
}

impl Injection {
    pub(crate) fn start(self) -> Injector {
        Injector { per_unit: self.extra_allocs, owed: 0.0 }
    }
}

/// Plants allocations as work is done.
pub(crate) struct Injector {
    per_unit: f64,
    owed: f64,
}

impl Injector {
    pub(crate) fn after_step(&mut self, work: Work) {
        /// About the size of a token's text.
        const BYTES: usize = 16;
        if self.per_unit == 0.0 {
            return;
        }
        self.owed += self.per_unit * work.units as f64;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            black_box(Box::new([0u8; BYTES]));
        }
    }
}
