//! Every verb that makes, reads or writes a store, on a file and on loop devices.

#[path = "verbs/bench.rs"]
mod bench;
#[path = "verbs/broken.rs"]
mod broken;
mod common;
#[path = "verbs/compare.rs"]
mod compare;
#[path = "verbs/cow.rs"]
mod cow;
#[path = "verbs/device.rs"]
mod device;
#[path = "verbs/discard.rs"]
mod discard;
mod forensic;
mod huge;
#[path = "verbs/interrupted.rs"]
mod interrupted;
#[path = "verbs/report.rs"]
mod report;
#[path = "verbs/sample.rs"]
mod sample;
#[path = "verbs/terminal.rs"]
mod terminal;
#[path = "verbs/tutorial.rs"]
mod tutorial;

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

    let said = place.ok(&format!("delete {path} apple"));
    assert!(said.starts_with("committed as"), "{said}");
    let said = place.ok(&format!("delete {path} apple"));
    assert!(said.contains("there was no apple"), "{said}");
    let said = place.gaur(["get", path, "apple"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("no key apple"), "{}", said.err);
    let said = place.gaur(["get", path, "apple", "--json"]);
    assert_eq!(said.code, 2);
    assert!(said.out.contains("\"found\": false"), "{}", said.out);

    place.ok(&format!("put {path} k v --tree other"));
    assert_eq!(place.ok(&format!("scan {path} --tree other")), "k\tv\n");

    let told = place.ok(&format!("changes {path} --from 2 --tree default --limit 2"));
    assert_eq!(
        told,
        "2\tput\tdefault\tapple\tgreen\n3\tput\tdefault\tbanana\tyellow\n"
    );
    let told = place.ok(&format!("changes {path} --tree other --json"));
    let ops = r#"[{"op":"create","tree":"other"}]"#;
    assert!(
        told.starts_with(&format!("{{\"csn\":8,\"ops\":{ops}}}\n")),
        "{told}"
    );
    assert!(
        told.ends_with("\"tree\":\"other\",\"value\":\"v\"}]}\n"),
        "{told}"
    );
    let said = place.gaur(["changes", path, "--from", "99"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("the newest is 9"), "{}", said.err);

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
fn trees_are_made_renamed_and_dropped() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB");
    assert!(place.ok("tree list s.store").contains("no trees"));
    assert_eq!(place.ok("tree create s.store users"), "made tree users\n");
    place.ok("put s.store k v --tree users");
    let said = place.refused("tree create s.store users");
    assert!(said.contains("users"), "{said}");
    assert_eq!(
        place.json("tree rename s.store users people --json")["new_name"],
        "people"
    );
    assert_eq!(place.ok("get s.store k --tree people"), "v\n");
    let listed = place.json("tree list s.store --json");
    assert_eq!(listed["trees"][0]["name"], "people");
    assert_eq!(listed["trees"][0]["about_records"], 1);
    assert!(place.ok("tree list s.store").contains("people"));

    let before = std::fs::read(place.path("s.store")).expect("there");
    let said = place.ok("tree drop s.store people --dry-run");
    assert!(
        said.starts_with("would drop tree people with about 1 record"),
        "{said}"
    );
    let after = std::fs::read(place.path("s.store")).expect("there");
    assert!(before == after, "a dry run writes nothing");
    assert_eq!(
        place.json("tree drop s.store people --json")["about_records"],
        1
    );
    for gone in ["tree drop s.store people", "tree rename s.store people x"] {
        let said = place.refused(gone);
        assert!(said.contains("people"), "{said}");
    }
    assert_eq!(place.json("check s.store --json")["clean"], true);
}

/// What a user does with snapshots, in the order one would. `format` makes the store.
fn snapshots(place: &Place, format: &str, path: &str) {
    place.ok(format);
    assert!(
        place
            .ok(&format!("snapshot list {path}"))
            .contains("no snapshots")
    );
    place.ok(&format!("put {path} day monday"));
    let taken = place.json(&format!("snapshot create {path} monday --json"));
    assert_eq!(taken["trees"], serde_json::json!(["default"]));
    let said = place.refused(&format!("snapshot create {path} monday"));
    assert!(said.contains("monday"), "{said}");
    place.ok(&format!("put {path} day tuesday"));
    place.ok(&format!("put {path} k v --tree late"));
    // The past is read as the present is.
    assert_eq!(place.ok(&format!("get {path} day")), "tuesday\n");
    assert_eq!(
        place.ok(&format!("get {path} day --snapshot monday")),
        "monday\n"
    );
    assert_eq!(
        place.ok(&format!("scan {path} --snapshot monday")),
        "day\tmonday\n"
    );
    let dump = place.ok(&format!("dump {path} --snapshot monday"));
    assert!(dump.contains("monday") && !dump.contains("late"), "{dump}");
    assert!(
        dump.contains(&format!("\"csn\":{}", taken["csn"])),
        "{dump}"
    );
    let said = place.refused(&format!("get {path} day --snapshot sunday"));
    assert!(said.contains("sunday"), "{said}");
    let said = place.refused(&format!("scan {path} --tree late --snapshot monday"));
    assert!(said.contains("late"), "{said}");
    let listed = place.json(&format!("snapshot list {path} --json"));
    assert_eq!(listed["snapshots"][0]["csn"], taken["csn"]);
    assert!(
        listed["snapshots"][0]["held_bytes"].as_u64() > Some(0),
        "{listed}"
    );
    assert!(place.ok(&format!("snapshot list {path}")).contains(" ago"));

    place.ok(&format!("snapshot clone {path} monday default what-if"));
    place.ok(&format!("put {path} day never --tree what-if"));
    assert_eq!(place.ok(&format!("get {path} day")), "tuesday\n");
    let said = place.refused(&format!("snapshot delete {path} monday"));
    assert!(said.contains("came from it"), "{said}");

    let plan = place.json(&format!("snapshot rollback {path} monday --dry-run --json"));
    assert_eq!(plan["replaced"], serde_json::json!(["default"]));
    assert_eq!(plan["dropped"], serde_json::json!(["late", "what-if"]));
    assert_eq!(place.ok(&format!("get {path} day")), "tuesday\n");
    place.ok(&format!("snapshot rollback {path} monday --tree default"));
    assert_eq!(place.ok(&format!("get {path} day")), "monday\n");
    assert_eq!(place.ok(&format!("get {path} k --tree late")), "v\n");
    let said = place.refused(&format!("snapshot rollback {path} monday --tree late"));
    assert!(said.contains("late"), "{said}");
    let said = place.ok(&format!("snapshot rollback {path} monday"));
    assert!(said.contains("dropped: late, what-if"), "{said}");
    place.refused(&format!("get {path} k --tree late"));

    // All that came from it goes first.
    place.ok(&format!("tree drop {path} default"));
    let said = place.ok(&format!("snapshot delete {path} monday --dry-run"));
    assert!(
        said.starts_with("would delete snapshot \"monday\""),
        "{said}"
    );
    assert_eq!(place.json(&format!("check {path} --json"))["clean"], true);
}

#[test]
fn snapshots_on_a_file() {
    let place = Place::new();
    snapshots(&place, "format s.store --size 64MiB", "s.store");
}

#[test]
fn snapshots_on_a_loop_device() {
    let place = Place::new();
    if let Some(device) = LoopDevice::attach(&place, 4096, 128 << 20) {
        let path = device.name();
        snapshots(&place, &format!("format {path}"), &path);
    }
}

#[test]
fn a_file_store_grows() {
    for (sparse, block) in [("", "4KiB"), (" --sparse", "8KiB")] {
        let place = Place::new();
        let format = format!("format s.store --size 64MiB --block-size {block}{sparse}");
        place.ok(&format);
        place.ok("put s.store k v");
        let before = std::fs::read(place.path("s.store")).expect("there");
        let plan = place.json("grow s.store --size 200MiB --dry-run --json");
        assert_eq!(plan["before"], 64 << 20);
        assert_eq!(
            (&plan["capacity"], &plan["dry_run"]),
            (&(200 << 20).into(), &true.into())
        );
        let after = std::fs::read(place.path("s.store")).expect("there");
        assert!(before == after, "a dry run writes nothing");

        let grown = place.json("grow s.store --size 200MiB --json");
        assert_eq!(
            (&grown["before"], &grown["capacity"]),
            (&plan["before"], &plan["capacity"])
        );
        let meta = std::fs::metadata(place.path("s.store")).expect("there");
        let allocated = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        assert_eq!(meta.len(), 200 << 20);
        assert_eq!(allocated >= 200 << 20, sparse.is_empty());
        assert_eq!(place.ok("get s.store k"), "v\n");
        let check = place.json("check s.store --json");
        assert_eq!(check["clean"], true, "{check}");
        let unit = if block == "4KiB" { 4096 } else { 8192 };
        assert_eq!(check["blocks"]["total"], (200 << 20) / unit);
        assert!(
            place.ok("stat s.store").contains("200.0 MiB"),
            "{}",
            place.ok("stat s.store")
        );

        // Again, with nothing to take in; and what somebody else made longer.
        assert!(place.ok("grow s.store").contains("nothing to take in"));
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(place.path("s.store"));
        file.and_then(|f| f.set_len(300 << 20)).expect("longer");
        assert!(place.ok("grow s.store").contains("300.0 MiB"));
        let allocated = std::fs::metadata(place.path("s.store"))
            .map(|m| std::os::unix::fs::MetadataExt::blocks(&m) * 512);
        assert_eq!(allocated.expect("there") >= 300 << 20, sparse.is_empty());
        assert_eq!(place.json("check s.store --json")["clean"], true);
        // What cannot be leaves the store as it is.
        for size in ["100MiB", "250TiB", "8000000TiB"] {
            place.refused(&format!("grow s.store --size {size}"));
        }
        assert_eq!(place.json("check s.store --json")["clean"], true);
        assert_eq!(place.ok("get s.store k"), "v\n");
        // Cut short, it says so.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(place.path("s.store"));
        file.and_then(|f| f.set_len(299 << 20)).expect("shorter");
        let said = place.gaur(["get", "s.store", "k"]);
        assert!(
            said.code == 1 && said.err.contains("made smaller"),
            "{}",
            said.err
        );
    }
}

#[test]
fn a_loop_device_store_grows() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 96 << 20) else {
        return;
    };
    let path = device.name();
    place.ok(&format!("format {path}"));
    place.ok(&format!("put {path} k v"));
    assert!(place.ok(&format!("grow {path}")).contains("nothing"));
    let e = place.refused(&format!("grow {path} --size 200MiB"));
    assert!(e.contains("enlarge it from outside"), "{e}");
    device.enlarge(200 << 20);
    // Less than there is cannot be had either, and is not silently more.
    let e = place.refused(&format!("grow {path} --size 128MiB"));
    assert!(e.contains("used whole"), "{e}");
    let grown = place.json(&format!("grow {path} --json"));
    assert_eq!(grown["capacity"], 200 << 20);
    assert_eq!(place.json(&format!("check {path} --json"))["clean"], true);
    assert_eq!(place.ok(&format!("get {path} k")), "v\n");
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
