//! The command line, driven as people drive it. One executable: each would link all of heapgate-core for itself, and tests of
//! different files run beside each other.

mod ab;
mod bad_input;
mod baseline;
mod budget;
mod children;
mod common;
mod decode;
mod duration;
mod experiment;
mod gate;
mod heaptrack;
mod help;
mod history;
mod inject;
mod leaks;
mod live;
mod merge;
mod models;
mod objects;
mod output;
mod own_bench;
mod planted;
mod probes;
mod profile;
mod profile_diff;
mod push;
mod repeatable;
mod serve;
mod sigkill;
mod sites;
mod soft_limit;
mod top;
mod tune;
mod unwritable;
