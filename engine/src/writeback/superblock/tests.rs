//! What is taken for a superblock, and which of the two, to the byte.

use std::sync::atomic::{AtomicU32, Ordering};

use gaur_iodriver::sim::{Fault, FaultKind, OpKind};
use gaur_iodriver::{IoErrorKind, SimDisk, SimOptions};

use super::*;

const SECOND: u64 = 1 << 20;
/// The least that holds both.
const LEAST: u64 = SECOND + 4096;

fn disk(capacity: u64) -> SimDisk {
    SimDisk::new(SimOptions {
        capacity,
        logical_block: 512,
        ..SimOptions::default()
    })
}

fn good(block_size: u32) -> Superblock {
    Superblock {
        version: FORMAT_VERSION,
        block_size,
        capacity: 1000,
        log_blocks: 100,
        generation: 7,
        ..Superblock::default()
    }
}

/// Puts a copy where it belongs, in a block of `len` bytes.
fn put(disk: &SimDisk, sb: &Superblock, copy: u32, len: usize) {
    let offset = u64::from(copy) * SECOND;
    let mut block = vec![0; len];
    sb.seal(copy, offset / len as u64, &mut block);
    disk.poke(offset, &block);
}

/// A disk with both.
fn pair(capacity: u64, block_size: u32) -> SimDisk {
    let disk = disk(capacity);
    put(&disk, &good(block_size), 0, block_size as usize);
    put(&disk, &good(block_size), 1, block_size as usize);
    disk
}

fn read(disk: &SimDisk, writing: bool) -> Result<Pair> {
    read_pair(disk.device().as_ref(), "disk", writing)
}

fn copies(behind: &[(u32, String)]) -> Vec<u32> {
    behind.iter().map(|b| b.0).collect()
}

#[test]
fn a_sound_pair_has_nothing_behind_and_an_older_copy_is() {
    for block_size in [4096, 8192, 16384] {
        let disk = pair(SECOND + u64::from(block_size), block_size);
        let found = read(&disk, true).unwrap();
        assert_eq!((found.newest.generation, found.behind), (7, vec![]));

        let older = Superblock {
            generation: 6,
            ..good(block_size)
        };
        for copy in 0..2 {
            let disk = disk.snapshot();
            put(&disk, &older, copy, block_size as usize);
            let found = read(&disk, true).unwrap();
            assert_eq!(found.newest.generation, 7);
            assert_eq!(copies(&found.behind), [copy]);
            assert!(found.behind[0].1.contains("older"), "{:?}", found.behind);
        }
    }
}

#[test]
fn either_copy_alone_is_the_store_and_the_other_is_told() {
    for bad in 0..2 {
        let disk = pair(LEAST, 4096);
        disk.flip_bit(u64::from(bad) * SECOND + 100, 0);
        let found = read(&disk, true).unwrap();
        assert_eq!(found.newest.copy, 1 - bad);
        assert_eq!(copies(&found.behind), [bad]);
        let facts = facts(disk.device().as_ref(), &found);
        assert_eq!(facts.len(), 2);
        for f in facts {
            assert_eq!(f.place, u64::from(f.copy) * SECOND / 4096);
            assert_eq!(f.decoded.is_none(), f.copy == bad);
            assert_eq!(f.behind.is_some(), f.copy == bad);
        }
    }
}

#[test]
fn what_is_left_says_whether_it_was_a_store() {
    // Nothing of ours; all that is read lies within the smallest device.
    assert!(matches!(
        read(&disk(LEAST), false),
        Err(Error::NotAStore { .. })
    ));
    assert!(matches!(
        read(&disk(4096), false),
        Err(Error::NotAStore { .. })
    ));
    // One copy of which something is left is enough, whichever it is.
    for left in 0..2u64 {
        let disk = pair(LEAST, 4096);
        disk.corrupt((1 - left) * SECOND, 4096);
        disk.flip_bit(left * SECOND + 100, 0);
        assert!(matches!(read(&disk, false), Err(Error::Damaged(_))));
    }
    let both = pair(LEAST, 4096);
    both.flip_bit(100, 0);
    both.flip_bit(SECOND + 100, 0);
    assert!(matches!(read(&both, false), Err(Error::Damaged(_))));
}

#[test]
fn what_could_not_be_read_is_not_taken_for_damage() {
    let eio = FaultKind::Fail(IoErrorKind::Failed);
    // All reads of the first copy fail, for each size of block, and the second is bad.
    let disk = pair(SECOND + 16384, 4096);
    disk.flip_bit(SECOND + 100, 0);
    disk.inject(Fault {
        op: OpKind::Read,
        at: 0,
        times: 3,
        what: eio,
    });
    assert!(matches!(read(&disk, false), Err(Error::Damaged(_))));
    // Neither can be read: nobody knows.
    disk.inject(Fault::for_good(OpKind::Read, 0, eio));
    assert!(matches!(read(&disk, false), Err(Error::Io(_))));
    // Only the first look fails; what the others find is no verdict on the copy.
    let disk = pair(SECOND + 16384, 4096);
    disk.corrupt(SECOND, 4096);
    disk.inject_next(OpKind::Read, eio);
    assert!(matches!(read(&disk, false), Err(Error::Io(_))));
}

#[test]
fn a_superblock_of_another_block_size_is_none() {
    // It verifies as a block of 4096 bytes and says that blocks are larger.
    let disk = disk(SECOND + 16384);
    put(&disk, &good(8192), 0, 4096);
    assert!(matches!(
        read(&disk, false),
        Err(Error::Damaged(_) | Error::NotAStore { .. })
    ));
}

#[test]
fn the_copy_that_is_asked_for_is_written_first_and_flushed_before_the_other() {
    for first in 0..2 {
        let disk = pair(LEAST, 4096);
        let geometry = Geometry {
            block_size: 4096,
            capacity: 1000,
            log_blocks: 100,
        };
        let newer = Superblock {
            generation: 8,
            ..good(4096)
        };
        let flushes = AtomicU32::new(0);
        let device = disk.device();
        let flush = || {
            // With each flush one copy more is the new one.
            let n = flushes.fetch_add(1, Ordering::Relaxed);
            let found = read(&disk, false)?;
            let behind = if n == 0 { vec![1 - first] } else { vec![] };
            assert_eq!(copies(&found.behind), behind);
            Ok(device.flush()?)
        };
        write_pair(device.as_ref(), &geometry, &newer, first, &flush).unwrap();
        assert_eq!(flushes.into_inner(), 2);
        assert_eq!(read(&disk, true).unwrap().newest.generation, 8);
    }
}

/// A pair of which copy `bad` is broken, on a device on which something else says that
/// it is there: NetWare at byte 4096, Promise RAID so many bytes before the end.
fn overlaid(bad: u32, capacity: u64, promise: Option<u64>) -> Result<Pair> {
    let disk = pair(capacity, 4096);
    disk.corrupt(u64::from(bad) * SECOND, 4096);
    match promise {
        Some(back) => disk.poke(capacity - back, b"Promise Technology, Inc."),
        None => disk.poke(4096, b"SPB5"),
    }
    let device = disk.device();
    assert_eq!(gaur_iodriver::signatures(device.as_ref()).unwrap().len(), 1);
    // Who only reads does no harm.
    read(&disk, false).unwrap();
    read(&disk, true)
}

#[test]
fn only_what_lies_over_the_broken_copy_is_somebody_elses() {
    let foreign = |r: Result<Pair>| match r {
        Ok(_) => false,
        Err(Error::Foreign { .. }) => true,
        Err(e) => panic!("{e}"),
    };
    // Right behind the first copy; far before the second.
    assert!(!foreign(overlaid(0, LEAST, None)));
    assert!(!foreign(overlaid(1, LEAST, None)));
    // At the first byte of the second copy, in it, and right behind it.
    let back = 63 * 512;
    assert!(foreign(overlaid(1, SECOND + back, Some(back))));
    assert!(foreign(overlaid(1, SECOND + 2048 + back, Some(back))));
    assert!(!foreign(overlaid(1, SECOND + 4096 + back, Some(back))));
    // Over a copy that is whole there is nobody.
    assert!(!foreign(overlaid(0, SECOND + 4096 + back, Some(back))));
    // Both copies are whole.
    let disk = pair(LEAST, 4096);
    disk.poke(4096, b"SPB5");
    assert!(!foreign(read(&disk, true)));
}

#[test]
fn what_a_newer_gaur_made_is_refused_by_what_it_may_hurt() {
    let refused = |set: &dyn Fn(&mut Superblock)| {
        let mut sb = good(4096);
        set(&mut sb);
        let disk = disk(LEAST);
        put(&disk, &sb, 0, 4096);
        put(&disk, &sb, 1, 4096);
        [false, true].map(|writing| match read(&disk, writing) {
            Ok(_) => false,
            Err(Error::UnknownFormat(_)) => true,
            Err(e) => panic!("{e}"),
        })
    };
    assert_eq!(refused(&|_| ()), [false, false]);
    assert_eq!(refused(&|sb| sb.version += 1), [true, true]);
    assert_eq!(refused(&|sb| sb.incompat = 1 << 40), [true, true]);
    assert_eq!(refused(&|sb| sb.ro_compat = 1 << 40), [false, true]);
    assert_eq!(refused(&|sb| sb.compat = 1 << 40), [false, false]);
}
