//! Values streamed in and out.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use gaur::format::ExtentPtr;
use gaur::log::{LogOp, Ops};
use gaur::{Durability, Error, Store, Tree, ValueReader};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk};
use gaur_iodriver::sync::rng::{Rng, seeded};
use rand::RngExt;

use crate::common::{check, checked};
use crate::{formatted, free, open, seed};

const BUFFERED: Durability = Durability::Buffered;
const UNIT: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

/// Bytes that differ everywhere and need no memory.
#[derive(Clone, Debug)]
struct Made {
    seed: u64,
    at: u64,
    /// It fails there.
    fails: Option<(u64, ErrorKind)>,
    /// The most that was asked for at once.
    most: usize,
}

impl Made {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            at: 0,
            fails: None,
            most: 0,
        }
    }

    fn byte(seed: u64, at: u64) -> u8 {
        ((at / 8).wrapping_mul(0x9E37_79B9).wrapping_add(seed) >> (at % 8 * 3)) as u8
    }

    fn whole(seed: u64, len: u64) -> Vec<u8> {
        (0..len).map(|at| Self::byte(seed, at)).collect()
    }
}

impl Read for Made {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.most = self.most.max(out.len());
        // In lengths that fit nothing.
        let mut n = out.len().min(70_001);
        if let Some((at, kind)) = self.fails {
            n = n.min((at - self.at) as usize);
            if n == 0 {
                return Err(kind.into());
            }
        }
        for (i, byte) in out[..n].iter_mut().enumerate() {
            *byte = Self::byte(self.seed, self.at + i as u64);
        }
        self.at += n as u64;
        Ok(n)
    }
}

fn put(tree: &Tree, key: &[u8], seed: u64, len: u64) {
    let mut source = Made::new(seed);
    tree.put_from(key, len, &mut source, BUFFERED).unwrap();
    assert_eq!(source.at, len, "no more is read than the value has");
    assert!(
        source.most <= MIB as usize,
        "{} bytes asked for",
        source.most
    );
}

/// Reads here and there, and then all of it.
fn reads_back(reader: &mut ValueReader, r: &mut Rng, seed: u64, len: u64) {
    assert_eq!(reader.len(), len);
    for _ in 0..6 {
        let from = r.random_range(0..len + 9);
        let mut some = vec![0; r.random_range(0..200_000)];
        reader.seek(SeekFrom::Start(from)).unwrap();
        let mut n = 0;
        while n < some.len() {
            match reader.read(&mut some[n..]).unwrap() {
                0 => break,
                more => n += more,
            }
        }
        assert_eq!(n as u64, len.saturating_sub(from).min(some.len() as u64));
        assert!((0..n).all(|i| some[i] == Made::byte(seed, from + i as u64)));
    }
    reader.rewind().unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all == Made::whole(seed, len), "{len} bytes differ");
}

#[test]
fn values_of_every_length_come_back_as_they_were_streamed() {
    let seed = seed();
    let mut r = seeded(seed);
    let disk = formatted(seed, 96);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut lens = vec![0, 1, 900, 1024, 1025, 4096, 4097];
    for near in [UNIT, MIB, MIB + UNIT, 3 * MIB] {
        lens.extend([near - 1, near, near + 1, near + r.random_range(2..UNIT)]);
    }
    lens.push(9 * MIB + 4087);
    for (n, len) in lens.iter().enumerate() {
        put(&tree, &n.to_be_bytes(), n as u64, *len);
    }
    for (n, len) in lens.iter().enumerate() {
        let mut reader = tree.reader(&n.to_be_bytes()).unwrap().unwrap();
        reads_back(&mut reader, &mut r, n as u64, *len);
    }
    // After a power cut the log names them, after a checkpoint the tree.
    store.flush().unwrap();
    drop((tree, store));
    let disk = disk.crash(seed);
    for replayed in [true, false] {
        checked(&disk);
        let store = open(&disk);
        assert_eq!(store.recovery().replayed > 0, replayed);
        let tree = store.open_tree("t").unwrap();
        for (n, len) in lens.iter().enumerate() {
            let key = n.to_be_bytes();
            let mut reader = tree.reader(&key).unwrap().unwrap();
            reads_back(&mut reader, &mut r, n as u64, *len);
            assert!(tree.get(&key).unwrap().unwrap() == Made::whole(n as u64, *len));
        }
        let scanned = tree.iter().unwrap().map(|e| e.unwrap().1.len() as u64);
        assert!(scanned.eq(lens.iter().copied()));
        store.close().unwrap();
    }
    checked(&disk);
}

/// A store whose free space is cut up: every second value of some was deleted.
fn cut_up(disk: &SimDisk, len: usize) -> Store {
    let store = open(disk);
    let tree = store.tree("filler").unwrap();
    let mut n = 0u32;
    while tree
        .put_with(&n.to_be_bytes(), &vec![1; len], BUFFERED)
        .is_ok()
    {
        n += 1;
    }
    for n in (0..n).step_by(2) {
        tree.delete_with(&n.to_be_bytes(), BUFFERED).unwrap();
    }
    free(&store);
    store
}

#[test]
fn a_value_in_many_pieces_comes_back() {
    let seed = seed();
    let mut r = seeded(seed);
    let disk = formatted(seed, 64);
    // Holes that take a table and holes that do not.
    for (name, hole) in [("long", 2_200_000), ("short", 300_000)] {
        let store = cut_up(&disk, hole);
        let tree = store.tree(name).unwrap();
        let len = (hole * 9 + 77_777) as u64;
        put(&tree, b"v", 5, len);
        let mut reader = tree.reader(b"v").unwrap().unwrap();
        reads_back(&mut reader, &mut r, 5, len);
        drop(reader);
        store.drop_all(&["filler"]);
        let pieces = checked(&disk.snapshot()).log.extents.len();
        assert!((2..=16).contains(&pieces), "{pieces} pieces");
        let mut reader = tree.reader(b"v").unwrap().unwrap();
        reads_back(&mut reader, &mut r, 5, len);
        drop(reader);
        tree.delete(b"v").unwrap();
        store.close().unwrap();
        checked(&disk);
    }
}

trait DropAll {
    fn drop_all(&self, trees: &[&str]);
}

impl DropAll for Store {
    /// Empties trees.
    fn drop_all(&self, trees: &[&str]) {
        for tree in trees.iter().map(|t| self.open_tree(t).unwrap()) {
            let keys: Vec<_> = tree.iter().unwrap().map(|e| e.unwrap().0).collect();
            for key in keys {
                tree.delete_with(&key, BUFFERED).unwrap();
            }
        }
    }
}

#[test]
fn a_source_that_fails_changes_nothing() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    tree.put(b"k", b"old").unwrap();
    let before = free(&store);
    for at in [0, 1, UNIT, MIB, 5 * MIB - 1] {
        for len in [5 * MIB, at.max(700)] {
            for kind in [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof] {
                if at >= len {
                    continue;
                }
                let source: Box<dyn Read> = match kind {
                    ErrorKind::UnexpectedEof => Box::new(Made::new(1).take(at)),
                    _ => Box::new(Made {
                        fails: Some((at, kind)),
                        ..Made::new(1)
                    }),
                };
                let e = tree.put_from(b"k", len, source, BUFFERED).unwrap_err();
                let as_it_was = (at, len, kind);
                assert!(
                    matches!(e, Error::Source { read, len, kind, .. } if (read, len, kind) == as_it_was),
                    "{e} at {at}"
                );
            }
        }
    }
    // One that says more than it gave.
    struct Liar;
    impl Read for Liar {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            Ok(out.len() + 1)
        }
    }
    let e = tree.put_from(b"k", 5000, Liar, BUFFERED).unwrap_err();
    assert!(
        matches!(
            e,
            Error::Source {
                kind: ErrorKind::InvalidData,
                ..
            }
        ),
        "{e}"
    );
    // One that panics.
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            std::panic::resume_unwind(Box::new("a source's"));
        }
    }
    let put = || tree.put_from(b"k", 5 * MIB, Panics, BUFFERED);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(put)).is_err());
    assert_eq!(tree.get(b"k").unwrap().unwrap(), b"old");
    assert_eq!(free(&store), before);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn lengths_that_cannot_be_and_a_full_store_are_refused() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let before = free(&store);
    let e = tree
        .put_from(b"k", u64::MAX, Made::new(1), BUFFERED)
        .unwrap_err();
    let Error::ValueTooLong { len: u64::MAX, max } = e else {
        panic!("{e}");
    };
    assert!(max > 3 << 29 && max < 2 << 30, "{max}");
    // Long enough, but for a larger store. Not a byte is read.
    for len in [max, max / 2, 64 * MIB] {
        let mut source = Made::new(1);
        let e = tree.put_from(b"k", len, &mut source, BUFFERED).unwrap_err();
        assert!(matches!(e, Error::Full { .. }) && source.at == 0, "{e}");
    }
    let long = [0; gaur::MAX_KEY + 1];
    let e = tree
        .put_from(&long, 5000, Made::new(1), BUFFERED)
        .unwrap_err();
    assert!(matches!(e, Error::KeyTooLong { .. }), "{e}");
    assert_eq!(free(&store), before);
    put(&tree, b"k", 3, 30 * MIB);
    store.close().unwrap();
    let e = tree
        .put_from(b"k", 5000, Made::new(1), BUFFERED)
        .unwrap_err();
    assert!(matches!(e, Error::Closed), "{e}");
    checked(&disk);
}

#[test]
fn a_store_that_is_closed_meanwhile_takes_nothing() {
    struct Closes<'a>(&'a Store, Made);
    impl Read for Closes<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.1.at > 2 * MIB {
                self.0.clone().close().unwrap();
            }
            self.1.read(out)
        }
    }
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let writes = || disk.stats().writes;
    let source = Closes(&store, Made::new(1));
    let e = tree.put_from(b"k", 9 * MIB, source, BUFFERED).unwrap_err();
    assert!(matches!(e, Error::Closed), "{e}");
    let after = writes();
    // The blocks are somebody else's now.
    let again = open(&disk);
    assert_eq!(again.open_tree("t").unwrap().get(b"k").unwrap(), None);
    assert!(after <= writes());
    again.close().unwrap();
    checked(&disk);
}

#[test]
fn a_reader_reads_on_while_its_value_is_replaced() {
    let seed = seed();
    let mut r = seeded(seed);
    let disk = formatted(seed, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let empty = free(&store);
    put(&tree, b"k", 1, 6 * MIB);
    let snapshot = store.snapshot().unwrap();
    let txn = store.transaction().unwrap();
    let mut readers = [
        tree.reader(b"k").unwrap().unwrap(),
        snapshot.reader(&tree, b"k").unwrap().unwrap(),
        txn.reader(&tree, b"k").unwrap().unwrap(),
    ];
    drop((snapshot, txn));
    let mut first = [0; 10];
    readers[0].read_exact(&mut first).unwrap();
    for round in 2..6 {
        put(&tree, b"k", round, 6 * MIB);
        store.checkpoint().unwrap();
    }
    for reader in &mut readers {
        reads_back(reader, &mut r, 1, 6 * MIB);
    }
    let mut newest = tree.reader(b"k").unwrap().unwrap();
    reads_back(&mut newest, &mut r, 5, 6 * MIB);
    assert!(tree.reader(b"none").unwrap().is_none());
    drop((readers, newest));
    tree.delete(b"k").unwrap();
    // Some blocks are on their way to nodes. The value had 1,500.
    assert!(free(&store).abs_diff(empty) < 64);
    // What a transaction has put itself.
    let mut txn = store.transaction().unwrap();
    txn.put(&tree, b"own", b"pending").unwrap();
    let mut own = String::new();
    let mut reader = txn.reader(&tree, b"own").unwrap().unwrap();
    reader.read_to_string(&mut own).unwrap();
    assert_eq!(own, "pending");
}

#[test]
fn what_a_transaction_read_in_parts_counts_as_read() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    put(&tree, b"k", 1, 2 * MIB);
    let mut txn = store.transaction().unwrap();
    drop(txn.reader(&tree, b"k").unwrap());
    txn.put(&tree, b"other", b"").unwrap();
    put(&tree, b"k", 2, 2 * MIB);
    let e = txn.commit(BUFFERED).unwrap_err();
    assert!(matches!(&e, Error::Conflict(on) if on.key == b"k"), "{e}");
}

/// The extents that the log names.
fn extents(disk: &SimDisk) -> Vec<ExtentPtr> {
    let report = check(disk);
    let sb = report.superblock;
    let geometry = gaur::format::Geometry {
        block_size: sb.block_size,
        capacity: sb.capacity,
        log_blocks: sb.log_blocks,
    };
    let head = report.log.head;
    let mut reader = gaur::log::LogReader::new(
        disk.device(),
        geometry,
        sb.store_id,
        head,
        sb.cut,
        sb.log_durable,
    )
    .unwrap();
    let mut all = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        for op in Ops::new(record.ops) {
            if let LogOp::PutExtent { extents, .. } = op.unwrap() {
                all.extend(extents.iter());
            }
        }
    }
    all
}

#[test]
fn damage_is_found_where_it_is_and_the_rest_is_read() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let len = 5 * MIB + 3;
    put(&tree, b"k", 1, len);
    store.flush().unwrap();
    let [piece] = extents(&disk.snapshot())[..] else {
        panic!("in one piece");
    };
    assert!(piece.has_table());
    let byte = |at: u64| piece.addr * 4096 + at;
    let mut got = vec![0; 1000];
    let mut read = |tree: &Tree, at: u64| -> Result<(), Error> {
        let mut reader = tree.reader(b"k")?.unwrap();
        reader.seek(SeekFrom::Start(at)).unwrap();
        match reader.read_exact(&mut got) {
            Ok(()) => {
                assert!((0..1000).all(|i| got[i] == Made::byte(1, at + i as u64)));
                Ok(())
            }
            Err(e) => Err(ValueReader::error(&e).unwrap().clone()),
        }
    };
    let damaged = |e: &Error| matches!(e, Error::Damaged(d) if d.place == piece.addr);
    for at in [0, UNIT - 1, UNIT, 40 * UNIT + 7, len - 1] {
        disk.flip_bit(byte(at), 3);
        for unit in 0..len / UNIT {
            let hit = read(&tree, unit * UNIT + 100);
            assert_eq!(hit.is_err(), unit == at / UNIT, "{at} {unit}");
            assert!(hit.err().is_none_or(|e| damaged(&e)));
        }
        assert!(damaged(&tree.get(b"k").unwrap_err()));
        // Read on to where it is, in large steps.
        let mut reader = tree.reader(b"k").unwrap().unwrap();
        let mut all = Vec::new();
        let e = reader.read_to_end(&mut all).unwrap_err();
        assert!(damaged(ValueReader::error(&e).unwrap()));
        assert!(all.len() as u64 <= at / UNIT * UNIT);
        assert!((0..all.len()).all(|i| all[i] == Made::byte(1, i as u64)));
        assert_eq!(check(&disk.snapshot()).problems.len(), 1, "byte {at}");
        disk.flip_bit(byte(at), 3);
    }
    for at in [piece.table_at(), piece.stored_bytes() - 1] {
        disk.flip_bit(byte(at), 3);
        assert!(damaged(&read(&tree, 0).unwrap_err()));
        assert!(damaged(&tree.get(b"k").unwrap_err()));
        assert_eq!(check(&disk.snapshot()).problems.len(), 1);
        disk.flip_bit(byte(at), 3);
    }
    read(&tree, 0).unwrap();
    checked(&disk.snapshot());
}

#[test]
fn a_reader_that_was_given_up_says_so() {
    let disk = formatted(1, 64);
    let options = gaur::OpenOptions {
        version_memory: 64 << 10,
        ..gaur::OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    put(&tree, b"k", 1, 3 * MIB);
    let mut reader = tree.reader(b"k").unwrap().unwrap();
    for n in 0..4000u32 {
        tree.put_with(&n.to_be_bytes(), &[1; 100], BUFFERED)
            .unwrap();
        tree.put_with(&n.to_be_bytes(), &[2; 100], BUFFERED)
            .unwrap();
    }
    let e = reader.read(&mut [0; 10]).unwrap_err();
    let e = ValueReader::error(&e).unwrap();
    assert!(matches!(e, Error::ViewTooOld { .. }), "{e}");
    store.close().unwrap();
    let e = reader.read(&mut [0; 10]).unwrap_err();
    assert!(matches!(ValueReader::error(&e), Some(Error::Closed)), "{e}");
}

/// The device fails at the n-th write or flush, for every n: the old value is there or the new
/// one, whole.
#[test]
fn the_nth_call_fails_while_a_value_is_streamed() {
    let base = formatted(1, 48);
    {
        let store = open(&base);
        let tree = store.tree("t").unwrap();
        put(&tree, b"k", 1, 2 * MIB + 1);
        store.close().unwrap();
    }
    let stream = |disk: &SimDisk| -> Result<u64, Error> {
        let store = open(disk);
        let tree = store.open_tree("t")?;
        disk.mark(1);
        let put = tree.put_from(b"k", 3 * MIB + 5, Made::new(2), Durability::Sync);
        drop((tree, store));
        put
    };
    let clean = base.snapshot();
    drop(open(&clean));
    let opening = clean.stats();
    let clean = base.snapshot();
    stream(&clean).unwrap();
    let all = clean.stats();
    for op in [OpKind::Write, OpKind::Flush] {
        let (from, to) = (opening.next(op), all.next(op));
        assert!(to > from, "{op:?}: {from} to {to}");
        for at in from..to {
            let disk = base.snapshot();
            let fails = FaultKind::Fail(IoErrorKind::Failed);
            disk.inject(Fault::for_good(op, at, fails));
            let put = stream(&disk);
            disk.clear_faults();
            for disk in [disk.crash(at), disk.snapshot()] {
                checked(&disk);
                let store = open(&disk);
                let tree = store.open_tree("t").unwrap();
                let value = tree.get(b"k").unwrap().unwrap();
                let old = value == Made::whole(1, 2 * MIB + 1);
                let new = value == Made::whole(2, 3 * MIB + 5);
                assert!(old || new, "{op:?} {at}: {} bytes", value.len());
                match &put {
                    Ok(_) => assert!(new, "{op:?} {at}"),
                    Err(Error::OutcomeUnknown { .. }) => {}
                    Err(e) => assert!(old, "{op:?} {at}: {e}"),
                }
                store.close().unwrap();
                checked(&disk);
            }
        }
    }
}

/// Streamed values come and go beside a map of their seeds and lengths, with reopening and
/// power cuts.
#[test]
fn streamed_values_are_a_map() {
    let seed = seed();
    let mut r = seeded(seed);
    let mut disk = formatted(seed, 96);
    let mut model: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    for round in 0..6 {
        let store = open(&disk);
        let tree = store.tree("t").unwrap();
        for _ in 0..15 {
            let key = r.random_range(0..6u8);
            match r.random_range(0..10) {
                0..5 => {
                    let len = r.random_range(0..4) * MIB + r.random_range(0..9) * 4096;
                    let len = (len + r.random_range(0..20)).saturating_sub(10);
                    put(&tree, &[key], r.random_range(0..99), len);
                    let source = r.random_range(0..99);
                    put(&tree, &[key], source, len);
                    model.insert(key, (source, len));
                }
                5 => {
                    tree.delete_with(&[key], BUFFERED).unwrap();
                    model.remove(&key);
                }
                6 => store.checkpoint().unwrap(),
                _ => match (tree.reader(&[key]).unwrap(), model.get(&key)) {
                    (Some(mut reader), Some((source, len))) => {
                        reads_back(&mut reader, &mut r, *source, *len);
                    }
                    (reader, wanted) => assert!(reader.is_none() && wanted.is_none()),
                },
            }
        }
        store.flush().unwrap();
        drop(tree);
        if round % 2 == 0 {
            store.close().unwrap();
        } else {
            drop(store);
            disk = disk.crash(seed + round);
        }
        checked(&disk);
    }
}
