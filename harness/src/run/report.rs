//! A run's results for people.

mod explain;

use std::collections::BTreeMap;

use super::config::{Config, Engine};
use super::notes;
use super::summary::{Counter, Kind, Latency, Phase, Summary};
use crate::{output, units};

/// The columns of the latency table.
const COLUMNS: [&str; 12] = [
    "operation",
    "count",
    "ops/s",
    "mean",
    "p50",
    "p75",
    "p90",
    "p99",
    "p99.9",
    "p99.99",
    "p99.999",
    "max",
];

/// The longest line of counters.
const WIDTH: usize = 98;

/// The whole report.
pub(crate) fn text(s: &Summary) -> String {
    let mut parts = vec![head(s)];
    parts.extend(s.phases.iter().map(|p| phase(p, &s.config)));
    let main = s.phases.iter().rfind(|p| p.kind == Kind::Run);
    let main = main.or(s.phases.last());
    parts.extend(main.and_then(explain::worst));
    parts.extend(s.floor.as_ref().map(explain::floor));
    if let Some(p) = main.filter(|p| !p.counters.is_empty()) {
        parts.push(format!(
            "engine counters, {} phase (those at zero left out; --json has all)\n{}",
            p.name,
            counters(&p.counters)
        ));
    }
    parts.push(tail(s));
    parts.join("\n\n")
}

fn head(s: &Summary) -> String {
    let e = &s.environment;
    let mut rows = vec![
        (
            "run",
            format!(
                "{}, seed {}, keys from seed {}{}",
                s.name,
                s.seed,
                s.config.load.seed,
                match &s.stream_checksum {
                    Some(sum) => format!(", operations {sum}"),
                    None => String::new(),
                }
            ),
        ),
        ("store", store(s)),
        (
            "machine",
            format!(
                "{} x {}, {}, kernel {}",
                e.cpus,
                e.cpu,
                units::bytes(e.memory),
                e.kernel
            ),
        ),
    ];
    if let Some(d) = &e.device {
        let fact = |name: &str| d[name].as_str();
        let facts = [
            fact("kind").map(str::to_owned),
            fact("disk").map(|v| format!("disk {v}")),
            fact("model").map(str::to_owned),
            fact("scheduler").map(|v| format!("scheduler {v}")),
            fact("write_cache").map(|v| format!("write cache: {v}")),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        rows.push(("device", facts.join(", ")));
    }
    rows.extend(e.notes.iter().map(|n| ("note", n.clone())));
    if !e.optimised {
        rows.push((
            "note",
            "built without optimisation: these figures mean nothing".into(),
        ));
    }
    output::pairs(rows.into_iter().map(|(a, b)| (a.to_owned(), b)))
}

fn store(s: &Summary) -> String {
    let (c, e) = (&s.config.store, &s.environment);
    if c.engine == Engine::Null {
        return "none: the null engine finds every record and keeps nothing".into();
    }
    format!(
        "{}, cache {}, driver {}{}, durable by {}",
        c.path,
        units::bytes(c.cache.0),
        e.driver,
        match e.direct {
            Some(true) => ", O_DIRECT",
            Some(false) => ", without O_DIRECT",
            None => "",
        },
        e.durable_method,
    )
}

fn phase(p: &Phase, config: &Config) -> String {
    let records: u64 = p.operations.iter().map(|o| o.records).sum();
    let mut out = format!(
        "{}: {} records in {:.2} s by {} thread{}, {} records/s\n",
        p.name,
        units::count(records),
        p.seconds,
        p.threads,
        if p.threads == 1 { "" } else { "s" },
        units::rate(records as f64 / p.seconds.max(1e-9)),
    );
    let mut rows = Vec::new();
    for o in &p.operations {
        rows.push(row(o.name.to_owned(), &o.latency));
        if let Some(service) = &o.service {
            rows.push(row("service".into(), service));
        }
    }
    out += &output::dense_table(COLUMNS, rows);
    if p.open_loop {
        out += "\n service: from the real start; the line above it from the intended one";
    }
    for o in p.operations.iter().filter(|o| o.missing > 0) {
        out += &format!("\n {}: {} not found", o.name, units::count(o.missing));
    }
    if p.not_started > 0 {
        out += &format!(
            "\n {} operations were due and not begun when time was up: the store cannot keep this rate, and the latencies are too low by that",
            units::count(p.not_started)
        );
    }
    let notes = notes::of(p, config);
    if !notes.is_empty() {
        out += "\n";
        out += &output::pairs(notes);
    }
    if let Some(d) = &p.device {
        out += &format!(
            "\n device: {} reads ({}), {} writes ({}), {} flushes, {} discards ({})",
            units::count(d.reads),
            units::bytes(d.read_bytes),
            units::count(d.writes),
            units::bytes(d.written_bytes),
            units::count(d.flushes),
            units::count(d.discards),
            units::bytes(d.discarded_bytes),
        );
    }
    let ratios = [
        p.write_amplification.map(|a| {
            let user = units::bytes(p.user_bytes);
            format!("write amplification {a:.2} on {user} of user data")
        }),
        p.hit_rate
            .map(|h| format!("hit rate {:.2} % of leaf visits", h * 100.0)),
    ];
    let ratios: Vec<String> = ratios.into_iter().flatten().collect();
    if !ratios.is_empty() {
        out += &format!("\n {}", ratios.join(", "));
    }
    if let Some(line) = discards(p) {
        out += &format!("\n discard: {line}");
    }
    out
}

/// What the engine discarded, if it does.
fn discards(p: &Phase) -> Option<String> {
    let get = |name| p.counters.get("discard")?.get(name).map(|c| c.value);
    if get("on") != Some(1) {
        return None;
    }
    let bytes = p.counters.get("device")?.get("discarded_bytes")?.value;
    let per_second = (bytes as f64 / p.seconds.max(1e-9)) as u64;
    Some(format!(
        "{} requests, {} ({}/s), {} failed; {} blocks skipped, {} waiting",
        units::count(get("requests")?),
        units::bytes(bytes),
        units::bytes(per_second),
        units::count(get("failures")?),
        units::count(get("skipped_blocks")?),
        units::count(get("waiting_blocks")?),
    ))
}

fn row(name: String, l: &Latency) -> Vec<String> {
    let mut row = vec![name, units::count(l.count), units::rate(l.per_second)];
    let times = [
        l.mean_ns.round() as u64,
        l.p50_ns,
        l.p75_ns,
        l.p90_ns,
        l.p99_ns,
        l.p99_9_ns,
        l.p99_99_ns,
        l.p99_999_ns,
        l.max_ns,
    ];
    row.extend(times.into_iter().map(|t| units::nanos(t).replace(' ', "")));
    row
}

/// Counters by group, as many to a line as fit.
pub(crate) fn counters(groups: &BTreeMap<&'static str, BTreeMap<&'static str, Counter>>) -> String {
    let mut out = String::new();
    for (group, counters) in groups {
        // A page of zeroes says nothing; that nobody waited under a latch does.
        let told: Vec<_> = counters
            .iter()
            .filter(|(name, c)| c.value > 0 || **name == "under_latch")
            .collect();
        if told.is_empty() {
            continue;
        }
        let mut line = format!("  {group:<13}");
        let mut empty = true;
        for (name, c) in told {
            let value = match c.unit {
                "bytes" => units::bytes(c.value),
                "ns" => units::nanos(c.value),
                _ => units::count(c.value),
            };
            // The value has its unit.
            let name = name.replace("nanos", "time").replace('_', " ");
            let item = format!("{name} {value}");
            if !empty && line.len() + item.len() > WIDTH {
                out += &line;
                out.push('\n');
                line = " ".repeat(15);
                empty = true;
            }
            if !empty {
                line += ", ";
            }
            line += &item;
            empty = false;
        }
        out += &line;
        out.push('\n');
    }
    out.trim_end().to_owned()
}

fn tail(s: &Summary) -> String {
    let mut lines = Vec::new();
    if let Some(peak) = s.memory.peak_bytes {
        let bound = s.memory.bound_bytes;
        lines.push(format!(
            "peak resident memory {}, {} {} (cache + 10 % + 64 MiB)",
            units::bytes(peak),
            if peak > bound {
                "above the bound of"
            } else {
                "bound"
            },
            units::bytes(bound)
        ));
    }
    if let Some(check) = &s.check {
        lines.push(match check.clean {
            true => "check: clean, every block accounted for".to_owned(),
            false => format!("check: {}", check.problems.join("; ")),
        });
    }
    if s.interrupted {
        lines.push("interrupted: the figures cover what was done".to_owned());
    }
    lines.extend(s.missed.iter().map(|m| format!("MISSED: {m}")));
    lines.join("\n")
}
