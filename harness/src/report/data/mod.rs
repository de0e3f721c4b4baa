//! What a run's directory holds, read back. Nothing else is looked at.
//!
//! Runs that were made by earlier versions lack some files and fields: what is
//! absent is left out of the report, never guessed.

pub(crate) mod bins;
mod curve;
mod intervals;
mod series;
pub(crate) mod summary;
pub(crate) mod time;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use curve::Curve;
pub(crate) use intervals::Intervals;
pub(crate) use series::Line;
pub(crate) use summary::{Phase, Summary};

use crate::failure::Failure;

/// One run.
#[derive(Debug)]
pub(crate) struct RunData {
    pub(crate) dir: PathBuf,
    pub(crate) summary: Summary,
    /// Lines of `series.jsonl`; empty if there is none.
    pub(crate) series: Vec<Line>,
    /// Percentile curves of the measured phase.
    pub(crate) curves: Vec<Curve>,
    /// The text of `run.hlog`.
    pub(crate) intervals: Intervals,
    /// The text of `run.toml`.
    pub(crate) toml: Option<String>,
}

impl RunData {
    /// Reads a run's directory.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        let at = dir.join("summary.json");
        let text = match fs::read_to_string(&at) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
                return Err(Failure::refused(format!(
                    "{} holds no summary.json, so it is no run's directory; name one that gaur run \
                     --out wrote",
                    dir.display()
                )));
            }
            other => other.map_err(|e| Failure::file("read", &at, &e))?,
        };
        let summary = Summary::parse(&text, &at)?;
        let curves = curve::read_all(dir, &summary)?;
        let series = match optional(&dir.join("series.jsonl"))? {
            Some(text) => series::parse(&text, &dir.join("series.jsonl"))?,
            None => Vec::new(),
        };
        let log = dir.join("run.hlog");
        let intervals = Intervals::new(optional(&log)?.unwrap_or_default(), log);
        Ok(Self {
            summary,
            series,
            curves,
            intervals,
            toml: optional(&dir.join("run.toml"))?,
            dir: dir.to_owned(),
        })
    }

    /// The measured phase: the one that ran a mix, else the longest.
    pub(crate) fn measured(&self) -> Option<&Phase> {
        let phases = &self.summary.phases;
        let longest = || phases.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let run = phases.iter().rev().find(|p| p.kind() == "run");
        run.or_else(longest)
    }

    /// The curve of an operation, from the intended or from the real start.
    pub(crate) fn curve(&self, operation: &str, service: bool) -> Option<&Curve> {
        self.curves
            .iter()
            .find(|c| c.operation == operation && c.service == service)
    }
}

/// A file's text, if there is such a file.
fn optional(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::file("read", path, &e)),
    }
}
