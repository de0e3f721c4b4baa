//! How operations come: phases, open and closed loops, stalls, Ctrl-C, and what is
//! the same when a run is repeated.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::Place;

/// Every operation, and threads whose order is not the same twice.
const NULL: &str = "
store.engine = 'null'
load = { records = 100_000, key_bytes = 8, value_bytes = 20, skip = true }
output.dir = 'out'

[run]
threads = 3
operations = 50_000
seed = 7
batch = 2
mix = { read = 4, update = 1, insert = 1, scan = 1, reverse = 1, delete = 1, rmw = 1 }
scan_length = 5
";

const STORE: &str = "
store = { path = 'run.store', size = '128MiB', create = 'fresh', cache = '8MiB' }
load = { records = 20_000, threads = 2 }
output.dir = 'out'

[run]
threads = 2
operations = 4_000
mix = { read = 50, update = 20, insert = 10, scan = 10, reverse = 10 }
distribution = 'latest'
scan_length = 20
";

fn phase<'a>(summary: &'a Value, kind: &str) -> &'a Value {
    let phases = summary["phases"].as_array().expect("phases");
    let found = phases.iter().find(|p| p["kind"] == kind);
    found.unwrap_or_else(|| panic!("no phase {kind}: {summary}"))
}

fn count(phase: &Value) -> u64 {
    let operations = phase["operations"].as_array().expect("operations");
    let each = operations.iter();
    each.map(|o| o["latency"]["count"].as_u64().expect("a count"))
        .sum()
}

/// Without the breaks of its lines.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn latency<'a>(phase: &'a Value, which: &str, figure: &str) -> &'a Value {
    &phase["operations"][0][which][figure]
}

#[test]
fn the_null_engine_measures_the_harness_and_makes_no_store() {
    let place = Place::new();
    place.file("c.toml", NULL);
    let text = flat(&place.ok("run c.toml"));
    assert!(
        text.contains("recorded operations/s per thread")
            && text.contains("operations xxh3:")
            && text.contains("seed 7"),
        "{text}"
    );
    let first: Value = serde_json::from_str(
        &fs::read_to_string(place.path("out/summary.json")).expect("a summary"),
    )
    .expect("JSON");
    let run = phase(&first, "run");
    assert_eq!(count(run), 50_000);
    assert_eq!(run["operations"].as_array().map(Vec::len), Some(7));
    assert!(run["harness"]["cost_ns"].as_f64() > Some(0.0), "{run}");
    assert!(
        fs::read_dir(place.path("."))
            .expect("a directory")
            .all(|e| ["c.toml", "out"]
                .contains(&&*e.expect("an entry").file_name().to_string_lossy()))
    );

    // The same operations again, at whatever pace and for however long.
    let sum = &first["stream_checksum"];
    for sets in ["", " --set run.rate=20000 --set run.seconds=0.2"] {
        let again = place.json(&format!("run out/run.toml --out again{sets} --json -"));
        assert_eq!(&again["stream_checksum"], sum);
    }
    for set in ["run.seed=8", "run.mix.read=5", "run.threads=2"] {
        let other = place.json(&format!("run c.toml --set {set} --json -"));
        assert_ne!(&other["stream_checksum"], sum, "{set}");
    }
    let plan = place.ok("run c.toml --dry-run --out not-made");
    assert!(plan.contains("engine is null") && !place.path("not-made").exists());
}

#[test]
fn what_comes_before_is_told_and_not_measured() {
    let place = Place::new();
    place.file("c.toml", STORE);
    let line = "run c.toml --set precondition.times=0.5 --set precondition.of=records \
                --set precondition.threads=2 --set run.warmup_operations=1000 \
                --set verify.read_back=true --set verify.check=true --json -";
    let words = || line.split_whitespace().collect::<Vec<_>>().join(" ");
    let s = place.json(&words());
    let kinds: Vec<&str> = s["phases"]
        .as_array()
        .expect("phases")
        .iter()
        .map(|p| p["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["load", "precondition", "warmup", "run", "readback"]);
    let wear = phase(&s, "precondition");
    assert_eq!(wear["operations"][0]["records"], 10_000);
    assert_eq!(count(phase(&s, "warmup")), 1000);
    let run = phase(&s, "run");
    assert_eq!((count(run), &run["steady"]), (4000, &Value::Null));
    assert!(run["harness"]["share_of_median"].as_f64() > Some(0.0));
    assert_eq!(s["check"]["clean"], true);
    // The histograms are the measured phase's.
    let read = run["operations"].as_array().expect("operations");
    let updates = read.iter().find(|o| o["name"] == "update");
    let updates = updates.expect("updates")["latency"]["count"].to_string();
    let hgrm = fs::read_to_string(place.path("out/update.hgrm")).expect("there");
    assert!(hgrm.contains(&updates), "{updates}\n{hgrm}");
    let plan = place.ok(&words().replace("--json -", "--dry-run"));
    assert!(plan.contains("0.5 times") && plan.contains("warm up for 1,000"));
}

#[test]
fn a_warm_up_ends_when_throughput_is_steady_or_at_its_limit() {
    let place = Place::new();
    place.file("c.toml", STORE);
    // An open loop far below what the store can is as level as can be.
    let steady = place.ok("run c.toml --set run.rate=500 --set run.operations=100 \
         --set run.steady={window=\"1s\",tolerance=0.5,limit=\"20s\"}"
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .as_str());
    assert!(
        flat(&steady).contains("steady throughput had kept"),
        "{steady}"
    );
    let s = place.json(
        "run c.toml --set run.steady={window=\"1s\",tolerance=0.000001,limit=\"1s\"} --json -",
    );
    assert_eq!(phase(&s, "run")["steady"], false);
    let warmup = phase(&s, "warmup")["seconds"].as_f64().expect("seconds");
    assert!(warmup >= 0.99, "{warmup}");
}

#[test]
fn a_stall_shows_in_an_open_loop_and_hardly_in_a_closed_one() {
    let place = Place::new();
    place.file("c.toml", STORE);
    let line = "run c.toml --set run.mix={read=1} --set run.operations=20000 --set run.seconds=3 \
                --set store.stall={at=\"300ms\",for=\"1s\"} --set run.threads=1 --set run.seed=3";
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    for engine in ["gaur", "null"] {
        let line = format!("{line} --set store.engine={engine}");
        // So slow that all of a closed loop is not over before the stall.
        let closed = place.json(&format!("{line} --set run.think=20us --json -"));
        let run = phase(&closed, "run");
        let at = |which, figure| latency(run, which, figure).as_u64().expect("a time");
        assert!(at("latency", "max_ns") >= 900_000_000, "{run}");
        assert!(at("latency", "p99_ns") < 100_000_000, "{run}");

        let open = place.json(&format!("{line} --set run.rate=2000 --json -"));
        let run = phase(&open, "run");
        let at = |which, figure| latency(run, which, figure).as_u64().expect("a time");
        assert!(at("latency", "p99_9_ns") >= 900_000_000, "{run}");
        assert!(at("latency", "p99_ns") >= 800_000_000, "{run}");
        // The calls themselves say nothing of it; both figures are kept.
        assert!(at("service", "p99_ns") < 100_000_000, "{run}");
        assert!(at("service", "max_ns") >= 900_000_000, "{run}");
        // Late is not left out: nearly all that was due was begun.
        let all = count(run) + run["not_started"].as_u64().expect("a count");
        assert!((5_990..=6_010).contains(&all), "{all}");
    }
    let text = flat(&place.ok(&format!("{line} --set store.engine=null")));
    assert!(
        text.contains("coordinated omission")
            && text.contains("run.rate")
            && text.contains("store.stall"),
        "{text}"
    );
    let text = flat(&place.ok(&format!(
        "{line} --set store.engine=null --set run.rate=1000 --set run.arrival=poisson"
    )));
    assert!(
        text.contains("poisson arrival") && text.contains("from the intended start"),
        "{text}"
    );
}

#[test]
fn arrivals_and_think_times_keep_their_mean() {
    let place = Place::new();
    place.file("c.toml", NULL);
    let line = "run c.toml --set run.operations=1000000 --set run.seconds=1";
    let s = place.json(&format!(
        "{line} --set run.rate=2000 --set run.arrival=poisson --json -"
    ));
    let run = phase(&s, "run");
    let all = count(run) + run["not_started"].as_u64().expect("a count");
    // Four deviations of a Poisson count.
    assert!((1_820..=2_180).contains(&all), "{all}");
    for kind in ["constant", "exponential"] {
        let s = place.json(&format!(
            "{line} --set run.think=10ms --set run.think_kind={kind} --json -"
        ));
        // At most a hundred a thread; of exponential pauses a few more.
        let n = count(phase(&s, "run"));
        assert!((3..=400).contains(&n), "{kind}: {n}");
    }
}

#[test]
fn threads_stay_where_they_are_put() {
    let place = Place::new();
    place.file("c.toml", NULL);
    assert_eq!(
        count(phase(
            &place.json("run c.toml --set run.pin=true --json -"),
            "run"
        )),
        50_000
    );
    let e = place.refused("run c.toml --set run.pin=[99999]");
    assert!(
        e.contains("processor 99999") && e.contains("may use"),
        "{e}"
    );
    let e = place.refused("run c.toml --set run.pin=yes");
    assert!(e.contains("run.pin takes true, false or a list"), "{e}");
}

/// All files of a run can be read as what they are.
fn readable(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(!text.is_empty(), "{name}");
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => drop(serde_json::from_str::<Value>(&text).expect(&name)),
            Some("jsonl") => text
                .lines()
                .for_each(|l| drop(serde_json::from_str::<Value>(l).expect(&name))),
            Some("toml") => drop(text.parse::<toml::Table>().expect(&name)),
            Some("hgrm") => {
                let rows = text
                    .lines()
                    .skip(1)
                    .filter(|l| !l.is_empty() && !l.starts_with('#'));
                let last = rows
                    .map(|l| l.split_whitespace().collect::<Vec<_>>())
                    .last();
                let last = last.expect("a row");
                assert_eq!((last.len(), last[1].parse::<f64>()), (4, Ok(1.0)), "{name}");
            }
            _ => {}
        }
        names.push(name);
    }
    names
}

/// Interrupts a run when it has been in a phase for a while.
fn interrupted(config: &str, sets: &str, kind: &str, file: Option<&str>) {
    let place = Place::new();
    place.file("c.toml", config);
    let line = format!("run c.toml {sets}");
    let mut run = place.start(
        &line.split_whitespace().collect::<Vec<_>>().join(" "),
        "log",
    );
    let begin = Instant::now();
    while !place.path("out").exists() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(run.id() as i32), Signal::SIGINT).expect("sent");
    let sent = Instant::now();
    while run.try_wait().expect("waited for").is_none() {
        if sent.elapsed() > Duration::from_secs(60) {
            run.kill().expect("killed");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = run.wait().expect("ends");
    let log = fs::read_to_string(place.path("log")).expect("a log");
    assert!(
        ended.success() && log.contains("interrupted"),
        "{kind}: {log}"
    );
    let names = readable(&place.path("out"));
    let text = fs::read_to_string(place.path("out/summary.json")).expect("a summary");
    let s: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(s["interrupted"], true);
    let last = s["phases"]
        .as_array()
        .and_then(|p| p.last())
        .expect("a phase");
    assert_eq!(
        (last["kind"].as_str(), last["name"].as_str()),
        (Some(kind), Some(kind))
    );
    assert!(count(last) > 0, "{last}");
    // What an early end leaves undone was not due.
    assert!(last["not_started"].as_u64() < Some(1000), "{last}");
    assert!(names.iter().any(|n| n == "run.toml"), "{names:?}");
    if let Some(file) = file {
        assert!(names.iter().any(|n| n == file), "{file}: {names:?}");
    }
    if s["config"]["store"]["engine"] == "gaur" {
        assert_eq!(place.json("check run.store --json")["clean"], true);
    }
}

#[test]
fn ctrl_c_in_any_phase_leaves_whole_files() {
    let load = "--set load.records=100000000 --set load.batch=1 --set load.durability=sync";
    interrupted(STORE, load, "load", Some("load.hgrm"));
    let wear = "--set precondition.times=1000000 --set load.records=1000";
    interrupted(STORE, wear, "precondition", Some("load.hgrm"));
    let warm = "--set run.warmup_seconds=1000 --set load.records=1000 --set run.mix={read=1}";
    interrupted(STORE, warm, "warmup", Some("load.hgrm"));
    let run = "--set load.records=1000 --set run.operations=1000000000 --set run.rate=100 \
               --set run.seconds=1000 --set run.mix={update=1}";
    interrupted(STORE, run, "run", Some("update.service.hgrm"));
    let think = "--set run.think=1000s --set run.threads=1";
    interrupted(NULL, think, "run", Some("run.toml"));
    let stall = "--set run.think=1ms --set store.stall={at=\"100ms\",for=\"1000s\"}";
    interrupted(NULL, stall, "run", Some("read.hgrm"));
    let back = "--set load.records=100000000000 --set run.mix={insert=1} --set run.operations=10 \
                --set verify.read_back=true";
    interrupted(NULL, back, "readback", Some("readback.hgrm"));
}
