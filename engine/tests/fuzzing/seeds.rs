//! Inputs to begin with, made from real stores.

use gaur::format::log::{LogHeader, RecordHeader};
use gaur::log::LogWalk;
use gaur::{Durability, OpenOptions, Store, WriteBatch};

use super::common::forger::{Forger, set, word};
use super::node_image::input;
use super::targets::{BLOCK_SIZE, base, inner_input, log};

/// All seeds: target, name, input.
pub(crate) fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    superblocks(&mut all);
    spaces(&mut all);
    nodes(&mut all);
    logs(&mut all);
    all
}

type Seeds = Vec<(&'static str, String, Vec<u8>)>;

fn superblocks(all: &mut Seeds) {
    for which in 0..3u8 {
        all.push(("superblock", format!("seed-copies-{which}"), vec![which]));
    }
    // Fields set to what they are in every such store: block size, features, flags.
    for (field, bytes) in [
        (20u8, vec![0, 16, 0, 0]),
        (40, vec![0; 24]),
        (196, vec![2, 0, 0, 0]),
    ] {
        let mut patched = vec![0, field, 0, bytes.len() as u8];
        patched.extend_from_slice(&bytes);
        all.push(("superblock", format!("seed-field-{field}"), patched));
    }
}

/// Blocks as they are, and with a field set to what it is.
fn spaces(all: &mut Seeds) {
    for level in 0..=3u8 {
        all.push(("space", format!("seed-level-{level}"), vec![level]));
        // The level in the header; behind the end of the store, and untouched: no.
        let header = vec![level | 0x80, 40, 0, 4, level, 0, 0, 0];
        all.push(("space", format!("seed-level-{level}-header"), header));
        let entry = match level {
            0 => vec![0, 0xFC, 0x0F, 4, 0xFF, 0xFF, 0xFF, 0xFF],
            _ => vec![level, 64 + 28, 0, 4, 0, 0, 0, 0],
        };
        all.push(("space", format!("seed-level-{level}-entry"), entry));
    }
}

/// The base store's nodes: both roots, and the leaves of the first tree.
fn nodes(all: &mut Seeds) {
    let (disk, forger) = base();
    let root = forger.read(disk, forger.root(disk).addr);
    all.push(("node", "seed-inner".into(), inner_input(&root)));
    // A leaf that is a root has no fences, so that it may stand for the whole tree.
    let disk = disk.snapshot();
    let store = open(&disk);
    let tree = store.tree("0").unwrap();
    let put = |key: &[u8], value: &[u8]| {
        tree.put_with(key, value, Durability::Buffered).unwrap();
    };
    let save = |all: &mut Seeds, name: &str| {
        store.checkpoint().unwrap();
        let sb = gaur::check_device(disk.device(), &Default::default()).unwrap();
        let forger = Forger::new(sb.superblock);
        let mut leaf = forger.read(&disk, forger.root(&disk).addr);
        // To the base store it would be from the future.
        set(&mut leaf, 24, base().1.sb.cut);
        all.push(("node", format!("seed-{name}"), input(&leaf)));
    };
    put(b"k", b"v");
    save(all, "leaf-of-one");
    for i in 0..6u8 {
        put(&[b'k', i], &[i; 5]);
    }
    put(b"large", &[1; 9000]);
    save(all, "leaf");
    for i in 0..9u8 {
        put(&[&[b'p'; 40][..], &[i]].concat(), &[i; 60]);
    }
    save(all, "leaf-prefixes");
    for i in 0..5u8 {
        tree.delete_with(&[b'k', i], Durability::Buffered).unwrap();
        put(&[b'n', i], &vec![i; 500]);
    }
    save(all, "leaf-full");
}

fn open(disk: &gaur_iodriver::sim::SimDisk) -> Store {
    let options = OpenOptions {
        cache_bytes: 1 << 20,
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options).unwrap()
}

/// The log that a few commits of each kind leave.
fn logs(all: &mut Seeds) {
    let (disk, _) = base();
    let disk = disk.snapshot();
    let store = open(&disk);
    let tree = store.tree("b").unwrap();
    tree.put(b"key", b"value").unwrap();
    tree.put(b"large", &[3; 9000]).unwrap();
    tree.delete(b"key").unwrap();
    let made = store.create_tree("c").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&made, b"x", b"y");
    batch.put(&tree, b"z", &[7; 300]);
    batch.delete(&tree, b"k\x01");
    store.commit(batch, Durability::Sync).unwrap();
    let before = base().1.sb;
    drop((made, tree, store));
    let forger = Forger::new(before);
    let walk = LogWalk::new(disk.device(), forger.g, before.store_id).unwrap();
    let mut whole = Vec::new();
    let mut blocks: Vec<_> = walk
        .map(Result::unwrap)
        .filter(|f| f.verifies && f.header.position >= before.log_head)
        .collect();
    blocks.sort_by_key(|f| f.header.position);
    for (i, facts) in blocks.iter().enumerate() {
        let len = (facts.header.blocks as usize) * BLOCK_SIZE;
        let bytes = disk.peek(facts.place * BLOCK_SIZE as u64, len);
        let payload = &bytes[LogHeader::SIZE..][..facts.header.payload as usize];
        let mut one = vec![0];
        one.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        one.extend_from_slice(payload);
        whole.extend_from_slice(&one);
        if payload.len() <= RecordHeader::SIZE {
            continue;
        }
        assert!(word(payload, 0) > before.cut);
        // Some follow from those before them, and are nothing alone.
        let kind = if log(&one) { "seed" } else { "part" };
        all.push(("log", format!("{kind}-commit-{i}"), one));
    }
    all.push(("log", "seed-all".into(), whole.clone()));
    // A header field set to what it is (nothing known durable), and a skip behind it.
    let mut patched = vec![4, 0, 0, 48];
    patched.extend_from_slice(&[0; 8]);
    patched.extend_from_slice(&[1, 0, 0]);
    all.push(("log", "seed-header-and-skip".into(), patched));
}
