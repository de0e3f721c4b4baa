//! Stores far larger than their data, sparse files, and memory given back.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use gaur::{Durability, FormatOptions, OpenOptions, Store};

use super::common::Place;

const MIB: u64 = 1 << 20;

/// Whether the file system here holds such a file; says so if not.
fn holds(place: &Place, size: u64) -> bool {
    let path = place.path("probe");
    let file = std::fs::File::create(&path).expect("a file");
    let held = file.set_len(size).is_ok();
    std::fs::remove_file(&path).expect("removed");
    if !held {
        println!("skipped: the file system here holds no file of {size} bytes");
    }
    held
}

#[test]
fn a_store_of_8_tib_costs_what_its_data_costs() {
    let place = Place::new();
    if !holds(&place, 8 << 40) {
        return;
    }
    // Times are left to who runs it by hand; on a loaded machine they mean nothing.
    let said = place.gaur([
        "experiment",
        "huge",
        "--size",
        "8TiB",
        "--block-size",
        "16KiB",
        "--seconds",
        "0.3",
    ]);
    let slow = said
        .out
        .lines()
        .any(|l| l.starts_with("MISSED") && l.contains("too long"));
    assert!(said.code == 0 || slow, "{}{}", said.out, said.err);
    for wrong in [
        "too much memory",
        "more map",
        "no request",
        "stayed in memory",
    ] {
        assert!(!said.out.contains(wrong), "{}", said.out);
    }
    assert!(!place.path("huge.store").exists());
}

#[test]
fn a_sparse_store_takes_space_for_its_data_only() {
    let place = Place::new();
    if !holds(&place, 1 << 40) {
        return;
    }
    let said = place.json("format s --size 1TiB --sparse --json");
    assert_eq!(said["sparse"], true);
    let took = || std::fs::metadata(place.path("s")).expect("there").blocks() * 512;
    assert!(took() < MIB, "{} bytes after format", took());
    // Formatted again, over a log that is not a hole any more.
    place.ok("put s key value");
    place.ok("format s --sparse --force");
    assert!(took() < MIB, "{} bytes after the second", took());

    place.ok("put s key value");
    let stat = place.json("stat s --json");
    assert_eq!(
        (&stat["sparse"], &stat["clean"]),
        (&true.into(), &true.into())
    );
    assert!(place.ok("stat s").contains("sparse"));
    assert!(took() < 2 * MIB);
    // One that is not sparse has all its space, whether it was there or not.
    place.ok("format full --size 32MiB");
    std::fs::File::create(place.path("was"))
        .and_then(|f| f.set_len(32 * MIB))
        .expect("a file with a hole");
    place.ok("format was");
    for name in ["full", "was"] {
        let file = std::fs::metadata(place.path(name)).expect("there");
        assert!(file.blocks() * 512 >= 32 * MIB, "{name}");
    }
    assert_eq!(place.json("stat full --json")["sparse"], false);
}

#[test]
fn a_sparse_store_opened_again_gives_space_back() {
    let place = Place::new();
    let path = place.path("d");
    let format = FormatOptions {
        create_size: Some(256 * MIB),
        sparse: true,
        ..FormatOptions::default()
    };
    Store::format(&path, &format).expect("formatted");
    let options = OpenOptions {
        discard: true,
        ..OpenOptions::default()
    };
    let took = || std::fs::metadata(&path).expect("there").blocks() * 512;
    let store = Store::open(&path, &options).expect("opened");
    assert!(store.is_sparse());
    let tree = store.tree("t").expect("a tree");
    let large = vec![7; 32 << 20];
    tree.put(b"large", &large).expect("put");
    store.checkpoint().expect("a checkpoint");
    let full = took();
    tree.delete(b"large").expect("deleted");
    drop(tree);
    store.checkpoint().expect("a checkpoint");
    // Discards run in the background, and closing leaves out what waits.
    let begun = std::time::Instant::now();
    while took() + 24 * MIB >= full && begun.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(took() + 24 * MIB < full, "{full} bytes, then {}", took());
    store.close().expect("closed");
}

#[test]
fn a_full_file_system_stops_a_sparse_store_and_says_why() {
    let place = Place::new();
    let mount = place.path("small");
    std::fs::create_dir(&mount).expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "none"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        println!("skipped: cannot mount a tmpfs (needs root)");
        return;
    }
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
    let _mounted = Mounted(mount);
    place.ok("format small/s --size 1GiB --sparse");
    let store = Store::open(place.path("small/s"), &OpenOptions::default()).expect("opened");
    let tree = store.tree("t").expect("a tree");
    let error = (0..64u64)
        .find_map(|i| tree.put(&i.to_be_bytes(), &vec![i as u8; 1 << 20]).err())
        .expect("24 MiB do not hold 64");
    let text = error.to_string();
    assert!(text.contains("there is no space below"), "{text}");
    assert!(text.contains("make room there"), "{text}");
    let stopped = tree.put(b"k", b"v").expect_err("stopped").to_string();
    assert!(stopped.contains("make room there"), "{stopped}");
    // What was acknowledged is there when it is opened again.
    let whole = tree.get(&0u64.to_be_bytes()).expect("readable");
    assert_eq!(whole.map(|v| v.len()), Some(1 << 20));
    drop(tree);
    assert!(store.close().is_err());
    let out = place.ok("get small/s 0x0000000000000001 --tree t --raw");
    assert_eq!(out.len(), 1 << 20);
    // More than fits, preallocated: refused at once.
    let said = place.refused("format small/p --size 1GiB");
    assert!(said.contains("sparse"), "{said}");
    assert!(!place.path("small/p").exists());
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("read");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    pages * 4096
}

#[test]
fn memory_is_given_back_when_the_cache_shrinks() {
    let place = Place::new();
    let path = place.path("c");
    let format = FormatOptions {
        create_size: Some(256 * MIB),
        ..FormatOptions::default()
    };
    Store::format(&path, &format).expect("formatted");
    let options = OpenOptions {
        cache_bytes: 8 * MIB,
        max_cache_bytes: Some(256 * MIB),
        ..OpenOptions::default()
    };
    let store = Store::open(&path, &options).expect("opened");
    let small = resident();
    store.set_cache_bytes(128 * MIB).expect("larger");
    let tree = store.tree("t").expect("a tree");
    for i in 0..100_000u64 {
        tree.put_with(&i.to_be_bytes(), &[i as u8; 700], Durability::Buffered)
            .expect("put");
    }
    let large = resident();
    assert!(large > small + 64 * MIB, "{small} then {large}");
    let budget = store.set_cache_bytes(8 * MIB).expect("smaller");
    assert_eq!((budget.bytes, budget.wanted), (8 * MIB, 8 * MIB));
    let after = resident();
    assert!(after + 64 * MIB < large, "{large} then {after}");
    for i in (0..100_000u64).step_by(97) {
        let found = tree.get(&i.to_be_bytes()).expect("read");
        assert_eq!(found, Some(vec![i as u8; 700]));
    }
    drop(tree);
    store.close().expect("closed");
}
