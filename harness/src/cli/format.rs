//! `gaur format`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use gaur::{DiscardProgress, Error, FormatOptions, FormatPlan, FormatReport, Store};
use serde_json::json;

use crate::failure::{FINE, Failure, Outcome};
use crate::progress::Progress;
use crate::run::config::{Driver, DurableBy};
use crate::units::Size;
use crate::{interrupt, output, units};

const HELP: &str = "\
A device that is mounted, used as swap or held by another process is refused,
always. One that carries a partition table, a file system or other data, or a
store, is refused unless --force is given; nothing is written then.

Examples:
  gaur format /dev/loop0                  the whole device
  gaur format /dev/loop0 --discard        the same; an SSD can clean up all of it
  gaur format demo.store --size 1GiB      a file, preallocated
  gaur format demo.store --size 8TiB --sparse --log-size 64MiB
  gaur format /dev/loop0 --force --dry-run   what would be lost";

/// Make a store on a device or in a file.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct FormatArgs {
    /// The device or file.
    path: PathBuf,
    /// The size of a file that is made; a device or an existing file is used whole.
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Bytes per block: 4KiB, 8KiB or 16KiB.
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    block_size: Size,
    /// The size of the log; by the store's size if absent.
    #[arg(long, value_name = "SIZE")]
    log_size: Option<Size>,
    /// Format even if other data or a store is there.
    #[arg(long)]
    force: bool,
    /// Leave a file sparse instead of preallocating it.
    #[arg(long)]
    sparse: bool,
    /// Tell the device first that nothing on it is needed (a sparse file gives up
    /// its space). Ctrl-C ends it; there is no store then.
    #[arg(long)]
    discard: bool,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// How writes are made durable; measured if absent.
    #[arg(long, value_enum, value_name = "METHOD")]
    durable_method: Option<DurableBy>,
    /// Make all checks, tell what would be done and lost, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn format(a: &FormatArgs) -> Outcome {
    let shown = a.path.display();
    // A link that leads nowhere is told of by who would follow it.
    if a.size.is_none() && !a.path.exists() && !a.path.is_symlink() {
        if in_dev(&a.path) {
            return Err(no_device(a));
        }
        return Err(Failure::refused(format!(
            "{shown}: no such device or file; add --size 1GiB to make a file"
        )));
    }
    if a.size.is_some() && !super::is_file(&a.path) {
        return Err(Failure::refused(format!(
            "{shown}: a device is used whole; leave out --size"
        )));
    }
    // A mistyped device is no wish for a file in memory.
    if !a.path.exists() && in_dev(&a.path) {
        return Err(no_device(a));
    }
    // A file that holds something already keeps its size.
    let len = std::fs::metadata(&a.path).map_or(0, |m| m.len());
    if let Some(size) = a.size
        && len != 0
        && len != size.0
    {
        return Err(Failure::refused(format!(
            "{shown}: a file of {} is there, and --size is {}; leave it out to use the file as it is, or remove that",
            units::exact(len),
            units::exact(size.0)
        )));
    }
    let o = FormatOptions {
        block_size: u32::try_from(a.block_size.0)
            .map_err(|_| Failure::refused("--block-size is 4KiB, 8KiB or 16KiB"))?,
        log_size: a.log_size.map(|s| s.0),
        force: a.force,
        create_size: a.size.filter(|_| len == 0).map(|s| s.0),
        sparse: a.sparse,
        discard: a.discard,
        discard_progress: a.discard.then(discard_progress),
        driver: a.driver.into(),
        durable_method: a.durable_method.map(Into::into),
    };
    let refused = |e| match e {
        // These do not know where.
        Error::TooSmall { .. } | Error::BadOption { .. } => Failure::engine(&shown.to_string(), e),
        e => e.into(),
    };
    if a.dry_run {
        let plan = Store::plan_format(&a.path, &o).map_err(refused)?;
        match a.json {
            true => output::json(&plan_json(&plan))?,
            false => output::line(plan_text(a, &plan))?,
        }
        return Ok(FINE);
    }
    let report = Store::format(&a.path, &o).map_err(refused)?;
    if a.json {
        output::json(&as_json(&report))?;
    } else {
        output::line(as_text(&report))?;
    }
    Ok(FINE)
}

/// Whether it lies where devices do; `/dev/shm` is for files.
fn in_dev(path: &Path) -> bool {
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

fn no_device(a: &FormatArgs) -> Failure {
    let shown = a.path.display();
    Failure::refused(format!(
        "{shown}: no such device; lsblk lists what there is"
    ))
}

fn plan_json(p: &FormatPlan) -> serde_json::Value {
    json!({
        "dry_run": true,
        "capacity": p.capacity,
        "block_size": p.block_size,
        "log_bytes": p.log_bytes,
        "durable_method": p.durable_method.map(|m| m.to_string()),
        "driver": p.driver,
        "direct": p.direct,
        "makes_file": p.makes_file,
        "destroys": p.destroys,
        "notes": p.notes,
    })
}

fn plan_text(a: &FormatArgs, p: &FormatPlan) -> String {
    let mut rows = vec![
        (
            "would",
            format!(
                "{} {}",
                if p.makes_file { "make" } else { "format" },
                a.path.display()
            ),
        ),
        ("capacity", units::bytes(p.capacity)),
        ("block size", units::bytes(p.block_size.into())),
        (
            "log",
            format!("{}, written with zeroes", units::bytes(p.log_bytes)),
        ),
        (
            "durable by",
            p.durable_method.map_or_else(
                || "what is measured faster, by writes into the log".to_owned(),
                |m| m.to_string(),
            ),
        ),
        (
            "would be lost",
            p.destroys.clone().unwrap_or_else(|| "nothing".into()),
        ),
    ];
    rows.extend(p.driver.map(|d| ("driver", d.to_owned())));
    rows.extend(p.notes.iter().map(|n| ("note", n.clone())));
    rows.push(("now", "nothing was written".into()));
    output::pairs(rows.into_iter().map(|(a, b)| (a.to_owned(), b)))
}

/// A bar in MiB, and the way out for Ctrl-C.
fn discard_progress() -> DiscardProgress {
    interrupt::catch();
    let (bar, begin) = (Progress::of_bytes("discard"), Instant::now());
    DiscardProgress::new(move |done, all| {
        bar.show_bytes(done, all, begin.elapsed());
        if done >= all {
            bar.finish();
        }
        interrupt::flow()
    })
}

fn as_json(r: &FormatReport) -> serde_json::Value {
    json!({
        "store_id": format!("{:032x}", r.store_id),
        "capacity": r.capacity,
        "block_size": r.block_size,
        "log_bytes": r.log_bytes,
        "durable_method": r.durable_method.to_string(),
        "durability": r.durability.as_ref().map(|d| json!({
            "write_size": d.write_size,
            "recommended": d.recommended.to_string(),
            "methods": d.methods.iter().map(|m| json!({
                "method": m.method.to_string(),
                "writes": m.writes,
                "min_ns": nanos(m.min),
                "median_ns": nanos(m.median),
                "p99_ns": nanos(m.p99),
                "max_ns": nanos(m.max),
            })).collect::<Vec<_>>(),
        })),
        "discarded": r.discarded,
        "driver": r.driver,
        "direct": r.direct,
        "sparse": r.sparse,
        "notes": r.notes,
    })
}

fn as_text(r: &FormatReport) -> String {
    let mut rows = vec![
        ("store", format!("{:032x}", r.store_id)),
        (
            "capacity",
            format!(
                "{}{}",
                units::bytes(r.capacity),
                if r.sparse { ", sparse" } else { "" }
            ),
        ),
        ("block size", units::bytes(r.block_size.into())),
        ("log", units::bytes(r.log_bytes)),
        (
            "driver",
            format!(
                "{}{}",
                r.driver,
                if r.direct {
                    ", O_DIRECT"
                } else {
                    ", through the page cache"
                }
            ),
        ),
        ("durable by", r.durable_method.to_string()),
    ];
    for m in r.durability.iter().flat_map(|d| &d.methods) {
        let times = [m.median, m.p99, m.max].map(|t| units::nanos(nanos(t)));
        let [median, p99, max] = times;
        rows.push((
            "measured",
            format!("{}: median {median}, p99 {p99}, max {max}", m.method),
        ));
    }
    if r.discarded > 0 {
        rows.push(("discarded", units::bytes(r.discarded)));
    }
    rows.extend(r.notes.iter().map(|n| ("note", n.clone())));
    output::pairs(rows.into_iter().map(|(a, b)| (a.to_owned(), b)))
}

fn nanos(t: std::time::Duration) -> u64 {
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}
