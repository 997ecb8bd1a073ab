//! What the command line says of itself.

use crate::common::Place;

fn shown(arguments: &str) -> String {
    Place::new().run(arguments).ends_with(0).stdout
}

/// One snapshot each, named after the verb.
macro_rules! snapshots {
    ($($name:ident: $arguments:literal)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(shown($arguments));
        }
    )*};
}

snapshots! {
    help: "--help"
    run_help: "run --help"
    gate_help: "gate --help"
    ab_help: "ab --help"
    diff_help: "diff --help"
    merge_help: "merge --help"
    report_help: "report --help"
    baseline_help: "baseline --help"
    baseline_record_help: "baseline record --help"
    baseline_promote_help: "baseline promote --help"
    baseline_list_help: "baseline list --help"
    history_help: "history --help"
    baseline_check_help: "baseline check --help"
    baseline_prune_help: "baseline prune --help"
    list_help: "list --help"
    budget_check_help: "budget check --help"
    profile_help: "profile --help"
    top_help: "top --help"
    leaks_help: "leaks --help"
    experiment_help: "experiment --help"
    trace_help: "trace --help"
    tune_help: "tune --help"
    serve_help: "serve --help"
    list: "list"
}

/// The help of `profile` in its document, between the fences behind this line.
#[test]
fn docs_profile_has_the_help_of_now() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/profile.md");
    let text = std::fs::read_to_string(&path).expect("docs/profile.md");
    let fence = "<!-- `heapgate profile --help`: begin -->\n```text\n";
    let (before, rest) = text.split_once(fence).expect("the begin of the help");
    let (found, after) = rest.split_once("```\n").expect("the end of the help");
    let expected = shown("profile --help");
    if std::env::var_os("HEAPGATE_BLESS").is_some() {
        return std::fs::write(path, format!("{before}{fence}{expected}```\n{after}")).expect("written");
    }
    assert!(found == expected, "docs/profile.md has another help; HEAPGATE_BLESS=1 writes it again");
}

#[test]
fn hidden_verbs_are_not_in_the_help() {
    let help = shown("--help");
    assert!(!help.contains("trial  ") && !help.contains("probe"), "{help}");
}

#[test]
fn lists_as_json_have_these_members() {
    let list: serde_json::Value = serde_json::from_str(&shown("list --json")).expect("JSON");
    let members = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    insta::assert_snapshot!(
        ["workloads", "allocators", "metrics", "formats"]
            .map(|name| format!("{name}: {}", members(&list[name][0]).join(", ")))
            .join("\n")
    );
    assert_eq!(members(&list), ["allocators", "formats", "metrics", "workloads"]);
}

#[test]
fn a_part_of_the_list_is_listed_alone() {
    for part in ["workloads", "allocators", "metrics", "formats"] {
        let list: serde_json::Value = serde_json::from_str(&shown(&format!("list {part} --json"))).expect("JSON");
        assert_eq!(list.as_object().expect("an object").keys().collect::<Vec<_>>(), [part]);
    }
}

#[test]
fn limits_of_the_settings_are_in_the_list() {
    let place = Place::new();
    place.write("heapgate.toml", "[limits]\npeak_rss_bytes = { soft = \"3%\", hard = \"700 MiB\" }\n");
    let list = place.run("list metrics").ends_with(0).stdout;
    let line = list.lines().find(|line| line.starts_with("peak_rss_bytes")).expect("listed");
    assert!(line.contains("3%") && line.contains("700 MiB"), "{line}");
}

#[test]
fn the_list_fits_80_columns() {
    for line in shown("list").lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn every_verb_is_in_the_help() {
    let help = shown("--help");
    for verb in ["run", "gate", "diff", "merge", "report", "baseline", "list", "leaks"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{verb}  "))), "{verb}");
    }
}
