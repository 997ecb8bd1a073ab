//! What the workloads allocate, counted by an allocator of our own: the same every time, and nothing where that is
//! promised. `--print` shows the calls of all.
//!
//! Its own `main`, and in a process with `RAYON_NUM_THREADS=1`, as heapgate starts its trials: with more, the kernels
//! start threads, and a test harness has threads that allocate beside it.

#![allow(unsafe_code, reason = "a global allocator can't be counted without one")]

mod counting;
mod decode;
mod models;
mod tokenize;

use std::process::{Command, exit};

/// Tests by name.
type Tests = &'static [(&'static str, fn())];

/// A name and the function of that name.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*] };
}
use tests;

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none_or(|threads| threads != "1") {
        let this = std::env::current_exe().expect("a program knows its own file");
        let status = Command::new(this).args(std::env::args_os().skip(1)).env("RAYON_NUM_THREADS", "1").status();
        exit(status.expect("it just ran").code().unwrap_or(1));
    }
    let mut passed = 0;
    for (name, test) in [tokenize::TESTS, models::TESTS, decode::TESTS].into_iter().flatten() {
        test();
        println!("test {name} ... ok");
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
    if std::env::args().any(|arg| arg == "--print") {
        tokenize::print();
        decode::print();
    }
}
