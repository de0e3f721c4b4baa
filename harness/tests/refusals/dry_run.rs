//! Dry runs: the real thing's exit code, and not a byte written.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::common::{LoopDevice, Place};

/// Every file here, with its bytes.
fn all(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: PathBuf, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                into.insert(path.clone(), Vec::new());
                walk(path, into);
            } else {
                let bytes = fs::read(&path).expect("a file");
                into.insert(path, bytes);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(place.path("."), &mut found);
    found
}

fn prepared() -> Place {
    let place = Place::new();
    place.ok("format s.store --size 16MiB");
    place.ok("put s.store k old");
    fs::write(place.path("photos.img"), vec![0x5a; 16 << 20]).expect("written");
    place.file("c.toml", "load.records = 10\noutput.dir = 'out'\n");
    place.file(
        "fresh.toml",
        "store = { create = 'fresh', size = '16MiB' }\nload.records = 10\n",
    );
    place.file(
        "skip.toml",
        "load = { records = 10, skip = true }\nverify.read_back = true\n",
    );
    place
}

#[test]
fn nothing_is_written() {
    let place = prepared();
    let before = all(&place);
    for (line, says) in [
        ("format n.store --size 64MiB", "make n.store"),
        ("format s.store --force", "lost  a gaur store"),
        ("format photos.img --force", "data of an unknown kind"),
        ("put s.store k new", "in place of one of 3 bytes"),
        ("put s.store q new --tree t", "make the tree"),
        ("delete s.store k", "value of 3 bytes"),
        ("delete s.store q", "change nothing"),
        ("crash", "make crash.store"),
        ("crash --path s.store --force", "lost: a gaur store"),
        ("experiment scaling", "make experiment.store"),
        ("experiment two-stage", "make experiment.store"),
        (
            "run c.toml --device n.store",
            "make a store of 1.0 GiB in n.store",
        ),
        ("run c.toml --device s.store", "use the store in s.store"),
        ("run fresh.toml --device s.store --fresh", "would be lost"),
        ("device n.tmp --bench", "a file made for this"),
        ("device s.store --bench", "free space"),
        ("device photos.img --bench", "reads only"),
    ] {
        let said = place.ok(&format!("{line} --dry-run"));
        assert!(said.contains(says), "{line}: {said}");
        assert!(said.contains("nothing was"), "{line}: {said}");
        assert!(all(&place) == before, "gaur {line} --dry-run wrote");
    }
    for line in [
        "format n.store --size 64MiB --dry-run --json",
        "put s.store k new --dry-run --json",
        "delete s.store k --dry-run --json",
        "crash --dry-run --json",
        "run c.toml --device n.store --dry-run --json -",
        "device n.tmp --bench --dry-run --json",
    ] {
        assert_eq!(place.json(line)["dry_run"], true, "{line}");
    }
    assert!(all(&place) == before);
}

#[test]
fn what_is_refused_is_refused_alike() {
    let place = prepared();
    let long = "x".repeat(2000);
    for line in [
        "format n.store",
        "format n.store --size 1MiB",
        "format n.store --size 64MiB --log-size 60MiB",
        "format n.store --size 64MiB --block-size 5KiB",
        "format no/n.store --size 64MiB",
        "format n.store --size 4000TiB",
        "format s.store",
        "format photos.img",
        "put photos.img k v",
        "put no.store k v",
        &format!("put s.store {long} v"),
        &format!("put s.store k v --tree {long}"),
        "delete s.store k --tree none",
        "delete no.store k",
        "crash --path s.store",
        "experiment scaling --path s.store",
        "run fresh.toml --device s.store",
        "run c.toml --device photos.img",
        "run skip.toml --device s.store",
        "run c.toml --device s.store --out photos.img/x",
        "run c.toml --device no.store --set store.create=never",
        "device . --bench",
        "device no/x --bench",
    ] {
        let args = |dry: bool| {
            let mut args: Vec<&str> = line.split(' ').collect();
            args.extend(dry.then_some("--dry-run"));
            args
        };
        let before = all(&place);
        let dry = place.gaur(args(true));
        assert!(all(&place) == before, "gaur {line} --dry-run wrote");
        let real = place.gaur(args(false));
        assert_eq!(
            (dry.code, real.code),
            (2, 2),
            "{line}: {} {}",
            dry.err,
            real.err
        );
        assert!(!dry.err.is_empty() && dry.out.is_empty(), "{line}");
        // Some tools say first what they are about to do.
        // How much is free changes while others work here.
        let plain = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        assert!(
            plain(&real.err).ends_with(&plain(&dry.err)),
            "{line}: {} {}",
            dry.err,
            real.err
        );
        let (now, then): (Vec<_>, Vec<_>) = (
            all(&place).into_keys().collect(),
            before.keys().cloned().collect(),
        );
        assert_eq!(now, then, "gaur {line} left something");
    }
}

#[test]
fn a_store_in_use_is_refused() {
    let place = prepared();
    let file = fs::File::options()
        .write(true)
        .open(place.path("s.store"))
        .expect("open");
    file.try_lock().expect("as a store's opener does");
    for line in [
        "put s.store k v",
        "delete s.store k",
        "format s.store --force",
        "run c.toml --device s.store",
        "device s.store --bench",
    ] {
        let e = place.refused(&format!("{line} --dry-run"));
        assert!(e.contains("holds it open"), "{line}: {e}");
    }
}

#[test]
fn on_a_loop_device() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 32 << 20) else {
        return;
    };
    let path = device.name();
    let bytes = || fs::read(device.path()).expect("readable");
    let before = bytes();
    let plan = place.json(&format!("format {path} --dry-run --json"));
    assert_eq!(plan["capacity"], 32 << 20);
    assert!(bytes() == before, "a plan writes nothing");
    place.ok(&format!("format {path}"));
    let before = bytes();
    place.refused(&format!("format {path} --dry-run"));
    let plan = place.json(&format!("format {path} --force --dry-run --json"));
    assert!(
        plan["destroys"]
            .as_str()
            .is_some_and(|d| d.contains("store")),
        "{plan}"
    );
    assert!(bytes() == before, "a plan writes nothing");
}
