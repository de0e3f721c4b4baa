//! Reports: one page per run, runs laid over each other, two runs compared. All of it
//! is read from the files of runs; `docs/run-files.md` says what they hold.

mod charts;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod image;
mod notes;
pub(crate) mod overlay;
mod page;
mod panels;
pub(crate) mod plot;

use std::fs;
use std::path::{Path, PathBuf};

use data::RunData;

use crate::failure::Failure;

/// The page's file in a run's directory.
pub(crate) const FILE: &str = "report.html";

/// Writes the page of the run in `dir` beside its other files, and gives its path.
pub(crate) fn write(dir: &Path) -> Result<PathBuf, Failure> {
    let page = page::render(&RunData::read(dir)?)?;
    let path = dir.join(FILE);
    save(&path, page.as_bytes())?;
    Ok(path)
}

/// Writes a file whole or not at all: a page that is looked at is never half a page.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let done = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    done.map_err(|e| {
        let _ = fs::remove_file(&beside);
        Failure::file("write", path, &e)
    })
}
