//! `gaur device --bench`: it measures, and leaves all as it was.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{LoopDevice, Place};

fn names(report: &Value) -> Vec<String> {
    report["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|c| {
            assert!(c["ops"].as_u64() > Some(0), "{c}");
            assert!(c["iops"].as_f64() > Some(0.0), "{c}");
            assert!(c["p50_ns"].as_u64() <= c["p99_ns"].as_u64(), "{c}");
            c["name"].as_str().expect("a name").to_owned()
        })
        .collect()
}

#[test]
fn a_file_is_made_and_removed() {
    let place = Place::new();
    let r = place.json("device new.tmp --bench --seconds 0.5 --size 16MiB --seed 3 --json");
    assert_eq!((&r["mode"], &r["seed"]), (&"new-file".into(), &3.into()));
    let names = names(&r);
    for name in [
        "randread-4k-qd1",
        "randwrite-4k-qd64",
        "read-1024k-qd4",
        "sync-write-flush-4k",
        "sync-dsync-4k",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    assert!(r["machine"].get("steal").is_some());
    assert!(!place.path("new.tmp").exists());
    let text = place.ok("device new.tmp --bench --seconds 0.2 --size 4MiB --driver psync");
    assert!(
        text.contains("psync") && text.contains("randwrite"),
        "{text}"
    );
}

#[test]
fn what_is_no_store_is_only_read() {
    let place = Place::new();
    let precious: Vec<u8> = (0..8 << 20).map(|i: u32| (i % 251) as u8).collect();
    fs::write(place.path("photos.img"), &precious).expect("written");
    let r = place.json("device photos.img --bench --seconds 0.3 --json");
    assert_eq!(r["mode"], "reads-only");
    assert!(names(&r).iter().all(|n| n.contains("read")), "{r}");
    assert!(
        place
            .ok("device photos.img --bench --seconds 0.1")
            .contains("gaur format it first")
    );
    assert!(fs::read(place.path("photos.img")).expect("there") == precious);
    let e = place.refused("device . --bench");
    assert!(e.contains("does not exist"), "{e}");
    place.refused("device x --bench --seconds 0");
    place.refused("device x --bench --size 5KiB");
    place.refused("device no/x --bench");
}

/// A store with records, and what a scan shows of them.
fn store(place: &Place, format: &str, path: &str) -> String {
    place.ok(format);
    place.file(
        "load.toml",
        &format!("store = {{ path = '{path}', create = 'never' }}\nload.records = 20_000\n"),
    );
    place.ok("run load.toml");
    place.ok(&format!("put {path} greeting hello"));
    place.ok(&format!("scan {path}"))
}

fn is_as_before(place: &Place, path: &str, records: &str) {
    let check = place.json(&format!("check {path} --json"));
    assert_eq!(check["clean"], true, "{check}");
    assert!(
        place.ok(&format!("scan {path}")) == records,
        "the same records"
    );
}

fn measured(place: &Place, path: &str, records: &str) {
    let free =
        |place: &Place| place.json(&format!("check {path} --json"))["blocks"]["free"].clone();
    let before = free(place);
    let r = place.json(&format!("device {path} --bench --seconds 0.6 --json"));
    assert_eq!(r["mode"], "store");
    assert!(r["written_bytes"].as_u64() >= Some(1 << 20), "{r}");
    assert!(names(&r).iter().any(|n| n == "sync-dsync-4k"));
    is_as_before(place, path, records);
    assert_eq!(free(place), before, "all of the space came back");
    place.ok(&format!("put {path} after bench"));
    assert_eq!(place.ok(&format!("get {path} greeting")), "hello\n");
}

#[test]
fn a_stores_free_space_is_written_and_given_back() {
    let place = Place::new();
    let records = store(&place, "format s.store --size 64MiB", "s.store");
    measured(&place, "s.store", &records);
}

#[test]
fn a_store_on_a_loop_device() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 4096, 64 << 20) else {
        return;
    };
    let path = device.name();
    let records = store(&place, &format!("format {path}"), &path);
    measured(&place, &path, &records);
}

fn start(place: &Place, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(args)
        .current_dir(place.path("."))
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool starts")
}

/// Waits until something is so, and says whether it came to be.
fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn killed_midway_it_leaves_the_store_as_it_was() {
    let place = Place::new();
    let records = store(&place, "format s.store --size 64MiB", "s.store");
    let before = fs::read(place.path("s.store")).expect("there");
    let changed = |now: &[u8]| now.iter().zip(&before).filter(|(a, b)| a != b).count();
    let mut child = start(
        &place,
        &["device", "s.store", "--bench", "--seconds", "1000"],
    );
    let wrote = comes_true(|| changed(&fs::read(place.path("s.store")).expect("there")) > 1 << 20);
    child.kill().and_then(|()| child.wait()).expect("killed");
    assert!(wrote, "it wrote into the store's free space");
    is_as_before(&place, "s.store", &records);
    place.ok("put s.store after kill");
    assert!(
        place
            .ok("check s.store")
            .contains("every block is accounted for")
    );
}

#[test]
fn killed_midway_it_leaves_no_file() {
    let place = Place::new();
    let args = [
        "device",
        "new.tmp",
        "--bench",
        "--size",
        "4MiB",
        "--seconds",
        "1000",
    ];
    let mut child = start(&place, &args);
    let fds = format!("/proc/{}/fd", child.id());
    let open = comes_true(|| {
        fs::read_dir(&fds)
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| {
                fs::read_link(fd.path())
                    .is_ok_and(|t| t.to_string_lossy().ends_with("new.tmp (deleted)"))
            })
    });
    child.kill().and_then(|()| child.wait()).expect("killed");
    assert!(open, "it had a file without a name");
    assert!(!place.path("new.tmp").exists());
}
