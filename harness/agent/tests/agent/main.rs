//! The agent with real files, processes and sockets. No assertion is about time: where something must end, it is waited for.

mod common;
mod page;
mod processes;
#[path = "../../../prometheus/tests/common/promtool.rs"]
mod promtool;
mod server;
mod tls;
