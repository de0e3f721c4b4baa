//! `gaur device`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::failure::{FINE, Failure, Outcome};
use crate::run::config::Driver;
use crate::units::{self, Size};
use crate::{device, floor, interrupt, output};

const HELP: &str = "\
Without --bench it opens for reading at most, takes no lock and writes nothing.
Without root it tells what it may not see.

--bench measures the floor of the device, below any engine, and destroys nothing:
in a store it writes to free space that the store lends and gets back; where there
is nothing it makes a file and removes it; anything else is only read.

Examples:
  gaur device /dev/nvme0n1
  gaur device demo.store --json           the file system and the disks below a file
  gaur device /dev/nvme0n1p3 --bench      in a store's free space
  gaur device /mnt/bench.tmp --bench --size 1GiB --seconds 30 --json";

/// Tell what a device is, who uses it, what the engine will use; measure its floor.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DeviceArgs {
    /// The device or file.
    path: PathBuf,
    /// Measure reads, writes and durable writes, by size and queue depth.
    #[arg(long)]
    bench: bool,
    /// How long to measure.
    #[arg(
        long,
        alias = "runtime",
        value_name = "N",
        default_value_t = 10.0,
        requires = "bench"
    )]
    seconds: f64,
    /// How much to write to, at most; the size of a file that is made.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256MiB",
        requires = "bench"
    )]
    size: Size,
    /// Seed of all randomness; drawn at random if absent.
    #[arg(long, requires = "bench")]
    seed: Option<u64>,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t, requires = "bench")]
    driver: Driver,
    /// Tell what --bench would do, and do nothing.
    #[arg(long, requires = "bench")]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn device(a: &DeviceArgs) -> Outcome {
    if a.bench {
        return bench(a);
    }
    let report = device::look(&a.path)?;
    if a.json {
        output::json(&device::as_json(&report))?;
    } else {
        output::line(device::as_text(&report))?;
    }
    Ok(FINE)
}

fn bench(a: &DeviceArgs) -> Outcome {
    if !(a.seconds.is_finite() && a.seconds > 0.0 && a.seconds < 1e6) {
        return Err(Failure::refused(
            "--seconds is a number above 0, as in --seconds 10",
        ));
    }
    if a.size.0 < 1 << 20 || !a.size.0.is_multiple_of(1 << 20) {
        return Err(Failure::refused(format!(
            "--size is {}; give a multiple of 1MiB, as in --size 256MiB",
            units::exact(a.size.0)
        )));
    }
    let plan = floor::Plan {
        path: a.path.clone(),
        seconds: a.seconds,
        size: a.size.0,
        seed: a.seed.unwrap_or_else(|| rand::random::<u32>().into()),
        driver: a.driver,
    };
    if a.dry_run {
        return dry_run(&plan, a.json);
    }
    interrupt::catch();
    let found = floor::measure(&plan)?;
    let text = if a.json {
        output::to_json(&floor::as_json(&found))?
    } else {
        floor::as_text(&found)
    };
    // The space is given back before a reader of the report can go away.
    found.subject.close()?;
    output::line(text)?;
    Ok(FINE)
}

fn dry_run(plan: &floor::Plan, as_json: bool) -> Outcome {
    let intent = floor::check(plan)?;
    if as_json {
        output::json(&json!({
            "dry_run": true,
            "path": plan.path,
            "mode": intent,
            "size": plan.size,
            "seconds": plan.seconds,
        }))?;
        return Ok(FINE);
    }
    output::line(format!(
        "would measure {} for about {} s, in up to {}: {}; nothing was done",
        plan.path.display(),
        plan.seconds,
        units::bytes(plan.size),
        intent.words()
    ))?;
    Ok(FINE)
}
