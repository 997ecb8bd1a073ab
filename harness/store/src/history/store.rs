//! All that is done with a history, whatever the database.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use heapgate_core::history::{History, Place, RunInfo, Series, SeriesPoint};
use heapgate_core::metric::MetricId;
use heapgate_core::report::{Cell, Report};
use heapgate_core::stats::sample;

use super::database::{self, Database, Value};
use super::model::{self, Run};
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{StoreError, schema};

/// From here on a metric's figures are read for all cells at once, rather than by a statement for each.
const FEW_CELLS: usize = 8;

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To look something up: one that isn't there is an error.
    Read,
    /// To append: one that isn't there is made.
    Append,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is the run of this number.
    New(u64),
    /// It was there already, as the run of this number.
    Already(u64),
}

/// Which series are asked for: all that nothing here excludes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesQuery {
    /// The metric.
    pub metric: MetricId,
    /// Only of this workload.
    pub workload: Option<String>,
    /// Only of this variant.
    pub variant: Option<String>,
    /// Only under this allocator.
    pub allocator: Option<String>,
    /// Only on this class of machines.
    pub class: Option<String>,
    /// Only runs that began then or later, by their own clocks.
    pub since_unix_s: Option<u64>,
    /// Only so many runs of each series, the last ones.
    pub last: Option<usize>,
}

impl SeriesQuery {
    /// All there is of `metric`.
    #[must_use]
    pub fn all(metric: MetricId) -> Self {
        Self { metric, workload: None, variant: None, allocator: None, class: None, since_unix_s: None, last: None }
    }
}

/// Which runs are asked for, to compare another one with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRuns {
    /// Class of the machines.
    pub class: String,
    /// Cells with their level of telemetry and unit of work.
    pub cells: Vec<(Cell, String, String)>,
    /// How many runs of each cell, at most.
    pub count: usize,
    /// The run that is compared with them, which may be in the history already.
    pub except: String,
}

impl LastRuns {
    /// The last `count` runs before `report`: of its machine's class, with the same cells at the same level.
    #[must_use]
    pub fn before(report: &Report, count: usize) -> Self {
        let cells = report.cells();
        Self {
            class: report.fingerprint.machine.class(),
            cells: cells.iter().map(|c| (c.cell.clone(), c.level().to_owned(), c.unit().to_owned())).collect(),
            count,
            except: model::id_of(report),
        }
    }
}

/// The runs of one class of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassInfo {
    /// The class.
    pub class: String,
    /// How many runs.
    pub runs: u64,
    /// When the first began, seconds since 1970, by the clocks of the machines.
    pub first_unix_s: u64,
    /// When the last began.
    pub last_unix_s: u64,
}

/// A history that is open.
pub struct Store {
    database: Box<dyn Database>,
    place: String,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the history at `place`.
    ///
    /// # Errors
    /// If there is none, it is of another version or another program, or can't be reached.
    pub fn open(place: &Place, mode: Mode) -> Result<Self, StoreError> {
        let database: Box<dyn Database> = match place {
            Place::Off => return Err(StoreError::Off),
            Place::Sqlite(path) => Box::new(Sqlite::open(path, mode)?),
            Place::Postgres(url) => Box::new(Postgres::open(url, mode)?),
        };
        Ok(Self { database, place: place.to_string() })
    }

    /// Appends a run, whole or not at all. One that is there already stays as it is.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn append(&mut self, run: &Run) -> Result<Appended, StoreError> {
        self.database.begin()?;
        let result = self.append_begun(run);
        match &result {
            Ok(Appended::New(_)) => self.database.commit()?,
            Ok(Appended::Already(_)) | Err(_) => self.database.roll_back(),
        }
        result
    }

    /// Appends many runs in one transaction: all or none.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn append_all<'a>(&mut self, runs: impl IntoIterator<Item = &'a Run>) -> Result<Vec<Appended>, StoreError> {
        self.database.begin()?;
        let result = runs.into_iter().map(|run| self.append_begun(run)).collect();
        match &result {
            Ok(_) => self.database.commit()?,
            Err(_) => self.database.roll_back(),
        }
        result
    }

    fn append_begun(&mut self, run: &Run) -> Result<Appended, StoreError> {
        let found = self.database.query(schema::RUN_OF_ID, &[run.id.as_str().into()])?;
        if let Some(row) = found.first() {
            return Ok(Appended::Already(row[0].int() as u64));
        }
        let seq = first(&self.database.query(schema::NEXT_RUN, &[])?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let json = |error| StoreError::Json { place: self.place.clone(), what: "a run", source: error };
        let values = [
            seq.into(),
            run.id.as_str().into(),
            integer(run.unix_s).into(),
            integer(now).into(),
            run.purpose.name().into(),
            run.decision.as_deref().into(),
            i64::from(run.complete).into(),
            run.machine.class().as_str().into(),
            run.build.commit.as_str().into(),
            serde_json::to_string(&run.build).map_err(json)?.as_str().into(),
            serde_json::to_string(&run.machine).map_err(json)?.as_str().into(),
        ];
        self.database.query(schema::INSERT_RUN, &values)?;
        let mut metrics = self.metrics()?;
        let (mut points, mut medians, mut run_cells) = (Vec::new(), Vec::new(), Vec::new());
        for of_cell in &run.cells {
            let cell = self.cell(&of_cell.cell, &of_cell.level, &of_cell.unit)?;
            run_cells.push(vec![cell.into(), seq.into()]);
            for (&metric, values) in &of_cell.metrics {
                let metric = self.metric(&mut metrics, metric)?;
                let all: Vec<f64> = values.iter().map(|v| v.1).collect();
                let Some(median) = sample::median(&all) else { continue };
                let (min, max) = extremes(&all);
                let row = [metric.into(), cell.into(), seq.into(), median.into(), min.into(), max.into()];
                medians.push(row.into_iter().chain([integer(all.len() as u64).into()]).collect());
                points.extend(values.iter().map(|&(rep, value)| {
                    vec![seq.into(), cell.into(), metric.into(), i64::from(rep).into(), value.into()]
                }));
            }
        }
        self.database.insert(database::RUN_CELLS, &run_cells)?;
        self.database.insert(database::MEDIANS, &medians)?;
        self.database.insert(database::POINTS, &points)?;
        Ok(Appended::New(seq as u64))
    }

    /// The numbers of the metrics that are in the store.
    fn metrics(&mut self) -> Result<HashMap<String, i64>, StoreError> {
        let rows = self.database.query(schema::METRICS, &[])?;
        Ok(rows.iter().map(|row| (row[1].text().to_owned(), row[0].int())).collect())
    }

    fn metric(&mut self, known: &mut HashMap<String, i64>, metric: MetricId) -> Result<i64, StoreError> {
        let name = metric.metric().name;
        if let Some(&id) = known.get(name) {
            return Ok(id);
        }
        let id = first(&self.database.query(schema::INSERT_METRIC, &[name.into()])?);
        known.insert(name.to_owned(), id);
        Ok(id)
    }

    fn cell(&mut self, cell: &Cell, level: &str, unit: &str) -> Result<i64, StoreError> {
        let key = model::cell_key(cell, level, unit);
        let found = self.database.query(schema::CELL_OF_KEY, &[key.as_str().into()])?;
        if !found.is_empty() {
            return Ok(first(&found));
        }
        let json = serde_json::to_string(cell).map_err(|source| StoreError::Json {
            place: self.place.clone(),
            what: "a cell",
            source,
        })?;
        let texts = [&key, &cell.workload, &cell.variant, &cell.allocator, level, unit, &json];
        Ok(first(&self.database.query(schema::INSERT_CELL, &texts.map(Value::from))?))
    }

    /// The series that `query` asks for, by cell and class, each in the order in which runs were appended.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn series(&mut self, query: &SeriesQuery) -> Result<Vec<Series>, StoreError> {
        let filters = [&query.workload, &query.variant, &query.allocator].map(|text| Value::from(text.as_deref()));
        let cells = self.database.query(schema::CELLS, &filters)?;
        let since = Value::Int(query.since_unix_s.map_or(i64::MIN, integer));
        let runs = self.database.query(schema::RUNS, &[query.class.as_deref().into(), since])?;
        let runs: HashMap<i64, RunInfo> = runs.iter().map(|row| (row[0].int(), run_info(row))).collect();
        let metric = Value::from(query.metric.metric().name);
        let mut rows = Vec::new();
        if cells.len() <= FEW_CELLS {
            for cell in &cells {
                rows.extend(self.database.query(schema::MEDIANS_OF_CELL, &[metric.clone(), cell[0].clone()])?);
            }
        } else {
            rows = self.database.query(schema::MEDIANS, &[metric])?;
        }
        let mut points: HashMap<(i64, &str), Vec<SeriesPoint>> = HashMap::new();
        for row in &rows {
            let Some(run) = runs.get(&row[1].int()) else { continue };
            points.entry((row[0].int(), &run.class)).or_default().push(SeriesPoint {
                run: run.clone(),
                median: row[2].real(),
                min: row[3].real(),
                max: row[4].real(),
                reps: row[5].int() as u32,
            });
        }
        let mut classes: Vec<&str> = runs.values().map(|run| run.class.as_str()).collect();
        classes.sort_unstable();
        classes.dedup();
        let mut all = Vec::new();
        for row in &cells {
            let cell: Cell = serde_json::from_str(row[1].text()).map_err(|source| StoreError::Json {
                place: self.place.clone(),
                what: "a cell",
                source,
            })?;
            for &class in &classes {
                let Some(mut points) = points.remove(&(row[0].int(), class)) else { continue };
                points.drain(..points.len().saturating_sub(query.last.unwrap_or(usize::MAX)));
                all.push(Series {
                    cell: cell.clone(),
                    level: row[2].text().to_owned(),
                    unit: row[3].text().to_owned(),
                    class: class.to_owned(),
                    metric: query.metric,
                    points,
                    changes: Vec::new(),
                });
            }
        }
        all.sort_by(|a, b| (&a.cell, &a.class, &a.level).cmp(&(&b.cell, &b.class, &b.level)));
        Ok(all)
    }

    /// The runs that `query` asks for, as a baseline. Runs that were cut off, and those that a gate failed, are none.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn last_runs(&mut self, query: &LastRuns) -> Result<History, StoreError> {
        let mut runs: BTreeMap<i64, RunInfo> = BTreeMap::new();
        let mut history = History::default();
        for (cell, level, unit) in &query.cells {
            let key = model::cell_key(cell, level, unit);
            let count = integer(query.count as u64);
            let values = [key.as_str().into(), query.class.as_str().into(), query.except.as_str().into(), count.into()];
            let found = self.database.query(schema::LAST_RUNS, &values)?;
            if found.is_empty() {
                continue;
            }
            let numbers: Vec<String> = found.iter().map(|row| row[0].int().to_string()).collect();
            runs.extend(found.iter().map(|row| (row[0].int(), run_info(row))));
            let sequences = found.iter().rev().map(|row| row[0].int() as u64).collect();
            history.sequences.insert(cell.clone(), sequences);
            let sql = schema::POINTS.replace("{runs}", &numbers.join(", "));
            let points = self.database.query(&sql, &[key.as_str().into()])?;
            for of_one in points.chunk_by(|a, b| a[0] == b[0] && a[1] == b[1]) {
                // A newer heapgate may know metrics that this one doesn't.
                let Ok(metric) = of_one[0][1].text().parse::<MetricId>() else { continue };
                let values: Vec<f64> = of_one.iter().map(|row| row[2].real()).collect();
                let Some(median) = sample::median(&values) else { continue };
                history.cells.entry(cell.clone()).or_default().entry(metric).or_default().push(median);
                history.repetitions.entry(cell.clone()).or_default().entry(metric).or_default().push(values);
            }
        }
        history.runs = runs.into_values().collect();
        Ok(history)
    }

    /// The classes of machines that have runs.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn classes(&mut self) -> Result<Vec<ClassInfo>, StoreError> {
        let rows = self.database.query(schema::COUNTS, &[])?;
        let info = |row: &Vec<Value>| ClassInfo {
            class: row[0].text().to_owned(),
            runs: row[1].int() as u64,
            first_unix_s: row[2].int() as u64,
            last_unix_s: row[3].int() as u64,
        };
        Ok(rows.iter().map(info).collect())
    }
}

fn first(rows: &[Vec<Value>]) -> i64 {
    rows.first().and_then(|row| row.first()).map_or(0, Value::int)
}

/// Databases have signed numbers; nothing here reaches half of them.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn run_info(row: &[Value]) -> RunInfo {
    RunInfo {
        sequence: row[0].int() as u64,
        id: row[1].text().to_owned(),
        unix_s: row[2].int() as u64,
        commit: row[3].text().to_owned(),
        class: row[4].text().to_owned(),
    }
}

fn extremes(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}
