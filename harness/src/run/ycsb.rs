//! YCSB's property files, read as configurations.
//!
//! What a property means here is in `docs/workloads.md`. One that is not known is
//! refused; one that has no meaning for an engine, or none that changes what is
//! measured, is named and left out.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// A property file as a configuration.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// The keys of the configuration.
    pub(super) table: Table,
    /// Where each of them was set: line numbers.
    pub(super) lines: Vec<(String, usize)>,
    /// What was left out, and why, each with its line.
    pub(super) notes: Vec<(usize, String)>,
}

/// What is wrong, each with its line; 0 for the whole file.
type Wrong = Vec<(usize, String)>;

/// Properties that say nothing of the work itself.
const HARMLESS: [(&str, &str); 20] = [
    ("workload", "there is one kind of workload"),
    ("db", "the engine is store.engine"),
    ("table", "the tree is store.tree"),
    ("fieldnameprefix", "fields have no names"),
    ("readallfieldsbyname", "fields have no names"),
    ("readallfields", "a record is one value, read whole"),
    ("writeallfields", "a record is one value, written whole"),
    ("zeropadding", "keys are all 24 bytes"),
    ("measurementtype", "all is measured by histograms"),
    (
        "measurement.interval",
        "both latencies are kept in an open loop",
    ),
    ("measurement.trackjvm", "there is no JVM"),
    ("measurement.raw.output_file", "the histograms are in --out"),
    (
        "measurement.histogram.verbose",
        "the histograms are in --out",
    ),
    ("histogram.buckets", "histograms have three digits"),
    (
        "timeseries.granularity",
        "a run has a line per second in --out",
    ),
    ("exporter", "the summary is --json"),
    ("exportfile", "the summary is --json FILE"),
    ("status.interval", "progress is shown to a terminal"),
    (
        "dotransactions",
        "a run loads, then runs the mix; load.skip leaves the load out",
    ),
    (
        "core_workload_insertion_retry_limit",
        "inserts are not tried again",
    ),
];

/// Beginnings of such properties.
const HARMLESS_PREFIXES: [(&str, &str); 2] = [
    ("hdrhistogram.", "the histograms are in --out"),
    (
        "core_workload_insertion_retry_interval",
        "inserts are not tried again",
    ),
];

/// Properties that have a meaning here.
const KNOWN: [&str; 30] = [
    "recordcount",
    "operationcount",
    "maxexecutiontime",
    "insertstart",
    "insertcount",
    "readproportion",
    "updateproportion",
    "insertproportion",
    "scanproportion",
    "readmodifywriteproportion",
    "requestdistribution",
    "zipfianconstant",
    "hotspotdatafraction",
    "hotspotopnfraction",
    "exponential.percentile",
    "exponential.frac",
    "minscanlength",
    "maxscanlength",
    "scanlengthdistribution",
    "fieldcount",
    "fieldlength",
    "minfieldlength",
    "fieldlengthdistribution",
    "fieldlengthhistogram",
    "insertorder",
    "threadcount",
    "target",
    "dataintegrity",
    "seed",
    "batchsize",
];

/// Whether the text is a property file rather than TOML: `extension` says so, or
/// there is none and YCSB's first property is there.
pub(super) fn is_properties(extension: Option<&str>, text: &str) -> bool {
    match extension {
        Some(e) => e == "properties",
        None => text.lines().any(|l| {
            let (name, value) = split(l);
            // In TOML this is a table, or text in quotes.
            matches!(name, "recordcount" | "workload") && !value.is_empty()
        }),
    }
}

/// Reads the properties.
pub(super) fn translate(text: &str) -> Result<Translated, Wrong> {
    let mut wrong = Vec::new();
    let mut properties = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), i + 1);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        if line.ends_with('\\') {
            wrong.push((
                number,
                "a line that goes on in the next is not read; write it in one".into(),
            ));
            continue;
        }
        let (name, value) = split(line);
        // As in Java, the last one counts.
        properties.insert(name, (value, number));
    }
    let mut reader = Reader {
        properties,
        wrong,
        out: Translated::default(),
    };
    reader.records();
    reader.mix();
    reader.choice();
    reader.scans();
    reader.pace();
    reader.rest();
    match reader.wrong.is_empty() {
        true => Ok(reader.out),
        false => {
            reader.wrong.sort();
            Err(reader.wrong)
        }
    }
}

/// Name and value: parted by `=`, `:` or space.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    let end = line
        .find(|c: char| c == '=' || c == ':' || c.is_whitespace())
        .unwrap_or(line.len());
    let (name, value) = line.split_at(end);
    let value = value.trim_start();
    (name, value.strip_prefix(['=', ':']).unwrap_or(value).trim())
}

struct Reader<'a> {
    /// Those not read yet: value and line.
    properties: BTreeMap<&'a str, (&'a str, usize)>,
    wrong: Wrong,
    out: Translated,
}

impl<'a> Reader<'a> {
    fn take(&mut self, name: &str) -> Option<(&'a str, usize)> {
        self.properties.remove(name)
    }

    /// The value of a property as a number; `default` where it is not set.
    fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> (T, usize) {
        let Some((text, line)) = self.take(name) else {
            return (default, 0);
        };
        match text.parse() {
            Ok(n) => (n, line),
            Err(_) => {
                self.wrong
                    .push((line, format!("{name}: {text:?} is no number that it takes")));
                (default, line)
            }
        }
    }

    fn word(&mut self, name: &str, default: &'static str) -> (&'a str, usize) {
        self.take(name).unwrap_or((default, 0))
    }

    /// Sets a key of the configuration; `line` is where it comes from.
    fn set(&mut self, key: &str, value: impl Into<Value>, line: usize) {
        let mut at = &mut self.out.table;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                at.insert(part.to_owned(), value.into());
                break;
            }
            let below = at.entry(part).or_insert_with(|| Table::new().into());
            let Value::Table(below) = below else { return };
            at = below;
        }
        self.out.lines.push((key.to_owned(), line));
    }

    fn whole(&mut self, key: &str, (n, line): (u64, usize)) {
        match i64::try_from(n) {
            Ok(n) => self.set(key, n, line),
            Err(_) => self.wrong.push((line, format!("{n} is too large"))),
        }
    }

    /// What is loaded.
    fn records(&mut self) {
        let records: (u64, _) = self.number("recordcount", 0);
        if records.0 == 0 {
            self.wrong
                .push((records.1, "recordcount is missing; set it".into()));
        }
        self.whole("load.records", records);
        for (name, only) in [("insertstart", 0), ("insertcount", records.0)] {
            let (n, line) = self.number(name, only);
            if n != only {
                let what = format!(
                    "{name} is {n}; several loads of one store are not known here, only {only}"
                );
                self.wrong.push((line, what));
            }
        }
        // "user" and a hash of up to 20 digits.
        self.set("load.key_bytes", 24, 0);
        // One insert at a time, as YCSB loads.
        let batch = self.number("batchsize", 1);
        self.whole("load.batch", batch);
        match self.word("insertorder", "hashed") {
            ("hashed", line) => self.set("load.order", "random", line),
            ("ordered", line) => self.set("load.order", "sequential", line),
            (other, line) => self.unknown("insertorder", other, "hashed, ordered", line),
        }
        self.value();
    }

    /// All fields of a record are one value.
    fn value(&mut self) {
        let (fields, line): (u64, _) = self.number("fieldcount", 10);
        let (length, length_line): (u64, _) = self.number("fieldlength", 100);
        let (least, _): (u64, _) = self.number("minfieldlength", 1);
        let (law, law_line) = self.word("fieldlengthdistribution", "constant");
        let histogram = self.take("fieldlengthhistogram");
        let ends = || vec![Value::Integer(least as i64), Value::Integer(length as i64)];
        let line = line.max(length_line);
        match law {
            "constant" => self.whole("load.value_bytes", (fields.saturating_mul(length), line)),
            "uniform" | "zipfian" if fields == 1 => {
                self.set(&format!("load.value_bytes.{law}"), ends(), law_line);
            }
            "uniform" | "zipfian" => self.wrong.push((
                law_line,
                format!(
                    "fieldlengthdistribution is {law} for {fields} fields: no form of load.value_bytes is the sum of so many; set fieldcount=1"
                ),
            )),
            "histogram" => self.wrong.push((
                law_line,
                "fieldlengthdistribution is histogram; say it as load.value_bytes = { weights = [[100, 3], [1000, 1]] } in a TOML file".into(),
            )),
            other => self.unknown("fieldlengthdistribution", other, "constant, uniform, zipfian", law_line),
        }
        if let (Some((_, line)), true) = (histogram, law != "histogram") {
            let what =
                format!("fieldlengthhistogram is left out: fieldlengthdistribution is {law}");
            self.out.notes.push((line, what));
        }
    }

    fn mix(&mut self) {
        for (name, default, key) in [
            ("readproportion", 0.95, "read"),
            ("updateproportion", 0.05, "update"),
            ("insertproportion", 0.0, "insert"),
            ("scanproportion", 0.0, "scan"),
            ("readmodifywriteproportion", 0.0, "rmw"),
        ] {
            let (share, line): (f64, _) = self.number(name, default);
            if share != 0.0 {
                self.set(&format!("run.mix.{key}"), share, line);
            }
        }
    }

    fn choice(&mut self) {
        let (law, line) = self.word("requestdistribution", "uniform");
        match law {
            "uniform" | "zipfian" | "latest" | "hotspot" | "exponential" => {
                self.set("run.distribution", law, line);
            }
            // One counter for all threads.
            "sequential" => self.set("run.distribution", "interleaved", line),
            other => self.unknown(
                "requestdistribution",
                other,
                "uniform, zipfian, latest, hotspot, exponential, sequential",
                line,
            ),
        }
        for (name, key) in [
            ("zipfianconstant", "run.theta"),
            ("hotspotdatafraction", "run.hotspot.data"),
            ("hotspotopnfraction", "run.hotspot.operations"),
            ("exponential.percentile", "run.exponential.percentile"),
            ("exponential.frac", "run.exponential.fraction"),
        ] {
            if self.properties.contains_key(name) {
                let (n, line): (f64, _) = self.number(name, 0.0);
                self.set(key, n, line);
            }
        }
    }

    fn scans(&mut self) {
        let (least, _): (u64, _) = self.number("minscanlength", 1);
        let (most, line): (u64, _) = self.number("maxscanlength", 1000);
        match self.word("scanlengthdistribution", "uniform") {
            (law @ ("uniform" | "zipfian"), at) => {
                let ends = vec![Value::Integer(least as i64), Value::Integer(most as i64)];
                self.set(&format!("run.scan_length.{law}"), ends, line.max(at));
            }
            (other, line) => {
                self.unknown("scanlengthdistribution", other, "uniform, zipfian", line)
            }
        }
    }

    fn pace(&mut self) {
        let operations: (u64, _) = self.number("operationcount", 0);
        let (seconds, line): (f64, _) = self.number("maxexecutiontime", 0.0);
        if operations.0 > 0 {
            self.whole("run.operations", operations);
        }
        if seconds > 0.0 {
            self.set("run.seconds", seconds, line);
        }
        if operations.0 == 0 && seconds <= 0.0 {
            // YCSB: loads only, or runs for ever.
            self.out.table.remove("run");
            self.out.notes.push((
                0,
                "neither operationcount nor maxexecutiontime is set: loads, and runs nothing"
                    .into(),
            ));
        }
        let (threads, line) = self.number("threadcount", 1);
        self.whole("load.threads", (threads, line));
        let (target, at): (f64, _) = self.number("target", 0.0);
        if operations.0 > 0 || seconds > 0.0 {
            self.whole("run.threads", (threads, line));
            if target > 0.0 {
                self.set("run.rate", target, at);
            }
        }
        if self.properties.contains_key("seed") {
            let seed = self.number("seed", 0);
            self.whole("run.seed", seed);
        }
        match self.take("dataintegrity") {
            Some((text @ ("true" | "false"), line)) => self.set("run.verify", text == "true", line),
            Some((other, line)) => self.unknown("dataintegrity", other, "true, false", line),
            None => {}
        }
    }

    /// What nobody has taken.
    fn rest(&mut self) {
        for (name, (_, line)) in std::mem::take(&mut self.properties) {
            let harmless = HARMLESS
                .iter()
                .find(|(known, _)| *known == name)
                .or_else(|| HARMLESS_PREFIXES.iter().find(|(p, _)| name.starts_with(p)));
            match harmless {
                Some((_, why)) => self
                    .out
                    .notes
                    .push((line, format!("{name} is left out: {why}"))),
                None => {
                    let known = KNOWN.iter().chain(HARMLESS.iter().map(|(known, _)| known));
                    let near = known
                        .map(|k| (strsim::damerau_levenshtein(name, k), *k))
                        .min()
                        .filter(|(distance, k)| *distance <= 1 + k.len() / 3);
                    let hint = match near {
                        Some((_, k)) => format!("did you mean `{k}`?"),
                        None => "if it does not change the workload, take it out".into(),
                    };
                    self.wrong
                        .push((line, format!("unknown property `{name}`; {hint}")));
                }
            }
        }
        self.out.notes.sort();
    }

    fn unknown(&mut self, name: &str, value: &str, takes: &str, line: usize) {
        self.wrong
            .push((line, format!("{name} is {value:?}; it takes {takes}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As YCSB ships it, in its main lines.
    const WORKLOAD_E: &str = "
# Workload E: short ranges
recordcount=1000
operationcount=1000
workload=site.ycsb.workloads.CoreWorkload

readallfields=true

readproportion=0
updateproportion=0
scanproportion=0.95
insertproportion=0.05

requestdistribution=zipfian

maxscanlength=100

scanlengthdistribution=uniform
";

    fn value<'a>(t: &'a Translated, key: &str) -> Option<&'a Value> {
        let mut parts = key.split('.');
        let first = t.table.get(parts.next()?);
        parts.try_fold(first?, |at, part| at.get(part))
    }

    #[test]
    fn a_shipped_workload_is_what_it_says() {
        let t = translate(WORKLOAD_E).unwrap();
        for (key, expected) in [
            ("load.records", Value::Integer(1000)),
            ("load.key_bytes", Value::Integer(24)),
            ("load.value_bytes", Value::Integer(1000)),
            ("load.order", "random".into()),
            ("run.operations", Value::Integer(1000)),
            ("run.mix.scan", Value::Float(0.95)),
            ("run.mix.insert", Value::Float(0.05)),
            ("run.distribution", "zipfian".into()),
            ("run.scan_length.uniform", vec![1, 100].into()),
            ("run.threads", Value::Integer(1)),
        ] {
            assert_eq!(value(&t, key), Some(&expected), "{key}");
        }
        for key in ["run.mix.read", "run.mix.update", "run.rate", "run.seconds"] {
            assert_eq!(value(&t, key), None, "{key}");
        }
        let left_out: Vec<&str> = t
            .notes
            .iter()
            .map(|(_, n)| n.split(' ').next().unwrap())
            .collect();
        assert_eq!(left_out, ["workload", "readallfields"]);
        assert!(t.lines.contains(&("run.distribution".to_owned(), 14)));
    }

    #[test]
    fn the_rest_of_the_core_workload_is_known() {
        let text = "recordcount: 10\nmaxexecutiontime 5\nthreadcount = 4\ntarget=100\n\
            requestdistribution=hotspot\nhotspotdatafraction=0.1\nhotspotopnfraction=0.7\n\
            exponential.percentile=90\nexponential.frac=0.5\ninsertorder=ordered\n\
            fieldcount=1\nfieldlength=50\nfieldlengthdistribution=zipfian\n\
            scanlengthdistribution=zipfian\nmaxscanlength=7\ndataintegrity=true\n";
        let t = translate(text).unwrap();
        for (key, expected) in [
            ("run.seconds", Value::Float(5.0)),
            ("run.rate", Value::Float(100.0)),
            ("load.threads", Value::Integer(4)),
            ("run.mix.read", Value::Float(0.95)),
            ("run.hotspot.data", Value::Float(0.1)),
            ("run.hotspot.operations", Value::Float(0.7)),
            ("run.exponential.percentile", Value::Float(90.0)),
            ("run.exponential.fraction", Value::Float(0.5)),
            ("load.order", "sequential".into()),
            ("load.value_bytes.zipfian", vec![1, 50].into()),
            ("run.scan_length.zipfian", vec![1, 7].into()),
            ("run.verify", true.into()),
        ] {
            assert_eq!(value(&t, key), Some(&expected), "{key}");
        }
        let sequential =
            translate("recordcount=1\noperationcount=1\nrequestdistribution=sequential");
        let sequential = sequential.unwrap();
        assert_eq!(
            value(&sequential, "run.distribution"),
            Some(&"interleaved".into())
        );
    }

    #[test]
    fn what_is_not_known_is_named_with_its_line() {
        let wrong = translate(
            "recordcuont=10\nrequestdistribution=zipf\nthreadcount=many\ninsertstart=5\nrocksdb.dir=/x\na=\\\n",
        )
        .unwrap_err();
        let told: Vec<String> = wrong.iter().map(|(l, w)| format!("{l}: {w}")).collect();
        for part in [
            "0: recordcount is missing",
            "1: unknown property `recordcuont`; did you mean `recordcount`?",
            "2: requestdistribution is \"zipf\"; it takes uniform, zipfian",
            "3: threadcount: \"many\"",
            "4: insertstart is 5",
            "5: unknown property `rocksdb.dir`; if it does not change",
            "6: a line that goes on",
        ] {
            assert!(told.iter().any(|t| t.starts_with(part)), "{part}: {told:?}");
        }
        let sum = translate("recordcount=1\nfieldlengthdistribution=uniform").unwrap_err();
        assert!(sum[0].1.contains("fieldcount=1"), "{sum:?}");
    }

    #[test]
    fn property_files_are_told_from_toml() {
        assert!(is_properties(Some("properties"), ""));
        assert!(!is_properties(Some("toml"), WORKLOAD_E));
        assert!(is_properties(None, WORKLOAD_E));
        assert!(!is_properties(None, "[load]\nrecords = 5\n"));
    }
}
