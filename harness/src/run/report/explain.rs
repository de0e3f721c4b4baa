//! The slowest operations and the device's floor, for people.

use super::super::floor::Floor;
use super::super::summary::{Phase, WorstOp};
use crate::{output, units};

/// How many of the slowest are shown; `summary.json` has all.
const SHOWN: usize = 5;

/// The slowest operations of a phase, and what they waited for.
pub(super) fn worst(p: &Phase) -> Option<String> {
    if p.worst.is_empty() {
        return None;
    }
    let rows = p.worst.iter().take(SHOWN).map(|w| {
        vec![
            w.operation.to_owned(),
            format!("{:.3} s", w.at),
            w.thread.to_string(),
            units::nanos(w.latency_ns),
            waits(w),
        ]
    });
    let more = match p.worst.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" (--json has {n} more)"),
    };
    let columns = ["operation", "at", "thread", "latency", "in it"];
    Some(format!(
        "slowest operations, {} phase{more}\n{}",
        p.name,
        output::table_ending_left(columns, rows)
    ))
}

/// Where the time went: what is known of it, and the rest, which was work or is not known.
fn waits(w: &WorstOp) -> String {
    let mut parts: Vec<(&str, u64)> = w.waits.iter().map(|(kind, ns)| (*kind, *ns)).collect();
    parts.push(("late", w.late_ns));
    let known: u64 = parts.iter().map(|p| p.1).sum();
    // A wait may end in one for the processor, so that this overlaps with the others.
    parts.push(("off CPU", w.off_cpu_ns.unwrap_or(0)));
    parts.push(("rest", w.latency_ns.saturating_sub(known)));
    parts.retain(|p| p.1 > w.latency_ns / 100);
    parts.sort_by_key(|p| std::cmp::Reverse(p.1));
    parts.truncate(4);
    let name = |kind: &str| kind.replace('_', " ");
    let told = parts
        .iter()
        .map(|(k, ns)| format!("{} {}", name(k), units::nanos(*ns)));
    told.collect::<Vec<_>>().join(", ")
}

/// What the device gives, and the engine's share of it.
pub(super) fn floor(f: &Floor) -> String {
    let cells = f.cells.iter().map(|c| {
        vec![
            c.name.clone(),
            c.depth.to_string(),
            units::rate(c.per_second),
            format!("{}/s", units::bytes(c.bytes_per_second as u64)),
            units::nanos(c.p50_ns),
            units::nanos(c.p99_ns),
        ]
    });
    let columns = ["request", "depth", "per second", "bytes", "p50", "p99"];
    let mut out = format!(
        "device floor, right after the mix: reads of {} of the store's data, writes to {} of free space\n{}\n",
        units::bytes(f.data_bytes),
        units::bytes(f.free_bytes),
        output::table(columns, cells)
    );
    let shares = f.share.iter().map(|s| {
        let told = |n: f64| match s.what {
            "written bytes" => format!("{}/s", units::bytes(n as u64)),
            _ => format!("{}/s", units::rate(n)),
        };
        vec![
            s.what.to_owned(),
            told(s.engine_per_second),
            told(s.device_per_second),
            format!("{:.1} %", s.share * 100.0),
            format!("{}, depth {}", s.of, s.depth),
        ]
    });
    let columns = ["in the mix", "engine", "device", "share", "of"];
    out += &output::table_ending_left(columns, shares);
    out
}
