//! File systems.

use super::Kind::FileSystem;
use super::check;
use super::table::{At, Entry, row};

use At::{End, EndOf, Every, Start};

const EXT: &[&[u8]] = &[b"\x53\xef"];
const EXT_AT: &[At] = &[Start(0x438)];

pub(super) const TABLE: &[Entry] = &[
    row("ext2", FileSystem, EXT, EXT_AT).when(check::ext2),
    row("ext3", FileSystem, EXT, EXT_AT).when(check::ext3),
    row("ext4", FileSystem, EXT, EXT_AT).when(check::ext4),
    row("xfs", FileSystem, &[b"XFSB"], &[Start(0)]),
    // With its two copies.
    row(
        "btrfs",
        FileSystem,
        &[b"_BHRfS_M"],
        &[
            Start((64 << 10) + 64),
            Start((64 << 20) + 64),
            Start((256 << 30) + 64),
        ],
    ),
    row(
        "f2fs",
        FileSystem,
        &[b"\x10\x20\xf5\xf2"],
        &[Start(0x400), Start(0x1400)],
    ),
    row(
        "bcachefs",
        FileSystem,
        &[b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"],
        &[Start(0x1018), Start((2 << 20) + 24), End((1 << 20) - 24)],
    ),
    // The first bytes of a label's list of names and values, for all four labels.
    row(
        "zfs",
        FileSystem,
        &[
            b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
            b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
        ],
        &[
            Start(16 << 10),
            Start(272 << 10),
            EndOf {
                unit: 256 << 10,
                back: 496 << 10,
            },
            EndOf {
                unit: 256 << 10,
                back: 240 << 10,
            },
        ],
    ),
    // Windows and DOS.
    row(
        "ntfs",
        FileSystem,
        &[b"NTFS    "],
        &[Start(3), End(512 - 3)],
    ),
    row("ReFS", FileSystem, &[b"\x00\x00\x00ReFS\x00"], &[Start(0)]),
    row(
        "exfat",
        FileSystem,
        &[b"EXFAT   "],
        &[Start(3), Start(12 * 512 + 3)],
    ),
    row("FAT", FileSystem, &[b"\x55\xaa"], &[Start(510)]).when(check::fat),
    // Some lack the two bytes at the end.
    row("FAT", FileSystem, &[b"FAT32   ", b"MSWIN"], &[Start(0x52)]).when(check::fat_by_name),
    row(
        "FAT",
        FileSystem,
        &[b"FAT12   ", b"FAT16   ", b"FAT     ", b"MSDOS"],
        &[Start(0x36)],
    )
    .when(check::fat_by_name),
    row("hpfs", FileSystem, &[b"\x49\xe8\x95\xf9"], &[Start(0x2000)]),
    // Apple.
    row("apfs", FileSystem, &[b"NXSB"], &[Start(32)]),
    row(
        "hfs+",
        FileSystem,
        &[b"H+", b"HX"],
        &[Start(1024), End(1024)],
    )
    .when(check::hfs_plus),
    row("hfs", FileSystem, &[b"BD"], &[Start(1024), End(1024)]).when(check::hfs),
    // Optical media.
    row("iso9660", FileSystem, &[b"CD001"], &[Start(32769)]),
    row("High Sierra", FileSystem, &[b"CDROM"], &[Start(32777)]),
    row(
        "udf",
        FileSystem,
        &[b"NSR02", b"NSR03"],
        &[Every {
            first: 32769,
            step: 2048,
            count: 16,
        }],
    ),
    // Other journaling and log-structured ones.
    row(
        "jfs",
        FileSystem,
        &[b"JFS1"],
        &[Start(0x8000), Start(0xf000)],
    ),
    row(
        "reiserfs",
        FileSystem,
        &[b"ReIsErFs", b"ReIsEr2Fs", b"ReIsEr3Fs"],
        &[
            Start((64 << 10) + 52),
            Start((8 << 10) + 52),
            Start((8 << 10) + 20),
        ],
    ),
    row("reiser4", FileSystem, &[b"ReIsEr4"], &[Start(64 << 10)]),
    row(
        "nilfs2",
        FileSystem,
        &[b"\x34\x34"],
        &[Start(0x406), End(4096 - 6)],
    )
    .when(check::nilfs2),
    row(
        "vxfs",
        FileSystem,
        &[b"\xf5\xfc\x01\xa5", b"\xa5\x01\xfc\xf5"],
        &[Start(1024), Start(8192)],
    ),
    row("NetWare NSS", FileSystem, &[b"SPB5"], &[Start(4096)]),
    row("zonefs", FileSystem, &[b"SFOZ"], &[Start(0)]),
    row("exfs", FileSystem, &[b"EXFS"], &[Start(0)]),
    // Clusters.
    row(
        "gfs2",
        FileSystem,
        &[b"\x01\x16\x19\x70\x00\x00\x00\x01"],
        &[Start(64 << 10)],
    )
    .when(check::gfs2),
    row(
        "gfs",
        FileSystem,
        &[b"\x01\x16\x19\x70\x00\x00\x00\x01"],
        &[Start(64 << 10)],
    )
    .when(check::gfs1),
    row(
        "ocfs2",
        FileSystem,
        &[b"OCFSV2"],
        &[Start(1024), Start(2048), Start(4096), Start(8192)],
    ),
    row("ocfs", FileSystem, &[b"OracleCFS"], &[Start(8192)]),
    row(
        "VMFS",
        FileSystem,
        &[b"\x5e\xf1\xab\x2f"],
        &[Start(2 << 20)],
    ),
    row(
        "scoutfs",
        FileSystem,
        &[b"\x8b\x42\x3c\x10"],
        &[Start((64 << 10) + 4)],
    ),
    row("mpool", FileSystem, &[b"mpoolDev"], &[Start(0)]),
    // Read-only ones and those for flash.
    row("squashfs", FileSystem, &[b"hsqs", b"sqsh"], &[Start(0)]),
    row("erofs", FileSystem, &[b"\xe2\xe1\xf5\xe0"], &[Start(1024)]),
    row(
        "cramfs",
        FileSystem,
        &[b"\x45\x3d\xcd\x28", b"\x28\xcd\x3d\x45"],
        &[Start(0), Start(512)],
    ),
    row("romfs", FileSystem, &[b"-rom1fs-"], &[Start(0)]),
    row("ubifs", FileSystem, &[b"\x31\x18\x10\x06"], &[Start(0)]),
    row(
        "jffs2",
        FileSystem,
        &[b"\x85\x19", b"\x19\x85"],
        &[Start(0)],
    )
    .when(check::jffs2),
    // Unix and its kin. A ufs magic is in either byte order, 1372 bytes behind
    // the start of a superblock that has four places.
    row(
        "ufs",
        FileSystem,
        &[
            b"\x54\x19\x01\x00",
            b"\x00\x01\x19\x54",
            b"\x19\x01\x54\x19",
            b"\x19\x54\x01\x19",
            b"\x12\x56\x19\x00",
            b"\x00\x19\x56\x12",
            b"\x14\x50\x09\x00",
            b"\x00\x09\x50\x14",
            b"\x95\x21\x61\x00",
            b"\x00\x61\x21\x95",
            b"\x94\x19\x23\x05",
            b"\x05\x23\x19\x94",
        ],
        &[
            Start(1372),
            Start((8 << 10) + 1372),
            Start((64 << 10) + 1372),
            Start((256 << 10) + 1372),
        ],
    ),
    row(
        "minix",
        FileSystem,
        &[
            b"\x7f\x13",
            b"\x8f\x13",
            b"\x13\x7f",
            b"\x13\x8f",
            b"\x68\x24",
            b"\x78\x24",
            b"\x24\x68",
            b"\x24\x78",
        ],
        &[Start(1024 + 16)],
    )
    .when(check::minix),
    row(
        "minix",
        FileSystem,
        &[b"\x5a\x4d", b"\x4d\x5a"],
        &[Start(1024 + 24)],
    )
    .when(check::minix_3),
    row(
        "sysv",
        FileSystem,
        &[b"\x20\x7e\x18\xfd", b"\xfd\x18\x7e\x20"],
        &[
            Start(1016),
            Start((9 << 10) + 1016),
            Start((15 << 10) + 1016),
            Start((18 << 10) + 1016),
        ],
    ),
    row(
        "xenix",
        FileSystem,
        &[b"\x44\x55\x2b\x00", b"\x00\x2b\x55\x44"],
        &[Start(2040)],
    ),
    row("bfs", FileSystem, &[b"\xce\xfa\xad\x1b"], &[Start(0)]),
    row(
        "BeFS",
        FileSystem,
        &[b"BFS1", b"1SFB"],
        &[Start(32), Start(512 + 32)],
    ),
    row(
        "affs",
        FileSystem,
        &[
            b"DOS\x00", b"DOS\x01", b"DOS\x02", b"DOS\x03", b"DOS\x04", b"DOS\x05", b"DOS\x06",
            b"DOS\x07",
        ],
        &[Start(0)],
    ),
];
