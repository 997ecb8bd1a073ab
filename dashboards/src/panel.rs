//! One panel, and how Grafana's JSON has it.

use serde_json::{Value, json};

/// What a panel's values are in: Grafana's name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    BytesPerSecond,
    /// A plain number.
    Count,
    PerSecond,
    /// Of 1, shown as a percentage.
    Share,
    /// A number that stands for a word: [`Panel::words`].
    Word,
}

impl Unit {
    const fn grafana(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "binBps",
            Self::Count => "short",
            Self::PerSecond => "cps",
            Self::Share => "percentunit",
            Self::Word => "none",
        }
    }
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lines over time.
    Lines,
    /// The same, with a logarithmic axis: what spans decades.
    LogLines,
    /// Areas on top of each other: parts of a whole.
    Stack,
    /// The last value, large.
    Stat,
    /// Buckets of a histogram over time.
    Heatmap,
    /// Words over time.
    States,
    /// One row for each series of the first query, one column for each query.
    Table,
}

/// One query of a panel.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Name of its series, with `{{label}}`; in a table, of its column.
    pub legend: String,
    pub expr: String,
}

/// One panel. A description says what is shown and what to do when it looks bad.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub title: String,
    pub description: String,
    pub kind: Kind,
    pub unit: Unit,
    pub queries: Vec<Query>,
    /// Columns, of 24.
    pub width: u32,
    pub height: u32,
    /// From which value on it is bad.
    bad_from: Option<f64>,
    /// Values that stand for words, with their colours.
    words: &'static [(u32, &'static str, &'static str)],
}

const GREEN: &str = "green";
const RED: &str = "red";

impl Panel {
    pub(crate) fn new(kind: Kind, unit: Unit, title: impl Into<String>, description: impl Into<String>) -> Self {
        let (width, height) = match kind {
            Kind::Stat => (4, 4),
            Kind::Table => (24, 9),
            Kind::States => (24, 6),
            Kind::Heatmap | Kind::Lines | Kind::LogLines | Kind::Stack => (12, 8),
        };
        Self {
            title: title.into(),
            description: description.into(),
            kind,
            unit,
            queries: Vec::new(),
            width,
            height,
            bad_from: None,
            words: &[],
        }
    }

    pub(crate) fn query(mut self, legend: impl Into<String>, expr: impl Into<String>) -> Self {
        self.queries.push(Query { legend: legend.into(), expr: expr.into() });
        self
    }

    pub(crate) fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    /// Red from here on.
    pub(crate) fn bad_from(mut self, value: f64) -> Self {
        self.bad_from = Some(value);
        self
    }

    pub(crate) fn words(mut self, words: &'static [(u32, &'static str, &'static str)]) -> Self {
        self.words = words;
        self
    }

    /// As Grafana has it, at a place of the grid.
    pub(crate) fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let mut panel = json!({
            "id": id,
            "type": self.grafana_type(),
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": { "h": self.height, "w": self.width, "x": x, "y": y },
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "options": self.options(),
            "targets": self.targets(),
        });
        if self.kind == Kind::Table {
            panel["transformations"] = self.columns();
        }
        panel
    }

    const fn grafana_type(&self) -> &'static str {
        match self.kind {
            Kind::Lines | Kind::LogLines | Kind::Stack => "timeseries",
            Kind::Stat => "stat",
            Kind::Heatmap => "heatmap",
            Kind::States => "state-timeline",
            Kind::Table => "table",
        }
    }

    fn defaults(&self) -> Value {
        let mut steps = vec![json!({ "color": GREEN, "value": null })];
        steps.extend(self.bad_from.map(|value| json!({ "color": RED, "value": value })));
        let words = self.words.iter().enumerate().map(|(index, (value, word, color))| {
            (value.to_string(), json!({ "text": word, "color": color, "index": index }))
        });
        let mappings = match self.words {
            [] => json!([]),
            _ => json!([{ "type": "value", "options": words.collect::<serde_json::Map<_, _>>() }]),
        };
        let mut defaults = json!({
            "unit": self.unit.grafana(),
            "mappings": mappings,
            "thresholds": { "mode": "absolute", "steps": steps },
        });
        let custom = self.custom();
        if !custom.is_null() {
            defaults["custom"] = custom;
        }
        defaults
    }

    fn custom(&self) -> Value {
        let lines = |fill: u32, stacking: &str, scale: Value| {
            json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": fill,
                "showPoints": "auto",
                "stacking": { "mode": stacking, "group": "A" },
                "scaleDistribution": scale,
                "thresholdsStyle": { "mode": if self.bad_from.is_some() { "line" } else { "off" } },
            })
        };
        match self.kind {
            Kind::Lines => lines(0, "none", json!({ "type": "linear" })),
            Kind::LogLines => lines(0, "none", json!({ "type": "log", "log": 10 })),
            Kind::Stack => lines(60, "normal", json!({ "type": "linear" })),
            Kind::States => json!({ "fillOpacity": 70, "lineWidth": 0 }),
            Kind::Heatmap => json!({ "scaleDistribution": { "type": "linear" } }),
            Kind::Stat | Kind::Table => Value::Null,
        }
    }

    fn options(&self) -> Value {
        let legend = json!({ "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] });
        let tooltip = json!({ "mode": "multi", "sort": "desc" });
        match self.kind {
            Kind::Lines | Kind::LogLines | Kind::Stack => json!({ "legend": legend, "tooltip": tooltip }),
            Kind::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "orientation": "auto",
                "textMode": "auto",
                "wideLayout": true,
                "colorMode": "value",
                "graphMode": if self.unit == Unit::Word { "none" } else { "area" },
                "justifyMode": "auto",
                "showPercentChange": false,
                "percentChangeColorMode": "standard",
            }),
            Kind::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "cellValues": { "unit": "short" },
                "color": { "mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "scale": "exponential", "exponent": 0.5,
                    "steps": 64, "reverse": false },
                "exemplars": { "color": "rgba(255,0,255,0.7)" },
                "filterValues": { "le": 1e-9 },
                "legend": { "show": true },
                "rowsFrame": { "layout": "auto" },
                "showValue": "never",
                "tooltip": { "mode": "single", "yHistogram": false, "showColorScale": false },
                "yAxis": { "axisPlacement": "left", "reverse": false, "unit": self.unit.grafana() },
            }),
            Kind::States => json!({
                "alignValue": "left", "mergeValues": true, "rowHeight": 0.9, "showValue": "auto",
                "legend": legend, "tooltip": { "mode": "single", "sort": "none" },
            }),
            Kind::Table => json!({ "frameIndex": 0, "showHeader": true, "cellHeight": "sm" }),
        }
    }

    fn targets(&self) -> Value {
        let targets = self.queries.iter().enumerate().map(|(index, query)| {
            let instant = self.kind == Kind::Table;
            let format = match self.kind {
                Kind::Heatmap => "heatmap",
                Kind::Table => "table",
                _ => "time_series",
            };
            json!({
                "refId": letter(index),
                "datasource": datasource(),
                "editorMode": "code",
                "expr": query.expr,
                "format": format,
                "instant": instant,
                "range": !instant,
                "legendFormat": query.legend,
            })
        });
        targets.collect()
    }

    /// One table of all queries, with columns named by them.
    fn columns(&self) -> Value {
        let names = self.queries.iter().enumerate().map(|(index, query)| {
            // Of a single query Grafana names the column without its letter.
            let column = if self.queries.len() == 1 { "Value".to_owned() } else { format!("Value #{}", letter(index)) };
            (column, json!(query.legend))
        });
        json!([
            { "id": "merge", "options": {} },
            { "id": "organize", "options": {
                "excludeByName": { "Time": true },
                "indexByName": {},
                "renameByName": names.collect::<serde_json::Map<_, _>>(),
            } },
        ])
    }
}

/// The one that the reader chose.
pub(crate) fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn letter(index: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char::from(LETTERS[index]).to_string()
}
