//! Partition tables.

use super::Kind::PartitionTable;
use super::check;
use super::table::{At, Entry, row};

use At::{End, Every, Start};

pub(super) const TABLE: &[Entry] = &[
    // In the second logical block, and a copy in the last one. The blocks may be
    // other than this device's: of a disk image, or of another USB bridge.
    row(
        "GPT",
        PartitionTable,
        &[b"EFI PART"],
        &[
            Start(512),
            Start(1024),
            Start(2048),
            Start(4096),
            End(512),
            End(1024),
            End(2048),
            End(4096),
        ],
    ),
    row(
        "protective MBR",
        PartitionTable,
        &[b"\x55\xaa"],
        &[Start(510)],
    )
    .when(check::protective_mbr),
    // The same two bytes end the boot sector of FAT and its kin.
    row("MBR", PartitionTable, &[b"\x55\xaa"], &[Start(510)]).when(check::mbr),
    row(
        "BSD",
        PartitionTable,
        &[b"\x57\x45\x56\x82", b"\x82\x56\x45\x57"],
        &[Start(512), Start(64), Start(128), Start(0)],
    ),
    row("Sun", PartitionTable, &[b"\xda\xbe"], &[Start(508)]).when(check::sun),
    row("SGI", PartitionTable, &[b"\x0b\xe5\xa9\x41"], &[Start(0)]),
    row("Apple", PartitionTable, &[b"ER"], &[Start(0)]).when(check::apple),
    // Its map alone: each entry tells how many there are.
    row(
        "Apple",
        PartitionTable,
        &[b"PM\x00\x00\x00\x00"],
        &[Start(512), Start(2048), Start(4096)],
    ),
    row(
        "Amiga",
        PartitionTable,
        &[b"RDSK"],
        &[Every {
            first: 0,
            step: 512,
            count: 16,
        }],
    ),
    row(
        "Atari",
        PartitionTable,
        &[b"GEM", b"BGM", b"XGM", b"LNX", b"SWP", b"RAW"],
        &[Every {
            first: 0x1c7,
            step: 12,
            count: 4,
        }],
    )
    .when(check::atari),
    row("AIX", PartitionTable, &[b"\xc9\xc2\xd4\xc1"], &[Start(0)]),
    row(
        "Ultrix",
        PartitionTable,
        &[b"\x57\x29\x03\x00"],
        &[Start(16312)],
    )
    .when(check::ultrix),
    row(
        "Solaris x86",
        PartitionTable,
        &[b"\xee\xde\x0d\x60"],
        &[Start(524)],
    ),
    row(
        "UnixWare",
        PartitionTable,
        &[b"\x0d\x60\xe5\xca"],
        &[Start(29 * 512 + 4)],
    ),
    // In EBCDIC: VOL1 with a key before it, LNX1 and CMS1 without.
    row(
        "DASD",
        PartitionTable,
        &[b"\xe5\xd6\xd3\xf1"],
        &[Start(1028), Start(2052), Start(4100), Start(8196)],
    ),
    row(
        "DASD",
        PartitionTable,
        &[b"\xd3\xd5\xe7\xf1", b"\xc3\xd4\xe2\xf1"],
        &[Start(1024), Start(2048), Start(4096), Start(8192)],
    ),
    row(
        "Windows dynamic disk",
        PartitionTable,
        &[b"PRIVHEAD"],
        &[Start(6 * 512)],
    ),
];
