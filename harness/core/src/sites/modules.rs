//! Where a process's code is mapped from.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::{MMPermissions, MMapPath, Process};

/// The executable mappings of a process at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules(Vec<Module>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    start: u64,
    end: u64,
    /// Where in the file it begins, bytes.
    offset: u64,
    inode: u64,
    path: PathBuf,
}

/// A place in a file's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub path: &'a Path,
    pub inode: u64,
    /// Bytes from the file's start.
    pub offset: u64,
}

impl Modules {
    /// Those of process `pid` now; `None` if it is gone, or someone else's.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let maps = Process::new(i32::try_from(pid).ok()?).ok()?.maps().ok()?;
        let modules = maps.into_iter().filter(|map| map.perms.contains(MMPermissions::EXECUTE)).filter_map(|map| {
            let MMapPath::Path(path) = map.pathname else { return None };
            Some(Module { start: map.address.0, end: map.address.1, offset: map.offset, inode: map.inode, path })
        });
        Some(Self(modules.collect()))
    }

    /// Files that are mapped, but are not there any more: deleted, or another has their name now.
    pub fn replaced(&self) -> impl Iterator<Item = &Path> {
        let is_there = |module: &Module| std::fs::metadata(&module.path).is_ok_and(|file| file.ino() == module.inode);
        let paths: BTreeSet<&Path> = self
            .0
            .iter()
            .filter(|module| module.inode != 0 && !is_there(module))
            .map(|module| module.path.as_path())
            .collect();
        paths.into_iter()
    }

    pub(super) fn find(&self, address: u64) -> Option<Place<'_>> {
        let module = self.0.iter().find(|module| (module.start..module.end).contains(&address))?;
        // What a process says of itself may be anything.
        let offset = (address - module.start).checked_add(module.offset)?;
        Some(Place { path: &module.path, inode: module.inode, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_code_is_in_our_own_executable() {
        let modules = Modules::of(std::process::id()).unwrap();
        let place = modules.find(our_own_code_is_in_our_own_executable as fn() as usize as u64).unwrap();
        assert_eq!(place.path, std::env::current_exe().unwrap());
        assert!(modules.find(8).is_none());
        assert!(modules.find(u64::MAX).is_none());
    }
}
