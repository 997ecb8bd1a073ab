//! PostgreSQL: a server that a team shares. Everything is in a schema of its own, `heapgate`.

use std::time::Duration;

use heapgate_core::history::Place;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::config::SslMode;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Row};

use super::database::{Database, Table, Value};
use super::{Mode, SCHEMA_VERSION, StoreError, schema};

/// How long a server may take to answer a call for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long what was sent may stay unacknowledged before the connection counts as broken.
const SILENCE: Duration = Duration::from_secs(10);
/// The lock that makes appends follow each other: `hpgt`. Other programs of the same database have locks of their own.
const LOCK: i64 = 0x6870_6774;

pub(super) struct Postgres {
    client: Client,
    place: String,
}

impl Postgres {
    pub(super) fn open(url: &str, mode: Mode) -> Result<Self, StoreError> {
        let place = Place::Postgres(url.to_owned()).to_string();
        let config = config(url, &place)?;
        let client = config.connect(NoTls).map_err(|error| StoreError::Unreachable {
            place: place.clone(),
            reason: words(&error),
            way_out: "check that the server runs and the URL is right, or name another store with --store",
        })?;
        let mut store = Self { client, place };
        store.check_version(mode)?;
        store.batch("SET search_path TO heapgate")?;
        Ok(store)
    }

    fn check_version(&mut self, mode: Mode) -> Result<(), StoreError> {
        if self.version()?.is_none() {
            if mode == Mode::Read {
                return Err(StoreError::Missing { place: self.place.clone() });
            }
            self.begin()?;
            // Another program may have been faster.
            if self.version()?.is_none() {
                let result = self.batch(&format!(
                    "CREATE SCHEMA IF NOT EXISTS heapgate; SET LOCAL search_path TO heapgate;
                    CREATE TABLE meta (version BIGINT NOT NULL); INSERT INTO meta VALUES ({SCHEMA_VERSION}); {}",
                    schema::tables("BIGINT", "")
                ));
                if let Err(error) = result {
                    self.roll_back();
                    return Err(error);
                }
            }
            self.commit()?;
        }
        let place = self.place.clone();
        match self.version()? {
            Some(SCHEMA_VERSION) => Ok(()),
            Some(found) if found > SCHEMA_VERSION => Err(StoreError::Newer { place, found, ours: SCHEMA_VERSION }),
            Some(found) => Err(StoreError::Older { place, found, ours: SCHEMA_VERSION }),
            None => Err(StoreError::NotAHistory { place, reason: "it has no version".to_owned() }),
        }
    }

    /// The version of the tables; `None` where there are none.
    fn version(&mut self) -> Result<Option<i64>, StoreError> {
        // Not `to_regclass`: that may answer from a cache what was so before the lock was waited for.
        let there = self.query(
            "SELECT COUNT(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'heapgate' AND c.relname = 'meta'",
            &[],
        )?;
        if there.first().is_none_or(|row| row[0].int() == 0) {
            return Ok(None);
        }
        Ok(self.query("SELECT version FROM heapgate.meta", &[])?.first().map(|row| row[0].int()))
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).map_err(|error| failed(&self.place, &error))
    }
}

/// The settings of the connection. A password may be left out of the URL: it is then taken from `PGPASSWORD`, as by
/// PostgreSQL's own programs.
fn config(url: &str, place: &str) -> Result<Config, StoreError> {
    let refuse = |reason: String| StoreError::Url { place: place.to_owned(), reason };
    let mut config: Config = url.parse().map_err(|error: postgres::Error| refuse(words(&error)))?;
    if config.get_ssl_mode() == SslMode::Require {
        let reason = "sslmode=require: this heapgate speaks to PostgreSQL without TLS only; use a tunnel (ssh -L, a \
                      sidecar), or leave sslmode out on a network that you trust";
        return Err(refuse(reason.to_owned()));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    if config.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name("heapgate");
    }
    Ok(config)
}

impl Database for Postgres {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.batch("COMMIT")
    }

    fn roll_back(&mut self) {
        // If it fails the connection is broken, and the server rolls back by itself.
        let _ = self.batch("ROLLBACK");
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let rows = self.client.query(sql, &parameters).and_then(|rows| rows.iter().map(read).collect());
        rows.map_err(|error| failed(&self.place, &error))
    }

    fn insert(&mut self, table: Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let names: Vec<&str> = table.columns.iter().map(|c| c.0).collect();
        let types: Vec<Type> = table.columns.iter().map(|c| if c.1 { Type::FLOAT8 } else { Type::INT8 }).collect();
        let mut write = || {
            let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, names.join(", "));
            let mut writer = BinaryCopyInWriter::new(self.client.copy_in(&sql)?, &types);
            for row in rows {
                writer.write_raw(row)?;
            }
            writer.finish()
        };
        write().map(|_| ()).map_err(|error| failed(&self.place, &error))
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql(ty, out),
            Self::Real(value) => value.to_sql(ty, out),
            Self::Text(value) => value.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::FLOAT8, Type::TEXT].contains(ty)
    }

    to_sql_checked!();
}

fn read(row: &Row) -> Result<Vec<Value>, postgres::Error> {
    let value = |(index, column): (usize, &postgres::Column)| match *column.type_() {
        Type::INT8 => Ok(row.try_get::<_, Option<i64>>(index)?.map_or(Value::Null, Value::Int)),
        Type::FLOAT8 => Ok(row.try_get::<_, Option<f64>>(index)?.map_or(Value::Null, Value::Real)),
        _ => Ok(row.try_get::<_, Option<String>>(index)?.map_or(Value::Null, Value::Text)),
    };
    row.columns().iter().enumerate().map(value).collect()
}

fn failed(place: &str, error: &postgres::Error) -> StoreError {
    StoreError::Failed { place: place.to_owned(), reason: words(error) }
}

/// What the server or the system said: `Display` of the error is its kind alone.
fn words(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
