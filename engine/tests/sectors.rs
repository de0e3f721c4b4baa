//! Every sector that a small live store reaches, spoilt in every way there is: told,
//! by `check` and by whoever reads it; nothing panics; and every record whose own
//! blocks are sound stays readable.
//!
//! ```text
//! cargo test -p gaur --test sectors                       # one way for each sector
//! GAUR_SECTORS=all cargo test --release -p gaur --test sectors -- --nocapture
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `GAUR_SECTORS` | `all`: every way for each sector; otherwise one, drawn |
//! | `GAUR_SECTORS_SEED` | what is drawn (default 1); also the store's content |
//!
//! What a store does not reach may hold anything, and is spoilt too, to show that it
//! does not matter: free blocks; the slots of map and index that nothing names, which
//! hold the map before; what lies behind the end of a large value in its last block;
//! the log behind its tail. One case is told apart: a log block behind which nothing
//! was written that says it was durable. To a reader it looks like one that was in
//! flight when the power went, so it ends the log. The records before it are there,
//! and `check` says which commit is the last.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gaur::{Csn, Durability, Error, FormatOptions, OpenOptions, Store, WriteBatch, check_device};
use gaur_iodriver::sim::{SimDisk, SimOptions};
use gaur_iodriver::sync::rng::{self, Rng};
use rand::{Rng as _, RngExt};

use common::forger::BLOCK;
use common::reach::Reach;

const SECTOR: usize = 512;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
type Model = BTreeMap<String, Records>;

/// How a sector is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spoil {
    Bit,
    Zeros,
    /// What it held at an earlier time.
    Old,
    /// The sector at the same place of another block of the store.
    Other,
    Random,
}

const WAYS: [Spoil; 5] = [
    Spoil::Bit,
    Spoil::Zeros,
    Spoil::Old,
    Spoil::Other,
    Spoil::Random,
];

/// What a sector is of.
#[derive(Clone, Debug)]
enum Part {
    Superblock,
    Map(&'static str),
    Catalog,
    Node(String),
    /// A large value of a tree, and its first block.
    Value(String, u64),
    /// A log block that is known to have been durable: its first block, and the last
    /// commit before it.
    Log(u64, Csn),
    /// One of which nothing says so.
    LogEnd(Csn),
    /// Nothing reaches it.
    Unused,
}

/// A store that lives: several trees of one to three levels, large values, two
/// checkpoints, and a log behind them. Gives the disk, an older image of it, and what
/// the store holds after each commit from the checkpoint on.
fn build(seed: u64) -> (SimDisk, SimDisk, BTreeMap<Csn, Model>) {
    let mut r = rng::seeded(seed);
    let disk = SimDisk::new(SimOptions {
        capacity: 16 << 20,
        logical_block: SECTOR as u32,
        seed,
        ..SimOptions::default()
    });
    let format = FormatOptions::default();
    Store::format_device(disk.device(), &format).unwrap();
    let options = OpenOptions {
        cache_bytes: 2 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let mut model = Model::new();
    let put = |store: &Store, model: &mut Model, name: &str, n: u32, r: &mut Rng, how| {
        let long = if name == "deep" { 400 } else { 10 };
        let key = [vec![b'k'; long], n.to_be_bytes().to_vec()].concat();
        let len = match r.random_range(0..30) {
            0 => r.random_range(5000..14_000),
            _ => r.random_range(0..150),
        };
        let mut value = vec![0; len];
        r.fill_bytes(&mut value);
        let tree = store.tree(name).unwrap();
        let csn = tree.put_with(&key, &value, how).unwrap();
        model.entry(name.to_owned()).or_default().insert(key, value);
        csn
    };
    for (name, count) in [("deep", 130), ("wide", 100), ("small", 4)] {
        for n in 0..count {
            put(&store, &mut model, name, n, &mut r, Durability::Buffered);
        }
    }
    store.tree("empty").unwrap();
    model.insert("empty".into(), Records::new());
    store.checkpoint().unwrap();
    let older = disk.snapshot();
    // Changed all over, so that the older image is of the same structures.
    for (name, count) in [("deep", 130), ("wide", 100), ("small", 4)] {
        for n in (0..count).step_by(3) {
            put(&store, &mut model, name, n, &mut r, Durability::Buffered);
        }
    }
    store.close().unwrap();
    let store = Store::open_device(disk.device(), &options).unwrap();
    let mut history = BTreeMap::new();
    history.insert(store.recovery().last_csn, model.clone());
    for n in 0..24 {
        let csn = match n % 8 {
            3 => {
                let tree = store.tree("wide").unwrap();
                let key = model["wide"].keys().nth(n * 3).unwrap().clone();
                model.get_mut("wide").unwrap().remove(&key);
                tree.delete(&key).unwrap()
            }
            5 => {
                let (deep, small) = (store.tree("deep").unwrap(), store.tree("small").unwrap());
                let mut batch = WriteBatch::new();
                for (tree, name) in [(&deep, "deep"), (&small, "small")] {
                    let (key, value) = (vec![b'b', n as u8], vec![n as u8; 700]);
                    batch.put(tree, &key, &value);
                    model.get_mut(name).unwrap().insert(key, value);
                }
                store.commit(batch, Durability::Sync).unwrap()
            }
            7 => {
                let (tree, key) = (store.tree("small").unwrap(), vec![b'l', n as u8]);
                let value = vec![n as u8; 9000];
                let csn = tree.put(&key, &value).unwrap();
                model.get_mut("small").unwrap().insert(key, value);
                csn
            }
            _ => {
                // A tree that only the log has.
                let late = n > 12 && n % 2 == 0;
                if late && !model.contains_key("late") {
                    history.insert(store.flush().unwrap() + 1, {
                        model.insert("late".into(), Records::new());
                        model.clone()
                    });
                }
                let name = if late { "late" } else { "deep" };
                put(
                    &store,
                    &mut model,
                    name,
                    200 + n as u32,
                    &mut r,
                    Durability::Sync,
                )
            }
        };
        history.insert(csn, model.clone());
    }
    drop(store);
    (disk, older, history)
}

/// The sectors of a block.
fn sectors(block: u64) -> std::ops::Range<u64> {
    let per = BLOCK / SECTOR as u64;
    block * per..(block + 1) * per
}

/// Every sector of the store, by what it is of; and of those that nothing reaches,
/// those that once held something, and some.
fn parts(disk: &SimDisk, reach: &Reach, r: &mut Rng) -> BTreeMap<u64, Part> {
    let mut parts = BTreeMap::new();
    let mut add = |block: u64, part: Part| {
        sectors(block).for_each(|s| drop(parts.insert(s, part.clone())));
    };
    let g = common::forger::Forger::new(reach.sb).g;
    (0..2).for_each(|copy| add(g.superblock(copy), Part::Superblock));
    reach
        .map
        .iter()
        .for_each(|(what, at)| add(*at, Part::Map(what)));
    reach.old_map.iter().for_each(|at| add(*at, Part::Unused));
    for node in &reach.nodes {
        add(
            node.block,
            node.tree.clone().map_or(Part::Catalog, Part::Node),
        );
    }
    for (i, (place, header)) in reach.log.iter().enumerate() {
        let before = reach.csn_before(i);
        let part = match reach.declared(i) {
            true => Part::Log(*place, before),
            false => Part::LogEnd(before),
        };
        (0..u64::from(header.blocks)).for_each(|n| add(place + n, part.clone()));
    }
    for piece in &reach.pieces {
        let first = piece.ptr.addr * BLOCK / SECTOR as u64;
        let run = piece.ptr.run(BLOCK as u32);
        let end = first + piece.ptr.bytes.div_ceil(SECTOR as u64);
        for s in first..run.end() * BLOCK / SECTOR as u64 {
            let part = match s < end {
                true => Part::Value(piece.tree.clone(), piece.ptr.addr),
                false => Part::Unused,
            };
            parts.insert(s, part);
        }
    }
    let all = reach.sb.capacity * BLOCK / SECTOR as u64;
    let mut unused = 0;
    while unused < 150 {
        let s = r.random_range(0..all);
        let used = disk.peek(s * SECTOR as u64, SECTOR).iter().any(|b| *b != 0);
        if !parts.contains_key(&s) && (used || unused % 3 == 0) {
            parts.insert(s, Part::Unused);
            unused += 1;
        }
    }
    parts
}

/// The sector spoilt; `None` if it would be what it is. `used` bytes of it count.
fn spoilt(
    way: Spoil,
    sector: u64,
    used: usize,
    (disk, older): (&SimDisk, &SimDisk),
    others: &[u64],
    r: &mut Rng,
) -> Option<Vec<u8>> {
    let at = sector * SECTOR as u64;
    let now = disk.peek(at, SECTOR);
    let bytes = match way {
        Spoil::Bit => {
            let mut bytes = now.clone();
            bytes[r.random_range(0..used)] ^= 1 << r.random_range(0..8);
            bytes
        }
        Spoil::Zeros => vec![0; SECTOR],
        Spoil::Old => older.peek(at, SECTOR),
        Spoil::Other => {
            let per = BLOCK / SECTOR as u64;
            let same = others
                .iter()
                .filter(|s| **s % per == sector % per && **s != sector);
            let same: Vec<_> = same.collect();
            disk.peek(same[r.random_range(0..same.len())] * SECTOR as u64, SECTOR)
        }
        Spoil::Random => {
            let mut bytes = vec![0; SECTOR];
            r.fill_bytes(&mut bytes);
            bytes
        }
    };
    (bytes[..used] != now[..used]).then_some(bytes)
}

fn open(disk: &SimDisk, read_only: bool, salvage: bool) -> gaur::Result<Store> {
    let options = OpenOptions {
        read_only,
        salvage,
        cache_bytes: 2 << 20,
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options)
}

/// Panics in any thread.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// The store as it was built.
struct World {
    disk: SimDisk,
    older: SimDisk,
    history: BTreeMap<Csn, Model>,
    reach: Reach,
}

impl World {
    /// Reads each record of what the store holds after `csn`, by key and in a scan:
    /// it is what it was, or needs the spoilt block and says so. Returns how many are
    /// not readable.
    fn read(&self, store: &Store, csn: Csn, spoilt: Option<u64>) -> usize {
        let model = &self.history[&csn];
        let mut lost = 0;
        for (name, records) in model {
            let needs = &self.reach.needs[name];
            let Ok(tree) = store.open_tree(name) else {
                // Its name was in the tree of trees, and that is damaged.
                assert!(
                    needs
                        .values()
                        .all(|n| spoilt.is_some_and(|b| n.contains(&b))),
                    "{name}"
                );
                lost += records.len();
                continue;
            };
            let mut scan = tree.iter().unwrap().skip_damaged();
            let mut seen: Records = (&mut scan).map(|r| r.unwrap()).collect();
            assert!(scan.left_out().len() <= 1);
            for (key, value) in records {
                let damaged = spoilt.is_some_and(|b| {
                    // Before all of the log, a record may have had other blocks.
                    needs.get(key).is_none_or(|n| n.contains(&b))
                });
                match tree.get(key) {
                    Ok(got) => {
                        assert_eq!(got.as_ref(), Some(value));
                        assert_eq!(seen.remove(key).as_ref(), Some(value));
                        assert!(tree.contains(key).unwrap());
                    }
                    Err(Error::Damaged(d)) => {
                        assert!(damaged, "{name}: {d}");
                        assert_eq!(seen.remove(key), None);
                        lost += 1;
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            assert!(
                seen.is_empty(),
                "{name} has {} records too many",
                seen.len()
            );
        }
        lost
    }

    /// One sector spoilt, looked at from all sides. Whether `check` told; and how many
    /// records cannot be read.
    fn look(&self, bad: &SimDisk, sector: u64, part: &Part, write: bool) -> (bool, usize) {
        let block = sector * SECTOR as u64 / BLOCK;
        let last = *self.history.keys().next_back().unwrap();
        let report = check_device(bad.device(), &Default::default()).unwrap();
        let problem = |what: &str, place: u64| {
            let here = report.problems.iter().filter(|p| p.place == place);
            let here: Vec<_> = here.map(|p| (p.what, p.tree.clone())).collect();
            assert_eq!(here.len(), 1, "{:?}", report.problems);
            assert_eq!(here[0].0, what);
            // Below a damaged node nobody can tell what there is.
            assert!(
                what == "node" || report.problem_count() == 1,
                "{:?}",
                report.problems
            );
            here[0].1.clone().map(|tree| tree.1)
        };
        let clean_open = |csn: Csn, spoilt: Option<u64>| {
            let store = open(bad, true, false).unwrap();
            assert_eq!(store.recovery().last_csn, csn);
            self.read(&store, csn, spoilt)
        };
        let salvage = |csn: Csn, spoilt: Option<u64>| {
            let e = open(bad, true, false).unwrap_err();
            assert!(matches!(&e, Error::Damaged(d) if d.place <= block), "{e}");
            let store = open(bad, true, true).unwrap();
            assert_eq!(store.recovery().left_out.len(), 1);
            self.read(&store, csn, spoilt)
        };
        let lost = match part {
            Part::Superblock => {
                // An older copy that verifies is what a power cut may leave.
                match report.superblocks.iter().find(|s| s.place == block) {
                    Some(s) if s.decoded.is_some() => assert!(s.behind.is_some()),
                    _ => drop(problem("superblock", block)),
                }
                clean_open(last, None)
            }
            Part::Map(what) => {
                problem(what, block);
                clean_open(last, None)
            }
            Part::Catalog => {
                problem("node", block);
                salvage(last, Some(block))
            }
            Part::Node(tree) => {
                assert_eq!(problem("node", block).as_ref(), Some(tree));
                clean_open(last, Some(block))
            }
            Part::Value(tree, place) => {
                assert_eq!(problem("large value", *place).as_ref(), Some(tree));
                clean_open(last, Some(block))
            }
            Part::Log(place, before) => {
                problem("log block", *place);
                // Values behind it are not reached any more.
                salvage(*before, None)
            }
            Part::LogEnd(before) => {
                assert!(report.clean, "{:?}", report.problems);
                assert_eq!(report.log.last_csn, *before);
                clean_open(*before, None)
            }
            Part::Unused => {
                assert!(report.clean, "{:?}", report.problems);
                clean_open(last, None)
            }
        };
        if write {
            self.work(bad, part);
        }
        let noted = report.superblocks.iter().any(|s| s.behind.is_some());
        (!report.clean || noted, lost)
    }

    /// Opens a spoilt store for writing, and writes. What is sound stays so.
    fn work(&self, bad: &SimDisk, part: &Part) {
        let Ok(store) = open(bad, false, false) else {
            // Recovery needs the log, the tree of trees, and leaves that the log changes.
            assert!(
                matches!(part, Part::Log(..) | Part::Catalog | Part::Node(_)),
                "{part:?}"
            );
            return;
        };
        for name in ["deep", "small", "new"] {
            let tree = store.tree(name).unwrap();
            for i in 0..6u8 {
                let value = vec![i; if i == 3 { 9000 } else { 300 }];
                match tree.put_with(&[b'a' + i * 4], &value, Durability::Buffered) {
                    Ok(_) => assert_eq!(tree.get(&[b'a' + i * 4]).unwrap(), Some(value)),
                    Err(Error::Damaged(_)) => assert!(matches!(part, Part::Node(_)), "{part:?}"),
                    Err(e) => panic!("{e}"),
                }
            }
        }
        // What a checkpoint meets of a damaged map is rebuilt before the next one.
        (0..3).for_each(|_| store.checkpoint().unwrap());
        store.close().unwrap();
        let report = check_device(bad.device(), &Default::default()).unwrap();
        let told = !matches!(part, Part::Node(_) | Part::Value(..));
        assert!(!told || report.clean, "{part:?}: {:?}", report.problems);
    }
}

#[test]
fn every_sector() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
    let all = std::env::var("GAUR_SECTORS").is_ok_and(|v| v == "all");
    let seed = std::env::var("GAUR_SECTORS_SEED").map_or(1, |v| v.parse().expect("a number"));
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    let (disk, older, history) = build(seed);
    let reach = Reach::of(&disk);
    let levels: BTreeSet<u8> = reach.nodes.iter().map(|n| n.level).collect();
    assert!(levels.len() >= 3 && reach.pieces.iter().any(|p| p.in_log));
    let world = World {
        disk,
        older,
        history,
        reach,
    };
    let last = *world.history.keys().next_back().unwrap();
    let whole = open(&world.disk, true, false).unwrap();
    assert_eq!(
        (world.read(&whole, last, None), whole.recovery().last_csn),
        (0, last)
    );
    drop(whole);
    let parts = parts(&world.disk, &world.reach, &mut r);
    let others: Vec<u64> = parts.keys().copied().collect();
    // By kind of part: sectors, images, told, records that could not be read.
    let mut counts: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut same = 0;
    for (i, (&sector, part)) in parts.iter().enumerate() {
        let kind = match part {
            Part::Superblock => "superblock",
            Part::Map(what) => what,
            Part::Catalog => "tree of trees",
            Part::Node(_) => "node",
            Part::Value(..) => "large value",
            Part::Log(..) => "log block",
            Part::LogEnd(_) => "log, its end",
            Part::Unused => "not reached",
        };
        let used = world.used(sector, part);
        let count = counts.entry(kind).or_default();
        count[0] += 1;
        let drawn = (seed as usize + i) % WAYS.len();
        let ways = if all {
            0..WAYS.len()
        } else {
            drawn..drawn + WAYS.len()
        };
        for way in ways.map(|w| WAYS[w % WAYS.len()]) {
            let disks = (&world.disk, &world.older);
            let Some(bytes) = spoilt(way, sector, used, disks, &others, &mut r) else {
                same += 1;
                continue;
            };
            let bad = world.disk.snapshot();
            bad.poke(sector * SECTOR as u64, &bytes);
            let before = PANICS.load(Ordering::SeqCst);
            let write = all || i % 7 == 0;
            let (told, lost) = world.look(&bad, sector, part, write);
            assert_eq!(
                PANICS.load(Ordering::SeqCst),
                before,
                "{way:?} of {sector}, {part:?}"
            );
            let count = counts.get_mut(kind).unwrap();
            count[1] += 1;
            count[2] += usize::from(told);
            count[3] += lost;
            if !all {
                break;
            }
        }
    }
    println!("{:16} sectors  images  told  records not readable", "");
    for (kind, [sectors, images, told, lost]) in &counts {
        println!("{kind:16} {sectors:7} {images:7} {told:5} {lost:8}");
        let mute = ["log, its end", "not reached"].contains(kind);
        assert_eq!(*told, if mute { 0 } else { *images }, "{kind}");
    }
    println!("{same} times the sector would have been what it was");
}

impl World {
    /// The bytes of a sector that count: of the last one of a large value, those of
    /// the value.
    fn used(&self, sector: u64, part: &Part) -> usize {
        let Part::Value(_, place) = part else {
            return SECTOR;
        };
        let piece = self
            .reach
            .pieces
            .iter()
            .find(|p| p.ptr.addr == *place)
            .unwrap();
        let from = (sector * SECTOR as u64 - place * BLOCK) as usize;
        SECTOR.min(piece.ptr.bytes as usize - from)
    }
}
