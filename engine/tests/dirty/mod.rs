//! A store that was not closed, read without writing: what recovery would leave is
//! seen with the smallest cache, and what damage does to that is told.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use gaur::inspect::{InspectOptions, superblock_device, tree_device};
use gaur::log::LogWalk;
use gaur::{
    CheckOptions, Durability, Error, FormatOptions, LeftOut, OpenOptions, Store, WriteBatch,
    check_device,
};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng;
use rand::RngExt;

use super::common::{check, checked, disk, key, open, value};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
type Model = BTreeMap<String, Records>;

const BLOCK: u64 = 4096;

fn options(salvage: bool) -> OpenOptions {
    OpenOptions {
        read_only: true,
        cache_bytes: 1 << 20,
        salvage,
        ..OpenOptions::default()
    }
}

fn look(disk: &SimDisk) -> gaur::Result<Store> {
    Store::open_device(disk.device(), &options(false))
}

/// A store with a checkpoint and a long log behind it: changes of all kinds, over
/// far more nodes than the smallest cache holds, and a tree that only the log has.
fn build(seed: u64) -> (SimDisk, Model) {
    let mut r = rng::seeded(seed);
    let disk = disk(seed, 192 << 20);
    // Twice what the log may need if each commit is a log block of its own, so that
    // nothing asks for a checkpoint.
    let format = FormatOptions {
        log_size: Some(64 << 20),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &format).unwrap();
    let quiet = OpenOptions {
        cache_bytes: 32 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &quiet).unwrap();
    let mut model = Model::new();
    let big = store.tree("big").unwrap();
    let mut batch = WriteBatch::new();
    let mine = model.entry("big".into()).or_default();
    for n in 0..12_000u32 {
        let (k, v) = (format!("{n:08}").into_bytes(), vec![n as u8; 300]);
        batch.put(&big, &k, &v);
        mine.insert(k, v);
        if n % 500 == 499 {
            store
                .commit(std::mem::take(&mut batch), Durability::Buffered)
                .unwrap();
        }
    }
    store.tree("untouched").unwrap().put(b"k", b"v").unwrap();
    store.tree("empty").unwrap();
    drop(big);
    store.close().unwrap();
    // Opened again after a close, nothing asks for a checkpoint.
    let store = Store::open_device(disk.device(), &quiet).unwrap();
    let big = store.open_tree("big").unwrap();
    let late = store.tree("late").unwrap();
    for i in 0..3000 {
        // Several log blocks, of which the later ones say that the earlier are durable.
        if i % 500 == 0 {
            store.flush().unwrap();
        }
        let n = r.random_range(0..14_000u32);
        let k = format!("{n:08}").into_bytes();
        if r.random_bool(0.4) {
            big.delete_with(&k, Durability::Buffered).unwrap();
            mine.remove(&k);
        } else {
            let v = value(&mut r);
            big.put_with(&k, &v, Durability::Buffered).unwrap();
            mine.insert(k, v);
        }
    }
    let mine = model.entry("late".into()).or_default();
    for _ in 0..2000 {
        let (k, v) = (key(&mut r, 5000), value(&mut r));
        late.put_with(&k, &v, Durability::Buffered).unwrap();
        mine.insert(k, v);
    }
    model.insert("empty".into(), Records::new());
    let one = (b"k".to_vec(), b"v".to_vec());
    model.insert("untouched".into(), [one].into());
    store.flush().unwrap();
    drop((big, late, store));
    (disk, model)
}

/// All of it, forwards, backwards, in random ranges and by key.
fn compare(store: &Store, model: &Model, r: &mut rng::Rng) {
    assert_eq!(
        store.tree_names(),
        model.keys().cloned().collect::<Vec<_>>()
    );
    for (name, records) in model {
        let tree = store.open_tree(name).unwrap();
        let same = |scan: gaur::Scan, want: &mut dyn Iterator<Item = (&Vec<u8>, &Vec<u8>)>| {
            for found in scan {
                let found = found.unwrap();
                assert_eq!(Some((&found.0, &found.1)), want.next(), "{name}");
            }
            assert_eq!(want.next(), None, "{name}");
        };
        same(tree.iter().unwrap(), &mut records.iter());
        same(tree.iter().unwrap().rev(), &mut records.iter().rev());
        for _ in 0..40 {
            let mut ends = [
                key(r, 5000),
                format!("{:08}", r.random_range(0..14_000)).into(),
            ];
            ends.sort();
            let [a, b] = ends;
            let bounds = match r.random_range(0..3) {
                0 => (Bound::Included(a), Bound::Excluded(b)),
                1 => (Bound::Excluded(a), Bound::Included(b)),
                _ => (Bound::Unbounded, Bound::Excluded(b)),
            };
            let scan = || tree.range(bounds.clone()).unwrap();
            same(scan(), &mut records.range(bounds.clone()));
            same(scan().rev(), &mut records.range(bounds.clone()).rev());
        }
        for _ in 0..500 {
            let k = match r.random_bool(0.5) {
                true => key(r, 5000),
                false => format!("{:08}", r.random_range(0..14_000)).into(),
            };
            assert_eq!(tree.get(&k).unwrap().as_ref(), records.get(&k));
            assert_eq!(tree.contains(&k).unwrap(), records.contains_key(&k));
        }
        let keys = tree.iter().unwrap().keys_only();
        assert!(keys.map(|k| k.unwrap().0).eq(records.keys().cloned()));
    }
}

#[test]
fn the_smallest_cache_sees_what_recovery_leaves_and_writes_nothing() {
    let seed = 71;
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    let (disk, model) = build(seed);
    let (hash, before) = (disk.image_hash(), disk.stats());
    let store = look(&disk).unwrap();
    compare(&store, &model, &mut r);
    let seen = store.recovery().clone();
    assert!(!seen.clean);
    assert_eq!((seen.replayed, seen.operations), (5001, 5001), "{seen:?}");
    // A view is at the last commit of the log; nothing can be committed.
    let tree = store.open_tree("big").unwrap();
    assert_eq!(tree.iter().unwrap().csn(), seen.last_csn);
    assert!(matches!(tree.put(b"k", b"v"), Err(Error::ReadOnly)));
    assert!(matches!(store.create_tree("x"), Err(Error::ReadOnly)));
    // Several at once, and closing writes nothing either.
    let second = look(&disk).unwrap();
    second.close().unwrap();
    drop(tree);
    store.close().unwrap();
    let foreseen = checked(&disk).recovery;
    let shown = superblock_device(disk.device(), &InspectOptions::default()).unwrap();
    assert!(shown.notes[1].contains("5001 commits"), "{:?}", shown.notes);
    let after = disk.stats();
    assert_eq!(disk.image_hash(), hash);
    let writes = |s: gaur_iodriver::sim::SimStats| (s.writes, s.flushes, s.discards);
    assert_eq!(writes(after), writes(before));

    // Recovery leaves just that.
    let store = open(&disk, 32 << 20);
    let report = store.recovery().clone();
    assert_eq!(
        (report.replayed, report.last_csn),
        (seen.replayed, seen.last_csn)
    );
    compare(&store, &model, &mut r);
    store.close().unwrap();
    assert_eq!(foreseen.fails, None);
    assert_eq!(foreseen.created, ["late"]);
    let sizes = foreseen.trees.iter().map(|t| (&t.name, t.records.unwrap()));
    assert!(sizes.eq(model.iter().map(|(n, m)| (n, m.len() as u64))));
    let shown = superblock_device(disk.device(), &InspectOptions::default()).unwrap();
    assert!(shown.notes.is_empty());
}

#[test]
fn too_little_memory_is_said_at_once_and_how_much_will_do() {
    let (disk, model) = build(72);
    let small = OpenOptions {
        replay_memory: 100_000,
        ..options(false)
    };
    let needed = match Store::open_device(disk.device(), &small) {
        Err(Error::ReplayMemory { needed, max }) => {
            assert_eq!(max, 100_000);
            needed
        }
        other => panic!("{other:?}"),
    };
    let enough = OpenOptions {
        replay_memory: needed,
        ..options(false)
    };
    let store = Store::open_device(disk.device(), &enough).unwrap();
    assert!(store.recovery().changes.1 <= needed);
    compare(&store, &model, &mut rng::seeded(1));
    // A check without the memory says that it did not verify that.
    let check = CheckOptions {
        replay_memory: 100_000,
        ..CheckOptions::default()
    };
    let report = check_device(disk.device(), &check).unwrap();
    assert!(report.clean && !report.recovery.verified);
    assert!(report.notes.iter().any(|n| n.contains("not verified")));
    let bad = OpenOptions {
        salvage: true,
        ..OpenOptions::default()
    };
    let e = Store::open_device(disk.device(), &bad).unwrap_err();
    assert!(matches!(
        e,
        Error::BadOption {
            name: "salvage",
            ..
        }
    ));
}

/// The leaf of a tree that holds these bytes of a key.
fn a_leaf(disk: &SimDisk, tree: &str, key: &[u8]) -> u64 {
    let report = check(disk);
    let sb = report.superblock;
    let g = gaur::format::Geometry {
        block_size: sb.block_size,
        capacity: sb.capacity,
        log_blocks: sb.log_blocks,
    };
    for block in 0..sb.capacity {
        if g.log_pieces()
            .iter()
            .any(|p| (p.start..p.end()).contains(&block))
        {
            continue;
        }
        let bytes = disk.peek(block * BLOCK, BLOCK as usize);
        if &bytes[..4] != b"GNOD" || bytes[4] != 0 {
            continue;
        }
        let o = InspectOptions {
            node: Some(block),
            tree: Some(tree.to_owned()),
            ..InspectOptions::default()
        };
        if bytes.windows(key.len()).any(|w| w == key) {
            let shown = tree_device(disk.device(), &o).unwrap();
            if !shown.sections[0].heading.starts_with("no tree") {
                return block;
            }
        }
    }
    panic!("no leaf has the key");
}

/// Reads all of a tree but what is damaged: all that is outside of the ranges left
/// out is there, and what is inside is what it was.
fn rest(store: &Store, name: &str, records: &Records) -> Vec<LeftOut> {
    let tree = store.open_tree(name).unwrap();
    let both = [false, true].map(|reverse| {
        let mut scan = tree.iter().unwrap().skip_damaged();
        if reverse {
            scan = scan.rev();
        }
        let got: Records = (&mut scan).map(|r| r.unwrap()).collect();
        let left = scan.left_out().to_vec();
        for (k, v) in &got {
            assert_eq!(records.get(k), Some(v));
        }
        for k in records.keys().filter(|k| !got.contains_key(*k)) {
            let inside = |l: &LeftOut| *k >= l.lower && l.upper.as_ref().is_none_or(|u| k < u);
            assert!(left.iter().any(inside), "{k:?} is missing");
        }
        (got, left)
    });
    assert_eq!(both[0].0, both[1].0);
    assert_eq!(both[0].1.len(), both[1].1.len());
    assert!(tree.iter().unwrap().any(|r| r.is_err()));
    both[0].1.clone()
}

#[test]
fn beside_a_damaged_leaf_all_is_read_and_what_the_log_says_of_it_too() {
    let (disk, mut model) = build(73);
    // What the checkpoint has of a key whose record the log left alone.
    let store = look(&disk).unwrap();
    let tree = store.open_tree("big").unwrap();
    let big = model.get_mut("big").unwrap();
    let quiet = (3000..9000)
        .map(|n| format!("{n:08}").into_bytes())
        .find(|k| big.get(k).is_some_and(|v| v.len() == 300))
        .unwrap();
    drop((tree, store));
    let leaf = a_leaf(&disk, "big", &quiet[4..]);
    disk.flip_bit(leaf * BLOCK + 2000, 3);
    let store = look(&disk).unwrap();
    let left = rest(&store, "big", big);
    assert_eq!(left.len(), 1);
    match &left[0].why {
        Error::Damaged(d) => assert_eq!(d.place, leaf),
        e => panic!("{e}"),
    }
    drop(store);
    // Recovery must change that leaf, and check says that it cannot.
    let report = check(&disk);
    let fails = report.recovery.fails.unwrap();
    assert!(fails.contains("\"big\""), "{fails}");
    let of = |name: &str| {
        let tree = report.recovery.trees.iter().find(|t| t.name == name);
        tree.unwrap().records
    };
    assert_eq!(of("big"), None);
    assert_eq!(of("late"), Some(model["late"].len() as u64));
    assert!(matches!(
        Store::open_device(disk.device(), &OpenOptions::default()),
        Err(Error::Damaged(_))
    ));
}

#[test]
fn a_damaged_log_or_tree_of_trees_leaves_the_rest_to_salvage() {
    let (disk, model) = build(74);
    let sound = checked(&disk);
    let sb = sound.superblock;
    let g = gaur::format::Geometry {
        block_size: sb.block_size,
        capacity: sb.capacity,
        log_blocks: sb.log_blocks,
    };
    // A log block in the middle, behind which others say that it was durable.
    let blocks: Vec<_> = LogWalk::new(disk.device(), g, sb.store_id)
        .unwrap()
        .map(Result::unwrap)
        .filter(|b| b.verifies && b.header.position >= sb.log_head && b.header.records > 0)
        .collect();
    let mid = &blocks[blocks.len() / 2];
    let bad = disk.snapshot();
    bad.flip_bit(mid.place * BLOCK + 200, 1);
    assert!(matches!(look(&bad), Err(Error::Damaged(_))));
    let store = Store::open_device(bad.device(), &options(true)).unwrap();
    let report = store.recovery().clone();
    assert_eq!(report.left_out.len(), 1);
    assert_eq!(report.left_out[0].place, mid.place);
    assert_eq!(report.last_csn, mid.header.first_csn - 1);
    assert_eq!(store.tree_names().len(), model.len());
    let tree = store.open_tree("big").unwrap();
    assert!(tree.iter().unwrap().all(|r| r.is_ok()));
    drop((tree, store));
    let checked = check(&bad);
    assert!(!checked.clean && checked.recovery.fails.is_some());

    // The tree of trees: what only the log makes is still there.
    let bad = disk.snapshot();
    bad.flip_bit(sb.catalog().addr * BLOCK + 100, 1);
    assert!(matches!(look(&bad), Err(Error::Damaged(_))));
    let store = Store::open_device(bad.device(), &options(true)).unwrap();
    assert_eq!(store.recovery().left_out.len(), 1);
    assert_eq!(store.tree_names(), ["late"]);
    let late = [("late".to_owned(), model["late"].clone())].into();
    compare(&store, &late, &mut rng::seeded(3));
}
