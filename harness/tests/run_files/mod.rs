//! The files of a run, as `docs/run-files.md` and `docs/summary.schema.json` promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{LoopDevice, Place};

const STEADY: &str = "
[store]
path = 'run.store'
size = '128MiB'
create = 'fresh'
cache = '8MiB'
checkpoint_interval = '300ms'

[load]
records = 30_000

[run]
threads = 2
operations = 4_000
rate = 2_000
mix = { update = 1 }
durability = 'sync'

[floor]
enabled = true
seconds = 0.05

[verify]
read_back = true

[output]
dir = 'out'
";

fn value(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn lines(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.path("out/series.jsonl")).expect("there");
    text.lines()
        .map(|l| serde_json::from_str(l).expect("a line of JSON"))
        .collect()
}

fn fits_the_schema(summary: &Value) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let schema = value(&docs.join("summary.schema.json"));
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let wrong: Vec<String> = validator
        .iter_errors(summary)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("{v} is no number"))
}

/// The seconds of a phase add up to the phase, with no gap between.
fn series_adds_up(series: &[Value], phase: &Value) {
    let of: Vec<&Value> = series
        .iter()
        .filter(|l| l["phase"] == phase["name"])
        .collect();
    let sum = |f: &dyn Fn(&Value) -> f64| of.iter().map(|l| f(l)).sum::<f64>();
    for op in phase["operations"].as_array().expect("operations") {
        let name = op["name"].as_str().expect("a name");
        let count = sum(&|l| l["operations"][name]["count"].as_f64().unwrap_or(0.0));
        assert_eq!(count, number(&op["latency"]["count"]), "{name}");
    }
    assert_eq!(
        sum(&|l| number(&l["user_bytes"])),
        number(&phase["user_bytes"])
    );
    let written = sum(&|l| number(&l["device"]["written_bytes"]));
    let whole = match &phase["device"] {
        Value::Null => &phase["counters"]["device"]["written_bytes"]["value"],
        device => &device["written_bytes"],
    };
    assert_eq!(written, number(whole));
    let seconds = sum(&|l| number(&l["seconds"]));
    assert!(seconds >= number(&phase["seconds"]), "{seconds}: {phase}");
    for pair in of.windows(2) {
        let begin = number(&pair[1]["t"]) - number(&pair[1]["seconds"]);
        assert!((begin - number(&pair[0]["t"])).abs() < 1e-6);
    }
}

#[test]
fn the_files_say_the_same_as_the_summary() {
    let place = Place::new();
    place.file("c.toml", STEADY);
    fs::create_dir(place.path("out")).expect("made");
    place.file("out/read.hgrm", "of an earlier run");
    let text = place.ok("run c.toml");
    let wide = text
        .lines()
        .find(|l| l.chars().count() > 98 && !l.contains(':'));
    assert_eq!(wide, None, "{text}");
    for word in [
        "p75",
        "p99.999",
        "slowest operations",
        "durable",
        "random write 4 KiB",
    ] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert!(
        !place.path("out/read.hgrm").exists(),
        "an earlier run's results"
    );

    let summary = value(&place.path("out/summary.json"));
    fits_the_schema(&summary);
    let phases = summary["phases"].as_array().expect("phases");
    let series = lines(&place);
    phases.iter().for_each(|p| series_adds_up(&series, p));
    assert!(series.iter().filter(|l| l["phase"] == "run").count() >= 2);
    assert!(series.iter().any(|l| l["checkpoints"].as_u64() > Some(0)));

    let run = &phases[1];
    assert!(number(&run["begin"]) >= number(&phases[0]["seconds"]));
    assert_eq!(run["user_bytes"], 4_000 * 116);
    let worst = run["worst"].as_array().expect("worst");
    assert_eq!(worst.len(), 20);
    assert_eq!(worst[0]["latency_ns"].as_f64().map(|n| n > 0.0), Some(true));
    assert!(
        worst
            .windows(2)
            .all(|w| w[0]["latency_ns"].as_u64() >= w[1]["latency_ns"].as_u64())
    );
    for slow in worst {
        let waits = slow["waits"].as_object().expect("waits");
        let sum: f64 = waits.values().map(number).sum();
        assert!(
            waits.contains_key("durable"),
            "a synchronous commit waits: {slow}"
        );
        assert!(sum <= number(&slow["service_ns"]), "{slow}");
    }
    let cells = summary["floor"]["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 5, "{cells:?}");
    assert!(cells.iter().all(|c| number(&c["per_second"]) > 0.0));
    let durable = summary["floor"]["share"].as_array().expect("shares").iter();
    let durable = durable.filter(|s| s["what"] == "durable writes").count();
    assert_eq!(durable, 1);

    another_implementation_reads_the_log(&place, phases);
}

/// `run.hlog`, read in another language by another implementation.
fn another_implementation_reads_the_log(place: &Place, phases: &[Value]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_files/hlog.py");
    let out = Command::new("python3")
        .arg(script)
        .arg(place.path("out/run.hlog"))
        .output();
    let out = match out {
        Ok(out) if out.status.code() != Some(77) => out,
        _ => {
            println!("run.hlog was not read: skipped without python3 and its hdrhistogram");
            return;
        }
    };
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let mut tags = 0;
    for op in phases
        .iter()
        .flat_map(|p| p["operations"].as_array().expect("a list"))
    {
        let name = op["name"].as_str().expect("a name");
        for (tag, figures) in [
            (name.to_owned(), &op["latency"]),
            (format!("{name}.service"), &op["service"]),
        ] {
            if figures.is_null() {
                continue;
            }
            tags += 1;
            let theirs = &found[&tag];
            assert_eq!(theirs["count"], figures["count"], "{tag}: {found}");
            for (key, value) in theirs.as_object().expect("figures") {
                if key.ends_with("_ns") {
                    let (a, b) = (number(value), number(&figures[key]));
                    assert!(
                        (a - b).abs() <= b * 0.001 + 1.0,
                        "{tag} {key}: {a}, not {b}"
                    );
                }
            }
        }
    }
    assert_eq!(found.as_object().map(serde_json::Map::len), Some(tags));
    println!("run.hlog was read by another implementation: {tags} tags agree");
}

#[test]
fn a_killed_run_leaves_its_seconds() {
    let place = Place::new();
    place.file("c.toml", STEADY);
    let mut run = place.start("run c.toml --set run.operations=100000", "log");
    let begun = Instant::now();
    let series: PathBuf = place.path("out/series.jsonl");
    let there = || fs::read_to_string(&series).map_or(0, |s| s.matches("\"run\"").count());
    while there() < 2 && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    run.kill().expect("killed");
    run.wait().expect("ends");
    let lines = lines(&place);
    assert!(lines.iter().filter(|l| l["phase"] == "run").count() >= 2);
    let log = fs::read_to_string(place.path("out/run.hlog")).expect("there");
    assert!(
        log.ends_with('\n') && log.matches("Tag=update,").count() >= 2,
        "{log}"
    );
    // The configuration is there to run it again, and nothing pretends to be a result.
    assert!(fs::read_to_string(place.path("out/run.toml")).is_ok_and(|t| t.contains("seed")));
    assert!(!place.path("out/summary.json").exists() && !place.path("out/update.hgrm").exists());
}

#[test]
fn on_a_loop_device_the_kernels_counters_fit_too() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 4096, 256 << 20) else {
        return;
    };
    place.file("c.toml", STEADY);
    let line = "run c.toml --set run.mix.read=1 --set run.operations=1000 --device";
    place.ok(&format!("{line} {}", device.name()));
    let summary = value(&place.path("out/summary.json"));
    fits_the_schema(&summary);
    let run = &summary["phases"][1];
    assert!(number(&run["device"]["writes"]) > 0.0);
    assert!(number(&run["write_amplification"]) > 1.0);
    series_adds_up(&lines(&place), run);
}

#[test]
fn what_is_switched_off_is_left_out() {
    let place = Place::new();
    place.file("c.toml", STEADY);
    let s = place.json(
        "run c.toml --set floor.enabled=false --set run.worst=0 --set run.operations=500 --json -",
    );
    fits_the_schema(&s);
    assert!(s["floor"].is_null());
    assert_eq!(s["phases"][1]["worst"], serde_json::json!([]));
    let e = place.refused("run c.toml --set floor.seconds=0");
    assert!(e.contains("floor.seconds"), "{e}");
}
