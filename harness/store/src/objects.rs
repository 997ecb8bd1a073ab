//! Whole reports in folders and object stores, by URL: `file:///folder/report.json`, `s3://bucket/run/shard-1.json`,
//! `gs://…`, `az://container/…`. An object is there whole or not at all, and replaces the one before.
//!
//! Credentials, regions and endpoints come from the environment, never from the URL: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT` (and `AWS_ALLOW_HTTP=true` for a server without TLS),
//! `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, and whatever else crate
//! `object_store` reads with those beginnings; on a machine of the cloud itself, the machine's own identity.

use std::future::Future;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, RetryConfig};
use reqwest::Url;
use tokio::runtime::{Builder, Runtime};

/// A store that is busy recovers within some tries, each waiting about twice as long as the one before.
const RETRIES: usize = 5;
/// After this nothing is tried again: a job that waits for a store that is gone should say so while someone looks. One
/// request takes at most 30 s besides.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// What a URL may begin with.
const SCHEMES: [&str; 4] = ["file", "s3", "gs", "az"];

/// Why an object was not written or read. No message holds what stood in a URL before `@` or after `?`.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The URL names no place.
    #[error("{url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such object or folder.
    #[error("{url}: there is no such object")]
    Missing {
        /// The URL.
        url: String,
    },
    /// The store can't be reached, or refuses.
    #[error("cannot {verb} {url}: {}; {}", source, advice(url))]
    Failed {
        /// What was to be done with it.
        verb: &'static str,
        /// The URL.
        url: String,
        /// What the store said.
        source: Box<Error>,
    },
    /// The system gave no event loop.
    #[error("cannot start what talks to {url}: {source}")]
    Runtime {
        /// The URL.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
}

fn advice(url: &str) -> &'static str {
    match url.split(':').next() {
        Some("s3") => {
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT (with AWS_ALLOW_HTTP=true for http)"
        }
        Some("gs") => "check GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS",
        Some("az") => "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        _ => "check its rights and the disk",
    }
}

/// Whether `name` is a URL, not a file's name.
#[must_use]
pub fn is_url(name: &str) -> bool {
    name.contains("://")
}

/// A place in a store: an object, or a folder of objects.
#[derive(Debug)]
pub struct Objects {
    url: String,
    store: Box<dyn ObjectStore>,
    path: Path,
    // Held, since connections that are kept open belong to it.
    runtime: Runtime,
}

impl Objects {
    /// The place that `url` names. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// If it names none, or the environment lacks what its store needs.
    pub fn open(url: &str) -> Result<Self, ObjectError> {
        let shown = redacted(url);
        let refuse = |reason: String| ObjectError::Url { url: shown.clone(), reason };
        let parsed = Url::parse(url).map_err(|error| refuse(error.to_string()))?;
        if !SCHEMES.contains(&parsed.scheme()) {
            let known = SCHEMES.map(|scheme| format!("{scheme}://")).join(", ");
            return Err(refuse(format!("there is no such kind of store; there are: {known}")));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(refuse(
                "credentials in a URL end up in logs; give them in the environment, as the store's own tools take them"
                    .to_owned(),
            ));
        }
        let local = parsed.scheme() == "file";
        if local == parsed.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(refuse(if local {
                "a file's URL has three slashes: file:///folder/report.json".to_owned()
            } else {
                "it names no bucket".to_owned()
            }));
        }
        let path = Path::from_url_path(parsed.path()).map_err(|error| refuse(error.to_string()))?;
        let store = store(&parsed).map_err(|error| refuse(format!("{error}; {}", advice(&shown))))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ObjectError::Runtime { url: shown.clone(), source })?;
        Ok(Self { url: shown, store, path, runtime })
    }

    /// Its URL, without anything that should not be shown.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts `bytes` there, whole or not at all; tried again where the store is busy.
    ///
    /// # Errors
    /// If the store can't be reached, or refuses.
    pub fn put(&self, bytes: Vec<u8>) -> Result<(), ObjectError> {
        self.wait("write", &self.url, self.store.put(&self.path, bytes.into())).map(drop)
    }

    /// The object there.
    ///
    /// # Errors
    /// If there is none, the store can't be reached, or refuses.
    pub fn get(&self) -> Result<Vec<u8>, ObjectError> {
        self.read(&self.url, &self.path)
    }

    /// The object `name` in this folder.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn get_named(&self, name: &str) -> Result<Vec<u8>, ObjectError> {
        self.read(&self.url_of(name), &self.path.clone().join(name))
    }

    /// The names of the objects in this folder, sorted; not those in folders within.
    ///
    /// # Errors
    /// If the store can't be reached, or refuses.
    pub fn list(&self) -> Result<Vec<String>, ObjectError> {
        let found = self.wait("list", &self.url, self.store.list_with_delimiter(Some(&self.path)))?;
        let mut names: Vec<String> =
            found.objects.iter().filter_map(|object| Some(object.location.filename()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// The URL of the object `name` in this folder.
    #[must_use]
    pub fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url.trim_end_matches('/'))
    }

    fn read(&self, url: &str, path: &Path) -> Result<Vec<u8>, ObjectError> {
        let bytes = self.wait("read", url, async { self.store.get(path).await?.bytes().await })?;
        Ok(bytes.to_vec())
    }

    fn wait<T>(
        &self,
        verb: &'static str,
        url: &str,
        what: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ObjectError> {
        self.runtime.block_on(what).map_err(|error| match error {
            Error::NotFound { .. } if verb != "write" => ObjectError::Missing { url: url.to_owned() },
            source => ObjectError::Failed { verb, url: url.to_owned(), source: Box::new(source) },
        })
    }
}

/// The store of `url`, as the environment says.
fn store(url: &Url) -> Result<Box<dyn ObjectStore>, Error> {
    if url.scheme() == "file" {
        return Ok(Box::new(LocalFileSystem::new().with_fsync(true)));
    }
    // reqwest is built without a provider of its own. An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    Ok(match url.scheme() {
        "s3" => Box::new(AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry).build()?),
        "gs" => Box::new(GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry).build()?),
        _ => Box::new(MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry).build()?),
    })
}

/// `url` without what may be secret in it, whether it is one or not.
pub(crate) fn redacted(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host.rsplit('@').next().unwrap_or_default();
            path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: &tempfile::TempDir, name: &str) -> Objects {
        Objects::open(&format!("file://{}/{name}", folder.path().display())).unwrap()
    }

    #[test]
    fn an_object_is_read_as_it_was_put_and_the_next_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let object = at(&folder, "runs/of%20today/report.json");
        object.put(b"first, and longer".to_vec()).unwrap();
        object.put(b"second".to_vec()).unwrap();
        assert_eq!(object.get().unwrap(), b"second");
        assert_eq!(std::fs::read(folder.path().join("runs/of today/report.json")).unwrap(), b"second");
        assert_eq!(at(&folder, "runs/of%20today/").list().unwrap(), ["report.json"], "nothing is left beside it");
    }

    #[test]
    fn a_folder_lists_its_objects_and_not_those_within() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", "within/c.json"] {
            at(&folder, name).put(name.into()).unwrap();
        }
        let all = at(&folder, "");
        assert_eq!(all.list().unwrap(), ["a.json", "b.json"]);
        assert_eq!(all.get_named("a.json").unwrap(), b"a.json");
        assert!(all.url_of("a.json").ends_with("/a.json") && !all.url_of("a.json").contains("//a"));
    }

    #[test]
    fn what_is_not_there_is_told_by_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let error = at(&folder, "none.json").get().unwrap_err();
        assert!(matches!(&error, ObjectError::Missing { url } if url.ends_with("none.json")), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = at(&folder, "file/below.json").put(b"x".to_vec()).unwrap_err();
        assert!(matches!(error, ObjectError::Failed { verb: "write", .. }), "{error}");
        assert!(error.to_string().contains("file/below.json"), "{error}");
    }

    #[test]
    fn what_names_no_place_is_refused_with_the_reason() {
        for (url, reason) in [
            ("ftp://host/x", "there are: file://, s3://, gs://, az://"),
            ("s3:///x", "names no bucket"),
            ("file://folder/x", "three slashes"),
            ("s3://bucket/a/../%2E%2E/b%00", "s3://bucket"),
        ] {
            let error = Objects::open(url).unwrap_err();
            assert!(error.to_string().contains(reason), "{url}: {error}");
        }
    }

    #[test]
    fn no_error_shows_credentials() {
        for url in ["s3://KEY:SECRET@bucket/x", "az://container/x?sig=SECRET", "s3://SECRET@", "x://a:SECRET@b/#SECRET"]
        {
            let error = Objects::open(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        }
    }
}
