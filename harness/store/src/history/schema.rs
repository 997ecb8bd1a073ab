//! The tables, and the SQL that both databases take.
//!
//! Placeholders are `$1`, `$2`, …; numbers are 64 bits wide. `runs.seq` counts runs in the order in which they were
//! appended: a clock that jumps reorders nothing.

/// The version of the tables. Raised by every change that an older heapgate would misread.
pub const SCHEMA_VERSION: i64 = 1;

/// The tables. `{key}` is the database's 64-bit key, `{packed}` what keeps a table in the order of its primary key.
const TABLES: [&str; 6] = [
    r#"CREATE TABLE runs (
        seq {key} PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_unix_s BIGINT NOT NULL, appended_unix_s BIGINT NOT NULL,
        purpose TEXT NOT NULL, decision TEXT, complete BIGINT NOT NULL, class TEXT NOT NULL, "commit" TEXT NOT NULL,
        build TEXT NOT NULL, machine TEXT NOT NULL)"#,
    "CREATE INDEX runs_by_class ON runs (class, seq)",
    "CREATE TABLE cells (
        id {key} PRIMARY KEY, key TEXT NOT NULL UNIQUE, workload TEXT NOT NULL, variant TEXT NOT NULL,
        allocator TEXT NOT NULL, level TEXT NOT NULL, unit TEXT NOT NULL, cell TEXT NOT NULL)",
    "CREATE TABLE metrics (id {key} PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    // By run and cell: what `gate --from-history` asks for.
    "CREATE TABLE points (
        run BIGINT NOT NULL REFERENCES runs, cell BIGINT NOT NULL REFERENCES cells,
        metric BIGINT NOT NULL REFERENCES metrics, rep BIGINT NOT NULL, value DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (run, cell, metric, rep)){packed}",
    // By metric and cell: what `history METRIC` asks for.
    "CREATE TABLE medians (
        metric BIGINT NOT NULL REFERENCES metrics, cell BIGINT NOT NULL REFERENCES cells,
        run BIGINT NOT NULL REFERENCES runs, median DOUBLE PRECISION NOT NULL, min DOUBLE PRECISION NOT NULL,
        max DOUBLE PRECISION NOT NULL, reps BIGINT NOT NULL, PRIMARY KEY (metric, cell, run)){packed}",
];

/// Which runs have which cells, newest first in its index.
const RUN_CELLS: &str = "CREATE TABLE run_cells (
        cell BIGINT NOT NULL REFERENCES cells, run BIGINT NOT NULL REFERENCES runs, PRIMARY KEY (cell, run)){packed}";

/// The statements that make all tables.
pub(super) fn tables(key: &str, packed: &str) -> String {
    let all = TABLES.iter().chain([&RUN_CELLS]);
    all.map(|table| table.replace("{key}", key).replace("{packed}", packed) + ";\n").collect()
}

pub(super) const RUN_OF_ID: &str = "SELECT seq FROM runs WHERE id = $1";

pub(super) const NEXT_RUN: &str = "SELECT COALESCE(MAX(seq), 0) + 1 FROM runs";

pub(super) const INSERT_RUN: &str = r#"INSERT INTO runs
    (seq, id, created_unix_s, appended_unix_s, purpose, decision, complete, class, "commit", build, machine)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"#;

pub(super) const CELL_OF_KEY: &str = "SELECT id FROM cells WHERE key = $1";

pub(super) const INSERT_CELL: &str = "INSERT INTO cells (id, key, workload, variant, allocator, level, unit, cell)
    VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM cells), $1, $2, $3, $4, $5, $6, $7) RETURNING id";

pub(super) const METRICS: &str = "SELECT id, name FROM metrics";

pub(super) const INSERT_METRIC: &str =
    "INSERT INTO metrics (id, name) VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM metrics), $1) RETURNING id";

pub(super) const CELLS: &str = "SELECT id, cell, level, unit FROM cells
    WHERE (CAST($1 AS TEXT) IS NULL OR workload = $1) AND (CAST($2 AS TEXT) IS NULL OR variant = $2)
    AND (CAST($3 AS TEXT) IS NULL OR allocator = $3) ORDER BY workload, variant, allocator, id";

pub(super) const RUNS: &str = r#"SELECT seq, id, created_unix_s, "commit", class FROM runs
    WHERE (CAST($1 AS TEXT) IS NULL OR class = $1) AND created_unix_s >= $2 ORDER BY seq"#;

pub(super) const MEDIANS: &str = "SELECT cell, run, median, min, max, reps FROM medians
    WHERE metric = (SELECT id FROM metrics WHERE name = $1) ORDER BY cell, run";

pub(super) const MEDIANS_OF_CELL: &str = "SELECT cell, run, median, min, max, reps FROM medians
    WHERE metric = (SELECT id FROM metrics WHERE name = $1) AND cell = $2 ORDER BY run";

/// The newest runs that may be a baseline: complete, and not ones that the gate failed.
pub(super) const LAST_RUNS: &str = r#"SELECT r.seq, r.id, r.created_unix_s, r."commit", r.class
    FROM run_cells k JOIN runs r ON r.seq = k.run
    WHERE k.cell = (SELECT id FROM cells WHERE key = $1) AND r.class = $2 AND r.id <> $3
    AND r.complete = 1 AND (r.decision IS NULL OR r.decision <> 'fail') ORDER BY k.run DESC LIMIT $4"#;

/// The repetitions of one cell in some runs, whose numbers are put in the place of `{runs}`.
pub(super) const POINTS: &str = "SELECT p.run, m.name, p.value FROM points p JOIN metrics m ON m.id = p.metric
    WHERE p.cell = (SELECT id FROM cells WHERE key = $1) AND p.run IN ({runs}) ORDER BY p.run, p.metric, p.rep";

pub(super) const COUNTS: &str = "SELECT class, COUNT(*), MIN(created_unix_s), MAX(created_unix_s) FROM runs
    GROUP BY class ORDER BY class";
