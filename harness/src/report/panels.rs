//! What of a report is no plot: key figures, tables, lists.

use serde_json::Value;

use super::data::summary::{Floor, Latency};
use super::data::{Phase, Summary};
use super::plot::unit::{Unit, nanos};
use crate::units;

/// Names and values.
pub(super) type Pairs = Vec<(String, String)>;

/// A key figure.
pub(super) struct Tile {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) more: String,
}

/// A phase's operations.
pub(super) struct PhaseTable {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) rows: Vec<Vec<String>>,
}

/// A group of counters.
pub(super) struct Counters {
    pub(super) name: String,
    /// Name, value, and its share of the largest in the group, in percent.
    pub(super) rows: Vec<(String, String, u64)>,
}

/// The device by itself.
pub(super) struct FloorPanel {
    pub(super) cells: Vec<[String; 6]>,
    pub(super) shares: Vec<(String, String, String, u64, String)>,
}

/// One of the slowest operations.
pub(super) struct Slow {
    pub(super) cells: [String; 4],
    /// Class, name, time, and share of the whole in percent.
    pub(super) parts: Vec<(String, String, String, f64)>,
}

fn or_dash(v: Option<String>) -> String {
    v.unwrap_or_else(|| "–".into())
}

/// One line of facts under the title.
pub(super) fn facts(s: &Summary, p: &Phase) -> Vec<String> {
    let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_owned);
    let mut facts = Vec::new();
    facts.extend(
        s.started
            .clone()
            .map(|t| t.replace('T', " ").replace('Z', " UTC")),
    );
    if p.seconds > 0.0 {
        let plural = if p.threads == 1 { "" } else { "s" };
        let time = Unit::Seconds.show(p.seconds);
        facts.push(format!("{time}, {} thread{plural}", p.threads));
    }
    facts.extend(text(s.config.pointer("/store/path")));
    facts.extend(s.seed.map(|seed| format!("seed {seed}")));
    facts.extend(text(s.environment.get("gaur")).map(|v| format!("gaur {v}")));
    facts
}

/// What a reader must know before any figure: class and text.
pub(super) fn badges(s: &Summary, p: &Phase) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    for missed in &s.missed {
        list.push(("bad", format!("missed: {missed}")));
    }
    match &s.check {
        Some(c) if c.clean => list.push(("good", "check: clean".into())),
        Some(_) => list.push(("bad", "check found damage".into())),
        None => {}
    }
    if s.interrupted {
        list.push(("warn", "ended early by an interrupt".into()));
    }
    if s.environment.get("optimised") == Some(&Value::Bool(false)) {
        list.push((
            "bad",
            "built without optimisation: the figures mean nothing".into(),
        ));
    }
    match p.steady {
        Some(true) => list.push(("good", "steady".into())),
        Some(false) => list.push(("warn", "not steady: it was still changing".into())),
        None => {}
    }
    list.push((
        "plain",
        match p.is_open_loop() {
            true => "open loop: latency counts from the intended start".into(),
            false => "closed loop: a stall is one slow operation".into(),
        },
    ));
    if p.not_started > 0 {
        let n = units::count(p.not_started);
        list.push(("warn", format!("{n} operations were due and never begun")));
    }
    if let Some(h) = &p.harness
        && h.over
    {
        let share = Unit::Share.show(h.share_of_median.unwrap_or(f64::NAN));
        list.push((
            "warn",
            format!(
                "measuring took {} an operation, {share} of the median",
                nanos(h.cost_ns)
            ),
        ));
    }
    match p
        .counter("waits", "under_latch")
        .or(p.counter("two_stage", "waits_under_latch"))
    {
        Some(0) => list.push(("good", "no wait under a latch".into())),
        Some(n) => list.push(("bad", format!("{n} waits under a latch"))),
        None => {}
    }
    list
}

pub(super) fn tiles(s: &Summary, p: &Phase) -> Vec<Tile> {
    let tile = |name: &str, value: String, more: String| Tile {
        name: name.to_owned(),
        value,
        more,
    };
    let mut tiles = Vec::new();
    if !p.operations.is_empty() {
        let count: u64 = p.operations.iter().map(|o| o.latency.count).sum();
        let more = format!(
            "{} in {}",
            units::count(count),
            Unit::Seconds.show(p.seconds)
        );
        tiles.push(tile(
            "operations a second",
            units::rate(p.per_second()),
            more,
        ));
    }
    let busiest = p.operations.iter().max_by_key(|o| o.latency.count);
    if let Some(o) = busiest {
        for name in ["p50", "p99", "p99.9"] {
            if let Some(v) = o.latency.percentile(name) {
                tiles.push(tile(
                    &format!("{} {name}", o.name),
                    nanos(v as f64),
                    String::new(),
                ));
            }
        }
    }
    let all = p.operations.iter();
    if let Some(worst) = all.max_by_key(|o| o.latency.max_ns) {
        tiles.push(tile(
            "slowest",
            nanos(worst.latency.max_ns as f64),
            worst.name.clone(),
        ));
    }
    if let Some(v) = p.write_amplification {
        let user = p
            .user_bytes
            .map(|b| format!("for {} of the user's", units::bytes(b)));
        let more = user.unwrap_or_default();
        tiles.push(tile("write amplification", Unit::Ratio.show(v), more));
    }
    if let Some(v) = p.hit_rate {
        tiles.push(tile("hit rate", Unit::Share.show(v), String::new()));
    }
    if let Some(v) = s.memory.peak_bytes {
        let bound = s
            .memory
            .bound_bytes
            .map(|b| format!("bound {}", units::bytes(b)));
        tiles.push(tile(
            "peak memory",
            units::bytes(v),
            bound.unwrap_or_default(),
        ));
    }
    tiles
}

/// Every phase's operations by latency.
pub(super) fn phases(s: &Summary) -> Vec<PhaseTable> {
    let row = |name: String, count: String, l: &Latency| {
        let mut row = vec![name, count, units::rate(l.per_second), nanos(l.mean_ns)];
        for (name, _) in super::data::summary::PERCENTILES {
            row.push(or_dash(l.percentile(name).map(|v| nanos(v as f64))));
        }
        row.push(nanos(l.max_ns as f64));
        row
    };
    let table = |p: &Phase| PhaseTable {
        name: p.name.clone(),
        about: format!("{}, {} thread(s)", Unit::Seconds.show(p.seconds), p.threads),
        rows: p
            .operations
            .iter()
            .flat_map(|o| {
                let count = units::count(o.latency.count);
                let first = row(o.name.clone(), count, &o.latency);
                let service = o.service.as_ref();
                let second = service.map(|l| row(format!("{} service", o.name), String::new(), l));
                std::iter::once(first).chain(second)
            })
            .collect(),
    };
    // What was measured comes first.
    let (run, rest): (Vec<_>, Vec<_>) = s.phases.iter().partition(|p| p.kind() == "run");
    run.into_iter().chain(rest).map(table).collect()
}

/// The device's totals over the measured phase.
pub(super) fn device(p: &Phase) -> Pairs {
    let Some(d) = &p.device else {
        return Vec::new();
    };
    let rate = |n: u64| {
        let each = units::rate(n as f64 / p.seconds.max(1e-9));
        format!("{} ({each} a second)", units::count(n))
    };
    let bytes = |n: u64| {
        let each = (n as f64 / p.seconds.max(1e-9)) as u64;
        format!("{} ({}/s)", units::bytes(n), units::bytes(each))
    };
    [
        ("reads", rate(d.reads)),
        ("read", bytes(d.read_bytes)),
        ("writes", rate(d.writes)),
        ("written", bytes(d.written_bytes)),
        ("flushes", rate(d.flushes)),
        ("discards", rate(d.discards)),
        ("discarded", bytes(d.discarded_bytes)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

impl FloorPanel {
    pub(super) fn of(floor: &Floor) -> Option<Self> {
        let rate = |v: Option<f64>| or_dash(v.map(units::rate));
        let time = |v: Option<u64>| or_dash(v.map(|v| nanos(v as f64)));
        let cells = floor.cells.iter().map(|c| {
            [
                c.name.clone(),
                or_dash(c.depth.map(|d| d.to_string())),
                rate(c.per_second),
                or_dash(c.bytes_per_second.map(|b| Unit::BytesPerSecond.show(b))),
                time(c.p50_ns),
                time(c.p99_ns),
            ]
        });
        let shares = floor.share.iter().map(|s| {
            let share = s.share.unwrap_or(0.0);
            (
                s.what.clone(),
                rate(s.engine_per_second),
                rate(s.device_per_second),
                percent(share),
                or_dash(s.share.map(|v| format!("{:.0} %", v * 100.0))),
            )
        });
        let panel = Self {
            cells: cells.collect(),
            shares: shares.collect(),
        };
        (!panel.cells.is_empty() || !panel.shares.is_empty()).then_some(panel)
    }
}

fn percent(share: f64) -> u64 {
    (share * 100.0).round().clamp(0.0, 100.0) as u64
}

/// Groups that tell how two-stage copy-on-write went, in this order.
const STAGES: [&str; 5] = [
    "two_stage",
    "reservations",
    "restarts",
    "allocator",
    "throttle",
];

pub(super) fn stages(p: &Phase) -> Vec<Counters> {
    STAGES.iter().filter_map(|name| counters(p, name)).collect()
}

pub(super) fn others(p: &Phase) -> Vec<Counters> {
    let names = p.counters.keys().map(String::as_str);
    let rest = names.filter(|n| !STAGES.contains(n) && *n != "waits");
    rest.filter_map(|name| counters(p, name)).collect()
}

fn counters(p: &Phase, group: &str) -> Option<Counters> {
    let list = p.counters.get(group)?;
    // Bars compare what has one unit.
    let most = |unit: &str| {
        let same = list.values().filter(|c| c.unit == unit);
        same.map(|c| c.value).max().unwrap_or(0).max(1)
    };
    let rows = list.iter().map(|(name, c)| {
        let value = match c.unit.as_str() {
            "bytes" => units::bytes(c.value),
            "ns" => nanos(c.value as f64),
            _ => units::count(c.value),
        };
        let share = c.value as f64 / most(&c.unit) as f64;
        let name = name.replace("nanos", "time").replace('_', " ");
        (name, value, percent(share))
    });
    Some(Counters {
        name: group.replace('_', " "),
        rows: rows.collect(),
    })
}

/// The engine's waits: what for, how often, how long in all and on average.
pub(super) fn waits(p: &Phase) -> Vec<[String; 4]> {
    let Some(group) = p.counters.get("waits") else {
        return Vec::new();
    };
    let row = |(name, c): (&String, &super::data::summary::Counter)| {
        if name.ends_with("_nanos") {
            return None;
        }
        let nanos_of = group.get(&format!("{name}_nanos")).map(|c| c.value);
        let mean = nanos_of
            .filter(|_| c.value > 0)
            .map(|n| n as f64 / c.value as f64);
        Some([
            name.replace('_', " "),
            units::count(c.value),
            or_dash(nanos_of.map(|n| nanos(n as f64))),
            or_dash(mean.map(nanos)),
        ])
    };
    group.iter().filter_map(row).collect()
}

/// The slowest operations and where their time went.
pub(super) fn worst(p: &Phase) -> Vec<Slow> {
    // A kind of wait has one colour in the whole table.
    let mut kinds: Vec<&String> = p.worst.iter().flat_map(|w| w.waits.keys()).collect();
    kinds.sort();
    kinds.dedup();
    let list = p.worst.iter().map(|w| {
        let mut left = w.latency_ns;
        let mut parts = Vec::new();
        let mut part = |class: String, name: String, ns: u64| {
            let ns = ns.min(left);
            left -= ns;
            if ns > 0 {
                let share = ns as f64 / w.latency_ns.max(1) as f64 * 100.0;
                parts.push((class, name, nanos(ns as f64), share));
            }
        };
        part("c1".into(), "late".into(), w.late_ns);
        for (kind, ns) in &w.waits {
            let at = kinds.iter().position(|k| *k == kind).unwrap_or(0);
            let class = ["c0", "c2", "c3", "c4", "c6", "c7"][at % 6];
            part(class.into(), kind.replace('_', " "), *ns);
        }
        part(
            "off".into(),
            "off the processor".into(),
            w.off_cpu_ns.unwrap_or(0),
        );
        part("c5".into(), "the rest".into(), u64::MAX);
        Slow {
            cells: [
                w.operation.clone(),
                format!("{:.2} s", w.at),
                w.thread.to_string(),
                nanos(w.latency_ns as f64),
            ],
            parts,
        }
    });
    list.collect()
}

pub(super) fn environment(s: &Summary) -> Pairs {
    let mut pairs = Pairs::new();
    flatten(&s.environment, "", &mut pairs);
    pairs.extend(
        s.stream_checksum
            .clone()
            .map(|c| ("stream of operations".into(), c)),
    );
    pairs
}

/// Nested values as names and text; a list that is empty, or nothing, is left out.
pub(super) fn flatten(value: &Value, name: &str, out: &mut Pairs) {
    let under = |key: &str| match name {
        "" => key.replace('_', " "),
        _ => format!("{name} / {}", key.replace('_', " ")),
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| flatten(v, &under(k), out)),
        Value::Array(list) if list.iter().all(|v| !v.is_object()) => {
            let text: Vec<_> = list.iter().map(plain).collect();
            if !text.is_empty() {
                out.push((name.to_owned(), text.join("; ")));
            }
        }
        Value::Array(list) => {
            let each = list.iter().enumerate();
            each.for_each(|(i, v)| flatten(v, &under(&(i + 1).to_string()), out));
        }
        Value::Null => {}
        Value::Number(n) if is_bytes(name) && n.as_u64().is_some() => {
            let text = units::bytes(n.as_u64().unwrap_or(0));
            out.push((name.to_owned(), text));
        }
        other => out.push((name.to_owned(), plain(other))),
    }
}

fn is_bytes(name: &str) -> bool {
    let last = name.rsplit(" / ").next().unwrap_or(name);
    last.ends_with("bytes") || last == "memory"
}

fn plain(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}
