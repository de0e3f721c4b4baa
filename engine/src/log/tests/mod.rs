//! Tests of the whole log, on a simulated disk that crashes and fails.

mod crash;
mod damage;
mod hold;
mod limits;
mod seal;
mod threads;

use std::time::Duration;

use gaur_iodriver::{SimDisk, SimOptions};

use super::ring::Ring;
use super::{Log, LogConfig, LogHead, LogReader, LogTail, OpsBuilder, Record, record_check};
use crate::error::Result;
use crate::format::{Csn, Geometry, Run};

const STORE: u128 = 0xC0FFEE;
const BLOCK: u32 = 512;

/// A ring of pieces with gaps between them, and the bytes of a disk that holds it.
fn ring(lens: &[u32]) -> (Ring, u64) {
    let mut start = 3;
    let mut pieces = Vec::new();
    for &len in lens {
        pieces.push(Run { start, len });
        start += u64::from(len) + 2;
    }
    let geometry = Geometry::new(BLOCK, start * u64::from(BLOCK), 0);
    let bytes = start * u64::from(BLOCK);
    (Ring::from_pieces(geometry, &pieces), bytes)
}

fn disk(bytes: u64, seed: u64) -> SimDisk {
    SimDisk::new(SimOptions {
        capacity: bytes,
        logical_block: BLOCK,
        physical_block: BLOCK,
        seed,
        ..SimOptions::default()
    })
}

fn config(ring: &Ring, incarnation: u32) -> LogConfig {
    let geometry = Geometry::new(BLOCK, 1 << 30, ring.len());
    let mut c = LogConfig::new(geometry, STORE, incarnation);
    c.max_record = LogConfig::largest_in(ring);
    c.buffered_interval = Duration::from_millis(4);
    c
}

/// A log on an empty disk of one piece of `blocks`, one write in flight at a time.
fn simple(blocks: u32) -> (Log, SimDisk, Ring) {
    let (ring, bytes) = ring(&[blocks]);
    let disk = disk(bytes, 1);
    let mut c = config(&ring, 1);
    c.in_flight = 1;
    let log = open(&ring, &disk, c, LogHead::default(), LogTail::default());
    (log, disk, ring)
}

fn open(ring: &Ring, disk: &SimDisk, c: LogConfig, head: LogHead, tail: LogTail) -> Log {
    Log::start_on(ring.clone(), disk.device(), c, head, tail, Box::new(|| {})).unwrap()
}

fn ops_of(value: &[u8]) -> OpsBuilder {
    let mut ops = OpsBuilder::new();
    ops.put(1, b"k", value).unwrap();
    ops
}

fn record(ops: &OpsBuilder, sync: bool) -> Record<'_> {
    Record {
        ops: ops.as_bytes(),
        count: ops.count(),
        check: record_check(ops.as_bytes()),
        names_extents: ops.names_extents(),
        sync,
    }
}

fn reader(ring: &Ring, disk: &SimDisk, head: LogHead, cut: Csn, durable: u64) -> LogReader {
    LogReader::new_on(ring.clone(), disk.device(), STORE, head, cut, durable)
}

/// Commits and their operations.
type Commits = Vec<(Csn, Vec<u8>)>;

/// All records, and the tail.
fn read_all(reader: &mut LogReader) -> Result<(Commits, LogTail)> {
    let mut all = Vec::new();
    while let Some(r) = reader.next_record()? {
        all.push((r.csn, r.ops.to_vec()));
    }
    Ok((all, reader.tail().expect("the log has ended")))
}
