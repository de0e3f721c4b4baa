//! `gaur grow`.

use clap::Args;
use gaur::GrowReport;
use serde_json::json;

use super::StoreArgs;
use crate::failure::{FINE, Failure, Outcome};
use crate::units::Size;
use crate::{output, units};

const HELP: &str = "\
Takes in what the device or file has become larger; with --size a file is made that
large first, preallocated unless the store was formatted with --sparse. Ends when
that is durable. A power cut leaves the old size or the new one, and all records.
A store does not shrink. One that is open grows by itself: see store.grow_to and
store.follow_size of gaur run.

Examples:
  gaur grow demo.store --size 2GiB
  gaur grow /dev/vg0/data                 after lvextend
  gaur grow demo.store --size 2GiB --dry-run";

/// Make a store larger.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct GrowArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Make a file this large; without it, take in what there is.
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Only tell what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn grow(a: &GrowArgs) -> Outcome {
    if a.size.is_some() && !super::is_file(&a.store.path) {
        return Err(Failure::refused(format!(
            "{}: a device is used whole; enlarge it from outside, and leave out --size",
            a.store.path.display()
        )));
    }
    let size = a.size.map(|s| s.0);
    let store = a.store.open(a.dry_run)?;
    let report = if a.dry_run {
        store.plan_growth(size)
    } else {
        store.grow(size)
    };
    let closed = store.close();
    let report = report.map_err(|e| {
        let doing = a.store.path.display().to_string();
        Failure::engine(&doing, e)
    })?;
    closed?;
    if a.json {
        output::json(&json!({
            "path": a.store.path,
            "before": report.before,
            "capacity": report.capacity,
            "device": report.device,
            "dry_run": a.dry_run,
        }))?;
    } else {
        output::line(as_text(&report, a.dry_run))?;
    }
    Ok(FINE)
}

fn as_text(r: &GrowReport, dry_run: bool) -> String {
    let (before, now) = (units::bytes(r.before), units::bytes(r.capacity));
    match (r.capacity > r.before, dry_run) {
        (true, true) => format!("would grow from {before} to {now}"),
        (true, false) => format!("grown from {before} to {now}"),
        (false, _) => format!("nothing to take in: the store has {now}"),
    }
}
