//! Golden bytes: structures with fixed values, as version 1 puts them on the device.
//! If one of these differs, stores that exist can no longer be read: raise
//! `FORMAT_VERSION`, or undo it.

use super::log::{self, LogHeader, OpHeader, RecordHeader};
use super::node::KIND_VALUE;
use super::space::{self, IndexEntry, SpaceHeader};
use super::superblock::Superblock;
use super::{BlockPtr, ExtentPtr, Generation, checksum};
use crate::node::{Bounds, NodeBuf, store_image};

/// Runs of bytes that are not zero, as `offset:hex`, runs of zeros left out.
fn dump(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    for (i, word) in bytes.chunks(8).enumerate() {
        if word.iter().any(|&b| b != 0) {
            let hex: String = word.iter().map(|b| format!("{b:02x}")).collect();
            out.push(format!("{}:{hex}", i * 8));
        }
    }
    out.join(" ")
}

fn superblock() -> Vec<u8> {
    let sb = Superblock {
        version: 1,
        block_size: 4096,
        store_id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        incarnation: 3,
        capacity: 20_000,
        log_blocks: 1024,
        generation: Generation::first(3).0,
        cut: 42,
        next_tree: 5,
        catalog_level: 1,
        map_slot: 1,
        map_generation: 9,
        map_checksum: 10,
        map_free: 11,
        log_head: 12,
        log_chain: 13,
        log_durable: 14,
        durable_method: 2,
        flags: 2,
        created: 15,
        ..Superblock::default()
    };
    let mut block = vec![0; 4096];
    sb.seal(1, 256, &mut block);
    block
}

fn leaf() -> Vec<u8> {
    let node = NodeBuf::new(512);
    let page = node.page();
    let bounds = Bounds {
        lower: b"apple".to_vec(),
        upper: Some(b"apricot".to_vec()),
    };
    page.init(0, 7, 99, 41, &bounds);
    page.insert(0, b"apple", KIND_VALUE, b"red");
    page.insert(1, b"application", KIND_VALUE, b"nine bytes");
    page.set_identity(300, Generation::first(3));
    let mut block = vec![0; 4096];
    let sum = store_image(page, &mut block);
    assert_eq!(sum, checksum::block(&block, 300, Generation::first(3).0));
    block
}

fn log_block() -> Vec<u8> {
    let mut block = vec![0; 4096];
    let op = OpHeader {
        kind: log::OP_PUT,
        key_len: 1,
        tree: 1,
        value_len: 2,
    };
    let mut ops = vec![0; OpHeader::SIZE];
    op.encode(&mut ops);
    ops.extend_from_slice(b"kvv");
    let record = RecordHeader {
        csn: 43,
        bytes: ops.len() as u32,
        ops: 1,
        check: checksum::plain(&ops) as u32,
    };
    let header = LogHeader {
        magic: log::MAGIC,
        store_id: 7,
        position: 12,
        previous: 13,
        durable_through: 11,
        first_csn: 43,
        incarnation: 3,
        blocks: 1,
        payload: (RecordHeader::SIZE + ops.len()) as u32,
        records: 1,
        ..LogHeader::default()
    };
    header.encode(&mut block);
    record.encode(&mut block[LogHeader::SIZE..]);
    block[LogHeader::SIZE + RecordHeader::SIZE..][..ops.len()].copy_from_slice(&ops);
    let sum = checksum::block(&block[16..], 500, 12);
    block[8..16].copy_from_slice(&sum.to_le_bytes());
    block
}

fn index_block() -> Vec<u8> {
    let mut block = vec![0; 4096];
    let entry = IndexEntry {
        generation: 5,
        checksum: 6,
        free: 7,
        slot: 1,
        untouched: 0,
    };
    entry.encode(&mut block[space::HEADER..]);
    let header = SpaceHeader {
        magic: space::INDEX_MAGIC,
        place: 3,
        generation: 5,
        store_id: 99,
        number: 0,
        level: 1,
        count: 1,
    };
    space::seal(&header, &mut block);
    block
}

fn pointers() -> Vec<u8> {
    let ptr = BlockPtr {
        addr: 0x01_0203_0405,
        flags: 0,
        len: 1,
        birth: Generation::first(2),
        checksum: 0x1122_3344_5566_7788,
    };
    let mut out: Vec<u8> = ptr
        .to_words()
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    let extent = ExtentPtr {
        addr: 77,
        flags: 0,
        birth: Generation::first(2),
        checksum: 8,
        bytes: 100_000,
    };
    out.extend_from_slice(&extent.encode());
    out
}

fn golden() -> String {
    [
        ("superblock", superblock()),
        ("leaf", leaf()),
        ("log block", log_block()),
        ("index block", index_block()),
        ("pointers", pointers()),
    ]
    .iter()
    .map(|(name, bytes)| {
        let sum = checksum::block(bytes, 1, 2);
        format!("{name}\n{}\nchecksum {sum:016x}\n", dump(bytes))
    })
    .collect()
}

#[test]
fn the_bytes_are_those_of_version_1() {
    assert_eq!(golden(), include_str!("golden.txt"), "{}", golden());
}
