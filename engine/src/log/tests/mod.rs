//! Tests of the whole log, on a device in memory that can crash and fail.

mod crash;
mod damage;
mod device;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::Device;

use super::ring::Ring;
use super::{Log, LogConfig, LogHead, LogReader, LogTail, OpsBuilder, Record, record_check};
use crate::error::Result;
use crate::format::{Csn, Geometry, Run};
use device::MemDevice;

const STORE: u128 = 0xC0FFEE;
const BLOCK: u32 = 512;

/// A ring of pieces with gaps between them, and the bytes of a device that holds it.
fn ring(lens: &[u32]) -> (Ring, usize) {
    let mut start = 3;
    let mut pieces = Vec::new();
    for &len in lens {
        pieces.push(Run { start, len });
        start += u64::from(len) + 2;
    }
    let geometry = Geometry::new(BLOCK, start * u64::from(BLOCK), 0);
    let bytes = start as usize * BLOCK as usize;
    (Ring::from_pieces(geometry, &pieces), bytes)
}

fn config(ring: &Ring, incarnation: u32) -> LogConfig {
    let geometry = Geometry::new(BLOCK, 1 << 30, ring.len());
    let mut c = LogConfig::new(geometry, STORE, incarnation);
    c.max_record = LogConfig::largest_in(ring);
    c.buffered_interval = Duration::from_millis(4);
    c
}

/// A log on an empty device of one piece of `blocks`, one write in flight at a time.
fn simple(blocks: u32) -> (Log, MemDevice, Ring) {
    let (ring, bytes) = ring(&[blocks]);
    let device = MemDevice::new(bytes, 1);
    let mut c = config(&ring, 1);
    c.in_flight = 1;
    let log = open(&ring, &device, c, LogHead::default(), LogTail::default());
    (log, device, ring)
}

fn open(ring: &Ring, device: &MemDevice, c: LogConfig, head: LogHead, tail: LogTail) -> Log {
    let device = Arc::new(device.clone());
    Log::start_on(ring.clone(), device, c, head, tail, Box::new(|| {})).unwrap()
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

fn reader(ring: &Ring, device: &MemDevice, head: LogHead, cut: Csn, durable: u64) -> LogReader {
    let device: Arc<dyn Device> = Arc::new(device.clone());
    LogReader::new_on(ring.clone(), device, STORE, head, cut, durable)
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
