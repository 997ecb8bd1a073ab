//! `heapgate list`

use clap::{Args, ValueEnum};
use heapgate_bench::Base;
use heapgate_core::exit;
use heapgate_core::metric;
use heapgate_core::render::export::Format;
use heapgate_core::render::{self, hanging};
use heapgate_workloads::variants;
use serde_json::json;

use super::{Global, print};
use crate::fail::Failure;

/// List workloads, allocators, metrics or export formats
#[derive(Debug, Args)]
pub struct List {
    /// What to list [default: all]
    #[arg(value_enum)]
    what: Option<What>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// What can be run, with its parameters
    Workloads,
    /// What it can be run under
    Allocators,
    /// What is measured, and its limits
    Metrics,
    /// What `--export` can write
    Formats,
}

impl List {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let wanted = |what| self.what.is_none_or(|only| only == what);
        if self.json {
            let mut all = serde_json::Map::new();
            for (what, name, list) in [
                (What::Workloads, "workloads", workloads_json as fn() -> serde_json::Value),
                (What::Allocators, "allocators", allocators_json),
                (What::Metrics, "metrics", metrics_json),
                (What::Formats, "formats", formats_json),
            ] {
                if wanted(what) {
                    all.insert(name.to_owned(), list());
                }
            }
            print(&serde_json::to_string_pretty(&all)?)?;
            return Ok(exit::PASS);
        }
        let width = global.options(false).width;
        let mut parts = Vec::new();
        if wanted(What::Workloads) {
            parts.push(workloads(width));
        }
        if wanted(What::Allocators) {
            parts.push(allocators(width));
        }
        if wanted(What::Metrics) {
            parts.push(render::list::render(&global.config()?, global.options(false)));
        }
        if wanted(What::Formats) {
            parts.push(formats(width));
        }
        print(&parts.join("\n"))?;
        Ok(exit::PASS)
    }
}

/// What stands before lines that say more of the one above.
const BELOW: &str = "      ";

fn workloads(width: usize) -> String {
    let mut text = String::from("Workloads\n");
    let all = variants();
    for of_one in all.chunk_by(|a, b| a.workload == b.workload) {
        let mut params = Vec::new();
        for variant in of_one {
            let by_name = if variant.by_default { "" } else { ", by name only" };
            text.push_str(&format!("  {}/{}  (per {}{by_name})\n", variant.workload, variant.name, variant.unit));
            text.push_str(&hanging(BELOW, variant.about, width));
            params.extend(variant.params.iter().filter(|param| !params.contains(param)).collect::<Vec<_>>());
        }
        for param in params {
            let choices =
                if param.choices.is_empty() { String::new() } else { format!(" ({})", param.choices.join(", ")) };
            text.push_str(&format!("    --param {}={}\n", param.name, param.default));
            text.push_str(&hanging(BELOW, &format!("{}{choices}", param.help), width));
        }
    }
    text
}

fn workloads_json() -> serde_json::Value {
    let param = |p: &heapgate_bench::ParamSpec| json!({"name": p.name, "default": p.default, "choices": p.choices, "help": p.help});
    variants()
        .iter()
        .map(|v| {
            json!({
                "workload": v.workload, "variant": v.name, "unit": v.unit, "about": v.about,
                "params": v.params.iter().map(param).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn allocators(width: usize) -> String {
    let mut text = String::from("Allocators\n");
    for base in Base::ALL {
        text.push_str(&hanging(&format!("  {:<14} ", base.name()), base.about(), width));
    }
    text
}

fn allocators_json() -> serde_json::Value {
    Base::ALL.iter().map(|b| json!({"name": b.name(), "about": b.about()})).collect()
}

fn metrics_json() -> serde_json::Value {
    metric::ALL
        .iter()
        .map(|m| m.metric())
        .map(|m| {
            json!({
                "name": m.name, "unit": format!("{:?}", m.unit), "better": format!("{:?}", m.better), "kind": format!("{:?}", m.kind),
                "soft_limit": m.limits.soft, "hard_limit": m.limits.hard, "prometheus": m.prometheus, "help": m.help,
            })
        })
        .collect()
}

fn formats(width: usize) -> String {
    let mut text = String::from("Formats\n");
    for format in Format::ALL {
        text.push_str(&hanging(&format!("  {format:<16} "), format.help(), width));
    }
    text
}

fn formats_json() -> serde_json::Value {
    let one = |f: &Format| json!({"name": f.name(), "extension": f.extension(), "about": f.help()});
    Format::ALL.iter().map(one).collect()
}
