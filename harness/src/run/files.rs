//! The files of a run: `.hgrm` histograms, `summary.json`, `run.toml`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::config::Config;
use super::hgrm;
use super::measure::Measured;
use super::summary::Summary;
use crate::failure::Failure;
use crate::output;

/// Makes the directory, so that a run does not fail for it at its end.
pub(crate) fn prepare(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|e| Failure::file("make the directory", dir, &e))
}

/// Writes one histogram per operation, and per open-loop operation one more from
/// the real start.
pub(crate) fn histograms(dir: &Path, measured: &Measured) -> Result<(), Failure> {
    for (op, seen) in measured.each() {
        let write = |name: String, h| {
            let path = dir.join(name);
            File::create(&path)
                .and_then(|f| {
                    let mut out = BufWriter::new(f);
                    hgrm::write(h, &mut out)?;
                    out.flush()
                })
                .map_err(|e| Failure::file("write", &path, &e))
        };
        write(format!("{}.hgrm", op.name()), &seen.latency)?;
        if let Some(service) = &seen.service {
            write(format!("{}.service.hgrm", op.name()), service)?;
        }
    }
    Ok(())
}

/// Writes the summary.
pub(crate) fn summary(path: &Path, summary: &Summary) -> Result<(), Failure> {
    text(path, &(output::to_json(summary)? + "\n"))
}

/// Writes the effective configuration, which repeats the run.
pub(crate) fn config(path: &Path, config: &Config) -> Result<(), Failure> {
    let body = toml::to_string_pretty(config)
        .map_err(|e| Failure::refused(format!("cannot write the configuration: {e}")))?;
    text(path, &body)
}

fn text(path: &Path, body: &str) -> Result<(), Failure> {
    fs::write(path, body).map_err(|e| Failure::file("write", path, &e))
}
