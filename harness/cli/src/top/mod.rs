//! `heapgate top`: the published processes of this machine, in the terminal.
//!
//! `source` looks at them, `state` keeps what was seen and chosen, `columns` turns a process into cells, `view` draws a
//! frame from the state alone, and `terminal` has the loop, the keys, and puts the terminal back. Called by the verb.

mod columns;
mod number;
mod plain;
mod source;
mod state;
mod terminal;
#[cfg(test)]
mod testing;
mod view;

pub use plain::{json, table};
pub use source::Source;
pub use state::State;
pub use terminal::run;
