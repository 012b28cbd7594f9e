//! What was found, in its forms: a table, JSON, a page, and two results compared.

pub(super) mod compare;
mod html;
mod json;
mod page_charts;
mod svg;
mod table;
mod text;

use std::path::Path;
use std::time::Duration;

use super::environment::Environment;
use super::figures::{Row, Scaling};
use crate::failure::Failure;

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) environment: Environment,
    /// Milliseconds since 1970.
    pub(crate) begun_ms: i64,
    pub(crate) time: Duration,
    pub(crate) rows: Vec<Row>,
    pub(crate) scaling: Vec<Scaling>,
    /// It was interrupted, or failed.
    pub(crate) partial: bool,
    pub(crate) peak_anonymous_bytes: Option<u64>,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        table::render(self)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json::render(self)
    }

    pub(crate) fn html(&self) -> String {
        html::render(self)
    }
}

/// Writes a whole file, or says why not.
pub(crate) fn write_file(path: &Path, contents: &str) -> Result<(), Failure> {
    std::fs::write(path, contents).map_err(|error| Failure::new(format!("could not write {}: {error}", path.display())))
}
