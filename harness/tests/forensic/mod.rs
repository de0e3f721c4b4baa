//! Looking at a store after kill -9: what recovery would leave is shown, whatever
//! forbids writing, and no byte of the device changes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::common::{LoopDevice, Place, Said};

/// The gaur process of a workload.
fn workload(place: &Place, path: &str, driver: &str, value_bytes: u32) -> std::process::Child {
    place.file(
        "load.toml",
        &format!(
            "store = {{ cache = '16MiB', checkpoint_interval = '1h', driver = '{driver}' }}\n\
             load = {{ records = 4_000, value_bytes = {value_bytes}, threads = 2 }}\n\
             [run]\nseconds = 60\nthreads = 3\nmix = {{ update = 85, insert = 5, delete = 10 }}\n"
        ),
    );
    Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(["run", "load.toml", "--device", path])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool starts")
}

/// Whether the kernel names those who hold locks on files here: not across containers,
/// nor on some file systems.
fn kernel_tells(place: &Place) -> bool {
    let file = File::create(place.path("probe.lock")).expect("made");
    file.lock().expect("locked");
    let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().expect("there"));
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mine = format!(" {} ", std::process::id());
    let tells = |l: &str| l.contains(&mine) && l.contains(&format!(":{inode} "));
    locks.lines().any(tells)
}

/// Kills a workload in the middle, so that there is something to replay.
fn leave_dirty(place: &Place, path: &str, driver: &str, value_bytes: u32) {
    for more in 1..10 {
        let mut child = workload(place, path, driver, value_bytes);
        std::thread::sleep(Duration::from_millis(more * 800));
        child.kill().expect("killed");
        child.wait().expect("gone");
        let said = place.gaur(["stat", path, "--json"]);
        let Ok(stat) = serde_json::from_str::<serde_json::Value>(&said.out) else {
            continue;
        };
        if stat["operations"].as_u64() > Some(200)
            && stat["trees"] == serde_json::json!(["default"])
        {
            return;
        }
    }
    panic!("no workload left anything to replay");
}

fn hash(path: &Path) -> u64 {
    xxh3_64(&fs::read(path).expect("readable"))
}

fn all_looks(path: &str, driver: &str) -> Vec<String> {
    [
        "stat PATH --count",
        "check PATH",
        "scan PATH --limit 100 --cache 1MiB",
        "scan PATH --reverse --keys-only --cache 1MiB",
        "dump PATH --cache 1MiB",
        "load PATH none.dump --dry-run",
        "inspect superblock PATH",
        "inspect log PATH",
        "inspect map PATH",
        "inspect tree PATH",
        "device PATH",
    ]
    .iter()
    .map(|line| {
        let by = if line.starts_with("device") {
            String::new()
        } else {
            format!(" --driver {driver}")
        };
        line.replace("PATH", path) + &by
    })
    .collect()
}

/// Looks by every verb; what they said.
fn look(place: &Place, path: &str, driver: &str) -> Vec<Said> {
    // A dump of nothing, to be loaded in vain.
    if !place.path("none.dump").exists() {
        place.ok("format empty.store --size 16MiB");
        place.ok("dump empty.store --out none.dump");
    }
    all_looks(path, driver)
        .iter()
        .map(|line| {
            let said = place.gaur(line.split(' '));
            assert_eq!(said.code, 0, "gaur {line}: {}", said.err);
            said
        })
        .collect()
}

/// The records of a dump, without its first and last line.
fn records(dump: &str) -> Vec<&str> {
    let lines: Vec<&str> = dump.lines().collect();
    lines[1..lines.len() - 1].to_vec()
}

/// Looks, and recovers: what was seen is what is there then.
fn seen_is_recovered(place: &Place, path: &str, image: &Path) {
    let before = hash(image);
    for driver in ["uring", "psync"] {
        if driver == "uring" && place.gaur(["stat", path, "--driver", "uring"]).code != 0 {
            println!("skipped: no io_uring here");
            continue;
        }
        look(place, path, driver);
    }
    let shown = place.ok(&format!("inspect superblock {path}"));
    assert!(shown.contains("recovery would add"), "{shown}");
    let text = place.ok(&format!("stat {path}"));
    assert!(
        text.contains("not closed") && text.contains("opening it for writing"),
        "{text}"
    );
    let text = place.ok(&format!("check {path}"));
    assert!(text.contains("finds its place"), "{text}");
    let stat = place.json(&format!("stat {path} --count --json"));
    let foreseen = place.json(&format!("check {path} --json"))["recovery"].clone();
    let dirty = place.ok(&format!("dump {path}"));
    let some = records(&dirty)
        .into_iter()
        .nth(5)
        .expect("records")
        .to_owned();
    let some: serde_json::Value = serde_json::from_str(&some).expect("JSON");
    let get = format!("get {path} {}", some["key"].as_str().expect("a key"));
    let got = place.ok(&format!("{get} --json"));
    let got: serde_json::Value = serde_json::from_str(&got).expect("JSON");
    assert_eq!(got["value"], some["value"]);
    assert_eq!(hash(image), before, "something was written");

    place.ok(&format!("delete {path} there-is-no-such-key"));
    assert_ne!(hash(image), before, "the test sees writes");
    let clean = place.ok(&format!("dump {path}"));
    assert!(
        records(&dirty) == records(&clean),
        "seen was not what recovery left"
    );
    let there = place.json(&format!("stat {path} --count --json"));
    assert_eq!(there["clean"], true);
    assert_eq!(there["counts"], stat["counts"]);
    assert_eq!(
        there["last_csn"].as_u64(),
        stat["last_csn"].as_u64().map(|n| n + 1)
    );
    assert_eq!(
        foreseen["trees"][0]["records"],
        stat["counts"]["default"]["records"]
    );
    assert_eq!(foreseen["last_csn"], stat["last_csn"]);
    let now = place.json(&format!("check {path} --json"));
    assert_eq!(now["recovery"]["commits"], 0);
}

#[test]
fn after_kill_9_looking_writes_nothing_and_sees_what_recovery_leaves() {
    let place = Place::new();
    place.ok("format s.store --size 96MiB");
    leave_dirty(&place, "s.store", "auto", 300);
    seen_is_recovered(&place, "s.store", &place.path("s.store"));
    // Large values, the other driver.
    place.ok("format t.store --size 96MiB");
    leave_dirty(&place, "t.store", "psync", 3000);
    seen_is_recovered(&place, "t.store", &place.path("t.store"));
}

#[test]
fn what_forbids_writing_does_not_forbid_looking() {
    let place = Place::new();
    place.ok("format s.store --size 96MiB");
    leave_dirty(&place, "s.store", "auto", 300);
    let file = place.path("s.store");
    let before = hash(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("mode");
    look(&place, "s.store", "auto");
    // Somebody else looks too, for as long as it likes.
    let mut other = Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(["dump", "s.store"])
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut first = [0; 1];
    std::io::Read::read_exact(other.stdout.as_mut().expect("piped"), &mut first).expect("began");
    look(&place, "s.store", "auto");
    let writer = place.gaur(["put", "s.store", "k", "v"]);
    if nix::unistd::geteuid().is_root() {
        let pid = other.id().to_string();
        assert_eq!(writer.code, 2);
        assert!(
            writer.err.contains(&format!("process {pid}")) || !kernel_tells(&place),
            "{}",
            writer.err
        );
    }
    other.kill().expect("killed");
    other.wait().expect("gone");

    // A read-only mount.
    let run = |command: &str, args: &[&str]| {
        Command::new(command)
            .args(args)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    fs::create_dir_all(place.path("source")).expect("made");
    fs::create_dir_all(place.path("mnt")).expect("made");
    fs::rename(&file, place.path("source/s.store")).expect("moved");
    let [source, mount] = ["source", "mnt"].map(|n| place.path(n).display().to_string());
    if run("mount", &["--bind", "-o", "ro", &source, &mount]) {
        // Some kernels make a bind mount read-only only in a second step.
        run("mount", &["-o", "remount,bind,ro", &mount]);
        let made = File::create(place.path("mnt/probe")).is_ok();
        let said = all_looks("mnt/s.store", "auto")
            .iter()
            .map(|l| place.gaur(l.split(' ')))
            .collect::<Vec<_>>();
        let written = place.gaur(["put", "mnt/s.store", "k", "v"]);
        // The last references of a ring go a moment after its process.
        let begun = Instant::now();
        while !run("umount", &[&mount]) {
            assert!(begun.elapsed() < Duration::from_secs(20), "umount {mount}");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!made, "the mount is read-only");
        assert!(
            said.iter().all(|s| s.code == 0),
            "{:?}",
            said.iter().map(|s| &s.err).collect::<Vec<_>>()
        );
        assert_eq!(written.code, 2, "{}", written.err);
    } else {
        println!("skipped: no bind mounts here");
    }
    assert_eq!(hash(&place.path("source/s.store")), before);
}

#[test]
fn on_a_device_that_is_set_read_only() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 4096, 96 << 20) else {
        return;
    };
    let path = device.name();
    place.ok(&format!("format {path}"));
    leave_dirty(&place, &path, "auto", 3000);
    let image = place.path("image-4096");
    let before = hash(&image);
    let set = |how: &str| {
        let done = Command::new("blockdev").args([how, &path]).status();
        assert!(done.is_ok_and(|s| s.success()), "blockdev {how}");
    };
    set("--setro");
    for driver in ["auto", "psync"] {
        look(&place, &path, driver);
    }
    let e = place.refused(&format!("put {path} k v"));
    assert!(e.contains("read-only"), "{e}");
    let e = place.refused(&format!("load {path} none.dump"));
    assert!(e.contains("read-only"), "{e}");
    assert_eq!(hash(&image), before);
    set("--setrw");
    seen_is_recovered(&place, &path, &image);
}

#[test]
fn a_store_that_is_being_written_is_refused_and_by_whom_is_said() {
    let place = Place::new();
    place.ok("format s.store --size 96MiB");
    let mut child = workload(&place, "s.store", "auto", 300);
    let begun = Instant::now();
    let said = loop {
        let said = place.gaur(["stat", "s.store"]);
        if said.code != 0 || begun.elapsed() > Duration::from_secs(20) {
            break said;
        }
    };
    for line in all_looks("s.store", "auto")
        .iter()
        .filter(|l| !l.starts_with("device") && !l.starts_with("load"))
    {
        let e = place.refused(line);
        assert!(e.contains("holds it open"), "{line}: {e}");
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(said.code, 2, "{}", said.err);
    let who = format!("process {} (gaur)", child.id());
    assert!(
        said.err.contains(&who) || !kernel_tells(&place),
        "{}",
        said.err
    );
}

/// Changes a byte in each block that `wanted` says.
fn spoil(path: &Path, wanted: impl Fn(u64, &[u8]) -> bool) -> usize {
    let bytes = fs::read(path).expect("readable");
    let file = File::options().write(true).open(path).expect("open");
    let mut n = 0;
    for (i, block) in bytes
        .chunks(4096)
        .enumerate()
        .filter(|(i, b)| wanted(*i as u64, b))
    {
        file.write_at(&[block[2100] ^ 8], i as u64 * 4096 + 2100)
            .expect("written");
        n += 1;
    }
    n
}

#[test]
fn damage_is_named_and_what_is_beside_it_stays_readable() {
    let place = Place::new();
    place.ok("format s.store --size 96MiB");
    leave_dirty(&place, "s.store", "auto", 300);
    let file = place.path("s.store");
    let sound = fs::read(&file).expect("readable");
    let whole = place.ok("dump s.store");
    let told = |code: i32, line: &str, words: &[&str]| {
        let said = place.gaur(line.split(' '));
        let text = format!("{}{}", said.out, said.err);
        // Wherever lines are broken.
        let words_of_it: Vec<&str> = text.split_whitespace().collect();
        let flat = words_of_it.join(" ");
        assert_eq!(said.code, code, "{line}: {}", said.err);
        for word in words {
            assert!(flat.contains(word), "{line}: no {word:?} in\n{text}");
        }
        said
    };

    // A superblock copy: nothing is lost, nothing is repaired.
    assert_eq!(spoil(&file, |i, _| i == 0), 1);
    let before = hash(&file);
    told(
        0,
        "stat s.store",
        &["superblock copy 0", "next open for writing"],
    );
    told(
        1,
        "check s.store",
        &["superblock at block 0", "finds its place"],
    );
    let again = told(0, "dump s.store", &[]);
    assert!(again.out == whole);
    assert_eq!(hash(&file), before);

    // Both slots of a map block: trees are read as ever.
    fs::write(&file, &sound).expect("written");
    assert_eq!(spoil(&file, |i, _| i == 1 || i == 2), 2);
    let before = hash(&file);
    told(0, "stat s.store --count", &[]);
    told(1, "check s.store", &["map block"]);
    told(0, "inspect map s.store", &[]);
    assert!(told(0, "dump s.store", &[]).out == whole);
    assert_eq!(hash(&file), before);
    // The index above: known at once.
    fs::write(&file, &sound).expect("written");
    assert!(spoil(&file, |_, b| b.starts_with(b"GAURIDX1")) > 0);
    told(0, "stat s.store", &["map", "rebuilds"]);
    assert!(told(0, "dump s.store", &[]).out == whole);

    // Some leaves: the rest is dumped, and the dump says what it lacks.
    fs::write(&file, &sound).expect("written");
    let bad = spoil(&file, |i, b| {
        i % 7 == 0 && b.starts_with(b"GNOD\0") && b[32] == 1
    });
    assert!(bad > 0);
    let before = hash(&file);
    told(
        1,
        "stat s.store --count",
        &["damage in node", "--skip-damaged"],
    );
    told(
        1,
        "check s.store",
        &["node at block", "recovery would fail"],
    );
    told(1, "dump s.store", &["damage in node", "--skip-damaged"]);
    told(1, "dump s.store --out no.dump", &["damage in node"]);
    assert!(!place.path("no.dump").exists());
    let rest = told(
        1,
        "dump s.store --skip-damaged --out rest.dump",
        &["left out", "in tree default"],
    );
    assert!(rest.out.contains("rest.dump"));
    let rest = fs::read_to_string(place.path("rest.dump")).expect("there");
    let all = records(&whole);
    let left: Vec<&str> = records(&rest)
        .into_iter()
        .filter(|l| !l.starts_with("{\"left_out\""))
        .collect();
    assert!(
        left.len() < all.len() && left.len() > all.len() / 3,
        "{} of {}",
        left.len(),
        all.len()
    );
    let all: std::collections::BTreeSet<&str> = all.into_iter().collect();
    assert!(left.iter().all(|l| all.contains(l)));
    assert_eq!(hash(&file), before);
    // What was saved makes a store.
    place.ok("format new.store --size 96MiB");
    let said = place.ok("load new.store rest.dump");
    assert!(said.contains("lacks"), "{said}");
    let made = place.ok("dump new.store");
    assert!(records(&made) == left);
}

#[test]
fn a_dump_makes_the_same_store_again() {
    let place = Place::new();
    place.ok("format a.store --size 64MiB");
    let big = "x\"\\ü".repeat(20_000);
    for (key, value, tree) in [
        ("plain", "text", "one"),
        ("0x00ff", "0xc0ffee", "one"),
        ("0x", "empty key", "one"),
        ("big", big.as_str(), "two"),
        ("empty", "", "two"),
    ] {
        let said = place.gaur(["put", "a.store", key, value, "--tree", tree]);
        assert_eq!(said.code, 0, "{}", said.err);
    }
    place.ok("put a.store gone soon --tree three");
    place.ok("delete a.store gone --tree three");
    let said = place.json("dump a.store --out a.dump --json");
    assert_eq!((&said["trees"], &said["records"]), (&3.into(), &5.into()));
    let e = place.refused("dump a.store --out a.dump");
    assert!(e.contains("a.dump"), "{e}");
    let dump = fs::read_to_string(place.path("a.dump")).expect("there");

    place.ok("format b.store --size 64MiB --block-size 16KiB");
    let before = hash(&place.path("b.store"));
    let said = place.json("load b.store a.dump --dry-run --json");
    assert_eq!((&said["records"], &said["written"]), (&5.into(), &0.into()));
    assert_eq!(hash(&place.path("b.store")), before);
    place.ok("load b.store a.dump --cache 1MiB");
    let again = place.ok("dump b.store");
    assert!(records(&again) == records(&dump));
    assert_eq!(
        place.json("stat b.store --json")["trees"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    place.ok("check b.store");
    let one = place.ok("dump b.store --tree one");
    assert_eq!(records(&one).len(), 4);
    place.refused("dump b.store --tree four");

    // What exists already.
    place.ok("put b.store plain changed --tree one");
    let before = hash(&place.path("b.store"));
    let e = place.refused("load b.store a.dump");
    assert!(
        e.contains("exists already") && e.contains("--existing"),
        "{e}"
    );
    place.refused("load b.store a.dump --dry-run");
    assert_eq!(hash(&place.path("b.store")), before);
    let said = place.json("load b.store a.dump --existing keep --json");
    assert_eq!((&said["written"], &said["kept"]), (&0.into(), &5.into()));
    assert_eq!(place.ok("get b.store plain --tree one"), "changed\n");
    place.ok("load b.store a.dump --existing overwrite");
    assert_eq!(place.ok("get b.store plain --tree one"), "text\n");

    // Through a pipe.
    place.ok("format c.store --size 64MiB");
    let piped = Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(["load", "c.store", "-"])
        .current_dir(place.path(""))
        .stdin(File::open(place.path("a.dump")).expect("there"))
        .output()
        .expect("the tool starts");
    assert!(piped.status.success(), "{piped:?}");
    assert!(records(&place.ok("dump c.store")) == records(&dump));
}

#[test]
fn what_is_no_whole_dump_is_refused_and_nothing_is_loaded() {
    let place = Place::new();
    place.ok("format a.store --size 64MiB");
    for i in 0..20 {
        place.ok(&format!("put a.store key{i} value{i}"));
    }
    let dump = place.ok("dump a.store");
    place.ok("format b.store --size 64MiB");
    let before = hash(&place.path("b.store"));
    let changed = dump.replace("value7\"", "value8\"");
    let newer = dump.replacen("\"gaur_dump\":1", "\"gaur_dump\":2", 1);
    for (code, text, word) in [
        (1, &dump[..dump.len() - 100], "cut off"),
        (1, &dump[..dump.len() / 2], "cut off"),
        (1, changed.as_str(), "checksum"),
        (2, newer.as_str(), "version 2"),
        (2, "id,name\n1,ada\n", "no dump"),
        (2, "", "no dump"),
    ] {
        place.file("bad.dump", text);
        for more in [None, Some("--dry-run")] {
            let said = place.gaur(["load", "b.store", "bad.dump"].into_iter().chain(more));
            assert_eq!(said.code, code, "{word}: {}", said.err);
            assert!(
                said.err.contains(word) && said.err.lines().count() == 1,
                "{}",
                said.err
            );
        }
        assert_eq!(hash(&place.path("b.store")), before);
    }
    fs::write(place.path("bad.dump"), vec![0; 1 << 20]).expect("written");
    place.refused("load b.store bad.dump");
    place.refused("load b.store absent.dump");
    place.refused("load absent.store bad.dump");
    assert!(!place.path("absent.store").exists());
    // By a pipe it is known only at its end, and said how far it got.
    let mut piped = Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(["load", "b.store", "-"])
        .current_dir(place.path(""))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut pipe = piped.stdin.take().expect("piped");
    pipe.write_all(&dump.as_bytes()[..dump.len() - 100])
        .expect("written");
    drop(pipe);
    let piped = piped.wait_with_output().expect("ended");
    assert_eq!(piped.status.code(), Some(1));
    let err = String::from_utf8_lossy(&piped.stderr);
    assert!(
        err.contains("cut off") && err.contains("records were loaded before"),
        "{err}"
    );
}
