//! TLS and passwords, by a file in the form that Prometheus's exporters share
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).
//!
//! Of that form `tls_server_config` with a certificate and its key, both in files, and `basic_auth_users` are supported. Any
//! other key is refused: what it asks for would not be done.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// Certificates are renewed while the agent runs: the files are looked at again when a client connects, at most this
/// often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// bcrypt's cost is a power of two; this one takes about a second for each password.
const MAX_BCRYPT_COST: u32 = 14;

/// Why a web configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// It can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The configuration.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not YAML, or not of this form.
    #[error("{}: {message}", path.display())]
    Form {
        /// The configuration.
        path: PathBuf,
        /// What is wrong, with its line.
        message: String,
    },
    /// A key has a value that can't be used.
    #[error("{}: {key}: {message}", path.display())]
    Value {
        /// The configuration.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with its value, and what to do.
        message: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tls_server_config: Option<TlsServerConfig>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsServerConfig {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// What a web configuration asks for.
#[derive(Debug, Default)]
pub struct Loaded {
    /// TLS, if it is to be spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Names and bcrypt hashes; nobody is asked for a password if there are none.
    pub users: BTreeMap<String, String>,
}

/// A web configuration that is read again when its files change.
#[derive(Debug)]
pub struct WebConfig {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    loaded: Arc<Loaded>,
    files: Files,
    looked: Instant,
}

/// What a configuration was read from; a file that is missing has no stamp.
type Files = Vec<(PathBuf, Option<Stamp>)>;

/// Changes whenever a file is replaced or written.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { inode: file.ino(), bytes: file.len(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}

impl WebConfig {
    /// Reads the file, and the files that it names.
    ///
    /// # Errors
    /// Says which file, which key, and what is wrong.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let (loaded, files) = read(path)?;
        let state = State { loaded: Arc::new(loaded), files, looked: Instant::now() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// What is asked for now. If files have changed and can't be used, what they said before holds on, and the error is
    /// returned beside it, once for each change.
    pub fn current(&self) -> (Arc<Loaded>, Option<WebConfigError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() < LOOK_AGAIN {
            return (Arc::clone(&state.loaded), None);
        }
        state.looked = Instant::now();
        if state.files.iter().all(|(path, stamp)| Stamp::of(path) == *stamp) {
            return (Arc::clone(&state.loaded), None);
        }
        // Taken before the files are read again: a change in between is found at the next look.
        let stamps: Vec<_> = state.files.drain(..).map(|(path, _)| path).map(|path| (Stamp::of(&path), path)).collect();
        match read(&self.path) {
            Ok((loaded, files)) => {
                state.files = files;
                state.loaded = Arc::new(loaded);
                (Arc::clone(&state.loaded), None)
            }
            Err(error) => {
                state.files = stamps.into_iter().map(|(stamp, path)| (path, stamp)).collect();
                (Arc::clone(&state.loaded), Some(error))
            }
        }
    }
}

/// A key of the configuration, the file that it names, and what is in it.
type KeyFileContents = (String, PathBuf, Vec<u8>);

/// What the configuration at `path` asks for, and the files that it is in.
fn read(path: &Path) -> Result<(Loaded, Files), WebConfigError> {
    let mut files = vec![(path.to_owned(), Stamp::of(path))];
    let text = fs::read_to_string(path).map_err(|source| WebConfigError::Read { path: path.to_owned(), source })?;
    // An empty file asks for nothing, as with the exporters.
    let document = if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        Document { tls_server_config: None, basic_auth_users: None }
    } else {
        serde_saphyr::from_str(&text)
            .map_err(|error| WebConfigError::Form { path: path.to_owned(), message: error.to_string() })?
    };
    let value = |key: &str, message: String| WebConfigError::Value { path: path.to_owned(), key: key.into(), message };
    let tls = match document.tls_server_config {
        None => None,
        Some(TlsServerConfig { cert_file, key_file }) => {
            let mut contents = |key: &str, file: Option<PathBuf>| -> Result<KeyFileContents, WebConfigError> {
                let key = format!("tls_server_config.{key}");
                let file = file.ok_or_else(|| value(&key, "is missing".into()))?;
                // Relative to the configuration, wherever the agent was started.
                let file = path.parent().unwrap_or(Path::new("")).join(file);
                files.push((file.clone(), Stamp::of(&file)));
                let bytes =
                    fs::read(&file).map_err(|error| value(&key, format!("cannot read {}: {error}", file.display())))?;
                Ok((key, file, bytes))
            };
            let certificate = contents("cert_file", cert_file)?;
            let key = contents("key_file", key_file)?;
            Some(Arc::new(server_config(&certificate, &key).map_err(|(key, message)| value(&key, message))?))
        }
    };
    let users = document.basic_auth_users.unwrap_or_default();
    for (name, hash) in &users {
        check_hash(hash).map_err(|message| value(&format!("basic_auth_users.{name}"), message))?;
        if name.contains(':') {
            return Err(value(&format!("basic_auth_users.{name}"), "a user's name can't have a colon".into()));
        }
    }
    Ok((Loaded { tls, users }, files))
}

fn server_config(
    (certificate_key, certificate_file, certificate): &KeyFileContents,
    (key_key, key_file, key): &KeyFileContents,
) -> Result<ServerConfig, (String, String)> {
    let no = |key: &String, file: &Path, message: String| (key.clone(), format!("{}: {message}", file.display()));
    let certificates = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no(certificate_key, certificate_file, error.to_string()))?;
    if certificates.is_empty() {
        return Err(no(certificate_key, certificate_file, "holds no certificate (PEM)".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| no(key_key, key_file, format!("holds no private key (PEM): {error}")))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| no(key_key, key_file, format!("does not fit the certificate: {error}")))
}

fn check_hash(hash: &str) -> Result<(), String> {
    let parts: bcrypt::HashParts =
        hash.parse().map_err(|_| "not a bcrypt hash; `htpasswd -nBC 10 NAME` makes one".to_owned())?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        return Err(format!("its cost is {}; more than {MAX_BCRYPT_COST} takes too long to check", parts.get_cost()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash, of the lowest cost there is.
    const HASH: &str = "$2b$04$/TeFnLSxFaArXXEwzXQIrOE7aX0TJKZn1nEqFm5cWL4iCXlwSCCcy";

    fn loaded(text: &str) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        fs::write(&path, text).unwrap();
        let named = read(&path).map(|(loaded, _)| loaded).map_err(|error| error.to_string());
        named.map_err(|error| {
            assert!(error.contains("web.yml"), "{error}");
            error
        })
    }

    #[test]
    fn users_are_read_with_their_hashes() {
        let loaded = loaded(&format!("basic_auth_users:\n  alice: {HASH}\n")).unwrap();
        assert_eq!(loaded.users["alice"], HASH);
        assert!(loaded.tls.is_none());
    }

    #[test]
    fn an_empty_file_asks_for_nothing() {
        assert!(loaded("# nothing yet\n\n").unwrap().users.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        for (text, named) in [
            ("basic_auth_users:\n  alice: secret\n", "basic_auth_users.alice"),
            ("basic_auth_users:\n  alice: $2y$31$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n", "31"),
            ("tls_server_config:\n  cert_file: a.crt\n", "tls_server_config.cert_file"),
            ("tls_server_config:\n  cert_file: web.yml\n", "tls_server_config.key_file"),
            ("tls_server_config:\n  cert_file: web.yml\n  key_file: web.yml\n", "tls_server_config.cert_file"),
            ("tls_server_config:\n  client_ca_file: ca.crt\n", "client_ca_file"),
            ("http_server_config:\n  http2: true\n", "http_server_config"),
            ("basic_auth_users: [a\n", "web.yml"),
        ] {
            let error = loaded(text).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn files_that_change_are_read_again_and_wrong_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let put = |user: &str, hash: &str| fs::write(&path, format!("basic_auth_users:\n  {user}: {hash}\n")).unwrap();
        put("alice", HASH);
        let config = WebConfig::load(&path).unwrap();
        let later = || {
            config.state.lock().unwrap().looked -= LOOK_AGAIN;
            let (loaded, error) = config.current();
            (loaded.users.keys().cloned().collect::<Vec<_>>(), error.is_some())
        };
        assert_eq!(later(), (vec!["alice".to_owned()], false));
        put("robert", HASH);
        assert_eq!(later(), (vec!["robert".to_owned()], false));
        put("mallory", "secret");
        assert_eq!(later(), (vec!["robert".to_owned()], true), "what was said before holds on");
        assert_eq!(later(), (vec!["robert".to_owned()], false), "said once");
        put("alice", HASH);
        assert_eq!(later(), (vec!["alice".to_owned()], false));
    }
}
