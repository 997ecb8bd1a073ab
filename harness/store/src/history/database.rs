//! What the store asks of a database.

use super::StoreError;

/// One value of a row or a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

impl Value {
    pub(super) fn int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            _ => 0,
        }
    }

    pub(super) fn real(&self) -> f64 {
        match self {
            Self::Real(value) => *value,
            Self::Int(value) => *value as f64,
            _ => f64::NAN,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(value) => value,
            _ => "",
        }
    }
}

/// A table that takes many rows at once. Its columns are numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub name: &'static str,
    /// Column and whether it is a floating-point number.
    pub columns: &'static [(&'static str, bool)],
}

pub(super) const POINTS: Table = Table {
    name: "points",
    columns: &[("run", false), ("cell", false), ("metric", false), ("rep", false), ("value", true)],
};

pub(super) const MEDIANS: Table = Table {
    name: "medians",
    columns: &[
        ("metric", false),
        ("cell", false),
        ("run", false),
        ("median", true),
        ("min", true),
        ("max", true),
        ("reps", false),
    ],
};

pub(super) const RUN_CELLS: Table = Table { name: "run_cells", columns: &[("cell", false), ("run", false)] };

/// A connection.
pub(super) trait Database {
    /// Begins a transaction in which nobody else writes. Whatever is not committed never was.
    fn begin(&mut self) -> Result<(), StoreError>;

    fn commit(&mut self) -> Result<(), StoreError>;

    fn roll_back(&mut self);

    /// Carries out one statement, and gives its rows.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, StoreError>;

    /// Adds rows to a table.
    fn insert(&mut self, table: Table, rows: &[Vec<Value>]) -> Result<(), StoreError>;
}
