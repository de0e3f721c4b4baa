//! `gaur trim`.

use std::time::Instant;

use clap::Args;
use gaur::{DiscardRate, Error, TrimOptions, TrimReport};
use gaur_iodriver::IoErrorKind;
use serde_json::json;

use super::StoreArgs;
use crate::failure::{FINE, Failure, Outcome};
use crate::progress::Progress;
use crate::units::Size;
use crate::{interrupt, output, units};

const HELP: &str = "\
Tells the device which blocks are free, all of them at once; a store in a sparse
file gives their space back. With discard on, an open store does the same for what
becomes free, so that this is needed only for what was free before. Ctrl-C ends it
and harms nothing.

Examples:
  gaur trim /dev/nvme0n1p3 --rate 256MiB
  gaur trim demo.store --dry-run          only look, and write nothing";

/// Discard all free space of a store.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct TrimArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Bytes discarded a second, at most; 0: no limit.
    #[arg(long, value_name = "SIZE", default_value_t = Size(DiscardRate::default().bytes_per_second))]
    rate: Size,
    /// Only say how much would be discarded.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn trim(a: &TrimArgs) -> Outcome {
    let store = a.store.open(a.dry_run)?;
    // Until here it may end at once, and harms nothing.
    interrupt::catch();
    let options = TrimOptions {
        rate: DiscardRate {
            bytes_per_second: a.rate.0,
            ..DiscardRate::default()
        },
        dry_run: a.dry_run,
    };
    let (bar, begin) = (Progress::of_bytes("trim"), Instant::now());
    let done = store.trim(&options, |so_far| {
        bar.show_bytes(so_far.looked_at, so_far.size, begin.elapsed());
        interrupt::flow()
    });
    bar.finish();
    let shown = a.store.path.display().to_string();
    let done = done.map_err(|e| match e {
        // Nothing failed: there is nothing to do it with.
        Error::Io(e) if e.kind == IoErrorKind::Unsupported => Failure::refused(format!(
            "{shown}: {}; gaur device tells what it can",
            e.detail
        )),
        e => Failure::engine(&shown, e),
    });
    let notes = store.notes();
    let closed = store.close();
    let report = done?;
    closed?;
    if a.json {
        output::json(&as_json(a, &report, &notes))?;
    } else {
        output::line(as_text(a, &report, &notes))?;
    }
    Ok(FINE)
}

fn as_json(a: &TrimArgs, r: &TrimReport, notes: &[String]) -> serde_json::Value {
    json!({
        "path": a.store.path,
        "dry_run": a.dry_run,
        "size": r.size,
        "looked_at": r.looked_at,
        "free": r.free,
        "discarded": r.discarded,
        "failures": r.failures,
        "unknown_groups": r.unknown_groups,
        "interrupted": r.interrupted,
        "notes": notes,
    })
}

fn as_text(a: &TrimArgs, r: &TrimReport, notes: &[String]) -> String {
    let discarded = match a.dry_run {
        true => "would be discarded",
        false => "discarded",
    };
    let mut rows = vec![
        ("store", a.store.path.display().to_string()),
        ("free", units::bytes(r.free)),
        (discarded, units::bytes(r.discarded)),
    ];
    if r.failures > 0 {
        rows.push(("failed", units::count(r.failures)));
    }
    if r.unknown_groups > 0 {
        let n = units::count(r.unknown_groups);
        rows.push((
            "left out",
            format!("{n} groups whose map is damaged: `gaur check` lists them"),
        ));
    }
    if r.interrupted {
        let (at, size) = (units::bytes(r.looked_at), units::bytes(r.size));
        rows.push(("interrupted", format!("at {at} of {size}")));
    }
    rows.extend(notes.iter().map(|n| ("note", n.clone())));
    output::pairs(rows.into_iter().map(|(a, b)| (a.to_owned(), b)))
}
