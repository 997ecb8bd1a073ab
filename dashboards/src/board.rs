//! A dashboard: its variables, marks, and panels in rows.

use serde_json::{Value, json};

use crate::panel::{Panel, datasource};

/// Columns of Grafana's grid.
pub(crate) const COLUMNS: u32 = 24;
/// The form of JSON that this is: Grafana 11's; later ones take it and carry it on.
const SCHEMA_VERSION: u32 = 39;

/// One dashboard.
#[derive(Debug)]
pub(crate) struct Board {
    /// Its name in addresses, and its file's.
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// The range of time at first, up to now.
    pub from: &'static str,
    pub refresh: &'static str,
    pub variables: Vec<Variable>,
    pub marks: Vec<Mark>,
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

/// What the reader chooses, beside where the data is.
#[derive(Debug)]
pub(crate) struct Variable {
    pub name: &'static str,
    pub label: &'static str,
    /// The label whose values there are to choose from.
    pub of: &'static str,
    /// The series that have it.
    pub series: String,
    pub many: bool,
}

/// Vertical lines at the times that a query gives.
#[derive(Debug)]
pub(crate) struct Mark {
    pub name: &'static str,
    pub color: &'static str,
    pub expr: String,
    pub text: &'static str,
    /// Whether the value is the time, in milliseconds; else there is a mark where there is a value.
    pub value_is_time: bool,
}

impl Variable {
    fn json(&self) -> Value {
        let query = format!("label_values({}, {})", self.series, self.of);
        let mut variable = json!({
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": datasource(),
            "query": { "query": query, "refId": "A" },
            "options": [],
            "multi": self.many,
            "includeAll": self.many,
            "refresh": 2,
            "regex": "",
            "sort": 1,
            "hide": 0,
            "skipUrlSync": false,
        });
        if self.many {
            variable["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
            // Not a list of all: series without the label are shown too.
            variable["allValue"] = json!(".*");
        }
        variable
    }
}

impl Mark {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "datasource": datasource(),
            "enable": true,
            "hide": false,
            "iconColor": self.color,
            "expr": self.expr,
            "step": "60s",
            "titleFormat": self.name,
            "textFormat": self.text,
            "useValueForTime": self.value_is_time,
        })
    }
}

impl Board {
    /// The file.
    pub(crate) fn text(&self) -> String {
        // Of plain values, which can all be written.
        format!("{:#}\n", self.json())
    }

    fn json(&self) -> Value {
        let data = json!({
            "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "options": [],
            "multi": false, "includeAll": false, "refresh": 1, "regex": "", "hide": 0, "skipUrlSync": false,
        });
        let variables: Vec<Value> = [data].into_iter().chain(self.variables.iter().map(Variable::json)).collect();
        let marks: Vec<Value> = self.marks.iter().map(Mark::json).collect();
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["heapgate"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": { "from": self.from, "to": "now" },
            "timepicker": {},
            "refresh": self.refresh,
            "fiscalYearStartMonth": 0,
            "weekStart": "",
            "links": [{
                "type": "dashboards", "title": "heapgate", "tags": ["heapgate"], "asDropdown": false, "icon": "external link",
                "includeVars": false, "keepTime": true, "targetBlank": false, "tooltip": "", "url": "",
            }],
            "annotations": { "list": marks },
            "templating": { "list": variables },
            "panels": self.panels(),
        })
    }

    /// Panels from left to right; one that has no room begins a new line, and a row always does.
    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let mut y = 0;
        for (title, row) in &self.rows {
            panels.push(json!({
                "id": id(&panels), "type": "row", "title": title, "collapsed": false, "panels": [],
                "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
            }));
            y += 1;
            let (mut x, mut line) = (0, 0);
            for panel in row {
                if x + panel.width > COLUMNS {
                    (x, y, line) = (0, y + line, 0);
                }
                panels.push(panel.json(id(&panels), x, y));
                x += panel.width;
                line = line.max(panel.height);
            }
            y += line;
        }
        panels
    }
}

/// A number for the next panel.
fn id(before: &[Value]) -> u32 {
    before.len() as u32 + 1
}
