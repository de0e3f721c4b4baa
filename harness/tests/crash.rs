//! The kill -9 campaign as a test: few rounds here, more by `gaur crash`.

mod common;

use common::{LoopDevice, Place};

fn campaign(place: &Place, line: &str, rounds: u64) {
    let s = place.json(line);
    assert_eq!(s["rounds"], rounds, "{s}");
    assert_eq!(s["seed"], 4);
    assert!(
        s["sync"].as_u64() > Some(0) && s["acknowledged"].as_u64() > s["sync"].as_u64(),
        "{s}"
    );
}

#[test]
fn on_a_file() {
    let place = Place::new();
    campaign(
        &place,
        "crash --rounds 10 --seconds-per-round 0.4 --seed 4 --json",
        10,
    );
    assert!(!place.path("crash.store").exists(), "removed in the end");
}

#[test]
fn on_a_file_with_the_psync_driver() {
    let place = Place::new();
    campaign(
        &place,
        "crash --rounds 4 --seconds-per-round 0.4 --seed 4 --driver psync --json",
        4,
    );
}

#[test]
fn on_a_loop_device() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 4096, 512 << 20) else {
        return;
    };
    let line = format!(
        "crash --rounds 4 --seconds-per-round 0.4 --seed 4 --json --force --path {}",
        device.name()
    );
    campaign(&place, &line, 4);
}

/// Full, empty, killed while it fills or empties: a slice of `gaur experiment fill`.
#[test]
fn a_store_is_filled_and_emptied() {
    let place = Place::new();
    let line = "experiment fill --cycles 2 --kill-every 2 --size 48MiB --seed 4 --json";
    let s = place.json(line);
    assert_eq!(
        (&s["cycles"], &s["killed"], &s["within"]),
        (&2.into(), &1.into(), &true.into()),
        "{s}"
    );
    assert!(s["records_first"].as_u64() > Some(10_000), "{s}");
    assert!(s["refused"].as_u64() >= Some(8), "{s}");
}
