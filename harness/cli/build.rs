//! Notes what is being built, for the fingerprint in reports.

use std::path::Path;
use std::process::Command;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lock = root.join("Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    // The commit: a new one moves HEAD or the branch it names.
    for file in ["HEAD", "logs/HEAD"] {
        let file = root.join(".git").join(file);
        if file.exists() {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    for (name, value) in [
        ("RUSTC", output(&rustc, &["--version"])),
        ("LOCK_HASH", format!("{:016x}", fnv1a(&std::fs::read(&lock).unwrap_or_default()))),
        ("PROFILE", variable("PROFILE")),
        ("TARGET", variable("TARGET")),
        ("COMMIT", output("git", &["-C", &root.to_string_lossy(), "rev-parse", "--short=12", "HEAD"])),
    ] {
        println!("cargo:rustc-env=HEAPGATE_BUILD_{name}={value}");
    }
}

/// What a program prints; empty if it can't be run.
fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => String::new(),
    }
}

/// FNV-1a: no secret is kept, only equality is asked.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
