//! The history: the figures of every run in a database, SQLite for one machine or PostgreSQL for a team.
//!
//! `model` is what one run gives, `store` all that is done with it, in SQL that both databases take (`schema`).
//! `sqlite` and `postgres` connect and carry it out, `spool` keeps the runs that a store did not take. The command line
//! and the gate call [`Store`] and [`append`]; the answers are plain data of `heapgate_core::history`.

mod append;
mod database;
mod error;
mod model;
mod postgres;
mod schema;
mod spool;
mod sqlite;
mod store;

pub use append::{Kept, append, send};
pub use error::StoreError;
pub use model::{Purpose, Run};
pub use schema::SCHEMA_VERSION;
pub use spool::{SPOOL, Spool, Spooled};
pub use store::{Appended, ClassInfo, LastRuns, Mode, SeriesQuery, Store};
