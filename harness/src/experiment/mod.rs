//! Experiments: what the design claims, measured. Cells run in turn, so that a
//! machine whose speed drifts does not favour one.

pub(crate) mod huge;
pub(crate) mod scaling;
pub(crate) mod two_stage;

use std::path::Path;

use gaur::{FormatOptions, Store};

use crate::failure::Failure;

/// A fresh store in a file; what was there of an earlier experiment is replaced.
fn fresh_store(path: &Path, bytes: u64) -> Result<(), Failure> {
    if path.exists() {
        std::fs::remove_file(path).map_err(|e| Failure::file("remove", path, &e))?;
    }
    let options = FormatOptions {
        create_size: Some(bytes),
        ..FormatOptions::default()
    };
    Store::format(path, &options)?;
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
