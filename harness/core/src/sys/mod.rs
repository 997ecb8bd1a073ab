//! What only the operating system can say or do: starting, ending and accounting for processes. The only unsafe code of
//! this crate.
//!
//! `spawn` starts a child under limits; `wait` learns how it ended; `cpu_time` reads its clock; `machine` reads what
//! the standard library does not tell of this machine. Called by the supervisor and by [`crate::machine`] only.

pub mod cpu_time;
pub mod machine;
pub mod spawn;
pub mod wait;
