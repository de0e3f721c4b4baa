//! `gaur experiment cow`: it runs in a build of its own, and the ordinary build has
//! nothing of what it compares with.

use super::common::Place;

/// What copies inline is in that build alone.
#[test]
fn only_its_own_build_copies_inline() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_gaur")).expect("the tool");
    // In the names that a build for tests has for every function.
    let has = |name: &str| program.windows(name.len()).any(|w| w == name.as_bytes());
    assert!(has("try_take"), "a build without names");
    for name in ["take_inline", "ignoring_latches"] {
        assert_eq!(has(name), cfg!(feature = "experiment-cow"), "{name}");
    }
}

#[cfg(not(feature = "experiment-cow"))]
#[test]
fn the_ordinary_build_refuses() {
    let place = Place::new();
    for line in [
        "experiment cow",
        "experiment cow --quick --dry-run",
        "experiment cow --device /dev/null --force",
    ] {
        let e = place.refused(line);
        assert!(e.contains("--features experiment-cow"), "{line}: {e}");
        assert!(e.contains("under latches"), "{line}: {e}");
    }
    assert!(!place.path("cow.store").exists());
}

#[cfg(feature = "experiment-cow")]
#[test]
fn a_few_cells() {
    let place = Place::new();
    let line = "experiment cow --quick --seconds 0.05 --rounds 2 --writers 1,4 --latency 0s,1ms \
                --size 8GiB --records 2000 --group-blocks 4 --json c.json --plots figures";
    place.ok(&format!("{line} --dry-run"));
    assert!(!place.path("cow.store").exists());
    let said = place.ok(line);
    assert!(said.contains("two-stage+thread / inline"), "{said}");
    assert!(!place.path("cow.store").exists());
    let json = std::fs::read_to_string(place.path("c.json")).expect("written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let runs = json["runs"].as_array().expect("runs");
    // Rounds, writers, latencies, maps, modes.
    assert_eq!(runs.len(), 2 * 2 * 2 * 2 * 3);
    for run in runs {
        let (cell, f) = (&run["cell"], &run["figures"]);
        assert_eq!(f["sound"], true, "{run}");
        assert!(f["put"]["p99_99"].as_u64() >= f["put"]["p50"].as_u64());
        for (group, name) in [("put", "count"), ("latch_held", "count")] {
            assert!(f[group][name].as_u64() > Some(0), "{group} {name}: {run}");
        }
        let inline = cell["mode"] == "inline";
        assert!(
            !inline || f["restarts_empty"] == 0 && f["restarts_parked"] == 0,
            "{run}"
        );
        let cold = cell["cold_map"] == true;
        assert!(cold || f["map_reads"] == 0, "a warm map was read: {run}");
    }
    let cold = |r: &&serde_json::Value| r["cell"]["cold_map"] == true;
    let reads = runs.iter().filter(cold).map(|r| &r["figures"]["map_reads"]);
    assert!(reads.map(|r| r.as_u64().expect("a count")).sum::<u64>() > 24);
    for figure in ["throughput", "p99", "p99.99", "held"] {
        let path = place.path(&format!("figures/{figure}.svg"));
        let svg = std::fs::read_to_string(path).expect("drawn");
        assert!(svg.starts_with("<svg") && svg.contains("cold map, +1ms"));
    }
    let e = place.refused("experiment cow --path small.store --size 1GiB");
    assert!(
        e.contains("too small") && !place.path("small.store").exists(),
        "{e}"
    );
    // Nobody's file is taken for the store.
    place.file("cow.store", "precious");
    assert!(place.refused(line).contains("cow.store exists"));
}

/// Ctrl-C ends it with what there is.
#[cfg(feature = "experiment-cow")]
#[test]
fn interrupted() {
    use std::time::{Duration, Instant};
    let place = Place::new();
    let line = "experiment cow --seconds 0.1 --size 8GiB --records 2000 --json c.json";
    let mut child = place.start(line, "log");
    let log = || std::fs::read_to_string(place.path("log")).unwrap_or_default();
    let begun = Instant::now();
    while !log().contains("groups\n") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    // SAFETY: a signal to a child that was not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{}", log());
    assert!(log().contains("interrupted: "), "{}", log());
    assert!(place.path("c.json").exists() && !place.path("cow.store").exists());
}
