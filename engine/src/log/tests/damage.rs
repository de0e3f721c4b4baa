//! The end of the log and damage are told apart, and no bytes make a reader panic.

use gaur_iodriver::sync::rng::seeded;
use rand::RngExt;

use super::*;
use crate::error::Error;
use crate::format::log::{FLAG_SKIP, LogHeader, MAGIC, RecordHeader};
use crate::log::{block, pending::Part};

/// Ten commits, each durable before the next, in blocks of their own.
fn ten() -> (SimDisk, Ring, LogTail) {
    let (log, disk, ring) = simple(64);
    for i in 0..10 {
        let csn = log.try_append(&record(&ops_of(&[i; 700]), true)).unwrap();
        log.wait_durable(csn).unwrap();
    }
    let tail = log.shutdown().unwrap();
    assert_eq!((tail.position, tail.last_csn), (20, 10));
    (disk, ring, tail)
}

fn damaged_at<T: std::fmt::Debug>(result: Result<T>) -> u64 {
    match result {
        Err(Error::Damaged(d)) => d.place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hole_before_what_was_durable_is_damage() {
    let (disk, ring, _) = ten();
    for i in 0..9 {
        let copy = disk.snapshot();
        copy.flip_bit(ring.byte(2 * i) + 600, 6);
        let mut r = reader(&ring, &copy, LogHead::default(), 0, 0);
        assert_eq!(damaged_at(read_all(&mut r)), ring.place(2 * i));
        assert!(r.tail().is_none());
        // The commits before it were readable.
        assert_eq!(r.position(), 2 * i);
        assert_eq!(damaged_at(read_all(&mut r)), ring.place(2 * i));
    }
}

#[test]
fn a_torn_last_block_is_the_end_unless_the_superblock_knows_better() {
    let (disk, ring, tail) = ten();
    disk.flip_bit(ring.byte(18) + 5, 6);
    let (all, end) = read_all(&mut reader(&ring, &disk, LogHead::default(), 0, 18)).unwrap();
    assert_eq!(all.len(), 9);
    assert_eq!((end.position, end.last_csn), (18, 9));
    let r = read_all(&mut reader(
        &ring,
        &disk,
        LogHead::default(),
        0,
        tail.position,
    ));
    assert_eq!(damaged_at(r), ring.place(18));
}

#[test]
fn a_clean_end_needs_no_search() {
    let (disk, ring, tail) = ten();
    let clean = |durable| reader(&ring, &disk, LogHead::default(), 0, durable).closed_cleanly();
    let before = disk.stats().read_bytes;
    assert_eq!(read_all(&mut clean(tail.position)).unwrap().1, tail);
    let clean_bytes = disk.stats().read_bytes - before;
    assert_eq!(read_all(&mut clean(0)).unwrap().1, tail);
    assert!(disk.stats().read_bytes - before >= 2 * clean_bytes);
    // A clean superblock and a shorter log: damage.
    disk.flip_bit(ring.byte(18) + 5, 1);
    let r = read_all(&mut clean(tail.position));
    assert_eq!(damaged_at(r), ring.place(18));
}

#[test]
fn a_wrong_head_or_a_foreign_store_is_no_log() {
    let (disk, ring, _) = ten();
    let off = LogHead {
        position: 0,
        chain: 1,
    };
    // The blocks behind say that this one was durable.
    assert!(read_all(&mut reader(&ring, &disk, off, 0, 0)).is_err());
    assert!(read_all(&mut reader(&ring, &disk, LogHead::default(), 5, 0)).is_err());
    let mut r = LogReader::new_on(ring, disk.device(), STORE + 1, LogHead::default(), 0, 0);
    assert_eq!(read_all(&mut r).unwrap().1, LogTail::default());
}

#[test]
fn an_abandoned_future_is_neither_read_nor_damage() {
    let (disk, ring, tail) = ten();
    // Two blocks were in flight; the first was lost.
    let future = LogHeader {
        position: tail.position + 2,
        previous: 1234,
        durable_through: tail.position,
        first_csn: tail.last_csn + 2,
        ..LogHeader::default()
    };
    forge(&disk, &ring, future, &[]);
    let found = read_all(&mut reader(
        &ring,
        &disk,
        LogHead::default(),
        0,
        tail.position,
    ));
    assert_eq!(found.unwrap().1, tail);
    // The next incarnation ends right before it.
    let log = open(&ring, &disk, config(&ring, 2), LogHead::default(), tail);
    let csn = log.try_append(&record(&ops_of(&[99; 700]), true)).unwrap();
    assert_eq!(csn, tail.last_csn + 1);
    let next = log.shutdown().unwrap();
    assert_eq!(next.position, future.position);
    let mut r = reader(&ring, &disk, LogHead::default(), 0, next.position);
    let (all, end) = read_all(&mut r).unwrap();
    assert_eq!((all.len(), end, r.incarnation()), (11, next, 2));
    // But what says that more was durable speaks, whoever wrote it.
    let witness = LogHeader {
        position: next.position + 2,
        durable_through: next.position + 1,
        ..future
    };
    forge(&disk, &ring, witness, &[]);
    let r = read_all(&mut reader(&ring, &disk, LogHead::default(), 0, 0));
    assert_eq!(damaged_at(r), ring.place(next.position));
}

/// Writes a sealed log block with this payload.
fn forge(disk: &SimDisk, ring: &Ring, header: LogHeader, payload: &[u8]) {
    let blocks = ring.blocks(LogHeader::SIZE + payload.len());
    let mut bytes = vec![0; blocks as usize * ring.block_size()];
    bytes[LogHeader::SIZE..LogHeader::SIZE + payload.len()].copy_from_slice(payload);
    let header = LogHeader {
        store_id: STORE,
        incarnation: 1,
        blocks: if header.blocks == 0 {
            blocks as u32
        } else {
            header.blocks
        },
        payload: payload.len() as u32,
        ..header
    };
    block::seal(header, ring.place(header.position), &mut bytes);
    disk.poke(ring.byte(header.position), &bytes);
}

#[test]
fn a_sealed_block_that_says_nonsense_is_damage() {
    let (ring, bytes) = ring(&[64]);
    let ops = ops_of(b"v");
    let good = RecordHeader {
        csn: 1,
        bytes: ops.as_bytes().len() as u32,
        ops: 1,
        check: record_check(ops.as_bytes()),
    };
    let header = LogHeader {
        first_csn: 1,
        records: 1,
        ..LogHeader::default()
    };
    let try_it = |record: RecordHeader, header: LogHeader| {
        let disk = super::disk(bytes, 1);
        let mut payload = vec![0; RecordHeader::SIZE];
        record.encode(&mut payload);
        payload.extend_from_slice(ops.as_bytes());
        forge(&disk, &ring, header, &payload);
        read_all(&mut reader(&ring, &disk, LogHead::default(), 0, 0))
    };
    assert_eq!(try_it(good, header).unwrap().0.len(), 1);
    for bad in [
        RecordHeader { csn: 2, ..good },
        RecordHeader {
            bytes: u32::MAX,
            ..good
        },
        RecordHeader { bytes: 3, ..good },
        RecordHeader { ops: 2, ..good },
        RecordHeader { check: 0, ..good },
    ] {
        assert_eq!(damaged_at(try_it(bad, header)), ring.place(0));
    }
    for bad in [
        LogHeader {
            records: 2,
            ..header
        },
        LogHeader {
            first_csn: 7,
            ..header
        },
        LogHeader { flags: 4, ..header },
    ] {
        assert_eq!(damaged_at(try_it(good, bad)), ring.place(0));
    }
    // Lengths that cannot be are not believed: the end.
    for bad in [
        LogHeader {
            blocks: u32::MAX,
            ..header
        },
        LogHeader {
            blocks: 2,
            ..header
        },
        LogHeader {
            flags: FLAG_SKIP,
            ..header
        },
        LogHeader {
            previous: 1,
            ..header
        },
    ] {
        assert_eq!(try_it(good, bad).unwrap().0.len(), 0);
    }
}

#[test]
fn any_damage_is_found_or_behind_the_end() {
    let (disk, ring, tail) = ten();
    let whole = read_all(&mut reader(&ring, &disk, LogHead::default(), 0, 0)).unwrap();
    let mut rng = seeded(3);
    for _ in 0..2000 {
        let copy = disk.snapshot();
        let flips = rng.random_range(1..4);
        for _ in 0..flips {
            let position = rng.random_range(0..64);
            copy.flip_bit(
                ring.byte(position) + rng.random_range(0..u64::from(BLOCK)),
                6,
            );
        }
        let durable = if rng.random() { tail.position } else { 0 };
        match read_all(&mut reader(&ring, &copy, LogHead::default(), 0, durable)) {
            Ok((records, _)) => {
                // Nothing speaks for the last ones if all of them are torn.
                assert!(records.len() + flips >= 10);
                assert_eq!(records[..], whole.0[..records.len()]);
            }
            Err(Error::Damaged(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn random_headers_are_read_without_a_panic() {
    let (ring, bytes) = ring(&[30, 20]);
    let mut rng = seeded(4);
    for _ in 0..3000 {
        let disk = super::disk(bytes, 1);
        let small = |rng: &mut gaur_iodriver::sync::rng::Rng| -> u64 {
            if rng.random() {
                rng.random_range(0..4)
            } else {
                rng.random()
            }
        };
        let payload: Vec<u8> = (0..rng.random_range(0..200))
            .map(|_| small(&mut rng) as u8)
            .collect();
        let header = LogHeader {
            position: rng.random_range(0..50),
            previous: small(&mut rng),
            durable_through: small(&mut rng),
            first_csn: small(&mut rng),
            blocks: small(&mut rng) as u32,
            records: small(&mut rng) as u32,
            flags: small(&mut rng) as u32,
            ..LogHeader::default()
        };
        forge(&disk, &ring, header, &payload);
        let head = LogHead {
            position: rng.random_range(0..3),
            chain: small(&mut rng),
        };
        drop(read_all(&mut reader(
            &ring,
            &disk,
            head,
            small(&mut rng) / 2,
            0,
        )));
        let walk = super::super::LogWalk::new_on(ring.clone(), disk.device(), STORE);
        assert!(walk.count() <= 1);
    }
}

#[test]
fn a_walk_shows_every_block() {
    let (disk, ring, _) = ten();
    disk.flip_bit(ring.byte(8) + 600, 6);
    let walk = super::super::LogWalk::new_on(ring, disk.device(), STORE);
    let facts: Vec<_> = walk.map(Result::unwrap).collect();
    assert_eq!(facts.len(), 10);
    for (i, f) in facts.iter().enumerate() {
        assert_eq!(f.header.position, 2 * i as u64);
        assert_eq!(f.header.first_csn, 1 + i as u64);
        assert_eq!(f.verifies, i != 4);
        assert_eq!(f.follows, i != 0 && i != 5);
    }
}

#[test]
fn a_part_without_records_ends_before_its_first() {
    let part = Part {
        position: 0,
        blocks: 1,
        skip: true,
        payload: Vec::new(),
        records: 0,
        first_csn: 1,
        names_extents: false,
        since: gaur_iodriver::sync::time::now(),
    };
    assert_eq!(part.last_csn(), 0);
}

#[test]
fn a_header_is_plausible_in_every_field_or_not_at_all() {
    let (ring, _) = ring(&[20, 30]);
    let holds = |h: LogHeader| block::plausible(&ring, STORE, 22, &h);
    let good = LogHeader {
        magic: MAGIC,
        store_id: STORE,
        position: 22,
        blocks: 2,
        payload: 600,
        records: 1,
        ..LogHeader::default()
    };
    let skip = LogHeader {
        flags: FLAG_SKIP,
        blocks: 28,
        payload: 0,
        records: 0,
        ..good
    };
    assert!(holds(good) && holds(skip));
    for header in [good, skip] {
        let other = [
            LogHeader { magic: 0, ..header },
            LogHeader {
                store_id: 1,
                ..header
            },
            LogHeader {
                position: 23,
                ..header
            },
            LogHeader {
                blocks: 0,
                ..header
            },
            LogHeader {
                blocks: 3,
                ..header
            },
            LogHeader {
                payload: 1200,
                ..header
            },
        ];
        for h in other {
            assert!(!holds(h), "{h:?}");
        }
    }
    assert!(!holds(LogHeader { records: 1, ..skip }));
    // To the end of the piece and no further.
    let longest = LogHeader {
        blocks: 28,
        payload: 28 * 512 - LogHeader::SIZE as u32,
        ..good
    };
    assert!(holds(longest));
    assert!(!holds(LogHeader {
        blocks: 29,
        payload: longest.payload + 512,
        ..good
    }));
}
