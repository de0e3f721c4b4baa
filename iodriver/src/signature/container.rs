//! What other storage is made of: RAID, volume managers, encryption, swap, disk
//! images.

use super::Kind::{Encrypted, Image, Part, Raid, Swap, Volume};
use super::check;
use super::table::{At, Entry, row};

use At::{End, EndOf, Every, Start};

/// Ends of the first page, for all page sizes: 4 to 64 KiB.
const PAGE_ENDS: &[At] = &[
    Start(0x1000 - 10),
    Start(0x2000 - 10),
    Start(0x4000 - 10),
    Start(0x8000 - 10),
    Start(0x10000 - 10),
];

/// Linux RAID, in both byte orders.
const MD: &[&[u8]] = &[b"\xfc\x4e\x2b\xa9", b"\xa9\x2b\x4e\xfc"];

pub(super) const TABLE: &[Entry] = &[
    // Linux RAID. The version says where the superblock is.
    row(
        "Linux 0.90",
        Raid,
        MD,
        &[EndOf {
            unit: 65536,
            back: 65536,
        }],
    )
    .when(check::md_0),
    row(
        "Linux 1.0",
        Raid,
        MD,
        &[EndOf {
            unit: 4096,
            back: 8192,
        }],
    )
    .when(check::md_1),
    row("Linux 1.1", Raid, MD, &[Start(0)]).when(check::md_1),
    row("Linux 1.2", Raid, MD, &[Start(4096)]).when(check::md_1),
    // RAID of controllers and their firmware, in the last sectors.
    row(
        "DDF",
        Raid,
        &[b"\xde\x11\xde\x11"],
        &[End(512), End(257 * 512)],
    )
    .when(check::ddf),
    row(
        "Intel",
        Raid,
        &[b"Intel Raid ISM Cfg Sig. "],
        &[End(1024), End(8192)],
    ),
    row("NVIDIA", Raid, &[b"NVIDIA  "], &[End(1024)]),
    row(
        "Promise",
        Raid,
        &[b"Promise Technology, Inc."],
        &[
            End(16 * 512),
            End(63 * 512),
            End(255 * 512),
            End(256 * 512),
            End(399 * 512),
            End(591 * 512),
            End(675 * 512),
            End(735 * 512),
            End(911 * 512),
            End(951 * 512),
            End(974 * 512),
            End(991 * 512),
            End(3087 * 512),
        ],
    ),
    row(
        "Silicon Image",
        Raid,
        &[b"\x00\x00\x00\x2f"],
        &[End(512 - 0x60)],
    )
    .when(check::silicon_image),
    row("VIA", Raid, &[b"\x55\xaa"], &[End(512)]).when(check::via),
    row("Adaptec", Raid, &[b"\x37\xfc\x4d\x1e"], &[End(512)]).when(check::adaptec),
    row("JMicron", Raid, &[b"JM"], &[End(512)]).when(check::jmicron),
    row("LSI", Raid, &[b"$XIDE$"], &[End(512)]),
    row(
        "HighPoint 45x",
        Raid,
        &[b"\xf3\x16\x78\x5a", b"\xfd\x16\x78\x5a"],
        &[End(11 * 512)],
    ),
    row(
        "HighPoint 37x",
        Raid,
        &[b"\xf0\x16\x78\x5a", b"\xfd\x16\x78\x5a"],
        &[Start(9 * 512 + 32)],
    ),
    row(
        "DRBD",
        Raid,
        &[
            b"\x83\x74\x02\x6b",
            b"\x83\x74\x02\x6c",
            b"\x83\x74\x02\x6d",
        ],
        &[EndOf {
            unit: 4096,
            back: 4096 - 60,
        }],
    ),
    row("DRBD management", Volume, &[b"$DRBDmgr=q"], &[Start(0)]),
    row("DRBD proxy log", Part, &[b"DRBDdlh*"], &[Start(0)]),
    // Volume managers, caches, clusters.
    row(
        "LVM2",
        Volume,
        &[b"LVM2 001"],
        &[Start(0x18), Start(0x218), Start(0x418), Start(0x618)],
    )
    .when(check::lvm2),
    row("LVM1", Volume, &[b"HM"], &[Start(0)]).when(check::lvm1),
    row("device mapper snapshot", Volume, &[b"SnAp"], &[Start(0)]),
    row(
        "device mapper thin pool",
        Volume,
        &[b"\xba\x52\x9c\x01\x00\x00\x00\x00"],
        &[Start(32)],
    ),
    row(
        "device mapper write cache",
        Volume,
        &[b"\x21\x93\x48\x23"],
        &[Start(0)],
    ),
    row("VDO", Volume, &[b"dmvdo001"], &[Start(0)]),
    row(
        "Stratis",
        Volume,
        &[b"!Stra0tis\x86\xff\x02^\x41rh"],
        &[Start(512 + 4), Start(9 * 512 + 4)],
    ),
    row(
        "bcache",
        Volume,
        &[b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"],
        &[Start(0x1018)],
    ),
    row(
        "Ceph BlueStore",
        Volume,
        &[b"bluestore block device"],
        &[Start(0)],
    ),
    row("Oracle ASM", Volume, &[b"ORCLDISK"], &[Start(32)]),
    row("VMFS", Volume, &[b"\x0d\xd0\x01\xc0"], &[Start(1 << 20)]),
    row("UBI", Volume, &[b"UBI#"], &[Start(0)]),
    // Encryption and integrity.
    row("LUKS", Encrypted, &[b"LUKS\xba\xbe"], &[Start(0)]),
    row(
        "LUKS (second header)",
        Encrypted,
        &[b"SKUL\xba\xbe"],
        &[
            Start(0x4000),
            Start(0x8000),
            Start(0x10000),
            Start(0x20000),
            Start(0x40000),
            Start(0x80000),
            Start(0x10_0000),
            Start(0x20_0000),
            Start(0x40_0000),
        ],
    ),
    row("BitLocker", Encrypted, &[b"-FVE-FS-"], &[Start(3)]),
    row(
        "BitLocker To Go",
        Encrypted,
        &[b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"],
        &[Start(424)],
    ),
    row("FileVault", Encrypted, &[b"CS"], &[Start(88)]).when(check::file_vault),
    row("dm-verity", Part, &[b"verity\x00\x00"], &[Start(0)]),
    row("dm-integrity", Volume, &[b"integrt\x00"], &[Start(0)]),
    // Swap, and the memory of a machine that sleeps.
    row("Linux", Swap, &[b"SWAPSPACE2", b"SWAP-SPACE"], PAGE_ENDS),
    row(
        "suspended Linux",
        Swap,
        &[b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"],
        PAGE_ENDS,
    ),
    row(
        "TuxOnIce",
        Swap,
        &[b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"],
        &[Start(0)],
    ),
    // Journals of file systems that lie elsewhere.
    row("ext journal", Part, &[b"\x53\xef"], &[Start(0x438)]).when(check::ext_journal),
    row(
        "xfs log",
        Part,
        &[b"\xfe\xed\xba\xbe"],
        &[Every {
            first: 0,
            step: 512,
            count: 512,
        }],
    )
    .when(check::xfs_log),
    // Files that are disks.
    row("qcow", Image, &[b"QFI\xfb"], &[Start(0)]),
    row(
        "VMDK",
        Image,
        &[b"KDMV\x01\x00", b"KDMV\x02\x00", b"KDMV\x03\x00"],
        &[Start(0)],
    ),
    row("VHDX", Image, &[b"vhdxfile"], &[Start(0)]),
    row("VHD", Image, &[b"conectix"], &[Start(0), End(512)]),
    row("VDI", Image, &[b"\x7f\x10\xda\xbe"], &[Start(64)]),
];
