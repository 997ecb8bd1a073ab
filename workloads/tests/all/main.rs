//! What the workloads do, as the registry offers them: one executable, since each links the models' whole arithmetic.

mod cache_and_prompt;
mod decode_registry;
mod linux_doc;
mod load;
mod models_bad_input;
mod models_embed;
mod models_real;
mod operators_agree;
mod tokenize_registry;
mod transformer_caches;
mod wordpiece_agrees;

use std::path::Path;
use std::process::Command;

/// Runs the ignored test `name` (with its module) in a process of its own, with `variable` set to `folder`: it is read once
/// in the life of a process.
fn run_child(name: &str, variable: &str, folder: &Path) {
    let this = std::env::current_exe().expect("a test knows its own file");
    let output = Command::new(this).args(["--exact", name, "--ignored"]).env(variable, folder).output();
    let output = output.expect("it just ran");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{name}: {said}");
}
