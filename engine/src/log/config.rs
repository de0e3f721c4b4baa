//! What a log is started with, and the limits that must hold between its sizes.

use std::time::Duration;

use super::ring::Ring;
use crate::error::{Error, Result};
use crate::format::log::{LogHeader, RecordHeader};
use crate::format::{Csn, Geometry};

/// How the log is written.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Where the log lies.
    pub geometry: Geometry,
    /// The store's identity.
    pub store_id: u128,
    /// The incarnation that writes; higher than that of any log block on the device.
    pub incarnation: u32,
    /// Buffered commits are durable at most this late. Writing them begins after
    /// half of it; the other half is for the device.
    pub buffered_interval: Duration,
    /// Log blocks that may be in flight at once, 1 to 64.
    pub in_flight: usize,
    /// Whether an empty log block is made durable at the tail before anything else:
    /// needed unless the log was closed cleanly. See [`super::Log::start`].
    pub seal: bool,
    /// The most bytes of operations in one record. With its headers it may take an
    /// eighth of the log, and with the skips it may cause half of it; see
    /// [`LogConfig::largest_record`].
    pub max_record: usize,
    /// Bytes at which a log block is closed and written without being asked for.
    /// A single larger record makes a larger log block.
    pub batch: usize,
}

impl LogConfig {
    /// The defaults: 50 ms, 4 log blocks in flight of 1 MiB each, records of up to
    /// 8 MiB or as much as the log allows.
    pub fn new(geometry: Geometry, store_id: u128, incarnation: u32) -> Self {
        Self {
            geometry,
            store_id,
            incarnation,
            buffered_interval: Duration::from_millis(50),
            in_flight: 4,
            seal: false,
            max_record: Self::largest_record(&geometry).min(8 << 20),
            batch: 1 << 20,
        }
    }

    /// The most bytes of operations that a record may have in a log of this
    /// geometry; 0 if the log is too short for any. At most 1 GiB.
    pub fn largest_record(geometry: &Geometry) -> usize {
        Ring::new(*geometry).map_or(0, |ring| Self::largest_in(&ring))
    }

    /// [`LogConfig::largest_record`] of a ring.
    pub(super) fn largest_in(ring: &Ring) -> usize {
        let mut blocks = ring.len() / 8;
        while blocks > 0 && !fits(ring, blocks) {
            blocks /= 2;
        }
        (blocks as usize * ring.block_size())
            .saturating_sub(OVERHEAD)
            .min(LARGEST)
    }

    /// Checks the limits.
    pub(super) fn check(&self, ring: &Ring) -> Result<()> {
        let bad = |name, detail: String| Err(Error::BadOption { name, detail });
        if !(1..=64).contains(&self.in_flight) {
            return bad("in_flight", format!("{}; 1 to 64", self.in_flight));
        }
        if self.max_record == 0
            || self.max_record > LARGEST
            || !fits(ring, ring.blocks(OVERHEAD + self.max_record))
        {
            let max = Self::largest_in(ring);
            return bad(
                "max_record",
                format!(
                    "{} bytes; a log of {} blocks allows 1 to {max}",
                    self.max_record,
                    ring.len()
                ),
            );
        }
        if self.buffered_interval.is_zero() {
            return bad("buffered_interval", "0; it must be longer".into());
        }
        Ok(())
    }

    /// The batch size as far as the log allows it: at most an eighth.
    pub(super) fn batch_in(&self, ring: &Ring) -> usize {
        let eighth = (ring.len() / 8) as usize * ring.block_size();
        self.batch.min(eighth).max(ring.block_size())
    }
}

/// Bytes that a lone record takes beside its operations.
const OVERHEAD: usize = LogHeader::SIZE + RecordHeader::SIZE;
/// The largest `max_record`, in bytes.
const LARGEST: usize = 1 << 30;

/// Whether log blocks of this length are safe in the ring: an eighth of it, so
/// that a checkpoint has time, and no more than half with all skips, so that one
/// always fits when the log is not more than half full. (When it is, the log asks
/// for a checkpoint. So a writer that waits for space never waits for nothing.)
fn fits(ring: &Ring, blocks: u64) -> bool {
    blocks * 8 <= ring.len()
        && ring
            .worst_span(blocks)
            .is_some_and(|span| span * 2 <= ring.len())
}

/// Where replay starts; in the superblock as `log_head` and `log_chain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// Position of the first log block to replay.
    pub position: u64,
    /// Checksum of the log block before it; 0 at format.
    pub chain: u64,
}

/// Where a log continues: behind what recovery read, or all 0 at format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTail {
    /// Position of the next log block.
    pub position: u64,
    /// Checksum of the last log block.
    pub chain: u64,
    /// The last commit in the log, or in the checkpoint if that is newer.
    pub last_csn: Csn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_record_is_allowed_and_the_next_block_is_not() {
        for log_blocks in [8, 100, 4000, 32_000, 70_000] {
            let g = Geometry::new(4096, 1 << 30, log_blocks);
            let ring = Ring::new(g).unwrap();
            let mut c = LogConfig::new(g, 1, 1);
            c.max_record = LogConfig::largest_record(&g);
            assert!(c.max_record > 3000);
            c.check(&ring).unwrap();
            c.max_record += 2 * c.max_record;
            assert!(c.check(&ring).is_err());
        }
        assert_eq!(
            LogConfig::largest_record(&Geometry::new(4096, 1 << 30, 7)),
            0
        );
        assert_eq!(
            LogConfig::largest_record(&Geometry::new(4096, 1 << 30, 1 << 40)),
            0
        );
    }

    fn pieces(lens: &[u32]) -> Ring {
        let mut start = 10;
        let runs: Vec<_> = lens
            .iter()
            .map(|&len| {
                start += u64::from(len) + 1;
                crate::format::Run {
                    start: start - u64::from(len),
                    len,
                }
            })
            .collect();
        Ring::from_pieces(Geometry::new(512, 1 << 20, 1), &runs)
    }

    #[test]
    fn a_log_block_takes_an_eighth_and_with_its_skips_half() {
        let ring = pieces(&[64]);
        assert!(fits(&ring, 8) && !fits(&ring, 9));
        // It may have to skip the short pieces, which are too many here.
        let half = pieces(&[&[8][..], &[1; 30], &[26]].concat());
        assert_eq!((half.len(), half.worst_span(8)), (64, Some(45)));
        assert!(!fits(&half, 8));
        let whole = pieces(&[&[8][..], &[1; 20], &[44]].concat());
        assert_eq!((whole.len(), whole.worst_span(8)), (72, Some(35)));
        assert!(fits(&whole, 8));
        // No piece holds more than one block.
        let short = pieces(&[1; 32]);
        let headers = LogHeader::SIZE + RecordHeader::SIZE;
        assert_eq!(LogConfig::largest_in(&short), 512 - headers);
        assert_eq!(LogConfig::largest_in(&ring), 8 * 512 - headers);
    }

    #[test]
    fn no_record_is_larger_than_a_gibibyte() {
        let ring = pieces(&[1 << 27]);
        assert_eq!(LogConfig::largest_in(&ring), LARGEST);
        let mut c = LogConfig::new(Geometry::new(512, 1 << 20, 1), 1, 1);
        c.max_record = LARGEST;
        c.check(&ring).unwrap();
        c.max_record += 1;
        assert!(c.check(&ring).is_err());
    }

    #[test]
    fn a_batch_is_a_block_to_an_eighth_of_the_log() {
        let ring = pieces(&[87]);
        let batch_in = |batch| {
            let mut c = LogConfig::new(Geometry::new(512, 1 << 20, 1), 1, 1);
            c.batch = batch;
            c.batch_in(&ring)
        };
        assert_eq!(batch_in(1 << 20), 10 * 512);
        assert_eq!((batch_in(1000), batch_in(100)), (1000, 512));
    }
}
