//! The text format, read back as strictly as it is described.

use std::collections::BTreeMap;

use gaur::{StatRow, Stats, Unit};

use super::*;

/// One metric: its type, help, label and value.
struct Metric {
    kind: String,
    help: String,
    store: String,
    value: String,
}

fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// The value of a label between its quotes.
fn unescaped(quoted: &str) -> String {
    let mut chars = quoted.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next() {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                other => panic!("{other:?} after a backslash"),
            }),
            '"' | '\n' => panic!("{c:?} in a label's value"),
            c => out.push(c),
        }
    }
    out
}

/// Each metric is HELP, TYPE and one sample, in this order; no metric comes twice.
fn parsed(text: &str) -> BTreeMap<String, Metric> {
    let mut all = BTreeMap::new();
    assert!(text.ends_with('\n'));
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
    for three in lines.chunks(3) {
        let [help, kind, sample] = three else {
            panic!("{three:?}");
        };
        let (name, help) = help
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert!(is_name(name), "{name}");
        assert!(!help.contains('\\') && help.len() > 3, "{name}: {help}");
        let kind = kind.strip_prefix(&format!("# TYPE {name} ")).unwrap();
        let rest = sample.strip_prefix(&format!("{name}{{store=\"")).unwrap();
        let (store, value) = rest.rsplit_once("\"} ").unwrap();
        let number = value.parse::<f64>().unwrap();
        assert!(number.is_finite() && number >= 0.0, "{name} {value}");
        let metric = Metric {
            kind: kind.to_owned(),
            help: help.to_owned(),
            store: unescaped(store),
            value: value.to_owned(),
        };
        assert!(
            all.insert(name.to_owned(), metric).is_none(),
            "{name} twice"
        );
    }
    all
}

fn some_stats() -> Stats {
    let store = open(&formatted(7, false));
    let tree = store.tree("t").unwrap();
    for i in 0..100u32 {
        tree.put(&i.to_be_bytes(), &[1; 100]).unwrap();
    }
    let _view = store.snapshot().unwrap();
    store.checkpoint().unwrap();
    store.stats()
}

#[test]
fn every_row_is_one_metric_with_its_unit() {
    let stats = some_stats();
    let name = "a \"strange\"\n\\name, e\u{301}";
    let all = parsed(&stats.to_prometheus(name));
    assert_eq!(all.len(), stats.rows().len());
    for (metric, m) in &all {
        assert_eq!(m.store, name);
        let total = metric.ends_with("_total");
        assert_eq!(m.kind, if total { "counter" } else { "gauge" }, "{metric}");
        let base = metric.strip_suffix("_total").unwrap_or(metric);
        let unit = ["bytes", "seconds"].iter().find(|u| base.ends_with(**u));
        assert!(unit.is_some() || !m.value.contains('.'), "{metric}");
        assert!(
            !metric.contains("nanos") && m.help.ends_with('.'),
            "{metric}"
        );
    }
    // Several rows of each kind, by name.
    let row = |group, name| {
        let wanted = |r: &&StatRow| r.group == group && r.name == name;
        stats.rows().iter().find(wanted).unwrap().value
    };
    let value = |metric: &str| all[metric].value.as_str();
    assert_eq!(value("gaur_work_ops_total"), "100");
    assert_eq!(value("gaur_views_open"), "1");
    assert_eq!(value("gaur_checkpoints_total"), "1");
    assert_eq!(value("gaur_growth_capacity_bytes"), (32 * MIB).to_string());
    assert_eq!(
        value("gaur_log_payload_bytes_total"),
        row("log", "payload_bytes").to_string()
    );
    let waited = row("waits", "durable_nanos");
    let shown: f64 = value("gaur_waits_durable_seconds_total").parse().unwrap();
    assert!(waited > 0 && (shown - waited as f64 / 1e9).abs() < 1e-9);
}

#[test]
fn every_row_has_a_unit_and_a_help() {
    for row in some_stats().rows() {
        let (name, unit) = (row.name, row.unit);
        assert!(!row.help().is_empty(), "{} {name}", row.group);
        assert_eq!(name.contains("nanos"), unit == Unit::Nanos, "{name}");
        assert!(!name.contains("bytes") || unit == Unit::Bytes, "{name}");
        // What is a maximum is no sum.
        assert!(
            row.gauge || !name.contains("max") && !name.contains("most"),
            "{name}"
        );
    }
}
