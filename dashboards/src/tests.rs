//! Holds what is generated to the catalogues, and the files beside it to what is generated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use heapgate_core::export::RUN_FAMILIES;
use heapgate_core::metric;
use heapgate_prometheus::catalogue::{self, Kind};
use serde_json::Value;

use crate::board::COLUMNS;
use crate::rules::Rule;
use crate::{alerts, boards, files, recording, rollout};

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = place().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rules of all groups.
fn rules() -> Vec<Rule> {
    [recording::group(), rollout::group(), alerts::group()].into_iter().flat_map(|group| group.rules).collect()
}

fn alert_names() -> Vec<&'static str> {
    let name = |rule: &Rule| match rule {
        Rule::Alert(alert) => Some(alert.name),
        Rule::Record(_) => None,
    };
    rules().iter().filter_map(name).collect()
}

/// All dashboards, read again.
fn parsed() -> Vec<(&'static str, Value)> {
    boards::all().iter().map(|board| (board.uid, serde_json::from_str(&board.text()).unwrap())).collect()
}

/// All panels but rows.
fn panels() -> Vec<Value> {
    let all = parsed().into_iter().flat_map(|(_, board)| board["panels"].as_array().unwrap().clone());
    all.filter(|panel| panel["type"] != "row").collect()
}

/// Every query of the dashboards, and its place.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (uid, board) in parsed() {
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                found.push((format!("{uid}: {}", panel["title"]), target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for mark in board["annotations"]["list"].as_array().unwrap() {
            found.push((format!("{uid}: mark {}", mark["name"]), mark["expr"].as_str().unwrap().to_owned()));
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["query"]["query"].as_str() {
                found.push((format!("{uid}: variable {}", variable["name"]), query.to_owned()));
            }
        }
    }
    found
}

/// Every name that a series may have.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for metric in catalogue::ALL.iter().map(|id| id.metric()) {
        match metric.kind {
            Kind::Histogram => known.extend(["_bucket", "_count", "_sum"].map(|part| format!("{}{part}", metric.name))),
            Kind::Counter | Kind::Gauge => {
                known.insert(metric.name.to_owned());
            }
        }
    }
    known.extend(metric::ALL.iter().map(|id| id.metric().prometheus.to_owned()));
    known.extend(RUN_FAMILIES.iter().map(|family| family.name.to_owned()));
    known.extend(rules().iter().filter_map(|rule| match rule {
        Rule::Record(record) => Some(record.name.to_owned()),
        Rule::Alert(_) => None,
    }));
    known
}

/// What could be a name of a metric of ours in a text, outside of quotes.
fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            continue;
        }
        let words = part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        let words = words.map(|word| word.trim_end_matches(':'));
        found.extend(
            words.filter(|word| word.starts_with("heapgate_") || word.starts_with("heapgate:")).map(str::to_owned),
        );
    }
    found
}

#[test]
fn generated_files_are_up_to_date() {
    let bless = env::var_os("HEAPGATE_BLESS").is_some();
    for (path, text) in files() {
        let file = place().join(&path);
        if bless {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        } else {
            assert!(
                fs::read_to_string(&file).is_ok_and(|found| found == text),
                "dashboards/{path} is not what src/ says: HEAPGATE_BLESS=1 cargo test -p heapgate-dashboards"
            );
        }
    }
    let mut found = BTreeSet::new();
    for folder in ["grafana", "prometheus/rules"] {
        for entry in fs::read_dir(place().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.insert(path.strip_prefix(place()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(found, files().into_iter().map(|(path, _)| path).collect(), "and no others");
}

#[test]
fn queries_name_only_metrics_that_there_are() {
    let known = known();
    let mut texts = queries();
    for rule in rules() {
        texts.push(match rule {
            Rule::Record(record) => (record.name.to_owned(), record.expr),
            Rule::Alert(alert) => (alert.name.to_owned(), alert.expr),
        });
    }
    for (place, text) in &texts {
        let names = names(text);
        let own = ["up{", "ALERTS{"].iter().any(|of_prometheus| text.contains(of_prometheus));
        assert!(own || !names.is_empty(), "{place}: {text}");
        for name in names {
            assert!(known.contains(&name), "{place}: no {name}");
        }
    }
    let planted = names("sum(rate(heapgate_stall_seconds_buckets{job=\"heapgate_x\"}[5m]))");
    assert_eq!(planted, ["heapgate_stall_seconds_buckets"]);
    assert!(!known.contains(&planted[0]));
}

#[test]
fn texts_name_only_metrics_that_there_are() {
    let known = known();
    for file in ["README.md", "RUNBOOK.md", "prometheus/tests/alerts.yml", "prometheus/tests/rollout.yml"] {
        let text = read(file).replace('"', " ");
        for name in names(&text) {
            let family = known.contains(&name) || known.contains(&format!("{name}_bucket"));
            assert!(family, "{file}: no {name}");
        }
    }
}

#[test]
fn labels_are_those_that_series_have() {
    let mut known: BTreeSet<&str> = ["job", "instance", "le", "signal", "answer", "baseline", "alertname"].into();
    known.extend(catalogue::PROCESS_LABELS.map(|(name, _)| name));
    known.extend(catalogue::ALL.iter().flat_map(|id| id.metric().labels).map(|label| label.name));
    known.extend(heapgate_core::export::SERIES_LABELS);
    known.extend(["verb", "machine_class", "matrix", "branch", "commit", "push_time_seconds"]);
    let mut seen = 0;
    for (place, query) in queries() {
        let braces = query.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let matched = braces.flat_map(|matchers| matchers.split("\",")).filter_map(|m| m.split(['=', '!']).next());
        let grouped = ["by (", "on (", "without (", "ignoring (", "group_left ("]
            .iter()
            .flat_map(|words| query.split(words).skip(1).filter_map(|rest| rest.split(')').next()))
            .flat_map(|labels| labels.split(','));
        for label in matched.chain(grouped).map(str::trim).filter(|label| !label.is_empty()) {
            assert!(known.contains(label), "{place}: no label {label}: {query}");
            seen += 1;
        }
    }
    for panel in panels() {
        for target in panel["targets"].as_array().unwrap() {
            for label in target["legendFormat"].as_str().unwrap().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                assert!(known.contains(label), "{}: no label {label}", panel["title"]);
            }
        }
    }
    assert!(seen > 500, "only {seen} labels were found");
}

#[test]
fn panels_have_their_own_place_on_the_grid() {
    for (uid, board) in parsed() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{uid}: {}: an id that another has", panel["title"]);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= u64::from(COLUMNS), "{uid}: {}: outside of the grid", panel["title"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{uid}: {} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn every_panel_has_a_description_that_helps_a_unit_and_queries() {
    let mut titles = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        titles.insert(title.to_owned());
        let description = panel["description"].as_str().unwrap();
        assert!(description.len() > 60 && description.ends_with('.'), "{title}: {description}");
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}: no unit");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}: no query");
        // A word without a meaning would be shown as its number.
        let words = panel["fieldConfig"]["defaults"]["unit"] == "none";
        assert_eq!(words, !panel["fieldConfig"]["defaults"]["mappings"].as_array().unwrap().is_empty(), "{title}");
    }
    assert!(titles.len() > 50, "{}", titles.len());
}

#[test]
fn dashboards_have_the_variables_that_their_queries_use() {
    for (uid, board) in parsed() {
        let list = board["templating"]["list"].as_array().unwrap();
        let variables: BTreeSet<&str> = list.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
        assert!(variables.contains("datasource") && variables.contains("job"), "{uid}: {variables:?}");
        let text = board.to_string();
        for used in text.split('$').skip(1) {
            let name: String =
                used.trim_start_matches('{').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            // Grafana's own begin with two underscores; $1 is a rule's.
            let own = name.starts_with("__") || name == "1";
            assert!(own || variables.contains(name.as_str()), "{uid}: no variable {name}");
        }
        for variable in &variables {
            let used =
                text.matches(&format!("${variable}")).count() + text.matches(&format!("${{{variable}}}")).count();
            assert!(used > 0, "{uid}: {variable} is used nowhere");
        }
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook() {
    let runbook = read("RUNBOOK.md");
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("Heapgate"))
        .collect();
    assert_eq!(sections, alert_names().into_iter().collect(), "sections of the runbook, and alerts");
    for section in runbook.split("\n## ").skip(1).filter(|text| text.starts_with("Heapgate")) {
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(section.contains(part), "no {part} in {}", section.lines().next().unwrap());
        }
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to() {
    let tests = read("prometheus/tests/alerts.yml") + &read("prometheus/tests/rollout.yml");
    for alert in alert_names() {
        let cases: Vec<&str> =
            tests.split("alertname: ").skip(1).filter(|case| case.lines().next().unwrap().trim() == alert).collect();
        let quiet =
            cases.iter().filter(|case| case.lines().nth(1).is_some_and(|line| line.trim() == "exp_alerts: []")).count();
        assert!(quiet > 0 && cases.len() > quiet, "{alert}: {} cases, {quiet} of them quiet", cases.len());
    }
}

#[test]
fn every_recorded_series_is_used() {
    let mut uses: Vec<String> = queries().into_iter().flat_map(|(_, query)| names(&query)).collect();
    for rule in rules() {
        let expr = match rule {
            Rule::Record(record) => record.expr,
            Rule::Alert(alert) => alert.expr,
        };
        uses.extend(names(&expr));
    }
    for rule in rules() {
        if let Rule::Record(record) = rule {
            assert!(uses.iter().any(|name| name == record.name), "{} is used nowhere", record.name);
        }
    }
}
