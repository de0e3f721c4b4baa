//! Experiments: what the design claims, measured. Cells run in turn, so that a
//! machine whose speed drifts does not favour one.

pub(crate) mod scaling;
pub(crate) mod two_stage;

use std::path::Path;

use gaur::{FormatOptions, Store};

use crate::failure::Failure;

/// A fresh store in a file, which must not be there: it is removed in the end.
fn fresh_store(path: &Path, bytes: u64) -> Result<(), Failure> {
    if path.exists() {
        return Err(Failure::refused(format!(
            "{} exists; remove it, or name another --path",
            path.display()
        )));
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
