//! Memory that a child samples its call stacks into.

use std::fs::File;
use std::os::fd::AsFd;

use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::stacks::{self, Capacity, Settings, StackSamples, StackTable};

use super::SuperviseError;

/// A table for one child.
#[derive(Debug)]
pub(super) struct Stacks {
    pub(super) file: File,
    mapping: Mapping,
}

impl Stacks {
    /// A table in which is taken what `settings` say.
    pub(super) fn new(settings: &Settings) -> Result<Self, SuperviseError> {
        let capacity = Capacity::of_trial(settings);
        let bytes = capacity.bytes();
        let failed = |source| SuperviseError::Stacks { bytes, source };
        let file = create_file(c"heapgate-stacks", bytes).map_err(failed)?;
        let mapping = Mapping::new(file.as_fd()).map_err(failed)?;
        stacks::format(mapping.words(), capacity, settings);
        Ok(Self { file, mapping })
    }

    /// What the child has sampled; nothing if it destroyed the table.
    pub(super) fn read(&self) -> StackSamples {
        StackTable::new(self.mapping.words()).map(|table| table.read()).unwrap_or_default()
    }
}

/// What a reader of the table should know.
pub(super) fn notes(samples: &StackSamples) -> Vec<String> {
    let mut notes = vec![
        "call stacks were sampled: that takes time and memory, which throughput, CPU time and RSS contain".to_owned(),
    ];
    if samples.samples == 0 {
        notes.push("no call stack was sampled: there were too few allocations, or the child could not".to_owned());
    }
    if samples.full > 0 {
        let (full, all) = (samples.full, samples.samples);
        notes.push(format!("{full} of {all} samples of call stacks found no room: sample fewer (--sites=N)"));
    }
    if samples.nested > 0 {
        let nested = samples.nested;
        notes.push(format!("{nested} call stacks were not taken: a signal came while another was"));
    }
    notes
}
