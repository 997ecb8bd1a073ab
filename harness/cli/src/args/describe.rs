//! `heapgate describe`: what a heapgate that compares this program with itself, or with another build, asks.

use heapgate_bench::Suite;
use heapgate_core::exit;
use heapgate_workloads::variants;

use super::print;
use crate::fail::Failure;

pub fn execute() -> Result<u8, Failure> {
    print(&Suite::new("heapgate", variants()).description())?;
    Ok(exit::PASS)
}
