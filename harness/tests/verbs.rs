//! Every verb that makes, reads or writes a store, on a file and on loop devices.

#[path = "verbs/bench.rs"]
mod bench;
mod common;
#[path = "verbs/device.rs"]
mod device;
#[path = "verbs/discard.rs"]
mod discard;
mod forensic;
mod huge;

use common::{LoopDevice, Place};

/// The verbs in the order a user meets them. `format` makes the store.
fn all_verbs(place: &Place, format: &str, path: &str) {
    let made = place.json(&format!("{format} --json"));
    assert_eq!(made["block_size"], 4096);
    assert_eq!(made["store_id"].as_str().map(str::len), Some(32));
    assert!(made["log_bytes"].as_u64() >= Some(4 << 20));

    for (key, value) in [
        ("apple", "green"),
        ("banana", "yellow"),
        ("blueberry", "blue"),
        ("0x00ff", "0xc0ffee"),
    ] {
        let said = place.json(&format!("put {path} {key} {value} --json"));
        assert!(said["csn"].as_u64() > Some(0), "{said}");
    }
    assert_eq!(place.ok(&format!("get {path} banana")), "yellow\n");
    assert_eq!(place.ok(&format!("get {path} 0x00ff")), "0xc0ffee\n");
    assert_eq!(place.ok(&format!("get {path} apple --raw")), "green");
    let found = place.json(&format!("get {path} apple --json"));
    assert_eq!(
        (&found["found"], &found["value"]),
        (&true.into(), &"green".into())
    );

    assert_eq!(
        place.ok(&format!("scan {path} --keys-only")),
        "0x00ff\napple\nbanana\nblueberry\n"
    );
    assert_eq!(
        place.ok(&format!("scan {path} --prefix b")),
        "banana\tyellow\nblueberry\tblue\n"
    );
    assert_eq!(
        place.ok(&format!(
            "scan {path} --from apple --to blueberry --reverse --keys-only"
        )),
        "banana\napple\n"
    );
    assert_eq!(
        place.ok(&format!("scan {path} --reverse --limit 1 --keys-only")),
        "blueberry\n"
    );
    let lines = place.ok(&format!("scan {path} --prefix a --json"));
    assert_eq!(lines, "{\"key\":\"apple\",\"value\":\"green\"}\n");

    place.ok(&format!("delete {path} apple"));
    let said = place.gaur(["get", path, "apple"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("no key apple"), "{}", said.err);
    let said = place.gaur(["get", path, "apple", "--json"]);
    assert_eq!(said.code, 2);
    assert!(said.out.contains("\"found\": false"), "{}", said.out);

    place.ok(&format!("put {path} k v --tree other"));
    assert_eq!(place.ok(&format!("scan {path} --tree other")), "k\tv\n");

    let stat = place.json(&format!("stat {path} --json"));
    assert_eq!(stat["clean"], true);
    assert_eq!(stat["trees"], serde_json::json!(["default", "other"]));
    assert!(place.ok(&format!("stat {path}")).contains("closed cleanly"));

    let check = place.json(&format!("check {path} --json"));
    assert_eq!(check["clean"], true, "{check}");
    let blocks = &check["blocks"];
    let count = |name: &str| blocks[name].as_u64().expect("a count");
    assert_eq!((count("unaccounted"), count("doubly_used")), (0, 0));
    assert_eq!(
        count("total"),
        count("nodes") + count("extents") + count("free") + count("log") + count("metadata"),
        "{blocks}"
    );
    let records: u64 = check["trees"]
        .as_array()
        .expect("trees")
        .iter()
        .filter(|t| t["name"] == "default" || t["name"] == "other")
        .map(|t| t["records"].as_u64().expect("a count"))
        .sum();
    assert_eq!(records, 4);
    assert!(
        place
            .ok(&format!("check {path}"))
            .contains("every block is accounted for")
    );

    for what in ["superblock", "log", "map", "tree"] {
        let shown = place.json(&format!("inspect {what} {path} --json"));
        assert!(shown["title"].is_string(), "{shown}");
        assert!(!place.ok(&format!("inspect {what} {path}")).is_empty());
    }

    let device = place.json(&format!("device {path} --json"));
    assert!(device["capacity"].as_u64() >= Some(64 << 20), "{device}");
    assert!(place.ok(&format!("device {path}")).contains("capacity"));
}

#[test]
fn on_a_file() {
    let place = Place::new();
    all_verbs(&place, "format s.store --size 64MiB", "s.store");
}

#[test]
fn on_a_file_with_the_psync_driver() {
    let place = Place::new();
    let made = place.json("format s.store --size 64MiB --driver psync --json");
    assert_eq!(made["driver"], "psync");
    place.ok("put s.store k v --driver psync");
    assert_eq!(place.ok("get s.store k --driver psync"), "v\n");
}

#[test]
fn on_loop_devices_of_both_sector_sizes() {
    for sector in [512, 4096] {
        let place = Place::new();
        let Some(device) = LoopDevice::attach(&place, sector, 128 << 20) else {
            return;
        };
        let path = device.name();
        let shown = place.json(&format!("device {path} --json"));
        assert_eq!(shown["logical_block"], sector);
        all_verbs(&place, &format!("format {path}"), &path);
    }
}

#[test]
fn block_and_log_sizes_are_as_asked_for() {
    let place = Place::new();
    let made = place
        .json("format s.store --size 64MiB --block-size 16KiB --log-size 8MiB --sparse --json");
    assert_eq!(made["block_size"], 16384);
    assert!(
        made["log_bytes"]
            .as_u64()
            .is_some_and(|b| b.abs_diff(8 << 20) < 1 << 20)
    );
    place.ok("put s.store k v");
    assert_eq!(place.ok("get s.store k"), "v\n");
}
