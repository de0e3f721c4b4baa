//! Experiments: what the design claims, measured. Cells run in turn, so that a
//! machine whose speed drifts does not favour one.

pub(crate) mod bulk;
pub(crate) mod cow;
pub(crate) mod drops;
pub(crate) mod fill;
pub(crate) mod held;
pub(crate) mod huge;
pub(crate) mod multi_get;
pub(crate) mod scaling;
pub(crate) mod snapshots;
pub(crate) mod two_stage;

use std::path::Path;

use gaur::{FormatOptions, Store};

use crate::failure::{FINE, Failure, Outcome};
use crate::{output, units};

/// A fresh store in a file, which must not be there: it is removed in the end.
fn fresh_store(path: &Path, bytes: u64) -> Result<(), Failure> {
    let options = fresh_options(path, bytes)?;
    Store::format(path, &options)?;
    Ok(())
}

/// What an experiment would make, with nothing written.
pub(crate) fn rehearse(path: &Path, bytes: u64) -> Outcome {
    let plan = Store::plan_format(path, &fresh_options(path, bytes)?)?;
    output::line(format!(
        "would make {}, {}, and remove it at the end; nothing was written",
        path.display(),
        units::bytes(plan.capacity)
    ))?;
    Ok(FINE)
}

fn fresh_options(path: &Path, bytes: u64) -> Result<FormatOptions, Failure> {
    if path.exists() {
        return Err(Failure::refused(format!(
            "{} exists; remove it, or name another --path",
            path.display()
        )));
    }
    Ok(FormatOptions {
        create_size: Some(bytes),
        ..FormatOptions::default()
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
