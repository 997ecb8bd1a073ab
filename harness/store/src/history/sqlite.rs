//! SQLite: one file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heapgate_core::files;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};

use super::database::{Database, Table, Value};
use super::{Mode, SCHEMA_VERSION, StoreError, schema};

/// How long another program may be writing: an append takes some milliseconds, on a slow disk some hundreds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between tries of what SQLite itself doesn't wait for.
const PAUSE: Duration = Duration::from_millis(20);
/// Says in the file's head that it is ours: `hpgt`.
const APPLICATION_ID: i64 = 0x6870_6774;

pub(super) struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    pub(super) fn open(path: &Path, mode: Mode) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        if mode == Mode::Read && !path.exists() {
            return Err(StoreError::Missing { place });
        }
        if let (Mode::Append, Some(folder)) = (mode, path.parent().filter(|f| !f.as_os_str().is_empty())) {
            files::make_folder(folder).map_err(|error| unreachable(&place, &error.to_string()))?;
        }
        if path.is_dir() {
            return Err(unreachable(&place, "it is a folder"));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let flags = if mode == Mode::Append { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
        let connection = Connection::open_with_flags(path, flags).map_err(|error| opened(&place, &error))?;
        let mut store = Self { connection, path: path.to_owned() };
        match store.prepare(mode) {
            // A reader of a file in WAL mode needs a file beside it, which it may not be allowed to make. What nobody
            // may write to doesn't change while it is read.
            Err(StoreError::Unreachable { .. }) if mode == Mode::Read => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
                let connection =
                    Connection::open_with_flags(immutable(path), flags).map_err(|error| opened(&place, &error))?;
                let mut store = Self { connection, path: path.to_owned() };
                store.check_version(mode)?;
                Ok(store)
            }
            result => result.map(|()| store),
        }
    }

    fn prepare(&mut self, mode: Mode) -> Result<(), StoreError> {
        let place = self.place();
        self.connection.busy_timeout(PATIENCE).map_err(|error| opened(&place, &error))?;
        if mode == Mode::Append {
            // Before anything is changed, the mode of the journal too: it might be another program's.
            self.check_version(mode)?;
            self.patiently(|c| c.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())))?;
        }
        // A run that was measured for an hour is worth a sync of the disk.
        self.patiently(|c| c.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"))?;
        self.check_version(mode)
    }

    /// SQLite doesn't wait for a lock where that could end in a deadlock, for instance when the journal's mode changes
    /// while another program makes the file.
    fn patiently(&self, step: impl Fn(&Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match step(&self.connection) {
                Err(error) if is_busy(&error) && Instant::now() < end => std::thread::sleep(PAUSE),
                result => return result.map_err(|error| opened(&self.place(), &error)),
            }
        }
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.connection.pragma_query_value(None, name, |row| row.get(0)) {
                Err(error) if is_busy(&error) && Instant::now() < end => std::thread::sleep(PAUSE),
                result => return result.map_err(|error| opened(&self.place(), &error)),
            }
        }
    }

    /// Makes the tables of a new file, and refuses what isn't ours.
    fn check_version(&mut self, mode: Mode) -> Result<(), StoreError> {
        let place = self.place();
        if self.is_empty()? {
            if mode == Mode::Read {
                return Err(StoreError::Missing { place });
            }
            self.begin()?;
            // Another program may have been faster.
            if self.is_empty()? {
                let ids = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};");
                let tables = schema::tables("INTEGER", " WITHOUT ROWID");
                if let Err(error) = self.connection.execute_batch(&(ids + &tables)) {
                    self.roll_back();
                    return Err(failed(&place, &error));
                }
            }
            self.commit()?;
        }
        if self.pragma("application_id")? != APPLICATION_ID {
            return Err(StoreError::NotAHistory { place, reason: "a database of another program".to_owned() });
        }
        match self.pragma("user_version")? {
            SCHEMA_VERSION => Ok(()),
            found if found > SCHEMA_VERSION => Err(StoreError::Newer { place, found, ours: SCHEMA_VERSION }),
            found => Err(StoreError::Older { place, found, ours: SCHEMA_VERSION }),
        }
    }

    /// Whether nothing was ever written to the file.
    fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.pragma("schema_version")? == 0)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Database for Sqlite {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| failed(&self.place(), &error))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let result = self.connection.execute_batch("COMMIT");
        result.map_err(|error| {
            self.roll_back();
            failed(&self.place(), &error)
        })
    }

    fn roll_back(&mut self) {
        // It fails only where there is nothing to roll back.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql.replace('$', "?"))?;
            let columns = statement.column_count();
            let mut rows = statement.query(params_from_iter(values))?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push((0..columns).map(|i| Ok(value(row.get_ref(i)?))).collect::<rusqlite::Result<Vec<Value>>>()?);
            }
            Ok(all)
        };
        read().map_err(|error| failed(&self.place(), &error))
    }

    fn insert(&mut self, table: Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let names: Vec<&str> = table.columns.iter().map(|c| c.0).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, names.join(", "));
        let write = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            for row in rows {
                statement.execute(params_from_iter(row))?;
            }
            Ok(())
        };
        write().map_err(|error| failed(&self.place(), &error))
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// A name that tells SQLite that the file doesn't change.
fn immutable(path: &Path) -> String {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let encoded: String = absolute
        .to_string_lossy()
        .chars()
        .map(|c| if matches!(c, '%' | '?' | '#') { format!("%{:02x}", c as u32) } else { c.to_string() })
        .collect();
    format!("file:{encoded}?immutable=1")
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn unreachable(place: &str, reason: &str) -> StoreError {
    const WAY_OUT: &str = "choose another place with --store, or change its rights";
    StoreError::Unreachable { place: place.to_owned(), reason: reason.to_owned(), way_out: WAY_OUT }
}

/// What went wrong while the file was opened.
fn opened(place: &str, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            unreachable(place, &words(error))
        }
        _ => failed(place, error),
    }
}

fn failed(place: &str, error: &rusqlite::Error) -> StoreError {
    let place = place.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotAHistory { place, reason: "not a database".to_owned() },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { place, waited: PATIENCE },
        Some(ErrorCode::ReadOnly) => unreachable(&place, &words(error)),
        Some(ErrorCode::DiskFull) => {
            StoreError::Failed { place, reason: "the disk is full; free some space".to_owned() }
        }
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Failed {
            place,
            reason: format!("{}; restore it from a copy, or move it away and import reports", words(error)),
        },
        _ => StoreError::Failed { place, reason: words(error) },
    }
}

/// What SQLite said, without the statement.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
