//! The JSON schemas of the files heapgate writes, generated from their types. The copies in `schemas/` are for other
//! programs; a test holds them to these.

use schemars::{JsonSchema, Schema, schema_for};
use serde_json::{Value, json};

use crate::accuracy::{ACCURACY_SCHEMA_VERSION, Accuracy};
use crate::baseline::{BASELINE_SCHEMA_VERSION, Baseline};
use crate::experiment::{FINDINGS_SCHEMA_VERSION, Findings};
use crate::figures::{FIGURES_SCHEMA_VERSION, Figures};
use crate::gate::{VERDICT_SCHEMA_VERSION, Verdict};
use crate::profile::{PROFILE_SCHEMA_VERSION, Profile};
use crate::report::{Report, SCHEMA_VERSION};

/// A schema and the name of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedSchema {
    /// Name of the file in `schemas/`, for instance `report-v1.json`.
    pub file: String,
    /// The schema (JSON Schema, draft 2020-12).
    pub schema: Schema,
}

impl NamedSchema {
    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.schema.as_value())
    }
}

/// All schemas.
#[must_use]
pub fn all() -> Vec<NamedSchema> {
    vec![
        of::<Report>("report", SCHEMA_VERSION),
        of::<Baseline>("baseline", BASELINE_SCHEMA_VERSION),
        of::<Verdict>("verdict", VERDICT_SCHEMA_VERSION),
        of::<Figures>("figures", FIGURES_SCHEMA_VERSION),
        of::<Findings>("experiments", FINDINGS_SCHEMA_VERSION),
        of::<Accuracy>("accuracy", ACCURACY_SCHEMA_VERSION),
        of::<Profile>("profile", PROFILE_SCHEMA_VERSION),
    ]
}

fn of<T: JsonSchema>(name: &str, version: u32) -> NamedSchema {
    let mut schema = schema_for!(T);
    if let Some(field) = schema.pointer_mut("/properties/schema_version").and_then(Value::as_object_mut) {
        field.insert("const".to_owned(), json!(version));
    }
    NamedSchema { file: format!("{name}-v{version}.json"), schema }
}
