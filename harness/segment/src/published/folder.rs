//! The runtime folder, and what lies in it.

use std::env::var_os;
use std::fs::{DirBuilder, read_dir, symlink_metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Entry;

/// The environment variable that names the runtime folder.
pub const RUNTIME_VARIABLE: &str = "HEAPGATE_RUNTIME_DIR";

/// The folder of this user's published segments. It is made if it is missing; the one that it lies in is not.
///
/// # Errors
/// If it can't be made, belongs to another user, may be written by others, or is no folder (a symbolic link neither).
pub fn runtime_folder() -> io::Result<PathBuf> {
    // SAFETY: geteuid has no requirement.
    let user = unsafe { libc::geteuid() };
    let set = |name: &str| var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set(RUNTIME_VARIABLE).or_else(|| set("XDG_RUNTIME_DIR").map(|folder| folder.join("heapgate")));
    let folder = folder.unwrap_or_else(|| PathBuf::from(format!("/tmp/heapgate-{user}")));
    if !folder.is_absolute() {
        return Err(refused(&folder, "is no absolute path"));
    }
    prepare(&folder, user)?;
    Ok(folder)
}

/// Makes `folder` if it is missing, and checks that it is `user`'s alone.
fn prepare(folder: &Path, user: u32) -> io::Result<()> {
    let told = |error: io::Error| {
        let advice = format!("set {RUNTIME_VARIABLE} to a folder that this user may write, best on tmpfs");
        io::Error::new(error.kind(), format!("{}: {error}; {advice}", folder.display()))
    };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(told(error)),
        _ => {}
    }
    // Not what a link points to: in /tmp, anybody could have put it there.
    let found = symlink_metadata(folder).map_err(told)?;
    if !found.is_dir() {
        return Err(refused(folder, "is no folder"));
    }
    if found.uid() != user {
        return Err(refused(folder, &format!("belongs to user {}, not to user {user}", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refused(
            folder,
            &format!("may be written by others (mode {:o}); chmod 700 it", found.mode() & 0o7777),
        ));
    }
    Ok(())
}

fn refused(folder: &Path, why: &str) -> io::Error {
    let message = format!("{} {why}; set {RUNTIME_VARIABLE} to another folder", folder.display());
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// The published files in `folder`, in the order of their names; alive or not. Other files are passed over.
///
/// # Errors
/// If the folder can't be read, or there is none.
pub fn list(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in read_dir(folder)? {
        if let Some(entry) = Entry::from_path(file?.path()) {
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| (&a.name, a.pid, a.start_time).cmp(&(&b.name, b.pid, b.start_time)));
    Ok(entries)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("heapgate-folder-{name}-{}", std::process::id()));
            // What a process of this number may have left.
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn user() -> u32 {
        // SAFETY: geteuid has no requirement.
        unsafe { libc::geteuid() }
    }

    #[test]
    fn a_missing_folder_is_made_for_its_user_alone() {
        let place = Place::new("made");
        let folder = place.0.join("new");
        prepare(&folder, user()).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        prepare(&folder, user()).unwrap();
        assert!(list(&folder).unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_others_could_use_is_refused() {
        let place = Place::new("refused");
        let refusal = |folder: &Path, user| prepare(folder, user).unwrap_err().to_string();
        assert!(refusal(&place.0, user() + 1).contains("belongs to user"));
        fs::set_permissions(&place.0, Permissions::from_mode(0o777)).unwrap();
        assert!(refusal(&place.0, user()).contains("mode 777"));
        fs::set_permissions(&place.0, Permissions::from_mode(0o755)).unwrap();
        prepare(&place.0, user()).unwrap();

        let link = place.0.join("link");
        symlink(&place.0, &link).unwrap();
        assert!(refusal(&link, user()).contains("is no folder"));
        let missing = refusal(&place.0.join("a/b"), user());
        assert!(missing.contains("a/b") && missing.contains(RUNTIME_VARIABLE), "{missing}");
    }

    #[test]
    fn a_list_has_published_files_only_in_order() {
        let place = Place::new("list");
        for name in
            ["b.7.1.heapgate", "a.30.2.heapgate", "a.4.9.heapgate", ".a.4.9.heapgate", "notes.txt", "a.x.9.heapgate"]
        {
            fs::write(place.0.join(name), "").unwrap();
        }
        let listed: Vec<_> = list(&place.0).unwrap().into_iter().map(|entry| (entry.name, entry.pid)).collect();
        assert_eq!(listed, [("a".to_owned(), 4), ("a".to_owned(), 30), ("b".to_owned(), 7)]);
        assert!(list(&place.0.join("none")).is_err());
    }
}
