//! `gaur device`.

use std::path::PathBuf;

use clap::Args;
use gaur_iodriver::{Description, describe};
use serde_json::json;

use super::contents::contents;
use crate::blockdev::Counters;
use crate::failure::{FINE, Failure, Outcome};
use crate::{output, units};

const HELP: &str = "\
Opens for reading, takes no lock and writes nothing.

Examples:
  gaur device /dev/nvme0n1
  gaur device demo.store --json           the file system and the disk below a file";

/// Tell what a device is, and whether it may be used.
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
    let d = describe(&a.path)
        .map_err(|e| Failure::refused(format!("{}: {}", a.path.display(), e.detail)))?;
    let counters = Counters::read(&a.path);
    if a.json {
        let mut facts = as_json(&d, counters);
        facts["contents"] = contents(&a.path).as_json();
        output::json(&facts)?;
    } else {
        let mut rows = as_rows(&d, counters);
        rows.push(("contents".to_owned(), contents(&a.path).as_text()));
        output::line(output::pairs(rows))?;
    }
    Ok(FINE)
}

/// The facts as data.
pub(crate) fn as_json(d: &Description, counters: Option<Counters>) -> serde_json::Value {
    json!({
        "path": d.path,
        "kind": d.kind.to_string(),
        "capacity": d.capacity,
        "disk": d.disk,
        "number": d.number,
        "model": d.model,
        "serial": d.serial,
        "backing_file": d.backing_file,
        "scheduler": d.scheduler,
        "rotational": d.rotational,
        "write_cache": d.write_cache,
        "fua": d.fua,
        "logical_block": d.logical_block,
        "physical_block": d.physical_block,
        "max_io": d.max_io,
        "max_discard": d.max_discard,
        "holders": d.holders,
        "mounted_at": d.mounted_at,
        "swap": d.swap,
        "read_only": d.read_only,
        "counters": counters,
    })
}

/// What is known, for people.
fn as_rows(d: &Description, counters: Option<Counters>) -> Vec<(String, String)> {
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    let is_file = d.kind == gaur_iodriver::DeviceKind::File;
    let mut rows = vec![
        ("path", Some(d.path.display().to_string())),
        ("kind", Some(d.kind.to_string())),
        ("capacity", d.capacity.map(units::bytes)),
        ("disk", d.disk.clone()),
        ("number", d.number.clone()),
        ("model", d.model.clone()),
        ("serial", d.serial.clone()),
        ("backing file", d.backing_file.clone()),
        ("scheduler", d.scheduler.clone()),
        ("rotational", d.rotational.map(yes)),
        ("write cache", d.write_cache.clone()),
        ("fua", d.fua.map(yes)),
        ("logical block", d.logical_block.map(units::bytes)),
        ("physical block", d.physical_block.map(units::bytes)),
        ("largest i/o", d.max_io.map(units::bytes)),
        ("largest discard", d.max_discard.map(units::bytes)),
        (
            "holders",
            (!d.holders.is_empty()).then(|| d.holders.join(", ")),
        ),
        (
            if is_file {
                "file system at"
            } else {
                "mounted at"
            },
            d.mounted_at.clone(),
        ),
        ("swap", Some(yes(d.swap))),
        ("read-only", Some(yes(d.read_only))),
    ];
    if let Some(c) = counters {
        rows.push((
            "reads so far",
            Some(format!(
                "{} ({})",
                units::count(c.reads),
                units::bytes(c.read_bytes)
            )),
        ));
        rows.push((
            "writes so far",
            Some(format!(
                "{} ({})",
                units::count(c.writes),
                units::bytes(c.written_bytes)
            )),
        ));
        rows.push(("flushes so far", Some(units::count(c.flushes))));
    }
    rows.into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}
