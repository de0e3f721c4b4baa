//! What is drawn: the shipped configurations, YCSB's files, traces, and threads
//! beside the mix.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::Place;

const CONFIGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");

fn phase<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let phases = summary["phases"].as_array().expect("phases");
    let found = phases.iter().find(|p| p["name"] == name);
    found.unwrap_or_else(|| panic!("no phase {name}: {summary}"))
}

/// Each operation of a phase with how often it was done.
fn counts(phase: &Value) -> Vec<(String, u64)> {
    let operations = phase["operations"].as_array().expect("operations");
    let each = operations.iter().map(|o| {
        let name = o["name"].as_str().expect("a name");
        (
            name.to_owned(),
            o["latency"]["count"].as_u64().expect("a count"),
        )
    });
    each.collect()
}

#[test]
fn every_shipped_configuration_runs() {
    let place = Place::new();
    let mut names: Vec<String> = fs::read_dir(CONFIGS)
        .expect("configs")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    // Those first whose stores others read.
    names.sort_by_key(|n| {
        (
            !matches!(&**n, "fillseq.toml" | "fillrandom.toml"),
            n.clone(),
        )
    });
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let path = format!("{CONFIGS}/{name}");
        let text = fs::read_to_string(&path).expect("text");
        let mut line = format!("run {path} --json - --set load.records=3000");
        if text.contains("size =") {
            line += " --set store.size=64MiB";
        }
        if text.contains("\noperations =") {
            line += " --set run.operations=3000";
        } else if text.contains("[run]") {
            line += " --set run.seconds=0.1";
        }
        if text.contains("warmup_seconds") {
            line += " --set run.warmup_seconds=0.05";
        }
        let summary = place.json(&line);
        assert_eq!(summary["missed"], serde_json::json!([]), "{name}");
        if !text.contains("[run]") {
            continue;
        }
        let run = phase(&summary, "run");
        let done = counts(run);
        assert!(!done.is_empty(), "{name}: {run}");
        for o in run["operations"].as_array().expect("operations") {
            assert_eq!(o["missing"], 0, "{name}: {o}");
        }
        if text.contains("background") {
            assert!(counts(phase(&summary, "background"))[0].1 > 0, "{name}");
        }
        if name == "deleteseq.toml" {
            assert_eq!(done, [("delete".to_owned(), 3000)]);
            let rest = place.ok("dump deleteseq.store");
            assert!(rest.contains("\"records\":0,"), "{rest}");
        }
    }
}

#[test]
fn threads_beside_the_mix_are_reported_apart() {
    let place = Place::new();
    place.file(
        "c.toml",
        "store = { path = 'b.store', size = '64MiB', create = 'fresh' }
         load = { records = 2000, value_bytes = { uniform = [0, 300] }, compression_ratio = 0.5 }
         verify.read_back = true
         [run]
         threads = 2
         operations = 20_000
         mix = { read = 1 }
         [run.background]
         threads = 2
         rate = 5000
         batch = 3
         mix = { update = 3, insert = 1 }
         distribution = 'hotspot'
        ",
    );
    let text = place.ok("run c.toml");
    assert!(text.contains("\nbackground: "), "{text}");
    let s = place.json("run c.toml --json -");
    let run = phase(&s, "run");
    assert_eq!(counts(run), [("read".to_owned(), 20_000)]);
    assert_eq!(
        (&run["threads"], &run["open_loop"]),
        (&2.into(), &false.into())
    );
    let beside = phase(&s, "background");
    assert_eq!(beside["open_loop"], true);
    let names: Vec<_> = counts(beside).into_iter().map(|(n, _)| n).collect();
    assert!(names.contains(&"update".to_owned()), "{names:?}");
    let update = &beside["operations"][0];
    assert_eq!(
        update["records"].as_u64(),
        update["latency"]["count"].as_u64().map(|n| 3 * n)
    );
    assert!(!update["service"].is_null());
    let e = place.refused("run c.toml --set run.background.threads=0");
    assert!(e.contains("run.background needs threads and a mix"), "{e}");
}

#[test]
fn a_property_file_of_ycsb_is_a_run() {
    let place = Place::new();
    let text = "# Yahoo! Cloud System Benchmark\n\
        recordcount=1000\noperationcount=2000\nworkload=site.ycsb.workloads.CoreWorkload\n\
        readallfields=true\nreadproportion=0.5\nupdateproportion=0.3\nscanproportion=0.1\n\
        insertproportion=0.1\nrequestdistribution=zipfian\nmaxscanlength=10\nthreadcount=2\n";
    for name in ["workloada", "w.properties"] {
        place.file(name, text);
        let line = format!(
            "run {name} --device y.store --fresh --set store.size=64MiB --out out --json -"
        );
        let said = place.gaur(line.split(' '));
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(
            said.err
                .contains(&format!("gaur: {name}:4: workload is left out")),
            "{}",
            said.err
        );
        let s: Value = serde_json::from_str(&said.out).expect("JSON");
        let done = counts(phase(&s, "run"));
        let names: Vec<&str> = done.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["read", "update", "insert", "scan"]);
        assert_eq!(done.iter().map(|(_, n)| n).sum::<u64>(), 2000);
        assert_eq!(s["config"]["load"]["value_bytes"], 1000);
        // What it came to is a configuration like any other.
        let again = place.json("run out/run.toml --set store.create=fresh --json -");
        assert_eq!(again["stream_checksum"], s["stream_checksum"]);
    }
    place.file(
        "workloadx",
        "recordcount=10\noperationcount=1\nrequestdistribution=pareto\n",
    );
    let e = place.refused("run workloadx --device z.store");
    assert!(
        e.contains("workloadx:3: requestdistribution is \"pareto\""),
        "{e}"
    );
    assert!(!place.path("z.store").exists());
}

const RECORDED: &str = "
store = { path = 'r.store', size = '64MiB', create = 'fresh' }
load = { records = 1000, key_bytes = { uniform = [8, 30] }, value_bytes = { normal = [10, 200] } }
verify.check = true
[run]
operations = 3000
rate = 10_000
seed = 7
record = 'r.trace'
distribution = 'zipfian'
scan_length = 10
mix = { read = 4, update = 3, insert = 2, delete = 1, scan = 1, reverse = 1, rmw = 2 }
";

#[test]
fn a_recorded_trace_does_the_same_again() {
    let place = Place::new();
    place.file("r.toml", RECORDED);
    let recorded = place.json("run r.toml --json -");
    let trace = fs::read_to_string(place.path("r.trace")).expect("a trace");
    assert_eq!(trace.lines().count(), 3001);
    let first = place.ok("dump r.store");

    let replay = "run r.toml --trace r.trace --set run.record=again.trace --set run.seed=8 \
                  --set store.path=r2.store --fresh --json -";
    // The rate is the trace's own.
    let config = RECORDED
        .replace("rate = 10_000\n", "")
        .replace("operations = 3000\n", "");
    place.file("r.toml", &config);
    let words: Vec<&str> = replay.split_whitespace().collect();
    let replay = words.join(" ");
    let paced = place.json(&replay);
    let run = phase(&paced, "run");
    assert_eq!(counts(run), counts(phase(&recorded, "run")));
    assert_eq!(
        (&run["open_loop"], &run["threads"]),
        (&true.into(), &1.into())
    );
    assert!(!run["operations"][0]["service"].is_null());
    // 3000 operations at 10,000 a second.
    let seconds = run["seconds"].as_f64().expect("seconds");
    assert!((0.28..3.0).contains(&seconds), "{seconds}");
    // The same records to the byte.
    let records = |dump: &str| -> Vec<String> {
        let lines = dump.lines().filter(|l| l.starts_with("{\"key\""));
        lines.map(str::to_owned).collect()
    };
    assert!(records(&first).len() > 1000);
    let second = records(&place.ok("dump r2.store"));
    let differs = second.iter().zip(records(&first)).find(|(a, b)| **a != *b);
    assert_eq!((second.len(), differs), (records(&first).len(), None));
    // And what was recorded of the replay is the trace once more, but for the times.
    let again = fs::read_to_string(place.path("again.trace")).expect("a trace");
    let what = |t: &str| -> Vec<String> {
        t.lines()
            .skip(1)
            .map(|l| l.split_once(' ').expect("fields").1.to_owned())
            .collect()
    };
    assert_eq!(what(&again), what(&trace));

    // As fast as it goes, by several threads, and only a part.
    let fast = place.json(&format!(
        "{replay} --set run.trace_speed=0 --set run.threads=3"
    ));
    assert_eq!(counts(phase(&fast, "run")), counts(phase(&recorded, "run")));
    assert_eq!(phase(&fast, "run")["open_loop"], false);
    let part = place.json(&format!("{replay} --set run.operations=100"));
    assert_eq!(
        counts(phase(&part, "run"))
            .iter()
            .map(|(_, n)| n)
            .sum::<u64>(),
        100
    );
    // What time did not suffice for is told.
    let slow = place.json(&format!(
        "{replay} --set run.seconds=0.1 --set run.trace_speed=0.5"
    ));
    let run = phase(&slow, "run");
    let begun: u64 = counts(run).iter().map(|(_, n)| n).sum();
    let owed = run["not_started"].as_u64().expect("a count");
    assert!((400..=600).contains(&(begun + owed)), "{begun} and {owed}");
}

#[test]
fn a_bad_trace_is_refused_before_anything_is_made() {
    let place = Place::new();
    place.file(
        "c.toml",
        "store = { path = 't.store', size = '32MiB' }\nrun.trace = 't.trace'\n",
    );
    place.file("t.trace", "0 read a\n5 write a 10\n4 read a\n7 update a\n");
    let said = place.gaur(["run", "c.toml"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("gaur: t.trace:2: unknown operation \"write\""));
    assert!(lines[1].starts_with("gaur: t.trace:4: update needs a value length"));
    let missing = place.refused("run c.toml --trace no.trace");
    assert!(missing.contains("no.trace"), "{missing}");
    for (sets, what) in [
        ("run.rate=5", "run.trace_speed"),
        ("run.warmup_seconds=1", "no warm-up"),
        ("run.record=t.trace", "a file of its own"),
        ("run.record=c.toml", "no trace that gaur wrote"),
        ("run.trace_speed=-1", "0 or more"),
    ] {
        place.file("t.trace", "0 update a 10\n1 read a\n2 read b\n");
        let e = place.refused(&format!("run c.toml --set {sets}"));
        assert!(e.contains(what), "{sets}: {e}");
    }
    assert!(!Path::new(&place.path("t.store")).exists());
    // A trace needs nothing loaded; what it does not find is counted.
    assert!(
        place
            .ok("run c.toml --dry-run")
            .contains("would do the 3 operations of t.trace")
    );
    let s = place.json("run c.toml --json -");
    let read = &phase(&s, "run")["operations"][0];
    assert_eq!((&read["records"], &read["missing"]), (&2.into(), &1.into()));
}
