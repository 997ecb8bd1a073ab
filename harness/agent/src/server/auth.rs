//! Passwords (basic authentication) and the token for control. Comparisons take as long whatever was sent.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use base64::Engine;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::limits::MAX_WAITING_PASSWORDS;
use crate::web_config::Loaded;

/// Right passwords that are remembered, as digests; forgotten when there are more.
const MAX_REMEMBERED: usize = 1_000;

/// A token shorter than this can be guessed over a network.
const MIN_TOKEN_BYTES: usize = 16;

/// What comes of a request's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    /// They are right, or none are needed.
    Right,
    /// They are wrong or missing.
    Wrong,
    /// Too many are being checked.
    Busy,
}

/// Checks passwords.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// Digests of name, password and hash that were right: a check takes a tenth of a second, and every scrape has one.
    remembered: Mutex<HashSet<[u8; 32]>>,
    waiting: AtomicUsize,
    /// One at a time: guessing must not take all CPUs from the services beside.
    one: tokio::sync::Mutex<()>,
}

impl Passwords {
    /// Checks the value of `Authorization`.
    pub async fn check(&self, wanted: &Arc<Loaded>, header: Option<&[u8]>) -> Credentials {
        let Some(any) = wanted.users.values().next() else { return Credentials::Right };
        let Some((name, password)) = header.and_then(basic) else { return Credentials::Wrong };
        let known = wanted.users.get(&name);
        // Another's, if there is no such user: the time of an answer must not tell which users there are.
        let hash = known.unwrap_or(any).to_owned();
        let known = known.is_some();
        let mut digest = Sha256::new();
        for part in [name.as_bytes(), hash.as_bytes(), &password] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let digest = <[u8; 32]>::from(digest.finalize());
        if known && self.remembered().contains(&digest) {
            return Credentials::Right;
        }
        let Some(_waiting) = Waiting::join(&self.waiting) else { return Credentials::Busy };
        let _one = self.one.lock().await;
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(&password, &hash).unwrap_or(false)).await;
        if !(checked.unwrap_or(false) && known) {
            return Credentials::Wrong;
        }
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(digest);
        Credentials::Right
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(queue: &'a AtomicUsize) -> Option<Self> {
        let joined = Self(queue);
        (queue.fetch_add(1, Relaxed) < MAX_WAITING_PASSWORDS).then_some(joined)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Name and password of a header (RFC 7617).
fn basic(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut name = base64::engine::general_purpose::STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = name.iter().position(|&byte| byte == b':')?;
    let password = name.split_off(colon + 1);
    name.truncate(colon);
    Some((String::from_utf8(name).ok()?, password))
}

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can't be read.
    #[error("cannot read the control token {}: {source}", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is too easy to guess.
    #[error("the control token in {} has fewer than {MIN_TOKEN_BYTES} bytes; `openssl rand -hex 32` makes one", path.display())]
    Short {
        /// Its file.
        path: PathBuf,
    },
    /// Everybody on the machine may read it.
    #[error("the control token {} may be read by every user of this machine; chmod 600 it", path.display())]
    Readable {
        /// Its file.
        path: PathBuf,
    },
}

/// The token that a request for control must show; its digest only.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads a token from a file; white space around it is not part of it.
    ///
    /// # Errors
    /// If it can't be read, may be read by everybody, or is too short.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let no = |source| TokenError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(no)?.permissions().mode() & 0o007 != 0 {
            return Err(TokenError::Readable { path: path.to_owned() });
        }
        let token = fs::read(path).map_err(no)?;
        let token = token.trim_ascii();
        if token.len() < MIN_TOKEN_BYTES {
            return Err(TokenError::Short { path: path.to_owned() });
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    /// Whether `shown` is this token. Digests are compared, in constant time: neither content nor length leaks.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        <[u8; 32]>::from(Sha256::digest(shown)).ct_eq(&self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(of: &str) -> Vec<u8> {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(of)).into_bytes()
    }

    #[test]
    fn name_and_password_are_told_apart_at_the_first_colon() {
        assert_eq!(basic(&header("alice:se:cret")), Some(("alice".into(), b"se:cret".to_vec())));
        assert_eq!(basic(b"basic YTo="), Some(("a".into(), vec![])));
        for wrong in [b"Bearer YTo=".as_slice(), b"Basic", b"Basic !", b"", &header("no colon")] {
            assert_eq!(basic(wrong), None);
        }
    }

    #[tokio::test]
    async fn only_the_right_password_is_right_and_again_from_memory() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let loaded = Arc::new(Loaded { tls: None, users: [("alice".to_owned(), hash)].into() });
        let passwords = Passwords::default();
        for (sent, expected) in [
            (Some(header("alice:secret")), Credentials::Right),
            (Some(header("alice:secret")), Credentials::Right),
            (Some(header("alice:Secret")), Credentials::Wrong),
            (Some(header("bob:secret")), Credentials::Wrong),
            (None, Credentials::Wrong),
        ] {
            assert_eq!(passwords.check(&loaded, sent.as_deref()).await, expected);
        }
        assert_eq!(passwords.remembered().len(), 1);
        // Another hash for the same user: what was right before is asked again.
        let changed =
            Arc::new(Loaded { tls: None, users: [("alice".to_owned(), bcrypt::hash("new", 4).unwrap())].into() });
        assert_eq!(passwords.check(&changed, Some(&header("alice:secret"))).await, Credentials::Wrong);
    }

    #[tokio::test]
    async fn with_too_many_waiting_the_next_is_told_so() {
        let loaded =
            Arc::new(Loaded { tls: None, users: [("alice".to_owned(), bcrypt::hash("secret", 4).unwrap())].into() });
        let passwords = Passwords::default();
        passwords.waiting.store(MAX_WAITING_PASSWORDS, Relaxed);
        assert_eq!(passwords.check(&loaded, Some(&header("alice:secret"))).await, Credentials::Busy);
        assert_eq!(passwords.waiting.load(Relaxed), MAX_WAITING_PASSWORDS);
    }

    #[test]
    fn a_token_is_read_without_its_line_end_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        let token = write("0123456789abcdef\n", 0o600).unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF") && !token.is(b""));
        assert!(matches!(write("0123456789abcdef\n", 0o644), Err(TokenError::Readable { .. })));
        assert!(matches!(write("short\n", 0o600), Err(TokenError::Short { .. })));
    }
}
