//! A real PostgreSQL server for tests: in a temporary folder, at an address of its own, gone with the value.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::address::own_address;

/// Who the server runs as where the tests run as root, which it refuses: nobody.
const NOBODY: u32 = 65_534;
/// The server is ready in a second; on a machine under load it may take many.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Starts one. `None` where PostgreSQL isn't installed: the test is then skipped, loudly, unless
    /// `HEAPGATE_REQUIRE_POSTGRES` forbids that.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let required = std::env::var_os("HEAPGATE_REQUIRE_POSTGRES").is_some_and(|v| v == "1");
            assert!(!required, "PostgreSQL's initdb is neither in PATH nor in /usr/lib/postgresql/*/bin");
            // Past the test harness, which captures only what the macros print.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED, NOT TESTED: PostgreSQL is not installed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        if is_root(folder.path()) {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("give the folder to nobody");
        }
        let mut server = Self { folder, programs, address: own_address(), child: None };
        let data = server.data();
        let initialized = server
            .program("initdb")
            .args(["--auth=trust", "--username=ci", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .expect("start initdb");
        assert!(initialized.status.success(), "initdb: {}", String::from_utf8_lossy(&initialized.stderr));
        server.start_again();
        Some(server)
    }

    pub fn url(&self) -> String {
        Self::url_at(self.address)
    }

    /// The same by way of another address.
    pub fn url_at(address: SocketAddr) -> String {
        format!("postgres://ci:hush@{address}/postgres")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the server after [`Self::stop`], with what it had.
    pub fn start_again(&mut self) {
        let (data, port) = (self.data(), self.address.port().to_string());
        let listen = format!("listen_addresses={}", self.address.ip());
        let child = self
            .program("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port, "-c", &listen, "-c", "unix_socket_directories="])
            .args(["-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("start postgres"));
        let end = Instant::now() + PATIENCE;
        while !self.is_ready() {
            assert!(Instant::now() < end, "PostgreSQL is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it says in its file of state that it takes connections.
    fn is_ready(&self) -> bool {
        let state = std::fs::read_to_string(self.data().join("postmaster.pid"));
        state.is_ok_and(|state| state.lines().any(|line| line.trim() == "ready"))
    }

    /// Ends the server at once: connections break.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let data = self.data();
        let stopped = self.program("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(&data).output();
        assert!(stopped.expect("start pg_ctl").status.success(), "stop PostgreSQL");
        child.wait().expect("PostgreSQL ends");
        // What is left of it would pass for the state of the next.
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = if is_root(Path::new("/proc/self")) {
            let mut command = Command::new("setpriv");
            let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
            command.args(ids).arg(path);
            command
        } else {
            Command::new(path)
        };
        // The folder that a test runs in may not be nobody's to see.
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether `path`, which this process made, is root's.
fn is_root(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.uid() == 0)
}

/// The folder with PostgreSQL's programs: of the PATH, or the newest of Debian's. In the PATH may be links to some.
fn programs() -> Option<PathBuf> {
    let of_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut of_debian: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    of_debian.sort();
    let all = of_path.chain(of_debian.into_iter().rev().map(|v| v.1));
    let real = all.filter_map(|folder| Some(folder.join("initdb").canonicalize().ok()?.parent()?.to_owned()));
    real.into_iter().find(|folder| ["postgres", "pg_ctl"].iter().all(|name| folder.join(name).is_file()))
}
