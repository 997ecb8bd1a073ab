//! The files that `ci/fetch-models` fetches: where they are, and whether they are the pinned ones.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use heapgate_bench::{Error, Params};
use sha2::{Digest, Sha256};

use super::WAY_OUT;
use crate::corpus::find_fetched;

/// The parameter that names a model's file in place of the fetched one.
pub const PARAM: &str = "model";

/// Where `ci/fetch-models` puts them, from the root of the repository.
const FETCHED: &str = "workloads/data/models";

/// Names the folder of models, for an executable that runs outside the repository.
const VARIABLE: &str = "HEAPGATE_MODELS";

/// A file of a fetched model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// Its path in the folder of models.
    pub path: &'static str,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
}

/// The weights of all-MiniLM-L6-v2, in safetensors.
pub const MINILM_WEIGHTS: Pinned = Pinned {
    path: "minilm/model.safetensors",
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
};

/// Its sizes: layers, heads, hidden units.
pub const MINILM_CONFIG: Pinned =
    Pinned { path: "minilm/config.json", sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41" };

/// Its tokenizer.
pub const MINILM_TOKENIZER: Pinned = Pinned {
    path: "minilm/tokenizer.json",
    sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
};

/// SmolLM2-135M-Instruct, in GGUF, with its vocabulary and chat template inside.
pub const SMOLLM2: Pinned = Pinned {
    path: "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// A file that is there. What the user named is taken as it is; what was fetched is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is one that the user named.
    pub named: bool,
}

/// The file of `pinned`, or that which the parameter [`PARAM`] names.
///
/// # Errors
/// [`Error::Missing`] if it is not there, [`Error::Corrupt`] if it can't be read or is not the one that is pinned.
pub fn find(pinned: &Pinned, params: &Params) -> Result<Found, Error> {
    match params.get(PARAM) {
        "" => fetched(pinned).map(|path| Found { path, named: false }),
        named => {
            let path = PathBuf::from(named);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => Ok(Found { path, named: true }),
                Ok(_) => Err(corrupt(&path, "is no file")),
                Err(error) => Err(unreadable(&path, &error)),
            }
        }
    }
}

/// Why what needs `pinned` can't run here: `None` where the file is there, right or wrong.
#[must_use]
pub fn missing(pinned: &Pinned) -> Option<String> {
    let path = find_fetched(VARIABLE, Path::new(FETCHED), pinned.path);
    (!path.is_file()).then(|| Error::Missing { path, way_out: WAY_OUT }.to_string())
}

/// Finds and checks a fetched file.
///
/// # Errors
/// As [`find`].
pub fn fetched(pinned: &Pinned) -> Result<PathBuf, Error> {
    let path = find_fetched(VARIABLE, Path::new(FETCHED), pinned.path);
    let sum = sha256(&path).map_err(|error| unreadable(&path, &error))?;
    if sum != pinned.sha256 {
        return Err(corrupt(&path, format!("SHA-256 is {sum}, pinned is {}", pinned.sha256)));
    }
    Ok(path)
}

/// Reads all of `path`.
///
/// # Errors
/// As [`find`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

/// The error for a file that is there and wrong.
pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> Error {
    Error::Corrupt { path: path.to_owned(), reason: reason.to_string(), way_out: WAY_OUT }
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.to_owned(), way_out: WAY_OUT },
        _ => corrupt(path, error),
    }
}

/// In blocks, so that set-up doesn't leave the allocator with room for a whole file more than the model takes.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hash.update(&block[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
