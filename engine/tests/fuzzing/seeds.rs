//! Inputs to begin with, made from real stores.

use gaur::format::log::{LogHeader, RecordHeader};
use gaur::format::superblock::Superblock;
use gaur::log::LogWalk;
use gaur::{Durability, OpenOptions, Store, WriteBatch};

use super::common::forger::{Forger, set, word};
use super::node_image::input;
use super::targets::{BLOCK_SIZE, base, log};

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
    let (_, forger) = base();
    let mut bytes = vec![0; Superblock::SIZE];
    forger.sb.encode(&mut bytes);
    for which in 0..3u8 {
        bytes[0] = which;
        all.push((
            "superblock",
            format!("seed-copies-{which}"),
            bytes[..208].to_vec(),
        ));
    }
}

/// Blocks as they are, and with one field written anew.
fn spaces(all: &mut Seeds) {
    let (disk, forger) = base();
    for level in 0..=3u8 {
        all.push(("space", format!("seed-level-{level}"), vec![level]));
        let block = forger.read(disk, forger.map_place(disk, level.into()));
        let mut patched = vec![level, 64, 0, 32];
        patched.extend_from_slice(&block[64..96]);
        all.push(("space", format!("seed-level-{level}-entry"), patched));
        let mut header = vec![level | 0x80, 32, 0, 16];
        header.extend_from_slice(&block[32..48]);
        all.push(("space", format!("seed-level-{level}-header"), header));
    }
}

/// The base store's nodes: both roots, and the leaves of the first tree.
fn nodes(all: &mut Seeds) {
    let (disk, forger) = base();
    let root = forger.read(disk, forger.root(disk).addr);
    all.push(("node", "seed-inner".into(), input(&root)));
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
    // A header field set to what it is, and a skip behind it.
    let mut patched = vec![4, 0, 0, 64];
    let incarnation = u64::from(before.incarnation);
    patched.extend_from_slice(&incarnation.to_le_bytes());
    patched.extend_from_slice(&[1, 0, 0]);
    all.push(("log", "seed-header-and-skip".into(), patched));
}
