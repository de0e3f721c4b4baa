//! The table against images made from it, and against those that the tools
//! themselves make.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::table::At;
use super::*;
use crate::open::{DriverChoice, OpenOptions, open};

fn look(path: &Path) -> Vec<Signature> {
    let options = OpenOptions {
        read_only: true,
        driver: DriverChoice::Psync,
        direct: false,
        ..OpenOptions::default()
    };
    signatures(open(path, &options).expect("an image").device.as_ref()).expect("readable")
}

#[test]
fn what_was_found_is_told_in_words() {
    let found = |offset, kind, name| Signature {
        offset,
        kind,
        name,
        len: 4,
    };
    let all = [
        found(512, Kind::PartitionTable, "GPT"),
        found(1024, Kind::Raid, "MD"),
        found(4096, Kind::Volume, "LVM2"),
        found(8192, Kind::PartitionTable, "GPT"),
        found(9000, Kind::Encrypted, "LUKS"),
        found(9100, Kind::Swap, "swap"),
        found(9200, Kind::Image, "QCOW2"),
        found(9300, Kind::Part, "journal"),
        found(9400, Kind::FileSystem, "ext4"),
    ];
    assert_eq!(
        in_words(&all),
        "GPT partition table at bytes 512 and 8192, MD RAID member at byte 1024, \
         LVM2 volume at byte 4096, LUKS encrypted volume at byte 9000, \
         swap swap space at byte 9100, QCOW2 disk image at byte 9200, \
         journal data at byte 9300, ext4 file system at byte 9400"
    );
    assert_eq!(all[0].to_string(), "GPT partition table at byte 512");
}

/// A sparse image of `size` bytes.
struct Image {
    _dir: TempDir,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Image {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image");
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .expect("made");
        file.set_len(size).expect("sized");
        Self {
            _dir: dir,
            path,
            file,
            size,
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("written");
    }

    fn found(&self) -> Vec<Signature> {
        look(&self.path)
    }

    /// Empty again.
    fn clear(&self) {
        self.file.set_len(0).expect("cut");
        self.file.set_len(self.size).expect("sized");
    }
}

/// What the checks want to see around a magic found at `at`.
fn dressing(name: &str, magic: &[u8], at: u64) -> Vec<(u64, Vec<u8>)> {
    let put = |list: &[(u64, &[u8])]| list.iter().map(|(a, b)| (*a, b.to_vec())).collect();
    let ext = |features: &[(u64, &[u8])]| {
        let mut all: Vec<(u64, Vec<u8>)> = put(&[(1024 + 4, &[0, 4, 0, 0]), (1024 + 24, &[2])]);
        all.extend(features.iter().map(|(a, b)| (1024 + a, b.to_vec())));
        all
    };
    match name {
        "protective MBR" => put(&[(450, &[0xee])]),
        "Sun" => put(&[(510, &[0xda, 0xbe])]),
        "Apple" if magic == b"ER" => put(&[(2, &[2, 0])]),
        "Atari" => put(&[
            (at - 1, &[1]),
            (at + 3, &[0, 0, 0, 2]),
            (at + 7, &[0, 0, 9, 9]),
        ]),
        "Ultrix" => put(&[(at + 4, &[1])]),
        "Linux 0.90" if magic[0] == 0xfc => put(&[(at + 8, &[90])]),
        "Linux 0.90" => put(&[(at + 11, &[90])]),
        "Linux 1.0" | "Linux 1.1" | "Linux 1.2" => {
            put(&[(at + 4, &[1]), (at + 144, &(at / 512).to_le_bytes())])
        }
        "DDF" => put(&[(at + 32, b"02.00.00")]),
        "Silicon Image" => put(&[(at - 0x60 + 0x13e, &0x2f00u16.wrapping_neg().to_le_bytes())]),
        "VIA" => put(&[(at + 50, &[0xff])]),
        "Adaptec" => put(&[(at + 256, b"DPTM")]),
        "JMicron" => {
            let sum = u16::from_le_bytes(*b"JM");
            put(&[(at + 4, &sum.wrapping_neg().to_le_bytes())])
        }
        "LVM2" => put(&[(at - 0x18, b"LABELONE")]),
        "LVM1" => put(&[(2, &[2])]),
        "FileVault" => put(&[(8, &[1, 0, 0x10, 0]), (90, &[1])]),
        "ext journal" => ext(&[(96, &[8])]),
        "ext2" => ext(&[]),
        "ext3" => ext(&[(92, &[4]), (96, &[2])]),
        "ext4" => ext(&[(92, &[4]), (96, &[0x42, 2])]),
        "xfs log" => put(&[(at + 11, &[2]), (at + 303, &[1])]),
        "FAT" => put(&[
            (11, &[0, 2, 4, 1, 0, 2]),
            (21, &[0xf8, 1]),
            (32, &[0, 0, 1, 0]),
        ]),
        "hfs+" => put(&[(at + 3, &[4])]),
        "hfs" => put(&[(at + 22, &[2])]),
        "nilfs2" => put(&[(at - 6, &[2])]),
        "gfs" => put(&[(at + 26, &[5, 29])]),
        "gfs2" => put(&[(at + 26, &[7, 9])]),
        "jffs2" if magic[0] == 0x85 => put(&[(at + 2, &[3, 0x20])]),
        "jffs2" => put(&[(at + 2, &[0x20, 3])]),
        // Inodes, zones, blocks of the map, first zone, in either order.
        "minix" => match (magic, magic[0] < magic[1]) {
            (b"\x5a\x4d", _) => put(&[(1024, &[9]), (1030, &[1]), (1034, &[5]), (1044, &[99])]),
            (b"\x4d\x5a", _) => put(&[(1027, &[9]), (1031, &[1]), (1035, &[5]), (1047, &[99])]),
            (b"\x7f\x13" | b"\x8f\x13" | b"\x68\x24" | b"\x78\x24", _) => {
                put(&[(1024, &[9, 0, 99, 0, 1]), (1032, &[5]), (1044, &[99])])
            }
            _ => put(&[(1024, &[0, 9, 0, 99, 0, 1]), (1032, &[0, 5]), (1047, &[99])]),
        },
        _ => Vec::new(),
    }
}

#[test]
fn each_entry_is_found_in_each_of_its_places() {
    // Large enough for the last place, and no multiple of anything.
    let image = Image::new((257 << 30) + 4096 * 3 + 512);
    for entry in table::all() {
        // Of many places alike the first and the last will do.
        let many: usize = entry
            .at
            .iter()
            .map(|at| match at {
                At::Every { count, .. } => *count as usize,
                _ => 1,
            })
            .sum();
        let places: Vec<_> = entry.places(image.size).collect();
        assert_eq!(places.len(), many * entry.magics.len(), "{}", entry.name);
        for (i, (at, magic)) in places.iter().enumerate() {
            if many > 100 && i != 0 && i + 1 != places.len() {
                continue;
            }
            image.clear();
            image.write(*at, magic);
            for (at, bytes) in dressing(entry.name, magic, *at) {
                image.write(at, &bytes);
            }
            let found = image.found();
            let expected = found
                .iter()
                .any(|s| s.name == entry.name && s.kind == entry.kind && s.offset == *at);
            assert!(expected, "{} at {at}: {found:?}", entry.name);
            // Without its bytes it is gone, as a wipe promises.
            image.write(*at, &vec![0; magic.len()]);
            let left = image.found();
            let gone = !left.iter().any(|s| s.name == entry.name);
            assert!(gone, "{} at {at}: {left:?}", entry.name);
        }
    }
}

#[test]
fn a_magic_alone_is_not_enough_where_it_is_short() {
    let image = Image::new((257 << 30) + 512);
    for entry in table::all().filter(|e| e.check.is_some()) {
        for (at, magic) in entry.places(image.size).take(16) {
            image.clear();
            image.write(at, magic);
            let found = image.found();
            let alone = found.iter().filter(|s| s.name == entry.name).count();
            // An MBR without partitions, and a superblock of zeros, are ones.
            let may = ["MBR", "LVM1", "gfs2"].contains(&entry.name);
            assert!(alone == 0 || may, "{} at {at}", entry.name);
        }
    }
}

#[test]
fn nothing_is_seen_on_an_empty_device_of_any_size() {
    for size in [
        0,
        512,
        1024,
        4096,
        65536,
        65536 + 512,
        1 << 20,
        (1 << 20) + 4096,
    ] {
        assert_eq!(Image::new(size).found(), [], "{size} bytes");
    }
}

#[test]
fn devices_of_any_size_can_be_full() {
    for size in [512, 1024, 4096, 12_288, 65536, 65536 + 512, 200_192] {
        for byte in [0x55, 0xaa, 0xff, b'J'] {
            let image = Image::new(size);
            image.write(0, &vec![byte; size as usize]);
            let _ = image.found();
        }
    }
}

#[test]
fn many_copies_take_one_name() {
    let image = Image::new(1 << 20);
    image.write(512, b"EFI PART");
    image.write((1 << 20) - 512, b"EFI PART");
    image.write(0, b"XFSB");
    let found = image.found();
    assert_eq!(found[0].to_string(), "xfs file system at byte 0");
    assert_eq!(
        in_words(&found),
        "xfs file system at byte 0, GPT partition table at bytes 512 and 1048064"
    );
    assert_eq!(found.len(), 3);
}

/// What a tool makes, and the names that it must be known by.
struct Made {
    /// With `IMG` for the image and `DIR` for a directory with a file in it.
    command: &'static str,
    mib: u64,
    names: &'static [&'static str],
}

const fn made(command: &'static str, mib: u64, names: &'static [&'static str]) -> Made {
    Made {
        command,
        mib,
        names,
    }
}

const TOOLS: &[Made] = &[
    made("mkfs.ext2 -q -F IMG", 64, &["ext2"]),
    made("mkfs.ext3 -q -F IMG", 64, &["ext3"]),
    made("mkfs.ext4 -q -F IMG", 64, &["ext4"]),
    made(
        "mke2fs -q -F -O journal_dev -b 4096 IMG",
        64,
        &["ext journal"],
    ),
    made("mkfs.xfs -q -f IMG", 320, &["xfs"]),
    made("mkfs.btrfs -q IMG", 256, &["btrfs"]),
    made("mkfs.f2fs -q IMG", 64, &["f2fs"]),
    made("mkntfs -q -F -f IMG", 64, &["ntfs"]),
    made("mkfs.vfat -F 12 IMG", 8, &["FAT"]),
    made("mkfs.vfat -F 16 IMG", 64, &["FAT"]),
    made("mkfs.vfat -F 32 -S 4096 IMG", 320, &["FAT"]),
    made("mkfs.exfat IMG", 64, &["exfat"]),
    made("mkfs.nilfs2 -q -f IMG", 160, &["nilfs2"]),
    made("mkfs.jfs -q IMG", 64, &["jfs"]),
    made("mkreiserfs -q -f -f IMG", 64, &["reiserfs"]),
    made("mkfs.reiser4 -f -y IMG", 64, &["reiser4"]),
    made("mkfs.gfs2 -O -p lock_nolock IMG", 320, &["gfs2"]),
    made("mkfs.ocfs2 -q -F -M local -J size=4M IMG", 256, &["ocfs2"]),
    made("mkudffs -b 2048 IMG", 64, &["udf"]),
    made("mkudffs -b 4096 --media-type=hd IMG", 64, &["udf"]),
    made("mkfs.minix -1 IMG", 16, &["minix"]),
    made("mkfs.minix -2 IMG", 16, &["minix"]),
    made("mkfs.minix -3 IMG", 16, &["minix"]),
    made("mkfs.bfs IMG", 16, &["bfs"]),
    made("mksquashfs DIR IMG -noappend -quiet", 1, &["squashfs"]),
    made("mkfs.erofs --quiet IMG DIR", 1, &["erofs"]),
    made("mkfs.cramfs DIR IMG", 1, &["cramfs"]),
    made("genromfs -d DIR -f IMG", 1, &["romfs"]),
    made("genisoimage -quiet -o IMG DIR", 1, &["iso9660"]),
    made("genisoimage -quiet -udf -o IMG DIR", 1, &["iso9660", "udf"]),
    made(
        "mkfs.jffs2 --eraseblock=64KiB --pad=1048576 -d DIR -o IMG",
        1,
        &["jffs2"],
    ),
    made("mkswap -q IMG", 64, &["Linux"]),
    made("mkswap -q -p 65536 IMG", 64, &["Linux"]),
    made("make-bcache -B IMG", 64, &["bcache"]),
    made(
        "cryptsetup -q --type luks1 --pbkdf-force-iterations 1000 --key-file DIR/file luksFormat IMG",
        64,
        &["LUKS"],
    ),
    made(
        "cryptsetup -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file DIR/file luksFormat IMG",
        64,
        &["LUKS", "LUKS (second header)"],
    ),
    made("sgdisk -n 1:0:0 IMG", 64, &["GPT", "protective MBR"]),
    made("parted -s IMG mklabel gpt", 64, &["GPT", "protective MBR"]),
    made("parted -s IMG mklabel msdos", 64, &["MBR"]),
    made("parted -s IMG mklabel bsd", 64, &["BSD"]),
    made("parted -s IMG mklabel sun", 64, &["Sun"]),
    made("parted -s IMG mklabel mac", 64, &["Apple"]),
    made("parted -s IMG mklabel amiga", 64, &["Amiga"]),
    made(
        "parted -s IMG mklabel atari mkpart p 1MiB 9MiB",
        64,
        &["Atari"],
    ),
    made("qemu-img create -q -f qcow2 IMG 64M", 1, &["qcow"]),
];

/// Runs a tool; whether it made what it should.
fn tool(made: &Made, image: &Path, dir: &Path) -> bool {
    let words: Vec<String> = made
        .command
        .split(' ')
        .map(|w| {
            w.replace("IMG", &image.display().to_string())
                .replace("DIR", &dir.display().to_string())
        })
        .collect();
    Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .status()
        .is_ok_and(|s| s.success())
}

/// What wipefs sees, where there is one.
fn wipefs(image: &Path) -> Vec<(u64, String)> {
    let Ok(output) = Command::new("wipefs")
        .args(["--no-act", "--parsable"])
        .arg(image)
        .output()
    else {
        return Vec::new();
    };
    // Offset, UUID, label, type.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let at = line.split(',').next()?.strip_prefix("0x")?;
            let name = line.rsplit(',').next()?.to_owned();
            Some((u64::from_str_radix(at, 16).ok()?, name))
        })
        .collect()
}

#[test]
fn what_the_tools_make_is_known() {
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("file"), b"some words").expect("written");
    let mut skipped = Vec::new();
    for made in TOOLS {
        let image = Image::new(made.mib << 20);
        if !tool(made, &image.path, files.path()) {
            skipped.push(made.command.split(' ').next().unwrap_or(""));
            continue;
        }
        let found = image.found();
        let mut names: Vec<_> = found.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, made.names, "{}: {}", made.command, in_words(&found));
        for (at, name) in wipefs(&image.path) {
            // It tells other places: three of a FAT, the end of a boot sector, where
            // an udf begins, the flag before an Atari partition.
            let known = ["vfat", "udf", "dos", "atari"].contains(&name.as_str());
            assert!(
                known || found.iter().any(|s| s.offset == at),
                "{}: wipefs sees {name} at {at}, we {}",
                made.command,
                in_words(&found)
            );
        }
    }
    if !skipped.is_empty() {
        println!("skipped: no {} here", skipped.join(", "));
    }
}
