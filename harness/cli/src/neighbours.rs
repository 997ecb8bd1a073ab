//! Busy neighbours: processes that do nothing but keep a CPU busy, as others do on a shared machine.

use std::process::{Child, Command, Stdio};

use crate::fail::Failure;

/// The hidden verb of a neighbour.
pub const SPIN: &str = "spin";

/// Neighbours that are busy until this is dropped.
#[derive(Debug)]
pub struct Neighbours(Vec<Child>);

impl Neighbours {
    /// Starts `count` of them.
    ///
    /// # Errors
    /// If one can't be started.
    pub fn start(count: u32) -> Result<Self, Failure> {
        let mut neighbours = Self(Vec::new());
        let program = std::env::current_exe()?;
        for _ in 0..count {
            let mut command = Command::new(&program);
            // A pipe that ends with us, so that they end however we do.
            neighbours.0.push(command.arg(SPIN).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?);
        }
        Ok(neighbours)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself needs neither.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps a CPU busy until standard input ends.
pub fn spin() -> ! {
    if let Err(error) = heapgate_bench::steer() {
        eprintln!("heapgate: it can't be steered: {error}");
    }
    std::thread::spawn(|| {
        // Whatever it gives, there is nobody any more.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    loop {
        std::hint::spin_loop();
    }
}
