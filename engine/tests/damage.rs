//! One flipped bit, anywhere that counts: found by `check`, found on read, named;
//! and what is beside it stays readable.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use gaur::format::geometry::INDEX_LEVELS;
use gaur::format::log::LogHeader;
use gaur::format::{ExtentPtr, Geometry, Run};
use gaur::log::LogWalk;
use gaur::{
    CheckReport, Durability, Error, FormatOptions, OpenOptions, Store, Tree, WriteBatch,
    check_device,
};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

use common::{adds_up, check, checked, disk, open, value};

type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

const NAMES: [&str; 3] = ["first", "second", "third"];
const BLOCK: u64 = 4096;

/// A store of several trees, some of several levels, with large values: sound, and
/// what it holds.
fn build(seed: u64, capacity: u64, closed: bool) -> (SimDisk, Model) {
    let mut r = rng::seeded(seed);
    let disk = disk(seed, capacity);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let mut model = Model::new();
    let store = open(&disk, 4 << 20);
    for (i, name) in NAMES.iter().enumerate() {
        let tree = store.tree(name).unwrap();
        let mine = model.entry((*name).to_owned()).or_default();
        for n in 0..[2500u32, 300, 5][i] {
            // Long keys make separators long, so that three levels come early.
            let k = [vec![b'k'; 300 * (1 - i.min(1))], n.to_be_bytes().to_vec()].concat();
            let v = if r.random_range(0..60) == 0 {
                vec![r.random(); r.random_range(5000..60_000)]
            } else {
                value(&mut r)
            };
            tree.put_with(&k, &v, Durability::Buffered).unwrap();
            mine.insert(k, v);
        }
    }
    store.checkpoint().unwrap();
    if closed {
        store.close().unwrap();
    } else {
        // A log to replay, large values in it.
        let tree = store.tree(NAMES[0]).unwrap();
        for n in 0..200u32 {
            let k = [b"late".to_vec(), n.to_be_bytes().to_vec()].concat();
            let v = vec![n as u8; if n % 50 == 0 { 20_000 } else { 700 }];
            tree.put(&k, &v).unwrap();
            model.get_mut(NAMES[0]).unwrap().insert(k, v);
        }
        drop((tree, store));
    }
    checked(&disk);
    (disk, model)
}

fn flip(disk: &SimDisk, block: u64, len: usize, r: &mut Rng) -> SimDisk {
    let copy = disk.snapshot();
    let at = block * BLOCK + r.random_range(0..len as u64);
    copy.flip_bit(at, r.random_range(0..8));
    copy
}

fn geometry(report: &CheckReport) -> Geometry {
    let sb = &report.superblock;
    Geometry {
        block_size: sb.block_size,
        capacity: sb.capacity,
        log_blocks: sb.log_blocks,
    }
}

fn read_only(disk: &SimDisk) -> gaur::Result<Store> {
    let options = OpenOptions {
        read_only: true,
        cache_bytes: 4 << 20,
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options)
}

/// Reads everything by key: what is damaged says so and names the tree and the
/// block; everything else is what it was. Returns how many keys could not be read.
fn read_all(store: &Store, model: &Model, block: u64, name: Option<&str>) -> usize {
    let mut unread = 0;
    for (tree_name, records) in model {
        let tree = store.open_tree(tree_name).unwrap();
        for (k, v) in records {
            match tree.get(k) {
                Ok(got) => assert_eq!(got.as_ref(), Some(v)),
                Err(Error::Damaged(d)) => {
                    assert_eq!(d.place, block, "{d}");
                    assert_eq!(name, Some(tree_name.as_str()), "{d}");
                    assert!(d.tree.is_some_and(|t| t > 0), "{d}");
                    unread += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
    unread
}

fn scan_fails(tree: &Tree, block: u64) -> bool {
    let found = tree.iter().unwrap().find_map(Result::err);
    match found {
        None => false,
        Some(Error::Damaged(d)) => {
            assert_eq!(d.place, block);
            true
        }
        Some(e) => panic!("{e}"),
    }
}

/// The blocks of the nodes of each tree, from the inspection of its levels: every
/// block the report counts as a node is found by looking at pointers.
fn nodes(disk: &SimDisk, report: &CheckReport) -> Vec<(u64, Option<String>)> {
    let mut found = Vec::new();
    let sb = &report.superblock;
    // The tree of trees.
    let mut roots = vec![];
    let mut todo = vec![(sb.catalog().addr, None::<String>)];
    while let Some((block, name)) = todo.pop() {
        found.push((block, name.clone()));
        let options = gaur::inspect::InspectOptions {
            node: Some(block),
            limit: usize::MAX,
            ..Default::default()
        };
        let seen = gaur::inspect::tree_device(disk.device(), &options).unwrap();
        for row in &seen.sections[0].rows {
            if row[2] == "child" {
                let words: Vec<&str> = row[3].split([' ', ',']).collect();
                todo.push((words[1].parse().unwrap(), name.clone()));
            }
        }
    }
    let all = gaur::inspect::tree_device(disk.device(), &Default::default()).unwrap();
    for row in all.sections[0].rows.iter().skip(1) {
        let words: Vec<&str> = row[2].split([' ', ',']).collect();
        if words[0] == "block" {
            roots.push((words[1].parse::<u64>().unwrap(), row[0].clone()));
        }
    }
    for (root, name) in roots {
        let mut todo = vec![root];
        while let Some(block) = todo.pop() {
            found.push((block, Some(name.clone())));
            let bytes = disk.peek(block * BLOCK, BLOCK as usize);
            if bytes[4] > 0 {
                todo.extend(children(&bytes));
            }
        }
    }
    assert_eq!(found.len() as u64, report.blocks.nodes);
    found
}

/// The children's blocks of an inner node, straight from its bytes.
fn children(bytes: &[u8]) -> Vec<u64> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let slots = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    (0..slots)
        .map(|i| {
            let at = (word(64 + i * 8) & 0xFFFF) as usize * 8;
            let key = (word(at) >> 16) as u16 as usize;
            word(at + 8 + key.next_multiple_of(8)) & ((1 << 40) - 1)
        })
        .collect()
}

/// The pieces of large values in a leaf, straight from its bytes.
fn pieces(bytes: &[u8]) -> Vec<ExtentPtr> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let slots = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let mut all = Vec::new();
    for i in 0..slots {
        let at = (word(64 + i * 8) & 0xFFFF) as usize * 8;
        if word(at) as u8 == 2 {
            let key = (word(at) >> 16) as u16 as usize;
            let from = at + 8 + key.next_multiple_of(8);
            let len = (word(at) >> 32) as usize;
            all.extend(
                bytes[from..from + len]
                    .chunks(32)
                    .filter_map(ExtentPtr::decode),
            );
        }
    }
    all
}

/// Problems at this block; all of them.
fn at(report: &CheckReport, block: u64) -> Vec<&gaur::check::Problem> {
    report
        .problems
        .iter()
        .filter(|p| p.place == block)
        .collect()
}

#[test]
fn every_node_is_found_by_check_and_on_read() {
    let mut r = rng::seeded(1);
    let (disk, model) = build(1, 96 << 20, true);
    let sound = checked(&disk);
    assert!(
        sound.trees.iter().any(|t| t.depth >= 3),
        "{:?}",
        sound.trees
    );
    let all = nodes(&disk, &sound);
    let mut unread = 0;
    for (i, (block, name)) in all.iter().enumerate() {
        for _ in 0..2 {
            let bad = flip(&disk, *block, BLOCK as usize, &mut r);
            let report = check(&bad);
            adds_up(&report);
            let problems = at(&report, *block);
            assert!(!report.clean && problems.len() == 1, "node {block}");
            let (id, found) = problems[0].tree.clone().unwrap();
            match name {
                Some(name) => assert_eq!(&found, name),
                None => assert_eq!(id, 0),
            }
            // What is beside it is still walked.
            let others = report.trees.iter().zip(&sound.trees).skip(1);
            for (t, s) in others.filter(|(t, _)| Some(&t.name) != name.as_ref()) {
                assert_eq!(t.records, s.records);
            }
        }
        // Reading all keys takes long: a sample, and all that are not leaves.
        let inner = disk.peek(block * BLOCK, 8)[4] > 0;
        if i % 23 != 0 && !inner && name.is_some() {
            continue;
        }
        let bad = flip(&disk, *block, BLOCK as usize, &mut r);
        let Some(name) = name else {
            let e = read_only(&bad).unwrap_err();
            assert!(matches!(&e, Error::Damaged(d) if d.place == *block && d.tree == Some(0)));
            continue;
        };
        let store = read_only(&bad).unwrap();
        let n = read_all(&store, &model, *block, Some(name));
        let here = &model[name];
        assert!(n > 0 || here.is_empty(), "node {block} was not missed");
        unread += n;
        assert!(scan_fails(&store.open_tree(name).unwrap(), *block));
        for other in model.keys().filter(|k| *k != name) {
            assert!(!scan_fails(&store.open_tree(other).unwrap(), *block));
        }
    }
    println!("{} nodes, two bits each; {unread} reads refused", all.len());
}

#[test]
fn every_extent_is_found_by_check_and_on_read() {
    let mut r = rng::seeded(2);
    let (disk, model) = build(2, 96 << 20, true);
    let sound = checked(&disk);
    let mut count = 0;
    for (block, name) in nodes(&disk, &sound) {
        let bytes = disk.peek(block * BLOCK, BLOCK as usize);
        let Some(name) = name.filter(|_| bytes[4] == 0) else {
            continue;
        };
        for piece in pieces(&bytes) {
            count += 1;
            let bad = flip(&disk, piece.addr, piece.bytes as usize, &mut r);
            let report = check(&bad);
            let problems = at(&report, piece.addr);
            assert_eq!((problems.len(), report.problem_count()), (1, 1));
            assert_eq!(problems[0].what, "large value");
            assert_eq!(problems[0].tree.as_ref().unwrap().1, name);
            adds_up(&report);
            // The account alone does not read values.
            let quick = gaur::CheckOptions {
                values: false,
                ..Default::default()
            };
            assert!(check_device(bad.device(), &quick).unwrap().clean);
            if count % 12 == 0 {
                let store = read_only(&bad).unwrap();
                assert_eq!(read_all(&store, &model, piece.addr, Some(&name)), 1);
                assert!(scan_fails(&store.open_tree(&name).unwrap(), piece.addr));
            }
        }
    }
    println!("{count} extents");
    assert!(count > 20);
}

#[test]
fn either_superblock_copy_alone_loses_nothing() {
    let mut r = rng::seeded(3);
    for closed in [true, false] {
        let (disk, model) = build(3, 96 << 20, closed);
        let g = geometry(&checked(&disk));
        for copy in 0..2 {
            for round in 0..8 {
                let place = g.superblock(copy);
                // Anywhere in the block: what no field covers is zero, and checked.
                let bad = match round {
                    0 => {
                        let bad = disk.snapshot();
                        bad.corrupt(place * BLOCK, BLOCK);
                        bad
                    }
                    _ => flip(&disk, place, if round < 5 { 256 } else { 4096 }, &mut r),
                };
                let report = check(&bad);
                assert!(!report.clean);
                assert_eq!((at(&report, place).len(), report.problem_count()), (1, 1));
                assert_eq!(report.problems[0].what, "superblock");

                let seen = read_only(&bad).unwrap();
                assert_eq!(seen.recovery().superblocks_behind.len(), 1);
                assert_eq!(read_all(&seen, &model, 0, None), 0);
                drop(seen);
                assert!(!check(&bad).clean, "reading does not repair");

                let store = open(&bad, 4 << 20);
                assert_eq!(store.recovery().superblocks_behind[0].0, copy);
                assert_eq!(read_all(&store, &model, 0, None), 0);
                drop(store);
                checked(&bad);
                // Completed: now the other may go.
                bad.corrupt(g.superblock(1 - copy) * BLOCK, BLOCK);
                let store = open(&bad, 4 << 20);
                assert_eq!(read_all(&store, &model, 0, None), 0);
                store.close().unwrap();
                checked(&bad);
            }
        }
        let gone = disk.snapshot();
        gone.corrupt(g.superblock(0) * BLOCK, BLOCK);
        gone.corrupt(g.superblock(1) * BLOCK, BLOCK);
        assert!(read_only(&gone).is_err());
        assert!(check_device(gone.device(), &Default::default()).is_err());
    }
}

/// Places of the map: what is current, by what it is called in a problem.
fn map_places(disk: &SimDisk, g: &Geometry) -> Vec<(&'static str, u64)> {
    let options = gaur::inspect::InspectOptions::default();
    let seen = gaur::inspect::map_device(disk.device(), &options).unwrap();
    let mut places = Vec::new();
    for (section, what) in [(1, "map index"), (2, "map block")] {
        for row in &seen.sections[section].rows {
            let (level, number) = (row[0].parse().unwrap(), row[1].parse().unwrap());
            let slot: u32 = row[3].parse().unwrap();
            let place = match what {
                "map block" => g.map_block(number, slot),
                _ => g.index_block(level, number, slot),
            };
            assert_eq!(row[2], place.to_string());
            places.push((what, place));
        }
    }
    places
}

#[test]
fn a_damaged_map_is_found_and_rebuilt() {
    let mut r = rng::seeded(4);
    // One group, and several.
    let (mut flips, mut groups) = (0, 0);
    for (capacity, closed) in [(96, true), (96, false), (400, true), (400, false)] {
        let (disk, model) = build(4, capacity << 20, closed);
        let sound = checked(&disk);
        let g = geometry(&sound);
        let places = map_places(&disk, &g);
        assert!(places.len() > INDEX_LEVELS as usize);
        for (what, place) in places {
            for _ in 0..if g.groups() > 1 { 1 } else { 3 } {
                let bad = flip(&disk, place, BLOCK as usize, &mut r);
                let report = check(&bad);
                assert_eq!((at(&report, place).len(), report.problem_count()), (1, 1));
                assert_eq!(report.problems[0].what, what);
                assert!(report.blocks.unknown > 0 && report.blocks.unaccounted == 0);
                adds_up(&report);

                // Everything is there, to read and to write, and then it is whole.
                let store = open(&bad, 4 << 20);
                assert_eq!(read_all(&store, &model, 0, None), 0);
                let tree = store.tree("first").unwrap();
                let mut batch = WriteBatch::new();
                for n in 0..400u32 {
                    batch.put(&tree, &n.to_le_bytes(), &[1; 500]);
                }
                store.commit(batch, Durability::Sync).unwrap();
                tree.put(b"large", &vec![9; 300_000]).unwrap();
                // The map is read where it is needed: a value too large for the other
                // groups does it.
                if g.groups() > 1 {
                    tree.put(b"filler", &vec![7; 300 << 20]).unwrap();
                }
                // What a checkpoint meets is rebuilt before the next one.
                store.checkpoint().unwrap();
                store.checkpoint().unwrap();
                store.checkpoint().unwrap();
                let rebuilt = store.stats().get("allocator", "groups_rebuilt").unwrap();
                assert!(rebuilt >= 1, "{what} {place}");
                flips += 1;
                groups += rebuilt;
                assert!(store.notes().iter().any(|n| n.contains("rebuilt")));
                assert_eq!(store.stats().get("waits", "under_latch"), Some(0));
                assert_eq!(read_all(&store, &model, 0, None), 0);
                drop(tree);
                store.close().unwrap();
                let after = checked(&bad);
                assert_eq!(after.blocks.unknown, 0);
            }
        }
    }
    println!("{flips} bits in the map, {groups} groups rebuilt");
}

#[test]
fn a_map_beside_a_damaged_tree_is_not_guessed() {
    let (disk, model) = build(5, 400 << 20, true);
    let sound = checked(&disk);
    let g = geometry(&sound);
    let leaf = nodes(&disk, &sound)
        .into_iter()
        .find(|(b, n)| n.as_deref() == Some("second") && disk.peek(b * BLOCK, 8)[4] == 0)
        .unwrap()
        .0;
    disk.flip_bit(leaf * BLOCK + 99, 1);
    let group = g.group_of(leaf);
    for slot in 0..2 {
        disk.flip_bit(g.map_block(group, slot) * BLOCK + 200, 3);
    }
    let report = check(&disk);
    assert_eq!(report.problem_count(), 2);
    let store = open(&disk, 4 << 20);
    let n = read_all(&store, &model, leaf, Some("second"));
    assert!(n > 0);
    // The rest of the store has room, and is used.
    let tree = store.tree("first").unwrap();
    for n in 0..200u32 {
        tree.put_with(&n.to_le_bytes(), &[1; 300], Durability::Buffered)
            .unwrap();
    }
    // The map is mended behind a checkpoint; the second begins after that.
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    assert!(
        store
            .notes()
            .iter()
            .any(|n| n.contains("cannot be rebuilt")),
        "{:?}",
        store.notes()
    );
    assert_eq!(store.stats().get("allocator", "groups_rebuilt"), Some(0));
    drop(tree);
    store.close().unwrap();
    let report = check(&disk);
    let places: BTreeSet<u64> = report.problems.iter().map(|p| p.place).collect();
    assert!(places.contains(&leaf));
    assert_eq!(report.blocks.doubly_used, 0);
}

/// The log blocks that recovery reads: place, header.
fn log_blocks(disk: &SimDisk, report: &CheckReport) -> Vec<(u64, LogHeader)> {
    let sb = &report.superblock;
    let walk = LogWalk::new(disk.device(), geometry(report), sb.store_id).unwrap();
    let tail = report.log.tail.unwrap();
    let mut all: Vec<_> = walk
        .map(Result::unwrap)
        .filter(|f| f.verifies && (sb.log_head..tail.position).contains(&f.header.position))
        .map(|f| (f.place, f.header))
        .collect();
    all.sort_by_key(|f| f.1.position);
    all
}

#[test]
fn every_log_block_declared_durable_is_found() {
    let mut r = rng::seeded(6);
    let (disk, model) = build(6, 96 << 20, false);
    let sound = checked(&disk);
    let blocks = log_blocks(&disk, &sound);
    assert!(blocks.len() > 50, "{}", blocks.len());
    let (mut declared, mut ends) = (0, 0);
    for (i, (place, header)) in blocks.iter().enumerate() {
        let behind = blocks[i + 1..].iter();
        let through = behind.map(|b| b.1.durable_through).max().unwrap_or(0);
        let known = through.max(sound.superblock.log_durable) > header.position;
        let payload = LogHeader::SIZE + header.payload as usize;
        for len in [
            LogHeader::SIZE,
            payload,
            header.blocks as usize * BLOCK as usize,
        ] {
            let bad = flip(&disk, *place, len, &mut r);
            let report = check(&bad);
            if known {
                declared += 1;
                assert_eq!(at(&report, *place).len(), 1, "log block {i} at {place}");
                assert_eq!(report.problems[0].what, "log block");
                match read_only(&bad) {
                    Err(Error::Damaged(d)) => assert_eq!(d.place, *place),
                    other => panic!("{other:?}"),
                }
            } else {
                // The last ones: nothing says they were durable; a prefix is left.
                ends += 1;
                let store = read_only(&bad).unwrap();
                assert!(store.recovery().last_csn < sound.log.last_csn);
            }
        }
    }
    println!("{declared} flips in declared log blocks, {ends} behind");
    assert!(declared > 100 && model.len() == 3);
}

#[test]
fn extents_named_by_the_log_are_checked() {
    let mut r = rng::seeded(7);
    let (disk, _) = build(7, 96 << 20, false);
    let sound = checked(&disk);
    assert!(sound.blocks.named_by_log > 0);
    for run in sound.log.extents.clone() {
        let Run { start, len } = run;
        let bad = flip(&disk, start, (len as usize - 1) * BLOCK as usize, &mut r);
        let report = check(&bad);
        assert_eq!((at(&report, start).len(), report.problem_count()), (1, 1));
    }
}
