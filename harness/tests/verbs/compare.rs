//! `gaur compare`: it measures, and leaves nothing behind.

use serde_json::Value;

use crate::common::{LoopDevice, Place};

const SMALL: &str = "--records 2000 --seconds 0.05 --cache 32MiB --cold-cache 4MiB";
/// The engines of this build.
const ENGINES: &str = if cfg!(feature = "peers") {
    "gaur,lmdb,redb,fjall,canopydb"
} else {
    "gaur"
};

/// Each engine has a figure for each of these rows, as often as there are rounds.
fn complete(report: &Value, rows: &[&str], rounds: usize) {
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    for engine in ENGINES.split(',') {
        for row in rows {
            let of: Vec<_> = report["figures"]
                .as_array()
                .expect("figures")
                .iter()
                .filter(|f| f["engine"] == engine && f["row"] == *row)
                .collect();
            assert_eq!(of.len(), rounds, "{engine} {row}");
            assert!(of.iter().all(|f| f["value"].as_f64() > Some(0.0)), "{of:?}");
        }
        assert!(report["settings"][engine].as_array().is_some());
    }
}

fn json(place: &Place, name: &str) -> Value {
    let text = std::fs::read_to_string(place.path(name)).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_build_without_other_engines_says_how_to_get_them() {
    let place = Place::new();
    if cfg!(not(any(feature = "peer-lmdb", feature = "peer-redb"))) {
        for more in ["", " --engines redb"] {
            let said = place.gaur(format!("compare --dir . --quick{more}").split(' '));
            assert_eq!(said.code, 2, "{}", said.out);
            assert!(said.err.contains("--features peer"), "{}", said.err);
        }
    }
    for (line, part) in [
        ("compare --dir . --engines nosuch", "lmdb"),
        ("compare --dir . --engines gaur --rows nosuch", "ycsb"),
        ("compare --dir nosuch --engines gaur", "nosuch"),
        ("compare --device . --engines gaur", "block device"),
        ("compare --dir . --engines gaur --seconds 0", "--seconds"),
    ] {
        let said = place.gaur(line.split(' '));
        assert_eq!(said.code, 2, "{line}: {}", said.out);
        assert!(said.err.contains(part), "{line}: {}", said.err);
    }
}

#[test]
fn in_files_it_says_that_it_is_not_comparable() {
    let place = Place::new();
    std::fs::create_dir(place.path("d")).expect("made");
    let text = place.ok(&format!(
        "compare --dir d --engines {ENGINES} {SMALL} --rounds 2 --json out.json \
         --rows reads,ycsb-d,ycsb-e,ranges,remove,size"
    ));
    assert!(text.contains("NOT COMPARABLE"), "{text}");
    assert!(text.contains("not measured"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 98), "{text}");
    let rows = [
        "load", "read-1", "scan-2", "ycsb-d", "ycsb-e", "bulk", "ranges", "remove", "size",
    ];
    complete(&json(&place, "out.json"), &rows, 2);
    assert_eq!(
        std::fs::read_dir(place.path("d")).expect("there").count(),
        0
    );
}

#[test]
fn on_a_device_flushes_are_counted_and_nothing_is_left() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 1 << 30) else {
        return;
    };
    let path = device.name();
    let line = format!(
        "compare --device {path} --engines {ENGINES} {SMALL} --rounds 1 \
         --rows durable-16,batch-1 --format markdown --json out.json"
    );
    let text = place.ok(&line);
    assert!(text.contains("| durable commits, 16 threads |"), "{text}");
    let report = json(&place, "out.json");
    complete(&report, &["load", "durable-16", "batch-1"], 1);
    for f in report["figures"].as_array().expect("figures") {
        if f["durable"] == true {
            assert!(f["flushes"].as_u64() > Some(0), "{f}");
        }
    }
    // No file system is left, and no store; what they wrote is there still.
    let said = place.refused(&format!("stat {path}"));
    assert!(
        said.contains("no gaur store") && !said.contains("ext4"),
        "{said}"
    );
    let cold = "--force --engines gaur --rounds 1 --rows cold --json cold.json";
    place.ok(&format!("compare --device {path} {SMALL} {cold}"));
    let report = json(&place, "cold.json");
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    let all = report["figures"].as_array().expect("figures");
    for engine in ["gaur", "device"] {
        let of = |row| {
            all.iter()
                .filter(move |f| f["engine"] == engine && f["row"] == row)
        };
        assert_eq!(
            (of("cold-1").count(), of("cold-32").count()),
            (1, 1),
            "{engine}"
        );
    }

    // What is somebody's is refused.
    place.ok(&format!("format {path} --force"));
    let said = place.gaur(line.split_whitespace());
    assert_eq!(said.code, 2, "{}", said.out);
    assert!(said.err.contains("--force"), "{}", said.err);
}

#[test]
#[cfg(feature = "peers")]
fn ctrl_c_ends_it_with_nothing_mounted() {
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 1 << 30) else {
        return;
    };
    let path = device.name();
    let line = format!(
        "compare --device {path} --engines lmdb --records 2000 --seconds 60 --rounds 9 --rows reads"
    );
    let mut child = place.start(&line, "log");
    // Its mounts are its own, and gone with it however it ends.
    let mounts = format!("/proc/{}/mounts", child.id());
    let mounted = |mounts: &str| {
        std::fs::read_to_string(mounts)
            .is_ok_and(|m| m.lines().any(|l| l.starts_with(&format!("{path} "))))
    };
    let begin = Instant::now();
    while !mounted(&mounts) {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it does not begin"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!mounted("/proc/mounts"));
    std::thread::sleep(Duration::from_millis(500));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill starts").success());
    let status = child.wait().expect("it ends");
    let log = std::fs::read_to_string(place.path("log")).expect("a log");
    assert!(status.success(), "{log}");
    assert!(log.contains("interrupted"), "{log}");
    // Exclusively: nobody has it mounted.
    let claimed = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(&path);
    assert!(claimed.is_ok(), "{claimed:?}");
}
