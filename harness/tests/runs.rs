//! Whole runs: what they print, write and check.

mod common;
#[path = "draws/mod.rs"]
mod draws;
#[path = "loops/mod.rs"]
mod loops;
#[path = "run_files/mod.rs"]
mod run_files;
#[path = "without_io_uring/mod.rs"]
mod without_io_uring;

use std::fs;

use common::{LoopDevice, Place};

const MIXED: &str = "
[store]
path = 'run.store'
size = '128MiB'
create = 'fresh'
cache = '8MiB'

[load]
records = 20_000
threads = 2

[run]
threads = 3
operations = 6_000
mix = { read = 40, update = 20, insert = 10, scan = 10, delete = 0, rmw = 20 }
distribution = 'zipfian'
scan_length = 20

[verify]
reopen = true
read_back = true
check = true

[output]
dir = 'out'
";

#[test]
fn a_run_reports_every_operation_and_writes_its_files() {
    let place = Place::new();
    place.file("c.toml", MIXED);
    let out = place.ok("run c.toml --set run.seed=7 --json summary.json");
    assert!(out.contains("seed 7"), "{out}");
    for word in [
        "load",
        "read",
        "update",
        "insert",
        "scan",
        "rmw",
        "readback",
        "p99.99",
        "under latch 0",
        "clean",
    ] {
        assert!(out.contains(word), "{word} is missing in\n{out}");
    }
    // Nothing was discarded, and nothing grew: no word of it.
    assert!(
        !out.contains("discards 0") && !out.contains("growths"),
        "{out}"
    );
    assert!(
        out.lines()
            .all(|l| l.chars().count() <= 100 || l.contains(':')),
        "{out}"
    );

    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.path("summary.json")).expect("there"))
            .expect("JSON");
    assert_eq!(summary["seed"], 7);
    assert_eq!(summary["environment"]["direct"], true);
    assert_eq!(summary["missed"], serde_json::json!([]));
    let phases = summary["phases"].as_array().expect("phases");
    let counts = |phase: usize| -> u64 {
        let ops = phases[phase]["operations"].as_array().expect("operations");
        ops.iter()
            .map(|o| o["latency"]["count"].as_u64().expect("a count"))
            .sum()
    };
    assert_eq!(phases[0]["operations"][0]["records"], 20_000);
    assert_eq!((counts(1), counts(2)), (6_000, 20_000));

    for op in [
        "load", "read", "update", "insert", "scan", "rmw", "readback",
    ] {
        let text = fs::read_to_string(place.path(&format!("out/{op}.hgrm"))).expect(op);
        let mut lines = text.lines();
        assert_eq!(lines.next().map(|l| l.split_whitespace().count()), Some(4));
        let rows: Vec<Vec<f64>> = lines
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| {
                l.split_whitespace()
                    .map(|n| n.parse().expect("a number"))
                    .collect()
            })
            .collect();
        assert!(rows.iter().all(|r| r.len() == 4), "{op}");
        assert!(
            rows.windows(2)
                .all(|w| w[0][0] <= w[1][0] && w[0][1] <= w[1][1]),
            "{op}"
        );
        assert_eq!(rows.last().map(|r| r[1]), Some(1.0));
    }

    // The effective configuration repeats the run.
    let again = place.json("run out/run.toml --json -");
    assert_eq!(again["seed"], 7);
    assert_eq!(again["config"], summary["config"]);
}

#[test]
fn an_open_loop_keeps_both_figures() {
    let place = Place::new();
    place.file("c.toml", MIXED);
    let line =
        "run c.toml --set run.rate=2000 --set run.operations=1000 --set run.mix.insert=0 --json -";
    let s = place.json(line);
    let run = &s["phases"][1];
    let seconds = run["seconds"].as_f64().expect("seconds");
    assert!(
        (0.4..2.0).contains(&seconds),
        "1000 operations at 2000/s took {seconds} s"
    );
    for o in run["operations"].as_array().expect("operations") {
        let (latency, service) = (&o["latency"], &o["service"]);
        assert_eq!(latency["count"], service["count"]);
        assert!(latency["mean_ns"].as_f64() >= service["mean_ns"].as_f64());
    }
    assert!(place.path("out/read.service.hgrm").exists());
}

#[test]
fn batches_deletes_and_sync_commits() {
    let place = Place::new();
    place.file("c.toml", MIXED);
    let s = place.json(
        "run c.toml --set run.batch=10 --set run.mix.delete=20 --set run.durability=sync --set run.operations=600 --json -",
    );
    let ops = s["phases"][1]["operations"]
        .as_array()
        .expect("operations")
        .clone();
    let update = ops.iter().find(|o| o["name"] == "update").expect("updates");
    assert_eq!(
        update["records"].as_u64(),
        update["latency"]["count"].as_u64().map(|n| n * 10)
    );
    assert!(ops.iter().any(|o| o["name"] == "delete"));
}

#[test]
fn what_was_loaded_before_is_used_again() {
    let place = Place::new();
    place.file("c.toml", MIXED);
    place.ok("run c.toml");
    let s = place.json("run c.toml --set store.create=never --set load.skip=true --json -");
    assert_eq!(s["phases"][0]["name"], "run");
    // Other keys are not there, and that is said.
    let e =
        place.refused("run c.toml --set store.create=never --set load.skip=true --set load.seed=2");
    assert!(e.contains("load.skip"), "{e}");
    // Other values are damage.
    let said = place.gaur(
        "run c.toml --set store.create=never --set load.skip=true --set load.value_bytes=99"
            .split(' '),
    );
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("wrong value under key 0x"),
        "{}",
        said.err
    );
}

#[test]
fn a_missed_memory_bound_ends_with_1() {
    let place = Place::new();
    place.file("c.toml", MIXED);
    let s = place.gaur("run c.toml --set verify.memory_bound=true --json -".split(' '));
    let json: serde_json::Value = serde_json::from_str(&s.out).expect("JSON");
    let peak = json["memory"]["peak_bytes"].as_u64().expect("a peak");
    let bound = json["memory"]["bound_bytes"].as_u64().expect("a bound");
    assert_eq!(bound, (8 << 20) + (8 << 20) / 10 + (64 << 20));
    assert_eq!(s.code, i32::from(peak > bound), "{}", s.err);
    assert_eq!(
        json["missed"].as_array().map(Vec::len),
        Some(usize::from(peak > bound))
    );
}

#[test]
fn configuration_errors_are_one_line_that_says_where() {
    let place = Place::new();
    place.file("c.toml", "[store]\npath = 'x.store'\n\n[run]\nthreds = 1\n");
    let e = place.refused("run c.toml");
    assert!(
        e.contains("c.toml:5:") && e.contains("did you mean `threads`?"),
        "{e}"
    );
    place.file("c.toml", MIXED);
    let e = place.refused("run c.toml --set run.distribution=zipfan");
    assert!(
        e.contains("--set run.distribution=zipfan") && e.contains("zipfian"),
        "{e}"
    );
    assert!(!place.path("x.store").exists() && !place.path("run.store").exists());
}

#[test]
fn on_loop_devices_the_kernel_counts_the_writes() {
    for sector in [512, 4096] {
        let place = Place::new();
        let Some(device) = LoopDevice::attach(&place, sector, 256 << 20) else {
            return;
        };
        place.file("c.toml", MIXED);
        let s = place.json(&format!("run c.toml --device {} --json -", device.name()));
        assert_eq!(s["environment"]["direct"], true);
        let load = &s["phases"][0]["device"];
        assert!(load["writes"].as_u64() > Some(0), "{load}");
        assert!(
            load["written_bytes"].as_u64() > Some(20_000 * 116),
            "{load}"
        );
        let text = place.ok(&format!("run c.toml --device {} --fresh", device.name()));
        assert!(text.contains("device: "), "{text}");
    }
}

#[test]
fn the_quick_start_in_small() {
    let place = Place::new();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.toml");
    let line = format!(
        "run {config} --set load.records=5000 --set run.seconds=0.5 --set store.size=64MiB"
    );
    let out = place.ok(&line);
    assert!(out.contains("check: clean"), "{out}");
    assert!(place.path("runs/quickstart/read.hgrm").exists());
    // And once more over what the first left.
    place.ok(&line);
}

/// Inserts alone, more than the store holds before it has grown.
const GROWING: &str = "
[store]
path = 'run.store'
size = '64MiB'
cache = '8MiB'
checkpoint_interval = '100ms'

[load]
records = 100
value_bytes = 8000

[run]
threads = 2
operations = 15_000
mix = { insert = 1 }
";

fn capacity(place: &Place, path: &str) -> u64 {
    let check = place.json(&format!("check {path} --json"));
    assert_eq!(check["clean"], true, "{check}");
    check["blocks"]["total"].as_u64().expect("a count") * 4096
}

#[test]
fn a_file_grows_under_a_run_and_no_further_than_it_may() {
    let place = Place::new();
    place.file("c.toml", GROWING);
    let out =
        place.ok("run c.toml --set store.grow_to=320MiB --set verify.read_back=true --json -");
    let summary: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(summary.to_string().contains("growths"), "{summary}");
    let bytes = capacity(&place, "run.store");
    assert!((150 << 20..=320 << 20).contains(&bytes), "{bytes}");
    assert!(place.ok("stat run.store").contains("MiB"));
    let said =
        place.gaur("run c.toml --set store.path=small.store --set store.grow_to=80MiB".split(' '));
    assert!(said.code != 0 && said.err.contains("full"), "{}", said.err);
    assert_eq!(capacity(&place, "small.store"), 80 << 20);
    assert!(
        place
            .gaur("run c.toml --set store.grow_to=1MiB".split(' '))
            .code
            == 2
    );
}

#[test]
fn a_loop_device_enlarged_under_a_run_is_used() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 4096, 64 << 20) else {
        return;
    };
    place.file("c.toml", GROWING);
    let path = device.name();
    // Slow enough that it is enlarged before it is full.
    let line = format!("run c.toml --device {path} --set run.rate=4000");
    let mut run = place.start(&line, "log");
    std::thread::sleep(std::time::Duration::from_millis(700));
    device.enlarge(160 << 20);
    std::thread::sleep(std::time::Duration::from_millis(700));
    device.enlarge(400 << 20);
    let ended = run.wait().expect("ends");
    let log = fs::read_to_string(place.path("log")).expect("there");
    assert!(ended.success(), "{log}");
    assert_eq!(capacity(&place, &path), 400 << 20);
    let facts = place.json(&format!("stat {path} --json"));
    assert!(facts["superblock"].to_string().contains("400"), "{facts}");
}

#[test]
fn a_run_killed_while_it_grows_leaves_a_sound_store() {
    let place = Place::new();
    place.file("c.toml", GROWING);
    place.ok("format run.store --size 64MiB --sparse");
    let mut sizes = Vec::new();
    for round in 1..=5u64 {
        let line = "run c.toml --set store.grow_to=2GiB \
                    --set load.seed=SEED --set run.seed=SEED";
        let seed = round.to_string();
        let line = line.replace("SEED", &seed);
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut run = place.start(&words.join(" "), "log");
        std::thread::sleep(std::time::Duration::from_millis(250 * round));
        run.kill().expect("killed");
        run.wait().expect("ends");
        // Its lock stays while its I/O is in flight.
        let held = || place.gaur(["stat", "run.store"]).err.contains("held");
        for _ in 0..10 {
            if !held() {
                break;
            }
        }
        sizes.push(capacity(&place, "run.store"));
    }
    println!("sizes {sizes:?}");
    assert!(sizes.is_sorted(), "{sizes:?}");
    let last = sizes[4] + (70 << 20);
    place.ok(&format!("grow run.store --size {last}"));
    assert!(capacity(&place, "run.store") >= last);
}
