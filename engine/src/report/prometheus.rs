//! Statistics in Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use super::{StatRow, Stats, Unit};

impl Stats {
    /// All statistics in Prometheus' text format (version 0.0.4), for a file or the answer to
    /// a scrape, of content type `text/plain; version=0.0.4`. `store` is the value of the
    /// label of that name, by which the stores of a process are told apart.
    ///
    /// The row `name` of a group is the metric `gaur_group_name`; sums end in `_total`;
    /// bytes and seconds are in the name.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("metrics.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// store.tree("t")?.put(b"k", b"v")?;
    /// let text = store.stats().to_prometheus("main");
    /// assert!(text.contains("# HELP gaur_work_ops_total Puts and deletes applied.\n"));
    /// assert!(text.contains("# TYPE gaur_work_ops_total counter\n"));
    /// assert!(text.contains("gaur_work_ops_total{store=\"main\"} 1\n"));
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn to_prometheus(&self, store: &str) -> String {
        let label = escaped(store);
        let mut out = String::new();
        for row in &self.rows {
            let name = metric(row);
            let kind = if row.gauge { "gauge" } else { "counter" };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {}.", row.help());
            let _ = writeln!(out, "# TYPE {name} {kind}");
            let _ = write!(out, "{name}{{store=\"{label}\"}} ");
            let _ = match row.unit {
                Unit::Nanos => {
                    let (seconds, nanos) = (row.value / 1_000_000_000, row.value % 1_000_000_000);
                    writeln!(out, "{seconds}.{nanos:09}")
                }
                Unit::Count | Unit::Bytes => writeln!(out, "{}", row.value),
            };
        }
        out
    }
}

/// The name of a row's metric.
fn metric(row: &StatRow) -> String {
    let unit = match row.unit {
        Unit::Count => "",
        Unit::Bytes => "bytes",
        Unit::Nanos => "seconds",
    };
    let own = row.name.strip_prefix(row.group).unwrap_or(row.name);
    // Only a whole word is left out.
    let own = match own.starts_with(|c: char| c != '_') {
        true => row.name,
        false => own,
    };
    let parts = own.split('_').filter(|p| !["nanos", "bytes"].contains(p));
    let own: Vec<&str> = parts.filter(|p| !p.is_empty()).collect();
    let own = own.join("_");
    let total = if row.gauge { "" } else { "total" };
    let parts = ["gaur", row.group, own.as_str(), unit, total];
    let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    parts.join("_")
}

/// A label's value.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}
