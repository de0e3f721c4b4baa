//! Looks at a structure where its magic is too short to go by. Each takes the
//! place of the magic. They ask whether the structure could be one at all, not
//! whether it is whole: what is damaged is still somebody's data.

use super::Pieces;

/// The magic of the superblock of ext2, 3 and 4 lies so deep in it.
const EXT_MAGIC: u64 = 0x38;

fn any_ext(p: &Pieces, at: u64) -> bool {
    let sb = at - EXT_MAGIC;
    p.le32(sb + 4) != 0 && p.le32(sb + 24) <= 6
}

pub(super) fn ext_journal(p: &Pieces, at: u64) -> bool {
    any_ext(p, at) && p.le32(at - EXT_MAGIC + 96) & 0x8 != 0
}

/// Features that ext3 does not know.
fn beyond_ext3(p: &Pieces, sb: u64) -> bool {
    p.le32(sb + 96) & !0x16 != 0 || p.le32(sb + 100) & !0x7 != 0
}

fn has_journal(p: &Pieces, sb: u64) -> bool {
    p.le32(sb + 92) & 0x4 != 0
}

fn ext_file_system(p: &Pieces, at: u64) -> bool {
    any_ext(p, at) && !ext_journal(p, at)
}

pub(super) fn ext4(p: &Pieces, at: u64) -> bool {
    ext_file_system(p, at) && beyond_ext3(p, at - EXT_MAGIC)
}

pub(super) fn ext3(p: &Pieces, at: u64) -> bool {
    let sb = at - EXT_MAGIC;
    ext_file_system(p, at) && !beyond_ext3(p, sb) && has_journal(p, sb)
}

pub(super) fn ext2(p: &Pieces, at: u64) -> bool {
    let sb = at - EXT_MAGIC;
    ext_file_system(p, at) && !beyond_ext3(p, sb) && !has_journal(p, sb)
}

/// The parameters of a FAT boot sector make sense.
fn boot_sector(p: &Pieces) -> bool {
    let sector = p.le16(11);
    let media = p.u8(21);
    let others: [(u64, &[u8]); 6] = [
        (3, b"NTFS    "),
        (3, b"EXFAT   "),
        (3, b"-FVE-FS-"),
        (0x36, b"JFS     "),
        (0x36, b"HPFS    "),
        (424, b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a"),
    ];
    sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && p.u8(13).is_power_of_two()
        && p.le16(14) != 0
        && (1..=4).contains(&p.u8(16))
        && (media >= 0xf8 || media == 0xf0)
        && (p.le16(19) != 0 || p.le32(32) != 0)
        && (p.le16(22) != 0 || p.le32(36) != 0)
        && others.iter().all(|(at, name)| !p.has(*at, name))
}

pub(super) fn fat(p: &Pieces, _at: u64) -> bool {
    boot_sector(p)
}

pub(super) fn fat_by_name(p: &Pieces, _at: u64) -> bool {
    boot_sector(p) && !p.has(510, b"\x55\xaa")
}

/// Where the four entries of an MBR are.
fn mbr_entries() -> impl Iterator<Item = u64> {
    (0..4).map(|i| 446 + 16 * i)
}

/// The entries' boot flags are ones, and it is no boot sector of a file system.
fn any_mbr(p: &Pieces) -> bool {
    let boot_flags = mbr_entries().all(|e| matches!(p.u8(e), 0 | 0x80));
    let file_system =
        boot_sector(p) || p.has(3, b"NTFS    ") || p.has(3, b"EXFAT   ") || p.has(3, b"-FVE-FS-");
    boot_flags && !file_system
}

fn protects_gpt(p: &Pieces) -> bool {
    mbr_entries().any(|e| p.u8(e + 4) == 0xee)
}

pub(super) fn protective_mbr(p: &Pieces, _at: u64) -> bool {
    any_mbr(p) && protects_gpt(p)
}

pub(super) fn mbr(p: &Pieces, _at: u64) -> bool {
    any_mbr(p) && !protects_gpt(p)
}

/// The words of the label cancel out.
pub(super) fn sun(p: &Pieces, _at: u64) -> bool {
    (0..256).fold(0, |sum, i| sum ^ p.be16(2 * i)) == 0
}

pub(super) fn apple(p: &Pieces, _at: u64) -> bool {
    let block = p.be16(2);
    block != 0 && block.is_multiple_of(512)
}

/// The flag before the name says that the entry is in use, and it has a size.
pub(super) fn atari(p: &Pieces, at: u64) -> bool {
    p.u8(at - 1) & 1 != 0 && p.be32(at + 3) != 0 && p.be32(at + 7) != 0
}

pub(super) fn ultrix(p: &Pieces, at: u64) -> bool {
    p.le32(at + 4) == 1
}

pub(super) fn md_0(p: &Pieces, at: u64) -> bool {
    let little = p.has(at, b"\xfc\x4e\x2b\xa9");
    let word = |i: u64| {
        if little {
            p.le32(at + 4 * i)
        } else {
            p.be32(at + 4 * i)
        }
    };
    word(1) == 0 && word(2) >= 90 && word(2) < 100
}

/// It says itself where it is.
pub(super) fn md_1(p: &Pieces, at: u64) -> bool {
    p.le32(at + 4) == 1 && p.le64(at + 144) == at / 512
}

/// A revision of digits and points.
pub(super) fn ddf(p: &Pieces, at: u64) -> bool {
    let digit = |i: u64| p.u8(at + 32 + i).is_ascii_digit();
    digit(0) && digit(1) && p.has(at + 34, b".")
}

fn sum16(p: &Pieces, at: u64, words: u64) -> u16 {
    (0..words).fold(0, |sum: u16, i| sum.wrapping_add(p.le16(at + 2 * i)))
}

pub(super) fn silicon_image(p: &Pieces, at: u64) -> bool {
    let start = at - 0x60;
    p.u8(start + 0x116) < 8 && sum16(p, start, 0x13e / 2 + 1) == 0
}

/// The sum of the first 50 bytes stands behind them.
pub(super) fn via(p: &Pieces, at: u64) -> bool {
    let sum = (0..50).fold(0u8, |sum, i| sum.wrapping_add(p.u8(at + i)));
    p.u8(at + 2) <= 2 && sum == p.u8(at + 50)
}

pub(super) fn adaptec(p: &Pieces, at: u64) -> bool {
    p.has(at + 256, b"DPTM")
}

pub(super) fn jmicron(p: &Pieces, at: u64) -> bool {
    p.u8(at + 0x30) <= 5 && sum16(p, at, 64) <= 1
}

pub(super) fn lvm2(p: &Pieces, at: u64) -> bool {
    p.has(at - 0x18, b"LABELONE")
}

pub(super) fn lvm1(p: &Pieces, at: u64) -> bool {
    matches!(p.le16(at + 2), 1 | 2)
}

/// The version, the type of block and the way of the checksum.
pub(super) fn file_vault(p: &Pieces, _at: u64) -> bool {
    p.le16(8) == 1 && p.le16(10) == 0x10 && p.le32(90) == 1
}

/// The version and the order of bytes of a log record.
pub(super) fn xfs_log(p: &Pieces, at: u64) -> bool {
    matches!(p.be32(at + 8), 1..=3) && matches!(p.be32(at + 300), 1..=3)
}

pub(super) fn hfs_plus(p: &Pieces, at: u64) -> bool {
    matches!(p.be16(at + 2), 4 | 5)
}

/// The size of an allocation block.
pub(super) fn hfs(p: &Pieces, at: u64) -> bool {
    let block = p.be32(at + 20);
    block != 0 && block.is_multiple_of(512)
}

/// The revision, and a size of the block that there is.
pub(super) fn nilfs2(p: &Pieces, at: u64) -> bool {
    let sb = at - 6;
    p.le32(sb) == 2 && p.le32(sb + 20) <= 6
}

/// The superblock's format, of gfs2.
pub(super) fn gfs2(p: &Pieces, at: u64) -> bool {
    !gfs1(p, at)
}

pub(super) fn gfs1(p: &Pieces, at: u64) -> bool {
    p.be32(at + 24) == 1309
}

/// The type of a node behind the magic.
pub(super) fn jffs2(p: &Pieces, at: u64) -> bool {
    let kind = if p.has(at, b"\x85\x19") {
        p.le16(at + 2)
    } else {
        p.be16(at + 2)
    };
    matches!(
        kind,
        0xe001 | 0xe002 | 0x2003 | 0x2004 | 0x2006 | 0xe008 | 0xe009
    )
}

/// As much room in the maps as there are inodes, and data before the end.
fn minix_maps(inodes: u64, inode_map: u64, first_zone: u64, zones: u64, zone_log: u16) -> bool {
    inodes != 0
        && zone_log == 0
        && inode_map * 8192 > inodes
        && first_zone != 0
        && first_zone < zones
}

pub(super) fn minix(p: &Pieces, at: u64) -> bool {
    let sb = at - 16;
    // The numbers of the versions 1 and 2, smallest byte first or last.
    let little = matches!(p.le16(at), 0x137f | 0x138f | 0x2468 | 0x2478);
    let half = |i: u64| {
        if little {
            p.le16(sb + i)
        } else {
            p.be16(sb + i)
        }
    };
    let word = |i: u64| {
        if little {
            p.le32(sb + i)
        } else {
            p.be32(sb + i)
        }
    };
    let first = matches!(half(16), 0x137f | 0x138f);
    let zones = if first {
        half(2).into()
    } else {
        u64::from(word(20))
    };
    minix_maps(
        half(0).into(),
        half(4).into(),
        half(8).into(),
        zones,
        half(10),
    )
}

pub(super) fn minix_3(p: &Pieces, at: u64) -> bool {
    let sb = at - 24;
    let little = p.le16(at) == 0x4d5a;
    let half = |i: u64| {
        if little {
            p.le16(sb + i)
        } else {
            p.be16(sb + i)
        }
    };
    let word = |i: u64| {
        if little {
            p.le32(sb + i)
        } else {
            p.be32(sb + i)
        }
    };
    minix_maps(
        word(0).into(),
        half(6).into(),
        half(10).into(),
        word(20).into(),
        half(12),
    )
}
