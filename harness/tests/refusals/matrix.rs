//! Every refusal on a loop device: what it says, its exit code, and that not one
//! byte of the whole device is another afterwards.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::{LoopDevice, Place};

const SIZE: u64 = 64 << 20;

/// What writes over a device that is free.
const FORMATS: &[&str] = &[
    "format PATH",
    "format PATH --block-size 16KiB",
    "run c.toml --device PATH",
    "run c.toml --device PATH --fresh",
];
/// What is refused even when it is forced.
const ALWAYS: &[&str] = &[
    "format PATH",
    "format PATH --force",
    "run c.toml --device PATH",
    "run c.toml --device PATH --fresh",
    "put PATH k v",
];

/// A loop device and a place with a configuration that asks for a fresh store.
struct Bench {
    // Detached before its image goes.
    device: LoopDevice,
    place: Place,
}

impl Bench {
    fn new(sector: u32) -> Option<Self> {
        Self::of(sector, SIZE)
    }

    fn of(sector: u32, bytes: u64) -> Option<Self> {
        let place = Place::new();
        let device = LoopDevice::attach(&place, sector, bytes)?;
        place.file("c.toml", "store.create = 'fresh'\nload.records = 10\n");
        Some(Self { device, place })
    }

    fn name(&self) -> String {
        self.device.name()
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        fs::read(self.device.path())
            .expect("readable")
            .hash(&mut hasher);
        hasher.finish()
    }

    /// All zeros again.
    fn clear(&self) {
        let file = File::options()
            .write(true)
            .open(self.device.path())
            .expect("writable");
        let zeros = vec![0; 1 << 20];
        for at in (0..SIZE).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).expect("zeroed");
        }
        file.sync_all().expect("synced");
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.device.path());
        let file = file.expect("writable");
        file.write_all_at(bytes, at).expect("written");
        file.sync_all().expect("synced");
    }

    /// Runs a command with `PATH` for the device.
    fn run(&self, command: &str) -> bool {
        run(&command.replace("PATH", &self.name()))
    }

    /// Each line is refused for `path`, with all these words, and leaves the
    /// device as it is.
    fn refused_at(&self, path: &str, lines: &[&str], words: &[&str]) {
        let before = self.hash();
        for line in lines {
            let line = line.replace("PATH", path);
            let said = self.place.refused(&line);
            for word in words.iter().chain(&[path, "othing was "]) {
                assert!(said.contains(word), "gaur {line}: no `{word}` in: {said}");
            }
        }
        assert_eq!(self.hash(), before, "something was written");
    }

    fn refused(&self, lines: &[&str], words: &[&str]) {
        self.refused_at(&self.name(), lines, words);
    }
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    Command::new(words.next().expect("a command"))
        .args(words)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Undoes something in the end, whatever the end is.
struct Undo(String);

impl Drop for Undo {
    fn drop(&mut self) {
        run(&self.0);
    }
}

#[test]
fn what_the_tools_made_is_named() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    for (command, name) in [
        ("mkfs.ext4 -q -F PATH", "ext4 file system at byte 1080"),
        ("mkfs.vfat -I PATH", "FAT file system"),
        ("mkswap -q PATH", "Linux swap space at byte 4086"),
        (
            "parted -s PATH mklabel gpt",
            "GPT partition table at bytes 512 and 67108352",
        ),
        ("sgdisk -o PATH", "GPT partition table"),
        ("parted -s PATH mklabel msdos", "MBR partition table"),
        ("mkfs.btrfs -q -f -M PATH", "btrfs file system"),
        ("pvcreate -q -y PATH", "LVM2 volume"),
        (
            "cryptsetup -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
             --key-file /proc/self/exe --keyfile-size 64 luksFormat PATH",
            "LUKS encrypted volume",
        ),
    ] {
        bench.clear();
        if !bench.run(command) {
            println!("skipped: {command}");
            continue;
        }
        bench.refused(FORMATS, &["holds ", name, "wipefs -a", "--force"]);
        bench.refused(
            &[
                "put PATH k v",
                "run c.toml --device PATH --set store.create=never",
            ],
            &["holds ", name, "no gaur store"],
        );
        let seen = bench.place.ok(&format!("device {}", bench.name()));
        let words: Vec<&str> = seen.split_whitespace().collect();
        let flat = words.join(" ");
        assert!(flat.contains("contents") && flat.contains(name), "{seen}");
    }
    // Told to, it formats, and what was there is gone for others too.
    bench.clear();
    bench.write(512, b"EFI PART");
    bench.write(SIZE - 512, b"EFI PART");
    let said = bench.place.ok(&format!("format {} --force", bench.name()));
    let words: Vec<&str> = said.split_whitespace().collect();
    // Also in the block that a superblock takes.
    let wiped = "wiped: GPT partition table at bytes 512 and";
    assert!(words.join(" ").contains(wiped), "{said}");
    let facts = bench.place.json(&format!("device {} --json", bench.name()));
    assert!(facts["contents"]["store_id"].is_string(), "{facts}");
    let whole = fs::read(bench.device.path()).expect("readable");
    assert_eq!(&whole[SIZE as usize - 512..][..8], &[0; 8]);
}

#[test]
fn one_byte_is_enough() {
    for sector in [512, 4096] {
        let Some(bench) = Bench::new(sector) else {
            return;
        };
        // At the end alone: a copy of a partition table, members of RAIDs.
        let end_of_table = SIZE - u64::from(sector);
        for (at, bytes, name) in [
            (end_of_table, &b"EFI PART"[..], "GPT partition table"),
            (
                SIZE - 1024,
                b"Intel Raid ISM Cfg Sig. 1.0.00",
                "Intel RAID member",
            ),
            (
                SIZE - 65536,
                b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a",
                "Linux 0.90 RAID member",
            ),
        ] {
            bench.clear();
            bench.write(at, bytes);
            bench.refused(FORMATS, &[name, &format!("at byte {at}")]);
        }
        // The map's slots, the second superblock, the log's first and last byte.
        for at in [
            4096 + 7,
            (1 << 20) + 4095,
            (1 << 20) + 4096,
            (5 << 20) + 4095,
        ] {
            bench.clear();
            bench.write(at, b"x");
            bench.refused(
                &["format PATH", "run c.toml --device PATH --fresh"],
                &["data of an unknown kind", &format!("byte {at}"), "--force"],
            );
        }
        // Where data will go nobody looks.
        bench.clear();
        bench.write((5 << 20) + 4096, b"x");
        bench.place.ok(&format!("format {}", bench.name()));
    }
}

#[test]
fn a_store_is_named_by_its_id() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    let made = bench.place.json(&format!("format {} --json", bench.name()));
    let id = made["store_id"].as_str().expect("an id").to_owned();
    bench.refused(&FORMATS[..2], &["gaur store", &id, "--force"]);
    let seen = bench.place.ok(&format!("device {}", bench.name()));
    assert!(seen.contains(&id), "{seen}");
    // In use by another process.
    let options = gaur::OpenOptions::default();
    let store = gaur::Store::open(bench.device.path(), &options).expect("opened");
    bench.refused(
        &["format PATH --force", "put PATH k v"],
        &["is held by another process"],
    );
    bench.refused(&ALWAYS[2..4], &["another store holds it open"]);
    let seen = bench.place.ok(&format!("device {}", bench.name()));
    assert!(seen.contains(&id), "{seen}");
    store.close().expect("closed");
    bench.place.ok(&format!("put {} k v", bench.name()));
}

#[test]
fn what_was_made_over_a_store_is_not_written_to() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    bench.place.ok(&format!("format {}", bench.name()));
    bench.place.ok(&format!("put {} k v", bench.name()));
    // As mkswap does it; the other superblock is left.
    bench.write(0, &[0; 4096]);
    bench.write(4086, b"SWAPSPACE2");
    bench.refused(
        &["put PATH k w", "trim PATH", "format PATH"],
        &["gaur store"],
    );
    bench.refused(&["put PATH k w", "format PATH"], &["swap", "right device"]);
    let seen = bench.place.ok(&format!("device {}", bench.name()));
    assert!(seen.contains("swap"), "{seen}");
    bench.refused(&["run c.toml --device PATH --fresh"], &["superblock"]);
    let seen = bench.place.ok(&format!("get {} k", bench.name()));
    assert_eq!(seen.trim(), "v");
    // Damage alone is mended.
    bench.write(4086, &[0; 10]);
    bench.place.ok(&format!("put {} k w", bench.name()));
}

#[test]
fn a_store_that_cannot_be_replaced_stays() {
    let place = Place::new();
    place.ok("format s.store --size 16MiB");
    place.ok("put s.store k v");
    for size in ["size = '32MiB', log_size = '31MiB'", "size = '4000TiB'"] {
        let text = format!("load.records = 10\nstore = {{ create = 'fresh', {size} }}\n");
        place.file("c.toml", &text);
        place.refused("run c.toml --device s.store --fresh");
        assert_eq!(place.ok("get s.store k").trim(), "v", "{size}");
    }
}

#[test]
fn a_killed_process_is_waited_for() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    bench.place.ok(&format!("format {}", bench.name()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(["run", "--device", &bench.name()])
        .args(["--set", "store.create=missing", "--set", "run.seconds=60"])
        .arg(bench.place.path("c.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool starts");
    // Until it holds the device.
    let claim = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_EXCL)
            .open(bench.device.path())
    };
    let mut tries = 0;
    while claim().is_ok() && tries < 400 && child.try_wait().expect("asked").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        tries += 1;
    }
    child.kill().expect("killed");
    bench.place.ok(&format!("put {} k v", bench.name()));
    child.wait().expect("gone");
}

#[test]
fn what_is_mounted_is_refused_always() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    let mount = bench.place.path("mnt");
    fs::create_dir(&mount).expect("a directory");
    let mount = mount.display().to_string();
    // Read-only, so that the file system itself writes nothing meanwhile.
    if !bench.run("mkfs.ext4 -q -F PATH") || !bench.run(&format!("mount -o ro PATH {mount}")) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    {
        let _undo = Undo(format!("umount {mount}"));
        bench.refused(ALWAYS, &["is mounted at", &mount, "Unmount it first"]);
        // Its file, and a link to it.
        let image = bench.place.path("image-512").display().to_string();
        bench.refused_at(
            &image,
            &ALWAYS[1..2],
            &["is shown as a device by", &bench.name()],
        );
        let link = bench.place.path("link");
        symlink(bench.device.path(), &link).expect("a link");
        let link = link.display().to_string();
        bench.refused_at(
            &link,
            ALWAYS,
            &[&format!("→ {}", bench.name()), "is mounted at"],
        );
    }
    // A partition that is mounted, and its disk.
    bench.clear();
    let part = format!("{}p1", bench.name());
    if !bench.run("addpart PATH 1 2048 65536") || !Path::new(&part).exists() {
        println!("skipped: no partitions can be made here");
        return;
    }
    let _part = Undo(format!("delpart {} 1", bench.name()));
    if !run(&format!("mkfs.ext4 -q -F {part}")) || !run(&format!("mount -o ro {part} {mount}")) {
        println!("skipped: the partition cannot be mounted");
        return;
    }
    let _undo = Undo(format!("umount {mount}"));
    bench.refused_at(&part, ALWAYS, &["is mounted at"]);
    bench.refused(
        ALWAYS,
        &[&format!("has the partition {part}"), "is mounted at"],
    );
}

#[test]
fn swap_is_refused_always() {
    let Some(bench) = Bench::new(4096) else {
        return;
    };
    if !bench.run("mkswap -q PATH") || !bench.run("swapon PATH") {
        println!("skipped: no swap can be used here");
        return;
    }
    let _undo = Undo(format!("swapoff {}", bench.name()));
    bench.refused(ALWAYS, &["is used as swap", "swapoff"]);
}

#[test]
fn what_is_held_is_refused_always() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    let holder = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_EXCL)
        .open(bench.device.path())
        .expect("claimed");
    bench.refused(ALWAYS, &["is held by another process", "fuser"]);
    drop(holder);
    let name = format!("gaur-test-{}", std::process::id());
    let table = bench
        .place
        .file("table", &format!("0 2048 linear {} 0\n", bench.name()));
    if !run(&format!("dmsetup create {name} {}", table.display())) {
        println!("skipped: no device mapper here");
        return;
    }
    let _undo = Undo(format!("dmsetup remove --retry {name}"));
    bench.refused(ALWAYS, &["is held by /dev/dm-", &name, "dmsetup remove"]);
}

#[test]
fn what_cannot_be_a_store_is_refused() {
    let Some(bench) = Bench::new(512) else {
        return;
    };
    if bench.run("blockdev --setro PATH") {
        bench.refused(ALWAYS, &["is set read-only", "blockdev --setrw"]);
        assert!(bench.run("blockdev --setrw PATH"));
    } else {
        println!("skipped: no blockdev here");
    }
    if let Some(small) = Bench::of(512, 8 << 20) {
        small.refused(
            &["format PATH", "format PATH --force"],
            &["8388608", "16777216"],
        );
    }
    // Kernels before 6.15 have no logical blocks above a page.
    if let Some(coarse) = Bench::new(8192) {
        coarse.refused(
            &["format PATH", "format PATH --force"],
            &["logical block (8192)", "--block-size"],
        );
        let formatted = format!("format {} --block-size 8KiB", coarse.name());
        coarse.place.ok(&formatted);
    }
    // Not refused, but told of: a partition that begins anywhere.
    let part = format!("{}p1", bench.name());
    if bench.run("addpart PATH 1 2049 65536") && Path::new(&part).exists() {
        let _undo = Undo(format!("delpart {} 1", bench.name()));
        let said = bench.place.ok(&format!("format {part}"));
        assert!(said.contains("begins at byte 1049088"), "{said}");
    } else {
        println!("skipped: no partitions can be made here");
    }
}

#[test]
fn links_lead_to_what_is_there_or_nowhere() {
    let place = Place::new();
    let target = place.path("target.store");
    symlink(&target, place.path("link")).expect("a link");
    for line in [
        "format link",
        "format link --size 64MiB",
        "put link k v",
        "stat link",
    ] {
        let said = place.refused(line);
        assert!(said.contains("symbolic link to"), "{line}: {said}");
        assert!(
            said.contains("target.store, which does not exist"),
            "{said}"
        );
        assert!(!target.exists());
    }
    place.file(
        "c.toml",
        "store = { create = 'fresh', size = '64MiB' }\nload.records = 10\n",
    );
    place.refused("run c.toml --device link --fresh");
    assert!(!target.exists());
    place.ok("format target.store --size 32MiB");
    let said = place.refused("format link");
    assert!(
        said.contains("link → ") && said.contains("gaur store"),
        "{said}"
    );
    // Another size: the file behind the link is made anew, the link stays.
    place.ok("run c.toml --device link --fresh");
    assert!(place.path("link").is_symlink());
    assert_eq!(fs::metadata(&target).expect("there").len(), 64 << 20);
    let said = place.json("format link --force --json");
    let notes = said["notes"].to_string();
    assert!(notes.contains("link is a link to"), "{notes}");
}

#[test]
fn a_huge_sparse_file_has_no_bytes_to_read() {
    let place = Place::new();
    let file = File::create(place.path("huge.store")).expect("a file");
    if file.set_len(8 << 40).is_err() {
        println!("skipped: no file of 8 TiB here");
        return;
    }
    // Far away, in the map slot of a group.
    let group = (4096 - 64) * 8 * 4096_u64;
    file.write_all_at(b"x", 60_000 * group + 8191)
        .expect("written");
    let said = place.refused("format huge.store --sparse --log-size 16MiB");
    assert!(
        said.contains(&format!("byte {}", 60_000 * group + 8191)),
        "{said}"
    );
    file.set_len(0)
        .and_then(|()| file.set_len(8 << 40))
        .expect("emptied");
    place.ok("format huge.store --sparse --log-size 16MiB");
}
