//! `gaur device`: what it tells of files, loop devices and partitions.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::common::{LoopDevice, Place};

fn run(command: &str, args: &[&str]) -> bool {
    Command::new(command)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// What programs may rely on.
#[test]
fn the_names_are_there_on_a_file() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB --durable-method dsync");
    let d = place.json("device s.store --json");
    assert_eq!(d["kind"], "file");
    for name in ["scheduler", "write_cache", "fua", "counters", "read_only"] {
        assert!(d.get(name).is_some(), "{name}: {d}");
    }
    assert_eq!(d["file"]["sparse"], false, "{d}");
    assert_eq!(d["file"]["size"], 64 << 20);
    assert!(d["file"]["fs_type"].is_string());
    assert!(d["contents"]["store_id"].is_string(), "{d}");
    let e = &d["engine"];
    assert_eq!(e["block_size"]["value"], 4096, "{e}");
    assert_eq!(e["log_bytes"]["value"], 4 << 20, "{e}");
    assert_eq!(e["durable_method"]["value"], "dsync", "{e}");
    assert!(matches!(
        e["driver"]["value"].as_str(),
        Some("uring" | "psync")
    ));
    for name in ["driver", "direct", "discard", "max_io"] {
        assert!(
            e[name]["why"].as_str().is_some_and(|w| !w.is_empty()),
            "{name}: {e}"
        );
    }
    let refused = e["format_refuses"].as_array().expect("a list");
    assert!(refused.len() == 1 && refused[0].to_string().contains("--force"));
}

#[test]
fn an_empty_file_and_a_sparse_one() {
    let place = Place::new();
    File::create(place.path("sparse.img"))
        .and_then(|f| f.set_len(64 << 20))
        .expect("a file");
    let d = place.json("device sparse.img --json");
    assert_eq!(d["file"]["sparse"], true, "{d}");
    assert_eq!(d["contents"]["signatures"], serde_json::json!([]), "{d}");
    assert_eq!(d["engine"]["format_refuses"], serde_json::json!([]), "{d}");
    assert!(
        place
            .ok("device sparse.img")
            .contains("nothing stands against it")
    );
    place.file("small.img", "");
    let d = place.json("device small.img --json");
    assert!(
        d["engine"]["format_refuses"]
            .to_string()
            .contains("too few"),
        "{d}"
    );
}

#[test]
fn who_holds_it_is_found() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB");
    let file = File::options()
        .read(true)
        .write(true)
        .open(place.path("s.store"))
        .expect("open");
    let mut holder = Command::new("sleep")
        .arg("100")
        .stdin(Stdio::from(file))
        .spawn()
        .expect("a process");
    let said = place.gaur(["device", "s.store", "--json"]);
    let text = place.gaur(["device", "s.store"]);
    holder.kill().and_then(|()| holder.wait()).expect("ended");
    let d: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let p = &d["users"]["processes"];
    assert!(
        p.as_array().is_some_and(|all| all
            .iter()
            .any(|p| p["pid"] == holder.id() && p["writes"] == true)),
        "{d}"
    );
    assert!(
        text.out.contains("who holds it") && text.out.contains("sleep"),
        "{}",
        text.out
    );
}

#[test]
fn a_store_that_is_open_can_be_looked_at() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB");
    let file = File::options()
        .write(true)
        .open(place.path("s.store"))
        .expect("open");
    file.try_lock().expect("as a store's opener does");
    assert!(place.ok("device s.store").contains("gaur store"));
}

#[test]
fn what_is_neither_is_refused() {
    let place = Place::new();
    for path in ["/dev/null", ".", "nowhere"] {
        let e = place.refused(&format!("device {path}"));
        assert!(e.contains(path) && e.contains("name"), "{e}");
    }
}

#[test]
fn loop_devices_and_their_partitions() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 128 << 20) else {
        return;
    };
    let disk = device.name();
    let d = place.json(&format!("device {disk} --json"));
    assert_eq!(d["kind"], "disk");
    let backing = d["hardware"]["loop"]["backing_file"]
        .as_str()
        .expect("a file");
    assert_eq!(d["hardware"]["loop"]["direct"], true, "{d}");
    // The file below knows the device above.
    let f = place.json(&format!("device {backing} --json"));
    assert_eq!(f["users"]["loops"], serde_json::json!([disk]), "{f}");

    let table = place.file("table", "label: dos\nstart=2048, size=131072, type=83\n");
    let made = Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel", &disk])
        .stdin(File::open(table).expect("there"))
        .status()
        .is_ok_and(|s| s.success());
    let part = format!("{disk}p1");
    if !made || !run("partx", &["--add", &disk]) || !fs::exists(&part).unwrap_or(false) {
        println!("skipped: cannot make partitions here");
        return;
    }
    let d = place.json(&format!("device {part} --json"));
    assert_eq!(d["kind"], "partition");
    assert_eq!(d["hardware"]["partition"]["start"], 1 << 20, "{d}");
    assert_eq!(d["hardware"]["partition"]["number"], 1);
    assert_eq!(d["capacity"], 64 << 20);

    let mount = place.path("mnt");
    fs::create_dir(&mount).expect("a directory");
    let mount = mount.display().to_string();
    let mounted = run("mkfs.ext4", &["-q", &part]) && run("mount", &[&part, &mount]);
    if mounted {
        let whole = place.gaur(["device", &disk, "--json"]);
        let inside = place.path("mnt/s.store").display().to_string();
        let format = place.gaur(["format", &inside, "--size", "16MiB"]);
        let below = place.gaur(["device", &inside, "--json"]);
        assert!(run("umount", &[&mount]));
        // The disk's user is its partition's.
        let d: serde_json::Value = serde_json::from_str(&whole.out).expect("JSON");
        assert_eq!(d["users"]["mounts"][0]["device"], part.as_str(), "{d}");
        assert!(
            d["engine"]["format_refuses"]
                .to_string()
                .contains("mounted"),
            "{d}"
        );
        assert_eq!(format.code, 0, "{}", format.err);
        let d: serde_json::Value = serde_json::from_str(&below.out).expect("JSON");
        let chain = d["file"]["chain"].to_string();
        assert!(
            chain.contains("p1") && chain.contains("image-512"),
            "{chain}"
        );
    } else {
        println!("skipped: cannot make and mount a file system here");
    }
    assert!(run("partx", &["--delete", &disk]));
}
