//! What a power cut left behind the log's end never comes back.

use gaur_iodriver::sim::{FaultKind, OpKind};

use super::*;
use crate::format::log::LogHeader;

/// Blocks of a log block with a value of zeros; the last is zero from end to end.
const BLOCKS: u64 = 5;

fn zeros() -> OpsBuilder {
    ops_of(&[0; (BLOCKS as usize - 1) * BLOCK as usize])
}

/// A disk on which the power failed: commit 1 is durable, one sector of the log block
/// of commit 2 is missing, that of commit 3 is whole.
fn broken_off() -> (SimDisk, Ring) {
    let (ring, bytes) = ring(&[64]);
    let disk = disk(bytes, 1);
    let log = open(
        &ring,
        &disk,
        config(&ring, 1),
        LogHead::default(),
        LogTail::default(),
    );
    let first = ops_of(b"durable");
    log.try_append(&record(&first, true)).unwrap();
    log.wait_durable(1).unwrap();
    // In flight together: neither knows whether the other is durable.
    disk.inject_next(OpKind::Write, FaultKind::Stall);
    let second = zeros();
    log.try_append(&record(&second, true)).unwrap();
    log.request_sync(2);
    while disk.stats().writes < 2 {
        std::thread::yield_now();
    }
    let third = ops_of(b"behind");
    log.try_append(&record(&third, true)).unwrap();
    log.request_sync(3);
    while disk.stats().writes < 3 {
        std::thread::yield_now();
    }
    disk.release_stalls();
    log.shutdown().unwrap();
    let disk = disk.snapshot();
    // What was there before.
    disk.poke(ring.byte(BLOCKS), &[7; BLOCK as usize]);
    (disk, ring)
}

/// The commits there are after the next log's first write, of [`zeros`] too, was torn
/// so that only its last sector is there.
fn after_another_torn_write(seal: bool) -> Vec<Csn> {
    let (disk, ring) = broken_off();
    let (head, mut at_end) = (
        LogHead::default(),
        reader(&ring, &disk, LogHead::default(), 0, 0),
    );
    let (found, tail) = read_all(&mut at_end).unwrap();
    assert_eq!((found.len(), tail.position), (1, 1));
    let mut c = config(&ring, 2);
    c.seal = seal;
    let log = open(&ring, &disk, c, head, tail);
    let next = log.usage().used;
    let disk = disk.crash(3);
    drop(log);
    disk.poke(ring.byte(next + BLOCKS - 1), &[0; BLOCK as usize]);
    let (found, _) = read_all(&mut reader(&ring, &disk, head, 0, 0)).unwrap();
    found.iter().map(|f| f.0).collect()
}

#[test]
fn a_torn_write_does_not_complete_what_an_older_power_cut_tore() {
    assert_eq!(after_another_torn_write(true), [1]);
    // Without the seal it does.
    assert_eq!(after_another_torn_write(false), [1, 2, 3]);
}

#[test]
fn a_full_log_needs_no_seal() {
    let (ring, bytes) = ring(&[8]);
    for position in [0, 3] {
        let disk = disk(bytes, 1);
        let head = LogHead {
            position,
            ..LogHead::default()
        };
        let tail = LogTail {
            position: position + 8,
            ..LogTail::default()
        };
        let mut c = config(&ring, 2);
        c.seal = true;
        let log = open(&ring, &disk, c, head, tail);
        assert_eq!((log.usage().used, disk.stats().writes), (8, 0));
    }
}

#[test]
fn the_seal_says_that_all_before_it_is_durable() {
    let (ring, bytes) = ring(&[8]);
    let disk = disk(bytes, 1);
    let tail = LogTail {
        position: 5,
        ..LogTail::default()
    };
    let mut c = config(&ring, 2);
    c.seal = true;
    drop(open(&ring, &disk, c, LogHead::default(), tail));
    let header = LogHeader::decode(&disk.peek(ring.byte(5), BLOCK as usize));
    assert_eq!((header.position, header.durable_through), (5, 5));
}
