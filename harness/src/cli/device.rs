//! `gaur device`.

use std::path::PathBuf;

use clap::Args;

use crate::device;
use crate::failure::{FINE, Outcome};
use crate::output;

const HELP: &str = "\
Opens for reading at most, takes no lock and writes nothing. Without root it tells
what it may not see.

Examples:
  gaur device /dev/nvme0n1
  gaur device demo.store --json           the file system and the disks below a file";

/// Tell what a device is, who uses it, and what the engine will use on it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DeviceArgs {
    /// The device or file.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn device(a: &DeviceArgs) -> Outcome {
    let report = device::look(&a.path)?;
    if a.json {
        output::json(&device::as_json(&report))?;
    } else {
        output::line(device::as_text(&report))?;
    }
    Ok(FINE)
}
