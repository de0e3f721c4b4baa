//! The fuzz targets over a whole store: the input becomes a structure of it that
//! verifies, the checksums above it made right, and then the store is used.
//!
//! Each says whether the structure was accepted where it is read first. None may
//! panic, take memory without bound, or go on for ever.

use std::sync::OnceLock;

use gaur::format::log::{FLAG_SKIP, LogHeader, RecordHeader};
use gaur::format::space;
use gaur::format::superblock::Superblock;
use gaur::log::{Ops, record_check};
use gaur::{Durability, FormatOptions, OpenOptions, Store, WriteBatch, check_device};
use gaur_iodriver::sim::{SimDisk, SimOptions};

use super::common::forger::{BLOCK, Forger, set, word};
use super::common::visit;
use super::node_image::node_image;

/// A store small enough to be used some hundred times a second, on a disk that keeps
/// to what is written: two trees, the first of two levels, large values; closed.
pub(crate) fn base() -> &'static (SimDisk, Forger) {
    static BASE: OnceLock<(SimDisk, Forger)> = OnceLock::new();
    BASE.get_or_init(|| {
        let disk = SimDisk::new(SimOptions {
            capacity: 16 << 20,
            ..SimOptions::default()
        });
        let format = FormatOptions::default();
        Store::format_device(disk.device(), &format).unwrap();
        let options = OpenOptions {
            cache_bytes: 1 << 20,
            ..OpenOptions::default()
        };
        let store = Store::open_device(disk.device(), &options).unwrap();
        let large = store.tree("a").unwrap();
        for i in 0..40u8 {
            let key = [&[b'a' + i / 8; 90][..], &[i]].concat();
            let value = vec![i; if i % 9 == 0 { 9000 } else { 200 }];
            large.put_with(&key, &value, Durability::Buffered).unwrap();
        }
        let small = store.tree("b").unwrap();
        let mut batch = WriteBatch::new();
        for i in 0..8u8 {
            batch.put(&small, &[b'k', i], &[i; 9]);
        }
        store.commit(batch, Durability::Buffered).unwrap();
        drop((large, small));
        store.close().unwrap();
        let report = check_device(disk.device(), &Default::default()).unwrap();
        assert!(report.clean && report.trees[1].depth == 2);
        (disk, Forger::new(report.superblock))
    })
}

/// Uses the store on a disk; whether it could be opened for writing.
fn visit(disk: &SimDisk) -> bool {
    visit::look(disk);
    visit::work(disk)
}

/// Applies the patches of an input to a structure: offset (2 bytes), length (1), bytes.
fn patch(block: &mut [u8], mut patches: &[u8]) {
    while let [a, b, len, rest @ ..] = patches {
        let at = usize::from(u16::from_le_bytes([*a, *b])) % block.len();
        let len = usize::from(*len).min(rest.len()).min(block.len() - at);
        block[at..at + len].copy_from_slice(&rest[..len]);
        patches = &rest[len..];
    }
}

/// A superblock: the base store's, patched. The first byte of the input says which
/// copies get it (1: the first, 2: the second, otherwise both).
pub(crate) fn superblock(data: &[u8]) -> bool {
    let (disk, forger) = base();
    let Some((&which, patches)) = data.split_first() else {
        return false;
    };
    let mut bytes = vec![0; Superblock::SIZE];
    forger.sb.encode(&mut bytes);
    patch(&mut bytes, patches);
    let disk = disk.snapshot();
    let forged = Forger {
        sb: Superblock::decode(&bytes),
        ..*forger
    };
    if which & 3 != 2 {
        forged.superblock(&disk, 0);
    }
    if which & 3 != 1 {
        forged.superblock(&disk, 1);
    }
    visit(&disk)
}

/// A block of the space map or its index. The first byte of the input is its level
/// (0: map block), and whether counts are left as they are (bit 7); then come patches
/// to the base store's block.
pub(crate) fn space(data: &[u8]) -> bool {
    let (disk, forger) = base();
    let Some((&kind, patches)) = data.split_first() else {
        return false;
    };
    let level = u32::from(kind & 3);
    let disk = disk.snapshot();
    let mut block = forger.read(&disk, forger.map_place(&disk, level));
    patch(&mut block, patches);
    let mut free = None;
    if kind & 0x80 == 0 {
        let entries = || block[space::HEADER..].chunks_exact(space::IndexEntry::SIZE);
        free = Some(match level {
            0 => Forger::count(&mut block).into(),
            // One group: there is one entry.
            _ => space::IndexEntry::decode(entries().next().unwrap()).free,
        });
    }
    forger.map(&disk, level, &block, free);
    visit::look(&disk);
    let report = check_device(disk.device(), &Default::default());
    let sound = report.is_ok_and(|r| !r.problems.iter().any(|p| p.what.starts_with("map")));
    visit::work(&disk) && sound
}

/// A node (`node_image`), as the root of the base store's first tree. A child pointer to
/// a block below [`CHILDREN`], where no node can be, stands for one of that root's.
pub(crate) fn node(data: &[u8]) -> bool {
    let Some(mut image) = node_image(data) else {
        return false;
    };
    let (disk, forger) = base();
    let root = forger.root(disk);
    let there = forger.read(disk, root.addr);
    // Magic number; address, birth, tree, store.
    image[..4].copy_from_slice(&there[..4]);
    image[8..24].copy_from_slice(&there[8..24]);
    image[32..36].copy_from_slice(&there[32..36]);
    image[48..56].copy_from_slice(&there[48..56]);
    if image[4] > 0 {
        let children = children(&there);
        for at in child_places(&image) {
            let which = word(&image, at) & ((1 << 40) - 1);
            if which < CHILDREN {
                let child = &children[which as usize % children.len()];
                image[at..at + 24].copy_from_slice(child);
            }
        }
    }
    let disk = disk.snapshot();
    forger.node(&disk, &image);
    let report = check_device(disk.device(), &Default::default()).unwrap();
    let refused = report
        .problems
        .iter()
        .any(|p| p.what == "node" && p.place == root.addr);
    visit(&disk);
    !refused
}

/// Blocks that are never data.
pub(crate) const CHILDREN: u64 = 9;

/// Where the child pointers of an inner node are, as far as it is one.
fn child_places(node: &[u8]) -> Vec<usize> {
    let slots = usize::from(u16::from_le_bytes([node[6], node[7]])).min((node.len() - 64) / 8);
    (0..slots)
        .filter_map(|slot| {
            let at = (word(node, 64 + slot * 8) & 0xFFFF) as usize * 8;
            let head = node.get(at..at + 8)?;
            let key = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let value = at + 8 + key.next_multiple_of(8);
            (value + 24 <= node.len()).then_some(value)
        })
        .collect()
}

/// The child pointers of a sound inner node.
fn children(node: &[u8]) -> Vec<Vec<u8>> {
    let places = child_places(node).into_iter();
    places.map(|at| node[at..at + 24].to_vec()).collect()
}

/// The shortest input for an inner node of the base store.
pub(crate) fn inner_input(node: &[u8]) -> Vec<u8> {
    let mut image = node.to_vec();
    for (i, at) in child_places(node).into_iter().enumerate() {
        let len = word(node, at) & !((1 << 40) - 1);
        set(&mut image, at, len | (i as u64).min(CHILDREN - 1));
    }
    super::node_image::input(&image)
}

/// Log blocks behind the base store's checkpoint. Each begins with a byte of flags
/// (bit 0: a skip; bit 1: its records are left as they are, otherwise their numbers
/// and checks are made right; bit 2: a header field is set: offset (1 byte) and 8
/// bytes follow) and the length of the payload (2 bytes).
pub(crate) fn log(data: &[u8]) -> bool {
    let (disk, forger) = base();
    let mut rest = data;
    let mut next = forger.sb.cut + 1;
    let mut blocks = Vec::new();
    while let [flags, a, b, more @ ..] = rest {
        rest = more;
        let mut header = LogHeader {
            first_csn: next,
            incarnation: forger.sb.incarnation,
            durable_through: forger.sb.log_head,
            ..LogHeader::default()
        };
        let patch = (flags & 4 != 0).then(|| rest.split_at_checked(9)).flatten();
        rest = patch.map_or(rest, |p| p.1);
        let len = usize::from(u16::from_le_bytes([*a, *b])).min(rest.len());
        let (payload, more) = rest.split_at(len);
        rest = more;
        let mut payload = payload.to_vec();
        if flags & 1 != 0 {
            header.flags = FLAG_SKIP;
            payload.clear();
        }
        let records = records(&mut payload, &mut next, flags & 2 == 0);
        header.records = records;
        if let Some((patch, _)) = patch {
            let mut bytes = [0; LogHeader::SIZE];
            header.encode(&mut bytes);
            set(
                &mut bytes,
                usize::from(patch[0]) % 80 / 4 * 4,
                word(patch, 1),
            );
            header = LogHeader::decode(&bytes);
        }
        blocks.push((header, payload));
    }
    let disk = disk.snapshot();
    forger.log(&disk, &blocks);
    let report = check_device(disk.device(), &Default::default());
    let read = report.is_ok_and(|r| r.log.tail.is_some() && r.recovery.fails.is_none());
    visit(&disk) && read
}

/// Counts the records in a payload, and makes their numbers, checks and counts of
/// operations right.
fn records(payload: &mut [u8], next: &mut u64, fix: bool) -> u32 {
    let (mut at, mut count) = (0, 0);
    while let Some(head) = payload.get(at..at + RecordHeader::SIZE) {
        let mut record = RecordHeader::decode(head);
        let from = at + RecordHeader::SIZE;
        let to = from.saturating_add(record.bytes as usize);
        let Some(ops) = payload.get(from..to) else {
            break;
        };
        if fix {
            record.csn = *next;
            record.check = record_check(ops);
            record.ops = Ops::new(ops).count() as u32;
            record.encode(&mut payload[at..]);
        }
        *next = next.wrapping_add(1);
        count += 1;
        at = to;
    }
    count
}

/// Bytes in a block.
pub(crate) const BLOCK_SIZE: usize = BLOCK as usize;
