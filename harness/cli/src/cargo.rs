//! Cargo as a tool: which benches there are, building one, and what it was built from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heapgate_core::hash::fnv1a;
use heapgate_core::report::Build;
use serde::Deserialize;

use crate::fail::Failure;

/// Which bench is meant, as on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub bench: &'a str,
    pub package: Option<&'a str>,
    pub manifest: Option<&'a Path>,
}

/// A bench that was built.
#[derive(Debug)]
pub struct Built {
    pub executable: PathBuf,
    /// The folder of its package, where `cargo bench` runs it.
    pub directory: PathBuf,
    /// The folder of its workspace, where the lock file is.
    pub workspace: PathBuf,
}

/// The part of `cargo metadata` that we need.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The part of a line of `cargo --message-format=json` that we need.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
}

impl Target {
    fn is_bench(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bench")
    }
}

/// The cargo that started us, or the one in the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Builds the bench that is wanted. What cargo says meanwhile is shown.
///
/// # Errors
/// A usage error if there is no such bench; a failed workload if it can't be built.
pub fn build(wanted: Wanted<'_>) -> Result<Built, Failure> {
    let metadata = metadata(wanted.manifest)?;
    let package = metadata.package_of(wanted)?;
    let mut command = cargo();
    command.args(["bench", "--no-run", "--bench", wanted.bench, "--package", &package.name]);
    command.arg("--message-format=json-render-diagnostics").arg("--manifest-path").arg(&package.manifest_path);
    let output = run(command.stderr(Stdio::inherit()))?;
    if !output.status.success() {
        return Err(Failure::workload(format!("bench '{}' could not be built: cargo says why above", wanted.bench)));
    }
    let executable = messages(&output.stdout)
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.target.as_ref().is_some_and(|t| t.is_bench() && t.name == wanted.bench))
        .filter(|message| message.manifest_path.as_ref() == Some(&package.manifest_path))
        .find_map(|message| message.executable);
    let executable = executable.ok_or_else(|| {
        Failure::internal(anyhow::anyhow!("cargo built bench '{}' and does not say where it is", wanted.bench))
    })?;
    let directory = package.manifest_path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Built { executable, directory, workspace: metadata.workspace_root })
}

/// The manifest of the package that has the bench.
///
/// # Errors
/// If there is no such bench.
pub fn manifest(wanted: Wanted<'_>) -> Result<PathBuf, Failure> {
    Ok(metadata(wanted.manifest)?.package_of(wanted)?.manifest_path.clone())
}

/// Builds heapgate itself in `folder`, into `target`, and says where the program is. What cargo says meanwhile is shown.
///
/// # Errors
/// If `folder` is no tree of heapgate's, or can't be built.
pub fn build_heapgate(folder: &Path, target: &Path) -> Result<PathBuf, Failure> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--message-format=json-render-diagnostics", "--target-dir"]);
    let output = run(command.arg(target).current_dir(folder).stderr(Stdio::inherit()))?;
    let executable = messages(&output.stdout)
        .filter(|message| message.target.as_ref().is_some_and(|t| t.name == env!("CARGO_PKG_NAME")))
        .find_map(|message| message.executable);
    match executable {
        Some(executable) if output.status.success() => Ok(executable),
        _ => Err(Failure::workload(format!(
            "{}: no heapgate could be built there; for a crate of your own, name its --bench",
            folder.display()
        ))),
    }
}

fn run(command: &mut Command) -> Result<std::process::Output, Failure> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::usage(format!("--bench needs cargo, and {:?}: {error}", command.get_program())))
}

/// Cargo's messages; other lines are what build scripts print.
fn messages(lines: &[u8]) -> impl Iterator<Item = Message> {
    lines.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn metadata(manifest: Option<&Path>) -> Result<Metadata, Failure> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    if let Some(manifest) = manifest {
        command.arg("--manifest-path").arg(manifest);
    }
    let output = run(&mut command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::usage(format!(
            "--bench: cargo knows no package here: {}",
            said.trim().trim_start_matches("error: ")
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Metadata {
    /// The one package that has the bench.
    fn package_of(&self, wanted: Wanted<'_>) -> Result<&Package, Failure> {
        let among: Vec<&Package> =
            self.packages.iter().filter(|package| wanted.package.is_none_or(|name| package.name == name)).collect();
        if among.is_empty() {
            let names: Vec<&str> = self.packages.iter().map(|package| package.name.as_str()).collect();
            let name = wanted.package.unwrap_or_default();
            return Err(Failure::usage(format!("there is no package '{name}'; there are: {}", names.join(", "))));
        }
        let has = |package: &&&Package| package.targets.iter().any(|t| t.is_bench() && t.name == wanted.bench);
        let having: Vec<&&Package> = among.iter().filter(has).collect();
        match having[..] {
            [package] => Ok(package),
            [] => {
                let benches = among.iter().flat_map(|package| {
                    let benches = package.targets.iter().filter(|target| target.is_bench());
                    benches.map(|target| format!("{} (in {})", target.name, package.name))
                });
                let benches: Vec<String> = benches.collect();
                let there_are = match benches.len() {
                    0 => "there are none".to_owned(),
                    _ => format!("there are: {}", benches.join(", ")),
                };
                Err(Failure::usage(format!("there is no bench '{}'; {there_are}", wanted.bench)))
            }
            _ => {
                let names: Vec<&str> = having.iter().map(|package| package.name.as_str()).collect();
                let names = names.join(", ");
                Err(Failure::usage(format!(
                    "several packages have a bench '{}': choose by --package: {names}",
                    wanted.bench
                )))
            }
        }
    }
}

impl Built {
    /// What it was built from, as far as can be known from outside; `heapgate` is the version it describes itself by.
    pub fn fingerprint(&self, heapgate: &str) -> Build {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let version = self.output(&rustc, &["-vV"]);
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let lock = std::fs::read(self.workspace.join("Cargo.lock"));
        Build {
            heapgate: heapgate.to_owned(),
            rustc: version.lines().next().unwrap_or_default().to_owned(),
            lock_hash: lock.map_or_else(|_| String::new(), |bytes| format!("{:016x}", fnv1a(bytes))),
            profile: "bench".to_owned(),
            target: host.to_owned(),
            commit: self.output("git", &["rev-parse", "--short=12", "HEAD"]),
        }
    }

    /// What a program prints that is started in the package's folder; empty if it fails.
    fn output(&self, program: &str, arguments: &[&str]) -> String {
        match Command::new(program).args(arguments).current_dir(&self.directory).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(packages: &[(&str, &[&str])]) -> Metadata {
        let package = |&(name, benches): &(&str, &[&str])| Package {
            name: name.to_owned(),
            manifest_path: PathBuf::from(format!("/w/{name}/Cargo.toml")),
            targets: benches
                .iter()
                .map(|&bench| Target { name: bench.to_owned(), kind: vec!["bench".to_owned()] })
                .chain([Target { name: "tool".to_owned(), kind: vec!["bin".to_owned()] }])
                .collect(),
        };
        Metadata { packages: packages.iter().map(package).collect(), workspace_root: PathBuf::from("/w") }
    }

    fn find(metadata: &Metadata, bench: &str, package: Option<&str>) -> Result<String, String> {
        let found = metadata.package_of(Wanted { bench, package, manifest: None });
        found.map(|package| package.name.clone()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_bench_is_found_by_name_or_the_others_are_listed() {
        let one = metadata(&[("a", &["x", "y"]), ("b", &["z"])]);
        assert_eq!(find(&one, "z", None).unwrap(), "b");
        assert_eq!(find(&one, "x", Some("a")).unwrap(), "a");
        assert_eq!(
            find(&one, "tool", None).unwrap_err(),
            "there is no bench 'tool'; there are: x (in a), y (in a), z (in b)"
        );
        assert_eq!(find(&one, "z", Some("a")).unwrap_err(), "there is no bench 'z'; there are: x (in a), y (in a)");
        assert_eq!(find(&one, "z", Some("c")).unwrap_err(), "there is no package 'c'; there are: a, b");
        assert_eq!(find(&metadata(&[("a", &[])]), "z", None).unwrap_err(), "there is no bench 'z'; there are none");
    }

    #[test]
    fn a_bench_that_two_packages_have_needs_the_package() {
        let two = metadata(&[("a", &["x"]), ("b", &["x"])]);
        assert!(find(&two, "x", None).unwrap_err().contains("choose by --package: a, b"));
        assert_eq!(find(&two, "x", Some("b")).unwrap(), "b");
    }

    #[test]
    fn lines_that_are_no_messages_are_passed_over() {
        let lines = b"hello\n{\"reason\":\"build-finished\",\"success\":true}\n\n{\"other\":1}\n";
        assert_eq!(messages(lines).map(|message| message.reason).collect::<Vec<_>>(), ["build-finished"]);
    }
}
