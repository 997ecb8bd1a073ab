//! heapgate-store: where heapgate keeps what runs measured, beyond the report of the last one.
//!
//! `history` keeps the figures of every run in a database; `objects` puts whole reports into folders and object stores;
//! `pushgateway` hands a run's figures to Prometheus.
//! Nothing here measures, judges or prints.

pub mod history;
pub mod objects;
pub mod pushgateway;
