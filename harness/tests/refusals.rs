//! What is refused, with what exit code and words, and that nothing was harmed.

mod common;
#[path = "refusals/config.rs"]
mod config;
#[path = "refusals/dry_run.rs"]
mod dry_run;
#[path = "refusals/matrix.rs"]
mod matrix;

use std::fs;

use common::{LoopDevice, Place};

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new();
    for line in [
        "",
        "frobnicate",
        "get",
        "get x",
        "put s k",
        "put s k 0xzz",
        "format s --size lots",
        "scan s --prefix a --from b",
    ] {
        let args = line.split(' ').filter(|a| !a.is_empty());
        let said = place.gaur(args);
        assert_eq!(said.code, 2, "gaur {line}: {}", said.err);
        assert_eq!(said.out, "", "gaur {line}");
        assert!(!said.err.is_empty());
    }
}

#[test]
fn help_and_version_end_with_0_and_show_examples() {
    let place = Place::new();
    assert!(place.ok("--version").starts_with("gaur "));
    assert!(place.ok("--help").contains("Exit codes"));
    for verb in [
        "format",
        "grow",
        "run",
        "stat",
        "check",
        "inspect",
        "get",
        "put",
        "delete",
        "scan",
        "device",
        "crash",
        "experiment",
        "trim",
        "dump",
        "load",
    ] {
        let help = place.ok(&format!("{verb} --help"));
        assert!(help.contains("Examples:"), "{verb}: {help}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    let e = place.refused("format nowhere.store");
    assert!(e.contains("nowhere.store") && e.contains("--size"), "{e}");
    for line in [
        "stat no.store",
        "check no.store",
        "get no.store k",
        "put no.store k v",
        "device no.store",
        "run no.toml",
    ] {
        let e = place.refused(line);
        assert!(e.contains("no.store") || e.contains("no.toml"), "{e}");
    }
    assert!(!place.path("no.store").exists());
}

#[test]
fn foreign_data_stays_as_it_is() {
    let place = Place::new();
    let precious = vec![0x5a_u8; 64 << 20];
    fs::write(place.path("photos.img"), &precious).expect("written");
    for line in [
        "format photos.img",
        "format photos.img --size 64MiB",
        "format photos.img --size 1GiB --force",
        "stat photos.img",
        "check photos.img",
        "get photos.img k",
        "put photos.img k v",
        "scan photos.img",
        "inspect superblock photos.img",
        "crash --path photos.img",
    ] {
        place.refused(line);
    }
    let config = "store.create = 'fresh'\nload.records = 10\n";
    place.file("c.toml", config);
    place.refused("run c.toml --device photos.img");
    place.refused("run c.toml --device photos.img --fresh");
    assert!(fs::read(place.path("photos.img")).expect("there") == precious);
    place.ok("format photos.img --force");
    place.ok("put photos.img k v");
}

#[test]
fn a_store_is_not_formatted_over_without_being_told() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB");
    place.ok("put s.store k v");
    let e = place.refused("format s.store");
    assert!(e.contains("store"), "{e}");
    // A file may ask for its own store to be made anew, not for another's.
    place.file("c.toml", "store.create = 'fresh'\nload.records = 10\n");
    let e = place.refused("run c.toml --device s.store");
    assert!(e.contains("--fresh"), "{e}");
    assert_eq!(place.ok("get s.store k"), "v\n");
    place.ok("run c.toml --device s.store --fresh");
    assert_eq!(place.gaur(["get", "s.store", "k"]).code, 2);
}

#[test]
fn reading_verbs_write_nothing() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB");
    place.ok("put s.store k v");
    let before = fs::read(place.path("s.store")).expect("there");
    for line in [
        "get s.store k",
        "scan s.store",
        "stat s.store",
        "check s.store",
        "device s.store",
        "inspect superblock s.store",
        "inspect log s.store",
        "inspect map s.store",
        "inspect tree s.store",
    ] {
        place.ok(line);
    }
    assert!(fs::read(place.path("s.store")).expect("there") == before);
}

#[test]
fn a_mounted_device_is_refused_always() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 64 << 20) else {
        return;
    };
    let path = device.name();
    let run = |command: &str, args: &[&str]| {
        std::process::Command::new(command)
            .args(args)
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let mount = place.path("mnt");
    fs::create_dir(&mount).expect("a directory");
    let mount = mount.display().to_string();
    if !run("mkfs.ext4", &["-q", &path]) || !run("mount", &[&path, &mount]) {
        println!("skipped: cannot make and mount a file system here");
        return;
    }
    let refused = ["format PATH", "format PATH --force", "put PATH k v"].map(|line| {
        let said = place.gaur(line.replace("PATH", &path).split(' '));
        (line, said.code, said.err)
    });
    assert!(run("umount", &[&mount]));
    for (line, code, err) in refused {
        assert_eq!(code, 2, "{line}: {err}");
    }
    assert!(
        run("fsck.ext4", &["-n", "-f", &path]),
        "the file system is whole"
    );
    // Not mounted any more, it is foreign data.
    place.refused(&format!("format {path}"));
}

#[test]
fn damage_ends_with_1() {
    use std::os::unix::fs::FileExt;
    let place = Place::new();
    place.file(
        "c.toml",
        "store = { path = 's.store', size = '64MiB' }\nload.records = 20_000\n",
    );
    place.ok("run c.toml");
    let file = fs::OpenOptions::new()
        .write(true)
        .read(true)
        .open(place.path("s.store"))
        .expect("open");
    // Some leaf holds the first record's value; flip a bit of it.
    let out = place.ok("scan s.store --limit 1");
    let value = out
        .trim()
        .split('\t')
        .nth(1)
        .expect("a value")
        .trim_start_matches("0x")
        .to_owned();
    let wanted: Vec<u8> = (0..value.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&value[i..i + 2], 16).expect("hex"))
        .collect();
    let bytes = fs::read(place.path("s.store")).expect("there");
    let places: Vec<usize> = bytes
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, w)| *w == wanted)
        .map(|(i, _)| i)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        file.write_at(&[bytes[at + 20] ^ 4], at as u64 + 20)
            .expect("flipped");
    }
    let said = place.gaur(["check", "s.store"]);
    assert_eq!(said.code, 1, "{} {}", said.out, said.err);
    assert!(said.out.contains("problem"), "{}", said.out);
    let said = place.gaur(["scan", "s.store"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("damage"), "{}", said.err);
}
